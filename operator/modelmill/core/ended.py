"""What is kept of a rollout that came to its end, for people; nothing is decided by it."""

from datetime import datetime
from typing import Any

from modelmill.api import rollout as api
from modelmill.core import evidence, queries, rollout
from modelmill.core.conditions import timestamp
from modelmill.core.revisions import Running, find
from modelmill.core.rollout import Course, Progress


def last(
    settings: api.Rollout,
    before: Progress | None,
    course: Course | None,
    running: tuple[Running, ...],
    stable: str | None,
    serves: str | None,
    now: datetime,
) -> api.LastRollout | None:
    """The rollout that ends now, where one does.

    `before` is how far it was; `stable` is the revision that served until now, `serves` the one that does from now on.
    """
    if before is None:
        return None
    revision = rollout.revision_in(before.epoch)
    after = course.progress if course is not None else None
    if after is not None and after.epoch == before.epoch and serves != revision:
        return None  # it goes on
    progress = (course.ended if course is not None else None) or before
    back = course.rolled_back if course is not None else None
    if back is not None and back.revision != revision:
        back = None
    candidate = find(running, revision)
    declared = rollout.analysis(settings)
    gates = evidence.gates(declared, progress.states)
    return api.LastRollout(
        revision=revision,
        version=candidate.version if candidate is not None else None,
        stable=stable if stable != revision else None,
        strategy=settings.strategy,
        outcome="RolledBack" if back is not None else "Promoted" if serves == revision else "Superseded",
        reason=back.reason if back is not None else None,
        message=back.message if back is not None else None,
        started_at=progress.started_at,
        ended_at=timestamp(now),
        windows=progress.windows,
        requests=progress.requests,
        failures=progress.failures,
        evidence=tuple(
            api.Evidence.model_validate(evidence.shown(found)) for found in evidence.findings(gates, declared)
        ),
        prometheus=tuple(api.QueryVerdict.model_validate(queries.shown(found)) for found in progress.prometheus),
        passed=progress.passed,
    )


def status_of(ended: api.LastRollout | None) -> dict[str, Any] | None:
    return ended.without_defaults() if ended is not None else None
