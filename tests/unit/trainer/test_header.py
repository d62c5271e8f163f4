"""CSV without a header line: its first row stands where the names of columns should, and is shown to nobody."""

from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import csv, run

from modelmill_contracts import report
from modelmill_contracts.report import Report
from modelmill_contracts.task import Column, Expectations, SnapshotTask, StoreLocation

HEADER = "the first line looks like a row of data: write a header line, if there is none"


def _take(store: StoreLocation, folder: Path, *lines: bytes, **more: Any) -> Report:
    (folder / "data.csv").write_bytes(b"".join(line + b"\n" for line in lines))
    return run(SnapshotTask(store, str(folder / "data.csv"), **more))


def _shows(answer: Report, *values: str) -> bool:
    text = report.encode(answer).decode()
    return any(value in text for value in values)


@pytest.mark.parametrize("extra", ["Keep", "Drop", "Reject"])
@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"4711.25,paris", HEADER),
        (b"anna,2024-05-06", HEADER),
        (b"amount_due,paris", "one has a similar name: look at its spelling and capitals"),
        (b"anna,paris", "look whether there is a header line"),
    ],
)
def test_what_stands_where_names_should_is_not_shown(
    store: StoreLocation, tmp_path: Path, first: bytes, words: str, extra: str
) -> None:
    columns = (Column("amount", "Float"), Column("city", "String"))
    answer = _take(store, tmp_path, first, b"4712.5,rome", columns=columns, extra_columns=extra)
    assert [problem.rule for problem in answer.problems] == ["MissingColumn", "MissingColumn"]
    message = answer.problems[0].message
    assert message.startswith("column 'amount' is declared, but not in the data, which has 2 columns, none of them")
    assert words in message
    assert not _shows(answer, *first.decode().split(","))


def test_names_are_shown_where_the_header_is_known_to_be_one(store: StoreLocation, tmp_path: Path) -> None:
    columns = (Column("amount", "Float"), Column("city", "String"))
    answer = _take(store, tmp_path, b"amounts,city", b"1,rome", columns=columns)
    assert "the nearest are amounts" in answer.message


@pytest.mark.parametrize(
    ("lines", "rule", "words"),
    [
        ((b"4711.25,4711.25", b"1,2"), "DuplicateColumn", f"columns 1 and 2 have the same name; {HEADER}"),
        ((b"4711.25,anna", b"1,gr\xfcn"), "EncodingInvalid", "column 2 has 1 fields that are not UTF-8"),
    ],
)
def test_a_file_that_is_not_well_formed_either(
    store: StoreLocation, tmp_path: Path, lines: tuple[bytes, ...], rule: str, words: str
) -> None:
    answer = _take(store, tmp_path, *lines)
    assert (answer.reason, answer.problems[0].column) == (rule, None)
    assert answer.message.startswith(words)
    assert not _shows(answer, "4711", "anna")


def test_columns_that_nobody_declared_are_told_by_their_place(store: StoreLocation, tmp_path: Path) -> None:
    few = Expectations(max_null_fraction="0.1", max_drift="0.1")
    answer = _take(store, tmp_path, b"4711.25,anna", b"1,", b"2,", expectations=few)
    assert (answer.problems[0].rule, answer.problems[0].column) == ("TooManyNulls", None)
    assert answer.message.startswith("column 2: 2 of 2 values are missing")
    assert not _shows(answer, "4711", "anna")


def test_drift_is_told_by_the_column_s_place(store: StoreLocation, tmp_path: Path) -> None:
    before = run(SnapshotTask(store, str(csv(tmp_path / "a.csv", "4711.25", [str(n) for n in range(500)]))))
    expected = Expectations(max_drift="0.1")
    now = str(csv(tmp_path / "b.csv", "4711.25", [str(n + 400) for n in range(500)]))
    answer = run(SnapshotTask(store, now, expectations=expected, previous=before.result.profile))
    assert (answer.problems[0].rule, answer.problems[0].column) == ("Drifted", None)
    assert not _shows(answer, "4711")
