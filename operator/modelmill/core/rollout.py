"""A rollout: step by step from the revision that serves to the one that is coming up, or back.

    its pods are ready             -> step 1 begins, with an epoch of its own for what pods count
    a window is full               -> weigh it; the status is written once, with the evidence and what follows from it
    the verdict is Advance         -> next step; after the last one it takes over
    the verdict is Reject          -> rolled back: no requests, and not tried again by itself
    other spec, newer version      -> from the start; what serves stays
    first deployment               -> no steps: nothing serves that it could be compared with

What pods are told follows from what the status says (see `routing`): no weight rises that was not written down before,
with the evidence for it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api import rollout as api
from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.api.schema import parse_duration
from modelmill.core import actions, evidence, queries, verdicts
from modelmill.core.conditions import MAX_MESSAGE, Waiting, moment, not_ahead, timestamp
from modelmill.core.plan import Record
from modelmill.core.resources import Manifest
from modelmill.core.strategies import STRATEGIES
from modelmill.core.strategies.strategy import COPIES, Step, Strategy
from modelmill.core.verdicts import Ruling, Verdict
from modelmill.stats.window import Window
from modelmill_contracts import digest

RUNNING, RESUMED, PAUSED, REJECTED, INCONCLUSIVE = "Running", "Resumed", "Paused", "Rejected", "Inconclusive"
_HOLD = timedelta(minutes=5)
# How many pods there are, which autoscalers set, and who reaches and watches them.
_OF_NO_ROLLOUT = {"replicas", "autoscaling", "expose", "monitoring"}
# Requests of the candidate: with fewer a window stays open, as short ones would waste what the other arm had.
LEAST_IN_A_WINDOW = 10


@dataclass(frozen=True)
class Progress:
    """How far a rollout is, as `status.candidate` says."""

    epoch: str
    step: int  # 1 is the first; one more than there are: it takes over
    state: str
    started_at: str
    step_at: str
    windows: int
    weighed_at: str
    requests: int
    failures: int
    states: evidence.States
    prometheus: tuple[queries.Found, ...]
    passed: tuple[api.PassedStep, ...]


@dataclass(frozen=True)
class Situation:
    """What a rollout is decided from."""

    name: str  # of the ModelDeployment
    settings: api.Rollout
    spec: str  # digits that stand for the spec without replicas
    wanted: str  # the revision that the spec asks for
    version: int | None
    stable: str | None  # the revision that serves, where it has a Deployment
    stable_ready: bool
    previous: str | None  # the revision that served before and has its Deployment still
    ready: bool  # all pods of the wanted one
    begins: bool  # as many of them as its first step takes
    replicas: int
    handed_over: bool  # pods have been told, for a while, to send everything to the wanted one
    progress: Progress | None
    rolled_back: api.RolledBack | None
    annotation: str | None
    handled: str | None
    window: Window | None
    heard: tuple[queries.Heard, ...]  # of Prometheus; empty while it is not asked


@dataclass(frozen=True)
class Course:
    """What follows: which revision is to serve, and what is to be written down."""

    goal: str
    by_steps: bool = False  # it takes over only if `takes_over`
    takes_over: bool = False
    progress: Progress | None = None
    rolled_back: api.RolledBack | None = None
    handled: str | None = None
    waiting: Waiting | None = None
    look_again: timedelta | None = None
    weighed: bool = False  # the open window is part of the progress
    ended: Progress | None = None  # what came to its end now, with the window that ended it
    events: tuple[Record, ...] = ()


def digest_of(spec: ModelDeploymentSpec) -> str:
    """Digits that stand for everything in a spec but what no rollout depends on."""
    return digest.hex_of(digest.of_json(spec.model_dump(exclude=_OF_NO_ROLLOUT, exclude_defaults=True)))[:8]


def strategy(settings: api.Rollout) -> Strategy:
    return STRATEGIES[settings.strategy]


def steps(settings: api.Rollout) -> tuple[Step, ...]:
    """The declared steps, or those of the strategy."""
    if settings.steps is None:
        return strategy(settings).steps
    return tuple(_step(step) for step in settings.steps)


def _step(step: api.Step) -> Step:
    if step.shadow is not None:
        return Step(0, COPIES, parse_duration(step.shadow))
    hold = _HOLD if step.hold is None else None if step.hold == api.MANUAL else parse_duration(step.hold)
    return Step(step.weight or 0, 0, hold)


def shares(settings: api.Rollout, progress: Progress) -> tuple[int, int]:
    """Weight and share of copies, in percent."""
    if progress.state == REJECTED:
        return 0, 0
    known = steps(settings)
    if progress.step > len(known):
        return 100, 0
    return known[progress.step - 1].weight, known[progress.step - 1].shadow


def pods_of_candidate(settings: api.Rollout, progress: Progress | None, replicas: int) -> int:
    """How many of so many pods the candidate's share takes: of requests, or of copies; before the first step, its."""
    if progress is None:
        first = steps(settings)[0]
        share = max(first.weight, first.shadow)
    else:
        share = max(shares(settings, progress))
    return min(replicas, max(1, -(-replicas * share // 100)))


def copies(settings: api.Rollout, progress: Progress) -> bool:
    """Whether what is counted now are copies."""
    known = steps(settings)
    return progress.step <= len(known) and known[progress.step - 1].shadow > 0


def analysis(settings: api.Rollout) -> api.Analysis:
    return settings.analysis or api.Analysis()


def _epoch(situation: Situation, now: datetime) -> str:
    return f"{situation.wanted}-{_settings(situation)}-{timestamp(now)}"


def _settings(situation: Situation) -> str:
    settings = situation.settings.model_dump(exclude_defaults=True)
    return digest.hex_of(digest.of_json(settings))[:8]


def revision_in(epoch: str) -> str:
    """The revision that an epoch is of."""
    return epoch.partition("-")[0]


def course(situation: Situation, now: datetime) -> Course:
    """Where the rollout goes from here."""
    situation, events = _acted(_current(situation), now)
    found = _course(situation, now)
    return replace(found, handled=situation.handled, events=(*events, *found.events))


def _current(situation: Situation) -> Situation:
    """Without what is not about the present spec: another revision's progress, a rollback of another spec."""
    progress, back = situation.progress, situation.rolled_back
    if progress is not None and not progress.epoch.startswith(f"{situation.wanted}-{_settings(situation)}-"):
        progress = None
    if back is not None and (back.revision != situation.wanted or back.spec != situation.spec):
        back = None
    return replace(situation, progress=progress, rolled_back=back)


def _acted(situation: Situation, now: datetime) -> tuple[Situation, tuple[Record, ...]]:
    """What somebody asked for by the annotation, done once."""
    text = situation.annotation
    if text is None:
        return replace(situation, handled=None), ()  # so that the same can be asked for again
    text = text[: actions.LONGEST]
    if text == situation.handled:
        return situation, ()
    situation = replace(situation, handled=text)
    action = actions.read(text)
    done = _do(situation, action, now) if action is not None else None
    if done is None:
        message = f"{text} changes nothing now: write VERB@REVISION of a revision for which it has a meaning"
        return situation, (Record("Warning", "ActionIgnored", message),)
    return done, (Record("Normal", "ActionHandled", text),)


def _do(situation: Situation, action: actions.Action, now: datetime) -> Situation | None:
    """The situation after an action; None where it has no meaning there."""
    progress, coming = situation.progress, action.revision == situation.wanted != situation.stable
    at = timestamp(now)
    match action.verb:
        case "pause" if coming and progress is not None and progress.state in (RUNNING, RESUMED):
            return replace(situation, progress=replace(progress, state=PAUSED))
        case "resume" if coming and progress is not None:
            if progress.state in (REJECTED, INCONCLUSIVE):
                return replace(situation, progress=None)  # from the start, with evidence of its own
            # The time that it waited for somebody counts for no deadline.
            shifted = timestamp(moment(progress.started_at) + max(now - moment(progress.step_at), timedelta()))
            known = steps(situation.settings)
            manual = progress.step <= len(known) and known[progress.step - 1].hold is None
            if progress.state == PAUSED:
                state = RUNNING
            elif manual:
                state = RESUMED
            else:
                return None
            return replace(situation, progress=replace(progress, state=state, started_at=shifted, step_at=at))
        case "promote" if coming and situation.rolled_back is None and _by_steps(situation):
            begun = progress or _begun(situation, now)
            last = len(steps(situation.settings)) + 1
            return replace(situation, progress=replace(begun, step=last, state=RUNNING, step_at=at))
        case "abort" if coming and situation.rolled_back is None and _by_steps(situation):
            back = _back(situation, "Aborted", "somebody aborted it", now)
            return replace(situation, rolled_back=back)
        case "retry" if situation.rolled_back is not None and action.revision == situation.wanted:
            return replace(situation, rolled_back=None)
        case "undo" if action.revision == situation.stable == situation.wanted and situation.previous is not None:
            back = _back(situation, "Undone", "somebody went back to the revision before", now)
            return replace(situation, rolled_back=back)
    return None


def _by_steps(situation: Situation) -> bool:
    """Whether the wanted revision has steps to go: not what is deployed first."""
    return bool(steps(situation.settings)) and situation.stable is not None


def _back(situation: Situation, reason: str, message: str, now: datetime) -> api.RolledBack:
    return api.RolledBack(
        revision=situation.wanted,
        version=situation.version,
        reason=reason,
        message=message[:MAX_MESSAGE],
        spec=situation.spec,
        at=timestamp(now),
    )


def _course(situation: Situation, now: datetime) -> Course:
    stable, wanted = situation.stable, situation.wanted
    if situation.rolled_back is not None:
        return _after_rollback(situation, situation.rolled_back)
    if stable is None or stable == wanted or not _by_steps(situation):
        return Course(wanted)
    if situation.replicas == 0:
        message = f"spec.replicas is 0: revision {wanted} is rolled out when there are pods"
        return Course(wanted, by_steps=True, waiting=Waiting("ScaledToZero", message))
    if situation.progress is None:
        return _beginning(situation, now)
    return _going_on(situation, situation.progress, now)


def _after_rollback(situation: Situation, back: api.RolledBack) -> Course:
    """What served before serves on, or again."""
    stable = situation.stable
    goal = (situation.previous if stable == back.revision else stable) or stable or back.revision
    again = f"it is tried again when the spec changes, or by kubectl mill retry {situation.name}"
    message = f"revision {back.revision} was rolled back ({back.reason}: {back.message}); {again}"
    return Course(goal, rolled_back=back, waiting=Waiting("RolledBack", message[:MAX_MESSAGE], stalled=True))


def _beginning(situation: Situation, now: datetime) -> Course:
    if not situation.begins:
        return Course(situation.wanted, by_steps=True)  # who waits for pods says so
    if not situation.stable_ready:
        message = (
            f"revision {situation.wanted} is ready, and {situation.stable}, which serves, has no ready pod to compare"
            f" it with; kubectl mill promote {situation.name} lets it take over as it is"
        )
        return Course(situation.wanted, by_steps=True, waiting=Waiting("NothingToCompareWith", message, stalled=True))
    begun = _begun(situation, now)
    message = f"step 1 of {len(steps(situation.settings))} begins"
    return Course(
        situation.wanted, by_steps=True, progress=begun, waiting=Waiting("RollingOut", message),
        look_again=timedelta(), events=(Record("Normal", "RolloutStarted", f"revision {situation.wanted}: {message}"),),
    )  # fmt: skip


def _begun(situation: Situation, now: datetime) -> Progress:
    """At the first step, with nothing counted."""
    at = timestamp(now)
    return Progress(
        _epoch(situation, now), 1, RUNNING, started_at=at, step_at=at, windows=0, weighed_at=at, requests=0, failures=0,
        states=(), prometheus=(), passed=(),
    )  # fmt: skip


def _going_on(situation: Situation, progress: Progress, now: datetime) -> Course:
    known, declared = steps(situation.settings), analysis(situation.settings)
    progress = _by_this_clock(progress, now)
    gates = evidence.gates(declared, progress.states)
    progress, gates, weighed, due = _weighed(situation, progress, gates, declared, now)
    found = evidence.findings(gates, declared)
    if progress.state == REJECTED:
        message = f"the evidence is against it, and it gets no requests; {_ways_out(situation)}"
        return _standing(situation, progress, Waiting("Rejected", message, stalled=True), weighed)
    if progress.step > len(known):
        waiting = Waiting("TakingOver", f"revision {situation.wanted} is taking over")
        return Course(
            situation.wanted, by_steps=True, takes_over=situation.handed_over and situation.ready, progress=progress,
            waiting=waiting, look_again=SETTLE, weighed=weighed,
        )  # fmt: skip
    step = known[progress.step - 1]
    if situation.heard:
        interval = parse_duration(declared.interval)
        said = queries.found(declared.prometheus, situation.heard, progress.prometheus, interval, now)
        progress = replace(progress, prometheus=said)
    hold, left = step.hold, timedelta()
    if hold is not None:
        left = hold - (now - moment(progress.step_at))
    deadline = parse_duration(declared.deadline) - (now - moment(progress.started_at))
    ruling = verdicts.ruled(
        strategy(situation.settings).policies,
        verdicts.Input(
            name=situation.name,
            step=progress.step,
            steps=len(known),
            paused=progress.state == PAUSED,
            hold_left=None if hold is None and progress.state != RESUMED else left,
            overdue=deadline <= timedelta(),
            last_copies=step.shadow > 0 and all(s.shadow == 0 for s in known[progress.step :]),
            requests=progress.requests,
            min_requests=declared.min_requests,
            findings=found,
            queries=progress.prometheus if situation.heard else (),
        ),
    )
    if progress.state == INCONCLUSIVE and ruling.verdict is not Verdict.REJECT:
        message = f"there is no verdict at the deadline; {_ways_out(situation)}"
        return _standing(situation, progress, Waiting("Inconclusive", message, stalled=True), weighed)
    look = min((t for t in (left, deadline, due) if t > timedelta()), default=None)
    return replace(_ruled(situation, progress, ruling, now), weighed=weighed, look_again=look)


def _by_this_clock(progress: Progress, now: datetime) -> Progress:
    """The progress, nothing of which began later than now: a clock that was set back makes all of it begin anew."""
    return replace(
        progress,
        started_at=not_ahead(progress.started_at, now),
        step_at=not_ahead(progress.step_at, now),
        weighed_at=not_ahead(progress.weighed_at, now),
    )


def _ways_out(situation: Situation) -> str:
    name = situation.name
    return f"kubectl mill resume {name} tries it from the start, promote or abort decide"


def _standing(situation: Situation, progress: Progress, waiting: Waiting, weighed: bool) -> Course:
    return Course(situation.wanted, by_steps=True, progress=progress, waiting=waiting, weighed=weighed)


def _weighed(
    situation: Situation, progress: Progress, gates: evidence.Gates, declared: api.Analysis, now: datetime
) -> tuple[Progress, evidence.Gates, bool, timedelta]:
    """The progress with the open window weighed, where its time has come; whether it was, and when it will be."""
    window = situation.window
    due = parse_duration(declared.interval) - (now - moment(progress.weighed_at))
    if window is None or due > timedelta() or not window.filled(LEAST_IN_A_WINDOW):
        return progress, gates, False, due
    gates = evidence.after(gates, window)
    progress = replace(
        progress,
        windows=progress.windows + 1,
        weighed_at=timestamp(now),
        requests=progress.requests + window.candidate.requests,
        failures=progress.failures + window.candidate.failures,
        states=evidence.states(gates),
    )
    return progress, gates, True, parse_duration(declared.interval)


def _ruled(situation: Situation, progress: Progress, ruling: Ruling, now: datetime) -> Course:
    """What a ruling means."""
    wanted, settings = situation.wanted, situation.settings
    verdict, rollback = ruling.verdict, False
    if verdict is Verdict.REJECT:
        rollback = settings.on_failure == "Rollback"
        progress = replace(progress, state=REJECTED)
    elif verdict is Verdict.INCONCLUSIVE:
        rollback = analysis(settings).on_inconclusive == "Rollback"
        progress = replace(progress, state=INCONCLUSIVE)
    if rollback:
        back = _back(situation, ruling.reason, ruling.message, now)
        event = Record("Warning", "RolledBack", f"revision {wanted}: {ruling.message}")
        return replace(_after_rollback(situation, back), events=(event,), ended=progress)
    if verdict in (Verdict.REJECT, Verdict.INCONCLUSIVE):
        waiting = Waiting(str(progress.state), f"{ruling.message}; {_ways_out(situation)}", stalled=True)
        event = Record("Warning", ruling.reason, f"revision {wanted}: {ruling.message}")
        return Course(wanted, by_steps=True, progress=progress, waiting=waiting, events=(event,))
    events: tuple[Record, ...] = ()
    if verdict is Verdict.ADVANCE:
        passed = (*progress.passed, _passed(settings, progress, now))
        progress = replace(progress, step=progress.step + 1, state=RUNNING, step_at=timestamp(now), passed=passed)
        weight, _ = shares(settings, progress)
        events = (Record("Normal", "StepPassed", f"revision {wanted}: {ruling.message}; its weight is {weight} now"),)
    return Course(
        wanted, by_steps=True, progress=progress, waiting=Waiting(ruling.reason, ruling.message), events=events
    )


def _passed(settings: api.Rollout, progress: Progress, now: datetime) -> api.PassedStep:
    weight, shadow = shares(settings, progress)
    return api.PassedStep(
        step=progress.step,
        weight=weight,
        shadow=shadow,
        started_at=progress.step_at,
        ended_at=timestamp(now),
        requests=progress.requests,
        failures=progress.failures,
    )


SETTLE = timedelta(seconds=5)  # pods that are touched know an edit of their routes after 0.2 s, others are given this


def progress_of(candidate: Manifest | None) -> Progress | None:
    """What `status.candidate` says; None where no step has begun."""
    said = api.CandidateStatus.model_validate(candidate or {"revision": ""})
    if said.epoch is None or said.step is None or said.started_at is None or said.step_at is None:
        return None
    return Progress(
        epoch=said.epoch,
        step=said.step,
        state=said.state or RUNNING,
        started_at=said.started_at,
        step_at=said.step_at,
        windows=said.windows or 0,
        weighed_at=said.weighed_at or said.started_at,
        requests=said.requests or 0,
        failures=said.failures or 0,
        states=evidence.of_status(said.evidence),
        prometheus=queries.of_status(said.prometheus),
        passed=said.passed,
    )


def status_of(settings: api.Rollout, progress: Progress, waiting: Waiting | None) -> dict[str, Any]:
    """What `status.candidate` says of a rollout, besides which revision it is."""
    declared = analysis(settings)
    gates = evidence.gates(declared, progress.states)
    states = dict(evidence.states(gates))
    weight, shadow = shares(settings, progress)
    return {
        "step": progress.step,
        "steps": len(steps(settings)),
        "weight": weight,
        "shadow": shadow,
        "requests": progress.requests,
        "failures": progress.failures,
        "evidence": [evidence.status_of(f, states[f.gate]) for f in evidence.findings(gates, declared)],
        **({"prometheus": queries.status_of(progress.prometheus)} if progress.prometheus else {}),
        **({"message": waiting.message[:MAX_MESSAGE]} if waiting is not None else {}),
        "state": progress.state,
        "startedAt": progress.started_at,
        "stepAt": progress.step_at,
        "windows": progress.windows,
        "weighedAt": progress.weighed_at,
        "epoch": progress.epoch,
        **({"passed": [s.without_none() for s in progress.passed]} if progress.passed else {}),
    }
