"""HPACK (RFC 7541), the headers of HTTP/2: what a server of small requests needs, in few steps.

A client sends the same block for request after request once its headers stand in the dynamic table.  What a block means
depends on nothing but the table, so it is remembered until the table changes: then a block costs one look-up.
The package hpack takes 20 us for such a block and 35 us for one with a deadline, more than the prediction.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

TABLE_SIZE = 4096  # bytes of the dynamic table: the protocol's default, which is not changed
_OVERHEAD = 32  # bytes of a table's entry beside its name and its value
_REMEMBERED = 64  # blocks
_LARGEST = 512  # bytes of a block that is remembered: those of clients that index their headers have a few dozen

Header = tuple[bytes, bytes]
Made = TypeVar("Made")


class HpackError(Exception):
    """The block is not HPACK or too large.  The connection cannot go on: its table is lost."""


# RFC 7541, appendix A; the indices count from 1.
_STATIC: tuple[Header, ...] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control"
            b" content-disposition content-encoding content-language content-length content-location content-range"
            b" content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range"
            b" if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization"
            b" range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding"
            b" user-agent vary via www-authenticate"
        ).split()
    ),
)
_CONTENT_TYPE, _STATUS_200 = 31, 8


class Decoder(Generic[Made]):
    """One connection's decoder.  `make` turns a block's headers into what `decode` gives.

    A header that stands there twice has its last value.
    """

    __slots__ = ("_entries", "_known", "_limit", "_make", "_room", "_size")

    def __init__(self, make: Callable[[dict[bytes, bytes]], Made], limit: int) -> None:
        self._make = make
        self._limit = limit  # bytes of a block's headers, as the protocol counts them
        self._entries: deque[Header] = deque()
        self._size = 0
        self._room = TABLE_SIZE
        self._known: dict[bytes, Made] = {}

    def decode(self, block: bytes) -> Made:
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            headers, changed = self._headers(block)
        except IndexError as error:
            raise HpackError("a block ends within a header, or names one that is not there") from error
        made = self._make(dict(headers))
        if changed:
            self._known.clear()
        elif len(block) <= _LARGEST:
            if len(self._known) == _REMEMBERED:
                self._known.clear()
            self._known[block] = made
        return made

    def _headers(self, block: bytes) -> tuple[list[Header], bool]:
        """The headers of a block, and whether it changed the table."""
        headers: list[Header] = []
        at, end, size, changed = 0, len(block), 0, False
        while at < end:
            byte = block[at]
            at += 1
            if byte >= 0x80:  # indexed
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, index)
                header = self._entry(index)
            elif byte >= 0x40:  # to be indexed
                header, at = self._literal(block, at, byte & 0x3F, 0x3F)
                self._insert(header)
                changed = True
            elif byte >= 0x20:
                self._resize(block, at, byte & 0x1F, first=not headers)
                if byte & 0x1F == 0x1F:
                    _, at = _integer(block, at, 0x1F)
                changed = True
                continue
            else:
                header, at = self._literal(block, at, byte & 0x0F, 0x0F)
            headers.append(header)
            size += len(header[0]) + len(header[1]) + _OVERHEAD
            if size > self._limit:
                raise HpackError(f"the headers are over {self._limit} bytes")
        return headers, changed

    def _entry(self, index: int) -> Header:
        if index <= len(_STATIC):
            if not index:
                raise HpackError("there is no header 0")
            return _STATIC[index - 1]
        return self._entries[index - len(_STATIC) - 1]

    def _literal(self, block: bytes, at: int, index: int, most: int) -> tuple[Header, int]:
        if index == most:
            index, at = _integer(block, at, index)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _insert(self, header: Header) -> None:
        size = len(header[0]) + len(header[1]) + _OVERHEAD
        self._evict(self._room - size)
        if size <= self._room:
            self._entries.appendleft(header)
            self._size += size

    def _resize(self, block: bytes, at: int, room: int, *, first: bool) -> None:
        if room == 0x1F:
            room, _ = _integer(block, at, room)
        if room > TABLE_SIZE or not first:
            raise HpackError("a table cannot become that large, or not here")
        self._room = room
        self._evict(room)

    def _evict(self, room: int) -> None:
        while self._size > room and self._entries:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def encode(*headers: Header) -> bytes:
    """A block of literals that leaves the reader's table alone, so that it can be made once for all connections."""
    parts = []
    for name, value in headers:
        if (name, value) == (b":status", b"200"):
            parts.append(bytes((0x80 | _STATUS_200,)))
        elif name == b"content-type":
            parts.append(bytes((0x0F, _CONTENT_TYPE - 0x0F)) + literal(value))
        else:
            parts.append(b"\0" + literal(name) + literal(value))
    return b"".join(parts)


def literal(text: bytes) -> bytes:
    """A string, not compressed."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    head = bytearray((0x7F,))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + text


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("a number is too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    byte = block[at]
    at += 1
    size = byte & 0x7F
    if size == 0x7F:
        size, at = _integer(block, at, size)
    stop = at + size
    if stop > len(block):
        raise HpackError("a string ends outside of its block")
    text = block[at:stop]
    return (_huffman(text) if byte >= 0x80 else text), stop


# RFC 7541, appendix B, is a canonical code: the lengths of the codes are all of it.
_SYMBOLS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\0$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5"
    b"\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
    b"\xdc\xf9",
    30: b"\n\r\x16",
}


def _codes() -> tuple[list[tuple[int, int]], dict[tuple[int, int], int]]:
    """(symbol, length) by the next 8 bits, (0, 0) for longer codes; the longer ones by (length, code)."""
    short, long, code, before = [(0, 0)] * 256, {}, 0, 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - before
        before = length
        for symbol in symbols:
            if length <= 8:
                first = code << (8 - length)
                short[first : first + (1 << (8 - length))] = [(symbol, length)] * (1 << (8 - length))
            else:
                long[length, code] = symbol
            code += 1
    return short, long


_SHORT, _LONG = _codes()
_LENGTHS = sorted({length for length, _ in _LONG})


def _huffman(data: bytes) -> bytes:
    text, ahead, bits = bytearray(), 0, 0  # `ahead` are the `bits` that were read and not decoded
    for byte in data:
        ahead = ahead << 8 | byte
        bits += 8
        while bits >= 8:
            symbol, length = _SHORT[ahead >> (bits - 8)]
            if not length:
                symbol, length = _long(ahead, bits)
                if not length:
                    break
            bits -= length
            ahead &= (1 << bits) - 1
            text.append(symbol)
    while bits:
        symbol, length = _SHORT[(ahead << (8 - bits)) & 0xFF] if bits < 8 else (0, 0)
        if not length or length > bits:
            break
        bits -= length
        ahead &= (1 << bits) - 1
        text.append(symbol)
    if bits > 7 or ahead != (1 << bits) - 1:
        raise HpackError("a compressed string ends within a letter")
    return bytes(text)


def _long(ahead: int, bits: int) -> tuple[int, int]:
    """The symbol that starts `ahead` and the length of its code; (0, 0) where more bits are needed."""
    for length in _LENGTHS:
        if length > bits:
            return 0, 0
        symbol = _LONG.get((length, ahead >> (bits - length)))
        if symbol is not None:
            return symbol, length
    raise HpackError("a compressed string holds its own end")
