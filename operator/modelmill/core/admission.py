"""Admission: which TrainingJobs of a namespace may run, where its Workspace says how many.

The Workspace alone admits, and writes it down in its status before anything starts; a TrainingJob starts only if it
reads there, fresh, that it may.  So no stale view and no second operator can let more of them run than were admitted.

Whose turn it is follows from when a TrainingJob was created, and from the rank of the use case of its Model (of a
trial, the Model that its Experiment is for): rank R counts as created R hours later, everything else a day later.  So
what is more important comes first, and nothing starves: what was created a day later never comes first.  No clock is
asked, and nothing has to be remembered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from modelmill.core import conditions, governance, lineage, reproduction
from modelmill.core.conditions import has_ended, moment, timestamp
from modelmill.core.plan import Observed
from modelmill.core.resources import ALL_FIELD, GOVERNED_FIELD, YES, Key, dig

QUEUED = "Queued"
SUSPENDED = "Suspended"
MAX_ADMITTED = 512  # as many as the status holds
_LATER = timedelta(hours=1)  # by each rank
LATEST = timedelta(days=1)  # by the last ones, and without a rank


@dataclass(frozen=True, order=True)
class Candidate:
    """A TrainingJob that runs or waits for its turn; in the order in which they start."""

    turn: str  # when it was created, or counts as created
    name: str
    uid: str
    runs: bool


def dependencies(namespace: str) -> tuple[Key, ...]:
    return Key("TrainingJob", namespace, ALL_FIELD, YES), Key("Model", namespace, GOVERNED_FIELD, YES)


def candidates(observed: Observed) -> tuple[Candidate, ...]:
    """The TrainingJobs that take a place, or would."""
    found, ranks = [], _ranks(observed)
    for job in observed.find("TrainingJob", ALL_FIELD, YES):
        trained = dig(job, "status", "artifact") and not reproduction.undecided(job)
        if has_ended(job) or dig(job, "spec", "suspend") or trained:
            continue
        said = (conditions.find(job, "Trained") or {}).get("reason")
        # What waits for its data takes no place, nor what was suspended and has not said yet that it goes on.
        runs = dig(job, "status", "datasetVersion") is not None and said not in (QUEUED, SUSPENDED)
        if runs or said == QUEUED:
            metadata = job["metadata"]
            turn = metadata["creationTimestamp"]
            if ranks:  # else all wait for the same time
                turn = turn_of(turn, ranks.get(lineage.model_of(job) or ""))
            found.append(Candidate(turn, metadata["name"], metadata["uid"], runs))
    return tuple(sorted(found))


def _ranks(observed: Observed) -> Mapping[str, int]:
    """The rank of each Model whose use case has one."""
    models = observed.find("Model", GOVERNED_FIELD, YES)
    asked = ((model["metadata"]["name"], governance.asked_of(model)) for model in models)
    return {name: asks.rank for name, asks in asked if asks is not None and asks.rank is not None}


def turn_of(created: str, rank: int | None) -> str:
    """When a TrainingJob of that rank counts as created."""
    later = LATEST if rank is None else min(rank * _LATER, LATEST)
    return timestamp(moment(created) + later)


def admitted(waiting: tuple[Candidate, ...], before: frozenset[str], limit: int) -> tuple[Candidate, ...]:
    """Who may run: who runs or was admitted before, and of the others so many as there is room for."""
    inside = [c for c in waiting if c.runs or c.uid in before]
    outside = [c for c in waiting if not c.runs and c.uid not in before]
    return tuple(sorted([*inside, *outside[: max(0, limit - len(inside))]]))[:MAX_ADMITTED]
