"""Whether two answers to one request say the same: their values by output, read in whichever protocol they are.

Nothing here needs numpy, which a front does not have.
"""

import math
import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from modelmill_server import protobuf
from modelmill_server.protobuf import fields, tag, varints

Values = Mapping[str, Sequence[Any]]  # of an answer's outputs, flat

PREDICT, SCORES = "predict", "predict_proba"
_THOUSANDTH, _NOTHING = 1e-3, 1e-6
# How `struct` calls a datatype.
_CODES = dict(
    zip(
        ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"],
        "?bhiqBHIQefd",
        strict=True,
    )
)
_LENGTH = struct.Struct("<I")  # before each element of BYTES

# Of a ModelInferResponse, and of its outputs.
_OUTPUT, _RAW = tag(5, protobuf.BYTES), tag(6, protobuf.BYTES)
_NAME, _DATATYPE, _CONTENTS = (tag(number, protobuf.BYTES) for number in (1, 2, 5))
_NUMBERS, _SIGNED, _FLOATS, _DOUBLES, _TEXTS = (1, 4, 5), (2, 3), 6, 7, 8  # fields of its `contents`


class _Parameters(msgspec.Struct, gc=False):
    binary_data_size: int | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    datatype: str = ""
    data: list[Any] = []
    parameters: _Parameters | None = None


class _Answer(msgspec.Struct, gc=False):
    outputs: list[_Output]


class _Predictions(msgspec.Struct, gc=False):
    predictions: Any


_decode_v2 = msgspec.json.Decoder(_Answer).decode
_decode_v1 = msgspec.json.Decoder(_Predictions).decode


def compare(stable: Values, candidate: Values) -> tuple[bool, float | None]:
    """Whether the predictions agree, and the largest difference of the scores, None where not both have any.

    Labels agree if they are equal, numbers if they are within a thousandth.
    """
    name = PREDICT if PREDICT in stable else next(iter(stable), PREDICT)
    ours, theirs = stable.get(name), candidate.get(name)
    agree = ours is not None and theirs is not None and _agree(ours, theirs)
    ours, theirs = stable.get(SCORES), candidate.get(SCORES)
    if not ours or not theirs or len(ours) != len(theirs):
        return agree, None
    try:
        return agree, max(map(abs, map(operator.sub, ours, theirs)))
    except TypeError:  # null
        return agree, None


def _agree(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    return ours == theirs or (len(ours) == len(theirs) and all(map(_equal, ours, theirs)))


def _equal(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if type(one) is not float and type(other) is not float:
        return False
    try:
        return math.isclose(one, other, rel_tol=_THOUSANDTH, abs_tol=_NOTHING) or (one != one and other != other)
    except TypeError:  # a text, or null
        return False


def read_v2(body: bytes, json_size: int | None) -> Values:
    """Of an answer of V2, raw tensors included.  What is none: one of `answers.UNREADABLE`, or struct.error."""
    outputs = _decode_v2(body if json_size is None else body[:json_size]).outputs
    at = json_size or 0
    found: dict[str, Sequence[Any]] = {}
    for output in outputs:
        size = None if output.parameters is None else output.parameters.binary_data_size
        if size is None:
            found[output.name] = flat(output.data)
        else:
            found[output.name] = _unpacked(body[at : at + size], output.datatype)
            at += size
    return found


def read_v1(body: bytes, json_size: int | None) -> Values:  # noqa: ARG001 - there are no raw tensors
    predictions = _decode_v1(body).predictions
    if isinstance(predictions, list) and predictions and all(type(row) is dict for row in predictions):
        return {name: flat([row.get(name) for row in predictions]) for name in predictions[0]}
    return {PREDICT: flat(predictions)}


def read_grpc(body: bytes, json_size: int | None) -> Values:  # noqa: ARG001 - there is no JSON
    """Of a ModelInferResponse."""
    raw: list[bytes] = []
    found: dict[str, Sequence[Any]] = {}
    types: list[tuple[str, str]] = []
    for mark, value in fields(body):
        if mark == _RAW:
            raw.append(value)
        elif mark == _OUTPUT:
            parts = dict(fields(value))
            name = parts.get(_NAME, b"").decode()
            types.append((name, parts.get(_DATATYPE, b"").decode()))
            found[name] = _contents(parts.get(_CONTENTS, b""))
    for (name, datatype), values in zip(types, raw, strict=False):
        found[name] = _unpacked(values, datatype)
    return found


def _contents(message: bytes) -> Sequence[Any]:
    values: list[Any] = []
    for mark, part in fields(message):
        number = mark >> 3
        if mark & 7 != protobuf.BYTES:
            values.append(part)  # one that is not packed
        elif number in _NUMBERS:
            values += varints(part)
        elif number in _SIGNED:
            values += map(protobuf.signed, varints(part))
        elif number == _FLOATS:
            values += _unpacked(part, "FP32")
        elif number == _DOUBLES:
            values += _unpacked(part, "FP64")
        elif number == _TEXTS:
            values.append(part)
    return values


def _unpacked(raw: bytes, datatype: str) -> Sequence[Any]:
    if datatype == "BYTES":
        return _texts(raw)
    code = _CODES.get(datatype)
    if code is None:
        raise ValueError(f"an output has the datatype {datatype[:20]}")
    return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)


def _texts(raw: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        end = at + _LENGTH.size + _LENGTH.unpack_from(raw, at)[0]
        found.append(raw[at + _LENGTH.size : end])
        at = end
    return found


def flat(data: Any) -> list[Any]:
    """The elements of nested lists."""
    if type(data) is not list:
        return [data]
    if list not in set(map(type, data)):
        return data
    found: list[Any] = []
    for item in data:
        found += flat(item)
    return found


Read = Callable[[bytes, int | None], Values]
