"""Text to values: what Arrow's parser takes at once is what is taken value by value."""

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelmill_trainer import casting

_NUMBERS = st.text("0123456789+-.eExXnaiftyINF _", max_size=12)
_TIMES = st.one_of(
    st.text("0123456789-:T.Z+ ", max_size=30),
    st.builds(
        "{}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
        st.integers(1, 9999).map("{:04}".format),
        st.integers(0, 13),
        st.integers(0, 32),
        st.sampled_from(["T", " ", "t", "_"]),
        st.integers(0, 24),
        st.integers(0, 60),
        st.integers(0, 61),
        st.sampled_from(["", ".1", ".123456", ".1234567", ".", ",5"]),
        st.sampled_from(["", "Z", "z", "+01:00", "-0530", "+01", "+01:00:30", "+25:00"]),
    ),
    st.dates().map(str),
    st.datetimes().map(str),
)


def _slow(texts: list[str | None], name: str) -> tuple[list[Any], list[bool]]:
    """Beside a value that Arrow's parser does not take, each is looked at by itself."""
    found = casting.cast(pa.array([*texts, "no such value"]), name)
    assert found.bad is not None
    return found.values.to_pylist()[:-1], found.bad.to_pylist()[:-1]


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(["Float", "Integer"]), st.lists(st.one_of(st.none(), _NUMBERS), max_size=3))
@example("Float", ["0x1p3"])
@example("Integer", ["0x1F"])
@example("Float", ["nan", "-infinity", "1e999", "1.", ".5", "-.5e-3"])
@example("Integer", ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "007"])
def test_numbers(name: str, texts: list[str | None]) -> None:
    _both_ways(name, texts)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.one_of(st.none(), _TIMES), max_size=3))
def test_times(texts: list[str | None]) -> None:
    _both_ways("Timestamp", texts)


def _both_ways(name: str, texts: list[str | None]) -> None:
    fast = casting.cast(pa.array(texts, pa.string()), name)
    values, bad = _slow(texts, name)
    assert (fast.bad.to_pylist() if fast.bad is not None else [False] * len(texts)) == bad
    for one, other in zip(fast.values.to_pylist(), values, strict=True):
        assert one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (["1", "2"], ["Integer", "Float"]),
        (["1.0", "2"], ["Float"]),
        (["0x1F"], []),
        (["true"], ["Boolean"]),
        (["1", "true"], []),
        (["2026-01-01", "2026-01-01T00:00:00Z"], ["Timestamp"]),
        (["20260101"], ["Integer", "Float"]),
    ],
)
def test_what_text_looks_like(texts: list[str], kinds: list[str]) -> None:
    names = ["Integer", "Float", "Boolean", "Timestamp"]
    assert [name for name in names if casting.can_be(pa.array(texts), name)] == kinds


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=4).map(str.encode) | st.binary(max_size=3), max_size=20),
    st.integers(0, 5),
    st.integers(0, 20),
)
@example([b"a", b"\xff", b"b"], 0, 1)  # what is not text lies outside of the slice
@example([b"\xff", b"a"], 1, 1)
@example(["\u00e9".encode()[:1], "\u00e9".encode()[1:]], 0, 2)  # together it is text
def test_texts_are_text_where_each_of_them_is(content: list[bytes | None], start: int, length: int) -> None:
    column = pa.array(content, pa.binary()).view(pa.string()).slice(start, length)
    found = casting.cast(column, "String")
    wanted, bad = [], []
    for value in content[start : start + length]:
        try:
            wanted.append(None if value is None else value.decode())
            bad.append(False)
        except UnicodeDecodeError:
            wanted.append(None)
            bad.append(True)
    assert found.values.to_pylist() == wanted
    assert (found.bad.to_pylist() if found.bad is not None else [False] * len(wanted)) == bad
