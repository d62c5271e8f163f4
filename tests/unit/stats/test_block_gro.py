"""The e-value of one window: its optimum, its validity, and the ends of what floats can hold."""

import math
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from modelmill.stats.block_gro import Counts, log_e_value, null_rate

RATES = (0.0, 0.001, 0.02, 0.2, 0.5, 0.9, 0.999, 1.0)
DELTAS = (0.0, 0.01, 0.3)

rates = st.floats(0, 1)
deltas = st.floats(0, 0.9)


@st.composite
def counts(draw: st.DrawFn, most: int = 10**12) -> Counts:
    requests = draw(st.integers(0, most))
    return Counts(requests, draw(st.integers(0, requests)))


def divergence(n: int, p: float, q: float) -> float:
    """n KL(p || q); inf where q calls impossible what p does not."""
    total = 0.0
    for there, here in ((p, q), (1 - p, 1 - q)):
        if there > 0:
            total += there * math.log(there / here) if here > 0 else math.inf
    return n * total


def alternatives(worse: bool) -> Iterator[tuple[float, float, float]]:
    """p_a, p_b and delta: of a worse candidate, or of one that is no worse than tolerated."""
    for p_a, p_b, delta in product(RATES, RATES, DELTAS):
        if (p_b > p_a + delta) if worse else (p_b < p_a + delta):
            yield p_a, p_b, delta


class Expectation:
    """E[e] of an alternative, summed over everything that can come."""

    def __init__(self, n_a: int, n_b: int, p_a: float, p_b: float, delta: float) -> None:
        self.n_a, self.n_b = n_a, n_b
        self.e_values = [
            [
                math.exp(log_e_value(Counts(n_a, s_a), Counts(n_b, s_b), p_a=p_a, p_b=p_b, delta=delta))
                for s_b in range(n_b + 1)
            ]
            for s_a in range(n_a + 1)
        ]

    def under(self, theta_a: float, theta_b: float) -> float:
        chances = np.outer(chances_of(self.n_a, theta_a), chances_of(self.n_b, theta_b))
        return float(np.sum(chances * self.e_values))


@cache
def chances_of(n: int, theta: float) -> NDArray[np.float64]:
    return np.asarray(binom.pmf(np.arange(n + 1), n, theta))


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (3, 1), (2, 4)])
@pytest.mark.parametrize("worse", [True, False])
def test_under_the_null_an_e_value_is_one_at_most_on_average(n_a: int, n_b: int, worse: bool) -> None:
    for p_a, p_b, delta in alternatives(worse):
        expectation = Expectation(n_a, n_b, p_a, p_b, delta)
        for theta_a, other in product((0.0, 0.003, 0.03, 0.3, 0.7, 1.0), repeat=2):
            theta_b = min(other, theta_a + delta) if worse else max(other, theta_a + delta)
            if theta_b <= 1:
                assert expectation.under(theta_a, theta_b) <= 1 + 1e-9, (p_a, p_b, delta, theta_a, theta_b)


@pytest.mark.parametrize(("n_a", "n_b"), [(5, 2), (2, 5)])
def test_it_is_one_on_average_where_the_null_is_nearest(n_a: int, n_b: int) -> None:
    """So nothing is given away, and the check above would notice a factor."""
    q = null_rate(n_a, n_b, p_a=0.1, p_b=0.5, delta=0.2)
    expectation = Expectation(n_a, n_b, 0.1, 0.5, 0.2)
    assert expectation.under(q, q + 0.2) == pytest.approx(1)
    assert expectation.under(0.1, 0.5) > 1.1


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (900, 100), (1, 10**9), (10**12, 3)])
def test_no_other_point_of_the_null_is_nearer_to_the_alternative(n_a: int, n_b: int) -> None:
    for p_a, p_b, delta in [*alternatives(worse=True), *alternatives(worse=False)]:
        q = null_rate(n_a, n_b, p_a=p_a, p_b=p_b, delta=delta)
        assert 0 < q <= 1 - delta

        def distance(x: float) -> float:
            return divergence(n_a, p_a, x) + divergence(n_b, p_b, min(x + delta, 1.0))  # noqa: B023

        grid = [*((1 - delta) * i / 500 for i in range(501)), *(q * (1 + d) for d in (-0.1, -1e-3, 1e-3, 0.1))]
        nearest = min(distance(x) for x in grid if 0 <= x <= 1 - delta)
        rounding = 1e-9 * (1 + nearest) + 1e-12 * (n_a + n_b)  # q has twelve digits
        assert distance(q) <= nearest + rounding, (p_a, p_b, delta)


@given(counts(), counts(), rates, rates, deltas)
def test_whatever_comes_it_is_a_number(a: Counts, b: Counts, p_a: float, p_b: float, delta: float) -> None:
    value = log_e_value(a, b, p_a=p_a, p_b=p_b, delta=delta)
    assert value < math.inf
    if 0 < p_a < 1 and 0 < p_b < 1:
        assert value > -math.inf
    if a.requests == 0 or b.requests == 0:
        assert value == 0


fair = st.floats(0.01, 0.99)


@given(counts(10**6), counts(10**6), fair, fair, st.floats(0, 0.3))
def test_failures_of_one_arm_are_successes_of_the_other(
    a: Counts, b: Counts, p_a: float, p_b: float, delta: float
) -> None:
    """theta_b <= theta_a + delta says that 1 - theta_a <= 1 - theta_b + delta."""
    there = log_e_value(a, b, p_a=p_a, p_b=p_b, delta=delta)
    other_a, other_b = Counts(b.requests, b.requests - b.failures), Counts(a.requests, a.requests - a.failures)
    assert log_e_value(other_a, other_b, p_a=1 - p_b, p_b=1 - p_a, delta=delta) == pytest.approx(there, abs=1e-4)


@given(counts(10**6), counts(10**6), fair, fair, st.floats(0, 0.3))
def test_one_more_failure_of_the_candidate_speaks_against_it(
    a: Counts, b: Counts, p_a: float, p_b: float, delta: float
) -> None:
    if p_b <= p_a + delta or b.failures == b.requests:
        return
    before = log_e_value(a, b, p_a=p_a, p_b=p_b, delta=delta)
    after = log_e_value(a, Counts(b.requests, b.failures + 1), p_a=p_a, p_b=p_b, delta=delta)
    assert after >= before - 1e-9 * abs(before)


def test_an_alternative_in_the_null_says_nothing() -> None:
    assert log_e_value(Counts(900, 9), Counts(100, 30), p_a=0.25, p_b=0.5, delta=0.25) == 0


def test_what_the_alternative_calls_impossible_refutes_it() -> None:
    assert log_e_value(Counts(10, 1), Counts(10, 5), p_a=0.0, p_b=0.5, delta=0.0) == -math.inf
    assert log_e_value(Counts(10, 0), Counts(10, 5), p_a=0.0, p_b=0.5, delta=0.0) > 0
