"""The regularised incomplete beta function in logarithms, for tails that no float holds.

I_x(a, b) is the probability that a Beta(a, b) variable is at most x.  Lentz's method on the continued fraction of
Abramowitz and Stegun 26.5.8, as in DLMF 8.17.22; it takes some sqrt(max(a, b)) steps next to the mean, a few elsewhere.
"""

import math

_TINY = 1e-300
_EPSILON = 1e-15


def log_beta(a: float, b: float) -> float:
    """ln B(a, b), a and b > 0.  For large arguments lgamma's rounding shows: 1e-7 at 1e9."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_incomplete(x: float, a: float, b: float) -> float:
    """ln I_x(a, b) for x in [0, 1], a and b > 0; -inf at x = 0."""
    log_tail, below = _log_tail(x, a, b)
    return log_tail if below else _log_one_minus_exp(log_tail)


def log_complement(x: float, a: float, b: float) -> float:
    """ln(1 - I_x(a, b)), exact also where I_x(a, b) rounds to 1."""
    log_tail, below = _log_tail(x, a, b)
    return _log_one_minus_exp(log_tail) if below else log_tail


def _log_tail(x: float, a: float, b: float) -> tuple[float, bool]:
    """ln of the tail in which the fraction converges, and whether that is the one below x."""
    if not (0 <= x <= 1 and a > 0 and b > 0):
        raise ValueError(f"I_{x}({a}, {b}) is not defined: x must lie in [0, 1], and both parameters above 0")
    if x in (0, 1):
        return -math.inf, x == 0
    if x <= (a + 1) / (a + b + 2):
        return min(_log_series(x, a, b), 0.0), True
    return min(_log_series(1 - x, b, a), 0.0), False


def _log_series(x: float, a: float, b: float) -> float:
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) - log_beta(a, b) - math.log(_fraction(x, a, b))


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d_1/(1 + d_2/(1 + ...)), whose reciprocal is the continued fraction's value."""
    value, c, d = 1.0, 1.0, 0.0
    for m in range(1_000 + 10 * math.isqrt(int(max(a, b)))):
        for term in _terms(x, a, b, m):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"the continued fraction of I_{x}({a}, {b}) did not converge")


def _terms(x: float, a: float, b: float, m: int) -> tuple[float, float]:
    odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    even = (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2))
    return odd, even


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _log_one_minus_exp(log_p: float) -> float:
    """ln(1 - exp(log_p)) for log_p <= 0 (Maechler: Accurately computing log(1 - exp(-|a|)))."""
    if log_p == 0:
        return -math.inf
    return math.log(-math.expm1(log_p)) if log_p > -math.log(2) else math.log1p(-math.exp(log_p))
