"""Pipeline: makes runs for the causes of its triggers, and lets one run at a time go on.

    a cause, and nothing that stands against it   -> a PipelineRun, whose name is that of its cause
    a run that waits, no other one goes on        -> it is written down as the active one; from then on it may start
    the active run has ended, or is gone          -> that is written down; the next one may come

This object alone lets runs in, and a run makes something only if it reads here, fresh, that it is the one: so no stale
view, no crash and no second operator makes two of them go on.  A run that is let in deals with every cause that there
is by then.  What was made for a cause and never let in did nothing: it may be made again, under the same name.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.pipeline import PipelineSpec
from modelmill.api.schema import API_VERSION, parse_duration
from modelmill.core import conditions, lineage, stages, triggers
from modelmill.core.conditions import Waiting, false, moment, not_ahead, timestamp, true
from modelmill.core.controller import Controller
from modelmill.core.pipeline_runs import PIPELINE_LABEL, Run, of_pipeline, run_name
from modelmill.core.plan import Create, Delete, Guard, Observed, Outcome, Record, Subject, Write
from modelmill.core.resources import MANAGED_BY, PIPELINE_FIELD, Key, Manifest, dig
from modelmill.core.triggers import Cause, Seen, State, Told

KIND = "Pipeline"
RUN = "PipelineRun"
DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Active:
    """The run that may go on."""

    name: str
    uid: str
    since: str
    replaced_by: str | None = None


@dataclass(frozen=True)
class Last:
    """The run that ended last."""

    name: str
    result: str
    ended_at: str


@dataclass(frozen=True)
class Facts:
    subject: Subject
    invalid: Waiting | None  # why no run could do what the stages say
    policy: str
    cooldown: str
    most: int  # runs a day
    suspended: bool
    keep: tuple[int, int]  # runs that succeeded, and that failed
    commit: str | None
    active: Active | None
    last: Last | None
    starts: tuple[str, ...]
    triggers: tuple[Seen, ...]
    runs: tuple[Run, ...]  # oldest first


@dataclass(frozen=True)
class Turn:
    """Whose turn it is: the active run by now, and what of the others follows from it."""

    active: Active | None
    last: Last | None
    starts: tuple[str, ...]
    let_in: Run | None = None
    waits: str | None = None  # why those that wait are not let in
    requeue_after: timedelta | None = None


@dataclass(frozen=True)
class Decision:
    turn: Turn
    triggers: tuple[Told, ...]
    create: Cause | None = None
    surplus: tuple[Run, ...] = ()
    events: tuple[Record, ...] = ()
    requeue_after: timedelta | None = None


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    runs = Key(RUN, metadata["namespace"], PIPELINE_FIELD, metadata["name"])
    return (runs, *triggers.dependencies(manifest))


def observe(observed: Observed) -> Facts:
    spec = PipelineSpec.model_validate(observed.object["spec"])
    status, subject = observed.status, observed.subject
    runs = of_pipeline(observed.find(RUN, PIPELINE_FIELD, subject.name), subject.name)
    active, last = status.get("active"), status.get("lastRun")
    return Facts(
        subject=subject,
        invalid=stages.invalid(observed.object["spec"]["stages"]),
        policy=spec.concurrency_policy,
        cooldown=spec.cooldown,
        most=spec.max_runs_per_day,
        suspended=spec.suspend,
        keep=(spec.run_history_limit.succeeded, spec.run_history_limit.failed),
        commit=(observed.object["metadata"].get("annotations") or {}).get(lineage.COMMIT_ANNOTATION),
        active=Active(active["name"], active["uid"], active["since"], active.get("replacedBy")) if active else None,
        last=Last(last["name"], last["result"], last["endedAt"]) if last else None,
        starts=tuple(status.get("starts", ())),
        triggers=triggers.observe(observed, spec, runs),
        runs=runs,
    )


def decide(facts: Facts, now: datetime) -> Decision:
    turn = _turn(facts, now)
    told = tuple(_named(facts, triggers.told(seen, now)) for seen in facts.triggers)
    events: tuple[Record, ...] = ()
    create, why, again = None, turn.waits, turn.requeue_after
    if turn.let_in is not None:
        told = tuple(_dealt_with(one, turn.let_in) for one in told)
    elif any(one.pending is not None for one in told):
        create, why, pause = _started(facts, turn, told, now)
        again = _first(again, pause)
        if why == _SKIPPED and turn.active is not None:
            told, events = _skipped(told, turn.active.name)
        elif why is not None:
            told = tuple(_waiting(one, why) for one in told)
    coming = (one.next - now for one in told if one.next is not None)
    return Decision(turn, told, create, _surplus(facts, turn), events, _first(again, *coming))


def _first(*pauses: timedelta | None) -> timedelta | None:
    return min((pause for pause in pauses if pause is not None), default=None)


# Whose turn it is.


def _turn(facts: Facts, now: datetime) -> Turn:
    starts = _of_today(facts.starts, now)
    active, last = _still_active(facts, now)
    if last is not None:
        last = replace(last, ended_at=not_ahead(last.ended_at, now))
    if active is None:
        # Of a Pipeline of the same name that was deleted, or one that was not seen for a moment.
        going_on = next((run for run in facts.runs if run.goes_on), None)
        if going_on is not None:
            active = Active(going_on.name, going_on.uid, timestamp(now))
    others = (run for run in facts.runs if run.waits and (active is None or run.uid != active.uid))
    # Without stages that can be run, what waits fails by itself.
    waiting = next(others, None) if facts.invalid is None else None
    turn = Turn(active, last, starts, requeue_after=moment(starts[0]) + DAY - now if starts else None)
    if waiting is None:
        return turn
    if active is not None:
        if facts.policy == "Replace" and active.replaced_by is None:
            turn = replace(turn, active=replace(active, replaced_by=waiting.name))
        return turn
    if len(starts) >= facts.most:
        until = moment(starts[-facts.most]) + DAY
        return replace(turn, waits=_budget(facts, until), requeue_after=until - now)
    entered = Active(waiting.name, waiting.uid, timestamp(now))
    return replace(turn, active=entered, starts=(*starts, timestamp(now)), let_in=waiting)


def _of_today(starts: tuple[str, ...], now: datetime) -> tuple[str, ...]:
    # A clock that was ahead wrote times that lie ahead: they count from now on.
    times = (min(moment(start), now) for start in starts)
    return tuple(timestamp(time) for time in times if now - time < DAY)


def _still_active(facts: Facts, now: datetime) -> tuple[Active | None, Last | None]:
    """The active run, if it has not ended, and the one that ended last."""
    active = facts.active
    if active is None:
        return None, facts.last
    run = next((run for run in facts.runs if run.uid == active.uid), None)
    if run is None:
        return None, Last(active.name, "Deleted", timestamp(now))
    if run.result is not None:
        return None, Last(run.name, run.result, run.ended_at or timestamp(now))
    return active, facts.last


def _budget(facts: Facts, until: datetime) -> str:
    return f"spec.maxRunsPerDay, {facts.most}, is used up until {timestamp(until)}"


# What becomes of causes.


_SKIPPED = "skipped"


def _named(facts: Facts, told: Told) -> Told:
    """A cause whose run exists, and is not about to be let in, is dealt with."""
    if told.pending is None:
        return told
    name = _run_name(facts, told.pending)
    found = next((run for run in facts.runs if run.name == name), None)
    if found is None or found.waits:
        return told
    return replace(told, state=_after(told, f"run {name} started for it", name), pending=None)


def _run_name(facts: Facts, cause: Cause) -> str:
    return run_name(facts.subject.name, facts.subject.uid, cause.trigger, cause.key, cause.number)


def _after(told: Told, message: str, run: str | None) -> State:
    """The state once the pending cause is dealt with."""
    assert told.pending is not None  # noqa: S101 - whoever calls has looked
    return State(told.pending.key, told.state.runs + 1, run or told.state.last_run, message)


def _dealt_with(told: Told, run: Run) -> Told:
    """Whatever is so when a run is let in is dealt with by it; but a run that is retried has the stages of then."""
    if told.pending is None or (run.retries is not None):
        return told
    mine = run.trigger == told.name
    message = f"run {run.name} started for it" if mine else f"run {run.name}, which started anyway, deals with it"
    return replace(told, state=_after(told, message, run.name if mine else None), pending=None)


def _started(
    facts: Facts, turn: Turn, told: tuple[Told, ...], now: datetime
) -> tuple[Cause | None, str | None, timedelta | None]:
    """The cause that a run is made for, or why none is, and when to look again: the first policy that says so."""
    cause = next(one.pending for one in told if one.pending is not None)
    if facts.suspended:
        return None, "spec.suspend is true: set it to false to go on", None
    if facts.invalid is not None:
        return None, facts.invalid.message, None
    if turn.active is not None and facts.policy == "Forbid":
        return None, _SKIPPED, None
    if turn.active is not None and (facts.policy == "Queue" or turn.active.replaced_by is not None):
        return None, f"it waits until run {turn.active.name} has ended", None
    if any(run.waits and run.retries is None for run in facts.runs):
        return None, turn.waits or "it is dealt with by the run that is about to start", None
    if turn.last is not None:
        left = moment(turn.last.ended_at) + parse_duration(facts.cooldown) - now
        if left > timedelta():
            return None, f"it waits until {timestamp(now + left)} (spec.cooldown, {facts.cooldown})", left
    if len(turn.starts) >= facts.most:
        until = moment(turn.starts[-facts.most]) + DAY
        return None, _budget(facts, until), until - now
    return cause, None, None


def _waiting(told: Told, why: str) -> Told:
    return told if told.pending is None else replace(told, state=replace(told.state, message=why))


def _skipped(told: tuple[Told, ...], active: str) -> tuple[tuple[Told, ...], tuple[Record, ...]]:
    said = f"skipped: run {active} was going on (spec.concurrencyPolicy is Forbid)"
    left_out = [one for one in told if one.pending is not None]
    after = tuple(replace(one, state=_after(one, said, None), pending=None) if one in left_out else one for one in told)
    return after, tuple(Record("Normal", "CauseSkipped", f"trigger {one.name}: {said}") for one in left_out)


# What is kept of runs that have ended.


def _surplus(facts: Facts, turn: Turn) -> tuple[Run, ...]:
    """The runs beyond the limits, oldest first, that no run is about to retry; who created one deletes it."""
    needed = {run.retries for run in facts.runs if run.waits}
    active = turn.active.uid if turn.active is not None else None
    found: list[Run] = []
    for result, limit in zip(("Succeeded", "Failed"), facts.keep, strict=True):
        over = [run for run in facts.runs if run.result == result and run.made]
        over.sort(key=lambda run: (run.ended_at or "", run.created, run.name))
        found += over[: max(0, len(over) - limit)]
    return tuple(run for run in found if run.name not in needed and run.uid != active)


# What is written.


def render(facts: Facts, decision: Decision) -> Outcome:
    turn, wrong = decision.turn, _wrong(facts, decision)
    if wrong is not None:
        ready = false("Ready", wrong.reason, wrong.message)
    elif facts.suspended:
        ready = true("Ready", "Suspended", "spec.suspend is true: triggers start nothing")
    elif turn.active is not None:
        ready = true("Ready", "RunGoesOn", f"PipelineRun {turn.active.name} goes on")
    else:
        ready = true("Ready", "WaitingForCause", "no run goes on")
    return Outcome(
        status={
            "active": _active(turn.active),
            "lastRun": _last(turn.last),
            "starts": list(turn.starts) or None,
            "runsToday": len(turn.starts),
            "triggers": [triggers.status_of(told) for told in decision.triggers] or None,
        },
        conditions=(ready, *conditions.progress(ready, wrong)),
        headline=("Ready",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
        events=decision.events,
    )


def _wrong(facts: Facts, decision: Decision) -> Waiting | None:
    """What keeps it from doing all that is declared; what needs a person comes first."""
    found = [facts.invalid, *(told.wrong for told in decision.triggers)]
    wrong = [waiting for waiting in found if waiting is not None]
    return next((waiting for waiting in wrong if waiting.stalled), next(iter(wrong), None))


def _active(active: Active | None) -> dict[str, Any] | None:
    if active is None:
        return None
    replaced = {"replacedBy": active.replaced_by} if active.replaced_by is not None else {}
    return {"name": active.name, "uid": active.uid, "since": active.since, **replaced}


def _last(last: Last | None) -> dict[str, Any] | None:
    return None if last is None else {"name": last.name, "result": last.result, "endedAt": last.ended_at}


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    surplus = tuple(Delete(RUN, run.name, run.uid, (_over(run),)) for run in decision.surplus)
    if decision.create is None:
        return surplus
    return (Create(_run(facts, decision.create), (_not_dealt_with(facts),)), *surplus)


def _run(facts: Facts, cause: Cause) -> Manifest:
    """The run for a cause: nobody owns it, as its record is to outlive the Pipeline."""
    annotations = {"annotations": {lineage.COMMIT_ANNOTATION: facts.commit}} if facts.commit is not None else {}
    return {
        "apiVersion": API_VERSION,
        "kind": RUN,
        "metadata": {
            "name": _run_name(facts, cause),
            "namespace": facts.subject.namespace,
            "labels": {**MANAGED_BY, PIPELINE_LABEL: facts.subject.name},
            **annotations,
        },
        "spec": {
            "pipelineRef": {"name": facts.subject.name},
            "cause": {"trigger": cause.trigger, "key": cause.key, "message": cause.message},
        },
    }


def _not_dealt_with(facts: Facts) -> Guard:
    """The Pipeline is as it was read, as far as causes and their runs are concerned."""
    active, handled = _active(facts.active), _handled(facts)
    subject = facts.subject

    def holds(live: Manifest | None) -> bool:
        if (
            live is None
            or live["metadata"]["uid"] != subject.uid
            or live["metadata"]["generation"] != subject.generation
        ):
            return False
        said = [[t["name"], t["handled"], t["runs"]] for t in dig(live, "status", "triggers") or ()]
        return dig(live, "status", "active") == active and said == handled

    return Guard(KIND, subject.name, holds, f"{KIND} {subject.name} has not dealt with the cause")


def _handled(facts: Facts) -> list[list[Any]]:
    return [[s.name, s.before.handled, s.before.runs] for s in facts.triggers if s.before is not None]


def _over(run: Run) -> Guard:
    def holds(live: Manifest | None) -> bool:
        return live is not None and live["metadata"]["uid"] == run.uid and MANAGED_BY.items() <= _labels(live).items()

    return Guard(RUN, run.name, holds, f"{RUN} {run.name} was made for a cause")


def _labels(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["metadata"].get("labels") or {})


CONTROLLER = Controller(KIND, depends, observe, decide, render)
