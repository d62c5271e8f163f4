"""What the evidence of several gates says of a candidate.

Against it each of K gates has alpha/K, so that all K together are wrong with alpha at most.  In its favour each has
alpha, as all that can speak for it must: a candidate that is bad for one of them has to fool that one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from modelmill.stats.e_values import threshold
from modelmill.stats.record import Record
from modelmill.stats.window import Window


class Verdict(StrEnum):
    """It speaks for the candidate, against it, or does not know."""

    PROMOTE = "Promote"
    HOLD = "Hold"
    REJECT = "Reject"


class Evidence(Protocol):
    """What a gate knows after some windows: `ErrorRate`, `Latency`, `LatencyBound` and `Agreement`."""

    @property
    def against(self) -> float:
        """ln E for a rollback."""

    @property
    def in_favour(self) -> float | None:
        """ln E for a promotion, None from a gate that gives none."""

    def update(self, window: Window) -> Self: ...

    def record(self) -> Record: ...

    def restored(self, record: Sequence[object]) -> Self: ...


@dataclass(frozen=True)
class Finding:
    """One gate's verdict, and how near it is to either end."""

    gate: str
    verdict: Verdict
    against: float
    reject_at: float  # ln(K/alpha)
    in_favour: float | None
    promote_at: float  # ln(1/alpha)


def findings(gates: Mapping[str, Evidence], alpha: float) -> tuple[Finding, ...]:
    """Each gate's verdict, in the gates' order; `alpha` is 1 - confidence."""
    promote_at = threshold(alpha)
    found = []
    for name, evidence in gates.items():
        against, in_favour, reject_at = evidence.against, evidence.in_favour, threshold(alpha, len(gates))
        verdict = Verdict.HOLD
        if against >= reject_at:
            verdict = Verdict.REJECT
        elif in_favour is not None and in_favour >= promote_at:
            verdict = Verdict.PROMOTE
        found.append(Finding(name, verdict, against, reject_at, in_favour, promote_at))
    return tuple(found)
