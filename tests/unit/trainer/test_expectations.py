"""What must hold for the data as a whole: unique keys, missing values, and no jump since the previous version."""

import random
from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import csv, run, snapshot

from modelmill_contracts.effect import effect
from modelmill_contracts.report import Report
from modelmill_contracts.task import Column, Expectations, SnapshotTask, StoreLocation
from modelmill_trainer import duck


def _take(store: StoreLocation, source: Path, previous: str | None = None, **expected: Any) -> Report:
    return run(SnapshotTask(store, str(source), expectations=Expectations(**expected), previous=previous))


@pytest.mark.parametrize(
    ("key", "rows", "rule", "message"),
    [
        (
            ("a",),
            ["1,x", "2,x", "1,y", "1,z", "2,x"],
            "NotUnique",
            "3 rows (rows 3, 4, 5) repeat the uniqueKey 'a' of an earlier row: remove them, or mend the key",
        ),
        (
            ("a", "b"),
            ["1,x", "2,x", "1,y", "1,z", "2,x"],
            "NotUnique",
            "1 row (rows 5) repeats the uniqueKey 'a', 'b' of an earlier row: remove them, or mend the key",
        ),
        (
            ("a", "b"),
            ["1,x", ",x", "2,", ",x", ","],
            "MissingValue",
            "4 rows (rows 2, 3, 4, ...) have no value in a column of uniqueKey 'a', 'b': fill it, or mend the key",
        ),
        (("c",), ["1,x"], "MissingColumn", "column 'c' of uniqueKey is not in the data; name columns that are"),
    ],
)
def test_a_key_that_is_none(
    store: StoreLocation, tmp_path: Path, key: tuple[str, ...], rows: list[str], rule: str, message: str
) -> None:
    answer = _take(store, csv(tmp_path / "d.csv", "a,b", rows), unique_key=key)
    assert (answer.reason, answer.problems[0].rule, answer.problems[0].message) == ("DataInvalid", rule, message)


def test_a_key_over_row_groups(store: StoreLocation, tmp_path: Path) -> None:
    rows = [f"{row},x" for row in range(300_000)]
    assert _take(store, csv(tmp_path / "good.csv", "a,b", rows), unique_key=("a",)).ok
    rows[299_999] = "7,x"
    assert _take(store, csv(tmp_path / "bad.csv", "a,b", rows), unique_key=("a",)).problems[0].rows == (300_000,)


def test_a_key_that_takes_more_than_there_is(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "memory_limit", lambda: 24 << 20)
    monkeypatch.setattr(duck, "SPILLED_BYTES", 1 << 20)
    answer = _take(store, csv(tmp_path / "d.csv", "a", [f"{row:060}x" for row in range(500_000)]), unique_key=("a",))
    assert (answer.reason, answer.message) == (
        "ScratchFull",
        (
            "expectations.uniqueKey: to look for rows that repeat it takes more memory and scratch space than there is;"
            " give spec.resources more memory, or name fewer columns"
        ),
    )


def test_names_of_key_columns_are_no_sql(store: StoreLocation, tmp_path: Path) -> None:
    name = "a; DROP TABLE rows --"
    assert _take(store, csv(tmp_path / "d.csv", name, ["1", "2"]), unique_key=(name,)).ok


def test_too_many_missing_values(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", "a,b", ["1,x", ",x", "2,x", ",x"])
    assert _take(store, source, max_null_fraction="0.5").ok
    answer = _take(store, source, max_null_fraction="0.4")
    assert answer.message == (
        "column 'a': 2 of 4 values are missing, but at most a fraction of 0.4 may be (expectations.maxNullFraction)"
    )
    assert (answer.problems[0].rule, answer.problems[0].count) == ("TooManyNulls", 2)


def _people(count: int, seed: int, age: float = 40, cities: str = "ABC", missing: float = 0.02) -> list[str]:
    draw = random.Random(seed)
    return [
        f"{row},{'' if draw.random() < missing else draw.gauss(age, 12)},{draw.choice(cities)},2026-01-{seed:02}"
        for row in range(count)
    ]


def _profile_of(store: StoreLocation, tmp_path: Path) -> str | None:
    return snapshot(store, csv(tmp_path / "before.csv", "id,age,city,day", _people(3000, 1))).profile


def test_other_rows_of_the_same_kind_have_not_drifted(store: StoreLocation, tmp_path: Path) -> None:
    previous = _profile_of(store, tmp_path)
    source = csv(tmp_path / "d.csv", "id,age,city,day", _people(3000, 2))
    assert _take(store, source, previous, max_drift="0.02").ok


@pytest.mark.parametrize(
    ("changed", "column"),
    [({"age": 52.0}, "age"), ({"cities": "ABD"}, "city"), ({"missing": 0.3}, "age")],
    ids=["a mean that moved", "a city that is new", "values that went missing"],
)
def test_a_column_that_drifted(store: StoreLocation, tmp_path: Path, changed: dict[str, Any], column: str) -> None:
    previous = _profile_of(store, tmp_path)
    source = csv(tmp_path / "d.csv", "id,age,city,day", _people(3000, 2, **changed))
    answer = _take(store, source, previous, max_drift="0.2")
    assert [(problem.rule, problem.column) for problem in answer.problems] == [("Drifted", column)]
    start = f"column '{column}' is distributed otherwise than in the previous version: an effect of "
    assert answer.message.startswith(start)
    assert answer.message.endswith(
        ", above expectations.drift.maxEffect 0.2; look whether the source is right, and allow more if it is"
    )
    assert _take(store, source, previous).ok  # nobody asked for it
    assert _take(store, source, max_drift="0.2").ok  # there is nothing to compare with


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["5"] * 1000, ["3"] * 1000),
        (["5"] * 1000, ["7"] * 1000),
        (["0"] * 950 + ["1.5"] * 50, ["-999"] * 950 + ["1.5"] * 50),
        (["0"] * 950 + ["1.5"] * 50, ["0"] * 500 + ["-1e-300"] * 450 + ["1.5"] * 50),
    ],
    ids=["a constant that fell", "one that rose", "zeros that became a mark", "hardly less"],
)
def test_a_value_that_most_rows_share_and_that_changes(
    store: StoreLocation, tmp_path: Path, before: list[str], after: list[str]
) -> None:
    previous = snapshot(store, csv(tmp_path / "before.csv", "x", before)).profile
    assert _take(store, csv(tmp_path / "same.csv", "x", before[::-1]), previous, max_drift="0").ok
    answer = _take(store, csv(tmp_path / "d.csv", "x", after), previous, max_drift="0.2")
    assert [(problem.rule, problem.column) for problem in answer.problems] == [("Drifted", "x")]


def test_a_key_that_grows_has_not_drifted(store: StoreLocation, tmp_path: Path) -> None:
    previous = _profile_of(store, tmp_path)
    source = csv(tmp_path / "d.csv", "id,age,city,day", _people(9000, 2))
    assert _take(store, source, previous, max_drift="0.2").problems[0].column == "id"
    assert _take(store, source, previous, max_drift="0.2", unique_key=("id",)).ok


def test_columns_that_are_new_or_of_another_kind_are_not_compared(store: StoreLocation, tmp_path: Path) -> None:
    previous = snapshot(store, csv(tmp_path / "a.csv", "x,y", ["1,a"] * 100)).profile
    source = csv(tmp_path / "b.csv", "x,z", ["text,1"] * 100)
    assert _take(store, source, previous, max_drift="0.0").ok


def test_a_profile_that_is_gone_matters_where_a_rule_needs_it(store: StoreLocation, tmp_path: Path) -> None:
    source, gone = csv(tmp_path / "d.csv", "x", ["1"]), "sha256:" + "0" * 64
    assert _take(store, source, gone, max_drift="0.2").reason == "ObjectNotFound"
    assert _take(store, source, gone).ok


@pytest.mark.parametrize(("rows", "new_rows"), [(500, 500), (2000, 300), (100, 20_000)])
def test_where_nothing_moved_the_effect_is_zero_on_average(rows: int, new_rows: int) -> None:
    draw, shares = random.Random(7), [1] * 10 + [2]
    runs = 2000

    def counts(count: int) -> list[int]:
        found = [0] * len(shares)
        for place in draw.choices(range(len(shares)), shares, k=count):
            found[place] += 1
        return found

    effects = [effect(counts(rows), counts(min(new_rows, 2000))) for _ in range(runs // 10)]
    mean = sum(effects) / len(effects)
    spread = (sum((one - mean) ** 2 for one in effects) / len(effects)) ** 0.5
    assert abs(mean) < 4 * spread / len(effects) ** 0.5


def test_the_effect_is_psi_where_there_are_many_rows() -> None:
    # Siddiqi's textbook case: 10 % moves from one bin to another.
    import math

    expected = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert effect([5_000_000, 5_000_000], [6_000_000, 4_000_000]) == pytest.approx(expected, abs=1e-5)
    assert effect([0, 0], [1, 1]) == 0
    assert effect([10, 0], [10, 0]) == pytest.approx(0)


def test_declared_columns_and_expectations_are_told_together(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", "a,b", ["1,", "1,", "x,1"])
    columns = (Column("a", "Integer"),)
    expected = Expectations(5, ("a",), "0.5")
    answer = run(SnapshotTask(store, str(source), columns=columns, expectations=expected))
    assert [problem.rule for problem in answer.problems] == [
        "TooFewRows",
        "TooManyNulls",
        "MissingValue",
        "NotUnique",
        "NotInteger",
    ]
