"""Formats: told by what a file holds; what cannot be read says so, and says what to write instead."""

import bz2
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from trainer_tasks import csv, run, snapshot, taken

from modelmill_contracts.report import Report
from modelmill_contracts.store import blob_key
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation
from modelmill_trainer import json_lines, sources

TEXT = b"i,f,s\n1,0.5,a\n2,,b\n"
LINES = b'{"i":1,"f":0.5,"s":"a"}\n{"i":2,"f":null,"s":"b"}\n'


def _take(store: StoreLocation, tmp_path: Path, content: bytes, **fields: object) -> Report:
    (tmp_path / "data").write_bytes(content)
    return run(SnapshotTask(store, str(tmp_path / "data"), **fields))


def _zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


@pytest.mark.parametrize("content", [TEXT, LINES], ids=["csv", "json lines"])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, _zstd], ids=["gzip", "bz2", "zstd"])
def test_compressed_files_are_told_by_their_content(
    store: StoreLocation, tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "plain.csv").write_bytes(TEXT)
    (tmp_path / "named-anything").write_bytes(pack(content))
    assert snapshot(store, tmp_path / "named-anything") == snapshot(store, tmp_path / "plain.csv")


def test_a_file_of_several_compressed_parts(store: StoreLocation, tmp_path: Path) -> None:
    # As log shippers append them.
    (tmp_path / "appended").write_bytes(gzip.compress(TEXT) + gzip.compress(b"3,1,c\n"))
    assert snapshot(store, tmp_path / "appended").rows == 3


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (
            gzip.compress(TEXT, mtime=0)[:-9],
            "EncodingInvalid",
            (
                "the source is compressed (gzip), but cannot be unpacked, so it is neither Parquet nor text;"
                " write it again"
            ),
        ),
        (
            b"i;f;s\n1;0,5;a\n2;0,7;b\n",
            "DelimiterUnexpected",
            "the source looks like CSV with semicolons between the fields; write commas, and decimal points",
        ),
        (
            b"i\tf\n1\t2\n",
            "DelimiterUnexpected",
            "the source looks like CSV with tabs between the fields; write commas, and decimal points",
        ),
        (
            b'\n"a;b";"c"\n"1;;";"2"\n',
            "DelimiterUnexpected",
            "the source looks like CSV with semicolons between the fields; write commas, and decimal points",
        ),
        (
            b"i|f\n1|2\n",
            "DelimiterUnexpected",
            "the source looks like CSV with vertical bars between the fields; write commas, and decimal points",
        ),
        (
            b'{"a":1}\n{"a":"x"}\n',
            "MixedTypes",
            "field 'a' is a number in some lines and a string in others; write it alike in all (first rows: 2)",
        ),
        (
            b'{"a":1}\n{"b":\n',
            "FileUnreadable",
            "the source cannot be read as JSON lines; write one object per line, in UTF-8 (first rows: 2)",
        ),
        (b'{"a":"\xff"}\n', "EncodingInvalid", "the source is not UTF-8; convert it to UTF-8 (first rows: 1)"),
        (
            b'[{"a":1}]',
            "FileUnreadable",
            "the source is one JSON array; write JSON lines: an object per line",
        ),
        (b"a\n", "DataInvalid", "the data has 0 rows, but at least 1 are expected"),
    ],
)
def test_a_file_that_is_not_well_formed(
    store: StoreLocation, tmp_path: Path, content: bytes, reason: str, message: str
) -> None:
    answer = _take(store, tmp_path, content)
    assert (answer.ok, answer.reason, answer.message) == (False, reason, message)
    assert not answer.retryable


@pytest.mark.parametrize(
    "content",
    [
        b'name;note\nana;"a;b"\n',
        b'"na;me";note\nana;b\n',
        b'name;"a, b"\nana;c\n',
        b'name;note\n"ana\nb;c";d\n',
        b"\n\nname;note\nana;b\n",
        b"\r\n \r\nname;note\r\n\r\nana;b\r\n",
        b"name;note\rana;b\r",
        b"name;note\n",
    ],
)
def test_a_wrong_delimiter_is_seen_behind_quotes_and_blank_lines(
    store: StoreLocation, tmp_path: Path, content: bytes
) -> None:
    answer = _take(store, tmp_path, content)
    assert (answer.reason, "semicolons" in answer.message) == ("DelimiterUnexpected", True)


@pytest.mark.parametrize("content", [b'"a;b"\n"c;d"\n', b'a\n"c;d"\n', b'"a;b",c\n"d;e",f\n', b"a|b,c\nd|e,f\n"])
def test_a_mark_within_a_field_is_no_delimiter(store: StoreLocation, tmp_path: Path, content: bytes) -> None:
    assert _take(store, tmp_path, content).ok


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b"x,z\n1,2\n", "file 2 of 2 has other columns, or another format, than the first"),
        (b"y,x\n1,2\n", "file 2 of 2 has other columns, or another format, than the first"),
        (b'{"x":1,"y":2}\n', "file 2 of 2 has other columns, or another format, than the first"),
    ],
    ids=["other names", "another order", "another format"],
)
def test_files_of_one_source_that_differ_are_not_one_table(
    store: StoreLocation, tmp_path: Path, second: bytes, message: str
) -> None:
    (tmp_path / "lake").mkdir()
    csv(tmp_path / "lake" / "1.csv", "x,y", ["1,2"])
    (tmp_path / "lake" / "2.csv").write_bytes(second)
    answer = run(SnapshotTask(store, str(tmp_path / "lake")))
    assert (answer.reason, answer.message, answer.problems[0].rule) == ("ColumnsDiffer", message, "ColumnsDiffer")


def test_files_of_one_source_with_other_types_are_not_one_table(store: StoreLocation, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    for number, values in enumerate(([1, 2], ["4711a", "b"])):
        pyarrow.parquet.write_table(pa.table({"x": values}), tmp_path / "lake" / f"{number}.parquet")
    answer = run(SnapshotTask(store, str(tmp_path / "lake")))
    assert (answer.reason, answer.message) == (
        "ColumnsDiffer",
        "the files have columns of different types; write all of them alike",
    )
    assert "4711a" not in str(answer)


def test_a_zip_archive_is_named(store: StoreLocation, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data.csv", TEXT)
    answer = run(SnapshotTask(store, str(tmp_path / "data.zip")))
    assert answer.message == (
        "the source is a zip archive, which is not read; use gzip, bz2 or zstd, or no compression"
    )


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, _zstd], ids=["gzip", "bz2", "zstd"])
def test_a_bomb_is_not_unpacked(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 10_000_000)
    bomb = pack(b"x\n" + b"0\n" * 20_000_000)  # 40 MB
    assert len(bomb) < 100_000
    answer = _take(store, tmp_path, bomb)
    assert (answer.reason, answer.message) == (
        "SourceTooLarge",
        "the source, unpacked, has more than 10000000 bytes, which is the limit",
    )


def test_the_limit_is_for_all_files_together(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 1500)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.csv.gz").write_bytes(gzip.compress(b"x\n" + b"0\n" * 500))
    answer = run(SnapshotTask(store, str(folder)))
    assert answer.message == "file 2 of 2: the source, unpacked, has more than 1500 bytes, which is the limit"


def test_json_lines_learn_every_field_before_the_first_row(store: StoreLocation, tmp_path: Path) -> None:
    lines = [{"n": 1, "text": "2024-01-01", "flag": True}] * 3 + [{"n": 1.5, "late": "x"}, {"n": None, "flag": None}]
    (tmp_path / "data").write_text("\n".join(map(json.dumps, lines)))
    found = snapshot(store, tmp_path / "data")
    stored = pyarrow.parquet.read_table(tmp_path / "store" / blob_key(found.file))
    assert stored.schema.types == [pa.float64(), pa.string(), pa.bool_(), pa.string()]
    assert stored.column("n").to_pylist() == [1, 1, 1, 1.5, None]
    assert stored.column("late").to_pylist() == [None, None, None, "x", None]


def test_fields_that_change_their_type_far_apart(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 100)
    answer = _take(store, tmp_path, b'{"a":1}\n' * 500 + b'{"b":1}\n{"a":"x"}\n' + b'{"a":1}\n' * 500)
    assert answer.message == (
        "field 'a' is a number in some lines and a string in others; write it alike in all (first rows: 502)"
    )


def test_text_of_json_can_be_declared_as_what_it_says(store: StoreLocation, tmp_path: Path) -> None:
    lines = b'{"at":"2024-01-01T00:00:00Z","n":"7"}\n{"at":"2024-13-01","n":"x"}\n'
    answer = _take(store, tmp_path, lines, columns=(Column("at", "Timestamp"), Column("n", "Integer")))
    assert [(problem.rule, problem.rows) for problem in answer.problems] == [
        ("NotTimestamp", (2,)),
        ("NotInteger", (2,)),
    ]


def test_nested_json_is_no_column(store: StoreLocation, tmp_path: Path) -> None:
    answer = _take(store, tmp_path, b'{"a":[1],"b":2}\n{"a":[2],"b":3}\n')
    assert [(problem.rule, problem.column) for problem in answer.problems] == [("UnsupportedType", "a")]
    assert snapshot(store, tmp_path / "data", columns=(Column("b", "Integer"),), extra_columns="Drop").columns == 1


def test_json_lines_with_a_byte_order_mark(store: StoreLocation, tmp_path: Path) -> None:
    assert _take(store, tmp_path, b"\xef\xbb\xbf" + LINES).ok


def test_mixed_types_of_csv_are_text_or_a_problem_where_they_are_declared(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "mixed.csv", "x", ["1", "two", "3"])
    assert snapshot(store, source).rows == 3
    answer = run(SnapshotTask(store, str(source), columns=(Column("x", "Integer"),)))
    assert answer.message == (
        "column 'x': 1 value (rows 2) are not whole numbers of 64 bits: mend the data, or the declared type Integer"
    )


@pytest.mark.slow
def test_ten_thousand_columns(store: StoreLocation, tmp_path: Path) -> None:
    names = [f"c{place}" for place in range(10_000)]
    source = csv(tmp_path / "wide.csv", ",".join(names), [",".join(["0.5"] * 10_000)] * 3)
    found = snapshot(store, source)
    assert (found.rows, found.columns) == (3, 10_000)
    columns = tuple(Column(f"d{place}", "Float") for place in range(1000))
    answer = run(SnapshotTask(store, str(source), columns=columns))
    assert (len(answer.problems), answer.problems[0].rule) == (1000, "MissingColumn")


def test_more_columns_than_are_allowed(store: StoreLocation, tmp_path: Path) -> None:
    answer = run(SnapshotTask(store, str(csv(tmp_path / "w", ",".join(f"c{place}" for place in range(20_001)), []))))
    assert answer.message == "20001 columns; 20000 are allowed: leave some out"


def test_a_quote_that_is_never_closed(store: StoreLocation, tmp_path: Path) -> None:
    answer = _take(store, tmp_path, b'a,b\n1,"x\n' + b"1,2\n" * 6_000_000)
    assert answer.message == "a row has more than 8 MiB; look for a quote that is opened and never closed"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_csv_parquet_and_json_of_the_same_rows(store: StoreLocation, tmp_path: Path, count: int) -> None:
    rows = [{"i": row, "f": row + 0.5, "s": f"t{row}"} for row in range(count)]
    table = pa.Table.from_pylist(rows, pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string())]))
    pyarrow.parquet.write_table(table, tmp_path / "parquet")
    csv(tmp_path / "csv", "i,f,s", [f"{row['i']},{row['f']},{row['s']}" for row in rows])
    (tmp_path / "json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = (Column("i", "Integer"), Column("f", "Float"), Column("s", "String"))
    formats = ["parquet", "csv"] + (["json"] if count else [])
    from modelmill_contracts.task import Expectations

    found = [
        taken(SnapshotTask(store, str(tmp_path / name), columns=columns, expectations=Expectations(min_rows=0)))
        for name in formats
    ]
    assert all(one == found[0] for one in found)
