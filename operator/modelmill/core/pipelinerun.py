"""PipelineRun: copies what it is to do, waits to be let in, and drives one stage after the other.

    not let in            -> it waits for its turn, or ends where the Pipeline does not let it wait
    let in                -> the stages are copied into its status: from here on nobody's edit changes it
    a stage runs          -> `stages` says how it is doing; what it is to make is made, if the Pipeline, read fresh,
                             says that this run is the active one, and no other one goes on
    the stage succeeded   -> the next one runs, with what it gave
    it failed, took too long, or the run is cancelled or replaced
                          -> what it has under way is deleted, and the run has failed

Each stage is bounded in time, and so is the wait for a Pipeline that is not there: every run ends.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.pipelinerun import PipelineRunSpec
from modelmill.api.schema import parse_duration
from modelmill.core import conditions, pipeline_runs, stages
from modelmill.core.conditions import Condition, Waiting, false, moment, not_ahead, timestamp, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.pipeline_runs import Run
from modelmill.core.plan import Create, Delete, Guard, Listed, Observed, Outcome, Subject, Write
from modelmill.core.resources import PIPELINE_FIELD, Key, Manifest, dig
from modelmill.core.stages import FAILED, PENDING, RUNNING, SKIPPED, SUCCEEDED, Inputs, Made, Seen

KIND = "PipelineRun"
QUEUED = "Queued"
PATIENCE = timedelta(minutes=10)  # for a Pipeline that is not there: it may be applied a moment later
_BRIEF = 40  # letters of a stage in the summary


@dataclass(frozen=True)
class Stage:
    """One stage, as the status has it."""

    name: str
    state: str = PENDING
    output: str | None = None
    message: str = ""
    progress: int | None = None
    made: Made | None = None
    taken_from: str | None = None
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def over(self) -> bool:
        return self.state in (SUCCEEDED, FAILED, SKIPPED)


@dataclass(frozen=True)
class Frozen:
    """What the run is to do: as JSON, so that equal ones are equal."""

    uid: str
    generation: int
    stages: str

    @property
    def declared(self) -> list[dict[str, Any]]:
        return list(json.loads(self.stages))


@dataclass(frozen=True)
class Parent:
    """The Pipeline as it is now."""

    uid: str
    policy: str
    active: tuple[str, str] | None  # name and UID
    replaced_by: str | None
    frozen: Frozen  # what a run that starts now would copy
    invalid: Waiting | None


@dataclass(frozen=True)
class Retried:
    """The run that this one retries."""

    pipeline: str
    run: Run
    frozen: Frozen | None
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Ended:
    """How it ended before: what a status says stays said."""

    succeeded: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Facts:
    subject: Subject
    created: str
    pipeline: str
    cancelled: bool
    parent: Parent | None
    retries: str | None
    retried: Retried | None
    others: tuple[tuple[str, str], ...]  # (name, UID) of the Pipeline's other runs that go on
    frozen: Frozen | None
    stages: tuple[Stage, ...]
    timeout: str  # of the stage that runs
    seen: Seen | None  # of the stage that runs
    started_at: str | None
    finished_at: str | None
    ended: Ended | None


@dataclass(frozen=True)
class Decision:
    frozen: Frozen | None
    stages: tuple[Stage, ...]
    waiting: Waiting | None = None
    queued: bool = False
    ended: Ended | None = None
    started_at: str | None = None
    finished_at: str | None = None
    create: str | None = None
    stop: Made | None = None
    requeue_after: timedelta | None = None


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata, spec = manifest["metadata"], manifest["spec"]
    namespace, pipeline = metadata["namespace"], spec["pipelineRef"]["name"]
    if pipeline_runs.ended(manifest)[0] is not None:
        return ()
    keys = [Key("Pipeline", namespace, "metadata.name", pipeline)]
    if not pipeline_runs.has_started(manifest):
        keys.append(Key(KIND, namespace, PIPELINE_FIELD, pipeline))
        if (retried := dig(spec, "retryOf", "name")) is not None:
            keys.append(Key(KIND, namespace, "metadata.name", retried))
    frozen = _frozen(manifest)
    declared = frozen.declared if frozen is not None else ()
    inputs = _inputs(declared, _stages(manifest))
    for stage in declared:
        keys += stages.dependencies(namespace, metadata["name"], stage, inputs)
    return tuple(dict.fromkeys(keys))


def observe(observed: Observed) -> Facts:
    spec = PipelineRunSpec.model_validate(observed.object["spec"])
    status, pipeline = observed.status, spec.pipeline_ref.name
    said = _stages(observed.object)
    frozen = _frozen(observed.object)
    declared = frozen.declared if frozen is not None else []
    current = next((stage for stage in declared if _find(said, stage["name"]).state == RUNNING), None)
    seen = None
    if current is not None:
        told = next(s for s in status["stages"] if s["name"] == current["name"])
        seen = stages.look(observed, current, told, _inputs(declared, said))
    runs = pipeline_runs.of_pipeline(observed.find(KIND, PIPELINE_FIELD, pipeline), pipeline)
    return Facts(
        subject=observed.subject,
        created=observed.object["metadata"]["creationTimestamp"],
        pipeline=pipeline,
        cancelled=spec.cancel,
        parent=_parent(observed.get("Pipeline", pipeline)),
        retries=spec.retry_of.name if spec.retry_of else None,
        retried=_retried(observed.get(KIND, spec.retry_of.name)) if spec.retry_of else None,
        others=tuple((run.name, run.uid) for run in runs if run.goes_on and run.uid != observed.uid),
        frozen=frozen,
        stages=said,
        timeout=current["timeout"] if current is not None else "",
        seen=seen,
        started_at=status.get("startedAt"),
        finished_at=status.get("finishedAt"),
        ended=_ended(observed.object),
    )


def _find(said: tuple[Stage, ...], name: str) -> Stage:
    return next((stage for stage in said if stage.name == name), Stage(name))


def _stages(run: Manifest) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            said["name"],
            said["state"],
            said.get("output"),
            said.get("message", ""),
            said.get("progress"),
            Made(m["kind"], m["name"], m.get("uid")) if (m := said.get("made")) else None,
            said.get("takenFrom"),
            said.get("startedAt"),
            said.get("finishedAt"),
        )
        for said in dig(run, "status", "stages") or ()
    )


def _frozen(run: Manifest) -> Frozen | None:
    copy = dig(run, "status", "pipeline")
    return None if copy is None else Frozen(copy["uid"], copy["generation"], copy["stages"])


def _inputs(declared: Any, said: tuple[Stage, ...]) -> Inputs:
    """What the stages that succeeded gave."""
    versions, version = {}, None
    for stage in declared:
        found = _find(said, stage["name"])
        if found.state != SUCCEEDED or found.output is None:
            continue
        if (dataset := dig(stage, "refresh", "datasetRef", "name")) is not None:
            versions[dataset] = found.output
        elif ("trainingJob" in stage or "experiment" in stage) and not found.output.startswith("sha256:"):
            version = found.output
    return Inputs(tuple(sorted(versions.items())), version)


def _parent(pipeline: Manifest | None) -> Parent | None:
    if pipeline is None or pipeline["metadata"].get("deletionTimestamp"):
        return None
    metadata, spec = pipeline["metadata"], pipeline["spec"]
    active = dig(pipeline, "status", "active")
    return Parent(
        uid=metadata["uid"],
        policy=spec["concurrencyPolicy"],
        active=(active["name"], active["uid"]) if active else None,
        replaced_by=active.get("replacedBy") if active else None,
        frozen=Frozen(metadata["uid"], metadata["generation"], stages.text(spec["stages"])),
        invalid=stages.invalid(spec["stages"]),
    )


def _retried(run: Manifest | None) -> Retried | None:
    if run is None:
        return None
    return Retried(run["spec"]["pipelineRef"]["name"], pipeline_runs.run_of(run), _frozen(run), _stages(run))


def _ended(run: Manifest) -> Ended | None:
    for type_ in ("Succeeded", "Failed"):
        condition = conditions.find(run, type_)
        if condition is not None and condition["status"] == "True":
            return Ended(type_ == "Succeeded", condition["reason"], condition["message"])
    return None


# What is to be done.


def decide(facts: Facts, now: datetime) -> Decision:
    as_it_was = Decision(facts.frozen, facts.stages, started_at=facts.started_at, finished_at=facts.finished_at)
    if facts.ended is not None:
        return replace(as_it_was, ended=facts.ended)
    stopped = _stopped(facts)
    if stopped is not None:
        return _fail(facts, as_it_was, *stopped, now)
    if facts.frozen is None:
        return _enter(facts, as_it_was, now)
    return _drive(facts, as_it_was, now)


def _stopped(facts: Facts) -> tuple[str, str] | None:
    """Why it must not go on."""
    parent = facts.parent
    if facts.cancelled:
        return "Cancelled", "spec.cancel is true; create a PipelineRun with retryOf to go on from here"
    if parent is None or parent.active is None:
        return None
    name, uid = parent.active
    if uid == facts.subject.uid and parent.replaced_by is not None:
        return (
            "Replaced",
            f"run {parent.replaced_by} takes its place (spec.concurrencyPolicy of the Pipeline is Replace)",
        )
    if uid != facts.subject.uid and facts.frozen is not None:
        return "Replaced", f"the Pipeline lets run {name} go on instead"
    return None


def _enter(facts: Facts, as_it_was: Decision, now: datetime) -> Decision:
    """It has not started: the first policy that has something to say."""
    parent = facts.parent
    if parent is None:
        left = moment(facts.created) + PATIENCE - now
        said = f"there is no Pipeline {facts.pipeline} in this namespace"
        if left <= timedelta():
            return _fail(facts, as_it_was, "PipelineNotFound", f"{said}; create it, and this run again", now)
        # A clock that was set back makes the creation lie ahead: then it was just now.
        waiting = Waiting("PipelineNotFound", f"{said} yet; create it")
        return replace(as_it_was, waiting=waiting, requeue_after=min(left, PATIENCE))
    refused = _not_retried(facts)
    if refused is None and parent.invalid is not None and (facts.retried is None or facts.retried.frozen is None):
        refused = parent.invalid.reason, parent.invalid.message
    if refused is not None:
        return _fail(facts, as_it_was, *refused, now)
    if parent.active is not None and parent.active[1] == facts.subject.uid:
        return _started(facts, as_it_was, parent, now)
    if parent.policy == "Forbid" and facts.others and parent.active is not None:
        said = f"run {parent.active[0]} goes on, and spec.concurrencyPolicy of the Pipeline is Forbid; create it later"
        return _fail(facts, as_it_was, "ConcurrencyForbidden", said, now)
    waits = f"it waits until Pipeline {facts.pipeline} lets it in"
    if parent.active is not None:
        waits += f": run {parent.active[0]} goes on"
    return replace(as_it_was, waiting=Waiting(QUEUED, waits), queued=True)


def _not_retried(facts: Facts) -> tuple[str, str] | None:
    """Why there is nothing to retry."""
    if facts.retries is None:
        return None
    retried = facts.retried
    if retried is None:
        return "RetriedRunNotFound", f"there is no PipelineRun {facts.retries} to retry (spec.retryOf)"
    if retried.pipeline != facts.pipeline:
        return "RetriedRunOfOther", f"PipelineRun {facts.retries} is one of Pipeline {retried.pipeline} (spec.retryOf)"
    if retried.run.result != "Failed":
        how = "succeeded" if retried.run.result else "has not ended"
        return "RetriedRunNotFailed", f"PipelineRun {facts.retries} {how}: only what failed can be retried"
    return None


def _started(facts: Facts, as_it_was: Decision, parent: Parent, now: datetime) -> Decision:
    """What it is to do is copied, with what the run that it retries has done of it."""
    retried = facts.retried
    frozen, done = parent.frozen, dict[str, Stage]()
    if retried is not None and retried.frozen is not None:
        frozen = retried.frozen
        done = {s.name: s for s in retried.stages if s.state == SUCCEEDED}
    copied = []
    for stage in frozen.declared:
        if stage["name"] not in done:
            break
        known = done[stage["name"]]
        copied.append(replace(known, taken_from=known.taken_from or facts.retries))
    waiting = tuple(_to_be(stage) for stage in frozen.declared[len(copied) :])
    began = replace(as_it_was, frozen=frozen, stages=(*copied, *waiting), started_at=timestamp(now))
    return _next(began, now)


def _to_be(stage: Manifest) -> Stage:
    """A stage that has not started; who looks at a Dataset is to know of all runs that will look at it."""
    dataset = dig(stage, "refresh", "datasetRef", "name")
    return Stage(stage["name"], made=Made("Dataset", dataset) if dataset is not None else None)


def _next(decision: Decision, now: datetime) -> Decision:
    """The first stage that is not over runs; where there is none, the run has succeeded."""
    coming = next((stage for stage in decision.stages if not stage.over), None)
    if coming is None:
        last = decision.stages[-1].message
        return _over(decision, Ended(True, "RunSucceeded", f"every stage succeeded: {last}"), now)
    runs = replace(coming, state=RUNNING, started_at=timestamp(now), message="it starts")
    waiting = Waiting("StageRunning", f"stage {coming.name} starts")
    return replace(decision, stages=_with(decision.stages, runs), waiting=waiting)


def _with(known: tuple[Stage, ...], changed: Stage) -> tuple[Stage, ...]:
    return tuple(changed if stage.name == changed.name else stage for stage in known)


def _over(decision: Decision, ended: Ended, now: datetime) -> Decision:
    """The run has ended; what was not reached is skipped."""
    left = tuple(replace(s, state=SKIPPED) if s.state == PENDING else s for s in decision.stages)
    return replace(decision, stages=left, ended=ended, finished_at=timestamp(now), waiting=None)


def _fail(facts: Facts, decision: Decision, reason: str, message: str, now: datetime) -> Decision:
    """The run fails, and with it the stage that runs; what that has under way is deleted first."""
    current, seen = next((s for s in decision.stages if s.state == RUNNING), None), facts.seen
    if current is not None:
        failed = replace(current, state=FAILED, message=message, finished_at=timestamp(now))
        decision = replace(decision, stages=_with(decision.stages, failed))
        message = f"stage {current.name}: {message}"
    stop = seen.made if seen is not None and seen.stop else None
    return replace(_over(decision, Ended(False, reason, message), now), stop=stop)


def _drive(facts: Facts, as_it_was: Decision, now: datetime) -> Decision:
    current, seen = next((s for s in facts.stages if s.state == RUNNING), None), facts.seen
    if current is None or seen is None:
        return _next(as_it_was, now)
    since = not_ahead(current.started_at or timestamp(now), now)
    known = replace(
        current,
        started_at=since,
        message=seen.message,
        output=seen.output,
        progress=seen.progress,
        made=seen.made or current.made,
    )
    if seen.create is not None:
        # Its UID is written down once it is seen: what is gone then was deleted, and is not made again.
        known = replace(known, made=replace(seen.made, uid=None) if seen.made is not None else None)
    going = replace(as_it_was, stages=_with(facts.stages, known))
    if seen.state == FAILED:
        return _fail(facts, going, seen.reason, seen.message, now)
    if seen.state == SUCCEEDED:
        done = replace(known, state=SUCCEEDED, finished_at=timestamp(now))
        after = replace(going, stages=_with(facts.stages, done))
        # A run that is retried was on its way with that version.
        if seen.ends and facts.retries is None:
            return _over(after, Ended(True, seen.reason, f"stage {done.name}: {seen.message}"), now)
        return _next(after, now)
    left = moment(since) + parse_duration(facts.timeout) - now
    if left <= timedelta():
        said = f"it did not end within {facts.timeout} (timeout): {seen.message}"
        return _fail(facts, going, "StageTimedOut", said, now)
    if facts.parent is not None and facts.parent.active is None:
        held = Waiting("WaitingForTurn", f"it waits until Pipeline {facts.pipeline} says that it may go on")
        return replace(going, waiting=held, requeue_after=left)
    waiting = Waiting("StageRunning", f"stage {current.name}: {seen.message}")
    return replace(going, waiting=waiting, create=seen.create, requeue_after=left)


# What is written.


def render(facts: Facts, decision: Decision) -> Outcome:
    frozen = decision.frozen
    version = _inputs(frozen.declared if frozen is not None else (), decision.stages).model_version
    at = next((s for s in reversed(decision.stages) if s.state in (RUNNING, FAILED)), None)
    at = at or next((s for s in reversed(decision.stages) if s.state == SUCCEEDED), None)
    status: dict[str, Any] = {
        "pipeline": None
        if frozen is None
        else {"uid": frozen.uid, "generation": frozen.generation, "stages": frozen.stages},
        "stages": [_stage(stage) for stage in decision.stages] or None,
        "stage": at.name if at is not None else None,
        "modelVersion": version,
        "summary": " > ".join(_brief(stage) for stage in decision.stages) or None,
        "startedAt": decision.started_at,
        "finishedAt": decision.finished_at,
    }
    return Outcome(
        status=status,
        conditions=_conditions(decision),
        headline=("Succeeded",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _stage(stage: Stage) -> dict[str, Any]:
    made = stage.made
    more = {
        "output": stage.output,
        "progress": stage.progress,
        "made": None
        if made is None
        else {"kind": made.kind, "name": made.name, **({"uid": made.uid} if made.uid is not None else {})},
        "takenFrom": stage.taken_from,
        "startedAt": stage.started_at,
        "finishedAt": stage.finished_at,
    }
    known = {key: value for key, value in more.items() if value is not None}
    return {"name": stage.name, "state": stage.state, "message": stage.message[: conditions.MAX_MESSAGE], **known}


def _brief(stage: Stage) -> str:
    """A stage in a few letters: its name, and how it is doing."""
    if stage.state == SUCCEEDED:
        output = stage.output or "ok"
        how = output.removeprefix("sha256:")[:8] if output.startswith("sha256:") else output
    elif stage.state == RUNNING:
        how = f"{stage.progress}%" if stage.progress is not None else "..."
    else:
        how = {FAILED: "failed", SKIPPED: "skipped"}.get(stage.state, "")
    return f"{stage.name} {how}".strip()[:_BRIEF]


def _conditions(decision: Decision) -> tuple[Condition, ...]:
    ended, waiting = decision.ended, decision.waiting
    if ended is not None and ended.succeeded:
        succeeded = true("Succeeded", ended.reason, ended.message)
        return succeeded, false("Failed", ended.reason), *conditions.progress(succeeded, None)
    if ended is not None:
        failed = true("Failed", ended.reason, ended.message)
        stalled = Waiting(ended.reason, ended.message, stalled=True)
        return false("Succeeded", ended.reason, ended.message), failed, *conditions.progress(failed, stalled)
    assert waiting is not None  # noqa: S101 - what has not ended waits for something
    succeeded = unknown("Succeeded", waiting.reason, waiting.message)
    going = None if decision.queued else waiting
    return succeeded, unknown("Failed", waiting.reason), *conditions.progress(succeeded, going)


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    if decision.stop is not None and decision.stop.uid is not None:
        stop = decision.stop
        return (Delete(stop.kind, stop.name, str(stop.uid), (_unfinished(stop),)),)
    if decision.create is None:
        return ()
    current = next(stage.name for stage in decision.stages if stage.state == RUNNING)
    guards = (_runs(facts.subject, current), _active(facts), _alone(facts))
    return (Create(json.loads(decision.create), guards),)


def _runs(subject: Subject, stage: str) -> Guard:
    """What was made and deleted is not made again because of an old view."""

    def holds(live: Manifest | None) -> bool:
        if live is None or live["metadata"]["uid"] != subject.uid or _ended(live) is not None:
            return False
        known = _find(_stages(live), stage)
        cancelled = bool(dig(live, "spec", "cancel"))
        return known.state == RUNNING and (known.made is None or known.made.uid is None) and not cancelled

    return Guard(KIND, subject.name, holds, f"stage {stage} of {KIND} {subject.name} has made nothing yet")


def _active(facts: Facts) -> Guard:
    """It is the one that may go on; of a Pipeline that is gone it was."""

    def holds(live: Manifest | None) -> bool:
        active = dig(live, "status", "active")
        return live is None or (
            active is not None and active["uid"] == facts.subject.uid and "replacedBy" not in active
        )

    said = f"Pipeline {facts.pipeline} lets {KIND} {facts.subject.name} go on"
    return Guard("Pipeline", facts.pipeline, holds, said)


def _alone(facts: Facts) -> Listed:
    def holds(live: tuple[Manifest, ...]) -> bool:
        return not any(
            run["spec"]["pipelineRef"]["name"] == facts.pipeline
            and run["metadata"]["uid"] != facts.subject.uid
            and pipeline_runs.run_of(run).goes_on
            for run in live
        )

    return Listed(KIND, holds, f"no other run of Pipeline {facts.pipeline} goes on")


def _unfinished(made: Made) -> Guard:
    def holds(live: Manifest | None) -> bool:
        if live is None or live["metadata"]["uid"] != made.uid:
            return True  # then there is nothing to be deleted
        return _ended(live) is None

    return Guard(made.kind, made.name, holds, f"{made.kind} {made.name} has not ended")


CONTROLLER = Controller(KIND, depends, observe, decide, render)
