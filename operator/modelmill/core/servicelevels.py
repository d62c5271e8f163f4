"""Service levels: how many requests what serves answered, and how fast, in a window that goes on step by step.

Only where the use case of the Model, or the ModelDeployment itself, asks for them are pods asked what they count.  A
window has twelve steps; when one is over, what pods counted in it is written down with one write of the status, and the
oldest one is left out.  As with a rollout's windows (`windows`), a step that is open when the operator ends is lost,
and nothing is counted twice; a pod that is seen for the first time begins there.  A step without requests is not
written.

What reached no pod is counted by nobody: while no pod is ready, `Available` says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_UP
from decimal import Decimal as Number
from typing import Any

from modelmill.api.model import Governance
from modelmill.api.monitoring import Monitoring
from modelmill.api.requirement import AvailabilityBound, LatencyBound
from modelmill.api.schema import parse_duration
from modelmill.api.servicelevel import (
    MAX_SLOTS,
    AvailabilityStatus,
    LatencyStatus,
    ServedSlot,
    ServiceLevelStatus,
)
from modelmill.core import requirement
from modelmill.core.conditions import moment, not_ahead, timestamp
from modelmill.core.windows import Answers, Counted
from modelmill.stats import histogram
from modelmill.stats.window import added
from modelmill_contracts.counters import LATENCY_EDGES

STEPS = 12
_LEAST_STEP = timedelta(seconds=15)
_WINDOW = "1h"  # of a latency, where no availability says another one
_OWN = "spec.monitoring"


@dataclass(frozen=True)
class Promise:
    """What is promised of what serves."""

    source: str
    window: str
    availability: str | None  # the least
    latency: tuple[tuple[str, str], ...]  # quantile, and the most


@dataclass(frozen=True)
class Served:
    """What was counted in a step."""

    requests: int = 0
    failures: int = 0
    times: tuple[int, ...] = ()

    def __add__(self, other: "Served") -> "Served":
        return Served(self.requests + other.requests, self.failures + other.failures, added(self.times, other.times))


@dataclass(frozen=True)
class Facts:
    promise: Promise | None
    known: ServiceLevelStatus | None  # what the status says
    open: Served  # of the step that goes on
    answers: tuple[tuple[str, Counted], ...]  # what pods answered last, by UID
    serves: bool  # there is a revision whose pods can be asked


@dataclass(frozen=True)
class Decision:
    status: ServiceLevelStatus | None = None
    ended: bool = False  # the open step is part of the status
    requeue_after: timedelta | None = None


NOTHING = Decision()


def promise(monitoring: Monitoring, asks: Governance | None) -> Promise | None:
    """The stricter of what the use case requires and what the ModelDeployment says of itself."""
    own = monitoring.service_levels
    availability = own.availability if own is not None else None
    if asks is not None and asks.availability is not None:
        required = AvailabilityBound(min=asks.availability.min, window=asks.availability.window)
        stricter = availability is not None and availability.window == required.window
        if not (stricter and availability is not None and Number(availability.min) > Number(required.min)):
            availability = required
    bounds = requirement.strictest(*(own.latency if own is not None else ()), *_required(asks))
    if availability is None and not bounds:
        return None
    governed = asks is not None and (asks.availability is not None or bool(asks.latency))
    return Promise(
        requirement.source(asks.name) if asks is not None and governed else _OWN,
        availability.window if availability is not None else _WINDOW,
        availability.min if availability is not None else None,
        tuple((bound.quantile, bound.max) for bound in bounds),
    )


def _required(asks: Governance | None) -> tuple[LatencyBound, ...]:
    return tuple(LatencyBound(quantile=r.quantile, max=r.max) for r in asks.latency) if asks is not None else ()


def step(window: str) -> timedelta:
    """How long a step of that window takes."""
    return max(parse_duration(window) / STEPS, _LEAST_STEP)


def pause(window: str) -> timedelta:
    """How often pods are asked what they count."""
    return min(max(step(window) / 3, timedelta(seconds=5)), timedelta(minutes=1))


def observe(
    status: Mapping[str, Any],
    asked: Promise | None,
    measured: Mapping[str, Any],
    baseline: Answers,
) -> Facts:
    """`measured` and `baseline` are what pods answered last and when the step began, by their UIDs."""
    said = status.get("serviceLevels")
    counted = {pod: answer for pod, answer in measured.items() if isinstance(answer, Counted)} if said else {}
    return Facts(
        asked,
        ServiceLevelStatus.model_validate(said) if said is not None else None,
        _counted(baseline, counted),
        tuple(sorted(counted.items(), key=lambda pod: pod[0])),
        status.get("stable") is not None,
    )


def _counted(baseline: Answers, answers: Answers) -> Served:
    """What pods counted since the step began: the sum of the differences, and of one that began anew all."""
    total = Served()
    for pod, now in answers.items():
        before = baseline.get(pod)
        if before is not None and now.request is not None:
            total += _since(before, now)
    return total


def _since(before: Counted, now: Counted) -> Served:
    later = _of(now)
    earlier = _of(before) if before.started == now.started and before.request is not None else Served()
    if earlier.requests > later.requests or any(
        map(int.__gt__, earlier.times, later.times)
    ):  # it began at zero without saying so
        return later
    times = tuple(b - a for a, b in zip(earlier.times, later.times, strict=True)) if earlier.times else later.times
    requests = later.requests - earlier.requests
    # A snapshot is a sum over processes that go on counting: a failure may be in it before its request is.
    return Served(requests, min(max(later.failures - earlier.failures, 0), requests), times)


def _of(answer: Counted) -> Served:
    return Served(answer.requests, answer.failures, answer.request.counts if answer.request is not None else ())


def decide(facts: Facts, now: datetime) -> Decision:
    """What the status is to say, whether the open step has ended, and when to look again."""
    asked, known = facts.promise, facts.known
    if asked is None or (known is None and not facts.serves):
        return NOTHING
    if not facts.serves:
        return Decision(known)
    if known is None:
        return Decision(_status(asked, (), timestamp(now)), ended=True, requeue_after=step(asked.window))
    window, since = parse_duration(asked.window), not_ahead(known.since, now)
    slots = tuple(slot.model_copy(update={"at": not_ahead(slot.at, now)}) for slot in known.slots)
    left = step(asked.window) - (now - moment(since))
    kept = tuple(slot for slot in slots if now - moment(slot.at) < window)
    if left > timedelta():
        return Decision(_status(asked, slots, since), requeue_after=left)
    if facts.open.requests == 0 and kept == slots:
        # Whoever counts something says so; what is too old goes by itself.
        oldest = min((moment(slot.at) + window - now for slot in kept), default=None)
        return Decision(_status(asked, slots, since), requeue_after=oldest)
    if facts.open.requests > 0:
        newest = ServedSlot(
            at=timestamp(now),
            requests=facts.open.requests,
            failures=facts.open.failures,
            times=histogram.to_text(facts.open.times),
        )
        kept = (*kept, newest)[-MAX_SLOTS:]
    return Decision(_status(asked, kept, timestamp(now)), ended=True, requeue_after=step(asked.window))


def _status(asked: Promise, slots: tuple[ServedSlot, ...], since: str) -> ServiceLevelStatus:
    total = Served()
    for slot in slots:
        total += _slot(slot)
    return ServiceLevelStatus(
        source=asked.source,
        window=asked.window,
        availability=None if asked.availability is None else _availability(asked.availability, total, slots),
        latency=tuple(_latency(quantile, most, total.times) for quantile, most in asked.latency),
        requests=total.requests,
        failures=total.failures,
        since=since,
        slots=slots,
    )


def _slot(slot: ServedSlot) -> Served:
    try:
        times = histogram.from_text(slot.times)
    except ValueError:
        times = ()  # somebody changed it
    return Served(slot.requests, slot.failures, times)


def _availability(least: str, total: Served, slots: tuple[ServedSlot, ...]) -> AvailabilityStatus:
    if total.requests == 0:
        return AvailabilityStatus(min=least, met="Unknown")
    share = 1 - Number(total.failures) / total.requests
    budget = 1 - Number(least)
    newest = slots[-1]
    return AvailabilityStatus(
        min=least,
        # Never better than it was.
        observed=format(share.quantize(Number("0.000001"), ROUND_FLOOR), "f"),
        met="True" if share >= Number(least) else "False",
        burn=_rate((1 - share) / budget),
        recent_burn=_rate(Number(newest.failures) / max(newest.requests, 1) / budget),
    )


def _rate(number: Number) -> str:
    return format(number.quantize(Number("0.01"), ROUND_HALF_UP), "f")


def _latency(quantile: str, most: str, times: tuple[int, ...]) -> LatencyStatus:
    cumulated = histogram.cumulated(times)
    if cumulated[-1] == 0:
        return LatencyStatus(quantile=quantile, max=most, met="Unknown")
    edge = histogram.quantile_edge(cumulated, float(quantile))
    if edge is None:
        return LatencyStatus(quantile=quantile, max=most, observed=f"above {_ms(LATENCY_EDGES[-1])}", met="False")
    seconds = LATENCY_EDGES[edge]
    met = seconds <= parse_duration(most).total_seconds()
    return LatencyStatus(quantile=quantile, max=most, observed=_ms(seconds), met="True" if met else "False")


def _ms(seconds: float) -> str:
    return f"{Number(1000 * seconds).quantize(Number('0.001'), ROUND_HALF_UP).normalize():f}ms"


def status_of(decision: Decision) -> dict[str, Any] | None:
    """What the ModelDeployment's status says of them."""
    said = decision.status
    return None if said is None else said.without_none()
