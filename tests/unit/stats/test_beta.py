"""The incomplete beta function against scipy's, and where scipy's rounds to 0 or 1."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from modelmill.stats.beta import log_beta, log_complement, log_incomplete

parameters = st.floats(0.05, 1e6)


@given(parameters, parameters)
def test_log_beta_is_scipys(a: float, b: float) -> None:
    assert log_beta(a, b) == pytest.approx(special.betaln(a, b), rel=1e-9, abs=1e-6)


@given(st.floats(0, 1), parameters, parameters)
def test_it_is_scipys(x: float, a: float, b: float) -> None:
    below, above = special.betainc(a, b, x), special.betaincc(a, b, x)
    assert math.exp(log_incomplete(x, a, b)) == pytest.approx(below, rel=1e-6, abs=1e-12)
    assert math.exp(log_complement(x, a, b)) == pytest.approx(above, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("x", "a", "b"), [(0.5, 1e9, 1e9), (0.3, 3e8, 7e8), (0.01, 1e4, 1e6), (0.99, 1e6, 1e4)])
def test_next_to_the_mean_of_many(x: float, a: float, b: float) -> None:
    assert math.exp(log_incomplete(x, a, b)) == pytest.approx(special.betainc(a, b, x), rel=1e-4)


@pytest.mark.parametrize(("x", "a", "b"), [(0.1, 5000.0, 300.0), (1e-5, 80.0, 2.0), (0.3, 2000.5, 1500.5)])
def test_tails_that_no_float_holds(x: float, a: float, b: float) -> None:
    """By numerical integration of the density over its value at x."""

    def log_density(t: float) -> float:
        return (a - 1) * math.log(t) + (b - 1) * math.log1p(-t)

    width = 1 / ((a - 1) / x - (b - 1) / (1 - x))  # in which the density falls by a factor of e, or faster
    shape, _ = integrate.quad(lambda t: math.exp(log_density(t) - log_density(x)), max(0.0, x - 50 * width), x)
    value = log_incomplete(x, a, b)
    assert value == pytest.approx(log_density(x) - special.betaln(a, b) + math.log(shape), rel=1e-9)
    assert value < -100
    assert math.exp(log_complement(x, a, b)) == pytest.approx(1)


def test_a_sum_of_binomial_chances() -> None:
    for n, k, p in ((10, 3, 0.2), (200, 150, 0.9), (50, 50, 0.5)):
        assert log_incomplete(p, k, n - k + 1) == pytest.approx(stats.binom.logsf(k - 1, n, p), rel=1e-9)


def test_the_ends() -> None:
    assert log_incomplete(0.0, 2, 3) == -math.inf
    assert log_incomplete(1.0, 2, 3) == 0
    assert log_complement(0.0, 2, 3) == 0


@pytest.mark.parametrize(("x", "a", "b"), [(-0.1, 1, 1), (1.1, 1, 1), (0.5, 0, 1), (0.5, 1, -1), (math.nan, 1, 1)])
def test_what_is_not_defined_is_refused(x: float, a: float, b: float) -> None:
    with pytest.raises(ValueError, match="is not defined"):
        log_incomplete(x, a, b)
