"""The gate agreement: its e-value is the integral that it says, and an e-value."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import binom

from modelmill.stats.agreement import Agreement, log_e_at_least, log_e_at_most
from modelmill.stats.e_values import threshold
from modelmill.stats.record import RecordError
from modelmill.stats.window import Window


@pytest.mark.parametrize(("s", "n", "p"), [(0, 0, 0.9), (10, 10, 0.9), (3, 10, 0.9), (97, 100, 0.9), (40, 100, 0.25)])
def test_it_is_the_average_likelihood_ratio_over_the_rates_above(s: int, n: int, p: float) -> None:
    average, _ = integrate.quad(lambda x: (x / p) ** s * ((1 - x) / (1 - p)) ** (n - s) / (1 - p), p, 1)
    assert log_e_at_most(s, n, p) == pytest.approx(math.log(average), abs=1e-6)
    average, _ = integrate.quad(lambda x: (x / p) ** s * ((1 - x) / (1 - p)) ** (n - s) / p, 0, p)
    assert log_e_at_least(s, n, p) == pytest.approx(math.log(average), abs=1e-6)


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
def test_under_the_null_it_is_one_at_most_on_average(n: int, p: float) -> None:
    for theta in (0.0, 0.05, 0.3, 0.6, 0.95, 1.0, p):
        chances = binom.pmf(range(n + 1), n, theta)
        if theta <= p:
            mean = sum(chance * math.exp(log_e_at_most(s, n, p)) for s, chance in enumerate(chances))
            assert mean <= 1 + 1e-9
        if theta >= p:
            mean = sum(chance * math.exp(log_e_at_least(s, n, p)) for s, chance in enumerate(chances))
            assert mean <= 1 + 1e-9
    assert mean == pytest.approx(1)  # at p itself nothing is given away


def test_it_decides_both_ways() -> None:
    good = Agreement(0.9).update(Window(compared=500, agreed=480))
    bad = Agreement(0.9).update(Window(compared=500, agreed=420))
    assert good.in_favour > threshold(0.05) > good.against
    assert bad.against > threshold(0.05, 4) > bad.in_favour


def test_a_billion_comparisons_are_none_too_many() -> None:
    gate = Agreement(0.9, 10**9, 9 * 10**8)
    assert gate.against < 0
    assert gate.in_favour < 0
    assert Agreement(0.9, 10**9, 9 * 10**8 - 10**6).against > 100


@given(st.lists(st.integers(0, 10**6).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=6))
def test_windows_do_not_matter_nor_restarts(seen: list[tuple[int, int]]) -> None:
    gate = Agreement(0.9)
    for compared, agreed in seen:
        gate = gate.update(Window(compared=compared, agreed=agreed))
        gate = Agreement(0.9).restored(json.loads(json.dumps(gate.record())))
    assert gate == Agreement(0.9, sum(n for n, _ in seen), sum(s for _, s in seen))
    assert math.isfinite(gate.against)
    assert math.isfinite(gate.in_favour)


@pytest.mark.parametrize("record", [[5], [5, 6], [5, 4, 3], ["5", 4], [5, -1]])
def test_what_is_no_record_is_refused(record: list[object]) -> None:
    with pytest.raises(RecordError, match="the evidence of agreement"):
        Agreement(0.9).restored(record)


@pytest.mark.parametrize("minimum", [0.0, 1.0, math.nan])
def test_a_minimum_that_nothing_can_show_is_refused(minimum: float) -> None:
    with pytest.raises(ValueError, match=r"agreement\.min is"):
        Agreement(minimum)
