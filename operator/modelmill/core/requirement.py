"""What a use case's requirements ask, in words, and what can never be kept of them.

Each policy says what is wrong, or nothing; the first that does is told.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal as Number
from typing import Any

from modelmill.api.requirement import LatencyBound, MetricBound, Requirement
from modelmill.api.schema import parse_duration
from modelmill.api.usecase import UseCaseSpec
from modelmill.core.conditions import Waiting
from modelmill_contracts import task
from modelmill_contracts.evaluation import CLASSIFIER_METRICS, METRIC_RANGES, REGRESSOR_METRICS

CONTRADICTION, UNKNOWN, OUT_OF_RANGE = "RequirementsContradict", "MetricUnknown", "BoundOutOfRange"


def source(use_case: str) -> str:
    """Who asks, as statuses say it."""
    return f"usecase/{use_case}"


def test_of(bound: Any, use_case: str) -> task.MetricTest:
    """The test of a metric that a use case requires."""
    return task.MetricTest(bound.name, bound.min, bound.max, bound.every_slice, source(use_case))


def threshold(requirement: Requirement) -> str:
    """What a requirement asks."""
    if requirement.metric is not None:
        bound = requirement.metric
        where = f" of every {bound.every_slice}" if bound.every_slice is not None else ""
        return f"{bound.name}{where} {test_of(bound, '').threshold}"[:128]
    if requirement.latency is not None:
        return f"{requirement.latency.quantile} of answers within {requirement.latency.max}"
    if requirement.availability is not None:
        return f">= {requirement.availability.min} of requests in {requirement.availability.window}"
    assert requirement.data_freshness is not None  # noqa: S101 - exactly one is given
    fresh = requirement.data_freshness
    return f"dataset/{fresh.dataset_ref.name} at most {fresh.max} old"[:128]


def strictest(*bounds: LatencyBound) -> tuple[LatencyBound, ...]:
    """Of each quantile the bound that allows the least time."""
    found: dict[Number, LatencyBound] = {}
    for bound in bounds:
        known = found.get(Number(bound.quantile))
        if known is None or parse_duration(bound.max) < parse_duration(known.max):
            found[Number(bound.quantile)] = bound
    return tuple(found[quantile] for quantile in sorted(found))


@dataclass(frozen=True)
class Pair:
    """A requirement of a metric, with its name."""

    name: str
    bound: MetricBound

    @property
    def about(self) -> tuple[str, str | None]:
        return self.bound.name, self.bound.every_slice


def wrong(spec: UseCaseSpec) -> Waiting | None:
    """What is wrong with the requirements by themselves, whatever the world is like."""
    metrics = tuple(Pair(r.name, r.metric) for r in spec.requirements if r.metric is not None)
    return next((found for policy in _POLICIES if (found := policy(metrics)) is not None), None)


def below(one: str | None, other: str | None) -> bool:
    """Whether both are declared, and the one is less."""
    return one is not None and other is not None and Number(one) < Number(other)


def _unknown(metrics: tuple[Pair, ...]) -> Waiting | None:
    """Nothing can measure it."""
    for one in metrics:
        if one.bound.name not in (*CLASSIFIER_METRICS, *REGRESSOR_METRICS):
            known = ", ".join((*CLASSIFIER_METRICS, *REGRESSOR_METRICS))
            said = f"requirement {one.name}: nothing measures a metric {one.bound.name}; use one of {known}"
            return Waiting(UNKNOWN, said, stalled=True, failed=True)
    return None


def _out_of_range(metrics: tuple[Pair, ...]) -> Waiting | None:
    """No model is as good as that: such as a share that was written in percent.  What every model keeps is taken."""
    for one in metrics:
        bound, (least, most) = one.bound, METRIC_RANGES[one.bound.name]
        if bound.min is not None and most is not None and Number(bound.min) > most:
            return _impossible(one, f"min is {bound.min}", f"more than {most}")
        if bound.max is not None and least is not None and Number(bound.max) < least:
            return _impossible(one, f"max is {bound.max}", f"less than {least}")
    return None


def _impossible(one: Pair, found: str, never: str) -> Waiting:
    ends = zip(("at least", "at most"), METRIC_RANGES[one.bound.name], strict=True)
    within = " and ".join(f"{word} {end}" for word, end in ends if end is not None)
    said = (
        f"requirement {one.name}: {found}, and {one.bound.name} is never {never}: no version passes; give a bound of"
        f" {within}"
    )
    return Waiting(OUT_OF_RANGE, said, stalled=True, failed=True)


def _of_two_kinds(metrics: tuple[Pair, ...]) -> Waiting | None:
    """A model predicts classes or numbers."""
    classes = next((one for one in metrics if one.bound.name in CLASSIFIER_METRICS), None)
    numbers = next((one for one in metrics if one.bound.name in REGRESSOR_METRICS), None)
    if classes is None or numbers is None:
        return None
    said = (
        f"requirement {classes.name} ({classes.bound.name}) is of models that predict classes, and {numbers.name}"
        f" ({numbers.bound.name}) of models that predict numbers: no model meets both; take one away"
    )
    return Waiting(CONTRADICTION, said, stalled=True, failed=True)


def _no_value_left(metrics: tuple[Pair, ...]) -> Waiting | None:
    """One asks for more than another one allows."""
    for lower in metrics:
        for upper in metrics:
            if lower.about != upper.about or lower.bound.min is None or upper.bound.max is None:
                continue
            if Number(lower.bound.min) > Number(upper.bound.max):
                said = (
                    f"requirement {lower.name} asks {lower.bound.name} to be at least {lower.bound.min}, and"
                    f" {upper.name} to be at most {upper.bound.max}: no model meets both; change one of them"
                )
                return Waiting(CONTRADICTION, said, stalled=True, failed=True)
    return None


_POLICIES: tuple[Callable[[tuple[Pair, ...]], Waiting | None], ...] = (
    _unknown, _out_of_range, _of_two_kinds, _no_value_left,
)  # fmt: skip
