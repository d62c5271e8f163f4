"""The gate `errorRate`: the candidate may fail more often than the control, but not by more than `max_increase`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from modelmill.stats.block_gro import Counts
from modelmill.stats.e_values import AnyStart, committed
from modelmill.stats.rates import Arms, Prior, log_e_no_worse, log_e_worse
from modelmill.stats.record import Reader, Record
from modelmill.stats.window import ArmWindow, Window

_PRIOR = Prior()


@dataclass(frozen=True)
class ErrorRate:
    """Evidence for a rollback (worse by more than `max_increase`) and for a promotion (by less).

    It holds whatever happens to both arms at once, an outage or a ramp of load, so it is carried across weight steps.
    With `max_increase` 0 there is none for a promotion.
    """

    max_increase: float
    worse: AnyStart = field(default_factory=AnyStart)
    log_no_worse: float = 0.0  # of all windows: an average over starts would forget that it was worse at first
    past: Arms = field(default_factory=Arms)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_increase) and 0 <= self.max_increase < 1):
            raise ValueError(f"errorRate.maxIncrease is {self.max_increase}: it must be at least 0 and less than 1")

    @property
    def against(self) -> float:
        """ln E for a rollback."""
        return self.worse.log_e

    @property
    def in_favour(self) -> float:
        """ln E for a promotion."""
        return self.log_no_worse

    def update(self, window: Window) -> Self:
        now = Arms(_counts(window.control), _counts(window.candidate))
        past = self.past.plus(now)
        if not now.both:
            return replace(self, past=past)
        no_worse = log_e_no_worse(now, self.past, self.max_increase, _PRIOR)
        return replace(
            self,
            worse=self.worse.times(log_e_worse(now, self.past, self.max_increase, _PRIOR)),
            log_no_worse=committed(self.log_no_worse + no_worse),
            past=past,
        )

    def record(self) -> Record:
        """What `restored` reads: windows, ln S, ln E for a promotion, and each arm's requests and failures."""
        numbers = repr(self.worse.log_started), repr(self.log_no_worse)
        return (self.worse.windows, *numbers, *self.past.control, *self.past.candidate)

    def restored(self, record: Sequence[object]) -> Self:
        """The evidence with this gate's bound that a status holds.  RecordError where it is not one."""
        reader = Reader("errorRate", record)
        worse = AnyStart(reader.integer("windows"), reader.number("ln S"))
        no_worse = reader.number("ln E of promotion")
        past = Arms(_read(reader, "control"), _read(reader, "candidate"))
        reader.end()
        return replace(self, worse=worse, log_no_worse=no_worse, past=past)


def _counts(arm: ArmWindow) -> Counts:
    return Counts(arm.requests, arm.failures)


def _read(reader: Reader, arm: str) -> Counts:
    requests, failures = reader.integer(f"{arm} requests"), reader.integer(f"{arm} failures")
    if failures > requests:
        raise reader.wrong(f"{arm} failures", failures, f"at most its {requests} requests")
    return Counts(requests, failures)
