"""Dataset: takes checked, immutable snapshots of its source.

the store does not work          -> wait for the Workspace
no snapshot of this declaration  -> a Job looks; its report has the version, or what is wrong with the data
it is time to look again         -> the same Job; what was found before stays until this one has ended
the Job failed                   -> say why; the last valid version stays; try again, as the source may have changed

A Job that looked says after which one it did (`Occasion.after`), and the status says whose answer it took last: an
answer is taken once and in order, whatever clocks say and however late a view is.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from modelmill.api.dataset import DatasetSpec
from modelmill.api.schema import GROUP, parse_duration
from modelmill.core import (
    claims,
    conditions,
    jobs,
    pipeline_runs,
    pods,
    retention,
    retry,
    schedule,
    source,
    workspace,
)
from modelmill.core.conditions import Condition, Waiting, false, moment, timestamp, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited
from modelmill.core.resources import (
    DATASET_FIELD,
    DERIVED_FIELD,
    INPUT_FIELD,
    LINEAGE_FIELD,
    REFRESHES_FIELD,
    YES,
    Key,
    Manifest,
    inputs_of,
)
from modelmill.core.retention import Snapshot
from modelmill.core.source import Asked
from modelmill_contracts import captured, digest, report

KIND = "Dataset"
RESOURCES = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
TIMEOUT = timedelta(hours=1)
MAX_PROBLEMS = 32
REFRESH_ANNOTATION = f"{GROUP}/refresh"  # on the Dataset: any new value asks for a look
MAX_REFRESH = 256
NOT_READ = "NotRead"
SETTLED = timedelta(seconds=captured.SETTLED_SECONDS)  # until what was captured is in the store
OCCASION_ANNOTATION = f"{GROUP}/occasion"  # on the Job


class Occasion(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a look is for: what was newest when it began."""

    after: str = ""  # UID of the Job whose answer was the newest
    schedule: str = ""  # the newest time of the schedule
    request: str = ""  # value of REFRESH_ANNOTATION
    inputs: tuple[tuple[str, str], ...] = ()  # (name, version) of the Datasets that it derives from
    runs: tuple[str, ...] = ()  # the PipelineRuns that asked for it (`pipeline_runs.requests`)
    until: str = ""  # of what a ModelDeployment captured: rows from before then, which are in the store by now

    @property
    def subject(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What it is to look at, whatever was before."""
        return self.schedule, self.request, self.inputs

    def covers(self, wanted: "Occasion") -> bool:
        """Whether a look that was for this is one for that, too."""
        return self.subject == wanted.subject and set(wanted.runs) <= set(self.runs)


NOTHING = Occasion()


@dataclass(frozen=True)
class Looked:
    """What the status says of the looks so far."""

    run: str = ""  # UID of the Job whose answer was taken last
    at: str | None = None
    schedule: str = ""
    request: str = ""
    runs: tuple[str, ...] = ()  # the PipelineRuns whose look has ended, as long as they ask
    usage: tuple[int, int] | None = None  # CPU seconds, bytes of the newest version


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    history_limit: int
    referred: frozenset[str]  # versions that somebody refers to
    asked: Asked | Waiting
    refresh: tuple[str, str] | None  # schedule and time zone
    request: str
    runs: tuple[str, ...]  # the PipelineRuns that ask for a look
    max_age: str | None
    job: str
    run: jobs.Run
    occasion: Occasion  # of the run
    looked: Looked
    snapshot: str | None  # digest of what was asked when the newest version was taken; None: the last look failed
    settled: bool  # the present spec's snapshot was Ready when the store was last known to work
    problems: tuple[report.Problem, ...]
    history: tuple[Snapshot, ...]  # newest first
    modified_at: str | None
    failing: retry.Failing | None
    store_failed: bool  # the last failure was the store's, which otherwise works
    valid: bool  # the last failure was not about the data


@dataclass(frozen=True)
class Decision:
    history: tuple[Snapshot, ...]
    looked: Looked
    snapshot: str | None
    modified_at: str | None
    start: Occasion | None = None
    discard: bool = False
    problems: tuple[report.Problem, ...] = ()
    waiting: Waiting | None = None  # None: the newest version is what was declared
    invalid: bool = False
    store: Waiting | None = None  # what the store, which otherwise works, failed with
    stale: Waiting | None = None
    requeue_after: timedelta | None = None


def job_name(name: str) -> str:
    return f"{name}-data"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    inputs, claim, deployment = inputs_of(manifest), source.claim_of(manifest), source.deployment_of(manifest)
    return (
        workspace.dependency(namespace),
        *jobs.dependencies(namespace, metadata["uid"], job_name(name)),
        *((Key("PersistentVolumeClaim", namespace, "metadata.name", claim),) if claim is not None else ()),
        *((Key("ModelDeployment", namespace, "metadata.name", deployment),) if deployment is not None else ()),
        # Who refers to its versions.
        Key("ModelVersion", namespace, LINEAGE_FIELD, name),
        Key("TrainingJob", namespace, DATASET_FIELD, name),
        Key("Experiment", namespace, DATASET_FIELD, name),
        Key(KIND, namespace, INPUT_FIELD, name),
        # Who asks for a look.
        Key("PipelineRun", namespace, REFRESHES_FIELD, name),
        *(Key(KIND, namespace, "metadata.name", input_) for input_ in inputs),
        *((Key(KIND, namespace, DERIVED_FIELD, YES),) if inputs else ()),  # a cycle may go through any of them
    )


def observe(observed: Observed) -> Facts:
    spec = DatasetSpec.model_validate(observed.object["spec"])
    wanted = source.asked(observed, spec)
    job = job_name(observed.subject.name)
    status = observed.status
    valid = conditions.find(observed.object, "Valid")
    run = jobs.observe(observed, job, "" if isinstance(wanted, Waiting) else wanted.digest)
    run = claims.explained(observed, source.claim_of(observed.object), run)
    usage = status.get("usage")
    annotations = observed.object["metadata"].get("annotations") or {}
    store_failing = _store_failing(observed)
    runs = pipeline_runs.requests(
        observed.find("PipelineRun", REFRESHES_FIELD, observed.subject.name), observed.subject.name
    )
    return Facts(
        subject=observed.subject,
        declared=workspace.declared(observed, KIND),
        history_limit=spec.version_history_limit,
        referred=retention.referred(observed),
        asked=wanted,
        refresh=(spec.refresh.schedule, spec.refresh.time_zone) if spec.refresh else None,
        request=annotations.get(REFRESH_ANNOTATION, "")[:MAX_REFRESH],
        runs=runs,
        max_age=spec.expectations.max_age,
        job=job,
        run=run,
        occasion=_occasion(run),
        looked=Looked(
            run=status.get("lastRun", ""),
            at=status.get("checkedAt"),
            schedule=status.get("lastSchedule", ""),
            request=status.get("lastHandledRefresh", ""),
            runs=tuple(run for run in status.get("handledRuns", ()) if run in runs),
            usage=(usage.get("cpuSeconds", 0), usage.get("bytes", 0)) if usage else None,
        ),
        snapshot=status.get("snapshot"),
        settled=conditions.is_true(observed.object, "Ready"),
        problems=tuple(
            report.Problem(p["rule"], p["message"], p.get("column"), p.get("count", 0), tuple(p.get("rows", ())))
            for p in status.get("problems", ())
        ),
        history=retention.history(observed.object),
        modified_at=status.get("modifiedAt"),
        failing=retry.failing(observed, "Available") or retry.failing(observed, "Valid") or store_failing,
        store_failed=store_failing is not None,
        valid=valid is None or valid["status"] != "False",
    )


def _store_failing(observed: Observed) -> retry.Failing | None:
    """What a look could not write, or read back: of a store that the Workspace has no fault to find with."""
    available, valid = (conditions.find(observed.object, type_) for type_ in ("Available", "Valid"))
    # Where the Workspace's store does not work there is no look, or the newest version stays what was declared.
    if available is None or available["reason"] == NOT_READ or valid is None or valid["status"] == "True":
        return None
    return retry.failing(observed, "PreflightPassed")


def _occasion(run: jobs.Run) -> Occasion:
    said = run.annotation(OCCASION_ANNOTATION)
    if said is None:
        return NOTHING
    try:
        return msgspec.json.decode(said, type=Occasion)
    except msgspec.MsgspecError:
        return NOTHING  # somebody changed it: the Job is one more that nobody asked for


def decide(facts: Facts, now: datetime) -> Decision:
    decision = _look(facts, now)
    history = retention.kept(decision.history, facts.referred, facts.history_limit)
    return _aged(facts, replace(decision, history=history), now)


def _look(facts: Facts, now: datetime) -> Decision:
    """Whether to look, and what came of the last look."""
    as_it_was = Decision(facts.history, facts.looked, facts.snapshot, facts.modified_at)
    if isinstance(facts.asked, Waiting):
        # Without the store nothing new can be taken; what was taken is still what was declared.
        stays = facts.settled and facts.history and facts.asked.reason not in source.REFUSED
        return replace(as_it_was, waiting=None if stays else facts.asked)
    wanted, again = _wanted(facts, facts.asked, now)
    state, run = _state(facts), facts.run
    if state == "Succeeded":
        result = run.report.result if run.report is not None else None
        if isinstance(result, report.SnapshotResult):
            return replace(_taken(facts, facts.asked, result, now), requeue_after=again)
        waiting = Waiting("ReportInvalid", "the Job's report is not that of a snapshot", stalled=True)
        newer = not facts.occasion.covers(wanted)
        return replace(as_it_was, waiting=waiting, discard=newer, requeue_after=again)
    if state == "Failed":
        decision = _failed(facts, as_it_was, wanted, now)
        return replace(decision, requeue_after=_first(decision.requeue_after, again))
    # What was taken is what was declared, and stays so while it is looked whether there is something newer.
    taken = facts.snapshot == facts.asked.digest and bool(facts.history)
    if taken and not _is_news(facts, wanted):
        return replace(as_it_was, requeue_after=again)
    decision = _tried(facts, as_it_was, state, wanted, now)
    if taken and state != "Foreign" and not (state == "Active" and run.trouble is not None and run.trouble.declared):
        # What somebody wrote wrongly is said; room in the cluster is not, until it was waited for in vain.
        decision = replace(decision, waiting=None, problems=(), invalid=False)
    return replace(decision, requeue_after=_first(decision.requeue_after, again))


def _first(*pauses: timedelta | None) -> timedelta | None:
    return min((pause for pause in pauses if pause is not None), default=None)


def _state(facts: Facts) -> str:
    """The run's state: Taken, too, where the status has its answer, and Outdated where it has a newer one."""
    run, last = facts.run, facts.looked.run
    if run.state in ("Active", "Succeeded", "Failed", "Lost") and run.uid:
        if run.uid == last and run.state == "Failed":
            return "Failed"
        if run.uid == last or facts.occasion.after != last:
            return "Leaving" if run.leaving else "Taken" if run.uid == last else "Outdated"
    return run.state


def _wanted(facts: Facts, asked: Asked, now: datetime) -> tuple[Occasion, timedelta | None]:
    """What a look that begins now is for, and when the schedule's next time comes."""
    newest, again = facts.looked.schedule, None
    if facts.refresh is not None:
        times = schedule.parse(*facts.refresh)
        last, following = times.last(now), times.next(now)
        # A clock that was set back does not bring back times that were.
        if last is not None and (not newest or last > moment(newest)):
            newest = timestamp(last)
        again = following - now if following is not None else None
    inputs = tuple((i.name, i.version) for i in asked.inputs)
    until = timestamp(now - SETTLED) if asked.work.captured is not None else ""
    return Occasion(facts.looked.run, newest, facts.request, inputs, facts.runs, until), again


def _is_news(facts: Facts, wanted: Occasion) -> bool:
    """Whether there is something that was not looked at yet."""
    if wanted.inputs and wanted.inputs != facts.history[0].inputs:
        return True
    if wanted.request and wanted.request != facts.looked.request:
        return True
    if not set(wanted.runs) <= set(facts.looked.runs):
        return True
    if not wanted.schedule or wanted.schedule == facts.looked.schedule:
        return False
    # A schedule that is new counts from the last look.
    return bool(facts.looked.schedule) or facts.looked.at is None or moment(wanted.schedule) > moment(facts.looked.at)


def _failed(facts: Facts, as_it_was: Decision, wanted: Occasion, now: datetime) -> Decision:
    """What was found wrong; it is looked again after a pause, or at once where there is something new to look at."""
    run = facts.run
    waiting, pause = retry.after_failure(run, now, facts.failing)
    found = run.report.problems if run.report is not None else ()
    newer = not facts.occasion.covers(wanted)
    return replace(
        as_it_was,
        looked=_looked(facts, now),
        snapshot=None,
        waiting=waiting,
        problems=found[:MAX_PROBLEMS],
        invalid=bool(found),
        store=waiting if run.report is not None and run.report.store else None,
        discard=newer or pause is None,
        requeue_after=None if newer else pause,
    )


def _tried(facts: Facts, as_it_was: Decision, state: str, wanted: Occasion, now: datetime) -> Decision:
    """What is to be done with a run that gave no answer, or to have one."""
    if state == "Foreign":
        return replace(as_it_was, waiting=retry.name_taken("Job", facts.job), requeue_after=retry.MAX)
    if state == "Lost":
        waiting, pause = retry.after_failure(facts.run, now, facts.failing)
        return replace(as_it_was, waiting=waiting, discard=pause is None, requeue_after=pause)
    before = facts.failing
    running = Waiting("SnapshotRunning", "the data is being read and checked")
    return replace(
        as_it_was,
        start=wanted if state == "Absent" else None,
        discard=state in ("Outdated", "Taken"),
        waiting=retry.under_way(facts.run if state == "Active" else jobs.Run(state), facts.failing, running),
        problems=facts.problems if before is not None else (),
        invalid=before is not None and not facts.valid,
        store=before.waiting if before is not None and facts.store_failed else None,
    )


def _taken(facts: Facts, asked: Asked, result: report.SnapshotResult, now: datetime) -> Decision:
    """The history with this snapshot first; content that is known keeps when it was first seen."""
    known = next((s for s in facts.history if s.version == result.version), None)
    ended = timestamp(facts.run.ended or now)
    observed_at = known.observed_at if known is not None else ended
    last = facts.history[0] if facts.history and facts.history[0].version == result.version else None
    # The page tells of the change to the version before: the newest look at the same content found none.
    page = last.page if last is not None and last.is_in(asked.store) else None
    newest = Snapshot(
        result.version,
        result.file,
        result.rows,
        observed_at,
        result.profile,
        page or result.page,
        facts.occasion.inputs,
        asked.store.place,
    )
    others = tuple(s for s in facts.history if s.version != result.version)
    used = (result.cpu_seconds, result.size)
    # Where the source does not say: since when it has been the newest.
    since = facts.modified_at or observed_at if last is not None else ended
    said = _moment_said(result.modified_at)
    return Decision(
        history=(newest, *others),
        looked=replace(_looked(facts, now), usage=used if any(used) else facts.looked.usage),
        snapshot=asked.digest,
        modified_at=min(said, ended, key=moment) if said is not None else since,  # nothing is newer than the look
    )


def _looked(facts: Facts, now: datetime) -> Looked:
    """The run has looked, whatever it found."""
    before, occasion = facts.looked, facts.occasion
    return Looked(
        run=facts.run.uid,
        at=timestamp(facts.run.ended or now),
        schedule=occasion.schedule or before.schedule,
        request=occasion.request or before.request,
        runs=tuple(run for run in facts.runs if run in occasion.runs or run in before.runs),
        usage=before.usage,
    )


def _moment_said(text: str | None) -> str | None:
    """A pod's word on a time, as the API server writes times; None: it is none."""
    try:
        return timestamp(moment(text).astimezone(UTC)) if text is not None else None
    except (ValueError, OverflowError):
        return None


def _aged(facts: Facts, decision: Decision, now: datetime) -> Decision:
    """How old the newest version is, and whether that is too old."""
    if not decision.history:
        return replace(decision, modified_at=None)
    newest = decision.history[0]
    modified_at = decision.modified_at or newest.observed_at
    inputs = facts.asked.inputs if isinstance(facts.asked, Asked) else ()
    ages = [i.modified_at for i in inputs if i.modified_at is not None]
    if ages and newest.inputs == tuple((i.name, i.version) for i in inputs):
        modified_at = min(ages, key=moment)  # as old as the oldest of what it was made of
    decision = replace(decision, modified_at=modified_at)
    if facts.max_age is None:
        return decision
    left = moment(modified_at) + parse_duration(facts.max_age) - now
    if left > timedelta():
        return replace(decision, requeue_after=_first(decision.requeue_after, left))
    again = "the schedule" if facts.refresh else f"a new value of the annotation {REFRESH_ANNOTATION}"
    message = (
        f"the newest data is of {modified_at}, longer ago than expectations.maxAge, {facts.max_age}; bring newer data"
        f" to the source, which {again} has read"
    )
    return replace(decision, stale=Waiting("DataStale", message, stalled=True, failed=True))


def render(facts: Facts, decision: Decision) -> Outcome:
    newest = decision.history[0] if decision.history else None
    looked = decision.looked
    status: dict[str, Any] = {
        "version": newest.version if newest else None,
        "shortVersion": digest.label_of(newest.version) if newest else None,
        "rows": newest.rows if newest else None,
        "modifiedAt": decision.modified_at,
        "checkedAt": looked.at,
        "lastSchedule": looked.schedule or None,
        "lastHandledRefresh": looked.request or None,
        "handledRuns": list(looked.runs) or None,
        "lastRun": looked.run or None,
        "history": [_version(s) for s in decision.history] or None,
        "problems": [_problem(problem) for problem in decision.problems] or None,
        "snapshot": decision.snapshot,
        "usage": {"cpuSeconds": looked.usage[0], "bytes": looked.usage[1]} if looked.usage else None,
    }
    ready, *more = _conditions(facts, decision, newest)
    return Outcome(
        status=status,
        conditions=(ready, *more, *conditions.progress(ready, decision.waiting or decision.stale)),
        headline=("Ready",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _conditions(facts: Facts, decision: Decision, newest: Snapshot | None) -> tuple[Condition, ...]:
    return (_ready(decision, newest), *_found(facts, decision), _fresh(facts, decision))


def _ready(decision: Decision, newest: Snapshot | None) -> Condition:
    waiting = decision.waiting or decision.stale
    if waiting is not None:
        return false("Ready", waiting.reason, waiting.message)
    assert newest is not None  # noqa: S101 - done means that there is a version
    return true("Ready", "SnapshotTaken", f"{newest.rows} rows as version {newest.version}")


def _found(facts: Facts, decision: Decision) -> tuple[Condition, Condition, Condition]:
    """PreflightPassed, Available and Valid."""
    waiting = decision.waiting
    passed = (
        facts.asked.condition("PreflightPassed")
        if isinstance(facts.asked, Waiting)
        else true("PreflightPassed", "StoreWorks")
    )
    read = true("Available", "SourceRead", "the source was read")
    if waiting is None:
        return passed, read, true("Valid", "AllChecksPassed", "every declared rule holds")
    not_checked = unknown("Valid", "NotChecked", "the data was not checked yet")
    if isinstance(facts.asked, Waiting):
        return passed, unknown("Available", NOT_READ, "the source was not read yet"), not_checked
    if decision.store is not None:
        # What is there can still be used.
        kept = any(snapshot.is_in(facts.asked.store) for snapshot in decision.history)
        before = true("Available", "SourceRead", "the source was read before, and what was found is still there")
        not_read = unknown("Available", decision.store.reason, decision.store.message)
        return decision.store.condition("PreflightPassed"), before if kept else not_read, not_checked
    if not waiting.failed:
        said = (waiting.reason, waiting.message)
        return passed, unknown("Available", *said), unknown("Valid", *said)
    if decision.invalid:
        return passed, read, false("Valid", waiting.reason, waiting.message)
    return passed, false("Available", waiting.reason, waiting.message), not_checked


def _fresh(facts: Facts, decision: Decision) -> Condition:
    if not decision.history:
        return unknown("Fresh", "NoVersion", "there is no valid version yet")
    if decision.stale is not None:
        return decision.stale.condition("Fresh")
    if facts.max_age is None:
        return true("Fresh", "NoMaxAge", "expectations.maxAge is not declared: no data is too old")
    return true("Fresh", "WithinMaxAge", f"the data is of {decision.modified_at}, within {facts.max_age}")


def _version(snapshot: Snapshot) -> dict[str, Any]:
    more = {
        "profile": snapshot.profile,
        "page": snapshot.page,
        "from": [{"name": name, "version": version} for name, version in snapshot.inputs] or None,
        "store": snapshot.store,
    }
    return {
        "version": snapshot.version,
        "file": snapshot.file,
        "rows": snapshot.rows,
        "observedAt": snapshot.observed_at,
        **{key: value for key, value in more.items() if value is not None},
    }


def _problem(problem: report.Problem) -> dict[str, Any]:
    return {
        "rule": problem.rule,
        "message": problem.message[:512],
        "count": problem.count,
        **({"column": problem.column[:128]} if problem.column is not None else {}),
        **({"rows": list(problem.rows[:3])} if problem.rows else {}),
    }


def _writes(facts: Facts, decision: Decision) -> tuple[Create | Delete, ...]:
    if decision.discard:
        return (Delete("Job", facts.job, facts.run.uid, facts.declared),)
    if decision.start is None or isinstance(facts.asked, Waiting):
        return ()
    return (Create(_job(facts, facts.asked, decision.start), facts.declared),)


def _job(facts: Facts, asked: Asked, occasion: Occasion) -> Manifest:
    newest = facts.history[0] if facts.history else None
    previous = newest.profile if newest is not None and newest.is_in(asked.store) else None
    annotations = {OCCASION_ANNOTATION: msgspec.json.encode(occasion).decode()} if occasion != NOTHING else None
    transform = asked.transform
    return jobs.render(
        facts.subject,
        KIND,
        facts.job,
        asked.digest,
        asked.of_now(previous, occasion.until),
        asked.store,
        limits=pods.with_defaults(asked.resources, RESOURCES),
        timeout=TIMEOUT,
        retries=1,
        annotations=annotations,
        variables=asked.variables,
        config_map=asked.config_map,
        claim=asked.claim,
        transform=replace(transform, inputs=asked.snapshot_inputs) if transform is not None else None,
    )


# Where there are no PipelineRuns, none asks.
CONTROLLER = Controller(KIND, depends, observe, decide, render, spared=frozenset({"PipelineRun"}))
