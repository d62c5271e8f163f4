"""The Open Inference Protocol's JSON: a request's body to arrays, arrays to an answer's body.

What most callers send, one FP32 matrix, takes a fast path that knows nothing of errors: whatever is odd about
a body makes it give up, and the full path decodes again and explains.
"""

import struct
from typing import Any

import msgspec
import numpy as np

from modelmill_server import tensors
from modelmill_server.errors import invalid
from modelmill_server.signature import Column, Signature
from modelmill_server.tensors import Array


class _Floats(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: list[float | list[float]]
    parameters: msgspec.Raw = msgspec.Raw()


class Tensor(msgspec.Struct):
    """One input.  `data` are JSON's values, or a memoryview of raw ones."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: msgspec.Raw = msgspec.Raw()


class _Requested(msgspec.Struct):
    name: str
    parameters: msgspec.Raw = msgspec.Raw()


class _FastRequest(msgspec.Struct, gc=False):
    inputs: list[_Floats]
    id: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    outputs: list[_Requested] | None = None


class _Request(msgspec.Struct):
    inputs: list[Tensor]
    id: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    outputs: list[_Requested] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]


class _Answer(msgspec.Struct, omit_defaults=True, gc=False):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str | None = None


class Call(msgspec.Struct, gc=False):
    """A decoded request.  `feeds` are the model's inputs, `outputs` indices of the signature's outputs."""

    rows: int
    feeds: dict[str, Array]
    id: str | None = None
    outputs: list[int] | None = None  # none: all


_decode_fast = msgspec.json.Decoder(_FastRequest).decode
_decode_full = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


class Codec:
    """Decodes and encodes for one model version."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        self._name = name
        self._version = version
        self._signature = signature
        # Without a matrix of FP32 there is no common case: the fast path is never taken.
        fast = signature.matrix is not None and signature.datatype == "FP32"
        self._fast_input = signature.matrix if fast else None
        self._width = signature.width
        self._pack_row = struct.Struct(f"={signature.width}f").pack_into
        self._outputs = [(tensor.name, tensor.datatype) for tensor in signature.outputs]

    def decode(self, body: bytes) -> Call:
        """The request in `body`; RefusedError where it is not one for this model."""
        if self._fast_input is not None:
            call = self._fast(body)
            if call is not None:
                return call
        try:
            request = _decode_full(body)
        except msgspec.ValidationError as error:
            # Its text names the place and the JSON types, never a value.
            raise invalid("RequestInvalid", f"the body is not an inference request: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:  # ValueError: not UTF-8
            raise invalid(
                "JsonInvalid",
                "the body is not valid JSON: a missing value is null, not NaN, and a tensor is an array (tritonclient:"
                " binary_data=False)",
            ) from error
        except RecursionError as error:
            raise invalid("JsonTooDeep", "the body's JSON is nested too deep; a tensor needs few levels") from error
        rows, feeds = self.feeds(request.inputs)
        return Call(rows, feeds, request.id, self._select(request.outputs))

    def encode(self, call: Call, arrays: list[Array]) -> bytes:
        """The answer to `call`: `arrays` are all of the model's outputs, in order."""
        outputs = [
            _Output(name, datatype, array.shape, array.ravel().tolist())
            for (name, datatype), array in zip(self._outputs, arrays, strict=True)
        ]
        if call.outputs is not None:
            outputs = [outputs[index] for index in call.outputs]
        return _encode(_Answer(self._name, self._version, outputs, call.id))

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
                array: Array = np.empty((1, width), np.float32)
                # Checks in C that the row has `width` numbers, each of which fits a float32.
                self._pack_row(array.data, 0, *(data[0] if type(data[0]) is list else data))
                if type(data[0]) is list and len(data) != 1:
                    return None
            else:
                with np.errstate(over="ignore"):
                    array = np.array(data, np.float32)
                if array.shape != (rows, width):
                    if array.shape != (rows * width,):
                        return None
                    array = array.reshape(rows, width)
                if not np.isfinite(array).all():
                    return None
        except (ValueError, OverflowError, struct.error):
            return None
        selected = None if not request.outputs else self._select(request.outputs)
        return Call(rows, {tensor.name: array}, request.id, selected)

    def _select(self, requested: list[_Requested] | None) -> list[int] | None:
        if not requested:
            return None
        names = [name for name, _ in self._outputs]
        selected: list[int] = []
        for index, output in enumerate(requested):
            if output.name not in names:
                raise invalid("OutputUnknown", f"outputs[{index}].name: unknown; the model gives {', '.join(names)}")
            if (position := names.index(output.name)) in selected:
                raise invalid("OutputUnknown", f"outputs[{index}].name: is listed twice; list it once")
            selected.append(position)
        return selected

    def feeds(self, inputs: list[Tensor]) -> tuple[int, dict[str, Array]]:
        """How many rows `inputs` are, and the model's inputs; RefusedError where they are not for this model."""
        signature = self._signature
        for index, tensor in enumerate(inputs):
            where = f"inputs[{index}]"
            tensors.check_datatype(tensor.datatype, where, raw=type(tensor.data) is memoryview)
            if tensor.data is msgspec.UNSET:
                raise invalid(
                    "DataMissing",
                    f"{where}.data: is missing; send JSON data (binary tensors are not served here)",
                )
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
        return rows, self._arranged(arrays, rows)

    def _arranged(self, arrays: dict[str, Array], rows: int) -> dict[str, Array]:
        signature = self._signature
        if signature.matrix is None:
            return {
                column.name: arrays[column.name].reshape((rows, 1) if column.rank == 2 else (rows,))
                for column in signature.columns.values()
            }
        return {signature.matrix: np.stack([arrays[name] for name in signature.columns], axis=1)}


def _column(tensor: Tensor, column: Column, where: str) -> Array:
    """One feature's values, [rows]."""
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]) or tensor.shape[0] < 1:
        raise invalid("ShapeMismatch", f"{where}.shape: must be [rows] or [rows, 1] with at least one row")
    return _values(tensor, column.datatype, where, lambda _: column.missing)


def _values(tensor: Tensor, wanted: str, where: str, missing: tensors.Missing) -> Array:
    """The values of a tensor, flat, as datatype `wanted`."""
    data, declared, place = tensor.data, tensor.datatype, f"{where}.data"
    if type(data) is memoryview:
        elements = tensors.count(tensor.shape, where)
        if declared != "BYTES":
            return tensors.raw_numbers(data, elements, declared, wanted, place, missing)
        values: list[Any] = tensors.raw_strings(data, elements, place)
    else:
        values = tensors.flatten(data, tensor.shape, where)
    if wanted != "BYTES":
        return tensors.numbers(values, declared, wanted, place, missing)
    return tensors.strings(values, declared, place, missing)
