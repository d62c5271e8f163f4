"""The gate `latency`: the candidate's quantiles of compute time are at most `max_ratio` times the control's.

For each quantile, x is the control's over the windows before.  An answer of the control "fails" if it is slower than x,
one of the candidate if it is slower than max_ratio * x, rounded up to an edge of the histogram; then the candidate must
not fail more often.  x need not be right: whatever it is, a candidate that is at most max_ratio times as slow does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from modelmill.stats import histogram
from modelmill.stats.e_values import AnyStart, log_mean_exp
from modelmill.stats.rates import Arms, Prior, log_e_worse
from modelmill.stats.record import Reader, Record
from modelmill.stats.window import Window, added

ALWAYS = (0.5, 0.9)  # quantiles that are compared besides the declared one


@dataclass(frozen=True)
class Latency:
    """Evidence for a rollback, averaged over the quantiles."""

    quantile: float
    max_ratio: float
    slower: tuple[AnyStart, ...] = ()  # by quantile, see `quantiles`
    control: tuple[int, ...] = ()  # all times of the windows before
    candidate: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"latency.quantile is {self.quantile}: it must lie between 0 and 1")
        if not (math.isfinite(self.max_ratio) and self.max_ratio >= 1):
            raise ValueError(f"latency.maxRatio is {self.max_ratio}: it must be at least 1")
        if not self.slower:
            object.__setattr__(self, "slower", tuple(AnyStart() for _ in self.quantiles))

    @property
    def quantiles(self) -> tuple[float, ...]:
        return tuple(sorted({*ALWAYS, self.quantile}))

    @property
    def against(self) -> float:
        """ln E for a rollback."""
        return log_mean_exp(process.log_e for process in self.slower)

    @property
    def in_favour(self) -> None:
        """It has none for a promotion."""

    def update(self, window: Window) -> Self:
        control, candidate = window.control.latency, window.candidate.latency
        now = _Times(histogram.cumulated(control), histogram.cumulated(candidate))
        past = _Times(histogram.cumulated(self.control), histogram.cumulated(self.candidate))
        slower = tuple(
            self._after(process, quantile, now, past)
            for process, quantile in zip(self.slower, self.quantiles, strict=True)
        )
        return replace(
            self, slower=slower, control=added(self.control, control), candidate=added(self.candidate, candidate)
        )

    def _after(self, process: AnyStart, quantile: float, now: "_Times", past: "_Times") -> AnyStart:
        edge = histogram.quantile_edge(past.control, quantile)
        bound = histogram.edge_times(edge, self.max_ratio) if edge is not None else None
        if edge is None or bound is None:
            return process  # no window before, or times above all edges: nothing can be told apart
        failed = now.slower(edge, bound)
        if not failed.both:
            return process
        return process.times(log_e_worse(failed, past.slower(edge, bound), 0.0, Prior(mean=1 - quantile)))

    def record(self) -> Record:
        """What `restored` reads: windows and ln S for each quantile, and each arm's times."""
        processes = (value for process in self.slower for value in (process.windows, repr(process.log_started)))
        return (*processes, histogram.to_text(self.control), histogram.to_text(self.candidate))

    def restored(self, record: Sequence[object]) -> Self:
        """The evidence with this gate's bounds that a status holds.  RecordError where it is not one."""
        reader = Reader("latency", record)
        slower = tuple(AnyStart(reader.integer("windows"), reader.number("ln S")) for _ in self.quantiles)
        control, candidate = _read(reader, "control"), _read(reader, "candidate")
        reader.end()
        return replace(self, slower=slower, control=control, candidate=candidate)


class _Times(NamedTuple):
    """The arms' cumulated times."""

    control: tuple[int, ...]
    candidate: tuple[int, ...]

    def slower(self, edge: int, bound: int) -> Arms:
        """Of the control's how many are slower than `edge`, of the candidate's than `bound`."""
        return Arms(histogram.slower(self.control, edge), histogram.slower(self.candidate, bound))


def _read(reader: Reader, arm: str) -> tuple[int, ...]:
    text = reader.text(f"{arm} times")
    try:
        return histogram.from_text(text)
    except ValueError:
        raise reader.wrong(f"{arm} times", text, "INDEX:COUNT,COUNT,... on LATENCY_EDGES") from None
