"""The leaderboard of an Experiment: what became of each trial, and which is the best one.

A difference within the noise is none: of all trials whose value is within one standard error of the best value (its
standard deviation over the folds, by the root of their number: Breiman's rule), and of a tie, the one with the smallest
model is the best.  The size of a model's file stands for what a prediction costs, and is the same each time, which CPU
seconds are not.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modelmill.core import search, training_result
from modelmill.core.resources import Manifest, dig
from modelmill_contracts.space import Space, Values

RUNNING, SUCCEEDED, FAILED, STOPPED = "Running", "Succeeded", "Failed", "Stopped"
TOP = 10
_NO_OBJECTIVE = "ObjectiveMissing"


@dataclass(frozen=True)
class Trial:
    """One trial, and what came of it."""

    number: int
    name: str
    uid: str
    state: str
    values: Values
    suspended: bool = False
    value: float | None = None  # of the objective: of what succeeded, or had some folds before it was stopped
    text: str = ""  # the same as it was reported
    stddev: str | None = None
    folds: tuple[float, ...] = ()
    recipe: str | None = None
    artifact: str | None = None
    cost: int | None = None  # bytes of the model's file
    reason: str = ""  # why it failed, or cannot go on
    message: str = ""
    stalled: bool = False


def trial(manifest: Manifest, number: int, space: Space, metric: str) -> Trial:
    """What became of the TrainingJob that is trial `number`."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    made = {
        "number": number,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "values": search.values_of(space, manifest),
        "suspended": bool(dig(manifest, "spec", "suspend")),
    }
    said = {condition["type"]: condition for condition in status.get("conditions", ())}
    ended = next((said[type_] for type_ in ("Succeeded", "Failed") if _is(said.get(type_))), None)
    if ended is None:
        stalled = said["Stalled"] if _is(said.get("Stalled")) else {}
        why = {"reason": stalled.get("reason", ""), "message": stalled.get("message", "")}
        return Trial(**made, state=RUNNING, stalled=bool(stalled), **why)
    if ended["type"] == "Failed":
        return Trial(**made, state=FAILED, reason=ended["reason"], message=ended["message"])
    found = next((m for m in status.get("metrics", ()) if m["name"] == metric), None)
    value = _number(found["value"]) if found is not None else None
    if found is None or value is None:
        others = ", ".join(m["name"] for m in status.get("metrics", ())) or "no metric"
        missing = f"it reported {others}, and no number for {metric} (spec.objective.metric)"
        return Trial(**made, state=FAILED, reason=_NO_OBJECTIVE, message=missing)
    return Trial(
        **made,
        state=STOPPED if ended["reason"] == training_result.STOPPED else SUCCEEDED,
        value=value,
        text=found["value"],
        stddev=found.get("stddev"),
        folds=tuple(fold for text in status.get("folds", ()) if (fold := _number(text)) is not None),
        recipe=status.get("recipe"),
        artifact=dig(status, "artifact", "digest"),
        cost=dig(status, "artifact", "modelBytes"),
    )


def _is(condition: Any) -> bool:
    return condition is not None and condition["status"] == "True"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Best:
    """The best trial, and why it is the best where another one has a better value or the same."""

    trial: Trial
    why: str = ""


def ranked(trials: Iterable[Trial], *, maximize: bool) -> list[Trial]:
    """Those that succeeded, the best value first; of equal ones the earlier."""
    succeeded = [t for t in trials if t.state == SUCCEEDED]
    return sorted(succeeded, key=lambda t: (_loss(t, maximize), t.number))


def best(order: Sequence[Trial], folds: int) -> Best | None:
    """The best one of those that are ranked; `folds` of their cross-validation, 0 without."""
    if not order:
        return None
    leader = order[0]
    noise = float(leader.stddev) / math.sqrt(folds) if leader.stddev and folds else 0.0
    near = [t for t in order if _difference(t, leader) <= noise]
    # The order decides among models of one size, and where no size is known.
    chosen = min(near, key=lambda t: t.cost if t.cost is not None else math.inf)
    if chosen is leader:
        return Best(leader, _beside(near))
    if _difference(chosen, leader) > 0:
        why = (
            f"{leader.name} has {leader.text}: the difference is within the standard error of its {folds} folds,"
            f" {noise:.3g}, and the model of {chosen.name} is smaller"
        )
    else:
        why = f"{leader.name} has the same value, and the model of {chosen.name} is smaller"
    return Best(chosen, f"{why}: {_bytes(chosen.cost)} instead of {_bytes(leader.cost)}")


def _beside(near: Sequence[Trial]) -> str:
    if len(near) < 2:
        return ""
    return f"{len(near) - 1} others are as good or differ within the noise, and no model of them is smaller"


def _difference(one: Trial, other: Trial) -> float:
    return abs((one.value or 0.0) - (other.value or 0.0))


def _loss(one: Trial, maximize: bool) -> float:
    value = one.value if one.value is not None else 0.0
    return -value if maximize else value


def _bytes(count: int | None) -> str:
    return "a size that is not known" if count is None else f"{count:,} bytes"


def status_of(found: Best | None) -> dict[str, Any] | None:
    """The best one, as a status has it."""
    if found is None:
        return None
    one = found.trial
    more = {
        "stddev": one.stddev,
        "parameters": [{"name": name, "value": search.plain(text)[:64]} for name, text in one.values] or None,
        "recipe": one.recipe,
        "artifact": one.artifact,
        "message": found.why[:512] or None,
    }
    return {"trial": one.name, "value": one.text, **{key: value for key, value in more.items() if value is not None}}


def top(order: Sequence[Trial]) -> list[dict[str, Any]]:
    """The first of the leaderboard, as a status has them."""
    return [{"trial": t.name, "value": t.text, "parameters": search.short(t.values)} for t in order[:TOP]]
