"""What a Dataset declares is checked: which column, which rule, how many rows and where, never a value."""

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from trainer_tasks import csv, run, snapshot

from modelmill_contracts import report
from modelmill_contracts.report import Problem
from modelmill_contracts.task import Column, Expectations, SnapshotTask, StoreLocation


def _problems(store: StoreLocation, source: Path, *columns: Column, **fields: Any) -> tuple[Problem, ...]:
    answer = run(SnapshotTask(store=store, source=str(source), columns=columns, **fields))
    assert (answer.ok, answer.reason) == (False, "DataInvalid"), answer
    assert answer.problems[0].message in answer.message
    return answer.problems


@pytest.mark.parametrize(
    ("column", "values", "rule", "rows"),
    [
        (Column("x", "Float"), ["1", "secret", "2", "3;5", "1e"], "NotNumeric", (2, 4, 5)),
        (Column("x", "Float"), ["1", "NaN", "-inf", "1e999", "2"], "NotFinite", (2, 3, 4)),
        (Column("x", "Integer"), ["1", "1.5", "9223372036854775808", "-9223372036854775808"], "NotInteger", (2, 3)),
        (Column("x", "Boolean"), ["true", "FALSE", "1", "0", "yes"], "NotBoolean", (5,)),
        (
            Column("x", "Timestamp"),
            ["2024-01-31", "2024-02-30", "20240131", "2024-01-01T10:00:00.1234567Z"],
            "NotTimestamp",
            (2, 3, 4),
        ),
        (Column("x", "Float", min="0"), ["0", "-0.1", "3"], "BelowMinimum", (2,)),
        (
            Column("x", "Integer", max="9007199254740992"),
            ["9007199254740993", "9007199254740992"],
            "AboveMaximum",
            (1,),
        ),
        (Column("x", "Timestamp", min="2024-01-01"), ["2023-12-31T23:59:59Z", "2024-01-02"], "BelowMinimum", (1,)),
        (Column("x", "String", values=("a", "b")), ["a", "c", "b"], "ValueNotAllowed", (2,)),
        (Column("x", "Integer", values=("0", "1")), ["0", "2", "1"], "ValueNotAllowed", (2,)),
        (Column("x", "Float", nullable=False), ["1", "", "2"], "MissingValue", (2,)),
    ],
)
def test_a_rule_that_is_broken(
    store: StoreLocation, tmp_path: Path, column: Column, values: Any, rule: str, rows: tuple[int, ...]
) -> None:
    source = csv(tmp_path / "data.csv", "x,other", [f"{value},0" for value in values])
    (problem,) = _problems(store, source, column)
    assert (problem.rule, problem.column, problem.rows, problem.count) == (rule, "x", rows, len(rows))
    declared = (column.min, column.max)
    assert not any(len(value) > 4 and value in problem.message for value in values if value not in declared)


def test_everything_that_is_wrong_is_told_at_once(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "radius,b", ["x,1", "2,2"])
    found = _problems(
        store,
        source,
        Column("radios", "Float"),
        Column("b", "Boolean"),
        extra_columns="Reject",
        expectations=Expectations(min_rows=3),
    )
    assert [problem.rule for problem in found] == ["MissingColumn", "ExtraColumn", "TooFewRows", "NotBoolean"]
    assert "radius" in found[0].message


def test_thousands_of_bad_rows_fit_a_report(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", ",".join(f"c{i}" for i in range(100)), [",".join(["x"] * 100)] * 1000)
    answer = run(
        SnapshotTask(store=store, source=str(source), columns=tuple(Column(f"c{i}", "Float") for i in range(100)))
    )
    assert len(answer.problems) == 100
    assert answer.problems[99].count == 1000
    assert len(report.encode(answer)) <= report.LIMIT


@pytest.mark.parametrize(
    "column", [Column("x", "Float", min="low"), Column("x", "String", min="1"), Column("x", "Integer", values=("a",))]
)
def test_a_declaration_that_makes_no_sense(store: StoreLocation, tmp_path: Path, column: Column) -> None:
    answer = run(SnapshotTask(store=store, source=str(csv(tmp_path / "d.csv", "x", ["1"])), columns=(column,)))
    assert answer.reason == "DeclarationInvalid"
    assert "columns[x]" in answer.message


@pytest.mark.parametrize(("extra", "columns"), [("Keep", 3), ("Drop", 1)])
def test_columns_that_are_not_declared(store: StoreLocation, tmp_path: Path, extra: str, columns: int) -> None:
    source = csv(tmp_path / "data.csv", "x,y,z", ["1,2,3"])
    assert snapshot(store, source, columns=(Column("y", "Float"),), extra_columns=extra).columns == columns


def test_an_allowed_value_may_also_be_missing_where_null_is_allowed(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,y", ["a,1", ",2"])
    assert snapshot(store, source, columns=(Column("x", "String", values=("a",)),)).rows == 2


def _parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "rule"),
    [
        (pa.array([1.0, 2.5]), "Integer", "NotInteger"),
        (pa.array([1.0, math.nan]), "Integer", "NotInteger"),
        (pa.array([1.0, 2.0**53]), "Integer", "NotInteger"),  # which 2^53 + 1 is written as, too
        (pa.array([1.0, -(2.0**53)]), "Integer", "NotInteger"),
        (pa.array([Decimal("1.00"), Decimal("1.25")]), "Integer", "NotInteger"),
        (pa.array([Decimal(1), Decimal(2**63)], pa.decimal128(38, 0)), "Integer", "NotInteger"),
        (pa.array([1, 2**63], pa.uint64()), "Integer", "NotInteger"),
        (pa.array([0, 2]), "Boolean", "NotBoolean"),
        (pa.array([1.5, 2.5]), "String", "NotText"),
        (pa.array(["1", "x"]), "Float", "NotNumeric"),
        (pa.array([1, 1_001], pa.timestamp("ns")), "Timestamp", "NotTimestamp"),
        (pa.array([True, False]), "Timestamp", "NotTimestamp"),
    ],
)
def test_parquet_of_another_type(store: StoreLocation, tmp_path: Path, values: Any, kind: str, rule: str) -> None:
    found = _problems(store, _parquet(tmp_path / "d.parquet", x=values), Column("x", kind))
    assert found[0].rule == rule


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1.0, None, 3.0]), "Integer"),  # whole numbers with gaps, as pandas writes them
        (pa.array([1, 2], pa.int8()), "Float"),
        (pa.array([Decimal("1.5")]), "Float"),
        (pa.array([7]), "String"),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "String"),
        (pa.array([0, 1]), "Boolean"),
        (pa.array([None, None]), "Float"),
    ],
)
def test_parquet_that_can_be_cast(store: StoreLocation, tmp_path: Path, values: Any, kind: str) -> None:
    assert snapshot(store, _parquet(tmp_path / "d.parquet", x=values), columns=(Column("x", kind),)).rows == len(values)


@pytest.mark.parametrize(
    "kind", [pa.decimal128(18, 0), pa.decimal128(38, 0), pa.decimal128(38, 6), pa.decimal256(60, 2)], ids=str
)
def test_decimals_that_are_declared_integer_are_exact(store: StoreLocation, tmp_path: Path, kind: pa.DataType) -> None:
    numbers = [2**53 + 1, None, -(2**53) - 1, 10**18 - 1, 0]
    decimals = pa.array([None if number is None else Decimal(number) for number in numbers], kind)
    rows = [f"{'' if number is None else number},{row}" for row, number in enumerate(numbers)]
    columns = (Column("x", "Integer"), Column("row", "Integer"))
    from_text = snapshot(store, csv(tmp_path / "d.csv", "x,row", rows), columns=columns)
    source = _parquet(tmp_path / "d.parquet", x=decimals, row=pa.array(range(len(rows))))
    assert snapshot(store, source, columns=columns) == from_text


def test_beside_decimals_that_are_no_whole_numbers_the_others_are_not_told(
    store: StoreLocation, tmp_path: Path
) -> None:
    texts = ["9007199254740993", "0.5", None, "9223372036854775808", "-9223372036854775808", "1E+2"]
    decimals = [None if text is None else Decimal(text) for text in texts]
    source = _parquet(tmp_path / "d.parquet", x=pa.array(decimals, pa.decimal128(38, 2)))
    (problem,) = _problems(store, source, Column("x", "Integer"))
    assert (problem.rule, problem.rows, problem.count) == ("NotInteger", (2, 4), 2)
    assert "9223372036854775808" not in problem.message


def test_text_of_parquet_that_is_not_utf_8(store: StoreLocation, tmp_path: Path) -> None:
    wrong = pa.array([b"a", b"\xff", None, b"\xe9t\xe9"]).view(pa.string())
    for values in (wrong, wrong.dictionary_encode(), wrong.cast(pa.large_string())):
        answer = run(SnapshotTask(store, str(_parquet(tmp_path / "d.parquet", x=values))))
        assert answer.problems[0].message == "column 'x': 2 values (rows 2, 4) are not text"


def test_parquet_without_columns(store: StoreLocation, tmp_path: Path) -> None:
    answer = run(SnapshotTask(store, str(_parquet(tmp_path / "d.parquet"))))
    assert (answer.reason, answer.message) == ("NoColumns", "the source has no columns; write the data")


def test_none_of_the_declared_columns_is_there(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", "x", ["1"])
    found = _problems(store, source, Column("y", "Float"), extra_columns="Drop")
    assert [problem.rule for problem in found] == ["MissingColumn"]


def test_parquet_of_a_type_that_no_column_can_have(store: StoreLocation, tmp_path: Path) -> None:
    found = _problems(store, _parquet(tmp_path / "d.parquet", x=pa.array([[1], [2]])))
    assert (found[0].rule, found[0].column) == ("UnsupportedType", "x")
