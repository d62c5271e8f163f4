"""The gate latency: quantiles on the shared edges, what counts as slow, and the average over the quantiles."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.stats import histogram
from modelmill.stats.block_gro import Counts, log_e_value
from modelmill.stats.e_values import log_mean_exp, threshold
from modelmill.stats.latency import Latency
from modelmill.stats.record import RecordError
from modelmill.stats.window import ArmWindow, Window
from modelmill_contracts.counters import LATENCY_EDGES


def times(**counts: int) -> tuple[int, ...]:
    """A histogram with these counts: b12=3 are 3 times in bin 12."""
    filled = {int(name.removeprefix("b")): count for name, count in counts.items()}
    return tuple(filled.get(index, 0) for index in range(histogram.BINS))


def window(control: tuple[int, ...], candidate: tuple[int, ...]) -> Window:
    return Window(ArmWindow(sum(control), 0, control), ArmWindow(sum(candidate), 0, candidate))


@pytest.mark.parametrize(
    ("quantile", "edge"), [(0.1, 10), (0.5, 10), (0.51, 11), (0.9, 11), (0.91, 20), (0.99, 20), (0.001, 10)]
)
def test_a_quantile_is_the_first_edge_that_enough_times_do_not_exceed(quantile: float, edge: int) -> None:
    assert histogram.quantile_edge(histogram.cumulated(times(b10=50, b11=40, b20=10)), quantile) == edge


def test_a_quantile_of_nothing_or_above_all_edges_is_none() -> None:
    assert histogram.quantile_edge(histogram.cumulated(()), 0.5) is None
    assert histogram.quantile_edge(histogram.cumulated(times(b5=1, b161=9)), 0.5) is None


@pytest.mark.parametrize(("ratio", "steps"), [(1.0, 0), (1.01, 1), (2 ** (1 / 8), 1), (1.2, 3), (2.0, 8), (4.0, 16)])
def test_a_ratio_is_rounded_up_to_an_edge(ratio: float, steps: int) -> None:
    for edge in (0, 7, 100):
        found = histogram.edge_times(edge, ratio)
        assert found == edge + steps
        assert LATENCY_EDGES[found] >= LATENCY_EDGES[edge] * ratio * (1 - 1e-9)
    assert histogram.edge_times(160, 1.01) is None


def test_slower_is_above_the_edge() -> None:
    cumulated = histogram.cumulated(times(b3=5, b4=6, b161=7))
    assert histogram.slower(cumulated, 3) == Counts(18, 13)
    assert histogram.slower(cumulated, 4) == Counts(18, 7)
    assert histogram.slower(cumulated, 160) == Counts(18, 7)


@given(st.lists(st.integers(0, 10**9), min_size=histogram.BINS, max_size=histogram.BINS))
def test_text_is_read_back(counts: list[int]) -> None:
    assert histogram.from_text(histogram.to_text(tuple(counts))) == (tuple(counts) if any(counts) else ())


def test_a_histogram_of_one_model_is_a_short_text() -> None:
    assert histogram.to_text(times(b48=7, b50=9)) == "48:7,0,9"
    assert histogram.to_text(()) == ""


FAST = times(b40=450, b41=400, b48=50)


def test_the_first_window_only_says_what_slow_is() -> None:
    gate = Latency(0.99, 1.2).update(window(FAST, times(b100=100)))
    assert gate.against == pytest.approx(0, abs=1e-6)
    assert gate.update(window(FAST, times(b100=100))).against > threshold(0.05, 4)


def test_the_alternative_comes_from_the_times_before() -> None:
    """As for failures, r = (s + 18 (1-q)) / (n + 18), without a margin: that lies in the ratio."""
    first = Latency(0.99, 1.2).update(window(FAST, times(b43=60, b44=40)))
    second = first.update(window(times(b40=400, b48=500), times(b43=30, b44=70)))
    r_a, r_b = (450 + 18 * 0.5) / (900 + 18), (40 + 18 * 0.5) / (100 + 18)  # of the median: slower than b40, and b43
    p_b = max(r_b, min(1.5 * r_a, (1 + r_a) / 2))
    expected = log_e_value(Counts(900, 500), Counts(100, 70), p_a=r_a, p_b=p_b, delta=0.0)
    assert second.slower[0] == first.slower[0].times(expected)


def test_as_slow_as_tolerated_is_not_slow() -> None:
    gate = Latency(0.99, 1.2)
    for _ in range(50):
        gate = gate.update(window(FAST, times(b43=45, b44=40, b51=5)))  # 3 edges: 1.297 times
    assert gate.against < 0


def test_one_edge_more_is_found() -> None:
    gate = Latency(0.99, 1.2)
    for _ in range(50):
        gate = gate.update(window(FAST, times(b44=45, b45=40, b52=5)))
    assert gate.against > threshold(0.05, 4)


def test_a_slow_median_is_found_though_the_tail_is_the_same() -> None:
    gate = Latency(0.99, 1.2)
    for _ in range(20):
        gate = gate.update(window(FAST, times(b46=85, b48=15)))
    assert gate.against > threshold(0.05, 4)
    assert gate.against == pytest.approx(log_mean_exp(process.log_e for process in gate.slower))
    assert gate.slower[0].log_e > threshold(0.05, 4) > gate.slower[2].log_e


def test_a_declared_median_is_not_counted_twice() -> None:
    assert Latency(0.5, 1.2).quantiles == (0.5, 0.9)
    assert Latency(0.99, 1.2).quantiles == (0.5, 0.9, 0.99)


def test_times_above_all_edges_tell_nothing_apart() -> None:
    gate = Latency(0.99, 1.2)
    for _ in range(5):
        gate = gate.update(window(times(b161=900), times(b161=100)))
    assert gate.against == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("empty", [window((), FAST), window(FAST, ()), window((), ())])
def test_a_window_without_one_of_the_arms_is_no_evidence(empty: Window) -> None:
    before = Latency(0.99, 1.2).update(window(FAST, times(b60=100))).update(window(FAST, times(b60=100)))
    assert before.update(empty).against == before.against


def test_it_gives_no_evidence_for_a_promotion() -> None:
    assert Latency(0.99, 1.2).in_favour is None


histograms = st.dictionaries(st.integers(0, 161), st.integers(0, 10**6), max_size=5).map(
    lambda filled: tuple(filled.get(index, 0) for index in range(histogram.BINS))
)
windows = st.lists(st.builds(window, histograms, histograms), max_size=5)


@given(st.sampled_from([0.5, 0.95, 0.99]), windows, windows)
def test_a_restart_between_two_windows_is_no_restart(quantile: float, seen: list[Window], later: list[Window]) -> None:
    gate = Latency(quantile, 1.2)
    for each in seen:
        gate = gate.update(each)
    read = Latency(quantile, 1.2).restored(json.loads(json.dumps(gate.record())))
    for each in later:
        gate, read = gate.update(each), read.update(each)
        assert math.isfinite(gate.against)
        assert (read.slower, read.record()) == (gate.slower, gate.record())


@pytest.mark.parametrize(
    ("field", "found", "error"),
    [
        (6, "fast", "has 'fast' as control times"),
        (6, "48:1,-2", "has '48:1,-2' as control times"),
        (7, "160:1,2,3", "has '160:1,2,3' as candidate times"),
        (0, "0", "has '0' as windows"),
    ],
)
def test_what_is_no_record_is_refused(field: int, found: object, error: str) -> None:
    record: list[object] = list(Latency(0.99, 1.2).update(window(FAST, FAST)).record())
    record[field] = found
    with pytest.raises(RecordError, match="the evidence of latency") as refused:
        Latency(0.99, 1.2).restored(record)
    assert error in str(refused.value)


def test_a_record_of_fewer_quantiles_is_refused() -> None:
    with pytest.raises(RecordError):
        Latency(0.99, 1.2).restored(Latency(0.9, 1.2).record())


def test_times_on_other_edges_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins, not the 162"):
        Latency(0.99, 1.2).update(window((1, 2, 3), FAST))


@pytest.mark.parametrize(
    ("quantile", "ratio"), [(0.0, 1.2), (1.0, 1.2), (math.nan, 1.2), (0.99, 0.9), (0.99, math.inf)]
)
def test_bounds_that_are_none_are_refused(quantile: float, ratio: float) -> None:
    with pytest.raises(ValueError, match=r"latency\.\w+ is"):
        Latency(quantile, ratio)
