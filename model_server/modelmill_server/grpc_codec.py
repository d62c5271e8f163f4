"""The Open Inference Protocol's protobuf: a ModelInferRequest to arrays, arrays to a ModelInferResponse.

Tensors come in `contents`, typed, or in `raw_input_contents`, all or none; an answer is like its request.  The checks
are those of the JSON: a tensor becomes one of `v2` first.  Only the usual FP32 matrix goes straight to its array.
"""

from itertools import islice
from math import prod
from typing import Any

import msgspec
import numpy as np

from modelmill_server import protobuf, tensors, v2
from modelmill_server.errors import RefusedError, invalid, model_unknown, version_unknown
from modelmill_server.protobuf import WireError, field, fields, signed, tag, varint, varints
from modelmill_server.signature import NUMPY_TYPES, Signature
from modelmill_server.tensors import Array
from modelmill_server.v2 import Call

# Tags of ModelInferRequest ...
_MODEL_NAME, _MODEL_VERSION, _ID, _INPUTS, _OUTPUTS, _RAW = (tag(n, protobuf.BYTES) for n in (1, 2, 3, 5, 6, 7))
_PARAMETERS = tag(4, protobuf.BYTES)  # its own, and those of an input
# ... and of its tensors, requested ones included.
_NAME, _DATATYPE, _SHAPE, _CONTENTS = (tag(n, protobuf.BYTES) for n in (1, 2, 3, 5))
_OUTPUT_PARAMETERS = tag(2, protobuf.BYTES)
_SIZE = tag(3, protobuf.VARINT)  # one of the shape, not packed

# The field of `contents` that a datatype's values are in.
_FIELDS = {
    "BOOL": (1, "bool_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), (2, "int_contents")),
    "INT64": (3, "int64_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), (4, "uint_contents")),
    "UINT64": (5, "uint64_contents"),
    "FP32": (6, "fp32_contents"),
    "FP64": (7, "fp64_contents"),
    "BYTES": (8, "bytes_contents"),
}
# The parameters that mean something here, and the field of InferParameter that each comes in.
_KEY, _VALUE = tag(1, protobuf.BYTES), tag(2, protobuf.BYTES)
_STRING, _INTEGER = (tag(3, protobuf.BYTES), "string_param"), (tag(2, protobuf.VARINT), "int64_param")
_UNDERSTOOD = {b"content_type": _STRING, b"shared_memory_region": _STRING, b"classification": _INTEGER}
_SHORTEST = 2 + min(map(len, _UNDERSTOOD)) + 2  # bytes of an entry: there may be half a million that are shorter
_LONGEST = 10  # bytes of a varint
_MAX_RANK = tensors.MAX_RANK
_LARGEST_SHAPE = _LONGEST * _MAX_RANK  # bytes
# The wire types of a value that is alone: protobuf's older form of numbers, and the only one of texts.
_ALONE = {"BYTES": protobuf.BYTES, "FP32": protobuf.FIXED32, "FP64": protobuf.FIXED64}
_TAGS = {
    datatype: (tag(number, protobuf.BYTES), tag(number, _ALONE.get(datatype, protobuf.VARINT)))
    for datatype, (number, _) in _FIELDS.items()
}
_LAST_FIELD = max(number for number, _ in _FIELDS.values())
_PACKED_FP32 = _TAGS["FP32"][0]
# So many inputs and outputs over those of the model are read: few too many are named as they are in JSON.  A million
# empty ones are not read at all.
_SPARE = 8
_VIEWED = 4096  # bytes of a message from which on its parts are not copied


class _Input(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: list[int]
    contents: Any  # bytes or a memoryview; None where there is none
    parameters: dict[str, Any]  # the understood ones


class Codec:
    """Decodes and encodes for one model version."""

    def __init__(self, name: str, version: str, signature: Signature, json: v2.Codec) -> None:
        self._name = name
        self._version = version
        self._name_bytes = name.encode()
        self._versions = (b"", version.encode())
        self._json = json
        fast = signature.matrix is not None and signature.datatype == "FP32"
        self._fast_input = signature.matrix if fast else None
        self._width = signature.width
        self._head = field(1, name) + field(2, version)
        self._most_inputs = max(1, len(signature.columns), len(signature.tensors)) + _SPARE
        self._most_outputs = len(signature.outputs) + _SPARE
        self._takes = signature.takes
        self._outputs = [(tensor.name, tensor.datatype) for tensor in signature.outputs]
        self._output_heads = [field(1, name) + field(2, datatype) for name, datatype in self._outputs]

    def decode(self, body: bytes, json_size: int | None = None) -> Call:  # noqa: ARG002 - there is no JSON
        """The request in `body`; RefusedError where it is not one for this model."""
        try:
            return self._decode(body if len(body) < _VIEWED else memoryview(body))
        except (WireError, UnicodeDecodeError) as error:
            # Their texts never repeat what was sent, but for UnicodeDecodeError's, which is left out.
            why = error if isinstance(error, WireError) else "a string is not UTF-8"
            raise invalid("ProtobufInvalid", f"the message is not a ModelInferRequest: {why}") from error

    def encode(self, call: Call, arrays: list[Array]) -> tuple[bytes, int | None]:
        """The answer to `call`, and None: it holds no JSON.  `arrays` are all of the model's outputs, in order."""
        parts = [self._head]
        if call.id:
            parts.append(field(3, call.id))
        raw = []
        for index in range(len(arrays)) if call.outputs is None else call.outputs:
            array, datatype = arrays[index], self._outputs[index][1]
            tensor = self._output_heads[index] + field(3, b"".join(map(varint, array.shape)))
            if call.binary is not None:
                raw.append(field(6, tensors.to_raw(array, datatype)))
            else:
                tensor += field(5, _typed(array, datatype))
            parts.append(field(5, tensor))
        return b"".join((*parts, *raw)), None

    def _decode(self, body: Any) -> Call:
        texts = {_MODEL_NAME: b"", _MODEL_VERSION: b"", _ID: b""}
        inputs: list[_Input] = []
        outputs: list[str] = []
        parameters: dict[str, Any] = {}
        raw: list[Any] = []
        for count, (mark, value) in enumerate(fields(body)):
            if mark == _INPUTS:
                inputs.append(_input(value, len(inputs)))
            elif mark == _RAW:
                raw.append(value)
            elif mark in texts:
                texts[mark] = value
            elif mark == _OUTPUTS:
                outputs.append(_requested(value, len(outputs)))
            elif mark == _PARAMETERS:
                _add_parameter(parameters, value, "")
            if count >= _SPARE:
                self._limit(len(inputs), len(raw), len(outputs))
        id_ = str(texts[_ID], "utf-8")
        self._require_model(texts[_MODEL_NAME], texts[_MODEL_VERSION])
        _check_raw(inputs, raw)
        selected = self._select(outputs, raw=bool(raw))
        kind = parameters.get("content_type")
        rows, feeds = self._fast(inputs, raw, kind) or self._json.feeds(_tensors(inputs, raw, kind))
        return Call(rows, feeds, id_, selected, [True] * len(selected or self._outputs) if raw else None)

    def _require_model(self, name: bytes, version: bytes) -> None:
        if name != self._name_bytes:
            raise model_unknown(self._name)
        if version not in self._versions:
            raise version_unknown(self._name, self._version)

    def _limit(self, inputs: int, raw: int, outputs: int) -> None:
        """Read no further where there are more than any right message has."""
        if inputs > self._most_inputs:
            raise invalid("TensorUnknown", f"inputs: are more than the model takes; it takes {self._takes}")
        if raw > self._most_inputs:
            raise invalid("DataInvalid", "raw_input_contents: holds more tensors than the model takes")
        if outputs > self._most_outputs:
            raise invalid("OutputUnknown", "outputs: are more than the model gives; list each at most once")

    def _fast(
        self, inputs: list[_Input], raw: list[Any], content_type: str | None
    ) -> tuple[int, dict[str, Array]] | None:
        """The feeds if they are one FP32 matrix as it should be, else None."""
        if len(inputs) != 1:
            return None
        (tensor,) = inputs
        known = tensor.parameters
        if "shared_memory_region" in known or known.get("content_type", content_type) not in v2.PLAIN:
            return None
        if tensor.name != self._fast_input or tensor.datatype != "FP32" or len(tensor.shape) != 2:
            return None
        rows, width = tensor.shape
        if raw:
            values = raw[0]
        elif tensor.contents is None:
            return None
        else:
            parts = list(islice(fields(tensor.contents), 2))
            if len(parts) != 1 or parts[0][0] != _PACKED_FP32:
                return None
            values = parts[0][1]
        if width != self._width or rows < 1 or len(values) != rows * width * 4:
            return None
        array: Array = np.frombuffer(values, "<f4")
        if not np.isfinite(array).all():
            return None
        if not array.flags.aligned:
            array = array.copy()
        return rows, {tensor.name: array.reshape(rows, width)}

    def _select(self, requested: list[str], *, raw: bool) -> list[int] | None:
        selected = self._json.positions(requested) if requested else None
        if not raw:
            for index in selected or range(len(self._outputs)):
                name, datatype = self._outputs[index]
                if datatype == "FP16":
                    raise invalid(
                        "DatatypeMismatch",
                        f"output '{name}' is FP16, which has no typed form; send raw_input_contents, and it comes raw",
                    )
        return selected


def _input(data: Any, index: int) -> _Input:
    name = datatype = b""
    shape: list[int] = []
    contents: Any = None
    more: list[Any] = []
    parameters: dict[str, Any] = {}
    for mark, value in fields(data):
        if mark in (_SHAPE, _SIZE):
            _add_sizes(shape, value, index)
        elif mark == _CONTENTS:
            if contents is None:
                contents = value
            else:
                more.append(value)
        elif mark == _NAME:
            name = value
        elif mark == _DATATYPE:
            datatype = value
        elif mark == _PARAMETERS:
            _add_parameter(parameters, value, f"inputs[{index}].")
    if more:  # a message that comes in parts is their concatenation
        contents = b"".join((contents, *more))
    return _Input(str(name, "utf-8"), str(datatype, "utf-8"), shape, contents, parameters)


def _add_parameter(known: dict[str, Any], data: Any, where: str) -> None:
    """Read an entry of the map `parameters`; what nobody understands is passed over, as in JSON."""
    if len(data) < _SHORTEST:
        return
    key = parameter = b""
    for mark, value in fields(data):
        if mark == _KEY:
            key = value
        elif mark == _VALUE:
            parameter = value
    name = bytes(key)
    if name not in _UNDERSTOOD:
        return
    wanted, form = _UNDERSTOOD[name]
    found = [value for mark, value in fields(parameter) if mark == wanted]
    if not found:
        raise invalid("RequestInvalid", f"{where}parameters.{name.decode()}: must be a {form}; send it so")
    known[name.decode()] = found[-1] if type(found[-1]) is int else str(found[-1], "utf-8")


def _add_sizes(shape: list[int], found: Any, index: int) -> None:
    """One size of the shape, or some that are packed."""
    if len(shape) > _MAX_RANK or (type(found) is not int and len(found) > _LARGEST_SHAPE):
        raise _rank(index)
    shape += map(signed, [found] if type(found) is int else varints(found))


def _rank(index: int) -> RefusedError:
    return invalid("ShapeMismatch", f"inputs[{index}].shape: must be at most {_MAX_RANK} sizes; mend it")


def _requested(data: Any, index: int) -> str:
    """The name of an output that is asked for."""
    name = b""
    parameters: dict[str, Any] = {}
    where = f"outputs[{index}]"
    for mark, value in fields(data):
        if mark == _NAME:
            name = value
        elif mark == _OUTPUT_PARAMETERS:
            _add_parameter(parameters, value, f"{where}.")
    if parameters:
        parameters.pop("content_type", None)  # how a client is to show it
        v2.wants_binary(v2.OutputParameters(**parameters), where, default=False)
    return str(name, "utf-8")


def _check_raw(inputs: list[_Input], raw: list[Any]) -> None:
    if not raw:
        return
    if len(inputs) != len(raw):
        raise invalid(
            "DataInvalid",
            f"raw_input_contents: holds {len(raw)} tensors for {len(inputs)} inputs; send one for each, or none",
        )
    for index, tensor in enumerate(inputs):
        if tensor.contents:
            raise invalid("DataInvalid", f"inputs[{index}].contents: must be empty beside raw_input_contents")


def _tensors(inputs: list[_Input], raw: list[Any], content_type: str | None) -> list[v2.Tensor]:
    """The inputs as those of a JSON request: numbers as raw bytes, texts as a list or, where they came raw, too."""
    made = []
    for index, tensor in enumerate(inputs):
        where = f"inputs[{index}]"
        known = {key: value for key, value in tensor.parameters.items() if key != "classification"}
        made.append(v2.Tensor(tensor.name, tensor.shape, tensor.datatype, parameters=v2.TensorParameters(**known)))
        v2.understand(made[-1], content_type, where)
        if raw:
            tensors.check_datatype(tensor.datatype, where, raw=True)
            made[-1].data = memoryview(raw[index])
        elif tensor.datatype == "FP16":
            raise invalid("DatatypeMismatch", f"{where}.datatype: FP16 has no typed form; send FP32, or send it raw")
        else:
            tensors.check_datatype(tensor.datatype, where)
            made[-1].data = _untyped(tensor, where)
    return made


def _untyped(tensor: _Input, where: str) -> Any:
    """The values in `contents`: numbers as little-endian bytes, texts as a list.

    Numbers that are too many, too few, or out of their datatype's range are a list, too: then what is wrong with them
    is said as for JSON.
    """
    datatype, elements = tensor.datatype, prod(tensor.shape)
    name = _FIELDS[datatype][1]
    if tensor.contents is None and elements:
        raise invalid("DataMissing", f"{where}.data: is missing; send it in contents.{name} or raw_input_contents")
    parts = _parts(tensor, elements, where)
    if datatype == "BYTES":
        return [_text(value, index, where) for index, value in enumerate(parts)]
    packed = parts[0] if len(parts) == 1 else b"".join(parts)
    kind = np.dtype(NUMPY_TYPES[datatype])
    if kind.kind == "f" and len(packed) % kind.itemsize:
        raise WireError("the message ends within a number")
    values = np.frombuffer(packed, kind.newbyteorder("<")) if kind.kind == "f" else _integers(packed, kind)
    if len(values) != elements or values.dtype.itemsize != kind.itemsize:
        return values.tolist()
    return memoryview(values.tobytes())


def _parts(tensor: _Input, elements: int, where: str) -> list[Any]:
    """The occurrences of the datatype's field in `contents`, as bytes; no other one may be there.

    Each holds a value or more, so there are at most as many as `elements`, which the shape means.
    """
    name, marks = _FIELDS[tensor.datatype][1], _TAGS[tensor.datatype]
    parts: list[Any] = []
    for mark, value in fields(tensor.contents or b""):
        if mark in marks:
            if value == b"" and tensor.datatype != "BYTES":
                continue
            if len(parts) >= elements >= 0:
                raise invalid(
                    "ShapeMismatch", f"{where}.data: has more values than its shape means, {elements}; make them agree"
                )
            parts.append(varint(value) if type(value) is int else value)
        elif mark >> 3 <= _LAST_FIELD:
            raise invalid("DataInvalid", f"{where}.data: {tensor.datatype} data are in contents.{name}; send it there")
    return parts


def _integers(packed: Any, kind: np.dtype[Any]) -> Array:
    """The values of packed varints as little-endian integers of `kind`; wider where one does not fit."""
    values = _varints(packed)
    if kind.kind == "b":
        return np.where(values != 0, np.uint8(1), np.uint8(0))
    wide: Array = values.view(np.int64) if kind.kind == "i" else values
    if kind.itemsize < 8:
        wide = wide.astype(np.int32 if kind.kind == "i" else np.uint32)  # what the field holds
    narrow: Array = wide.astype(kind.newbyteorder("<"))
    return narrow if np.array_equal(narrow, wide) else wide


def _text(value: Any, index: int, where: str) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise invalid("DataInvalid", f"{where}.data: value {index} is not text in UTF-8; encode it") from error


def _varints(packed: Any) -> Array:
    """The values of packed varints, as uint64."""
    raw = np.frombuffer(packed, np.uint8)
    if not len(raw):
        return np.empty(0, np.uint64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise WireError("the message ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if sizes.max() > _LONGEST:
        raise WireError("a number is too long")
    shifts = (np.arange(len(raw)) - np.repeat(starts, sizes)) * 7
    sevens = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.bitwise_or.reduceat(sevens, starts)


def _typed(array: Array, datatype: str) -> bytes:
    """The message InferTensorContents of an output."""
    number, _ = _FIELDS[datatype]
    if datatype == "BYTES":
        return b"".join(field(number, value) for value in array.ravel().tolist())
    if array.dtype.kind == "f":
        return field(number, tensors.to_raw(array, datatype))
    return field(number, b"".join(map(varint, array.ravel().tolist())))
