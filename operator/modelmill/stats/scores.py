"""The gate `scores`: the candidate's scores are distributed over the bins as the control's are, within a margin.

For each bin two processes: its share grew by more than `max_shift`, and it shrank by more.  All are averaged.  The arms
have to be given different requests: of a shadow, which is given copies, `agreement` is asked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from modelmill.stats.block_gro import Counts
from modelmill.stats.e_values import AnyStart, log_mean_exp
from modelmill.stats.rates import Arms, Prior, log_e_worse
from modelmill.stats.record import Reader, Record
from modelmill.stats.window import Window, added


@dataclass(frozen=True)
class Scores:
    """Evidence for a rollback."""

    bins: int
    max_shift: float
    more: tuple[AnyStart, ...] = ()  # by bin: the candidate has more there
    fewer: tuple[AnyStart, ...] = ()
    control: tuple[int, ...] = ()  # rows of the windows before
    candidate: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"scores have {self.bins} bins: there must be at least 2 to compare")
        if not (math.isfinite(self.max_shift) and 0 <= self.max_shift < 1):
            raise ValueError(f"scores.maxShift is {self.max_shift}: it must be at least 0 and less than 1")
        for name, default in (("more", AnyStart()), ("fewer", AnyStart()), ("control", 0), ("candidate", 0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (default,) * self.bins)

    @property
    def against(self) -> float:
        """ln E for a rollback."""
        return log_mean_exp(process.log_e for process in (*self.more, *self.fewer))

    @property
    def in_favour(self) -> None:
        """It has none for a promotion."""

    def update(self, window: Window) -> Self:
        control, candidate = self._checked(window.control.scores), self._checked(window.candidate.scores)
        later = replace(self, control=added(self.control, control), candidate=added(self.candidate, candidate))
        if not (any(control) and any(candidate)):
            return later
        prior = Prior(mean=1 / self.bins)
        more, fewer = [], []
        for index in range(self.bins):
            now = Arms(_share(control, index), _share(candidate, index))
            before = Arms(_share(self.control, index), _share(self.candidate, index))
            more.append(self.more[index].times(log_e_worse(now, before, self.max_shift, prior)))
            now, before = Arms(now.candidate, now.control), Arms(before.candidate, before.control)
            fewer.append(self.fewer[index].times(log_e_worse(now, before, self.max_shift, prior)))
        return replace(later, more=tuple(more), fewer=tuple(fewer))

    def _checked(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        if counts and len(counts) != self.bins:
            raise ValueError(f"scores were counted in {len(counts)} bins, not the {self.bins} of the other windows")
        return counts or (0,) * self.bins

    def record(self) -> Record:
        """What `restored` reads: windows, ln S of each bin's two processes, and each arm's rows."""
        processes = (*self.more, *self.fewer)
        numbers = (repr(process.log_started) for process in processes)
        return (processes[0].windows, *numbers, *self.control, *self.candidate)

    def restored(self, record: Sequence[object]) -> Self:
        """The evidence with this gate's bins and bound that a status holds.  RecordError where it is not one."""
        reader = Reader("scores", record)
        windows = reader.integer("windows")
        more, fewer = (tuple(AnyStart(windows, reader.number("ln S")) for _ in range(self.bins)) for _ in range(2))
        control, candidate = (tuple(reader.integer("rows") for _ in range(self.bins)) for _ in range(2))
        reader.end()
        return replace(self, more=more, fewer=fewer, control=control, candidate=candidate)


def _share(counts: tuple[int, ...], index: int) -> Counts:
    return Counts(sum(counts), counts[index])
