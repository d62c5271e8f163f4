"""Retirement: which versions of a Model are deleted, and when.

A Model with `versionHistoryLimit` keeps the newest of the versions that TrainingJobs made, and besides them each that
somebody needs.  What is to go is written down first, with the time (`status.retiring`), and is deleted a while later,
one at a time and the oldest first, if nobody needs it by what is read fresh then: who names a version is seen at the
latest by that read.  What was written by hand is its writer's: it neither counts nor goes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelmill.core import conditions
from modelmill.core.conditions import moment, timestamp
from modelmill.core.plan import Delete, Guard, Guards, Listed, Observed, Record, Unedited
from modelmill.core.resources import MANAGED_BY, MODEL_FIELD, MODELS_FIELD, Key, Manifest, dig

GRACE = timedelta(minutes=10)
MAX_RETIRING = 256  # as many as the status holds


@dataclass(frozen=True)
class Candidate:
    """A version that is beyond the limit."""

    number: int
    name: str
    uid: str
    maker: str  # UID of the TrainingJob
    recipe: str | None

    @classmethod
    def of(cls, version: Manifest) -> "Candidate":
        metadata, lineage = version["metadata"], version["spec"]["lineage"]
        maker = lineage["trainingJob"]["uid"]
        return cls(_number(version), metadata["name"], metadata["uid"], maker, lineage.get("recipe"))


@dataclass(frozen=True)
class Facts:
    model: str
    declared: Unedited
    limit: int | None  # None: all stay
    unneeded: tuple[Candidate, ...]  # oldest first
    said: tuple[tuple[str, str], ...]  # (UID, since) as the status has them


@dataclass(frozen=True)
class Decision:
    retiring: tuple[tuple[Candidate, str], ...] = ()  # with the time that it was written down at
    delete: tuple[Candidate, str] | None = None
    requeue_after: timedelta | None = None


def dependencies(manifest: Manifest) -> tuple[Key, ...]:
    """What a Model depends on to know who needs its versions; only one with a limit is woken by what is served."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    if dig(manifest, "spec", "versionHistoryLimit") is None:
        return ()
    return (Key("ModelDeployment", namespace, MODELS_FIELD, name),)


def observe(observed: Observed, limit: int | None) -> Facts:
    model = observed.subject.name
    unneeded: tuple[Candidate, ...] = ()
    if limit is not None:
        deployments = observed.find("ModelDeployment", MODELS_FIELD, model)
        jobs = observed.find("TrainingJob", MODEL_FIELD, model)
        unneeded = tuple(
            candidate
            for candidate in beyond(model, limit, observed.find("ModelVersion", MODEL_FIELD, model))
            if not is_served(model, candidate, deployments) and not is_awaited(candidate, jobs)
        )
    said = tuple((r["uid"], r["since"]) for r in observed.status.get("retiring", ()))
    return Facts(model, Unedited.of("Model", observed.object), limit, unneeded, said)


# Who needs a version, kind by kind: the same is asked of the cache, and then of what is read fresh.


def beyond(model: str, limit: int, versions: tuple[Manifest, ...]) -> tuple[Candidate, ...]:
    """The versions beyond the limit that no version is a reason to keep, the oldest first."""
    mine = [
        v for v in versions if v["spec"]["modelRef"]["name"] == model and not v["metadata"].get("deletionTimestamp")
    ]
    made = sorted((v for v in mine if _is_made_by_training(v)), key=_number)
    # What serves next, and what is gone back to where an approval of a newer one is withdrawn.
    newest_ready = max((_number(v) for v in mine if conditions.is_true(v, "Ready")), default=0)
    baselines = {dig(v, "status", "baseline", "artifact", "digest") for v in mine if _is_tested(v)}
    return tuple(
        Candidate.of(v)
        for v in made[:-limit]
        if _number(v) != newest_ready and not _is_on_its_way(v) and v["spec"]["artifact"]["digest"] not in baselines
    )


def is_served(model: str, candidate: Candidate, deployments: tuple[Manifest, ...]) -> bool:
    """Whether a ModelDeployment names it, serves it, brings it up, or can go back to it."""
    return any(_refers(deployment, model, candidate.number) for deployment in deployments)


def _refers(deployment: Manifest, model: str, number: int) -> bool:
    named = dig(deployment, "spec", "model", "name")
    if named == model:
        paths = (("spec", "model"), ("status", "stable"), ("status", "candidate"))
        if any(dig(deployment, *path, "version") == number for path in paths):
            return True
    # A history that an older operator wrote has no names.
    history = dig(deployment, "status", "history") or ()
    return any(p.get("version") == number and p.get("model", named) == model for p in history)


def is_awaited(candidate: Candidate, jobs: tuple[Manifest, ...]) -> bool:
    """Whether a TrainingJob that has not ended made it, names it, or would make the same again."""
    return any(
        not conditions.has_ended(job)
        and (
            job["metadata"]["uid"] == candidate.maker
            or dig(job, "status", "modelVersion") == candidate.name
            or (candidate.recipe is not None and dig(job, "status", "recipe") == candidate.recipe)
        )
        for job in jobs
    )


def _number(version: Manifest) -> int:
    return int(version["spec"]["version"])


def _is_made_by_training(version: Manifest) -> bool:
    """Whether the operator made it for a TrainingJob: what has lost the label is somebody's own by now."""
    labels = version["metadata"].get("labels") or {}
    return dig(version, "spec", "lineage", "trainingJob", "uid") is not None and MANAGED_BY.items() <= labels.items()


def _is_tested(version: Manifest) -> bool:
    return dig(version, "status", "testing") is not None


def _is_on_its_way(version: Manifest) -> bool:
    """Whether it is being verified or tested, or waits for an approval: nobody knows yet what it is good for."""
    return _is_tested(version) or not (conditions.is_true(version, "Ready") or conditions.is_true(version, "Stalled"))


def decide(facts: Facts, now: datetime) -> Decision:
    said = dict(facts.said)
    retiring = tuple((c, said.get(c.uid, timestamp(now))) for c in facts.unneeded[:MAX_RETIRING])
    waits = {candidate.uid: _left(since, now) for candidate, since in retiring}
    # What is written down by this very plan has the whole time before it.
    due = [(c, since) for c, since in retiring if waits[c.uid] <= timedelta()]
    pauses = [pause for pause in waits.values() if pause > timedelta()]
    return Decision(retiring, due[0] if due else None, min(pauses, default=None))


def _left(since: str, now: datetime) -> timedelta:
    # A clock that was set back makes the time lie ahead: then it was just now.
    return GRACE - max(now - moment(since), timedelta())


def status(decision: Decision) -> list[dict[str, Any]] | None:
    return [{"version": c.number, "uid": c.uid, "since": since} for c, since in decision.retiring] or None


def writes(facts: Facts, decision: Decision) -> tuple[Delete | Record, ...]:
    """The oldest that is due is deleted; who is left comes next."""
    if decision.delete is None or facts.limit is None:
        return ()
    candidate, since = decision.delete
    said = f"ModelVersion {candidate.name} is deleted: spec.versionHistoryLimit is {facts.limit}, and nobody needs it"
    return (
        Delete("ModelVersion", candidate.name, candidate.uid, _guards(facts, facts.limit, candidate, since)),
        Record("Normal", "VersionRetired", said),
    )


def _guards(facts: Facts, limit: int, candidate: Candidate, since: str) -> Guards:
    """Nobody needs it, by what is read fresh, and it is written down since that time."""
    model, name, mark = facts.model, candidate.name, {"version": candidate.number, "uid": candidate.uid, "since": since}

    def is_marked(live: Manifest | None) -> bool:
        return mark in (dig(live, "status", "retiring") or ())

    def is_beyond(versions: tuple[Manifest, ...]) -> bool:
        return candidate in beyond(model, limit, versions)

    def is_not_served(deployments: tuple[Manifest, ...]) -> bool:
        return not is_served(model, candidate, deployments)

    def is_not_awaited(jobs: tuple[Manifest, ...]) -> bool:
        return not is_awaited(candidate, jobs)

    return (
        facts.declared,
        Guard("Model", model, is_marked, f"Model {model} has {name} in status.retiring"),
        Listed("ModelVersion", is_beyond, f"no ModelVersion needs {name}"),
        Listed("TrainingJob", is_not_awaited, f"no TrainingJob needs {name}"),
        Listed("ModelDeployment", is_not_served, f"no ModelDeployment needs {name}"),
    )
