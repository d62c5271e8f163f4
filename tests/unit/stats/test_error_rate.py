"""The gate errorRate, window by window; what it finds in many rollouts is in test_many_rollouts.py."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.stats.block_gro import Counts, log_e_value
from modelmill.stats.e_values import threshold
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.record import RecordError
from modelmill.stats.window import ArmWindow, Window


def window(n_a: int, s_a: int, n_b: int, s_b: int) -> Window:
    return Window(ArmWindow(n_a, s_a), ArmWindow(n_b, s_b))


@st.composite
def arms(draw: st.DrawFn) -> ArmWindow:
    requests = draw(st.integers(0, 10**9))
    return ArmWindow(requests, draw(st.integers(0, requests)))


windows = st.lists(st.builds(Window, arms(), arms()), max_size=8)


def after(gate: ErrorRate, *seen: Window) -> ErrorRate:
    for each in seen:
        gate = gate.update(each)
    return gate


def test_nothing_is_known_at_first() -> None:
    gate = ErrorRate(0.01)
    assert gate.against == pytest.approx(0, abs=1e-6)
    assert gate.in_favour == 0


def worse(now: tuple[Counts, Counts], p_a: float, p_b: float) -> float:
    """ln e of a window, with a 64th of the stake on half way from the tolerance, 0.01 above p_a, to 1."""
    sudden = (1 + p_a + 0.01) / 2
    learnt, jumped = (math.exp(log_e_value(*now, p_a=p_a, p_b=p, delta=0.01)) for p in (p_b, sudden))
    return math.log(63 / 64 * learnt + 1 / 64 * jumped)


def test_the_alternative_comes_from_the_windows_before() -> None:
    """As written in the formula: r = (s + 0.18) / (n + 18), and max(r_b, 1.5 r_a + delta) against it."""
    first = ErrorRate(0.01).update(window(900, 9, 100, 40))
    r_a, r_b, pooled = 9.18 / 918, 40.18 / 118, 49.18 / 1018
    second = first.update(window(800, 4, 200, 90))
    now = Counts(800, 4), Counts(200, 90)
    assert second.worse == first.worse.times(worse(now, r_a, r_b))
    assert second.in_favour - first.in_favour == pytest.approx(
        log_e_value(*now, p_a=pooled, p_b=pooled, delta=0.01), abs=1e-5
    )


def test_a_candidate_that_looked_good_is_still_asked_about_what_matters() -> None:
    first = ErrorRate(0.01).update(window(900, 9, 100, 0))
    r_a = 9.18 / 918
    expected = worse((Counts(900, 9), Counts(100, 5)), r_a, 1.5 * r_a + 0.01)
    assert first.update(window(900, 9, 100, 5)).worse == first.worse.times(expected)


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("usual", [0, 4])
def test_fifty_failures_are_enough_whenever_they_begin(tolerance: float, usual: int) -> None:
    """Also where nothing has failed for a day, so that what was learnt is that nothing does."""
    for good in (0, 1, 120, 5_760):
        gate = after(ErrorRate(tolerance), *[window(450, usual, 50, usual // 4)] * good)
        assert after(gate, *[window(450, usual, 50, 50)] * 2).against >= threshold(0.05, 4), good


@pytest.mark.parametrize("empty", [window(0, 0, 100, 50), window(900, 9, 0, 0), window(0, 0, 0, 0)])
def test_a_window_without_one_of_the_arms_is_no_evidence(empty: Window) -> None:
    before = ErrorRate(0.01).update(window(900, 9, 100, 1))
    later = before.update(empty)
    assert (later.against, later.in_favour) == (before.against, before.in_favour)
    assert later.past.candidate.requests == before.past.candidate.requests + empty.candidate.requests


def test_where_everything_fails_anyway_nothing_can_be_worse() -> None:
    gate = after(ErrorRate(0.2), *[window(900, 900, 100, 100)] * 20)
    assert gate.against <= 0


def test_without_a_tolerance_nothing_speaks_for_it() -> None:
    assert after(ErrorRate(0.0), *[window(900, 9, 100, 0)] * 50).in_favour == 0


def test_what_hits_both_arms_is_no_evidence_against_one() -> None:
    outage = after(ErrorRate(0.01), window(900, 9, 100, 1), window(900, 450, 100, 50), window(900, 9, 100, 1))
    assert outage.against < 0


@given(st.floats(0, 0.5), windows, windows)
def test_a_restart_between_two_windows_is_no_restart(delta: float, seen: list[Window], later: list[Window]) -> None:
    gate = after(ErrorRate(delta), *seen)
    read = ErrorRate(delta).restored(json.loads(json.dumps(gate.record())))
    assert read == gate
    assert after(read, *later) == after(gate, *later)


@given(windows)
def test_whatever_comes_evidence_is_finite(seen: list[Window]) -> None:
    gate = after(ErrorRate(0.01), *seen)
    assert math.isfinite(gate.against)
    assert math.isfinite(gate.in_favour)


def test_a_record_is_short() -> None:
    gate = after(ErrorRate(0.01), *[window(900_000, 9_000, 100_000, 1_000)] * 100)
    assert len(json.dumps(gate.record())) < 100


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ([1, "-0.5", "0.0", 900, 9, 100], "ends after 6 fields, before candidate failures"),
        ([1, "-0.5", "0.0", 900, 9, 100, 1, 7], "has 8 fields, not 7"),
        ([1, "-0.5", "0.0", 900, 9, 100, 101], "has 101 as candidate failures, which is not at most its 100 requests"),
        ([-1, "-0.5", "0.0", 900, 9, 100, 1], "has -1 as windows, which is not a count"),
        ([True, "-0.5", "0.0", 900, 9, 100, 1], "has True as windows, which is not a count"),
        ([1, "nan", "0.0", 900, 9, 100, 1], "has 'nan' as ln S, which is not a decimal"),
        ([1, "-0.5", "much", 900, 9, 100, 1], "has 'much' as ln E of promotion, which is not a decimal"),
        ([1, -0.5, "0.0", 900, 9, 100, 1], "has -0.5 as ln S, which is not a string"),
    ],
)
def test_what_is_no_record_is_refused(record: list[object], error: str) -> None:
    with pytest.raises(RecordError, match="the evidence of errorRate") as refused:
        ErrorRate(0.01).restored(record)
    assert error in str(refused.value)


@pytest.mark.parametrize("value", [-0.01, 1.0, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"errorRate\.maxIncrease is"):
        ErrorRate(value)
