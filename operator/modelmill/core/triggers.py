"""Triggers: what starts a run of a Pipeline, as causes.

A trigger has at most one cause at a time: what is so now and was not dealt with.  Nothing is queued, so that nothing
can be lost or come twice: what was dealt with is written down, and a cause that is no longer so starts nothing.

    schedule       the newest of its times           dealt with: any time that is not newer
    newVersionOf   the Dataset's version             dealt with: the version that a run made, or began after
    onCondition    conditions that are True          dealt with: each by the time at which it became True
    onSpecChange   the digest of the stages          dealt with: the digest of those that ran last

A trigger that is edited to have another schedule, or another object, begins anew, as one that is declared just now.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.pipeline import PipelineSpec, Trigger
from modelmill.core import conditions, schedule
from modelmill.core.conditions import Waiting, moment, timestamp
from modelmill.core.pipeline_runs import Run
from modelmill.core.plan import Observed
from modelmill.core.resources import Key, Manifest, dig
from modelmill_contracts import digest

# A schedule's time that was dealt with lies ahead only where a clock was wrong.  By so much it may have been.
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class State:
    """What the status says of a trigger."""

    handled: str = ""
    runs: int = 0
    last_run: str | None = None
    message: str = ""
    declared: str = ""  # what the trigger was then


@dataclass(frozen=True)
class Seen:
    """A trigger, and what is so now."""

    name: str
    before: State | None  # None: the trigger is new
    declared: str = ""  # what it is, in short
    schedule: tuple[str, str] | None = None  # cron and time zone
    cause: str = ""  # "": there is none
    of: str = ""  # what the cause is of, in words for people
    first: str = ""  # what counts as dealt with when the trigger is new
    busy: str | None = None  # the run that looks for a new version of the Dataset itself, and has not found out yet
    own: str | None = None  # the run that found this version
    absent: Waiting | None = None  # what it refers to, and is not there
    note: str = ""  # why there may never be a cause


@dataclass(frozen=True)
class Cause:
    """What a trigger starts a run for, if it may."""

    trigger: str
    key: str
    message: str
    number: int  # how many causes were dealt with before


@dataclass(frozen=True)
class Told:
    """A trigger by now: its state, the cause that is not dealt with, and when to look again by itself."""

    name: str
    state: State
    pending: Cause | None = None
    next: datetime | None = None
    wrong: Waiting | None = None
    declared: str = ""


def dependencies(manifest: Manifest) -> tuple[Key, ...]:
    """What the causes of a Pipeline's triggers depend on."""
    namespace, found = manifest["metadata"]["namespace"], []
    for trigger in dig(manifest, "spec", "triggers") or ():
        dataset = dig(trigger, "newVersionOf", "datasetRef", "name")
        deployment = dig(trigger, "onCondition", "deploymentRef", "name")
        if dataset is not None:
            found.append(Key("Dataset", namespace, "metadata.name", dataset))
        if deployment is not None:
            found.append(Key("ModelDeployment", namespace, "metadata.name", deployment))
    return tuple(found)


def observe(observed: Observed, spec: PipelineSpec, runs: tuple[Run, ...]) -> tuple[Seen, ...]:
    states = {
        said["name"]: State(
            said.get("handled", ""),
            said.get("runs", 0),
            said.get("lastRun"),
            said.get("message", ""),
            said.get("declared", ""),
        )
        for said in observed.status.get("triggers", ())
    }
    seen = ((trigger, _seen(observed, spec, trigger, states.get(trigger.name), runs)) for trigger in spec.triggers)
    return tuple(replace(found, declared=_declared(trigger)) for trigger, found in seen)


def _declared(trigger: Trigger) -> str:
    """What a trigger is: with another schedule or object, what was dealt with says nothing of it."""
    if trigger.schedule is not None:
        return f"schedule {trigger.schedule.cron} {trigger.schedule.time_zone}"
    if trigger.new_version_of is not None:
        return f"newVersionOf {trigger.new_version_of.dataset_ref.name}"
    return f"onCondition {trigger.on_condition.deployment_ref.name}" if trigger.on_condition else "onSpecChange"


def _seen(
    observed: Observed, spec: PipelineSpec, trigger: Trigger, before: State | None, runs: tuple[Run, ...]
) -> Seen:
    if trigger.schedule is not None:
        return Seen(trigger.name, before, schedule=(trigger.schedule.cron, trigger.schedule.time_zone))
    if trigger.new_version_of is not None:
        return _new_version(observed, trigger.name, trigger.new_version_of.dataset_ref.name, before, runs)
    if trigger.on_condition is not None:
        name, types = trigger.on_condition.deployment_ref.name, trigger.on_condition.types
        return _condition(observed, trigger.name, name, types, before)
    # Without defaults: a newer operator, whose API has more of them, must not start a run of everything.
    stages = [stage.without_defaults() for stage in spec.stages]
    return Seen(trigger.name, before, cause=digest.of_json(stages), of="other stages")


def _new_version(observed: Observed, trigger: str, name: str, before: State | None, runs: tuple[Run, ...]) -> Seen:
    dataset = observed.get("Dataset", name)
    if dataset is None:
        said = f"there is no Dataset {name} in this namespace yet, which trigger {trigger} waits for; create it"
        return Seen(trigger, before, absent=Waiting("DatasetNotFound", said))
    version = dig(dataset, "status", "version") or ""
    looks = [(run, refreshed) for run in runs for refreshed in run.refreshed if refreshed.dataset == name]
    return Seen(
        trigger,
        before,
        cause=version,
        of=f"a new version of Dataset {name}",
        first=version,
        busy=next((run.name for run, refreshed in looks if run.goes_on and not refreshed.done), None),
        own=next((run.name for run, refreshed in reversed(looks) if version and refreshed.output == version), None),
    )


def _condition(observed: Observed, trigger: str, name: str, types: tuple[str, ...], before: State | None) -> Seen:
    deployment = observed.get("ModelDeployment", name)
    if deployment is None:
        said = f"there is no ModelDeployment {name} in this namespace yet, which trigger {trigger} waits for; create it"
        return Seen(trigger, before, absent=Waiting("ModelDeploymentNotFound", said))
    found = ((type_, conditions.find(deployment, type_)) for type_ in sorted(types))
    now = {t: str(c["lastTransitionTime"]) for t, c in found if c is not None and c["status"] == "True"}
    known = _since(before.handled) if before is not None else {}
    news = [type_ for type_, since in now.items() if known.get(type_) != since]
    if not news:
        return Seen(trigger, before, note=_unsaid(deployment, name, types))
    # What was dealt with and is not so any more is kept: it may only be away for a moment.
    cause = " ".join(f"{type_}@{since}" for type_, since in sorted((known | now).items()) if type_ in types)
    return Seen(trigger, before, cause=cause, of=f"{' and '.join(news)} of ModelDeployment {name}")


def _unsaid(deployment: Manifest, name: str, types: tuple[str, ...]) -> str:
    """Which conditions it does not have: most are there only where the spec asks for them."""
    lacks = [type_ for type_ in types if conditions.find(deployment, type_) is None]
    if not lacks or not dig(deployment, "status", "conditions"):
        return ""
    return (
        f"ModelDeployment {name} has no condition {' and no '.join(lacks)}: is it spelt so, and does its"
        " spec.monitoring declare it?"
    )


def _since(handled: str) -> dict[str, str]:
    """Conditions with the times at which they became True, as they are written down."""
    return dict(entry.split("@", 1) for entry in handled.split(" ") if "@" in entry)


def told(seen: Seen, now: datetime) -> Told:
    """What is not dealt with yet, before it is decided what becomes of it."""
    found = _scheduled(seen, seen.schedule, now) if seen.schedule is not None else _told(seen)
    return replace(found, declared=seen.declared)


def _state(seen: Seen, first: str) -> State:
    """What was dealt with; of a trigger that is new, or another one by now, what counts as that."""
    before = seen.before
    if before is None:
        return State(first)
    # The number of its runs goes on: their names have it.
    return before if before.declared in ("", seen.declared) else State(first, before.runs, before.last_run)


def _told(seen: Seen) -> Told:
    state = _state(seen, seen.first)
    if seen.absent is not None:
        # The version that is there when it comes is a new one.
        return Told(seen.name, state, wrong=seen.absent)
    if not seen.cause or seen.cause == state.handled or seen.busy is not None:
        return Told(seen.name, state if state.handled else replace(state, message=seen.note))
    if seen.own is not None:
        return Told(seen.name, State(seen.cause, state.runs, state.last_run, f"run {seen.own} found it itself"))
    return Told(seen.name, state, Cause(seen.name, seen.cause, seen.of, state.runs))


def _scheduled(seen: Seen, declared: tuple[str, str], now: datetime) -> Told:
    try:
        times = schedule.parse(*declared)
    except schedule.ScheduleError as error:
        said = f"trigger {seen.name}: {error}"
        return Told(seen.name, _state(seen, ""), wrong=Waiting("ScheduleInvalid", said, stalled=True))
    last, following = times.last(now), times.next(now)
    newest = timestamp(last) if last is not None else ""
    state = _state(seen, "")
    if not state.handled or moment(state.handled) > now + _AHEAD:
        # It counts from when it is declared; or a clock was far ahead, and what was dealt with then never came.
        state = State(newest or timestamp(now), state.runs, state.last_run, state.message)
    # A clock that was set back a little does not bring back times that were.
    if last is None or last <= moment(state.handled):
        return Told(seen.name, state, next=following)
    return Told(seen.name, state, Cause(seen.name, newest, f"it is {newest}", state.runs), next=following)


def status_of(told_: Told) -> dict[str, Any]:
    state, pending = told_.state, told_.pending
    return {
        "name": told_.name,
        "declared": told_.declared,
        "handled": state.handled,
        "runs": state.runs,
        **({"lastRun": state.last_run} if state.last_run is not None else {}),
        **({"pending": pending.key} if pending is not None else {}),
        **({"next": timestamp(told_.next)} if told_.next is not None else {}),
        "message": state.message[:512],
    }
