"""Thresholds, averages, rounding, and the average over all starts."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.stats.e_values import AnyStart, committed, log_mean_exp, log_sum_exp, threshold

log_es = st.floats(-50, 50)


def test_the_threshold_is_shared_by_the_gates() -> None:
    assert threshold(0.05) == pytest.approx(math.log(20))
    assert threshold(0.05, 4) == pytest.approx(math.log(80))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_confidence_of_nothing_or_all_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        threshold(alpha)


def test_no_gates_have_no_threshold() -> None:
    with pytest.raises(ValueError, match="0 gates"):
        threshold(0.05, 0)


@given(st.lists(log_es, min_size=1, max_size=9))
def test_averages_are_those_of_the_values_themselves(values: list[float]) -> None:
    assert log_mean_exp(values) == pytest.approx(math.log(sum(map(math.exp, values)) / len(values)), abs=1e-9)


def test_averages_of_what_no_float_holds() -> None:
    assert log_mean_exp([5000.0, -5000.0]) == pytest.approx(5000 - math.log(2))
    assert log_sum_exp([-math.inf, -math.inf]) == -math.inf
    assert log_sum_exp([]) == -math.inf


@given(st.floats(-1e9, 1e9))
def test_rounding_is_downwards_and_once(value: float) -> None:
    assert (
        value - 1.1e-6 <= committed(value) <= value + math.ulp(value)
    )  # a float of many digits has no room for six more
    assert committed(committed(value)) >= committed(value) - 1e-6


@given(st.lists(log_es, max_size=30))
def test_it_is_the_average_over_all_starts(windows: list[float]) -> None:
    """By its definition: each start that has come, weighted, and the weight of the others."""

    def waiting(t: int) -> float:
        return 1 / (1 + math.log(1 + t))

    expected = waiting(len(windows))
    for start in range(1, len(windows) + 1):
        expected += (waiting(start - 1) - waiting(start)) * math.exp(sum(windows[start - 1 :]))
    process = list(accumulate(windows, AnyStart.times, initial=AnyStart()))[-1]
    assert process.windows == len(windows)
    assert process.log_e == pytest.approx(math.log(expected), abs=1e-4)


def test_before_the_first_window_it_is_one() -> None:
    assert AnyStart().log_e == pytest.approx(0, abs=1e-6)
    assert AnyStart().log_e <= 0


def test_a_day_of_good_windows_is_no_debt() -> None:
    process = AnyStart()
    for _ in range(5_760):
        process = process.times(-1.0)
    assert process.log_e > -2.4
    assert process.times(17.0).log_e > threshold(0.05)


def test_what_is_refuted_starts_again() -> None:
    process = AnyStart().times(-math.inf)
    assert math.isfinite(process.log_e)
    assert process.times(6.0).log_e > 3
