"""Writes in words, and as what they are told apart by."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from modelmill.core.plan import Apply, Create, Delete, Guard, Guards, Listed, Outcome, Record, SetStatus, Write


def title(write: Write) -> str:
    """A write in words."""
    match write:
        case Create(manifest):
            return f"it creates {manifest['kind']} {manifest['metadata']['name']}"
        case Apply(manifest):
            return f"it applies {manifest['kind']} {manifest['metadata']['name']} {json.dumps(_brief(manifest))}"
        case Delete(kind, name):
            return f"it deletes {kind} {name}"
        case SetStatus(status):
            said = (f"{c['type']}={c['status']} {c['reason']}" for c in status["conditions"][:2])
            return f"it sets the status: {', '.join(said)}"
    raise AssertionError(write)


def _brief(manifest: Mapping[str, Any]) -> Any:
    spec = manifest.get("spec")
    if spec is None:
        return manifest.get("data") or manifest["metadata"].get("annotations")
    return spec.get("selector", spec)


def plain(write: Write) -> Any:
    match write:
        case Create(manifest, guards):
            return [manifest, _compared(guards)]
        case Apply(manifest=what, uid=uid, guards=guards) | Delete(name=what, uid=uid, guards=guards):
            return [what, uid, _compared(guards)]
        case SetStatus(status, guards=guards):
            return [status, _compared(guards)]
        case Record(type_, reason, message):
            return [type_, reason, message]
    raise AssertionError(write)


def comparable(outcome: Outcome) -> Any:
    writes = [plain(write) for write in outcome.writes]
    guards = _compared(outcome.guards)
    return writes, outcome.status, outcome.conditions, outcome.headline, outcome.requeue_after, guards


def _compared(guards: Guards) -> list[Any]:
    """What guards read, and what they compare it with: that is in their closures."""
    return [
        [guard.kind, getattr(guard, "name", ""), guard.meaning, *_closure(guard.holds)]
        if isinstance(guard, Guard | Listed)
        else repr(guard)
        for guard in guards
    ]


def _closure(holds: Callable[..., bool]) -> list[str]:
    return [repr(cell.cell_contents) for cell in holds.__closure__ or ()]
