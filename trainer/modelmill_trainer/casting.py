"""Casting: a column as it was read to one of the five types, with the rows that cannot be cast.

Float      float64; NaN and infinity are refused where the column is declared
Integer    int64; exactly: of decimals as of text, and of floats only as far as these hold every whole number
String     UTF-8
Boolean    true/false in any case, 1/0
Timestamp  microseconds since 1970 in UTC; ISO 8601 in text, UTC where no offset is given
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ARROW_TYPES: dict[str, pa.DataType] = {
    "Float": pa.float64(),
    "Integer": pa.int64(),
    "String": pa.string(),
    "Boolean": pa.bool_(),
    "Timestamp": pa.timestamp("us", tz="UTC"),
}
RULES = {
    "Float": ("NotNumeric", "are not numbers"),
    "Integer": ("NotInteger", "are not whole numbers of 64 bits"),
    "String": ("NotText", "are not text"),
    "Boolean": ("NotBoolean", "are neither true nor false"),
    "Timestamp": ("NotTimestamp", "are not ISO 8601 times of at most microseconds"),
}
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"
_WHOLE = r"^[+-]?[0-9]{1,18}(\.0*)?$"
_PARSED = {
    "Float": (pa.float64(),),
    "Integer": (pa.int64(),),
    "Timestamp": (pa.timestamp("us"), ARROW_TYPES["Timestamp"]),  # all without an offset, or all with one
}
_EXACT = 2.0**53  # from here on a double stands for several whole numbers
_FIRST_TIME = -62_135_596_800_000_000  # of the year 1 in microseconds: there is no year 0
# What a type is inferred from is stricter than what it may be declared as: 1.0 is a Float, 1 an Integer.
_STRICTER = {"Integer": r"^([+-]?[0-9]+)?$", "Boolean": r"(?i)^(true|false|)$"}


class Cast(NamedTuple):
    values: pa.Array  # of the asked type; null where the cast failed
    bad: pa.Array | None  # Boolean: rows that cannot be cast; None: there are none


def type_of(kind: pa.DataType) -> str | None:
    """The type that a column has as it is stored; None where it is none of the five."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "Boolean"
    if pa.types.is_integer(kind):
        return "Integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or is_numeric(kind):
        return "Float"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "Timestamp"
    return "String" if _is_text(kind) or pa.types.is_null(kind) else None


def is_numeric(kind: pa.DataType) -> bool:
    """Whether it is PostgreSQL's numeric, which has no bounds and comes as text."""
    return bool(isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric")


def cast(column: pa.Array, name: str) -> Cast:
    """The column as type `name` (a key of ARROW_TYPES)."""
    if column.type.equals(ARROW_TYPES[name]):
        return _text(column) if name == "String" else _whole(column)
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if is_numeric(column.type) and name in ("Float", "Integer"):
        column = column.storage
    if _is_text(column.type):
        if name == "String":  # of another layout
            return _text(pc.cast(column, pa.string()))
        parsed = _parsed(column, name)
        if parsed is not None:
            return _whole(parsed)
        text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        return _TEXT[name](pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text))
    if pa.types.is_null(column.type):
        return _whole(pc.cast(column, ARROW_TYPES[name]))
    return _typed(column, name)


def can_be(column: pa.Array, name: str) -> bool:
    """Whether every value of a text column looks like type `name`, which nobody declared."""
    if _parsed(column, name) is not None:
        return True
    if name in _STRICTER and pc.any(_unlike(pc.utf8_trim_whitespace(column), _STRICTER[name])).as_py():
        return False
    bad = cast(column, name).bad
    return bad is None or not pc.any(bad).as_py()


def _parsed(column: pa.Array, name: str) -> pa.Array | None:
    """The values where Arrow's own parser takes all of them, and takes them as we do; None: ask value by value.

    What it takes and we do not: hexadecimal numbers, NaN by more names, the year 0.  It is several times faster.
    """
    for kind in _PARSED.get(name, ()):
        try:
            values = pc.cast(column, kind)
        except pa.ArrowInvalid:
            continue
        if name == "Timestamp":
            values = _in_utc(values)
            first = pc.min(pc.cast(values, pa.int64())).as_py()
            return values if first is None or first >= _FIRST_TIME else None
        if name == "Float":
            return values if math.isfinite(pc.sum(values).as_py() or 0.0) else None
        return None if pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py() else values
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(column: pa.Array) -> Cast:
    """Parquet may say text of what is not UTF-8, and nobody looks when it is read."""
    if _is_ascii(column):
        return _whole(column)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return _by_row(column.view(pa.binary()), bytes.decode, pa.string())
    return _whole(column)


def _is_ascii(column: pa.Array) -> bool:
    """Whether no byte of the texts, nor of what lies under missing ones, is above 127.

    The bytes are looked at as one, which is 50 times as fast as text by text.
    """
    _, offsets, content = column.buffers()
    if content is None or not len(column):
        return True
    ends = np.frombuffer(offsets, np.int32)
    found = np.frombuffer(content, np.uint8)[ends[column.offset] : ends[column.offset + len(column)]]
    return not len(found) or bool(found.max() < 128)


def _whole(values: pa.Array) -> Cast:
    return Cast(values, None)


def _unlike(column: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.invert(pc.match_substring_regex(column, pattern)), False)


def _without(column: pa.Array, bad: pa.Array) -> pa.Array:
    return pc.if_else(bad, pa.scalar(None, column.type), column)


def _floats(text: pa.Array) -> Cast:
    bad = pc.and_(_unlike(text, _NUMBER), _unlike(text, _NOT_FINITE))
    good = pc.replace_substring_regex(_without(text, bad), r"^\+", "")
    return Cast(pc.cast(good, pa.float64()), bad)


def _integers(text: pa.Array) -> Cast:
    odd = _unlike(text, _WHOLE)
    if pc.any(odd).as_py():  # 19 digits, or not a number: exact and rare
        return _by_row(text, _integer, pa.int64())
    return _whole(pc.cast(pc.replace_substring_regex(text, r"^\+|\.0*$", ""), pa.int64()))


def _integer(text: str) -> int:
    head, _, tail = text.partition(".")
    value = int(head)
    if tail.strip("0") or "_" in head or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _booleans(text: pa.Array) -> Cast:
    lower = pc.utf8_lower(text)
    values = pc.is_in(lower, value_set=pa.array(["true", "1"]))
    bad = pc.fill_null(pc.invert(pc.is_in(lower, value_set=pa.array(["true", "1", "false", "0"]))), False)
    bad = pc.and_(bad, pc.is_valid(text))
    return Cast(pc.if_else(pc.and_(pc.is_valid(text), pc.invert(bad)), values, pa.scalar(None, pa.bool_())), bad)


def _timestamps(text: pa.Array) -> Cast:
    return _by_row(text, _timestamp, ARROW_TYPES["Timestamp"])


def _timestamp(text: str) -> datetime:
    if len(text) < 10 or text[4] != "-":
        raise ValueError  # 20240101 is a number to everybody else
    fraction = text.partition(".")[2]
    digits = len(fraction) - len(fraction.lstrip("0123456789"))
    if digits > 6:
        raise ValueError
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_TEXT: dict[str, Callable[[pa.Array], Cast]] = {
    "Float": _floats,
    "Integer": _integers,
    "Boolean": _booleans,
    "Timestamp": _timestamps,
}


def _by_row(column: pa.Array, convert: Callable[[Any], Any], kind: pa.DataType) -> Cast:
    values, bad = [], []
    for value in column.to_pylist():
        try:
            values.append(None if value is None else convert(value))
            bad.append(False)
        except (ValueError, OverflowError):
            values.append(None)
            bad.append(True)
    return Cast(pa.array(values, kind), pa.array(bad, pa.bool_()))


def _typed(column: pa.Array, name: str) -> Cast:
    found, wanted = type_of(column.type), ARROW_TYPES[name]
    if found == name and name != "Timestamp":
        if pa.types.is_uint64(column.type):
            bad = pc.fill_null(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())), False)
            return Cast(pc.cast(_without(column, bad), wanted), bad)
        return _whole(pc.cast(column, wanted, safe=False))
    if found == name:
        return _times(column)
    if name == "Float" and found == "Integer":
        return _whole(pc.cast(column, wanted, safe=False))
    if name == "Integer" and pa.types.is_decimal(column.type):
        return _of_decimals(column)
    if name == "Integer" and pa.types.is_floating(column.type):
        numbers = pc.cast(column, pa.float64(), safe=False)
        # NaN fails every comparison, and so is bad.
        good = pc.and_(pc.less(pc.abs(numbers), _EXACT), pc.equal(numbers, pc.floor(numbers)))
        bad = pc.fill_null(pc.invert(good), False)
        return Cast(pc.cast(_without(numbers, bad), wanted), bad)
    if name == "Boolean" and found == "Integer":
        bad = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array([0, 1], column.type))))
        return Cast(pc.equal(_without(column, bad), pa.scalar(1, column.type)), bad)
    if name == "String" and found in ("Integer", "Boolean"):
        return _whole(pc.cast(column, wanted))
    return Cast(pa.nulls(len(column), wanted), pc.is_valid(column))


def _of_decimals(column: pa.Array) -> Cast:
    try:
        return _whole(pc.cast(column, pa.int64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a fraction, or more than 64 bits: which, and where?
        return _by_row(column, _of_decimal, pa.int64())


def _of_decimal(number: Decimal) -> int:
    value = int(number)
    if value != number or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _times(column: pa.Array) -> Cast:
    kind = column.type
    if pa.types.is_date(kind):
        column = pc.cast(column, pa.timestamp("us"))
    elif kind.unit == "ns":
        micro = pc.cast(column, pa.timestamp("us", tz=kind.tz), safe=False)
        bad = pc.fill_null(pc.not_equal(pc.cast(micro, kind), column), False)
        return Cast(_in_utc(_without(micro, bad)), bad)
    return _whole(_in_utc(pc.cast(column, pa.timestamp("us", tz=column.type.tz))))


def _in_utc(column: pa.Array) -> pa.Array:
    # A time without a zone is taken as UTC; one with a zone is an instant already.
    if column.type.tz is None:
        return pc.assume_timezone(column, "UTC")
    return pc.cast(column, ARROW_TYPES["Timestamp"])
