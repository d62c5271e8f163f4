"""Many rollouts with a known truth, against the bounds that are promised.

The slow ones are the promise: 2,000 runs of 120 windows each, with a fixed seed, whose share may not exceed 5 %.  The
quick ones are the same with fewer runs, to notice at once what breaks; as a few runs scatter, they are allowed three
standard errors more.
"""

import math
from datetime import timedelta

import pytest

from modelmill.core.verdicts import Verdict
from modelmill.stats.agreement import Agreement
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.gates import Evidence
from modelmill.stats.latency import Latency
from modelmill.stats.latency_bound import LatencyBound
from simulated_rollouts import ALPHA, Truth, ramp, ruling, shifted, simulate, steps

QUICK = [pytest.param(100, id="100 runs")]
RUNS = [*QUICK, pytest.param(2_000, id="2,000 runs", marks=pytest.mark.slow)]
SLOW = [pytest.param(2_000, id="2,000 runs", marks=pytest.mark.slow)]
DELTA = 0.01
WEIGHTS = ramp(0.05, 0.5)
RATES = ramp(0.002, 0.03)
SHOCKS = tuple(0.3 if window % 7 == 3 else 0.01 for window in range(120))
# Truths in which the candidate is exactly as bad as tolerated: the hardest ones for either decision.
TOLERATED = {
    "constant": Truth(candidate=0.01 + DELTA),
    "weight and rate rise together": Truth(weight=WEIGHTS, control=RATES, candidate=shifted(RATES, DELTA)),
    "steps": Truth(weight=steps(0.05, 0.25, 0.5), candidate=0.01 + DELTA),
    "shocks": Truth(control=SHOCKS, candidate=shifted(SHOCKS, DELTA)),
}


def at_most(share: float, runs: int) -> float:
    """What a share of so many runs may be."""
    return share if runs >= 1_000 else share + 3 * math.sqrt(share * (1 - share) / runs)


def error_rate() -> ErrorRate:
    return ErrorRate(DELTA)


@pytest.mark.parametrize("runs", RUNS)
def test_equal_arms_are_promoted_soon_and_not_rolled_back(runs: int) -> None:
    found = simulate(Truth(), error_rate, runs=runs)
    assert found.rejected() <= at_most(ALPHA, runs)
    assert found.promoted_by(0.5) <= 12
    assert found.promoted() == 1


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("name", TOLERATED)
def test_as_bad_as_tolerated_is_neither_promoted_nor_rolled_back(name: str, runs: int) -> None:
    found = simulate(TOLERATED[name], error_rate, runs=runs, seed=2)
    assert found.rejected() <= at_most(ALPHA, runs)
    assert found.promoted() <= at_most(ALPHA, runs)


@pytest.mark.parametrize("runs", SLOW)
def test_half_as_bad_as_tolerated_is_not_rolled_back(runs: int) -> None:
    assert simulate(Truth(candidate=0.01 + DELTA / 2), error_rate, runs=runs).rejected() <= at_most(ALPHA / 5, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_equal_arms_are_promoted_over_the_steps(runs: int) -> None:
    found = simulate(Truth(weight=steps(0.05, 0.25, 0.5)), error_rate, runs=runs)
    assert found.rejected() <= at_most(ALPHA, runs)
    assert found.promoted_by(0.5) <= 20


@pytest.mark.parametrize("runs", SLOW)
@pytest.mark.parametrize(
    "truth", [Truth(weight=WEIGHTS, control=RATES, candidate=RATES), Truth(control=SHOCKS, candidate=SHOCKS)]
)
def test_what_hits_both_arms_rolls_nothing_back(truth: Truth, runs: int) -> None:
    assert simulate(truth, error_rate, runs=runs).rejected() <= at_most(ALPHA, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_without_a_tolerance_no_difference_is_still_none(runs: int) -> None:
    assert simulate(Truth(), lambda: ErrorRate(0.0), runs=runs).rejected() <= at_most(ALPHA, runs)


@pytest.mark.parametrize("runs", RUNS)
def test_four_points_more_are_found_within_a_few_windows(runs: int) -> None:
    found = simulate(Truth(windows=30, candidate=0.05), error_rate, runs=runs)
    assert found.rejected_by(0.5) <= 5
    assert found.rejected_by(0.99) <= 15
    assert found.promoted() <= at_most(ALPHA, runs)


@pytest.mark.parametrize("runs", QUICK)
@pytest.mark.parametrize("begins", [1, 10, 120])
def test_a_candidate_that_starts_to_fail_every_request_is_found_in_two_windows_of_fifty(begins: int, runs: int) -> None:
    rates = (0.01,) * (begins - 1) + (1.0,) * 2
    found = simulate(Truth(windows=len(rates), requests=500, candidate=rates), error_rate, runs=runs, gates=4)
    assert found.rejected() == 1
    assert found.rejected_by(0.01) >= begins - 1  # and not before it does


@pytest.mark.slow
def test_also_after_a_day_of_good_windows() -> None:
    begins = 5_760  # of 15 s
    rates = (0.01,) * (begins - 1) + (1.0,) * 2
    found = simulate(Truth(windows=len(rates), requests=500, candidate=rates), error_rate, runs=50, gates=4)
    assert found.rejected() == 1
    assert found.rejected_by(0.02) >= begins


@pytest.mark.slow
def test_what_goes_bad_half_way_is_found() -> None:
    found = simulate(Truth(candidate=(0.01,) * 60 + (0.05,) * 60), error_rate, runs=500)
    assert 60 < found.rejected_by(0.5) <= 80


EDGE = 2 ** (1 / 8)
LOAD = ramp(0.005, 0.02, 60)


@pytest.mark.parametrize("runs", [pytest.param(20, id="20 runs"), *SLOW])
def test_equally_fast_arms_are_not_rolled_back(runs: int) -> None:
    truth = Truth(control_seconds=0.005, candidate_seconds=0.005)
    assert simulate(truth, lambda: Latency(0.99, 1.0), runs=runs).rejected() <= at_most(ALPHA, runs)


@pytest.mark.parametrize("runs", SLOW)
def test_as_slow_as_tolerated_is_not_rolled_back_while_load_slows_both(runs: int) -> None:
    slow = tuple(EDGE**2 * seconds for seconds in LOAD)
    truth = Truth(windows=60, weight=ramp(0.05, 0.5, 60), control_seconds=LOAD, candidate_seconds=slow)
    assert simulate(truth, lambda: Latency(0.99, EDGE**2), runs=runs).rejected() <= at_most(ALPHA, runs)


@pytest.mark.parametrize(
    "runs", [pytest.param(20, id="20 runs"), pytest.param(300, id="300 runs", marks=pytest.mark.slow)]
)
def test_half_as_slow_again_is_found_within_a_few_windows(runs: int) -> None:
    truth = Truth(control_seconds=0.005, candidate_seconds=0.0075)
    assert simulate(truth, lambda: Latency(0.99, 1.2), runs=runs).rejected_by(0.5) <= 8


@pytest.mark.parametrize("runs", [pytest.param(30, id="30 runs"), *SLOW])
def test_agreement_at_exactly_the_minimum_is_neither_promoted_nor_rolled_back(runs: int) -> None:
    found = simulate(Truth(windows=60, agreement=0.9), lambda: Agreement(0.9), runs=runs)
    assert found.rejected() <= at_most(ALPHA, runs)
    assert found.promoted() <= at_most(ALPHA, runs)


@pytest.mark.parametrize(
    "runs", [pytest.param(50, id="50 runs"), pytest.param(500, id="500 runs", marks=pytest.mark.slow)]
)
def test_agreement_is_decided_soon_where_it_is_clear(runs: int) -> None:
    assert simulate(Truth(windows=20, agreement=0.95), lambda: Agreement(0.9), runs=runs).promoted_by(0.5) <= 5
    assert simulate(Truth(windows=20, agreement=0.8), lambda: Agreement(0.9), runs=runs).rejected_by(0.5) <= 3


@pytest.mark.parametrize(
    "runs", [pytest.param(20, id="20 runs"), pytest.param(1_000, id="1,000 runs", marks=pytest.mark.slow)]
)
def test_all_gates_together_are_wrong_no_more_often_than_one(runs: int) -> None:
    """Equal arms, and four gates without any tolerance: the whole rollout is rolled back rarely."""
    truth = Truth(windows=40, control_seconds=0.005, candidate_seconds=0.005, agreement=0.9)
    rejected = 0
    for windows in truth.rollouts(runs, seed=3):
        gates: dict[str, Evidence] = {
            "errorRate": ErrorRate(0.0), "latency": Latency(0.99, 1.0), "agreement": Agreement(0.9),
            "latencyBound": LatencyBound(0.99, 0.01),
        }  # fmt: skip
        verdict = Verdict.HOLD
        for window in windows:
            gates = {name: evidence.update(window) for name, evidence in gates.items()}
            if verdict is not Verdict.REJECT:
                verdict = ruling(gates, requests=500, hold_left=timedelta(1))
        rejected += verdict is Verdict.REJECT
    assert rejected / runs <= at_most(ALPHA, runs)
