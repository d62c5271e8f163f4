"""The gate `agreement`: the candidate gives the label that the control gives to the same request, often enough.

One-sided beta-mixture e-values: the likelihood, averaged over a Beta(a, b) prior cut to the rates above p, over that
under p (Robbins' method of mixtures; Howard, Ramdas, McAuliffe, Sekhon: Time-uniform, nonparametric, nonasymptotic
confidence sequences, arXiv 1810.08240).  For s successes of n, with I the regularised incomplete beta function:

    ln e_<=(s, n; p) = lnB(a+s, b+n-s) - lnB(a, b) + ln(1 - I_p(a+s, b+n-s)) - ln(1 - I_p(a, b))
                       - s ln p - (n-s) ln(1-p)

against "the rate is at most p"; e_>=(s, n; p) = e_<=(n-s, n; 1-p).  They are functions of all counts so far: neither
order nor windows matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from modelmill.stats.beta import log_beta, log_complement
from modelmill.stats.record import Reader, Record
from modelmill.stats.window import Window

_A = _B = 1.0  # all rates alike


def log_e_at_most(successes: int, trials: int, p: float) -> float:
    """ln e against "the rate is at most p", 0 < p < 1: large where it is higher."""
    a, b = _A + successes, _B + trials - successes
    mixture = log_beta(a, b) - log_beta(_A, _B) + log_complement(p, a, b) - log_complement(p, _A, _B)
    return mixture - successes * math.log(p) - (trials - successes) * math.log1p(-p)


def log_e_at_least(successes: int, trials: int, p: float) -> float:
    """ln e against "the rate is at least p", 0 < p < 1: large where it is lower."""
    return log_e_at_most(trials - successes, trials, 1 - p)


@dataclass(frozen=True)
class Agreement:
    """Evidence for a rollback (they agree less often than `minimum`) and for a promotion (more often)."""

    minimum: float
    compared: int = 0
    agreed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.minimum < 1:
            raise ValueError(f"agreement.min is {self.minimum}: it must lie between 0 and 1")

    @property
    def against(self) -> float:
        """ln E for a rollback."""
        return log_e_at_least(self.agreed, self.compared, self.minimum)

    @property
    def in_favour(self) -> float:
        """ln E for a promotion."""
        return log_e_at_most(self.agreed, self.compared, self.minimum)

    def update(self, window: Window) -> Self:
        return replace(self, compared=self.compared + window.compared, agreed=self.agreed + window.agreed)

    def record(self) -> Record:
        """What `restored` reads: comparisons and agreements."""
        return (self.compared, self.agreed)

    def restored(self, record: Sequence[object]) -> Self:
        """The evidence with this gate's bound that a status holds.  RecordError where it is not one."""
        reader = Reader("agreement", record)
        compared, agreed = reader.integer("comparisons"), reader.integer("agreements")
        if agreed > compared:
            raise reader.wrong("agreements", agreed, f"at most the {compared} comparisons")
        reader.end()
        return replace(self, compared=compared, agreed=agreed)
