"""Drift: what a window says of each distribution, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from modelmill.stats import drift
from modelmill.stats.drift import Aspect, Counts
from modelmill_contracts.effect import effect

FEATURES, REFERENCE, ROWS = 30, 4_000, 1_000
EDGES = scipy_stats.norm.ppf(np.arange(1, 11) / 11)  # ten quantile edges, as the trainer makes them


def test_the_p_value_is_that_of_a_test_of_homogeneity() -> None:
    before, now = (40, 60, 0, 100, 3), (80, 90, 7, 310, 0)
    expected = scipy_stats.chi2_contingency([before, now], correction=False)
    assert drift.p_value(before, now) == pytest.approx(expected.pvalue)


def test_bins_that_both_lack_do_not_count() -> None:
    assert drift.p_value((40, 0, 60), (45, 0, 90)) == pytest.approx(drift.p_value((40, 60), (45, 90)))
    assert effect((40, 0, 60), (45, 0, 90)) == pytest.approx(effect((40, 60), (45, 90)))


@pytest.mark.parametrize(("before", "now"), [((0, 0), (3, 4)), ((3, 4), (0, 0)), ((7, 0), (9, 0)), ((), ())])
def test_without_rows_or_bins_nothing_is_said(before: tuple[int, ...], now: tuple[int, ...]) -> None:
    assert drift.p_value(before, now) == 1
    assert effect(before, now) <= 0


@pytest.mark.parametrize(("reference", "rows"), [(200, 300), (2_000, 300), (10_000, 10_000)])
def test_the_effect_is_none_on_average_where_nothing_moved(reference: int, rows: int) -> None:
    rng, shares = np.random.default_rng(1), np.full(10, 0.1)
    pairs = zip(rng.multinomial(reference, shares, 2_000), rng.multinomial(rows, shares, 2_000), strict=True)
    found = [effect(before.tolist(), now.tolist()) for before, now in pairs]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found)) + 0.05 * 9 * (1 / reference + 1 / rows)


def test_huge_counts_are_no_error() -> None:
    assert drift.p_value((1 << 58, 1 << 58), (1 << 58, 1)) == 0
    assert math.isfinite(effect((1 << 58, 1 << 58), (1 << 58, 1)))


def test_what_is_asked_of_numbers_and_of_categories() -> None:
    assert drift.aspects(Counts((1, 1, 1), 0)) == (Aspect.VALUES, Aspect.MISSING, Aspect.OUT_OF_RANGE)
    assert drift.aspects(Counts((1, 1), 0)) == (Aspect.VALUES, Aspect.MISSING)
    assert drift.aspects(Counts((1, 1), 0, other=2)) == (Aspect.VALUES, Aspect.MISSING, Aspect.UNSEEN)


def test_each_aspect_looks_at_what_it_is_about() -> None:
    before = Counts((100, 300, 300, 100), 20)
    for now, moved in (
        (Counts((100, 300, 300, 100), 400), {Aspect.MISSING}),
        (Counts((350, 50, 50, 350), 20), {Aspect.VALUES, Aspect.OUT_OF_RANGE}),
        (Counts((100, 500, 100, 100), 20), {Aspect.VALUES}),
    ):
        assert {c.aspect for c in drift.comparisons(before, now) if c.effect > 0.1} == moved
    found = drift.comparisons(Counts((500, 300), 0, other=10), Counts((300, 180), 0, other=320))
    assert {c.aspect for c in found if c.effect > 0.1} == {Aspect.VALUES, Aspect.UNSEEN}


@pytest.mark.parametrize("window", [Counts((1, 2, 3), 0), Counts((1, 2), 0, other=3)], ids=["fewer bins", "categories"])
def test_other_bins_are_never_compared(window: Counts) -> None:
    with pytest.raises(ValueError, match="other bins"):
        drift.comparisons(Counts((1, 2), 0), window)


def test_the_false_discovery_rate_is_benjamini_and_hochbergs() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        values = [*rng.random(20), *(rng.random(10) / 100)]
        expected = scipy_stats.false_discovery_control(values, method="bh") <= 0.05
        bound = drift.benjamini_hochberg(values, 0.05)
        assert [value <= bound for value in values] == expected.tolist()
    assert drift.benjamini_hochberg([], 0.05) < 0
    assert drift.benjamini_hochberg([0.9, 0.8], 0.05) < 0


def test_what_two_of_three_windows_reject_has_drifted() -> None:
    windows = [(True, True, True), (True, False, True), (False, False, True), (False, True, True)]
    assert drift.drifted(windows) == (False, False, True)
    assert drift.drifted(windows[:1]) == (False, False, False)
    assert drift.drifted(windows[:2]) == (True, False, True)
    assert drift.drifted([]) == ()


def test_a_window_has_twenty_rows_for_each_bin() -> None:
    assert drift.least_rows([Counts((1,) * 20), Counts((1,) * 22, other=1)], 100) == 460
    assert drift.least_rows([Counts((1,) * 20)], 1000) == 1000
    assert drift.least_rows([], 1000) == 1000


class Stream:
    """Windows of `FEATURES` standard normal features, a prediction and a score, against one reference of each."""

    def __init__(self, seed: int, reference: int = REFERENCE) -> None:
        self.rng = np.random.default_rng(seed)
        self.reference = [self.counted(reference) for _ in range(FEATURES)]
        self.recent: list[tuple[bool, ...]] = []

    def counted(self, rows: int, mean: float = 0.0) -> Counts:
        shares = np.diff([0.0, *scipy_stats.norm.cdf(EDGES - mean), 1.0])
        return Counts(tuple(self.rng.multinomial(rows, shares).tolist()), int(self.rng.binomial(rows, 0.002)))

    def window(self, mean: float = 0.0) -> bool:
        """Whether there is drift after a window more, in which the first feature has that mean."""
        windows = [self.counted(ROWS, 0.0 if index else mean) for index in range(FEATURES)]
        pairs = zip(self.reference, windows, strict=True)
        found = [comparison for pair in pairs for comparison in drift.comparisons(*pair)]
        self.recent = [*self.recent, drift.rejected(found, 0.05, 0.1)][-drift.WINDOWS :]
        return any(drift.drifted(self.recent))


@pytest.mark.slow
@pytest.mark.parametrize("reference", [500, REFERENCE])
def test_at_most_one_false_alarm_in_a_thousand_windows_where_nothing_moves(reference: int) -> None:
    alarms = 0
    for seed in range(4):
        stream = Stream(seed, reference)
        alarms += sum(stream.window() for _ in range(500))
    assert alarms <= 2  # of 2,000


@pytest.mark.slow
def test_half_a_standard_deviation_in_one_of_thirty_features_is_found_within_three_windows() -> None:
    found = []
    for seed in range(300):
        stream = Stream(seed)
        for _ in range(3):
            stream.window()
        found.append(next((n for n in range(1, 4) if stream.window(0.5)), None))
    assert None not in found
    assert np.mean([n == 2 for n in found if n]) > 0.95  # two windows are what it takes
