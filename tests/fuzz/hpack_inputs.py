"""Blocks of headers to fuzz the decoder of HPACK with; the package hpack is its oracle."""

import functools
from random import Random

import hpack as reference
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from modelmill_server.hpack import TABLE_SIZE, Decoder, HpackError

from .inputs import damaged

_LIMIT = 1 << 14  # bytes of headers
_STATIC = 61  # entries
_HUFFMAN = reference.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_NAMES = [b":path", b":method", b":status", b"content-type", b"te", b"grpc-timeout", b"x", b""]
_VALUES = [b"POST", b"trailers", b"application/grpc", b"200", b"", b"\0\xff\r\n", bytes(range(256)), b"v" * 127]
# The static table's entries that requests name: index by name, or by name and value.
_INDEXED = {(b":method", b"POST"): 3, (b":scheme", b"http"): 6, b":path": 4, b"content-type": 31, b":method": 2}

Header = tuple[bytes, bytes]


class Encoder:
    """Writes headers in all forms that HPACK has, chosen at random, and knows its own table."""

    def __init__(self) -> None:
        self._table: list[Header] = []  # the newest first; nothing is evicted while it is small

    def encode(self, r: Random, headers: list[Header]) -> bytes:
        return b"".join(self._one(r, header) for header in headers)

    def _one(self, r: Random, header: Header) -> bytes:
        if header in self._table and r.random() < 0.9:
            return integer(_STATIC + 1 + self._table.index(header), 7, 0x80)
        if header in _INDEXED and r.random() < 0.9:
            return integer(_INDEXED[header], 7, 0x80)
        name, value = header
        index = _INDEXED.get(name, 0) if r.random() < 0.7 else 0
        rest = (b"" if index else text(r, name)) + text(r, value)
        form = r.random()
        if form < 0.5 and len(self._table) < 20 and len(name) + len(value) < 150:  # 20 of them fit in the table
            self._table.insert(0, header)
            return integer(index, 6, 0x40) + rest
        return integer(index, 4, 0x10 if form > 0.9 else 0) + rest


def integer(value: int, bits: int, first: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, value = bytearray((first | most,)), value - most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(r: Random, value: bytes) -> bytes:
    """A string, compressed or not."""
    if r.random() < 0.5:
        return integer(len(value), 7, 0) + value
    packed = _packed(value)
    return integer(len(packed), 7, 0x80) + packed


@functools.lru_cache(maxsize=1000)
def _packed(value: bytes) -> bytes:
    found: bytes = _HUFFMAN.encode(value)
    return found


def check(r: Random) -> str:
    """Decode a few blocks, as a connection does, and compare what they mean; how it ended.

    AssertionError where the headers are others than the oracle's, or where the table is not what it may be.
    """
    ours: Decoder[dict[bytes, bytes]] = Decoder(lambda headers: headers, _LIMIT)
    theirs = reference.Decoder()
    encoder, blocks = Encoder(), list[bytes]()
    for _ in range(r.choice([1, 1, 2, 4])):
        blocks.append(damaged(r, _block(r, encoder)))
        if r.random() < 0.3:
            blocks.append(r.choice(blocks))
    if r.random() < 0.01:
        blocks += [integer(0, 4, 0) + text(r, b"n%d" % number) + text(r, b"") for number in range(70)]
    for block in blocks:
        try:
            found = ours.decode(block)
        except HpackError as error:
            assert str(error)  # noqa: PT017 - the connection ends, whatever the oracle says
            return "refused"
        expected = dict(tuple(header) for header in theirs.decode(block, raw=True))
        assert found == expected, block
        assert ours._size == sum(len(name) + len(value) + 32 for name, value in ours._entries)  # noqa: SLF001
        assert ours._size <= TABLE_SIZE  # noqa: SLF001
        assert len(ours._known) <= 64  # noqa: SLF001
    return "decoded"


def _block(r: Random, encoder: Encoder) -> bytes:
    parts = []
    if r.random() < 0.1:
        parts.append(integer(r.choice([0, 30, 31, 100, 4096, 4097, 1 << 27, 1 << 40]), 5, 0x20))
    parts.append(encoder.encode(r, [(_name(r), _value(r)) for _ in range(r.randint(0, 5))]))
    parts += [_odd(r) for _ in range(r.choice([0, 0, 0, 1, 2]))]
    return b"".join(parts)


def _name(r: Random) -> bytes:
    return r.choice(_NAMES) if r.random() < 0.9 else r.randbytes(r.randint(0, 40))


def _value(r: Random) -> bytes:
    if r.random() < 0.02:
        return b"v" * r.choice([1000, 4000, 4096, 5000])
    return r.choice(_VALUES) if r.random() < 0.8 else r.randbytes(r.randint(0, 40))


def _odd(r: Random) -> bytes:
    """What an encoder would rarely or never write."""
    match r.randint(0, 7):
        case 0:
            return integer(r.choice([0, 1, 61, 62, 63, 70, 127, 128, 1 << 20]), 7, 0x80)
        case 1:
            return integer(r.choice([0, 1, 61, 62, 63, 70, 1 << 20]), 6, 0x40) + text(r, _value(r))
        case 2:
            return integer(r.choice([0, 31, 100, 4096]), 5, 0x20)  # in the middle
        case 3:
            return b"\x00" + integer(r.choice([1, 5, 1 << 16]), 7, r.choice([0, 0x80])) + r.randbytes(r.randint(0, 9))
        case 4:
            return r.choice([b"\xff", b"\x7f", b"\x0f", b"\x3f"]) + b"\xff" * r.randint(0, 6)
        case 5:
            return integer(0, 6, 0x40) + text(r, b"a") + text(r, b"v" * 4000) + b"\xbe" * r.choice([1, 3, 300])
        case 6:
            return r.randbytes(r.randint(1, 9))
        case _:  # a compressed string with other bits at its end, or without one
            packed = _packed(_value(r)) + r.choice([b"\xff", b"\x00", b"\xff\xff\xff\xff", b"\xfe"])
            return b"\x00" + text(r, b"n") + integer(len(packed), 7, 0x80) + packed
