"""Verdicts: what becomes of a rollout now, by a chain of small policies.  The first that says something decides.

Which policies there are, and in which order, is the strategy's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from modelmill.core.conditions import MAX_MESSAGE
from modelmill.core.queries import Found
from modelmill.stats.gates import Finding
from modelmill.stats.gates import Verdict as OfGate


class Verdict(StrEnum):
    """To the next step, not yet, back, or to somebody who decides."""

    ADVANCE = "Advance"
    HOLD = "Hold"
    REJECT = "Reject"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True)
class Input:
    """Where a rollout stands."""

    name: str  # of the ModelDeployment, for advice
    step: int  # 1 is the first
    steps: int
    paused: bool
    hold_left: timedelta | None  # until the step may end; None: until somebody resumes it
    overdue: bool  # the deadline has passed
    last_copies: bool  # it is the last step in which predictions are compared
    requests: int  # that the candidate was given so far
    min_requests: int
    findings: tuple[Finding, ...]
    queries: tuple[Found, ...] = ()  # empty while Prometheus is not asked


@dataclass(frozen=True)
class Ruling:
    reason: str  # CamelCase
    message: str
    verdict: Verdict


Policy = Callable[[Input], Ruling | None]


def ruled(policies: Iterable[Policy], found: Input) -> Ruling:
    """The ruling of the first policy that has one; the last of a chain always has."""
    return next(ruling for policy in policies if (ruling := policy(found)) is not None)


def rejected(found: Input) -> Ruling | None:
    """Evidence against the candidate ends the rollout, in whatever step and however it came there."""
    for finding in found.findings:
        if finding.verdict is OfGate.REJECT:
            message = f"{finding.gate}: ln E against it is {finding.against:.2f}, and {finding.reject_at:.2f} is enough"
            return Ruling("EvidenceAgainst", message, Verdict.REJECT)
    for query in found.queries:
        if query.verdict is OfGate.REJECT:
            return Ruling("PrometheusAgainst", f"{query.name} {query.message}", Verdict.REJECT)
    return None


def paused(found: Input) -> Ruling | None:
    """What somebody paused goes on when somebody resumes it."""
    if not found.paused:
        return None
    return Ruling("Paused", f"paused in {_step(found)}; kubectl mill resume {found.name}", Verdict.HOLD)


def overdue(found: Input) -> Ruling | None:
    """Without a verdict at the deadline it is never promoted; a hold that waits for somebody has no deadline."""
    if not found.overdue or found.hold_left is None:
        return None
    message = f"there is no verdict at the deadline, after {found.requests} requests"
    return Ruling("Inconclusive", message, Verdict.INCONCLUSIVE)


def too_few_requests(found: Input) -> Ruling | None:
    """No step ends before the candidate had its least number of requests: no data is no evidence."""
    if found.requests >= found.min_requests:
        return None
    message = f"{_step(found)}: the candidate has had {found.requests} of {found.min_requests} requests"
    return Ruling("TooFewRequests", message, Verdict.HOLD)


def held(found: Input) -> Ruling | None:
    """A step takes its time, or until somebody has looked at it."""
    if found.hold_left is None:
        message = f"{_step(found)} waits for somebody; kubectl mill resume {found.name}"
        return Ruling("WaitingForResume", message, Verdict.HOLD)
    if found.hold_left > timedelta():
        # Without the time that is left: the message would change, and be written, all the time.
        return Ruling("Holding", f"{_step(found)} goes on", Verdict.HOLD)
    return None


def unbounded(found: Input) -> Ruling | None:
    """Where Prometheus is asked, each query must be answered, and within its bound: silence lets nothing pass."""
    for query in found.queries:
        if query.verdict is not OfGate.PROMOTE:
            message = f"{_step(found)}: {query.name} {query.message}"
            return Ruling("WaitingForPrometheus", message[:MAX_MESSAGE], Verdict.HOLD)
    return None


def unlike(found: Input) -> Ruling | None:
    """Predictions are compared on copies: after the last step with copies there would never be more evidence."""
    for finding in found.findings if found.last_copies else ():
        if finding.gate == "agreement" and finding.verdict is not OfGate.PROMOTE:
            return _unproven(found, finding)
    return None


def unproven(found: Input) -> Ruling | None:
    """To take over, each gate that can speak for the candidate must."""
    for finding in found.findings if found.step == found.steps else ():
        if finding.in_favour is not None and finding.verdict is not OfGate.PROMOTE:
            return _unproven(found, finding)
    return None


def left_to_somebody(found: Input) -> Ruling | None:
    """After its last step only a person promotes it."""
    if found.step < found.steps:
        return None
    message = f"its steps are done; kubectl mill promote {found.name}, or abort"
    return Ruling("WaitingForPromote", message, Verdict.HOLD)


def passed(found: Input) -> Ruling:
    """Nothing speaks against it."""
    return Ruling("StepPassed", f"{_step(found)} passed", Verdict.ADVANCE)


# Of the strategies that promote without a person.
BY_EVIDENCE: tuple[Policy, ...] = (
    rejected, paused, overdue, too_few_requests, held, unbounded, unlike, unproven, passed,
)  # fmt: skip


def _unproven(found: Input, finding: Finding) -> Ruling:
    message = f"{_step(found)}: {finding.gate} does not speak for the candidate yet"
    return Ruling("NotEnoughEvidence", message, Verdict.HOLD)


def _step(found: Input) -> str:
    return f"step {found.step} of {found.steps}"
