"""Segments of captured rows and labels: what is packed is unpacked, and what is no segment is refused."""

import gzip
from datetime import UTC, datetime, timedelta, timezone

import pytest

from modelmill_contracts import captured
from modelmill_contracts.captured import Label, LabelsHeader, Row, RowsHeader, SegmentError

OF = "0b7f6a3e-11aa-4c55-9f3e-0d1c5a1b2c3d"
AT = datetime(2026, 11, 29, 18, 22, 33, 45_999, tzinfo=UTC)
HEADER = RowsHeader("sha256:" + "a" * 64, "7", ("radius", "smoker"), (0, 1))
ROWS = [Row("x", 0, 1_764_440_553_045, (1.5, "no"), 1, (0.25, 0.75)), Row("x", 1, 1_764_440_553_045, (None, ""), 0)]


def test_rows_come_back() -> None:
    assert captured.unpack(captured.pack(HEADER, ROWS)) == (HEADER, ROWS)


def test_labels_come_back() -> None:
    labels = [Label("x", 0, 5, 1), Label("y", 3, 6, "malignant"), Label("z", 0, 7, True), Label("z", 1, 8, 0.5)]
    assert captured.unpack(captured.pack(LabelsHeader(), labels)) == (LabelsHeader(), labels)


def test_equal_segments_have_equal_bytes() -> None:
    assert captured.pack(HEADER, ROWS) == captured.pack(HEADER, list(ROWS))


def test_a_key_says_when_its_writing_began_and_whose_it_is() -> None:
    key = captured.key(OF, captured.LABELS, AT.astimezone(timezone(timedelta(hours=2))), "0c3f", 12)
    assert key == f"captured/{OF}/labels/20261129T182233.045Z-0c3f-000012.jsonl.gz"
    assert captured.parse_key(key) == (OF, "labels", AT.replace(microsecond=45_000), "0c3f")


def test_keys_are_in_the_order_of_time() -> None:
    times = [AT, AT + timedelta(milliseconds=1), AT + timedelta(seconds=7), AT + timedelta(days=40)]
    keys = [captured.key(OF, captured.ROWS, at, "ff", 999_999 - number) for number, at in enumerate(times)]
    assert keys == sorted(keys)
    assert keys[0] < captured.start_key(OF, captured.ROWS, times[1]) <= keys[1]


@pytest.mark.parametrize(
    "key",
    [
        "blobs/sha256-00",
        f"captured/{OF}/labels/20261129T182233.045Z-0c3f-12.jsonl.gz",
        f"captured/{OF}/other/20261129T182233.045Z-0c3f-000012.jsonl.gz",
        f"captured/{OF}/rows/20261329T182233.045Z-0c3f-000012.jsonl.gz",
        f"captured/{OF}/rows/20261129T182233.045Z-0c3f-000012.jsonl.gz.tmp",
    ],
)
def test_what_is_no_key_is_none(key: str) -> None:
    assert captured.parse_key(key) is None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_kept_whatever_ids_look_like(share: float) -> None:
    for ids in ([f"a1-{n:x}" for n in range(50_000)], [str(n) for n in range(50_000)]):
        kept = sum(captured.is_sampled(i, share) for i in ids) / len(ids)
        assert abs(kept - share) < 0.01 + 0.05 * share


def test_all_or_nothing_is_kept() -> None:
    ids = [f"{n}" for n in range(1000)]
    assert all(captured.is_sampled(i, 1.0) for i in ids)
    assert not any(captured.is_sampled(i, 0.0) for i in ids)


WHOLE = captured.pack(HEADER, ROWS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its end is missing"),
        (b"no gzip", "cannot be unpacked"),
        (WHOLE[:-9], "its end is missing"),
        (gzip.compress(b"", mtime=0), "its end is missing"),
        (gzip.compress(b"{}\n", mtime=0), "damaged"),
        (gzip.compress(b'{"segment":"labels","format":2}\n', mtime=0), "format 2"),
        (gzip.compress(b'{"segment":"labels"}\n["x",0]\n', mtime=0), "damaged"),
        (gzip.compress(b'{"segment":"labels"}\n["",0,1,1]\n', mtime=0), "damaged"),
        (gzip.compress(b'{"segment":"labels"}\n["\xff",0,1,1]\n', mtime=0), "damaged"),
        (captured.pack(HEADER, [Row("x", 0, 1, (1.0,), 1)]), "other columns"),
        (captured.pack(RowsHeader("sha256:a", "7", ("radius", "radius")), []), "two of its columns have one name"),
    ],
)
def test_what_is_no_segment_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SegmentError, match=said):
        captured.unpack(content)


def test_a_segment_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "MAX_UNPACKED", 1000)
    with pytest.raises(SegmentError, match="more than 1000 bytes"):
        captured.unpack(gzip.compress(b"\n" * 100_000, mtime=0))


def test_a_segment_is_read_record_by_record() -> None:
    content = gzip.compress(gzip.decompress(captured.pack(HEADER, ROWS)) + b'["x",0]\n')
    found = captured.opened(content)
    assert found.header == HEADER
    assert [next(found.records) for _ in ROWS] == ROWS
    with pytest.raises(SegmentError, match="damaged"):
        next(found.records)
