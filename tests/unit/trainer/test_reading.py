"""Files that are not what they should be end in an error that says what to do."""

from pathlib import Path

import pytest
from trainer_tasks import csv, run, snapshot

from modelmill_contracts.report import Report
from modelmill_contracts.task import SnapshotTask, StoreLocation


def _read(store: StoreLocation, tmp_path: Path, content: bytes) -> Report:
    (tmp_path / "data").write_bytes(content)
    return run(SnapshotTask(store=store, source=str(tmp_path / "data")))


@pytest.mark.parametrize(
    ("content", "reason", "text"),
    [
        (b"", "EmptyFile", "is empty"),
        (b"  \n\n", "EmptyFile", "is empty"),
        (b"a,b,a\n1,2,3\n", "DuplicateColumn", "'a' occurs 2 times"),
        (b"a,,c\n1,2,3\n", "UnnamedColumn", "column 2"),
        (b"a,b\n1,2\n3\n4,5\n6,7,8\n", "RaggedRows", "2 rows do not have the header's 2 fields"),
        ("a,b\n1,gr\u00fcn\n".encode("latin-1"), "EncodingInvalid", "'b'"),
        (
            "gr\u00f6\u00dfe,b\n1,2\n".encode("latin-1"),
            "EncodingInvalid",
            "the header is not UTF-8; convert the file to UTF-8",
        ),
        ("a,b\n1,2\n".encode("utf-16"), "EncodingInvalid", "UTF-8"),
        (b"\x1f\x8b\x08\x00\x00\x00binary\x00", "EncodingInvalid", "neither Parquet nor text"),
        (b"PAR1 but not more", "FileUnreadable", "write it again"),
    ],
)
def test_a_file_that_is_not_well_formed(
    store: StoreLocation, tmp_path: Path, content: bytes, reason: str, text: str
) -> None:
    answer = _read(store, tmp_path, content)
    assert (answer.ok, answer.reason, answer.retryable) == (False, reason, False), answer
    assert text in answer.message
    assert answer.problems[0].rule == reason


def test_ragged_rows_are_numbered_from_the_first_row_of_data(store: StoreLocation, tmp_path: Path) -> None:
    problem = _read(store, tmp_path, b"a,b\n1,2\n3\n4,5\n6,7,8\n").problems[0]
    assert (problem.rows, problem.count) == ((2, 4), 2)


def test_a_header_without_rows_is_too_few(store: StoreLocation, tmp_path: Path) -> None:
    answer = _read(store, tmp_path, b"a,b\n")
    assert answer.reason == "DataInvalid"
    assert "0 rows" in answer.message


def test_a_byte_order_mark_is_not_part_of_a_name(store: StoreLocation, tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert snapshot(store, tmp_path / "marked") == snapshot(store, csv(tmp_path / "plain", "a,b", ["1,2"]))


def test_a_key_that_the_configmap_does_not_have(store: StoreLocation, tmp_path: Path) -> None:
    answer = run(SnapshotTask(store=store, source=str(tmp_path / "missing.csv")))
    assert answer.reason == "SourceNotFound"
    assert "configMapRef.key" in answer.message
