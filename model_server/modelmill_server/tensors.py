"""JSON values and raw bytes to arrays: every check that a tensor needs, with its refusal; and arrays to raw bytes.

`where` is the place in the request that messages start with: a tensor, e.g. `inputs[0]`, for what is about its
shape, and its values, e.g. `inputs[0].data`, for what is about them.
"""

import struct
import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelmill_server.errors import RefusedError, invalid
from modelmill_server.signature import DATATYPES, NUMPY_TYPES

Array = NDArray[Any]
Missing = Callable[[int], bool]  # whether value i may be missing

MAX_RANK = 8
_MAX_ELEMENTS = 1 << 40  # more than any body holds
_NUMBERS = {int, float}
# The JSON types that may stand for a datatype.
_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "BOOL": ({bool, int}, "true and false"),
    "BYTES": ({str}, "strings"),
    **{name: (_NUMBERS, "numbers") for name in NUMPY_TYPES if name not in ("BOOL", "BYTES", "FP16")},
}


# On the wire, whatever the machine's own order is.
_WIRE_TYPES = {name: np.dtype(kind).newbyteorder("<") for name, kind in NUMPY_TYPES.items() if name != "BYTES"}
_LITTLE_ENDIAN = sys.byteorder == "little"
_LENGTH = struct.Struct("<I")  # before each element of BYTES


def count(shape: Sequence[int], where: str) -> int:
    """How many elements `shape` means, in Python's integers: it may be anything."""
    if len(shape) > MAX_RANK or any(dimension < 0 for dimension in shape):
        raise invalid("ShapeMismatch", f"{where}.shape: must be at most {MAX_RANK} sizes, none negative; mend it")
    elements = prod(shape)
    if elements > _MAX_ELEMENTS:
        raise invalid("ShapeMismatch", f"{where}.data: has fewer values than its shape means; make them agree")
    return elements


def flatten(data: Any, shape: Sequence[int], where: str) -> list[Any]:
    """The elements of `data`, nested as `shape` says or flat, in row-major order."""
    elements = count(shape, where)
    if not isinstance(data, list):
        raise invalid("DataInvalid", f"{where}.data: must be a JSON array; send the tensor's values as one")
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


def numbers(values: list[Any], declared: str, wanted: str, where: str, missing: Missing) -> Array:
    """`values` of datatype `declared` as a flat array of datatype `wanted`, both numeric.

    `missing(i)` tells whether value i may be null, which becomes NaN.
    """
    _require_number(declared, wanted, where)
    _check_types(values, declared, where, missing)
    if declared not in ("FP32", "FP64"):
        _check_integers(values, declared, where)
    kind = np.dtype(NUMPY_TYPES[wanted]).kind
    if kind == "f":
        return _floats(values, wanted, where)
    if any(value is None for value in values):
        raise invalid("MissingValue", f"{where}: holds null, but {wanted} has no missing value; fill it in")
    _check_integers(values, wanted, where)
    return np.array([int(value) for value in values], NUMPY_TYPES[wanted])


def strings(values: list[Any], declared: str, where: str, missing: Missing) -> Array:
    """`values` as a flat array of str.  A missing value is null or "", and "" in the array."""
    if declared != "BYTES":
        raise invalid("DatatypeMismatch", f"{where}: its datatype must be BYTES (strings), as in the model's metadata")
    _check_types(values, declared, where, missing)
    array = np.empty(len(values), np.object_)
    for index, value in enumerate(values):
        if not value and not missing(index):
            raise invalid("MissingValue", f"{where}: value {index} is empty, but this feature must not be missing")
        array[index] = value or ""
    return array


def raw_numbers(
    raw: bytes | memoryview, elements: int, declared: str, wanted: str, where: str, missing: Missing
) -> Array:
    """The `elements` little-endian values in `raw`, as `numbers` gives them.  A missing value is NaN.

    The array may be read-only, and share the memory of `raw`.
    """
    _require_number(declared, wanted, where)
    kind, target = _WIRE_TYPES[declared], np.dtype(NUMPY_TYPES[wanted])
    if len(raw) != elements * kind.itemsize:
        raise _size_mismatch(where, len(raw), f"{elements} values of {declared} have {elements * kind.itemsize}")
    array: Array = np.frombuffer(raw, kind)
    if kind.kind == "b":
        _require(array.view(np.uint8) <= 1, where, "must be the byte 0 or 1, as BOOL is")
    if kind.kind == "f":
        _check_finite(array, wanted, where, missing)
    if target.kind == "f":
        return _narrowed(array, wanted, where)
    if kind != target:
        _check_whole(array, wanted, where)
    # What the runtime reads must lie where its numbers may.
    return array if kind == target and array.flags.aligned else array.astype(target)


def raw_strings(raw: bytes | memoryview, elements: int, where: str) -> list[str]:
    """The `elements` texts in `raw`, each of them a little-endian uint32 length and that many bytes of UTF-8."""
    size, position = len(raw), 0
    if elements * _LENGTH.size > size:
        raise _size_mismatch(where, size, f"{elements} values have at least {elements * _LENGTH.size}")
    values = []
    for index in range(elements):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(raw, position)[0] if start <= size else size + 1
        if position > size:
            raise _size_mismatch(where, size, f"value {index} goes on behind them")
        try:
            values.append(str(raw[start:position], "utf-8"))
        except UnicodeDecodeError as error:
            raise invalid("DataInvalid", f"{where}: value {index} is not text in UTF-8; encode it") from error
    if position != size:
        raise _size_mismatch(where, size, f"its {elements} values end after {position}")
    return values


def to_raw(array: Array, datatype: str) -> bytes:
    """The elements of `array` as they are on the wire, row-major."""
    if datatype != "BYTES":
        return array.tobytes() if _LITTLE_ENDIAN else array.byteswap().tobytes()
    encoded = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]
    return b"".join([part for value in encoded for part in (_LENGTH.pack(len(value)), value)])


def check_datatype(declared: str, where: str, *, raw: bool = False) -> None:
    if declared == "FP16" and not raw:
        raise invalid("DatatypeMismatch", f"{where}.datatype: FP16 has no JSON form; send FP32, or binary data")
    if declared not in NUMPY_TYPES:
        raise invalid("DatatypeUnknown", f"{where}.datatype: unknown; use one of {DATATYPES}")


def _require_number(declared: str, wanted: str, where: str) -> None:
    if declared == "BYTES" or wanted == "BYTES":
        expected = "BYTES (strings)" if wanted == "BYTES" else f"a numeric one, best {wanted}"
        raise invalid("DatatypeMismatch", f"{where}: its datatype must be {expected}, as in the model's metadata")


def _size_mismatch(where: str, size: int, but: str) -> RefusedError:
    return invalid("BinarySizeMismatch", f"{where}: has {size} bytes of binary data, but {but}; make them agree")


def _require(good: Array, where: str, must: str) -> None:
    if not good.all():
        raise _out_of_range(where, int(good.argmin()), must)


def _check_finite(array: Array, wanted: str, where: str, missing: Missing) -> None:
    if np.isfinite(array).all():
        return
    _require(~np.isinf(array), where, f"must be finite and fit {wanted}")
    for index in np.flatnonzero(np.isnan(array)).tolist():
        if not missing(index):
            raise invalid("MissingValue", f"{where}: value {index} is NaN, but this feature must not be missing")
        if np.dtype(NUMPY_TYPES[wanted]).kind != "f":
            raise invalid("MissingValue", f"{where}: holds NaN, but {wanted} has no missing value; fill it in")


def _check_whole(array: Array, wanted: str, where: str) -> None:
    """Each number, finite or NaN-free, is a whole one that fits `wanted`."""
    low, high = (0, 1) if wanted == "BOOL" else _bounds(wanted)
    if array.dtype.kind == "f":
        _require(array == np.floor(array), where, f"must be a whole number, as {wanted} is")
        # high + 1 is a power of two, and so exact; high itself need not be.
        wide = array.astype(np.float64)
        _require((wide >= float(low)) & (wide < float(high + 1)), where, f"must be {low} to {high}, as {wanted} is")
    elif array.dtype.kind != "b":
        _require((array >= low) & (array <= high), where, f"must be {low} to {high}, as {wanted} is")


def _narrowed(array: Array, wanted: str, where: str) -> Array:
    target = np.dtype(NUMPY_TYPES[wanted])
    if array.dtype == target and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(target)
    if np.isinf(narrow).any():
        raise _not_finite(wanted, where)
    return narrow


def _check_types(values: list[Any], declared: str, where: str, missing: Missing) -> None:
    allowed, name = _JSON_TYPES[declared]
    found = set(map(type, values))
    if found <= allowed:
        return
    for index, value in enumerate(values):
        if value is None and not missing(index):
            raise invalid("MissingValue", f"{where}: value {index} is null, but this feature must not be missing")
        if value is not None and type(value) not in allowed:
            raise invalid(
                "DataInvalid",
                f"{where}: value {index} has the wrong JSON type; {declared} data are {name}",
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
    if np.isinf(array).any():
        raise _not_finite(wanted, where)
    return _narrowed(array, wanted, where)


def _not_finite(wanted: str, where: str) -> RefusedError:
    return _out_of_range(where, None, f"must be finite and fit {wanted}")


def _out_of_range(where: str, index: int | None, must: str) -> RefusedError:
    which = "every value" if index is None else f"value {index}"
    return invalid("ValueOutOfRange", f"{where}: {which} {must}; mend it")
