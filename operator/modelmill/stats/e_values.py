"""Arithmetic of e-values in logarithms: thresholds, averages, and the process that started at an unknown time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

DECIMALS = 6
"""Decimals of a committed ln E."""


def threshold(alpha: float, gates: int = 1) -> float:
    """ln(gates/alpha): what ln E has to reach.  Each of several gates that can reject alone has alpha/gates."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1, as the confidence does")
    if gates < 1:
        raise ValueError(f"{gates} gates: there must be at least one")
    return math.log(gates / alpha)


def committed(log_e: float) -> float:
    """Rounded down, never to more evidence than there is.

    A process goes on from this number and not from the exact one: what is read again after a restart is all there was.
    """
    scale = 10.0**DECIMALS
    return math.floor(log_e * scale) / scale


def log_sum_exp(values: Iterable[float]) -> float:
    """ln of the sum of exp(values); -inf for none."""
    values = tuple(values)
    highest = max(values, default=-math.inf)
    if math.isinf(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def log_mean_exp(values: Iterable[float]) -> float:
    """ln of the average of e-values, which is an e-value however they depend on each other.  At least one."""
    values = tuple(values)
    return log_sum_exp(values) - math.log(len(values))


@dataclass(frozen=True)
class AnyStart:
    """The average of the e-processes that start at window 1, 2, 3, ... ; start t has the weight w_t.

    A candidate that was fine for a day and then fails must be found as fast as one that fails at once.  The product of
    all windows is not: each good window takes from it, and a day's debt has to be paid back first.  The average over
    the starts (Shin, Ramdas, Rinaldo: E-detectors, arXiv 2203.03532, here with weights that sum to 1, so that Ville's
    inequality stays) never falls below the weight of what has not started yet:

        E_t = sum over k <= t of w_k e_k ... e_t  +  W_t,   W_t = sum over k > t of w_k = 1 / (1 + ln(1 + t))

    A start at window t costs -ln w_t: 0.9 at the first one, 6.5 at the hundredth, 13 at that of a day of 15 s.

    `log_started` is ln(S_t), S_t = S_(t-1) e_t + w_(t+1): the processes that the next window counts for.
    """

    windows: int = 0
    log_started: float = committed(math.log(math.log(2) / (1 + math.log(2))))

    @property
    def log_e(self) -> float:
        """ln E_t = ln(S_t + W_(t+1)) >= -ln(1 + ln(2 + t))."""
        return log_sum_exp((self.log_started, math.log(_waiting(self.windows + 1))))

    def times(self, log_e: float) -> Self:
        """After one more window; -inf ends all that have started."""
        windows = self.windows + 1
        starting = math.log1p(1 / (windows + 1)) * _waiting(windows) * _waiting(windows + 1)  # W_t - W_(t+1)
        started = committed(log_sum_exp((self.log_started + log_e, math.log(starting))))
        return type(self)(windows, started)


def _waiting(windows: int) -> float:
    return 1 / (1 + math.log1p(windows))
