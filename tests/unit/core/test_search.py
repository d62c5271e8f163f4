"""The search space: what is drawn, what stands in a trial, and when one is hopeless."""

import json
from typing import Any

import pytest
from experiments import spec

from modelmill.api.experiment import ExperimentSpec
from modelmill.core import search
from modelmill_contracts import report
from modelmill_contracts import space as spaces
from modelmill_contracts.space import Dimension

DEPTH = Dimension("lr__depth", whole=True, low=1, high=9, step=2)
RATE = Dimension("lr__rate", low=0.001, high=10, log=True)
KIND = Dimension("lr__kind", choices=('"a"', '"None"', '"true"', '"0.5"'))
ONLY = Dimension("lr__only", low=0, high=1, step=0.25, when=("lr__kind", '"a"'))
SPACE = (DEPTH, RATE, KIND, ONLY)
TEMPLATE: dict[str, Any] = {
    "estimator": {
        "columns": [{"name": "num", "select": ["a"], "steps": [{"name": "scale", "class": "a.B"}]}],
        "steps": [{"name": "lr", "class": "a.B", "params": {"kept": 1, "only": 7}}],
    }
}


def drawn(count: int = 400) -> list[dict[str, str]]:
    return [dict(spaces.at_random(SPACE, 1, number)) for number in range(1, count + 1)]


def test_what_is_drawn_lies_in_its_range_and_reaches_all_of_it() -> None:
    found = drawn()
    assert {one["lr__depth"] for one in found} == {"1", "3", "5", "7", "9"}
    assert {one["lr__kind"] for one in found} == set(KIND.choices)
    rates = sorted(float(one["lr__rate"]) for one in found)
    assert rates[0] >= 0.001
    assert rates[-1] <= 10
    assert 0.05 < rates[len(rates) // 2] < 0.2  # the middle of a logarithm is 0.1
    assert {one["lr__only"] for one in found if "lr__only" in one} == {"0.0", "0.25", "0.5", "0.75", "1.0"}
    assert all(("lr__only" in one) == (one["lr__kind"] == '"a"') for one in found)


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    assert drawn(5) == drawn(5)
    # Written down: another release, and another machine, draws this.
    assert spaces.at_random(SPACE, 1, 1) != spaces.at_random(SPACE, 2, 1)
    assert spaces.chance(1, 1, "x") == pytest.approx(spaces.chance(1, 1, "x"), abs=0)


def test_whole_numbers_by_logarithm_are_all_reached() -> None:
    dimension = Dimension("n", whole=True, low=1, high=8, log=True)
    assert {dimension.at(share / 1000) for share in range(1000)} == {str(n) for n in range(1, 9)}


def test_a_grid_has_every_combination_once() -> None:
    points = list(spaces.grid((DEPTH, KIND, ONLY)))
    assert len(points) == len(set(points)) == 5 * (5 + 3)
    assert points[0] == (("lr__depth", "1"), ("lr__kind", '"a"'), ("lr__only", "0.0"))


def test_steps_of_tenths_end_where_they_should() -> None:
    dimension = Dimension("x", low=0.1, high=0.7, step=0.1)
    assert dimension.count == 7
    assert [dimension.nth(n) for n in range(7)] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]


@pytest.mark.parametrize("number", range(1, 30))
def test_what_stands_in_a_trial_is_read_back(number: int) -> None:
    values = spaces.at_random(SPACE, 1, number)
    made = search.with_values(TEMPLATE, values)
    stored = json.loads(json.dumps(made).replace(".0}", "}").replace(".0,", ","))  # as the API server writes numbers
    assert search.values_of(SPACE, {"spec": stored}) == values
    assert made["estimator"]["steps"][0]["params"]["kept"] == 1
    assert TEMPLATE["estimator"]["steps"][0]["params"] == {"kept": 1, "only": 7}  # as it was


def test_a_choice_means_what_python_calls_so() -> None:
    params = [
        search.with_values(TEMPLATE, (("lr__kind", choice),))["estimator"]["steps"][0]["params"]["kind"]
        for choice in KIND.choices
    ]
    assert params == ["a", None, True, 0.5]


@pytest.mark.parametrize(("name", "text"), [("lr__rate", "1.0"), ("lr__kind", '"2.0"')])
def test_a_whole_number_that_is_real_stays_one_in_the_api_server(name: str, text: str) -> None:
    """It writes 1.0 as 1, and to scikit-learn 1 may be a count, where 1.0 is a share of all."""
    made = search.with_values(TEMPLATE, ((name, text),))
    assert made["estimator"]["steps"][0]["params"][name.removeprefix("lr__")] == text.strip('"')
    space = (RATE, Dimension("lr__kind", choices=('"2.0"',)))
    assert search.values_of(space, {"spec": made}) == ((name, text),)


def test_a_number_that_json_does_not_have_is_a_text() -> None:
    made = search.with_values(TEMPLATE, (("lr__kind", '"1e999"'),))
    assert made["estimator"]["steps"][0]["params"]["kind"] == "1e999"


def test_a_parameter_of_a_group_of_columns_is_set_in_its_step() -> None:
    made = search.with_values(TEMPLATE, (("columns__num__scale__with_mean", "true"),))
    assert made["estimator"]["columns"][0]["steps"][0]["params"] == {"with_mean": True}


def test_batches_are_as_large_as_what_runs_and_a_report_allow() -> None:
    assert search.batch_size(SPACE, 4) == 4
    assert search.batch_size((RATE,) * 32, 64) == 6
    assert [search.batch_of(number, "TPE", 4) for number in (1, 10, 11, 14, 15)] == [1, 10, 11, 11, 15]
    assert [search.batch_of(number, "CMAES", 3) for number in (1, 3, 4)] == [1, 1, 4]


LONG = tuple(json.dumps(f"{n:x>15}") for n in range(4))


@pytest.mark.parametrize(
    ("space", "parallel"),
    [
        (tuple(Dimension(f"lr__{n}", choices=LONG) for n in range(12)), 16),
        (tuple(Dimension(f"lr__{n}", choices=(json.dumps("y" * 64),)) for n in range(4)), 64),
        (tuple(Dimension(f"lr__{n}", choices=(json.dumps("z" * 20),)) for n in range(32)), 8),
        (tuple(Dimension(f"lr__{n}", choices=(json.dumps('"\\é' * 8),)) for n in range(8)), 64),
        (tuple(Dimension(f"lr__{n}", low=-0.1234567890123456, high=9) for n in range(32)), 64),
        ((KIND, *(Dimension(f"lr__{n}", choices=('"a"',), when=("lr__kind", '"a"')) for n in range(31))), 64),
    ],
)
def test_a_batch_of_the_longest_values_fits_a_report(space: spaces.Space, parallel: int) -> None:
    row = tuple(max(d.choices or (d.text(d.low),), key=len) for d in space)
    size = search.batch_size(space, parallel)
    result = report.ProposalResult(1000, (row,) * size)
    assert len(report.encode(report.Report(True, "Proposed", "m" * 99, result=result))) <= report.LIMIT
    assert size >= 2


def test_bounds_of_less_is_better() -> None:
    others = [(float(n), 1.0) for n in range(1, 6)]
    assert search.bounds("Random", others, 3, maximize=False) == {1: 3.0, 2: 2.0}
    assert search.bounds("SuccessiveHalving", others, 3, maximize=False) == {1: 2.0}
    assert search.bounds("SuccessiveHalving", others, 3, maximize=True) == {1: 4.0}


def test_short_is_what_a_column_has_room_for() -> None:
    assert search.short((("lr__a", "1"), ("lr__b", '"x"'))) == "a=1, b=x"
    assert search.short((("lr__a", "1"), ("pca__a", "2"))) == "lr__a=1, pca__a=2"
    assert len(search.short(tuple((f"lr__{'a' * 100}{n}", "1") for n in range(32)))) <= 512


def test_a_declaration_becomes_a_space() -> None:
    declared = ExperimentSpec.model_validate(
        spec(
            parameters=[
                {"param": "lr__a", "categorical": ["x", "y"]},
                {
                    "param": "lr__b",
                    "integer": {"min": 1, "max": 9, "step": 2},
                    "when": {"param": "lr__a", "equals": "x"},
                },
                {"param": "lr__c", "float": {"min": "0.5", "max": "2", "log": True}},
            ]
        )
    )
    assert search.space_of(declared) == (
        Dimension("lr__a", choices=('"x"', '"y"')),
        Dimension("lr__b", True, 1, 9, 2.0, when=("lr__a", '"x"')),
        Dimension("lr__c", False, 0.5, 2.0, log=True),
    )
    assert search.wrong(declared) is None
