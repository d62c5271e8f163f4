"""What the gates' evidence means for a rollout: go on, wait, or go back.

any gate against     -> back, at once       each gate has alpha/K, so that all K together are wrong with alpha at most
too few requests     -> wait
the step's hold      -> wait
the last step        -> wait until every gate that can speak for the candidate does: each with alpha, as a candidate
                        that is bad for one of them has to fool that one
else                 -> go on
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from modelmill.stats.e_values import threshold
from modelmill.stats.record import Record
from modelmill.stats.window import Window


class Verdict(StrEnum):
    """Of a gate: it speaks for the candidate, against it, or does not know.  Of all: go on, go back, or wait."""

    PROMOTE = "Promote"
    HOLD = "Hold"
    REJECT = "Reject"


class Evidence(Protocol):
    """What a gate knows after some windows: `ErrorRate`, `Latency`, `Agreement` and `Scores`."""

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

    @property
    def can_promote(self) -> bool:
        return self.in_favour is not None


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


@dataclass(frozen=True)
class Step:
    """Where a rollout is: whether its step's hold has passed, and what the candidate was asked so far."""

    hold_passed: bool
    last: bool  # what follows is full promotion
    requests: int
    min_requests: int


@dataclass(frozen=True)
class Decision:
    """The verdict of all gates on a step; `gate` decided it, or is what it waits for."""

    verdict: Verdict
    reason: str
    gate: Finding | None = None


def decide(found: tuple[Finding, ...], step: Step) -> Decision:
    """The first rule that applies; see above."""
    for finding in found:
        if finding.verdict is Verdict.REJECT:
            return Decision(Verdict.REJECT, "EvidenceAgainst", finding)
    if step.requests < step.min_requests:
        return Decision(Verdict.HOLD, "TooFewRequests")
    if not step.hold_passed:
        return Decision(Verdict.HOLD, "Holding")
    if step.last:
        speaking = [finding for finding in found if finding.can_promote]
        for finding in speaking:
            if finding.verdict is not Verdict.PROMOTE:
                return Decision(Verdict.HOLD, "NotEnoughEvidence", finding)
        if not speaking:  # luck alone would promote
            return Decision(Verdict.HOLD, "NoGatePromotes")
    return Decision(Verdict.PROMOTE, "Passed")
