"""Which rows are trained on and which are tested on: the promise of each way to split, and data that cannot keep it."""

from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import LOGISTIC, csv, frozen_rows, run, steps, trained, training

from modelmill_contracts import report
from modelmill_contracts.task import Evaluation, Split, StoreLocation

HEADER = "x,patient,day,label"
GROUP = Split(group="patient")
TIME = Split(time="day")
FEATURES: dict[str, Any] = {"features": ("x",)}


def rows(count: int = 200, patients: int = 40) -> list[str]:
    """Each patient has several rows, far apart; the days go down, so that the newest row is the first."""
    return [f"{row},p{row % patients},{_day(count - row)},{row * 7 % 3 % 2}" for row in range(count)]


def _day(number: int) -> str:
    return f"{2000 + number // 336:04}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"


def held_out(store: StoreLocation, source: Path, split: Split, seed: int = 0) -> list[int]:
    """The numbers of the rows that a training keeps for the test."""
    made = trained(store, source, "label", steps(LOGISTIC), split=split, seed=seed, **FEATURES)
    return [int(x) for x in frozen_rows(made).column("feature.x").to_pylist()]


def test_no_group_is_in_both_parts_and_the_test_has_about_its_share(store: StoreLocation, tmp_path: Path) -> None:
    found = held_out(store, csv(tmp_path / "d.csv", HEADER, rows()), GROUP)
    patients = {row % 40 for row in found}
    assert set(found) == {row for row in range(200) if row % 40 in patients}
    assert len(found) == 40


def test_the_seed_decides_which_groups_are_tested_on(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", HEADER, rows())
    assert held_out(store, source, GROUP, 1) == held_out(store, source, GROUP, 1)
    assert held_out(store, source, GROUP, 1) != held_out(store, source, GROUP, 2)


def test_a_group_that_is_far_too_large_is_trained_on(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{row},{'large' if row < 180 else f'p{row}'},{_day(row)},{row % 2}" for row in range(200)]
    for seed in range(3):
        assert held_out(store, csv(tmp_path / "d.csv", HEADER, lines), Split("0.1", group="patient"), seed) == [
            *range(180, 200)
        ]


def test_two_groups_are_one_for_each_part(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{row},{row % 4 == 0},{_day(row)},{row // 4 % 2}" for row in range(80)]
    found = held_out(store, csv(tmp_path / "d.csv", HEADER, lines), Split("0.9", group="patient"))
    assert found == [row for row in range(80) if row % 4] or found == [row for row in range(80) if not row % 4]


def test_the_newest_rows_are_tested_on(store: StoreLocation, tmp_path: Path) -> None:
    assert held_out(store, csv(tmp_path / "d.csv", HEADER, rows()), TIME) == list(range(40))


def test_rows_of_one_moment_are_in_the_same_part(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{row},p,{_day(100 - row // 30)},{row % 2}" for row in range(120)]
    # A fifth are 24 rows, but the newest day has 30.
    assert held_out(store, csv(tmp_path / "d.csv", HEADER, lines), TIME) == list(range(30))


@pytest.mark.parametrize("time", ["year", "share"])
def test_time_may_be_a_number(store: StoreLocation, tmp_path: Path, time: str) -> None:
    lines = [f"{row},{row},{row / 7},{row % 2}" for row in range(50)]
    source = csv(tmp_path / "d.csv", "x,year,share,label", lines)
    assert held_out(store, source, Split(time=time)) == list(range(40, 50))


def test_the_column_of_a_split_is_a_feature_only_where_it_is_named(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", "x,patient,label", [f"{row},{row % 9},{row % 2}" for row in range(90)])
    made = trained(store, source, "label", steps(LOGISTIC), split=GROUP)
    assert [feature.name for feature in made.manifest.features] == ["x"]
    made = trained(store, source, "label", steps(LOGISTIC), split=GROUP, features=("x", "patient"))
    assert [feature.name for feature in made.manifest.features] == ["x", "patient"]


def _fails(store: StoreLocation, source: Path, split: Split, **fields: Any) -> report.Report:
    answer = run(training(store, source, "label", steps(LOGISTIC), split=split, **FEATURES, **fields))
    assert not answer.ok
    return answer


@pytest.mark.parametrize("split", [Split(group="patiens"), Split(time="dayz")])
def test_a_column_that_is_not_there_names_the_nearest(store: StoreLocation, tmp_path: Path, split: Split) -> None:
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, rows()), split)
    assert answer.reason == "SplitColumnMissing"
    assert answer.message.startswith("data.split.by: the data has no column ")
    assert f"the nearest are {'patient' if split.group else 'day'}" in answer.message


def test_one_group_cannot_be_in_two_parts(store: StoreLocation, tmp_path: Path) -> None:
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, rows(patients=1)), GROUP)
    assert answer.reason == "TooFewGroups"
    assert "all 200 rows have the same value in 'patient'" in answer.message


def test_one_moment_cannot_be_in_two_parts(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{row},p,2024-01-01,{row % 2}" for row in range(50)]
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, lines), TIME)
    assert answer.reason == "TooFewTimes"
    assert "1 different values in 'day' leave 0 rows that are older" in answer.message


def test_text_has_no_order_in_time(store: StoreLocation, tmp_path: Path) -> None:
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, rows()), Split(time="patient"))
    assert answer.reason == "SplitNotOrdered"
    assert "'patient' is of type String" in answer.message
    assert "Timestamp" in answer.message


@pytest.mark.parametrize("split", [GROUP, TIME])
def test_rows_without_a_value_belong_nowhere(store: StoreLocation, tmp_path: Path, split: Split) -> None:
    lines = [f"{row},{'' if row < 3 else row},{'' if row < 3 else _day(row)},{row % 2}" for row in range(50)]
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, lines), split)
    assert answer.reason == "SplitMissingValues"
    assert "3 rows have no value" in answer.message


def test_a_class_that_only_new_rows_have_cannot_be_learned(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{row},p,{_day(row)},{2 if row > 90 else row % 2}" for row in range(100)]
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, lines), TIME)
    assert answer.reason == "TooFewRows"
    assert "only newer rows have it" in answer.message


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (Split(group="patient"), "groups in 'patient' (data.split.by), fewer than folds"),
        (Split(time="day"), "too few different values in 'day' (data.split.by)"),
        (Split(stratify=True), "the rarest class has 8 training rows, fewer than folds"),
    ],
)
def test_too_many_folds_for_the_data(store: StoreLocation, tmp_path: Path, split: Split, text: str) -> None:
    lines = [f"{row},p{row % 5},{_day(row // 20)},{int(row < 10)}" for row in range(100)]
    answer = _fails(store, csv(tmp_path / "d.csv", HEADER, lines), split, evaluation=Evaluation(folds=12))
    assert answer.message.startswith("evaluation.crossValidation: 12: ")
    assert text in answer.message
    assert "use fewer folds" in answer.message
