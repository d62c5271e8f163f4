"""Collection: what nobody refers to any more is taken out of the store, by a Job, once a day.

What is kept is read from the cache, and need not be read fresh.  The Job sets aside only what was written a day ago,
so that what a running snapshot has just written is safe; what it sets aside can still be read; and it deletes only
what has been set aside for a day and is still not kept, and puts back what is.  A view would have to be a day old to
lose anything, and the operator lists everything every few minutes, or does nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelmill.api.schema import ResourceRequirements
from modelmill.core import conditions, jobs, pods, retention, retry
from modelmill.core.conditions import Condition, Waiting, moment, timestamp, unknown
from modelmill.core.plan import Create, Delete, Observed, Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import ALL_FIELD, YES, Key, dig
from modelmill_contracts import digest, report, task

JOB = "default-collect"
PERIOD = timedelta(days=1)
PAUSE = timedelta(hours=1)  # after a failure
TIMEOUT = timedelta(hours=1)
_KINDS = ("Dataset", "TrainingJob", "ModelVersion", "Experiment")
_SERVING = "ModelDeployment"
MAX_KEPT = 10_000  # digests: what a Job is told is part of it, and etcd takes 1.5 MiB


@dataclass(frozen=True)
class Done:
    """What the last collection did, as the status has it."""

    at: str
    moved: int
    restored: int
    deleted: int
    freed: int


@dataclass(frozen=True)
class Kept:
    """Digests of what somebody refers to."""

    blobs: tuple[str, ...]
    artifacts: tuple[str, ...] | None  # None: all stay


@dataclass(frozen=True)
class Facts:
    asked: str
    run: jobs.Run
    keep: Kept | Waiting
    done: Done | None


@dataclass(frozen=True)
class Decision:
    done: Done | None
    start: str | None = None  # the time that it is begun at
    discard: bool = False
    waiting: Waiting | None = None  # None: it is done for today
    requeue_after: timedelta | None = None


def dependencies(namespace: str, uid: str, *, artifacts: bool) -> tuple[Key, ...]:
    kinds = (*_KINDS, _SERVING) if artifacts else _KINDS
    return (*jobs.dependencies(namespace, uid, JOB), *(Key(kind, namespace, ALL_FIELD, YES) for kind in kinds))


def observe(observed: Observed, store: str, *, artifacts: bool) -> Facts:
    """What there is to know.

    `store` is the digest of how the store is reached, `artifacts` whether they are collected, too.
    """
    asked = digest.of_json([store, observed.uid])
    said = observed.status.get("collected")
    done = None
    if said is not None:
        done = Done(said["at"], *(said.get(key, 0) for key in ("moved", "restored", "deleted", "freed")))
    return Facts(asked, jobs.observe(observed, JOB, asked), _keep(observed, artifacts=artifacts), done)


def _keep(observed: Observed, *, artifacts: bool) -> Kept | Waiting:
    blobs = _blobs(observed)
    if isinstance(blobs, Waiting):
        return blobs
    kept = _artifacts(observed) if artifacts else None
    if isinstance(kept, Waiting):
        return kept
    number = len(blobs) + len(kept or ())
    if number > MAX_KEPT:
        return Waiting(
            "TooMuchToKeep",
            f"{number} files are referred to, and a Job can be told of {MAX_KEPT}; nothing is collected: lower"
            " versionHistoryLimit of Datasets, or delete what nobody needs",
            stalled=True,
            failed=True,
        )
    return Kept(tuple(sorted(blobs)), None if kept is None else tuple(sorted(kept)))


def _blobs(observed: Observed) -> set[str] | Waiting:
    """The blobs that somebody refers to; or who refers to what cannot be told."""
    files: dict[tuple[str, str], str] = {}
    keep: set[str] = set()
    for dataset in observed.find("Dataset", ALL_FIELD, YES):
        for snapshot in retention.history(dataset):
            keep.update(snapshot.digests)
            files[dataset["metadata"]["name"], snapshot.version] = snapshot.file
    for job in observed.find("TrainingJob", ALL_FIELD, YES):
        file = dig(job, "status", "datasetFile")
        if file is not None:
            keep.add(file)
    for search in observed.find("Experiment", ALL_FIELD, YES):
        page = dig(search, "status", "report")
        if page is not None:
            keep.add(page)
    for version in observed.find("ModelVersion", ALL_FIELD, YES):
        lineage = dig(version, "spec", "lineage", "dataset")
        if lineage is None:
            continue
        file = lineage.get("file") or files.get((lineage["name"], lineage["version"]))
        if file is None:
            return Waiting(
                "LineageUnknown",
                f"ModelVersion {version['metadata']['name']} was trained on version {lineage['version']} of Dataset"
                f" {lineage['name']}, which is in no history, so that nobody knows its file; nothing is collected until"
                " the Dataset has that version again or the ModelVersion is deleted",
                stalled=True,
                failed=True,
            )
        keep.add(file)
    return keep


def _artifacts(observed: Observed) -> set[str] | Waiting:
    """The artifacts that somebody refers to; or who serves what cannot be told."""
    keep: set[str] = set()
    numbered: set[tuple[str, int]] = set()
    for version in observed.find("ModelVersion", ALL_FIELD, YES):
        keep |= {version["spec"]["artifact"]["digest"], dig(version, "status", "baseline", "artifact", "digest")}
        numbered.add((version["spec"]["modelRef"]["name"], version["spec"]["version"]))
    for job in observed.find("TrainingJob", ALL_FIELD, YES):
        # What became a version is that version's.
        if dig(job, "status", "modelVersion") is None:
            keep.add(dig(job, "status", "artifact", "digest"))
    for deployment in observed.find(_SERVING, ALL_FIELD, YES):
        chosen = deployment["spec"]["model"]
        keep.add(chosen.get("digest"))
        for promoted in dig(deployment, "status", "history") or ():
            found = dig(promoted, "artifact", "digest")
            keep.add(found)
            # A history that an older operator wrote has numbers only.
            number = (promoted.get("model", chosen.get("name")), promoted.get("version"))
            if found is None and number not in numbered:
                whose = f"revision {promoted['revision']} of {_SERVING} {deployment['metadata']['name']}"
                return Waiting(
                    "ArtifactUnknown",
                    f"what {whose} serves or served is not in its history, and there is no such ModelVersion; nothing"
                    " is collected until that revision is beyond its revisionHistoryLimit",
                    stalled=True,
                    failed=True,
                )
    return {digest_ for digest_ in keep if digest_ is not None}


def decide(facts: Facts, now: datetime) -> Decision:
    run = facts.run
    done = _done(facts)
    decision = Decision(done)
    if run.state == "Foreign":
        return replace(decision, waiting=retry.name_taken("Job", JOB), requeue_after=retry.MAX)
    if run.state == "Active":
        running = Waiting("CollectionRunning", "what nobody refers to is being looked for")
        if run.trouble is not None:
            running = Waiting(run.trouble.reason, run.trouble.message, stalled=True, failed=True)
        return replace(decision, waiting=running)
    if run.state in ("Failed", "Lost"):
        trouble = run.trouble or pods.Trouble("ReportLost", "the pod went away before it could report")
        waiting = Waiting(trouble.reason, trouble.message, stalled=True, failed=True)
        left = run.left(PAUSE, now)
        if left > timedelta():
            return replace(decision, waiting=waiting, requeue_after=left)
        return replace(decision, waiting=waiting, discard=True)
    # A clock that was set back makes the last one lie ahead: then it was just now.
    left = PERIOD - max(now - moment(done.at), timedelta()) if done is not None else timedelta()
    if left > timedelta():
        return replace(decision, requeue_after=left)
    if isinstance(facts.keep, Waiting):
        return replace(decision, waiting=facts.keep)
    starting = Waiting("CollectionRunning", "what nobody refers to is being looked for")
    if run.state != "Absent":
        return replace(decision, waiting=starting, discard=run.state != "Leaving" and not run.leaving)
    return replace(decision, waiting=starting, start=timestamp(now))


def _done(facts: Facts) -> Done | None:
    run, before = facts.run, facts.done
    result = run.report.result if run.report is not None else None
    if run.state != "Succeeded" or run.ended is None or not isinstance(result, report.CollectResult):
        return before
    if before is not None and moment(before.at) >= run.ended:
        return before
    return Done(timestamp(run.ended), result.moved, result.restored, result.deleted, result.freed)


def condition(decision: Decision) -> Condition:
    """What the Workspace says of it."""
    if decision.waiting is not None:
        return decision.waiting.condition("Collected")
    if decision.done is None:
        return unknown("Collected", "ReportInvalid", "the Job's report is not that of a collection")
    done = decision.done
    said = f"{done.moved} files were set aside, {done.restored} put back, {done.deleted} deleted ({done.freed} bytes)"
    return conditions.true("Collected", "Collected", said)


def writes(
    subject: Subject, kind: str, facts: Facts, decision: Decision, store: StoreAccess, declared: Unedited
) -> tuple[Create | Delete, ...]:
    if decision.discard:
        return (Delete("Job", JOB, facts.run.uid, (declared,)),)
    if decision.start is None or isinstance(facts.keep, Waiting):
        return ()
    limits = pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES)
    keep = facts.keep
    work = task.CollectTask(store.location, subject.uid, keep.blobs, decision.start, keep.artifacts)
    job = jobs.render(subject, kind, JOB, facts.asked, work, store, limits=limits, timeout=TIMEOUT, retries=0)
    return (Create(job, (declared,)),)
