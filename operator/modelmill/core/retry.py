"""Trying again: what a failure means, how long to leave it, and a name that is taken."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelmill.core import conditions, jobs
from modelmill.core.conditions import Waiting
from modelmill.core.plan import Observed

MIN = timedelta(seconds=5)
MAX = timedelta(minutes=1)
MAX_UNCHANGED = timedelta(minutes=10)  # where only somebody's change can help
PATIENCE = timedelta(minutes=5)  # what may heal by itself and did not in this time needs a person


@dataclass(frozen=True)
class Failing:
    """A condition that is False: why, and since when."""

    waiting: Waiting
    since: datetime


def failing(observed: Observed, type_: str) -> Failing | None:
    """The condition of that type, where it is False for the present spec: a new spec starts afresh."""
    condition = conditions.find(observed.object, type_)
    if condition is None or condition["status"] != "False":
        return None
    if condition.get("observedGeneration", 0) != observed.subject.generation:
        return None
    stalled = conditions.is_true(observed.object, "Stalled")
    waiting = Waiting(condition["reason"], condition["message"], stalled, failed=True)
    return Failing(waiting, conditions.moment(condition["lastTransitionTime"]))


def after_failure(run: jobs.Run, now: datetime, before: Failing | None) -> tuple[Waiting, timedelta | None]:
    """What a failed Job means, and how long to leave it before it is tried again; None: try now.

    The pause is half as long as it has been failing, from 5 seconds to a minute, or to ten where only somebody's
    change can help.
    """
    if run.trouble is not None:
        so_far = now - before.since if before is not None else timedelta()
        may_heal = run.report is None or run.report.retryable
        longest = MAX if may_heal else MAX_UNCHANGED
        pause = min(max(so_far / 2, MIN), longest)
        again = f" (tried again within {longest // timedelta(minutes=1)} min)"
        message = run.trouble.message.removesuffix(again) + again  # it may be what the status said before
        waiting = Waiting(run.trouble.reason, message, stalled=not may_heal or so_far >= PATIENCE, failed=True)
    else:
        waiting = Waiting("ReportLost", "the pod went away before it could report; trying again")
        pause = jobs.REPORT_GRACE
    left = run.left(pause, now)
    return waiting, left if left > timedelta() else None


def under_way(run: jobs.Run, before: Failing | None, waiting: Waiting) -> Waiting:
    """What a Job that runs or starts means: a failure stays until the new try has an outcome, or trouble of its own."""
    if run.trouble is not None:
        failed = before is not None or run.trouble.declared
        return Waiting(run.trouble.reason, run.trouble.message, stalled=True, failed=failed)
    return waiting if before is None else before.waiting


def name_taken(kind: str, name: str) -> Waiting:
    """A child's name belongs to somebody else's object, which is left alone."""
    return Waiting(
        "NameConflict",
        f"{kind} {name} exists and was not made for this object; it is left as it is: rename this object, or delete"
        " the other one if nobody needs it",
        stalled=True,
    )
