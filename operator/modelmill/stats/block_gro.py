"""The block GRO e-value of two Bernoulli samples against "their rates differ by delta, or lie further to one side".

Turner, Ly, Gruenwald: Generic E-variables for exact sequential k-sample tests that allow for optional stopping,
arXiv 2106.02693.  For an alternative (p_a, p_b) fixed before the block, the e-value is

    ln e = LR(s_a, n_a; p_a, q) + LR(s_b, n_b; p_b, q + delta),   LR(s, n; p, q) = s ln(p/q) + (n-s) ln((1-p)/(1-q))

with q the null's point nearest to the alternative: it minimises n_a KL(p_a || q) + n_b KL(p_b || q + delta), where

    n_a (p_a - q) / (q (1-q))  +  n_b (p_b - q - delta) / ((q+delta) (1-q-delta))  =  0.

Why E[e] <= 1: ln E[e] = n_a ln f_a(theta_a) + n_b ln f_b(theta_b) with f linear, so it is concave, and at (q, q+delta)
it is 0 with a gradient across the line theta_b = theta_a + delta, which points to the side of the alternative.  So it
holds for any common rate, another one in each block; but only against the side on which (p_a, p_b) does not lie.
"""

import math
from typing import NamedTuple

_TINY = 1e-300
_BELOW_ONE = 1 - 2**-53


class Counts(NamedTuple):
    """Requests, and how many of them had what is counted: a failure, a slow answer, a score in a bin."""

    requests: int
    failures: int

    def plus(self, other: "Counts") -> "Counts":
        return Counts(self.requests + other.requests, self.failures + other.failures)


def log_e_value(control: Counts, candidate: Counts, *, p_a: float, p_b: float, delta: float) -> float:
    """ln e of one block; 0 where an arm is empty, -inf where something came that the alternative calls impossible.

    p_a, p_b in [0, 1] and delta in [0, 1): none of them may depend on the block.
    """
    if control.requests == 0 or candidate.requests == 0 or p_b == p_a + delta:
        return 0.0
    q = null_rate(control.requests, candidate.requests, p_a=p_a, p_b=p_b, delta=delta)
    return _log_ratio(control, p_a, q) + _log_ratio(candidate, p_b, min(q + delta, _BELOW_ONE))


def null_rate(n_a: int, n_b: int, *, p_a: float, p_b: float, delta: float) -> float:
    """q of the nearest null (q, q + delta), in (0, 1 - delta], to twelve digits.

    That is enough: ln E[e] rises above 0 by the square of q's relative error, times n q.
    """
    low, high = sorted((p_a, p_b - delta))  # where the two terms have different signs
    low, high = max(low, 0.0), min(high, 1 - delta)
    if high <= low:  # both outside on the same side: the nearest point is the end
        return max(min(high, low), _TINY)
    # Newton's method from where the root would be with delta 0, and bisection where it would leave the interval.
    q = min(max((n_a * p_a + n_b * (p_b - delta)) / (n_a + n_b), low), high)
    while high - low > 1e-12 * high and high > _TINY:
        r = q + delta
        # The equation above without its denominators, which are positive.
        value = n_a * (p_a - q) * r * (1 - r) + n_b * (p_b - r) * q * (1 - q)
        if value > 0:
            low = q
        else:
            high = q
        slope = n_a * ((p_a - q) * (1 - 2 * r) - r * (1 - r)) + n_b * ((p_b - r) * (1 - 2 * q) - q * (1 - q))
        before, q = q, q - value / slope if slope else 0.0
        if abs(q - before) <= 1e-13 * before:
            break
        if not low < q < high:
            q = (low + high) / 2
    return max(q, _TINY)


def _log_ratio(counts: Counts, p: float, q: float) -> float:
    """ln of the likelihood under rate p over that under q, 0 < q < 1."""
    total = 0.0
    for count, there, here in (
        (counts.failures, p, q),
        (counts.requests - counts.failures, 1 - p, 1 - q),
    ):
        if count:
            if there <= 0:
                return -math.inf
            total += count * math.log(there / here)
    return total
