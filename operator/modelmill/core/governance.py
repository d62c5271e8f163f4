"""Governance: what a UseCase asks of a Model that refers to it, and whether the Model asks for less.

The Model reads the UseCase and writes down in `status.useCase` what follows for itself; its versions, ModelDeployments
and training runs read it there.  So nobody but the Model depends on the UseCase, and who has none pays nothing.

    no useCaseRef                 -> nothing is asked
    there is no such UseCase      -> wait: new versions are not tested, as nobody knows for what; what was known holds
    its requirements make no sense -> the same, until somebody mends it
    a test asks for less          -> refused: new versions are not tested until it asks for as much
    a bound allows more           -> said, and the requirement holds in its place
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal as Number
from typing import Any

from modelmill.api.model import (
    Governance,
    ModelSpec,
    RequiredAvailability,
    RequiredLatency,
    RequiredMetric,
)
from modelmill.api.rollout import ErrorRate
from modelmill.api.schema import parse_duration
from modelmill.api.usecase import UseCaseSpec
from modelmill.core import conditions, requirement
from modelmill.core.conditions import Waiting
from modelmill.core.plan import Observed
from modelmill.core.resources import SERVES_FIELD, Key, Manifest, dig

USE_CASE = "UseCase"
NOT_FOUND, INVALID, LOOSER_TEST, LOOSER_BOUND = "UseCaseNotFound", "UseCaseInvalid", "TestLooser", "BoundLooser"
# With these nobody knows what a version must pass.
_REFUSING = (NOT_FOUND, INVALID, LOOSER_TEST)


@dataclass(frozen=True)
class Facts:
    """What is asked by now, and what is wrong with it."""

    asks: Governance | None = None
    waiting: Waiting | None = None


def dependencies(manifest: Manifest) -> tuple[Key, ...]:
    """What a Model depends on that has a use case."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    use_case = dig(manifest, "spec", "useCaseRef", "name")
    if use_case is None:
        return ()
    return Key(USE_CASE, namespace, "metadata.name", use_case), Key("ModelDeployment", namespace, SERVES_FIELD, name)


def observe(observed: Observed, spec: ModelSpec) -> Facts:
    if spec.use_case_ref is None:
        return Facts()
    name = spec.use_case_ref.name
    known = _said(observed.object)
    known = known if known is not None and known.name == name else None
    found = observed.get(USE_CASE, name)
    if found is None:
        said = (
            f"there is no {USE_CASE} {name} in this namespace yet (spec.useCaseRef): until there is, no version is"
            " tested that was not; create it, or take the reference away"
        )
        return Facts(known, Waiting(NOT_FOUND, said))
    use_case = UseCaseSpec.model_validate(found["spec"])
    invalid = requirement.wrong(use_case)
    if invalid is not None:
        said = f"{USE_CASE} {name} asks for what cannot be: {invalid.message}"
        return Facts(known, Waiting(INVALID, said, stalled=True))
    asks = _asked(name, use_case, dig(found, "status", "rank"))
    deployments = observed.find("ModelDeployment", SERVES_FIELD, observed.subject.name)
    return Facts(asks, _looser_test(spec, asks) or _looser_bound(deployments, asks))


def _said(model: Manifest) -> Governance | None:
    said = dig(model, "status", "useCase")
    return None if said is None else Governance.model_validate(said)


def _asked(name: str, spec: UseCaseSpec, rank: int | None) -> Governance:
    metrics, latencies, availability = [], [], None
    for one in spec.requirements:
        if one.metric is not None:
            metrics.append(RequiredMetric(requirement=one.name, **one.metric.model_dump()))
        elif one.latency is not None:
            latencies.append(RequiredLatency(requirement=one.name, **one.latency.model_dump()))
        elif one.availability is not None:
            availability = RequiredAvailability(requirement=one.name, **one.availability.model_dump())
    return Governance(name=name, rank=rank, metrics=tuple(metrics), latency=tuple(latencies), availability=availability)


def status(facts: Facts) -> dict[str, Any] | None:
    """What the Model's status says of it."""
    return None if facts.asks is None else facts.asks.without_defaults()


def asked_of(model: Manifest | None) -> Governance | None:
    """What the Model's use case asks, as far as it is known: what serves is held to it, whatever else is wrong."""
    if model is None or dig(model, "spec", "useCaseRef", "name") != dig(model, "status", "useCase", "name"):
        return None
    return _said(model)


def for_tests(model: Manifest | None) -> Governance | Waiting | None:
    """What a version of the Model must pass for its use case; why nobody knows, or None: it has none."""
    name = dig(model, "spec", "useCaseRef", "name")
    if model is None or name is None:
        return None
    ready = conditions.find(model, "Ready") or {}
    if dig(model, "status", "observedGeneration") != model["metadata"].get("generation"):
        return Waiting("WaitingForModel", f"Model {_name(model)} has not read {USE_CASE} {name} yet")
    if ready.get("status") == "False" and ready.get("reason") in _REFUSING:
        stalled = conditions.is_true(model, "Stalled")
        return Waiting(ready["reason"], f"Model {_name(model)}: {ready['message']}", stalled=stalled)
    asks = asked_of(model)
    return asks or Waiting("WaitingForModel", f"Model {_name(model)} has not read {USE_CASE} {name} yet")


def _name(model: Manifest) -> str:
    return str(model["metadata"]["name"])


# Who asks for less.


@dataclass(frozen=True)
class _Looser:
    field: str
    found: str
    asked: str
    requirement: str
    so: str = "which holds in its place; bound it as much, or leave it out"


def _looser_test(spec: ModelSpec, asks: Governance) -> Waiting | None:
    """A test that a version passes which does not meet the requirement."""
    if spec.tests is None:
        return None
    for number, test in enumerate(spec.tests.metrics):
        for metric in asks.metrics:
            if (test.name, test.every_slice) != (metric.name, metric.every_slice):
                continue
            where = f"spec.tests.metrics[{number}]"
            if requirement.below(test.min, metric.min):
                return _refused(
                    _Looser(f"{where}.min", str(test.min), f"at least {metric.min}", metric.requirement), asks
                )
            if requirement.below(metric.max, test.max):
                return _refused(
                    _Looser(f"{where}.max", str(test.max), f"at most {metric.max}", metric.requirement), asks
                )
    tests = (("spec.tests.latency", spec.tests.latency),) if spec.tests.latency is not None else ()
    found = next(_slower(tests, asks), None)
    return None if found is None else _refused(found, asks)


def _refused(found: _Looser, asks: Governance) -> Waiting:
    said = (
        f"{found.field} is {found.found}, and {USE_CASE} {asks.name} requires {found.asked} (requirement"
        f" {found.requirement}): ask for as much, or leave the test out, as the requirement is tested anyway"
    )
    return Waiting(LOOSER_TEST, said, stalled=True)


def _slower(bounds: Any, asks: Governance) -> Iterator[_Looser]:
    """Of (field, bound): those that allow more time for no larger a share of the requests."""
    for where, bound in bounds:
        for latency in asks.latency:
            if Number(bound.quantile) <= Number(latency.quantile) and parse_duration(bound.max) > parse_duration(
                latency.max
            ):
                asked = f"{latency.quantile} of answers within {latency.max}"
                yield _Looser(f"{where}.max", bound.max, asked, latency.requirement)


def _looser_bound(deployments: tuple[Manifest, ...], asks: Governance) -> Waiting | None:
    """A bound of a ModelDeployment that is kept by what does not meet the requirement; the default is nobody's."""
    for deployment in deployments:
        found = next(_bounds(deployment, asks), None)
        if found is not None:
            said = (
                f"ModelDeployment {deployment['metadata']['name']}: {found.field} is {found.found}, and {USE_CASE}"
                f" {asks.name} requires {found.asked} (requirement {found.requirement}), {found.so}"
            )
            return Waiting(LOOSER_BOUND, said, stalled=True)
    return None


def _bounds(deployment: Manifest, asks: Governance) -> Iterator[_Looser]:
    levels = dig(deployment, "spec", "monitoring", "serviceLevels") or {}
    analysis = dig(deployment, "spec", "rollout", "analysis") or {}
    available = asks.availability
    if available is not None:
        least = dig(levels, "availability", "min")
        asked = f"at least {available.min}"
        if requirement.below(least, available.min):
            yield _Looser("spec.monitoring.serviceLevels.availability.min", least, asked, available.requirement)
        most, default = dig(analysis, "errorRate", "maxIncrease"), ErrorRate().max_increase
        tolerated = 1 - Number(available.min)
        if most is not None and Number(most) > max(tolerated, Number(default)):
            where = "spec.rollout.analysis.errorRate.maxIncrease"
            yield _Looser(where, most, f"{asked}, so that it is at most {tolerated}", available.requirement)
    for where, bounds in (
        ("spec.monitoring.serviceLevels.latency", levels.get("latency") or ()),
        ("spec.rollout.analysis.latencyBounds", analysis.get("latencyBounds") or ()),
    ):
        numbered = ((f"{where}[{number}]", _Bound(**bound)) for number, bound in enumerate(bounds))
        yield from _slower(numbered, asks)
    yield from _worse(dig(deployment, "spec", "monitoring", "quality") or {}, asks)


def _worse(quality: Manifest, asks: Governance) -> Iterator[_Looser]:
    """A quality that labels may show, and tests may not; of slices nothing is measured of what serves."""
    where = "spec.monitoring.quality"
    so = "for which QualityDropped gathers no evidence then; bound it as much"
    for metric in asks.metrics:
        if metric.every_slice is not None or metric.name != quality.get("metric"):
            continue
        # A min of 1 or more cannot be declared there.
        if requirement.below(quality.get("min"), metric.min) and requirement.below(metric.min, "1"):
            yield _Looser(f"{where}.min", quality["min"], f"at least {metric.min}", metric.requirement, so)
        if requirement.below(metric.max, quality.get("max")):
            yield _Looser(f"{where}.max", quality["max"], f"at most {metric.max}", metric.requirement, so)


@dataclass(frozen=True)
class _Bound:
    quantile: str
    max: str
