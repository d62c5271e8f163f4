"""Requests to fuzz the server with, each made from a source of random numbers, and what must hold of each answer.

`random.Random` runs fast; hypothesis' own source, `randoms(use_true_random=False)`, shrinks what fails.
"""

import json
import struct
from random import Random
from typing import Any, NamedTuple

import numpy as np

from modelmill_server import http1, model
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.errors import RefusedError
from modelmill_server.limits import Limits
from modelmill_server.signature import NUMPY_TYPES

MODELS = ("regression", "cancer_with_gaps", "mixed", "every_datatype", "one_column", "nameless")  # of `artifacts`
# In every text that is sent, and so in no error.
MARK = "Zq7"
MAX_ERROR = 600  # characters
BODY_LIMIT = 1 << 16
_DATATYPES = [*NUMPY_TYPES, "FP33", "", MARK]
_CONTENT_TYPES = ["np", "pd", "str", "base64", "datetime", MARK, None, 7]
_EVIL: list[Any] = [
    *(None, True, 0, -1, 1, 30, 2**31, 2**63, -(2**63), 2**64, 10**400),
    *(0.5, -0.0, 1e39, 1e308, 5e-324),
    *("", "\0", "\ud800", "é", "2026-11-23", "QmVybg==", "Bern", MARK, MARK * 50),
    *([], {}, [MARK, None, [1, [2]]], {MARK: {"x": MARK}}, [[]] * 30),
]


class Request(NamedTuple):
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Target:
    """One served model."""

    def __init__(self, folder: Any, digest: str) -> None:
        self.app = App("model", "1", Limits(body=BODY_LIMIT), Counters())
        self.app.set_date("now")
        self.servable = model.load(folder, digest, "model", "1")
        self.app.serve(self.servable)
        manifest = self.servable.manifest
        self.tensors = [(tensor.name, tensor.datatype, tensor.shape) for tensor in manifest.inputs]
        width = self.servable.signature.width
        self.columns = [(name, column.datatype, (-1,)) for name, column in self.servable.signature.columns.items()]
        self.columns = self.columns or [(str(index), "FP32", (-1,)) for index in range(width)]
        self.outputs = [tensor.name for tensor in manifest.outputs]


def check(r: Random, target: Target) -> int:
    """Make one request, send it, and check the answer; its status.  AssertionError where it is not as it must be."""
    request = _request(r, target)
    short = r.random() < 0.5 and request.path == "/v2/models/model/infer" and len(request.body) <= BODY_LIMIT
    sizes = [int(value) for name, value in request.headers if name == b"inference-header-content-length" and _ok(value)]
    if short and len(sizes) == len([n for n, _ in request.headers if n != b"content-encoding"]):
        response = target.app.short_cut.answer(request.body, sizes[-1] if sizes else None)
        head, _, body = response.partition(b"\r\n\r\n")
        lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
        status, headers = int(head.split(b" ")[1]), {line[0]: line[1] for line in lines}
    else:
        status, headers, body = _ask(target.app, request)
    _check(request, status, headers, body, target)
    return status


def _ok(value: bytes) -> bool:
    return value.isdigit() and len(value) <= 15


def _ask(app: App, request: Request) -> tuple[int, dict[bytes, bytes], bytes]:
    """The answer on the ordinary way.  The models run in place, so there is nothing to wait for."""
    asked = http1.Request("POST", request.path, request.headers)
    try:
        answer = app.open(asked)
        if answer is None:
            asked.body, asked.whole = request.body, True
            answer = app.refused(app.too_large(), asked) if len(request.body) > BODY_LIMIT else app.call(asked)
    except RefusedError as refusal:
        answer = app.refused(refusal, asked)
    app.close(asked, gone=False)
    assert isinstance(answer, http1.Response), "the application waits for something"
    head, _, body = answer.encoded(b"now", closes=False).partition(b"\r\n\r\n")
    lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
    return answer.status, {line[0]: line[1] for line in lines}, body


def _check(request: Request, status: int, headers: dict[bytes, bytes], body: bytes, target: Target) -> None:
    assert status in (200, 400, 404, 405, 413, 415) or (status == 500 and b"is not finite" in body), (status, body)
    assert int(headers[b"content-length"]) == len(body)
    size = headers.get(b"inference-header-content-length")
    document = json.loads(body if size is None else body[: int(size)], parse_constant=_never)
    if status != 200:
        assert list(document) == ["error"]
        assert size is None
        assert MARK not in document["error"], document
        assert 0 < len(document["error"]) < MAX_ERROR, document
        return
    if not request.path.endswith("/infer"):
        return
    rows = int(size) if size is not None else len(body)
    for output in document["outputs"]:
        assert output["name"] in target.outputs
        if "parameters" in output:
            rows += output["parameters"]["binary_data_size"]
            if output["datatype"] != "BYTES":
                kind = np.dtype(NUMPY_TYPES[output["datatype"]])
                assert output["parameters"]["binary_data_size"] == kind.itemsize * int(np.prod(output["shape"]))
        else:
            assert len(output["data"]) == int(np.prod(output["shape"]))
    assert rows == len(body)


def _never(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def _request(r: Random, target: Target) -> Request:
    kind = r.random()
    if kind < 0.25:
        path, head, raw = "/v1/models/model:predict", _v1(r, target), b""
    elif kind < 0.28:
        path, head, raw = r.choice(["/v2/repository/index", "/v2", f"/{MARK}", "/v1/models/model"]), {}, b""
    else:
        path = r.choice(["/v2/models/model/infer", "/v2/models/model/infer", "/v2/models/model/versions/1/infer"])
        head, raw = _v2(r, target)
    for _ in range(r.choice([0, 0, 1, 2])):
        head = _mutated(r, head)
    text = _json(r, head)
    headers = []
    if raw or r.random() < 0.05:
        size = len(text) if r.random() < 0.95 else r.choice([0, 1, len(text) - 1, len(text) + 1, 10**9])
        headers.append((b"inference-header-content-length", b"%d" % max(size, 0)))
    if r.random() < 0.01:
        headers.append((b"inference-header-content-length", r.choice([b"", b"-1", b"x", b"9" * 16, b"9" * 5000])))
    if r.random() < 0.01:
        headers.append((b"content-encoding", r.choice([b"gzip", b"identity", MARK.encode()])))
    return Request(path, headers, damaged(r, text + raw))


def _v2(r: Random, target: Target) -> tuple[Any, bytes]:
    rows = r.choice([1, 1, 2, 3])
    matrix = len(target.tensors) == 1
    kinds = target.columns if matrix and r.random() < 0.3 else target.tensors
    binary = r.choice([0.0, 1.0, 0.5])
    inputs, parts = [], []
    for kind in kinds:
        count = rows if r.random() < 0.98 else rows + 1
        tensor, raw = _tensor(r, kind, count, binary=r.random() < binary)
        inputs.append(tensor)
        parts.append(raw)
    document: dict[str, Any] = {"inputs": inputs}
    if r.random() < 0.5:
        document["id"] = MARK
    if r.random() < 0.5:
        document["parameters"] = {"binary_data_output": r.random() < 0.7}
        if r.random() < 0.1:
            document["parameters"]["content_type"] = r.choice(_CONTENT_TYPES)
    if r.random() < 0.4:
        chosen = [name for name in target.outputs if r.random() < 0.7]
        document["outputs"] = [_output(r, name) for name in chosen]
    return document, b"".join(parts)


def _output(r: Random, name: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {"binary_data": r.random() < 0.7}
    if r.random() < 0.03:
        parameters[r.choice(["classification", "shared_memory_region"])] = r.choice([1, MARK])
    return {"name": name if r.random() < 0.97 else MARK, **({"parameters": parameters} if r.random() < 0.7 else {})}


def _tensor(r: Random, kind: tuple[str, str, Any], rows: int, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    name, wanted, template = kind
    shape = [rows, *[max(size, 1) for size in template[1:]]]
    if len(shape) == 1 and r.random() < 0.2:
        shape.append(1)
    count = int(np.prod(shape))
    datatype = wanted if r.random() < 0.9 else r.choice(_DATATYPES)
    tensor: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    raw = b""
    if binary:
        raw = _raw(r, datatype, count)
        if r.random() < 0.02:
            raw = raw[:3]
        if r.random() < 0.01:
            tensor["data"] = [1]
        tensor["parameters"] = {"binary_data_size": len(raw) if r.random() < 0.98 else len(raw) + r.choice([-4, 1])}
    else:
        values = [_value(r, datatype) for _ in range(count)]
        nest = r.random() < 0.5 and len(shape) == 2
        tensor["data"] = [values[i : i + shape[1]] for i in range(0, count, shape[1])] if nest else values
    if r.random() < 0.005:
        tensor.setdefault("parameters", {})["shared_memory_region"] = MARK
    if r.random() < 0.05:
        kinds = ["str", "base64", "datetime"] if datatype == "BYTES" else _CONTENT_TYPES
        tensor.setdefault("parameters", {})["content_type"] = r.choice(kinds)
    return tensor, raw


def _value(r: Random, datatype: str) -> Any:
    if r.random() < 0.02:
        return r.choice(_EVIL)
    if datatype == "BYTES":
        return r.choice(["Bern", "Chur", "2026-11-23", "QmVybg==", MARK])
    if datatype == "BOOL":
        return r.random() < 0.5
    whole = r.choice([0, 1, 2, 100, 127])
    return whole if "INT" in datatype or r.random() < 0.3 else whole / 8


def _raw(r: Random, datatype: str, count: int) -> bytes:
    if datatype == "BYTES":
        texts = [str(_value(r, datatype)).encode("utf-8", "surrogatepass") for _ in range(count)]
        raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return damaged(r, raw) if r.random() < 0.2 else raw
    size = np.dtype(NUMPY_TYPES.get(datatype, np.float32)).itemsize * count
    if r.random() < 0.3:
        return r.getrandbits(8 * size).to_bytes(size, "little")
    number = r.choice([0, 1, 1, 2, 100])
    raw = np.full(count, number, NUMPY_TYPES.get(datatype, np.float32)).tobytes()
    if r.random() < 0.05:
        raw = np.array([np.nan, np.inf][r.randint(0, 1)], "<f4").tobytes() + raw[4:]
    return raw


def _v1(r: Random, target: Target) -> Any:
    rows = r.choice([1, 1, 2, 3])
    kinds = target.tensors if len(target.tensors) > len(target.columns) else target.columns
    instances: list[Any] = []
    form = r.random()
    for _ in range(rows):
        if target.servable.signature.tensors:
            cells = [[_value(r, datatype) for _ in range(shape[1])] for _, datatype, shape in kinds]
        else:
            cells = [_value(r, datatype) for _, datatype, _ in kinds]
        named = dict(zip([name for name, _, _ in kinds], cells, strict=True))
        if form < 0.2 and len(cells) == 1:
            instances.append(cells[0])
        else:
            instances.append(named if form < 0.5 or target.servable.signature.tensors else cells)
    if r.random() < 0.1:
        instances = [r.choice(_EVIL) for _ in range(rows)]
    return {"instances": instances}


def _mutated(r: Random, value: Any) -> Any:
    """`value` with something in it dropped, doubled or replaced, at a random depth."""
    if r.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return r.choice(_EVIL)
    if isinstance(value, dict):
        copy: dict[str, Any] = dict(value)
        name = r.choice(list(copy))
        match r.randint(0, 9):
            case 0:
                del copy[name]
            case 1:
                copy[MARK] = r.choice(_EVIL)
            case _:
                copy[name] = _mutated(r, copy[name])
        return copy
    items = list(value)
    index = r.randrange(len(items))
    match r.randint(0, 9):
        case 0:
            del items[index]
        case 1:
            items.append(items[index])
        case _:
            items[index] = _mutated(r, items[index])
    return items


def _json(r: Random, document: Any) -> bytes:
    separators = r.choice([(",", ":"), (", ", ": "), (" , ", " : ")])
    text = json.dumps(document, separators=separators, ensure_ascii=r.random() < 0.5)
    if r.random() < 0.005:
        opener = r.choice(["[", '{"x":'])
        text = text.replace("1", opener * r.choice([10, 2000, 9000]), 1)
    if r.random() < 0.005:
        text = text.replace("1", "1" * r.choice([400, 5000]), 1)
    return text.encode("utf-8", "surrogatepass")


def damaged(r: Random, data: bytes) -> bytes:
    if r.random() < 0.85 or not data:
        return data
    damaged = bytearray(data)
    for _ in range(r.randint(1, 3)):
        position = r.randint(0, len(damaged))
        fresh = r.choice([b"", b"\0", b"\xff", b'"', b"[", b"}", b"9", b",", b"-", b"\xed\xa0\x80"])
        damaged[position : position + r.randint(0, 2)] = fresh
    return bytes(damaged)
