"""The tail of the chi-square distribution, against scipy's."""

import math

import pytest
from scipy import stats

from modelmill.stats.gamma import chi_square_tail

DEGREES = (1, 2, 3, 10, 19, 22, 100, 1000, 100_000)


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize("times", [0, 1e-6, 0.1, 0.5, 0.9, 0.999, 1, 1.001, 1.1, 1.5, 2, 5, 50])
def test_the_tail_is_scipys(degrees: int, times: float) -> None:
    expected = float(stats.chi2.sf(times * degrees, degrees))
    assert chi_square_tail(times * degrees, degrees) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("degrees", DEGREES)
def test_far_out_it_is_zero_and_no_error(degrees: int) -> None:
    assert chi_square_tail(1e12, degrees) == 0
    assert chi_square_tail(math.inf, degrees) == 0


@pytest.mark.parametrize(("statistic", "degrees"), [(-1, 3), (1, 0), (math.nan, 3)])
def test_what_is_not_defined_is_an_error(statistic: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="there is no chi-square tail"):
        chi_square_tail(statistic, degrees)
