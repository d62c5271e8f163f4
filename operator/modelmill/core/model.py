"""Model: gives its versions their numbers.

A TrainingJob that has an artifact and no version gets the next number: it is written down here first, as a
reservation for the job's UID, and only then the job creates the ModelVersion.  This object alone numbers, so
two jobs cannot get the same number, and a crash between the two steps finds the reservation again.  What a version
is already (`core/known.py`), or is about to be, gets no number: its job says that version.  Versions beyond
`versionHistoryLimit` go (`core/retirement.py`), their numbers do not come back.  What its use case asks of it, it
writes down for all who serve, test and train it (`core/governance.py`).
"""

from dataclasses import dataclass
from datetime import datetime

from modelmill.api.model import ModelSpec
from modelmill.api.modelversion import MAX_NUMBER
from modelmill.core import conditions, governance, known, retirement
from modelmill.core.conditions import false, true
from modelmill.core.controller import Controller
from modelmill.core.plan import Observed, Outcome, Subject
from modelmill.core.resources import MODEL_FIELD, Key, Manifest, dig

KIND = "Model"
MAX_RESERVATIONS = 256  # as many as the status holds


@dataclass(frozen=True)
class Version:
    number: int
    trained_by: str | None  # UID of a TrainingJob
    ready: bool
    made: known.Made | None


@dataclass(frozen=True)
class Waiting:
    """A TrainingJob with an artifact, and without a version."""

    since: str
    job: str
    uid: str
    made: known.Made | None


@dataclass(frozen=True)
class Reservation:
    number: int
    job: str
    uid: str


@dataclass(frozen=True)
class Facts:
    subject: Subject
    versions: tuple[Version, ...]
    waiting: tuple[Waiting, ...]  # who waits longest comes first
    unnumbered: frozenset[str]  # UIDs of this model's TrainingJobs that do not say yet which version they became
    last: int
    reservations: tuple[Reservation, ...]
    retirement: retirement.Facts
    governance: governance.Facts


@dataclass(frozen=True)
class Decision:
    last: int
    reservations: tuple[Reservation, ...]
    latest_ready: int | None
    retirement: retirement.Decision
    used_up: bool  # somebody waits for a number, and there is none


def depends(manifest: Manifest) -> tuple[Key, ...]:
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    return (
        Key("TrainingJob", namespace, MODEL_FIELD, name),
        Key("ModelVersion", namespace, MODEL_FIELD, name),
        *retirement.dependencies(manifest),
        *governance.dependencies(manifest),
    )


def observe(observed: Observed) -> Facts:
    name = observed.subject.name
    spec = ModelSpec.model_validate(observed.object["spec"])
    jobs = observed.find("TrainingJob", MODEL_FIELD, name)
    return Facts(
        subject=observed.subject,
        versions=tuple(
            Version(
                v["spec"]["version"],
                dig(v, "spec", "lineage", "trainingJob", "uid"),
                conditions.is_true(v, "Ready"),
                known.made(v),
            )
            for v in observed.find("ModelVersion", MODEL_FIELD, name)
        ),
        waiting=tuple(
            sorted(
                (
                    Waiting(
                        trained["lastTransitionTime"],
                        job["metadata"]["name"],
                        job["metadata"]["uid"],
                        known.made_by(job),
                    )
                    for job in jobs
                    if dig(job, "status", "artifact")
                    and not dig(job, "status", "modelVersion")
                    and (trained := conditions.find(job, "Trained"))
                ),
                key=lambda one: (one.since, one.job, one.uid),
            )
        ),
        unnumbered=frozenset(job["metadata"]["uid"] for job in jobs if not dig(job, "status", "modelVersion")),
        last=observed.status.get("lastVersion", 0),
        reservations=tuple(
            Reservation(r["version"], r["trainingJob"], r["uid"]) for r in observed.status.get("reservations", ())
        ),
        retirement=retirement.observe(observed, spec.version_history_limit),
        governance=governance.observe(observed, spec),
    )


def decide(facts: Facts, now: datetime) -> Decision:
    taken = {version.number: version.trained_by for version in facts.versions}
    made = {uid for uid in taken.values() if uid}
    last = max([facts.last, *taken])
    # A reservation ends when its job says which version it became, or is gone: were it given up as soon as the
    # version exists, and the version deleted before its job saw it, the job would get a second number.
    # One whose number somebody else took by hand is given anew.
    kept = [r for r in facts.reservations if r.uid in facts.unnumbered and taken.get(r.number, r.uid) == r.uid]
    used_up = False
    reserved = {r.uid for r in kept}
    numbered = [version.made for version in facts.versions] + [w.made for w in facts.waiting if w.uid in reserved]
    exists = {content for content in numbered if content is not None}
    for waiting in facts.waiting:
        if waiting.uid in reserved or waiting.uid in made or waiting.made in exists:
            continue
        if last >= MAX_NUMBER:  # somebody wrote a version of that number by hand
            used_up = True
        elif len(kept) < MAX_RESERVATIONS:  # the others come next
            last += 1
            kept.append(Reservation(last, waiting.job, waiting.uid))
            if waiting.made is not None:
                exists.add(waiting.made)
    ready = [version.number for version in facts.versions if version.ready]
    latest_ready = max(ready) if ready else None
    return Decision(last, tuple(kept), latest_ready, retirement.decide(facts.retirement, now), used_up)


def render(facts: Facts, decision: Decision) -> Outcome:
    ready, waiting = true("Ready", "Numbering", f"the last version given is {decision.last}"), facts.governance.waiting
    if decision.used_up:
        message = (
            f"version {decision.last} is the last number that there is, and numbers are never given again; train for"
            " another Model, and write no version with such a number by hand"
        )
        waiting = conditions.Waiting("NumbersUsedUp", message, stalled=True)
    if waiting is not None:
        ready = false("Ready", waiting.reason, waiting.message)
    return Outcome(
        status={
            "lastVersion": decision.last,
            "latestReady": decision.latest_ready,
            "useCase": governance.status(facts.governance),
            "reservations": [{"version": r.number, "trainingJob": r.job, "uid": r.uid} for r in decision.reservations]
            or None,
            "retiring": retirement.status(decision.retirement),
        },
        conditions=(ready, *conditions.progress(ready, waiting)),
        headline=(),  # a number that was given is the TrainingJob's news
        writes=retirement.writes(facts.retirement, decision.retirement),
        requeue_after=decision.retirement.requeue_after,
    )


CONTROLLER = Controller(KIND, depends, observe, decide, render)
