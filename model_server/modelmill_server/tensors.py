"""JSON values to arrays: every check that a tensor of the Open Inference Protocol needs, with its refusal.

`where` is the place in the request, e.g. `inputs[0]`; messages start with it.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelmill_server.errors import RefusedError, invalid
from modelmill_server.signature import DATATYPES, NUMPY_TYPES

Array = NDArray[Any]

_MAX_RANK = 8
_NUMBERS = {int, float}
# The JSON types that may stand for a datatype.
_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "BOOL": ({bool, int}, "true and false"),
    "BYTES": ({str}, "strings"),
    **{name: (_NUMBERS, "numbers") for name in NUMPY_TYPES if name not in ("BOOL", "BYTES", "FP16")},
}


def flatten(data: Any, shape: Sequence[int], where: str) -> list[Any]:
    """The elements of `data`, nested as `shape` says or flat, in row-major order."""
    if not 1 <= len(shape) <= _MAX_RANK or any(dimension < 0 for dimension in shape):
        raise invalid("ShapeMismatch", f"{where}.shape: must be 1 to {_MAX_RANK} sizes, none of them negative; mend it")
    if not isinstance(data, list):
        raise invalid("DataInvalid", f"{where}.data: must be a JSON array; send the tensor's values as one")
    elements = prod(shape)
    if not any(type(item) is list for item in data):
        if len(data) != elements:
            raise invalid(
                "ShapeMismatch",
                f"{where}.data: has {len(data)} values, but its shape means {elements}; make them agree",
            )
        return data
    level: list[Any] = [data]
    for dimension in shape:
        for item in level:
            if type(item) is not list or len(item) != dimension:
                raise invalid(
                    "ShapeMismatch",
                    f"{where}.data: is not nested as its shape says; nest it row by row, or send it flat",
                )
        level = [value for item in level for value in item]
    if any(type(item) is list for item in level):
        raise invalid("ShapeMismatch", f"{where}.data: is nested deeper than its shape says; make them agree")
    return level


def numbers(values: list[Any], declared: str, wanted: str, where: str, missing: Callable[[int], bool]) -> Array:
    """`values` of datatype `declared` as a flat array of datatype `wanted`, both numeric.

    `missing(i)` tells whether value i may be null, which becomes NaN.
    """
    if declared == "BYTES" or wanted == "BYTES":
        expected = "BYTES (strings)" if wanted == "BYTES" else f"a numeric one, best {wanted}"
        raise invalid("DatatypeMismatch", f"{where}.datatype: must be {expected}, as in the model's metadata")
    _check_types(values, declared, where, missing)
    if declared not in ("FP32", "FP64"):
        _check_integers(values, declared, where)
    kind = np.dtype(NUMPY_TYPES[wanted]).kind
    if kind == "f":
        return _floats(values, wanted, where)
    if any(value is None for value in values):
        raise invalid("MissingValue", f"{where}.data: holds null, but {wanted} has no missing value; fill it in")
    _check_integers(values, wanted, where)
    return np.array([int(value) for value in values], NUMPY_TYPES[wanted])


def strings(values: list[Any], declared: str, where: str, missing: Callable[[int], bool]) -> Array:
    """`values` as a flat array of str.  A missing value is null or "", and "" in the array."""
    if declared != "BYTES":
        raise invalid("DatatypeMismatch", f"{where}.datatype: must be BYTES (strings), as in the model's metadata")
    _check_types(values, declared, where, missing)
    array = np.empty(len(values), np.object_)
    for index, value in enumerate(values):
        if not value and not missing(index):
            raise invalid("MissingValue", f"{where}.data: value {index} is empty, but this feature must not be missing")
        array[index] = value or ""
    return array


def check_datatype(declared: str, where: str) -> None:
    if declared == "FP16":
        raise invalid("DatatypeMismatch", f"{where}.datatype: FP16 has no JSON form; send FP32")
    if declared not in NUMPY_TYPES:
        raise invalid("DatatypeUnknown", f"{where}.datatype: unknown; use one of {DATATYPES}")


def _check_types(values: list[Any], declared: str, where: str, missing: Callable[[int], bool]) -> None:
    allowed, name = _JSON_TYPES[declared]
    found = set(map(type, values))
    if found <= allowed:
        return
    for index, value in enumerate(values):
        if value is None and not missing(index):
            raise invalid("MissingValue", f"{where}.data: value {index} is null, but this feature must not be missing")
        if value is not None and type(value) not in allowed:
            raise invalid(
                "DataInvalid",
                f"{where}.data: value {index} has the wrong JSON type; {declared} data are {name}",
            )


def _check_integers(values: list[Any], datatype: str, where: str) -> None:
    low, high = (0, 1) if datatype == "BOOL" else _bounds(datatype)
    for index, value in enumerate(values):
        if value is None:
            continue
        if type(value) is float and not value.is_integer():
            raise _out_of_range(where, index, f"must be a whole number, as {datatype} is")
        if not low <= value <= high:
            raise _out_of_range(where, index, f"must be {low} to {high}, as {datatype} is")


def _bounds(datatype: str) -> tuple[int, int]:
    limits = np.iinfo(np.dtype(NUMPY_TYPES[datatype]))
    return int(limits.min), int(limits.max)


def _floats(values: list[Any], wanted: str, where: str) -> Array:
    try:
        array = np.array(values, np.float64)
    except OverflowError as error:
        raise _not_finite(wanted, where) from error
    with np.errstate(over="ignore"):
        narrow = array.astype(NUMPY_TYPES[wanted])
    if np.isinf(narrow).any():
        raise _not_finite(wanted, where)
    return narrow


def _not_finite(wanted: str, where: str) -> RefusedError:
    return _out_of_range(where, None, f"must be finite and fit {wanted}")


def _out_of_range(where: str, index: int | None, must: str) -> RefusedError:
    which = "every value" if index is None else f"value {index}"
    return invalid("ValueOutOfRange", f"{where}.data: {which} {must}; mend it")
