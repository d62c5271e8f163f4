"""Quality: exact ratios, intervals, and by simulation how often it is said falsely, and how soon, that it dropped.

Where quality is exactly at its bound nothing dropped, and a false alarm within 50 windows has a probability of at most
50/THRESHOLD.
"""

import math
from collections.abc import Callable
from statistics import NormalDist, median

import numpy as np
import pytest
from scipy import stats as scipy_stats

from modelmill.stats import quality
from modelmill.stats.quality import CONFIDENCE, METRICS, THRESHOLD, Detector, Window, bounds, estimated_accuracy

Draw = Callable[[np.random.Generator, int], Window]
RUNS, WINDOWS = 2_000, 50
MOST = WINDOWS / THRESHOLD


def right(share: float) -> Draw:
    """So many rows are right."""

    def draw(rng: np.random.Generator, rows: int) -> Window:
        value = rng.binomial(rows, share) / rows
        return Window(rows, value, value * (1 - value) / rows)

    return draw


def mean_of(losses: Callable[[np.random.Generator, int], np.ndarray]) -> Draw:
    def draw(rng: np.random.Generator, rows: int) -> Window:
        found = losses(rng, rows)
        return Window(rows, float(found.mean()), float(found.var(ddof=1) / rows))

    return draw


def log_losses(sharpness: float, wrong: float = 0.0) -> Draw:
    """Of a calibrated classifier; `wrong`: that share of the labels is permuted."""

    def losses(rng: np.random.Generator, rows: int) -> np.ndarray:
        p = np.clip(rng.beta(sharpness, 1, rows), 0.01, 0.99)
        hit = rng.random(rows) < np.where(rng.random(rows) < wrong, 0.5, p)
        return -np.log(np.where(hit, p, 1 - p))

    return mean_of(losses)


def errors(scale: float, power: int) -> Draw:
    return mean_of(lambda rng, rows: np.abs(rng.normal(scale=scale, size=rows)) ** power)


def area(distance: float) -> Draw:
    """Of scores that are normal in both classes, with DeLong's variance."""

    def draw(rng: np.random.Generator, rows: int) -> Window:
        positives = max(2, min(rows - 2, int(rng.binomial(rows, 0.3))))
        ranks = np.argsort(np.argsort(np.concatenate((
            rng.normal(distance, size=positives), rng.normal(size=rows - positives)
        )))) + 1.0  # fmt: skip
        own = np.argsort(np.argsort(ranks[:positives])) + 1.0
        others = np.argsort(np.argsort(ranks[positives:])) + 1.0
        above = (ranks[:positives] - own) / (rows - positives)
        below = 1 - (ranks[positives:] - others) / positives
        variance = above.var(ddof=1) / positives + below.var(ddof=1) / (rows - positives)
        return Window(rows, float(above.mean()), float(variance))

    return draw


def auc_of(distance: float) -> float:
    return NormalDist().cdf(distance / math.sqrt(2))


def log_loss_of(sharpness: float) -> float:
    p = np.clip(((np.arange(100_000) + 0.5) / 100_000) ** (1 / sharpness), 0.01, 0.99)
    return float(np.mean(-p * np.log(p) - (1 - p) * np.log(1 - p)))


LOG_LOSS = {sharpness: log_loss_of(sharpness) for sharpness in (3.0, 12.0)}


def detected(detector: Detector, draw: Draw, rows: int, *, runs: int, windows: int, seed: int = 1) -> list[int]:
    """The windows in which each run says the other thing for the first time; of a run that never does, nothing."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(runs):
        now = detector
        for number in range(1, windows + 1):
            now = now.update(draw(rng, rows))
            if now.dropped != detector.dropped:
                found.append(number)
                break
    return found


def detector(metric: str, bound: float) -> Detector:
    return Detector(METRICS[metric], bound)


# What is exact.


@pytest.mark.parametrize("shift", [-2.0, -0.1, 0.5])
def test_the_ratio_is_that_of_two_binomial_likelihoods_and_has_mean_one(shift: float) -> None:
    p, rows = 0.93, 40
    q = 1 / (1 + math.exp(-(math.log(p / (1 - p)) + shift)))
    counts = np.arange(rows + 1)
    ratios = np.array([quality._log_ratio(s, rows, p, shift) for s in counts])  # noqa: SLF001
    exact = scipy_stats.binom.logpmf(counts, rows, q) - scipy_stats.binom.logpmf(counts, rows, p)
    assert ratios == pytest.approx(exact, abs=1e-9)
    assert float(np.sum(scipy_stats.binom.pmf(counts, rows, p) * np.exp(ratios))) == pytest.approx(1)


@pytest.mark.parametrize(("successes", "rows"), [(0, 10), (10, 10), (1, 100), (943, 1000), (99_990, 100_000)])
def test_an_accuracys_bounds_are_clopper_and_pearsons(successes: int, rows: int) -> None:
    exact = scipy_stats.binomtest(successes, rows).proportion_ci(0.95, method="exact")
    value, low, high = bounds(METRICS["accuracy"], Window(rows, successes / rows, 0.0))
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert low <= value <= high


def test_other_bounds_are_of_the_value_and_lie_where_it_can() -> None:
    normal = NormalDist(0.9, 0.02)
    assert bounds(METRICS["roc_auc"], Window(100, 0.9, 0.0004)) == (
        0.9,
        pytest.approx(normal.inv_cdf((1 - CONFIDENCE) / 2)),
        pytest.approx(normal.inv_cdf((1 + CONFIDENCE) / 2)),
    )
    assert bounds(METRICS["roc_auc"], Window(100, 0.99, 0.0004)) == pytest.approx((0.99, 0.9508, 1.0), abs=1e-4)
    assert bounds(METRICS["log_loss"], Window(100, 0.01, 0.0004))[1] == 0.0
    assert bounds(METRICS["roc_auc"], Window(100, 1.0, 0.0)) == (1.0, None, None)  # and not: it is certainly 1
    assert bounds(METRICS["rmse"], Window(100, 4.0, 0.0)) == (2.0, None, None)
    squared = bounds(METRICS["rmse"], Window(100, 4.0, 0.25))
    assert squared == pytest.approx((2.0, math.sqrt(3.02), math.sqrt(4.98)), abs=1e-4)


def test_rows_that_are_all_alike_prove_no_more_than_there_are() -> None:
    few = detector("roc_auc", 0.9).update(Window(100, 0.0, 0.0))
    assert few.dropped
    assert not detector("roc_auc", 0.9).update(Window(9, 0.0, 0.0)).dropped
    assert not detector("roc_auc", 0.9).update(Window(100, 0.9, 0.0)).dropped


def test_what_was_good_for_years_is_found_as_fast() -> None:
    rng, draw = np.random.default_rng(3), right(0.99)
    now = detector("accuracy", 0.95)
    for _ in range(5_000):
        now = now.update(draw(rng, 1_000))
    assert now.log_e > -31
    assert now.update(Window(1_000, 0.5, 0.00025)).dropped


def test_after_an_alarm_it_looks_the_other_way() -> None:
    dropped = detector("accuracy", 0.95).update(Window(1_000, 0.5, 0.00025))
    assert (dropped.dropped, dropped.alarms, dropped.log_e) == (True, 1, 0.0)
    assert dropped.update(Window(1_000, 0.5, 0.00025)).dropped
    back = dropped.update(Window(1_000, 0.999, 1e-6))
    assert (back.dropped, back.alarms) == (False, 1)


def test_an_estimate_is_the_mean_of_the_bins_middles_and_says_how_wide_they_are() -> None:
    assert estimated_accuracy((0, 0), (0.75,), 0.5) is None
    value, error = estimated_accuracy((300, 100), (0.75,), 0.5) or (0, 0)
    assert (value, error) == pytest.approx(((300 * 0.625 + 100 * 0.875) / 400, 0.125))


@pytest.mark.parametrize("sharpness", [3.0, 12.0])
def test_an_estimate_of_calibrated_scores_is_the_accuracy_within_its_error(sharpness: float) -> None:
    rng = np.random.default_rng(5)
    score = 0.5 + rng.beta(sharpness, 1, 200_000) / 2
    edges = np.quantile(score[:5_000], np.arange(1, 20) / 20)
    value, error = estimated_accuracy(np.histogram(score, [0, *edges, 2])[0].tolist(), edges.tolist(), 0.5) or (0, 0)
    right_ = float(np.mean(rng.random(len(score)) < score))
    assert abs(value - right_) <= error
    assert error < 0.03


# How often it is wrong, and how soon it is right.

AT_THE_BOUND: list[tuple[str, float, Draw]] = [
    ("accuracy", 0.95, right(0.95)),
    ("accuracy", 0.995, right(0.995)),
    ("roc_auc", auc_of(1.0), area(1.0)),
    ("roc_auc", auc_of(2.5), area(2.5)),
    ("log_loss", LOG_LOSS[3.0], log_losses(3.0)),
    ("log_loss", LOG_LOSS[12.0], log_losses(12.0)),
    ("mae", math.sqrt(2 / math.pi), errors(1, 1)),
    ("rmse", 1.0, errors(1, 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 1_000])
@pytest.mark.parametrize(("metric", "bound", "draw"), AT_THE_BOUND)
def test_false_alarms_are_as_rare_as_stated(metric: str, bound: float, draw: Draw, rows: int) -> None:
    windows = WINDOWS if rows == 100 else WINDOWS // 2  # for the time that it takes
    found = len(detected(detector(metric, bound), draw, rows, runs=RUNS, windows=windows)) / RUNS
    print(f"{metric} {bound:.4f}, {rows} rows: {found:.4f} of at most {windows / THRESHOLD}")
    assert found <= windows / THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "bound", "draw"), AT_THE_BOUND)
def test_nor_is_it_said_falsely_that_quality_is_back(metric: str, bound: float, draw: Draw) -> None:
    rng = np.random.default_rng(2)
    worse = {"accuracy": right(0.5), "roc_auc": area(0.0)}.get(metric)
    dropped = detector(metric, bound)
    if worse is None:
        dropped = Detector(METRICS[metric], bound, True, spread=draw(rng, 10_000).variance * 10_000, rows=1_000)
    else:
        dropped = dropped.update(worse(rng, 1_000))
    assert dropped.dropped
    found = len(detected(dropped, draw, 100, runs=RUNS, windows=WINDOWS)) / RUNS
    print(f"{metric} {bound:.4f}: {found:.4f} of at most {MOST}")
    assert found <= MOST


DROPS: list[tuple[str, float, Draw, int, int]] = [
    # A permuted label: accuracy and area at chance, each log loss with the other class' probability half of the time.
    ("accuracy", 0.95, right(0.5), 1_000, 1),
    ("accuracy", 0.95, right(0.5), 100, 1),
    ("roc_auc", auc_of(2.5), area(0.0), 1_000, 1),
    ("roc_auc", auc_of(2.5), area(0.0), 100, 1),
    ("log_loss", LOG_LOSS[12.0], log_losses(12.0, wrong=1.0), 1_000, 1),
    ("log_loss", LOG_LOSS[12.0], log_losses(12.0, wrong=1.0), 100, 2),
    ("rmse", 1.0, errors(1.5, 2), 1_000, 1),
    # Smaller ones.
    ("accuracy", 0.95, right(0.92), 1_000, 3),
    ("accuracy", 0.95, right(0.94), 1_000, 24),
    ("roc_auc", auc_of(2.5), area(2.2), 1_000, 6),
    ("log_loss", LOG_LOSS[12.0], log_losses(12.0, wrong=0.1), 1_000, 4),
    ("mae", math.sqrt(2 / math.pi), errors(1.05, 1), 1_000, 10),
]


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "bound", "draw", "rows", "within"), DROPS)
def test_a_drop_is_found_soon(metric: str, bound: float, draw: Draw, rows: int, within: int) -> None:
    runs = RUNS if within == 1 else RUNS // 10
    found = detected(detector(metric, bound), draw, rows, runs=runs, windows=10 * within)
    print(f"{metric}, {rows} rows: median {median(found)}, last {max(found)} of {len(found)}/{runs}")
    assert sum(number <= within for number in found) >= 0.95 * runs
