"""Autoscaling: how many pods the revision that serves is to have.

    requests per second   what pods were asked over what one pod is to answer, as a HorizontalPodAutoscaler would do it:
                          a tenth more or less changes nothing; more pods at once, at most twice as many (or four more)
                          every 15 s; fewer once fewer have been enough for `scaleDownAfter`, and at least half of them
    CPU                   what a HorizontalPodAutoscaler writes to the scale subresource (see `hpa`), within min and max
    neither any more      spec.replicas; where that is 1, which nobody need have written, what ran goes on

Whatever is switched to begins with the pods that there are.  All of it stands in the status, which is written when the
number changes or a wait begins or ends, and not with each answer of a pod: a restart forgets no wait.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from modelmill.api.modeldeployment import Autoscaling, AutoscalingStatus
from modelmill.api.schema import parse_duration
from modelmill.core.conditions import moment, not_ahead, timestamp
from modelmill.core.resources import Manifest

TOLERANCE = 0.1  # of the demand, as a HorizontalPodAutoscaler has it by default
UP_EVERY = timedelta(seconds=15)
UP_BY = 4  # pods, or as many as there are
STALE = timedelta(minutes=1)  # after which an answer says nothing of the demand any more


@dataclass(frozen=True)
class Demand:
    """What callers ask of the revision that serves."""

    rate: float | None = None  # requests per second that pods counted; None: none of them is known to
    unknown: int = 0  # pods that run, and whose part is not known
    since: datetime | None = None  # when the oldest of these answers was given


@dataclass(frozen=True)
class Scale:
    """What was decided, as the status holds it."""

    replicas: int
    changed_at: str
    lower: int | None = None  # the most that was enough since `lower_since`
    lower_since: str | None = None


@dataclass(frozen=True)
class Situation:
    """What the number is decided from."""

    declared: Autoscaling | None
    replicas: int  # what spec.replicas says
    known: Scale | None
    demand: Demand = Demand()
    least: int | None = None  # that a HorizontalPodAutoscaler holds, where there is one


@dataclass(frozen=True)
class Scaled:
    """How many pods there are to be, and what of it is to be written down."""

    replicas: int
    scale: Scale | None = None
    least: int | None = None  # that a HorizontalPodAutoscaler is to hold, where there is to be one
    kept: bool = False  # there is no autoscaler any more, and what ran goes on
    waited_since: str | None = None  # the wait that ended now: there are fewer
    look_again: timedelta | None = None


def scale_of(status: Manifest) -> Scale | None:
    """What `status.autoscaling` says."""
    if "autoscaling" not in status:
        return None
    said = AutoscalingStatus.model_validate(status["autoscaling"])
    return Scale(said.replicas, said.changed_at, said.lower, said.lower_since)


def status_of(scale: Scale | None) -> dict[str, Any] | None:
    if scale is None:
        return None
    wait = {} if scale.lower is None else {"lower": scale.lower, "lowerSince": scale.lower_since}
    return {"replicas": scale.replicas, "changedAt": scale.changed_at, **wait}


def decide(situation: Situation, running: int, now: datetime) -> Scaled:
    """The number of pods; `running` are those that the revision which serves asks for, 0 where none does."""
    known, declared = _by_this_clock(situation.known, now), situation.declared
    if situation.replicas == 0:
        by_another = declared is not None and declared.cpu_percent is not None
        # Switched off; a HorizontalPodAutoscaler takes it so, too.
        return Scaled(0, least=declared.min if declared is not None and by_another else None)
    if declared is None:
        if known is None or situation.replicas != 1 or known.replicas == 1:
            return Scaled(situation.replicas)
        return Scaled(known.replicas, Scale(known.replicas, known.changed_at), kept=True)
    # More may run than was written down, when the operator was killed in between.
    present = max(running, known.replicas if known is not None else 0) or situation.replicas
    before = _moved(known, _within(declared, present), now)
    if declared.requests_per_second is None:
        return _by_another(declared, situation, before, now)
    return _by_demand(declared, declared.requests_per_second, situation.demand, before, now)


def _by_this_clock(known: Scale | None, now: datetime) -> Scale | None:
    """What was decided; a clock that was set back makes it have been just now, and a wait begin anew."""
    if known is None:
        return None
    known = replace(known, changed_at=not_ahead(known.changed_at, now))
    ahead = known.lower_since is not None and moment(known.lower_since) > now
    return replace(known, lower=None, lower_since=None) if ahead else known


def _within(declared: Autoscaling, replicas: int) -> int:
    return max(declared.min, min(replicas, declared.max))


def _moved(before: Scale | None, replicas: int, now: datetime) -> Scale:
    """With that number, and without what was waited for, unless it is the number that it was."""
    return before if before is not None and before.replicas == replicas else Scale(replicas, timestamp(now))


def _by_another(declared: Autoscaling, situation: Situation, before: Scale, now: datetime) -> Scaled:
    """As many as the scale subresource was given; until its autoscaler has begun, no fewer than it begins with."""
    held = situation.least if situation.least is not None else before.replicas
    replicas = _within(declared, max(situation.replicas, held))
    begun = situation.least is not None and situation.replicas >= _within(declared, held)
    scale = replace(_moved(before, replicas, now), lower=None, lower_since=None)
    return Scaled(replicas, scale, declared.min if begun else replicas)


def _by_demand(declared: Autoscaling, each: int, demand: Demand, before: Scale, now: datetime) -> Scaled:
    wanted = _within(declared, _wanted(each, demand, before.replicas, now))
    if wanted > before.replicas:
        left = _left(before.changed_at, UP_EVERY, now)
        if left > timedelta():
            return Scaled(before.replicas, before, look_again=left)
        most = max(2 * before.replicas, before.replicas + UP_BY)
        return _to(Scale(min(wanted, most), timestamp(now)))
    if before.lower is None or before.lower_since is None:
        return _waiting(declared, before, wanted, now)
    # What was needed at any moment of the wait is needed.
    lower = min(max(before.lower, wanted), before.replicas)
    left = _left(before.lower_since, parse_duration(declared.scale_down_after), now)
    if left > timedelta():
        return _to(replace(before, lower=lower), left)
    fewer = max(_within(declared, lower), ceil(before.replicas / 2))
    if fewer < before.replicas:
        return replace(_to(Scale(fewer, timestamp(now))), waited_since=before.lower_since)
    return _waiting(declared, before, wanted, now)


def _to(scale: Scale, look_again: timedelta | None = None) -> Scaled:
    return Scaled(scale.replicas, scale, look_again=look_again)


def _waiting(declared: Autoscaling, before: Scale, wanted: int, now: datetime) -> Scaled:
    """A wait begins where fewer would be enough now."""
    if wanted == before.replicas:
        return _to(replace(before, lower=None, lower_since=None))
    return _to(replace(before, lower=wanted, lower_since=timestamp(now)), parse_duration(declared.scale_down_after))


def _wanted(each: int, demand: Demand, replicas: int, now: datetime) -> int:
    """How many pods the demand takes; as many as there are, where that is not known or about as many."""
    stale = demand.since is not None and now - demand.since > STALE
    if demand.rate is None or abs(demand.rate - each * replicas) <= TOLERANCE * each * replicas:
        return replicas
    wanted = ceil(demand.rate / each)
    # What is known to be asked is asked at least; how little it is, only all pods together know.
    return max(wanted, replicas) if stale or demand.unknown else wanted


def _left(since: str, pause: timedelta, now: datetime) -> timedelta:
    return pause - (now - moment(since))
