"""What is sent: the bodies of one workload in a file that each load generator reads.

Values vary: they are the model's training rows, each value a few per cent off.  So does the order of JSON's keys.
A file is, for each body, a line "JSON_SIZE SIZE" and then its SIZE bytes; JSON_SIZE is 0 where no tensors follow.
"""

import random
import struct
from pathlib import Path
from typing import Any, NamedTuple


class Workload(NamedTuple):
    """`connections` is how many requests are under way at once; gRPC's are calls on one connection."""

    title: str
    form: str  # json | binary | grpc
    rows: int
    connections: int


class Body(NamedTuple):
    json_size: int
    content: bytes


def write(path: Path, workload: Workload, rows: Any) -> None:
    """Bodies made of `rows`, [n, features]; the same each time."""
    chance = random.Random(7)
    make = {"json": _json, "binary": _binary, "grpc": _message}[workload.form]
    with path.open("wb") as file:
        for number in range(512 if workload.rows == 1 else 8):
            values = [chance.choice(rows).tolist() for _ in range(workload.rows)]
            values = [[value * chance.uniform(0.95, 1.05) for value in row] for row in values]
            body = make(chance, number, values)
            file.write(b"%d %d\n" % (body.json_size, len(body.content)) + body.content)


def read(path: Path) -> list[Body]:
    found = []
    with path.open("rb") as file:
        while line := file.readline():
            json_size, size = map(int, line.split())
            found.append(Body(json_size, file.read(size)))
    return found


def _shuffled(chance: random.Random, parts: list[str]) -> str:
    return "{" + ",".join(chance.sample(parts, len(parts))) + "}"


def _head(rows: list[list[float]]) -> list[str]:
    return ['"name":"input"', f'"shape":[{len(rows)},{len(rows[0])}]', '"datatype":"FP32"']


def _json(chance: random.Random, number: int, rows: list[list[float]]) -> Body:
    data = ",".join(f"{value:.5g}" for row in rows for value in row)
    tensor = _shuffled(chance, [*_head(rows), f'"data":[{data}]'])
    return Body(0, _shuffled(chance, [f'"id":"{number}"', f'"inputs":[{tensor}]']).encode())


def _binary(chance: random.Random, number: int, rows: list[list[float]]) -> Body:
    data = _floats(rows)
    tensor = _shuffled(chance, [*_head(rows), f'"parameters":{{"binary_data_size":{len(data)}}}'])
    parts = [f'"id":"{number}"', f'"inputs":[{tensor}]', '"parameters":{"binary_data_output":true}']
    text = _shuffled(chance, parts).encode()
    return Body(len(text), text + data)


def _floats(rows: list[list[float]]) -> bytes:
    values = [value for row in rows for value in row]
    return struct.pack(f"<{len(values)}f", *values)


def _message(chance: random.Random, number: int, rows: list[list[float]]) -> Body:  # noqa: ARG001
    """A ModelInferRequest for the model `model`, its tensor in raw_input_contents as tritonclient sends it."""
    shape = _varint(len(rows)) + _varint(len(rows[0]))
    tensor = _field(1, b"input") + _field(2, b"FP32") + _field(3, shape)
    return Body(0, _field(1, b"model") + _field(3, b"%d" % number) + _field(5, tensor) + _field(7, _floats(rows)))


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))
