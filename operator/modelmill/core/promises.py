"""Promises: what live evidence says of each requirement of a use case.

    metric          the tests of the versions that serve or, where none does, of the newest that is Ready or, where none
                    is, of the newest; and what labels say of the ModelDeployments (`quality`), where that is below
                    what is required
    latency         what was measured of the ModelDeployments (`servicelevels`)
    availability    the same
    dataFreshness   the Dataset's status

Of several the worst counts: what breaks the promise before what says nothing yet, and of equals what is farthest from
what is asked.  What is observed is written as it was found, not as it ages: a status is not written for
the passing of time alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal as Number
from decimal import InvalidOperation
from functools import cache
from typing import Any

from modelmill.api.requirement import AvailabilityBound, FreshnessBound, LatencyBound, MetricBound, Requirement
from modelmill.api.schema import parse_duration
from modelmill.core import conditions, requirement, revisions, schedule
from modelmill.core.conditions import Waiting, moment
from modelmill.core.plan import Observed
from modelmill.core.resources import MODEL_FIELD, SERVES_FIELD, Manifest, dig

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
NOT_MET, NOT_MEASURED = "RequirementNotMet", "NotMeasured"
NO_MODEL, NO_VERSION, IMPOSSIBLE = "ModelNotFound", "NoReadyVersion", "RequirementImpossible"
NO_DATA, DATA_NOT_READY = "DatasetNotFound", "DatasetNotReady"
_UNMEASURED = Number("-Infinity")  # nothing is worse


@dataclass(frozen=True)
class Found:
    """What was found of one requirement."""

    name: str
    threshold: str
    met: str
    observed: str | None = None
    evidence: str | None = None  # kind/name
    at: str | None = None
    waiting: Waiting | None = None  # why it is not met, or not known


@dataclass(frozen=True)
class Finding:
    """What one object says of one requirement."""

    met: str
    observed: str | None
    evidence: str
    at: str | None
    waiting: Waiting | None = None
    margin: Number = _UNMEASURED  # how far within what is asked; negative: beyond it


@dataclass(frozen=True)
class Fresh:
    """A requirement whose answer depends on the time."""

    name: str
    threshold: str
    dataset: str
    modified_at: str
    most: str


_WORST = {FALSE: 0, UNKNOWN: 1, TRUE: 2}


def observe(
    observed: Observed, requirements: Iterable[Requirement], models: tuple[str, ...]
) -> tuple[Found | Fresh, ...]:
    """What was found of each requirement; of freshness, what it is decided from."""
    return tuple(_of(observed, one, models) for one in requirements)


def _of(observed: Observed, one: Requirement, models: tuple[str, ...]) -> Found | Fresh:
    if one.data_freshness is not None:
        return _freshness(observed, one, one.data_freshness)
    if not models:
        name = observed.subject.name
        said = f"no Model has spec.useCaseRef.name {name} yet: nothing says what comes of it; create one"
        return _found(one, (), Waiting(NO_MODEL, said))
    findings: list[Finding] = []
    missing = None
    for model in models:
        deployments = observed.find("ModelDeployment", SERVES_FIELD, model)
        if one.metric is not None:
            serve = tuple(deployment for deployment in deployments if not _serves_another(deployment, model))
            of_model = _versions(observed, one, one.metric, model, serve)
            of_model += tuple(found for deployment in serve for found in _labelled(one, one.metric, deployment))
            why = Waiting(NO_VERSION, f"Model {model} has no version yet: train one")
        else:
            of_model = tuple(_served(one, deployment, model) for deployment in deployments)
            why = Waiting(NOT_MEASURED, f"no ModelDeployment serves Model {model} (spec.model.name) yet: create one")
        findings += of_model
        missing = missing or (why if not of_model else None)
    return _found(one, tuple(findings), missing)


def _found(one: Requirement, findings: tuple[Finding, ...], missing: Waiting | None) -> Found:
    """The worst of what was found; where something says nothing yet, it is at best unknown."""
    threshold = requirement.threshold(one)
    worst = min(findings, key=lambda finding: (_WORST[finding.met], finding.margin), default=None)
    if missing is not None and (worst is None or worst.met == TRUE):
        return Found(one.name, threshold, UNKNOWN, waiting=missing)
    assert worst is not None  # noqa: S101 - something was found, or is missing
    return Found(one.name, threshold, worst.met, worst.observed, worst.evidence, worst.at, worst.waiting)


# Metrics.


def _versions(
    observed: Observed, one: Requirement, bound: MetricBound, model: str, serve: tuple[Manifest, ...]
) -> tuple[Finding, ...]:
    versions = {v["spec"]["version"]: v for v in observed.find("ModelVersion", MODEL_FIELD, model)}
    numbers = {dig(deployment, "status", "stable", "version") for deployment in serve}
    serving = sorted(number for number in numbers if number in versions)
    ready = [number for number, version in versions.items() if conditions.is_true(version, "Ready")]
    chosen = serving or [max(ready or versions)] if versions else []
    counts = bool(serving or ready)
    return tuple(_tested(one, bound, versions[number], observed.subject.name, counts=counts) for number in chosen)


def _tested(one: Requirement, bound: MetricBound, version: Manifest, use_case: str, *, counts: bool) -> Finding:
    """What its tests say; where it does not count, it may break a promise, and keeps none."""
    asked = requirement.test_of(bound, use_case)
    name = version["metadata"]["name"]
    where, at = f"modelversion/{name}", dig(version, "status", "testedAt")
    for test in dig(version, "status", "tests") or ():
        if (test["source"], test["name"], test["threshold"]) == (asked.source, asked.title, asked.threshold):
            place = f" in {test['slice']}" if "slice" in test else ""
            shown = f"{test['observed']}{place}"[:64] if "observed" in test else None
            inside = margin(bound, test.get("observed"))
            if not test["passed"]:
                said = f"requirement {one.name}: {asked.title} of ModelVersion {name}: {_failed(test, shown)}"
                return Finding(FALSE, shown, where, at, Waiting(NOT_MET, said, stalled=True), inside)
            if counts:
                return Finding(TRUE, shown, where, at, margin=inside)
            said = (
                f"requirement {one.name}: ModelVersion {name} passes its test, and is not Ready: {_not_ready(version)}"
            )
            return Finding(UNKNOWN, shown, where, at, Waiting(NO_VERSION, said), inside)
    why = "its conditions say why" if counts else _not_ready(version)
    said = f"requirement {one.name}: ModelVersion {name} was not tested for it yet: {why}"
    return Finding(UNKNOWN, None, where, None, Waiting(NOT_MEASURED, said))


def margin(bound: MetricBound, value: str | None) -> Number:
    """How far within the bounds a metric is."""
    try:
        number = Number(value or "NaN")
    except InvalidOperation:
        return _UNMEASURED  # somebody changed it
    if not number.is_finite():
        return _UNMEASURED
    inside = [number - Number(bound.min)] if bound.min is not None else []
    inside += [Number(bound.max) - number] if bound.max is not None else []
    return min(inside, default=_UNMEASURED)


def _failed(test: Manifest, shown: str | None) -> str:
    """Why a test is not passed, in the version's own words, and what to do."""
    if shown is None:
        return f"{test.get('message') or 'it could not be measured'}; or mend the requirement"
    also = f" ({test['message']})" if "message" in test else ""
    return f"it is {shown}, and must be {test['threshold']}{also}; train a better one"


def _not_ready(version: Manifest) -> str:
    return str(dig(conditions.find(version, "Ready"), "message") or "the operator has not seen it yet")


def _labelled(one: Requirement, bound: MetricBound, deployment: Manifest) -> tuple[Finding, ...]:
    """What the labels that came back say against it.

    Evidence over windows is about the ModelDeployment's own bound, and says it all of a requirement that is the same.
    Of another one there is what the last window alone says, with its confidence.
    """
    said = dig(deployment, "status", "quality")
    if said is None or bound.every_slice is not None or said["metric"] != bound.name:
        return ()
    window = said.get("window") or {}
    shown = window.get("value")
    if said["dropped"] and _no_stricter(said, bound):
        found = f"dropped, to {shown} in the last window" if shown is not None else "dropped"
    elif _beyond(window, said, bound):
        found = (
            f"is {shown} in the last window, between {window.get('lower')} and {window.get('upper')} with 95 %"
            f" confidence, and must be {requirement.test_of(bound, '').threshold}"
        )
    else:
        return ()
    name = deployment["metadata"]["name"]
    words = (
        f"requirement {one.name}: by the labels that came back, {bound.name} of ModelDeployment {name} {found}; roll"
        " back, or train a better version"
    )
    broken = Waiting(NOT_MET, words, stalled=True)
    where, at = f"modeldeployment/{name}", window.get("endedAt")
    return (Finding(FALSE, shown, where, at, broken, margin(bound, shown)),)


def _no_stricter(said: Manifest, bound: MetricBound) -> bool:
    """Whether what is below the ModelDeployment's own bound is below the requirement, too."""
    below = "min" in said and bound.min is not None and Number(said["min"]) <= Number(bound.min)
    return below or ("max" in said and bound.max is not None and Number(said["max"]) >= Number(bound.max))


def _beyond(window: Manifest, said: Manifest, bound: MetricBound) -> bool:
    """Whether a window that counts says that a bound is not kept of which no evidence is gathered."""
    if not window.get("counted"):
        return False
    upper, lower = window.get("upper"), window.get("lower")
    below = requirement.below(upper, bound.min) and not _same(said.get("min"), bound.min)
    return below or (requirement.below(bound.max, lower) and not _same(said.get("max"), bound.max))


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and Number(one) == Number(other)


# What serves.


def _serves_another(deployment: Manifest, model: str) -> bool:
    """Whether it still serves a version of the Model that its spec named before."""
    promoted = revisions.promoted(deployment.get("status") or {})
    return promoted is not None and promoted.get("model", model) != model


_REMEDY = "give it more pods or CPU, take another version, or ask for less (its status.serviceLevels has the numbers)"


def _served(one: Requirement, deployment: Manifest, model: str) -> Finding:
    name = deployment["metadata"]["name"]
    where = f"modeldeployment/{name}"
    if _serves_another(deployment, model):
        said = f"requirement {one.name}: ModelDeployment {name} serves another Model yet; its conditions say why"
        return Finding(UNKNOWN, None, where, None, Waiting(NOT_MEASURED, said))
    available = conditions.find(deployment, "Available") or {}
    levels = dig(deployment, "status", "serviceLevels")
    if available.get("reason") == "NoPodReady" and dig(deployment, "status", "stable") is not None:
        said = f"requirement {one.name}: no pod of ModelDeployment {name} is ready: {available['message']}"
        at = available["lastTransitionTime"]
        return Finding(FALSE, "no pod is ready", where, at, Waiting(NOT_MET, said, stalled=True))
    if one.availability is not None:
        shown, inside = _available(one.availability, levels)
    else:
        assert one.latency is not None  # noqa: S101 - nothing else is measured of what serves
        shown, inside = _fast(one.latency, levels)
    if shown is None:
        if dig(deployment, "status", "stable") is None:
            why = f"ModelDeployment {name} serves nothing yet; its conditions say why"
        else:
            why = (
                f"ModelDeployment {name} has no numbers yet: send it requests, they come after a twelfth of the window"
            )
        return Finding(UNKNOWN, None, where, None, Waiting(NOT_MEASURED, f"requirement {one.name}: {why}"))
    if inside >= 0:
        return Finding(TRUE, shown, where, levels["since"], margin=inside)
    said = (
        f"requirement {one.name}: of ModelDeployment {name} it is {shown}, and must be"
        f" {requirement.threshold(one)}; {_REMEDY}"
    )
    return Finding(FALSE, shown, where, levels["since"], Waiting(NOT_MET, said, stalled=True), inside)


def _available(bound: AvailabilityBound, levels: Any) -> tuple[str | None, Number]:
    """What was answered, and how much more than must be; None: nothing is known."""
    said = dig(levels, "availability", "observed")
    if said is None or dig(levels, "window") != bound.window:
        return None, _UNMEASURED
    return said, Number(said) - Number(bound.min)


def _fast(bound: LatencyBound, levels: Any) -> tuple[str | None, Number]:
    """How fast it was, and by how many milliseconds faster than it must be; None: nothing is known."""
    for one in dig(levels, "latency") or ():
        if Number(one["quantile"]) == Number(bound.quantile) and "observed" in one:
            shown = one["observed"]
            if shown.startswith("above"):
                return shown, _UNMEASURED
            most = Number(parse_duration(bound.max) // timedelta(microseconds=1)) / 1000
            return shown, most - Number(shown.removesuffix("ms"))
    return None, _UNMEASURED


# Data.


def _freshness(observed: Observed, one: Requirement, bound: FreshnessBound) -> Found | Fresh:
    name, threshold = bound.dataset_ref.name, requirement.threshold(one)
    dataset = observed.get("Dataset", name)
    where = f"dataset/{name}"
    if dataset is None:
        said = f"requirement {one.name}: there is no Dataset {name} in this namespace yet; create it"
        return Found(one.name, threshold, UNKNOWN, waiting=Waiting(NO_DATA, said))
    seldom = _too_seldom(one, bound, dataset)
    if seldom is not None:
        return Found(one.name, threshold, FALSE, evidence=where, waiting=seldom)
    modified_at = dig(dataset, "status", "modifiedAt")
    if modified_at is None:
        said = f"requirement {one.name}: Dataset {name} has no valid version yet; its conditions say why"
        stalled = conditions.is_true(dataset, "Stalled")
        return Found(one.name, threshold, UNKNOWN, evidence=where, waiting=Waiting(DATA_NOT_READY, said, stalled))
    return Fresh(one.name, threshold, name, modified_at, bound.max)


def _too_seldom(one: Requirement, bound: FreshnessBound, dataset: Manifest) -> Waiting | None:
    """Data that is read every day cannot always be younger than an hour."""
    refresh = dig(dataset, "spec", "refresh")
    if refresh is None:
        return None
    times = refresh["schedule"], refresh.get("timeZone", "Etc/UTC")
    longest = _longest(*times)
    if longest is None or longest <= parse_duration(bound.max):
        return None
    hours = longest / timedelta(hours=1)
    said = (
        f"requirement {one.name}: data of Dataset {bound.dataset_ref.name} is to be at most {bound.max} old, and its"
        f" spec.refresh.schedule {times[0]} reads it up to {hours:g} hours apart; read it more often, or allow more"
    )
    return Waiting(IMPOSSIBLE, said, stalled=True)


_LOOKED_AT, _TIMES = timedelta(days=62), 400


@cache
def _longest(expression: str, time_zone: str) -> timedelta | None:
    """The longest time between two of a schedule's times, of many; None: it means no time, as the Dataset says."""
    try:
        times = schedule.parse(expression, time_zone)
    except schedule.ScheduleError:
        return None
    begin = at = moment("2026-01-01T00:00:00Z")
    longest, last = timedelta(), times.next(at)
    for _ in range(_TIMES):
        following = times.next(last) if last is not None else None
        if last is None or following is None:
            break
        longest, last = max(longest, following - last), following
        if last - begin > _LOOKED_AT:
            break
    return longest or None


def aged(found: Found | Fresh, now: datetime) -> tuple[Found, timedelta | None]:
    """What is true of it now, and when that changes by itself."""
    if isinstance(found, Found):
        return found, None
    where, shown = f"dataset/{found.dataset}", f"of {found.modified_at}"
    left = moment(found.modified_at) + parse_duration(found.most) - now
    if left > timedelta():
        return Found(found.name, found.threshold, TRUE, shown, where, found.modified_at), left
    said = (
        f"requirement {found.name}: the newest data of Dataset {found.dataset} is of {found.modified_at}, longer ago"
        f" than {found.most}; bring newer data to its source, and have it read"
    )
    stale = Waiting(NOT_MET, said, stalled=True)
    return Found(found.name, found.threshold, FALSE, shown, where, found.modified_at, stale), None
