"""Quality: whether a metric of what serves is worse than a bound, told from windows of labels.

Each window gives an e-value for each of a few alternatives: what is at least as good as the bound makes its mean at
most 1.  For accuracy it is the likelihood ratio of s correct rows of n, exactly, whatever n is:

    ln e = s ln(q/p) + (n-s) ln((1-q)/(1-p)),   p the bound, q on its other side: ln odds(q) = ln odds(p) -+ shift

For the other metrics, of which a window has a value x and the variance v of that estimate, it is Robbins' with the
statistic T of the window in place of a standard normal one (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform
central limit theory, arXiv 2103.06476), asymptotically, as the rows of each window grow:

    ln e = l T - l^2/2,   T = d / sqrt(max(v, v') + d^2/n),   d how much worse than the bound x is

T is self-normalised: it is never more than sqrt(n), so that a window of equal rows, which has no variance, proves no
more than its rows do.  v' is what the variance per row of the windows before makes of n rows: a window in which the
rare expensive row is missing does not look better than it is.

Quality may drop after a year.  What would have to pay back a year's evidence first is not asked, but an e-detector
(Shin, Ramdas, Rinaldo: E-detectors, arXiv 2203.03532), for each alternative e-CUSUM, and their average D:

    E_t = max(1, E_(t-1)) e_t,   E[D_T] <= E[T] for every stopping time T, while nothing dropped.

So it takes THRESHOLD windows at least on average until it says so falsely (average run length), and within n windows
it does with a probability of at most n/THRESHOLD.  A mixture over all alternatives at once, as for `agreement`, would
cost 1/2 ln n in each window, and never find what is worse by less than that.  Once it has fired, the same detector
looks the other way: for what shows that quality is back.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from modelmill.stats.beta import log_complement, log_incomplete
from modelmill.stats.e_values import committed, log_mean_exp

THRESHOLD = 1000
"""Windows until a false alarm, at least on average."""
CONFIDENCE = 0.95
"""Of the bounds of one window's value."""
SHIFTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # of ln odds
SLOPES = (0.25, 0.5, 1.0, 2.0, 3.0)  # l: how many standard errors a window's value is off
_NOTHING = (0.0,) * len(SHIFTS)
_LEAST = -30.0  # ln e of one window: what is much better need not be told exactly
_Z = 1.959963984540054  # the normal quantile of (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Metric:
    """How a metric is read."""

    ascending: bool  # more is better
    binomial: bool = False  # rows are right or wrong
    square: bool = False  # its value is a mean of squares, and its bound is not
    most: float = math.inf
    of_classes: bool = False  # it takes two rows of each class


METRICS = {
    "accuracy": Metric(ascending=True, binomial=True, most=1.0),
    "roc_auc": Metric(ascending=True, most=1.0, of_classes=True),
    "log_loss": Metric(ascending=False),
    "mae": Metric(ascending=False),
    "rmse": Metric(ascending=False, square=True),
}


@dataclass(frozen=True)
class Window:
    """What the labels of one window say: a mean, or of `square` metrics the mean of squares."""

    rows: int
    value: float
    variance: float  # of `value` as an estimate


def bounds(metric: Metric, window: Window) -> tuple[float, float | None, float | None]:
    """A window's value, and the bounds between which the true one lies with CONFIDENCE.

    None where rows do not differ: no normal bounds follow from that, and one more row may be quite another one.
    """
    if metric.binomial:
        return window.value, *_clopper_pearson(round(window.value * window.rows), window.rows)
    read = math.sqrt if metric.square else float
    if window.variance == 0:
        return read(window.value), None, None
    half = _Z * math.sqrt(window.variance)
    low, high = max(window.value - half, 0.0), min(window.value + half, metric.most)
    return read(window.value), read(low), read(high)


def _clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact interval: each bound is where what was seen, or more of it, has half of what is left."""
    log_half = math.log((1 - CONFIDENCE) / 2)
    low, high = 0.0, 1.0
    if successes > 0:
        low = _where(lambda p: log_incomplete(p, successes, trials - successes + 1) > log_half)
    if successes < trials:
        high = _where(lambda p: log_complement(p, successes + 1, trials - successes) < log_half)
    return low, high


def _where(above: Callable[[float], bool]) -> float:
    """Where something begins to hold, between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2


@dataclass(frozen=True)
class Detector:
    """Evidence that quality dropped below `bound`, or, where it has, that it is back."""

    metric: Metric
    bound: float
    dropped: bool = False
    logs: tuple[float, ...] = _NOTHING  # ln E of each alternative
    spread: float = 0.0  # variance per row of what counts, over all windows
    rows: int = 0  # of them
    alarms: int = 0

    @property
    def log_e(self) -> float:
        """ln D, rounded down."""
        return committed(log_mean_exp(self.logs))

    def update(self, window: Window) -> Self:
        """After one more window."""
        logs = tuple(
            committed(max(0.0, before) + max(log_e, _LEAST))
            for before, log_e in zip(self.logs, self._log_es(window), strict=True)
        )
        rows = self.rows + window.rows
        spread = (self.spread * self.rows + window.variance * window.rows * window.rows) / rows
        after = replace(self, logs=logs, rows=rows, spread=spread)
        if after.log_e < math.log(THRESHOLD):
            return after
        return replace(after, dropped=not self.dropped, logs=_NOTHING, alarms=self.alarms + (not self.dropped))

    def _log_es(self, window: Window) -> Sequence[float]:
        if self.metric.binomial:
            successes = round(window.value * window.rows)
            sign = 1 if self.dropped else -1
            return [_log_ratio(successes, window.rows, self.bound, sign * shift) for shift in SHIFTS]
        bound = self.bound**2 if self.metric.square else self.bound
        worse = bound - window.value if self.metric.ascending else window.value - bound
        off = -worse if self.dropped else worse
        variance = max(window.variance, self.spread / window.rows) + off * off / window.rows
        statistic = off / math.sqrt(variance) if off else 0.0
        return [slope * statistic - slope * slope / 2 for slope in SLOPES]


def _log_ratio(successes: int, trials: int, p: float, shift: float) -> float:
    """ln of the likelihood with the odds shifted by exp(shift) over that with p."""
    scale = math.log1p(p * math.expm1(shift))  # q = p exp(shift) / (1 - p + p exp(shift))
    return successes * shift - trials * scale


def estimated_accuracy(counts: Sequence[int], edges: Sequence[float], least: float) -> tuple[float, float] | None:
    """The mean highest probability of rows that are counted in bins, and how far the bins may put it off.

    Of calibrated scores that is the accuracy to expect, without a label (CBPE).  Each row of a bin counts as its
    middle: the error is half the mean width of the bins.  None where there are no rows.  `least`: that a highest
    probability can be.
    """
    rows = sum(counts)
    if not rows:
        return None
    limits = (least, *(min(max(edge, least), 1.0) for edge in edges), 1.0)
    pairs = list(zip(counts, limits[:-1], limits[1:], strict=True))
    mean = math.fsum(count * (low + high) for count, low, high in pairs) / (2 * rows)
    return mean, math.fsum(count * (high - low) for count, low, high in pairs) / (2 * rows)
