"""HPACK against the package hpack, and what damaged blocks do."""

import hpack as reference
import pytest
from hpack.table import HeaderTable
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill_server import hpack
from modelmill_server.hpack import HpackError

names = st.sampled_from([b":path", b":method", b"content-type", b"te", b"grpc-timeout", b"x-1"]) | st.binary(max_size=9)
texts = st.sampled_from([b"POST", b"trailers", b"application/grpc", b""]) | st.binary(max_size=300)
blocks = st.lists(st.lists(st.tuples(names, texts, st.booleans()), max_size=8), max_size=20)


def decoder(limit: int = 1 << 20) -> "hpack.Decoder[dict[bytes, bytes]]":
    return hpack.Decoder(lambda headers: headers, limit)


def test_the_static_table() -> None:
    for index, header in enumerate(HeaderTable.STATIC_TABLE, 1):
        assert decoder().decode(bytes((0x80 | index,))) == dict([tuple(header)])


@settings(max_examples=300, deadline=None)
@given(blocks, st.booleans(), st.sampled_from([4096, 200, 0]))
def test_what_the_reference_encodes_is_decoded(
    sent: list[list[tuple[bytes, bytes, bool]]], huffman: bool, size: int
) -> None:
    encoder, ours = reference.Encoder(), decoder()
    for number, headers in enumerate([*sent, *sent[-1:], *sent[-1:]]):
        if number == 1:
            encoder.header_table_size = size
        sensitive = [reference.NeverIndexedHeaderTuple(n, v) if s else (n, v) for n, v, s in headers]
        assert ours.decode(encoder.encode(sensitive, huffman)) == {name: value for name, value, _ in headers}


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_mean_what_they_mean_to_the_reference_or_are_refused(sent: list[bytes]) -> None:
    theirs, ours = reference.Decoder(), decoder()
    for block in sent:
        try:
            expected = dict(map(tuple, theirs.decode(block, raw=True)))
        except reference.HPACKError:
            expected = None
        try:
            found = ours.decode(block)
        except HpackError:
            return  # stricter about numbers that no peer sends
        assert found == expected


def test_only_small_blocks_are_remembered() -> None:
    made: list[dict[bytes, bytes]] = []
    ours = hpack.Decoder(lambda headers: made.append(headers) or headers, 1 << 20)  # type: ignore[func-returns-value]
    for size, times in ((100, 1), (15_000, 3)):
        made.clear()
        block = hpack.encode((b"a", bytes(size)))
        assert [ours.decode(block) for _ in range(3)] == [{b"a": bytes(size)}] * 3
        assert len(made) == times


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, texts), max_size=8))
def test_what_is_encoded_is_what_the_reference_decodes(headers: list[tuple[bytes, bytes]]) -> None:
    block = hpack.encode(*headers)
    assert [tuple(header) for header in reference.Decoder().decode(block, raw=True)] == headers


def test_headers_over_the_limit_do_not_fit() -> None:
    large = hpack.encode((b"a", b"b" * 100))
    assert decoder(133).decode(large)
    with pytest.raises(HpackError):
        decoder(132).decode(large)
    # One byte for each repetition of a large entry: a bomb.
    bomb = reference.Encoder().encode([(b"a", b"b" * 4000)]) + b"\xbe" * 10_000
    with pytest.raises(HpackError):
        decoder(16_384).decode(bomb)
