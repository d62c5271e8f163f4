"""The gate latencyBound: a fixed time that answers may take, in which both arms are alike."""

import json

import pytest
from test_latency import times, window

from modelmill.stats.e_values import threshold
from modelmill.stats.gates import Verdict, findings
from modelmill.stats.latency_bound import LatencyBound
from modelmill.stats.record import RecordError
from modelmill_contracts.counters import LATENCY_EDGES

BOUND = LATENCY_EDGES[90]


def after(
    gate: LatencyBound, *, control: tuple[int, int], candidate: tuple[int, int], windows: int = 1
) -> LatencyBound:
    """After windows with (fast, slow) answers of each arm."""
    arms = (times(b80=control[0], b100=control[1]), times(b80=candidate[0], b100=candidate[1]))
    for _ in range(windows):
        gate = gate.update(window(*arms))
    return gate


def verdict(gate: LatencyBound) -> Verdict:
    (found,) = findings({"latencyBound0.99": gate}, 0.05)
    return found.verdict


def test_who_is_within_the_bound_is_promoted() -> None:
    assert verdict(after(LatencyBound(0.99, BOUND), control=(9000, 0), candidate=(1000, 0), windows=3)) == "Promote"


def test_who_is_slow_too_often_is_rejected() -> None:
    assert verdict(after(LatencyBound(0.99, BOUND), control=(9000, 10), candidate=(900, 100))) == "Reject"


def test_what_slows_both_arms_down_speaks_against_neither() -> None:
    gate = after(LatencyBound(0.99, BOUND), control=(4500, 4500), candidate=(500, 500), windows=20)
    assert verdict(gate) != "Reject"
    assert gate.against < threshold(0.05)


def test_exactly_as_slow_as_is_allowed_is_not_rejected() -> None:
    gate = after(LatencyBound(0.99, BOUND), control=(9000, 0), candidate=(990, 10), windows=50)
    assert verdict(gate) != "Reject"


@pytest.mark.parametrize(("seconds", "slow"), [(BOUND, 0), (LATENCY_EDGES[90] * 0.999, 0), (LATENCY_EDGES[89], 10)])
def test_the_bound_is_rounded_up_to_an_edge(seconds: float, slow: int) -> None:
    gate = LatencyBound(0.5, seconds).update(window(times(b90=10), times(b90=10)))
    assert gate.slow is not None
    assert gate.slow.past.candidate.failures == slow


def test_answers_without_a_time_are_the_error_rates() -> None:
    gate = LatencyBound(0.99, BOUND).update(window(times(b80=0), times(b80=0)))
    assert (gate.against, gate.in_favour) == (LatencyBound(0.99, BOUND).against, 0.0)


def test_a_record_is_read_back_to_the_same_evidence() -> None:
    gate = after(LatencyBound(0.99, BOUND), control=(9000, 10), candidate=(990, 9), windows=4)
    again = LatencyBound(0.99, BOUND).restored(json.loads(json.dumps(gate.record())))
    assert again == gate
    with pytest.raises(RecordError):
        LatencyBound(0.99, BOUND).restored([1, "2"])


@pytest.mark.parametrize(("quantile", "seconds"), [(0.0, 1.0), (1.0, 1.0), (0.9, 0.0), (0.9, -1.0), (0.9, 17.0)])
def test_bounds_that_mean_nothing_are_refused(quantile: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="latencyBounds"):
        LatencyBound(quantile, seconds)


def test_the_longest_that_may_be_declared_is_an_edge() -> None:
    gate = LatencyBound(0.5, 16.0).update(window(times(b160=3), times(b161=3)))
    assert gate.slow is not None
    assert gate.slow.past.control.failures == 0
    assert gate.slow.past.candidate.failures == 3
