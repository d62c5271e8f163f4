"""The regularised incomplete gamma function: the tail of the chi-square distribution.

By its series below a + 1 and by Lentz's method on the continued fraction above it (DLMF 8.7.1 and 8.9.2).
"""

import math

_TINY = 1e-300
_EPSILON = 1e-15


def chi_square_tail(statistic: float, degrees: int) -> float:
    """The probability that a chi-square variable with `degrees` >= 1 of freedom is at least `statistic` >= 0."""
    if not (degrees >= 1 and statistic >= 0):
        raise ValueError(f"there is no chi-square tail at {statistic} with {degrees} degrees of freedom")
    if math.isinf(statistic):
        return 0.0
    return upper(degrees / 2, statistic / 2)


def upper(a: float, x: float) -> float:
    """Q(a, x) for a > 0 and x >= 0; 0 where it is smaller than any float."""
    if x == 0:
        return 1.0
    log_factor = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        return max(1 - math.exp(log_factor) * _series(a, x), 0.0)
    return min(math.exp(log_factor) * _fraction(a, x), 1.0)


def _series(a: float, x: float) -> float:
    """Sum of x^n / (a (a+1) ... (a+n)); it converges within some sqrt(a) steps of the mean."""
    term = total = 1 / a
    n = a
    while term > total * _EPSILON:
        n += 1
        term *= x / n
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    """1/(x+1-a - 1(1-a)/(x+3-a - 2(2-a)/(x+5-a - ...)))."""
    b = x + 1 - a
    c = 1 / _TINY
    value = d = 1 / _not_zero(b)
    for n in range(1, 1_000 + 10 * math.isqrt(int(a) + 1)):
        term = -n * (n - a)
        b += 2
        d = 1 / _not_zero(term * d + b)
        c = _not_zero(b + term / c)
        value *= c * d
        if abs(c * d - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"the continued fraction of Q({a}, {x}) did not converge")


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
