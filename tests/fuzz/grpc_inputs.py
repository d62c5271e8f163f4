"""Messages to fuzz gRPC's side of the server with, and what must hold of each answer: the counterpart of `inputs`.

Messages are written field by field, so that they can be wrong in ways that protobuf's own runtime never writes; that
runtime, in the client of tritonclient, reads the answers.
"""

import math
import struct
from random import Random
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from modelmill_server.inference import Outcome
from modelmill_server.protobuf import VARINT, field, tag, varint
from modelmill_server.signature import NUMPY_TYPES

from .inputs import MARK, MAX_ERROR, Target, damaged

_BOOLS, _INTS, _LONGS, _UNSIGNED, _UNSIGNED_LONGS, _FLOATS, _DOUBLES, _TEXTS = range(1, 9)
_FIELDS = {  # of InferTensorContents
    "BOOL": _BOOLS,
    **dict.fromkeys(("INT8", "INT16", "INT32"), _INTS),
    "INT64": _LONGS,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), _UNSIGNED),
    "UINT64": _UNSIGNED_LONGS,
    "FP32": _FLOATS,
    "FP64": _DOUBLES,
    "BYTES": _TEXTS,
}
_NUMBERS = [0, 1, 2, 100, 127, 128, 255, 300, -1, -128, 2**15, 2**31, 2**32, 2**63, 2**64 - 1, -(2**63)]
_REALS = [0.0, 0.5, 1.0, 2.25, 1e30, 1e308, float("inf"), float("nan")]
_TEXT = ["Bern", "Chur", "2026-11-23", "QmVybg==", MARK]
_CONTENT_TYPES = ["np", "pd", "str", "base64", "datetime", MARK, ""]


def check(r: Random, target: Target) -> int:
    """Make one message, have it answered, and check the answer; its status in terms of HTTP.

    AssertionError where it is not as it must be.
    """
    message = damaged(r, _message(r, target))
    outcome = target.app.predict(target.servable.grpc_codec, message)
    assert isinstance(outcome, Outcome), "the application waits for something"
    status, error = outcome.status, outcome.error
    assert status in (200, 400, 404) or (status == 500 and "is not finite" in error), (status, error)
    if status != 200:
        assert MARK not in error, error
        assert 0 < len(error) < MAX_ERROR, error
        return status
    answer = pb.ModelInferResponse.FromString(outcome.answer)
    assert not answer.raw_output_contents or len(answer.raw_output_contents) == len(answer.outputs)
    for index, output in enumerate(answer.outputs):
        assert output.name in target.outputs
        size = math.prod(output.shape)
        if not answer.raw_output_contents:
            held = [len(values) for _, values in output.contents.ListFields()]
            assert held == ([size] if size else []), (held, size)
        elif output.datatype != "BYTES":
            assert len(answer.raw_output_contents[index]) == size * np.dtype(NUMPY_TYPES[output.datatype]).itemsize
    return status


def _message(r: Random, target: Target) -> bytes:
    rows = r.choice([1, 1, 2, 3])
    matrix = len(target.tensors) == 1
    kinds = target.columns if matrix and r.random() < 0.3 else target.tensors
    raw = r.random() < 0.4
    parts = [field(1, "model" if r.random() < 0.98 else MARK)]
    if r.random() < 0.5:
        parts.append(field(2, r.choice(["1", "1", "1", "", MARK])))
    if r.random() < 0.5:
        parts.append(field(3, MARK))
    if r.random() < 0.2:
        parts.append(_parameter(r, 4))
    contents = []
    for kind in kinds:
        tensor, data = _tensor(r, kind, rows if r.random() < 0.98 else rows + 1, raw=raw)
        parts.append(field(5, tensor))
        contents.append(field(7, data))
    if r.random() < 0.4:
        parts += [field(6, _output(r, name)) for name in target.outputs if r.random() < 0.7]
    if raw:
        parts += contents[: len(contents) - (r.random() < 0.02)]
    if r.random() < 0.02:
        parts += [r.choice(parts[1:] or parts)] * r.choice([1, 2, 40])
    if r.random() < 0.3:
        r.shuffle(parts)  # fields come in any order; only those of one number keep theirs
    return b"".join(parts)


def _output(r: Random, name: str) -> bytes:
    parts = [field(1, name if r.random() < 0.97 else MARK)]
    if r.random() < 0.1:
        parts.append(_parameter(r, 2))
    return b"".join(parts)


def _parameter(r: Random, number: int) -> bytes:
    """An entry of a map of parameters, often of one that means something."""
    name = r.choice(["content_type", "content_type", "shared_memory_region", "classification", MARK, ""])
    value = r.choice([field(3, r.choice(_CONTENT_TYPES)), _varint_field(2, 1), _varint_field(1, 1), b""])
    return field(number, field(1, name) + field(2, value))


def _tensor(r: Random, kind: tuple[str, str, Any], rows: int, *, raw: bool) -> tuple[bytes, bytes]:
    """The message InferInputTensor, and its raw contents."""
    name, wanted, template = kind
    shape = [rows, *[max(size, 1) for size in template[1:]]]
    if len(shape) == 1 and r.random() < 0.2:
        shape.append(1)
    count = math.prod(shape)
    datatype = wanted if r.random() < 0.9 else r.choice([*NUMPY_TYPES, "FP33", "", MARK])
    if r.random() < 0.02:
        shape[r.randrange(len(shape))] = r.choice([0, -1, 2**40, 2**63 - 1])
    if r.random() < 0.01:
        shape *= r.choice([0, 2, 30])
    values = [_value(r, datatype) for _ in range(count if r.random() < 0.97 else max(count + r.choice([-1, 1]), 0))]
    sizes = [varint(size) for size in shape]
    parts = [
        field(1, name if r.random() < 0.98 else MARK),
        field(2, datatype),
        field(3, b"".join(sizes)) if r.random() < 0.8 else b"".join(varint(tag(3, VARINT)) + size for size in sizes),
    ]
    if r.random() < 0.1:
        parts.append(_parameter(r, 4))
    if not raw or r.random() < 0.02:
        number = _FIELDS.get(datatype, _FLOATS) if r.random() < 0.98 else r.randint(1, 9)
        cut = r.randrange(len(values) + 1) if r.random() < 0.1 else 0
        held = [_contents(r, number, datatype, some) for some in (values[:cut], values[cut:])]
        parts += [field(5, content) for content in held[0 if cut or r.random() < 0.02 else 1 :]]
    return b"".join(parts), _raw(r, datatype, values)


def _contents(r: Random, number: int, datatype: str, values: list[Any]) -> bytes:
    """The values as protobuf has them: packed, or one field for each."""
    if datatype == "BYTES":
        return b"".join(field(number, value) for value in values)
    one = [_encoded(datatype, value) for value in values]
    if r.random() < 0.8:
        return field(number, damaged(r, b"".join(one)) if r.random() < 0.05 else b"".join(one))
    wire = {"FP32": 5, "FP64": 1}.get(datatype, VARINT)
    return b"".join(varint(tag(number, wire)) + value for value in one)


def _encoded(datatype: str, value: Any) -> bytes:
    if datatype in ("FP32", "FP64"):
        return _cells(datatype, [value])
    return varint(int(value) if math.isfinite(value) else 0)


def _value(r: Random, datatype: str) -> Any:
    if datatype == "BYTES":
        return b"\xff\xfe" if r.random() < 0.01 else r.choice(_TEXT)
    if "FP" in datatype:
        return r.choice(_REALS[:4] if r.random() < 0.98 else _REALS)
    return r.choice([0, 1, 2, 100] if r.random() < 0.97 else _NUMBERS)


def _raw(r: Random, datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else value.encode() for value in values]
        return damaged(r, b"".join(struct.pack("<I", len(text)) + text for text in texts))
    if r.random() < 0.05 or datatype not in NUMPY_TYPES:
        return r.randbytes(r.choice([0, 1, 4, 4 * len(values)]))
    return _cells(datatype, values)


def _cells(datatype: str, values: list[Any]) -> bytes:
    """The values, little-endian one after the other, cut to what the datatype holds."""
    kind = np.dtype(NUMPY_TYPES[datatype]).newbyteorder("<")
    if kind.kind in "iu":
        values = [value % (1 << (8 * kind.itemsize - 1)) for value in values]
    with np.errstate(over="ignore"):
        return np.array(values, np.float64 if kind.kind == "f" else kind).astype(kind).tobytes()


def _varint_field(number: int, value: int) -> bytes:
    return varint(tag(number, VARINT)) + varint(value)
