"""The gate `latencyBound`: the candidate takes longer than a fixed time hardly more often than the control.

An answer "fails" if the model took longer than `seconds`, rounded up to an edge of the histogram, in both arms alike;
then the candidate may fail more often than the control by at most 1 - quantile.  So a candidate whose quantile is
within the bound is never held to be worse, whatever the control does, and what slows both arms down at once speaks
against neither.  Answers that failed have no time: they are the error rate's.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from modelmill.stats import histogram
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.record import Record
from modelmill.stats.window import ArmWindow, Window
from modelmill_contracts.counters import LATENCY_EDGES


@dataclass(frozen=True)
class LatencyBound:
    """Evidence for a rollback (slow more often by more than 1 - `quantile`) and for a promotion (by less)."""

    quantile: float
    seconds: float
    slow: ErrorRate | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"latencyBounds.quantile is {self.quantile}: it must lie between 0 and 1")
        if not (math.isfinite(self.seconds) and 0 < self.seconds <= LATENCY_EDGES[-1]):
            raise ValueError(f"latencyBounds.max is {self.seconds} s: it must be above 0 and at most 16 s")

    @property
    def _slow(self) -> ErrorRate:
        return self.slow if self.slow is not None else ErrorRate(1 - self.quantile)

    @property
    def against(self) -> float:
        """ln E for a rollback."""
        return self._slow.against

    @property
    def in_favour(self) -> float:
        """ln E for a promotion."""
        return self._slow.in_favour

    def update(self, window: Window) -> Self:
        edge = bisect_left(LATENCY_EDGES, self.seconds * (1 - 1e-9))  # edges are exact to 1e-16 only
        slower = Window(_slower(window.control, edge), _slower(window.candidate, edge))
        return replace(self, slow=self._slow.update(slower))

    def record(self) -> Record:
        """What `restored` reads: that of the error rate, of slow answers."""
        return self._slow.record()

    def restored(self, record: Sequence[object]) -> Self:
        """The evidence with this gate's bound that a status holds.  RecordError where it is not one."""
        return replace(self, slow=ErrorRate(1 - self.quantile).restored(record))


def _slower(arm: ArmWindow, edge: int) -> ArmWindow:
    """The answers that have a time, and as failures those of them that are slower than the edge."""
    counts = histogram.slower(histogram.cumulated(arm.latency), edge)
    return ArmWindow(counts.requests, counts.failures)
