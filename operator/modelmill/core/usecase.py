"""UseCase: whether what was promised is kept, whether it can be, and what to do next.

    its requirements contradict each other     -> a person mends them
    the data is not there, or too little       -> Feasible says which
    no Model refers to it, nothing is trained  -> wait; what to do next is said
    a requirement is not met                   -> a person has to act, and which and why is said
    all are met                                -> Ready

It writes nothing but its own status: Models that refer to it read what it asks (`governance`), and its rank, which
orders the queue of training runs (`admission`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP
from decimal import Decimal as Number
from fractions import Fraction
from typing import Any

from modelmill.api.requirement import DataRequirement
from modelmill.api.usecase import MAX_MODELS, Priority, UseCaseSpec
from modelmill.core import automation, conditions, promises, requirement
from modelmill.core.conditions import Condition, Waiting, false, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.plan import Observed, Outcome, Subject
from modelmill.core.promises import FALSE, TRUE, Found, Fresh
from modelmill.core.resources import (
    ALL_FIELD,
    MODEL_FIELD,
    SERVES_FIELD,
    TRAINS_FIELD,
    TYPES,
    USE_CASE_FIELD,
    YES,
    Key,
    Manifest,
    dig,
)

KIND = "UseCase"
_PIPELINE = "Pipeline"
_SHOWN = 512


@dataclass(frozen=True)
class Facts:
    subject: Subject
    score: str | None
    rank: int | None
    models: tuple[str, ...]
    wrong: Waiting | None  # with its requirements
    refused: Waiting | None  # what a Model has against them
    asks_data: bool
    data: Waiting | None  # why what it needs is not there
    found: tuple[Found | Fresh, ...]
    automation: automation.Level


@dataclass(frozen=True)
class Decision:
    found: tuple[Found, ...]
    feasible: Condition
    met: Condition
    waiting: Waiting | None  # None: Ready
    next: str | None
    requeue_after: timedelta | None = None


def depends(manifest: Manifest) -> tuple[Key, ...]:
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    # Which Models those are is known once the status says so.
    of_models = [
        Key(kind, namespace, field, model)
        for model in dig(manifest, "status", "models") or ()
        for kind, field in (
            ("ModelVersion", MODEL_FIELD), ("ModelDeployment", SERVES_FIELD), (_PIPELINE, TRAINS_FIELD),
        )
        if kind in TYPES
    ]  # fmt: skip
    return (
        Key(KIND, namespace, ALL_FIELD, YES),  # a rank is a place among all
        Key("Model", namespace, USE_CASE_FIELD, name),
        *of_models,
        *(Key("Dataset", namespace, "metadata.name", dataset) for dataset in _datasets(manifest)),
    )


def _datasets(manifest: Manifest) -> tuple[str, ...]:
    spec = manifest.get("spec") or {}
    fresh = (dig(one, "dataFreshness", "datasetRef", "name") for one in spec.get("requirements") or ())
    there = (dig(one, "datasetRef", "name") for one in spec.get("data") or ())
    return tuple(sorted({name for name in (*fresh, *there) if name is not None}))


def observe(observed: Observed) -> Facts:
    name = observed.subject.name
    spec = UseCaseSpec.model_validate(observed.object["spec"])
    governed = observed.find("Model", USE_CASE_FIELD, name)[:MAX_MODELS]
    known = set(observed.status.get("models", ()))
    models = tuple(m for m in governed if m["metadata"]["name"] in known)
    names = tuple(m["metadata"]["name"] for m in models)
    deployments = tuple(d for model in names for d in observed.find("ModelDeployment", SERVES_FIELD, model))
    pipelines = {p["metadata"]["name"]: p for model in names for p in observed.find(_PIPELINE, TRAINS_FIELD, model)}
    score = _score(spec.priority)
    return Facts(
        subject=observed.subject,
        score=None if score is None else _shown(score),
        rank=None if score is None else _rank(observed, score),
        models=tuple(m["metadata"]["name"] for m in governed),
        wrong=requirement.wrong(spec),
        refused=_refused(models),
        asks_data=bool(_datasets(observed.object)),
        data=next((why for one in spec.data if (why := _missing(observed, one)) is not None), None),
        found=promises.observe(observed, spec.requirements, names),
        automation=automation.level(automation.observe(spec, models, deployments, tuple(pipelines.values()))),
    )


def _score(priority: Priority | None) -> Fraction | None:
    """Weighted shortest job first: the cost of delay by the effort."""
    if priority is None:
        return None
    return Fraction(priority.value + priority.urgency + priority.risk_reduction, priority.effort)


def _shown(score: Fraction) -> str:
    exact = Number(score.numerator) / Number(score.denominator)
    return format(exact.quantize(Number("0.01"), ROUND_HALF_UP), "f")


def _rank(observed: Observed, score: Fraction) -> int:
    others = (dig(other, "spec", "priority") for other in observed.find(KIND, ALL_FIELD, YES))
    scores = (_score(Priority.model_validate(priority)) for priority in others if priority is not None)
    return 1 + sum(other is not None and other > score for other in scores)


def _refused(models: tuple[Manifest, ...]) -> Waiting | None:
    """What keeps a Model from asking what is required here."""
    for model in models:
        ready = conditions.find(model, "Ready") or {}
        if ready.get("status") == "False":
            message = f"Model {model['metadata']['name']}: {ready['message']}"
            return Waiting(ready["reason"], message, stalled=conditions.is_true(model, "Stalled"))
    return None


def _missing(observed: Observed, one: DataRequirement) -> Waiting | None:
    """Why the data that must be there before anything is trained is not."""
    name = one.dataset_ref.name
    dataset = observed.get("Dataset", name)
    if dataset is None:
        return Waiting(promises.NO_DATA, f"there is no Dataset {name} in this namespace yet (spec.data); create it")
    ready, stalled = conditions.find(dataset, "Ready") or {}, conditions.is_true(dataset, "Stalled")
    rows = dig(dataset, "status", "rows")
    if ready.get("status") != "True" or rows is None:
        said = f"Dataset {name} is not Ready: {ready.get('message', 'the operator has not seen it yet')}"
        return Waiting(promises.DATA_NOT_READY, said, stalled=stalled, failed=stalled)
    if rows < one.min_rows:
        said = (
            f"Dataset {name} has {rows} rows, and spec.data asks for {one.min_rows}: bring more data to its source, or"
            " ask for less"
        )
        return Waiting("TooFewRows", said, stalled=True, failed=True)
    return None


def decide(facts: Facts, now: datetime) -> Decision:
    aged = [promises.aged(one, now) for one in facts.found]
    found = tuple(one for one, _ in aged)
    again = min((left for _, left in aged if left is not None), default=None)
    waiting = _first(facts, found)
    return Decision(
        found,
        _feasible(facts, found),
        _met(facts, found),
        waiting,
        (waiting.message if waiting is not None else facts.automation.next or "")[:_SHOWN] or None,
        again,
    )


# What comes first of what is to be done: the first that has something to say is told.

Policy = Callable[[Facts, tuple[Found, ...]], Waiting | None]


def _makes_no_sense(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """Nothing meets requirements that contradict each other, or that nothing measures."""
    del found
    return facts.wrong


def _cannot_be(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """The world does not allow it: a Dataset is read too seldom."""
    del facts
    return next((o.waiting for o in found if o.waiting is not None and o.waiting.reason == promises.IMPOSSIBLE), None)


def _has_no_data(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """Before anything is trained, its data must be there."""
    return facts.data or next((o.waiting for o in _of_data(found) if o.waiting is not None), None)


def _is_refused(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """A Model asks for less than what is required."""
    del found
    return facts.refused


def _is_not_met(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """A promise is broken."""
    del facts
    return next((one.waiting for one in found if one.met == FALSE), None)


def _is_not_known(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    """Nothing says yet whether a promise is kept."""
    del facts
    return next((one.waiting for one in found if one.met != TRUE), None)


_POLICIES: tuple[Policy, ...] = (_makes_no_sense, _cannot_be, _has_no_data, _is_refused, _is_not_met, _is_not_known)


def _first(facts: Facts, found: tuple[Found, ...]) -> Waiting | None:
    return next((why for policy in _POLICIES if (why := policy(facts, found)) is not None), None)


def _of_data(found: tuple[Found, ...]) -> tuple[Found, ...]:
    """What was found of the freshness of data."""
    return tuple(one for one in found if one.threshold.startswith("dataset/"))


def _feasible(facts: Facts, found: tuple[Found, ...]) -> Condition:
    """Whether the data is there, large enough and fresh; said before anything is trained."""
    if not facts.asks_data:
        said = "spec.data names no Dataset: name what it needs, to know whether it can be done"
        return unknown("Feasible", "NotDeclared", said)
    why = _has_no_data(facts, found)
    if why is None:
        return true("Feasible", "DataReady", "the data is there, large enough and fresh")
    known = why.failed or why.reason in (promises.NOT_MET, promises.IMPOSSIBLE, promises.NO_DATA)
    return Condition("Feasible", "False" if known else "Unknown", why.reason, why.message)


def _met(facts: Facts, found: tuple[Found, ...]) -> Condition:
    if facts.wrong is not None:
        return false("RequirementsMet", facts.wrong.reason, facts.wrong.message)
    for met in (FALSE, promises.UNKNOWN):
        for one in found:
            if one.met == met and one.waiting is not None:
                return Condition("RequirementsMet", met, one.waiting.reason, one.waiting.message)
    if not found:
        return true("RequirementsMet", "NothingRequired", "spec.requirements is empty: nothing was promised")
    said = "the requirement is met" if len(found) == 1 else f"all {len(found)} requirements are met"
    return true("RequirementsMet", "AllMet", said)


def render(facts: Facts, decision: Decision) -> Outcome:
    waiting, met = decision.waiting, sum(one.met == TRUE for one in decision.found)
    if waiting is not None:
        ready = false("Ready", waiting.reason, waiting.message)
    else:
        ready = true("Ready", decision.met.reason, decision.met.message)
    status: dict[str, Any] = {
        "score": facts.score,
        "rank": facts.rank,
        "met": f"{met}/{len(decision.found)}" if decision.found else None,
        "next": decision.next,
        "automationLevel": facts.automation.number,
        "automation": _automation(facts.automation),
        "models": list(facts.models) or None,
        "requirements": [_status(one) for one in decision.found] or None,
    }
    return Outcome(
        status=status,
        conditions=(ready, decision.feasible, decision.met, *conditions.progress(ready, waiting)),
        headline=("Ready",),
        requeue_after=decision.requeue_after,
    )


def _automation(found: automation.Level) -> dict[str, Any] | None:
    said = {"evidence": list(found.evidence), "next": found.next}
    return {key: value for key, value in said.items() if value} or None


def _status(one: Found) -> dict[str, Any]:
    said = {
        "name": one.name,
        "met": one.met,
        "observed": one.observed,
        "threshold": one.threshold,
        "evidence": one.evidence,
        "at": one.at,
        "message": one.waiting.message[:_SHOWN] if one.waiting is not None else None,
    }
    return {key: value for key, value in said.items() if value is not None}


CONTROLLER = Controller(KIND, depends, observe, decide, render)
