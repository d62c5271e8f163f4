"""The V1 protocol of KServe and TensorFlow Serving: `{"instances": [...]}` to `{"predictions": [...]}`.

An instance is a row: a list in the order of the model's columns, an object by their names or, where there is
one column only, its value.  A prediction is what scikit-learn's `predict` gives for the row: a classifier's
label, a regressor's number.  A model without such an output gives its only one, or an object of all.
"""

from typing import Any

import msgspec
import numpy as np

from modelmill_contracts.artifact import Tensor
from modelmill_server import tensors
from modelmill_server.errors import invalid
from modelmill_server.signature import Column, Signature
from modelmill_server.tensors import Array
from modelmill_server.v2 import PREDICT, Call, require_finite, too_deep


class _FastRequest(msgspec.Struct, gc=False):
    instances: list[list[float]]


class _Request(msgspec.Struct):
    instances: list[Any]


class _Answer(msgspec.Struct, gc=False):
    predictions: list[Any]


_decode_fast = msgspec.json.Decoder(_FastRequest).decode
_decode_full = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


class Codec:
    """Decodes and encodes for one model version."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._names = [tensor.name for tensor in signature.outputs]

    def decode(self, body: bytes, json_size: int | None = None) -> Call:
        """The request in `body`; RefusedError where it is not one for this model."""
        if json_size is not None:
            raise invalid("RequestInvalid", "V1 has no binary tensors; send JSON, or use V2")
        call = self._fast(body)
        if call is not None:
            return call
        try:
            instances = _decode_full(body).instances
        except msgspec.ValidationError as error:
            raise invalid("RequestInvalid", f"the body is not a V1 request: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise invalid(
                "JsonInvalid", "the body is not valid JSON: a missing value is null, not NaN; mend it"
            ) from error
        except RecursionError as error:
            raise too_deep() from error
        if not instances:
            raise invalid("ShapeMismatch", "instances: is empty; send at least one row")
        if self._signature.tensors:
            feeds = {tensor.name: self._tensor(tensor, instances) for tensor in self._signature.tensors}
            return Call(len(instances), feeds)
        return self._columns(instances)

    def encode(self, call: Call, arrays: list[Array]) -> tuple[bytes, int | None]:
        """The answer to `call`, and None, since nothing follows the JSON."""
        named = dict(zip(self._names, arrays, strict=True))
        if PREDICT in named or len(named) == 1:
            answer = _encode(_Answer(_by_row(named.get(PREDICT, arrays[0]), call.rows)))
            if PREDICT in named and b"null" in answer:
                require_finite(PREDICT, named[PREDICT].ravel().tolist())
            return answer, None
        columns = {name: _by_row(array, call.rows) for name, array in named.items()}
        rows = zip(*columns.values(), strict=True)
        return _encode(_Answer([dict(zip(columns, row, strict=True)) for row in rows])), None

    def _fast(self, body: bytes) -> Call | None:
        """The call in `body` if it is rows of finite numbers for a matrix of floats, else None."""
        signature = self._signature
        if signature.matrix is None or signature.datatype not in ("FP32", "FP64"):
            return None
        try:
            instances = _decode_fast(body).instances
            with np.errstate(over="ignore"):
                array = np.array(instances, np.float32 if signature.datatype == "FP32" else np.float64)
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
            return None
        if array.shape != (len(instances), signature.width) or not len(array) or not np.isfinite(array).all():
            return None
        return Call(len(array), {signature.matrix: array})

    def _columns(self, instances: list[Any]) -> Call:
        signature = self._signature
        columns = list(signature.columns.values()) or _nameless(signature)
        rows = [_row(instance, index, columns) for index, instance in enumerate(instances)]
        values = zip(*rows, strict=True)
        arrays = {column.name: _values(column, list(cells)) for column, cells in zip(columns, values, strict=True)}
        return Call(len(rows), signature.arranged(arrays, len(rows)))

    def _tensor(self, tensor: Tensor, instances: list[Any]) -> Array:
        values = instances
        where = "instances"
        if len(self._signature.tensors) > 1:
            where = f"instances: '{tensor.name}'"
            if not all(type(instance) is dict and tensor.name in instance for instance in instances):
                raise invalid("TensorMissing", f"{where} must be in each of them, which are objects by tensor name")
            values = [instance[tensor.name] for instance in instances]
        shape, inner = [len(values)], values[0]
        while type(inner) is list and len(shape) < len(tensor.shape):
            shape.append(len(inner))
            inner = inner[0] if inner else None
        fits = len(shape) == len(tensor.shape) and all(
            found == size or (size < 0 and found > 0) for found, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            raise invalid(
                "ShapeMismatch", f"{where}: must be nested as shape {list(tensor.shape)} says, where -1 is at least 1"
            )
        flat = tensors.flatten(values, shape, where)
        if tensor.datatype == "BYTES":
            return tensors.strings(flat, "BYTES", where, lambda _: True).reshape(shape)
        return _numbers(flat, tensor.datatype, where, lambda _: False).reshape(shape)


def _nameless(signature: Signature) -> list[Column]:
    """The columns of a matrix whose features have no names."""
    return [Column(f"{index}", index, signature.datatype, False) for index in range(signature.width)]


def _row(instance: Any, index: int, columns: list[Column]) -> list[Any]:
    """The values of an instance, in the order of `columns`."""
    if type(instance) is list:
        if len(instance) != len(columns):
            raise invalid(
                "ShapeMismatch",
                f"instances[{index}]: has {len(instance)} values, but the model has {len(columns)} columns; see its"
                " metadata",
            )
        return instance
    if type(instance) is dict:
        found = sum(column.name in instance for column in columns)
        if len(instance) > found:
            raise invalid(
                "TensorUnknown", f"instances[{index}]: has a column that is not the model's; see its metadata"
            )
        for column in columns:
            if column.name not in instance and not column.missing:
                raise invalid("TensorMissing", f"instances[{index}]: column '{column.name}' is missing; send it")
        return [instance.get(column.name) for column in columns]
    if len(columns) == 1:
        return [instance]
    raise invalid(
        "DataInvalid", f"instances[{index}]: must be a list of {len(columns)} values, or an object by column name"
    )


def _values(column: Column, values: list[Any]) -> Array:
    where = f"instances, column '{column.name}'"
    if column.datatype == "BYTES":
        return tensors.strings(values, "BYTES", where, lambda _: column.missing)
    return _numbers(values, column.datatype, where, lambda _: column.missing)


def _numbers(values: list[Any], datatype: str, where: str, missing: tensors.Missing) -> Array:
    if datatype != "BOOL" and bool in set(map(type, values)):
        values = [int(value) if type(value) is bool else value for value in values]
    declared = "FP64" if datatype.startswith("FP") else datatype
    return tensors.numbers(values, declared, datatype, where, missing)


def _by_row(array: Array, rows: int) -> list[Any]:
    if array.ndim == 0 or len(array) != rows:
        raise invalid("RowsUnknown", "the model's outputs do not belong to rows; use V2")
    # A regressor's [rows, 1] is one number for each row.
    values: list[Any] = (array.reshape(rows) if array.size == rows else array).tolist()
    return values
