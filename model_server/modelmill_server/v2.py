"""The Open Inference Protocol's requests and answers: a body to arrays, arrays to a body.

A body is JSON, or JSON followed by the raw bytes of tensors (the binary tensor extension).  What most callers
send, one FP32 matrix, takes a fast path that knows nothing of errors: whatever is odd about a body makes it
give up, and the full path decodes again and explains.
"""

import base64
import binascii
import datetime
import math
import struct
from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from modelmill_contracts import artifact
from modelmill_server import tensors
from modelmill_server.errors import RefusedError, invalid
from modelmill_server.framing import JSON_SIZE_HEADER, size_mismatch
from modelmill_server.row import Row
from modelmill_server.signature import Column, Signature
from modelmill_server.tensors import Array

# MLServer's clients say how their values are to be understood.  np and pd are what they look like here anyway.
PLAIN = (None, "np", "pd")
_OF_TEXT = ("str", "base64", "datetime")
PREDICT = "predict"  # the output that each classifier and regressor has, as scikit-learn calls it
_FLOAT32 = np.dtype("<f4")


class TensorParameters(msgspec.Struct, gc=False):
    binary_data_size: int | None = None
    content_type: str | None = None
    shared_memory_region: str | None = None


class OutputParameters(msgspec.Struct, gc=False):
    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class _RequestParameters(msgspec.Struct, gc=False):
    binary_data_output: bool | None = None
    content_type: str | None = None


class _Requested(msgspec.Struct, gc=False):
    name: str
    parameters: OutputParameters | None = None


class _Floats(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: list[float | list[float]]
    parameters: TensorParameters | None = None


class _FastRequest(msgspec.Struct, gc=False):
    inputs: list[_Floats]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Requested] | None = None


class _Raw(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    parameters: TensorParameters
    data: None = None  # anything else is not a raw tensor


class _RawRequest(msgspec.Struct, gc=False):
    inputs: list[_Raw]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Requested] | None = None


class Tensor(msgspec.Struct):
    """One input.  `data` are JSON's values, or a memoryview of raw ones."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: TensorParameters | None = None


class _Request(msgspec.Struct):
    inputs: list[Tensor]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Requested] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]


class _Size(msgspec.Struct, gc=False):
    binary_data_size: int


class _RawOutput(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _Size


class _Answer(msgspec.Struct, omit_defaults=True, gc=False):
    model_name: str
    model_version: str
    outputs: list[Any]
    id: str | None = None


class Call(msgspec.Struct, gc=False):
    """A decoded request.  `feeds` are the model's inputs, `outputs` indices of the signature's outputs.

    `kept`: it is captured.  `told` is the id as a header says it, where the protocol's answer has no place for it.
    """

    rows: int
    feeds: dict[str, Array]
    id: str | None = None
    outputs: list[int] | None = None  # none: all
    binary: list[bool] | None = None  # whether each of `outputs` goes as raw bytes; none: none does
    kept: bool = False
    told: bytes = b""


_decode_fast = msgspec.json.Decoder(_FastRequest).decode
_decode_raw = msgspec.json.Decoder(_RawRequest).decode
_decode_full = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode
_Selection = tuple[list[int] | None, list[bool] | None]


class Codec:
    """Decodes and encodes for one model version."""

    def __init__(self, name: str, version: str, signature: Signature, row: Row | None = None) -> None:
        """With `row`, single rows are decoded into it: who calls is done with one before the next is decoded."""
        self._name = name
        self._version = version
        self._signature = signature
        self._outputs = [(tensor.name, tensor.datatype) for tensor in signature.outputs]
        self._always_finite = PREDICT in {tensor.name for tensor in signature.outputs}
        self._all_raw = [True] * len(self._outputs)
        self._without_json = {tensor.name for tensor in signature.outputs if tensor.datatype == "FP16"}
        # Without a matrix of FP32 there is no common case: the fast path is never taken.
        fast = signature.datatype == "FP32" and not self._without_json
        self._fast_input = signature.matrix if fast else None
        self._width = signature.width
        self._row = None if row is None else row.input
        self._pack_row = struct.Struct(f"={signature.width}f").pack_into
        self._unpack_row = struct.Struct(f"<{signature.width}f").unpack_from

    def decode(self, body: bytes, json_size: int | None = None) -> Call:
        """The request in `body`; RefusedError where it is not one for this model.

        Its first `json_size` bytes are the JSON, and raw tensors follow; without it, the JSON is all of it.
        """
        if self._fast_input is not None:
            call = self._fast(body) if json_size is None else self._fast_raw(body, json_size)
            if call is not None:
                return call
        return self._full(body, json_size)

    def encode(self, call: Call, arrays: list[Array]) -> tuple[bytes, int | None]:
        """The answer to `call`, and the size of its JSON where raw tensors follow it.

        `arrays` are all of the model's outputs, in order.
        """
        if call.binary is not None:
            return self._encode_raw(call, arrays, call.binary)
        outputs = [
            _Output(name, datatype, array.shape, array.ravel().tolist())
            for (name, datatype), array in zip(self._outputs, arrays, strict=True)
        ]
        if call.outputs is not None:
            outputs = [outputs[index] for index in call.outputs]
        return self._json(outputs, call.id), None

    def _json(self, outputs: list[Any], id_: str | None) -> bytes:
        answer = _encode(_Answer(self._name, self._version, outputs, id_))
        if self._always_finite and b"null" in answer:  # which JSON has instead, unless it is a part of a text
            for output in outputs:
                if type(output) is _Output:
                    require_finite(output.name, output.data)
        return answer

    def _encode_raw(self, call: Call, arrays: list[Array], binary: list[bool]) -> tuple[bytes, int]:
        outputs: list[_Output | _RawOutput] = []
        parts = [b""]
        for index, raw in zip(call.outputs or range(len(arrays)), binary, strict=True):
            (name, datatype), array = self._outputs[index], arrays[index]
            if raw:
                parts.append(tensors.to_raw(array, datatype))
                outputs.append(_RawOutput(name, datatype, array.shape, _Size(len(parts[-1]))))
            else:
                outputs.append(_Output(name, datatype, array.shape, array.ravel().tolist()))
        parts[0] = self._json(outputs, call.id)
        return b"".join(parts), len(parts[0])

    def _fast(self, body: bytes) -> Call | None:
        """The call in `body` if it is one FP32 matrix as it should be, else None."""
        try:
            request = _decode_fast(body)
            (tensor,) = request.inputs
            rows, width = tensor.shape
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        data = tensor.data
        if tensor.name != self._fast_input or tensor.datatype != "FP32" or width != self._width or not data:
            return None
        try:
            if rows == 1:
                array = np.empty((1, width), np.float32) if self._row is None else self._row
                # Checks in C that the row has `width` numbers, each of which fits a float32.
                self._pack_row(array.data, 0, *(data[0] if type(data[0]) is list else data))
                if type(data[0]) is list and len(data) != 1:
                    return None
            else:
                values: Iterable[Any] = data
                if type(data[0]) is list:
                    nested: list[Any] = data
                    if len(nested) != rows or any(type(row) is not list or len(row) != width for row in nested):
                        return None
                    values = chain.from_iterable(nested)
                # The same checks in C as above, and faster than numpy's way from a list.
                array = np.frombuffer(struct.pack(f"={rows * width}f", *values), np.float32).reshape(rows, width)
        except (ValueError, OverflowError, struct.error):
            return None
        return self._call(request, tensor, array)

    def _fast_raw(self, body: bytes, json_size: int) -> Call | None:
        """The same for a matrix that follows the JSON as raw bytes."""
        try:
            request = _decode_raw(body[:json_size])
            (tensor,) = request.inputs
            rows, width = tensor.shape
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        size = rows * width * _FLOAT32.itemsize
        if tensor.name != self._fast_input or tensor.datatype != "FP32" or width != self._width or rows < 1:
            return None
        if tensor.parameters.binary_data_size != size or len(body) != json_size + size:
            return None
        array: Array = np.ndarray((rows, width), _FLOAT32, body, json_size)
        if rows == 1:
            # A double holds the sum of finite float32s: it is finite if, and only if, each of them is.
            if not math.isfinite(sum(self._unpack_row(body, json_size))):
                return None
        else:
            if not np.isfinite(array).all():
                return None
            # One row goes into the model's own memory; onnxruntime takes it wherever it lies where there is none,
            # as for labels that are texts.
            if not array.flags.aligned:
                array = array.copy()
        return self._call(request, tensor, array)

    def _call(self, request: _FastRequest | _RawRequest, tensor: _Floats | _Raw, array: Array) -> Call | None:
        """The call of a matrix that is as it should be; None where something else about it needs a look."""
        of_tensor, of_request = tensor.parameters, request.parameters
        if of_tensor is None and of_request is None and not request.outputs:
            return Call(len(array), {tensor.name: array}, request.id)
        if of_tensor is not None and (
            of_tensor.content_type not in PLAIN
            or of_tensor.shared_memory_region is not None
            or (of_tensor.binary_data_size is None) is (tensor.data is None)
        ):
            return None
        if of_request is not None and of_request.content_type not in PLAIN:
            return None
        return Call(len(array), {tensor.name: array}, request.id, *self._select(request.outputs, of_request))

    def _full(self, body: bytes, json_size: int | None) -> Call:
        if json_size is not None and json_size > len(body):
            raise size_mismatch(len(body))
        try:
            request = _decode_full(body if json_size is None else body[:json_size])
        except msgspec.ValidationError as error:
            # Its text names the place and the JSON types, never a value.
            raise invalid("RequestInvalid", f"the body is not an inference request: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:  # ValueError: not UTF-8
            what = (
                "the body is not valid JSON"
                if json_size is None
                else f"what the header {JSON_SIZE_HEADER} says is JSON is not valid JSON"
            )
            raise invalid(
                "JsonInvalid",
                f"{what}: a missing value is null, not NaN; before binary tensors, the header {JSON_SIZE_HEADER} says"
                " how many bytes of JSON there are",
            ) from error
        except RecursionError as error:
            raise too_deep() from error
        _attach(request.inputs, memoryview(body)[len(body) if json_size is None else json_size :])
        default = request.parameters.content_type if request.parameters is not None else None
        for index, tensor in enumerate(request.inputs):
            _check_tensor(tensor, default, f"inputs[{index}]")
        rows, feeds = self.feeds(request.inputs)
        return Call(rows, feeds, request.id, *self._select(request.outputs, request.parameters))

    def positions(self, requested: list[str]) -> list[int]:
        """Which of the model's outputs are asked for by name; RefusedError where it gives no such output."""
        names = [name for name, _ in self._outputs]
        selected: list[int] = []
        for index, name in enumerate(requested):
            where = f"outputs[{index}].name"
            if name not in names:
                raise invalid("OutputUnknown", f"{where}: unknown; the model gives {', '.join(names)}")
            if (position := names.index(name)) in selected:
                raise invalid("OutputUnknown", f"{where}: is listed twice; list it once")
            selected.append(position)
        return selected

    def _select(self, requested: list[_Requested] | None, parameters: _RequestParameters | None) -> _Selection:
        """Which outputs are asked for, and which of them as raw bytes."""
        default = parameters is not None and bool(parameters.binary_data_output)
        if not requested and not self._without_json:
            return None, self._all_raw if default else None
        selected: list[int] | None = None
        binary = [default] * len(self._outputs)
        if requested:
            selected = self.positions([output.name for output in requested])
            binary = [
                wants_binary(output.parameters, f"outputs[{index}]", default=default)
                for index, output in enumerate(requested)
            ]
        if self._without_json:
            for raw, position in zip(binary, selected or range(len(binary)), strict=True):
                if not raw and (name := self._outputs[position][0]) in self._without_json:
                    raise invalid(
                        "DatatypeMismatch",
                        f"output '{name}' is FP16, which has no JSON form; ask for binary data"
                        ' ("parameters": {"binary_data_output": true})',
                    )
        return selected, binary if True in binary else None

    def feeds(self, inputs: list[Tensor]) -> tuple[int, dict[str, Array]]:
        """How many rows `inputs` are, and the model's inputs; RefusedError where they are not for this model.

        Their datatypes are known ones.
        """
        signature = self._signature
        if signature.tensors:
            return self._tensors(inputs)
        if signature.matrix is not None and len(inputs) == 1 and inputs[0].name == signature.matrix:
            return self._matrix(inputs[0])
        return self._columns(inputs)

    def _matrix(self, tensor: Tensor) -> tuple[int, dict[str, Array]]:
        signature, where, width = self._signature, "inputs[0]", self._width
        if len(tensor.shape) != 2 or tensor.shape[1] != width or tensor.shape[0] < 1:
            raise invalid("ShapeMismatch", f"{where}.shape: must be [rows, {width}] with at least one row")
        allowed = [column.missing for column in signature.columns.values()] or [False] * width
        array = _values(tensor, signature.datatype, where, lambda index: allowed[index % width])
        rows = tensor.shape[0]
        return rows, {tensor.name: array.reshape(rows, width)}

    def _columns(self, inputs: list[Tensor]) -> tuple[int, dict[str, Array]]:
        signature = self._signature
        arrays: dict[str, Array] = {}
        rows = 0
        for index, tensor in enumerate(inputs):
            where = f"inputs[{index}]"
            column = signature.columns.get(tensor.name)
            if column is None or tensor.name in arrays:
                what = "unknown" if column is None else "sent twice"
                raise invalid("TensorUnknown", f"{where}.name: {what}; the model takes {signature.takes}")
            array = _column(tensor, column, where)
            if index and len(array) != rows:
                raise invalid("ShapeMismatch", f"{where}.shape: every column must have the same number of rows")
            rows = len(array)
            arrays[column.name] = array
        for name in signature.columns:
            if name not in arrays:
                raise invalid("TensorMissing", f"inputs: column '{name}' is missing; the model takes {signature.takes}")
        if not arrays:
            raise invalid("TensorMissing", f"inputs: is empty; the model takes {signature.takes}")
        return rows, signature.arranged(arrays, rows)

    def _tensors(self, inputs: list[Tensor]) -> tuple[int, dict[str, Array]]:
        signature = self._signature
        known = {tensor.name: tensor for tensor in signature.tensors}
        feeds: dict[str, Array] = {}
        rows = 1
        for index, tensor in enumerate(inputs):
            where = f"inputs[{index}]"
            declared = known.get(tensor.name)
            if declared is None or tensor.name in feeds:
                what = "unknown" if declared is None else "sent twice"
                raise invalid("TensorUnknown", f"{where}.name: {what}; the model takes {signature.takes}")
            feeds[tensor.name] = _tensor(tensor, declared, where)
            if declared.shape and declared.shape[0] == -1:
                rows = tensor.shape[0]
        for name in known:
            if name not in feeds:
                raise invalid("TensorMissing", f"inputs: '{name}' is missing; the model takes {signature.takes}")
        return rows, feeds


def require_finite(name: str, values: list[Any]) -> None:
    """RefusedError where not all of an output's values can be said in JSON: it has no NaN and no infinity.

    A classifier or a regressor has no use for them, and a caller none for the null that would stand there.
    """
    if any(type(value) is float and not math.isfinite(value) for value in values):
        raise RefusedError(
            500,
            "OutputNotFinite",
            f"output '{name}' is not finite: the model fails for these values; send others, or ask V2 for binary data,"
            " which has NaN and infinity",
        )


def too_deep() -> RefusedError:
    return invalid("JsonTooDeep", "the body's JSON is nested too deep; a tensor needs few levels")


def _attach(inputs: list[Tensor], raw: memoryview) -> None:
    """Give each binary tensor its part of `raw`, in the order of `inputs`."""
    position = 0
    for index, tensor in enumerate(inputs):
        known = tensor.parameters
        if known is None or (size := known.binary_data_size) is None:
            continue
        where = f"inputs[{index}]"
        if tensor.data is not msgspec.UNSET and tensor.data is not None:
            raise invalid("DataInvalid", f"{where}: has data and parameters.binary_data_size; send one of them")
        if not 0 <= size <= len(raw) - position:
            raise invalid(
                "BinarySizeMismatch",
                f"{where}.parameters.binary_data_size: {len(raw) - position} bytes of binary data are left for it"
                f" behind the JSON; make them agree, and say in the header {JSON_SIZE_HEADER} where the JSON ends",
            )
        tensor.data = raw[position : position + size]
        position += size
    if position != len(raw):
        raise invalid(
            "BinarySizeMismatch",
            f"{len(raw) - position} bytes of binary data belong to no tensor; binary_data_size says how many do",
        )


def _check_tensor(tensor: Tensor, content_type: str | None, where: str) -> None:
    understand(tensor, content_type, where)
    tensors.check_datatype(tensor.datatype, where, raw=type(tensor.data) is memoryview)
    if tensor.data is msgspec.UNSET:
        raise invalid("DataMissing", f"{where}.data: is missing; send JSON data, or binary data and its size")


def understand(tensor: Tensor, content_type: str | None, where: str) -> None:
    """Take what the parameters say of a tensor, with the request's `content_type` where its own have none."""
    known = tensor.parameters
    if known is not None and known.shared_memory_region is not None:
        raise invalid("ExtensionUnknown", f"{where}.parameters: shared memory is not served; send the data")
    kind = known.content_type if known is not None and known.content_type is not None else content_type
    if kind in PLAIN:
        return
    if kind not in _OF_TEXT:
        raise invalid(
            "ContentTypeUnknown",
            f"{where}.parameters.content_type: unknown; np, pd, str, base64 and datetime are understood",
        )
    if tensor.datatype != "BYTES":
        raise invalid(
            "ContentTypeMismatch", f"{where}.parameters.content_type: {kind} needs datatype BYTES; leave it out"
        )
    tensor.parameters = TensorParameters(content_type=kind)


def wants_binary(known: OutputParameters | None, where: str, *, default: bool) -> bool:
    """Whether an output is to be raw bytes; RefusedError where something is asked for that is not served."""
    if known is None:
        return default
    if known.classification:
        raise invalid("ExtensionUnknown", f"{where}.parameters: classification is not served; take all scores")
    if known.shared_memory_region is not None:
        raise invalid("ExtensionUnknown", f"{where}.parameters: shared memory is not served; take the data")
    return default if known.binary_data is None else known.binary_data


def _column(tensor: Tensor, column: Column, where: str) -> Array:
    """One feature's values, [rows]."""
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]) or tensor.shape[0] < 1:
        raise invalid("ShapeMismatch", f"{where}.shape: must be [rows] or [rows, 1] with at least one row")
    return _values(tensor, column.datatype, where, lambda _: column.missing)


def _tensor(tensor: Tensor, declared: artifact.Tensor, where: str) -> Array:
    """A tensor as it is; its free sizes, -1, are at least 1."""
    fits = len(tensor.shape) == len(declared.shape) and all(
        found == size or (size < 0 and found > 0) for found, size in zip(tensor.shape, declared.shape, strict=True)
    )
    if not fits:
        raise invalid("ShapeMismatch", f"{where}.shape: must be {list(declared.shape)}, where -1 is at least 1")
    # Of its features nothing is known: NaN is refused, and an empty text is a text like any other.
    text = declared.datatype == "BYTES"
    return _values(tensor, declared.datatype, where, lambda _: text).reshape(tensor.shape)


def _values(tensor: Tensor, wanted: str, where: str, missing: tensors.Missing) -> Array:
    """The values of a tensor, flat, as datatype `wanted`."""
    data, declared = tensor.data, tensor.datatype
    place = f"{where}.data"
    if type(data) is memoryview:
        elements = tensors.count(tensor.shape, where)
        if declared != "BYTES":
            return tensors.raw_numbers(data, elements, declared, wanted, place, missing)
        values = tensors.raw_strings(data, elements, place)
    else:
        values = tensors.flatten(data, tensor.shape, where)
    if wanted != "BYTES":
        return tensors.numbers(values, declared, wanted, place, missing)
    array = tensors.strings(values, declared, place, missing)
    kind = None if tensor.parameters is None else tensor.parameters.content_type
    if kind == "base64":
        return _decoded(array, place)
    if kind == "datetime":
        _require_times(array, place)
    return array


def _decoded(array: Array, where: str) -> Array:
    """The texts that an array of base64 holds."""
    for index, value in enumerate(array):
        try:
            array[index] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise invalid("DataInvalid", f"{where}: value {index} is not text in UTF-8 in base64; encode it") from error
    return array


def _require_times(array: Array, where: str) -> None:
    """A time is text to a model, as it was in training: nothing but its form is checked."""
    for index, value in enumerate(array):
        try:
            if value:
                datetime.datetime.fromisoformat(value)
        except ValueError as error:
            raise invalid("DataInvalid", f"{where}: value {index} is not a time in ISO 8601; write it so") from error
