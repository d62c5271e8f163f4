"""Admission: which TrainingJobs of a namespace may run, where its Workspace says how many.

The Workspace alone admits, and writes it down in its status before anything starts; a TrainingJob starts only if it
reads there, fresh, that it may.  So no stale view and no second operator can let more of them run than were admitted.
"""

from dataclasses import dataclass

from modelmill.core import conditions, reproduction
from modelmill.core.plan import Observed
from modelmill.core.resources import ALL_FIELD, YES, Key, dig
from modelmill.core.retention import has_ended

QUEUED = "Queued"
SUSPENDED = "Suspended"
MAX_ADMITTED = 512  # as many as the status holds


@dataclass(frozen=True, order=True)
class Candidate:
    """A TrainingJob that runs or waits for its turn; in the order in which they start."""

    created: str
    name: str
    uid: str
    runs: bool


def dependency(namespace: str) -> Key:
    return Key("TrainingJob", namespace, ALL_FIELD, YES)


def candidates(observed: Observed) -> tuple[Candidate, ...]:
    """The TrainingJobs that take a place, or would."""
    found = []
    for job in observed.find("TrainingJob", ALL_FIELD, YES):
        trained = dig(job, "status", "artifact") and not reproduction.undecided(job)
        if has_ended(job) or dig(job, "spec", "suspend") or trained:
            continue
        said = (conditions.find(job, "Trained") or {}).get("reason")
        # What waits for its data takes no place, nor what was suspended and has not said yet that it goes on.
        runs = dig(job, "status", "datasetVersion") is not None and said not in (QUEUED, SUSPENDED)
        if runs or said == QUEUED:
            metadata = job["metadata"]
            found.append(Candidate(metadata["creationTimestamp"], metadata["name"], metadata["uid"], runs))
    return tuple(sorted(found))


def admitted(waiting: tuple[Candidate, ...], before: frozenset[str], limit: int) -> tuple[Candidate, ...]:
    """Who may run: who runs or was admitted before, and of the others so many as there is room for."""
    inside = [c for c in waiting if c.runs or c.uid in before]
    outside = [c for c in waiting if not c.runs and c.uid not in before]
    return tuple(sorted([*inside, *outside[: max(0, limit - len(inside))]]))[:MAX_ADMITTED]
