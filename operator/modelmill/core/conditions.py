"""Conditions: how an object says where it stands, in the words of the Kubernetes API conventions and kstatus."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_MESSAGE = 1024


@dataclass(frozen=True)
class Condition:
    """A condition without its time: that depends on what was said before."""

    type: str
    status: str  # True | False | Unknown
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Waiting:
    """Why something cannot go on: a CamelCase reason and what to do.

    `stalled`: a person has to act.  `failed`: it is known not to work, though that may heal by itself.
    """

    reason: str
    message: str
    stalled: bool = False
    failed: bool = False

    def condition(self, type_: str) -> "Condition":
        """What a condition says that waits for this: False where it does not work, else Unknown."""
        return Condition(type_, "False" if self.failed else "Unknown", self.reason, self.message)


def true(type_: str, reason: str, message: str = "") -> Condition:
    return Condition(type_, "True", reason, message)


def false(type_: str, reason: str, message: str = "") -> Condition:
    return Condition(type_, "False", reason, message)


def unknown(type_: str, reason: str, message: str = "") -> Condition:
    return Condition(type_, "Unknown", reason, message)


def progress(headline: Condition, waiting: Waiting | None) -> tuple[Condition, Condition]:
    """Reconciling and Stalled, as kstatus reads them: never both True.

    `waiting` is None when all is done; Stalled is what needs a person, Reconciling is on its way.
    """
    if waiting is None:
        return false("Reconciling", headline.reason), false("Stalled", headline.reason)
    if waiting.stalled:
        return false("Reconciling", waiting.reason), true("Stalled", waiting.reason, waiting.message)
    return true("Reconciling", waiting.reason, waiting.message), false("Stalled", waiting.reason)


def merge(
    before: Iterable[Mapping[str, Any]], after: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """`after` as the API has it: the transition time stays what it was while the status does."""
    old = {condition["type"]: condition for condition in before}
    result = []
    for condition in after:
        known = old.get(condition.type)
        changed = known is None or known["status"] != condition.status
        result.append(
            {
                "type": condition.type,
                "status": condition.status,
                "observedGeneration": generation,
                "lastTransitionTime": timestamp(now) if known is None or changed else known["lastTransitionTime"],
                "reason": condition.reason,
                "message": condition.message[:MAX_MESSAGE],
            }
        )
    return result


def find(manifest: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """The condition of that type in an object's status."""
    for condition in (manifest.get("status") or {}).get("conditions", ()):
        if condition["type"] == type_:
            return condition  # type: ignore[no-any-return]
    return None


def is_true(manifest: Mapping[str, Any], type_: str) -> bool:
    """Whether the condition is True for the object's present generation."""
    condition = find(manifest, type_)
    if condition is None or condition["status"] != "True":
        return False
    return bool(condition.get("observedGeneration", 0) == manifest["metadata"].get("generation", 0))


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether a TrainingJob has succeeded or failed for good, or an Experiment as it is declared."""
    return any((find(job, type_) or {}).get("status") == "True" for type_ in ("Succeeded", "Failed"))


def timestamp(moment: datetime) -> str:
    """RFC 3339 with seconds, as the API server writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The time in an RFC 3339 timestamp."""
    return datetime.fromisoformat(text)


def not_ahead(text: str, now: datetime) -> str:
    """The time, or now where a clock that was set back makes it lie ahead.

    Who writes it down like that waits once, and not until the clock is there again.
    """
    return text if moment(text) <= now else timestamp(now)
