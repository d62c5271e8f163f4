"""A second replica that writes, as the lease never lets it, and always sees what exists."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from modelcheck.cluster import SETTINGS, Live, Move
from modelcheck.objects import NAMESPACE, NOW, Slot, as_text, created, later
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Apply, Create, Delete, Observed, Record, SetStatus, Write, target
from modelmill.core.resources import Manifest
from modelmill.shell.cache import Cache

Objects = dict[Slot, dict[str, Any]]
_ROUNDS = 20


def unchanged(found: Any) -> Any:
    return found


def planned(slot: Slot, objects: Objects, heard: Callable[[Observed], Observed] = unchanged) -> tuple[Write, ...]:
    """What it would write of the object in this slot now."""
    cache = Cache(CONTROLLERS, SETTINGS)
    for (kind, _), manifest in objects.items():
        cache.store(kind, manifest)
    observed = cache.observe((slot[0], NAMESPACE, slot[1]))
    return () if observed is None else CONTROLLERS[slot[0]].reconcile(heard(observed), NOW).writes


def writes(
    slot: Slot,
    live: Live,
    heard: Callable[[Observed], Observed] = unchanged,
    around: Callable[[Objects], None] | None = None,
) -> Iterator[Move]:
    """It makes its plan; with `around`, which is what Kubernetes does then, and time, until it comes to rest."""
    before = live.everything()
    objects = dict(before)
    for _ in range(_ROUNDS if around is not None else 1):
        made = [write for write in planned(slot, objects, heard) if not isinstance(write, Record)]
        for write in made:
            _carry_out(objects, slot, write)
        if not made or around is None:
            break
        around(objects)
        objects = {key: msgspec.json.decode(later(as_text(manifest))) for key, manifest in objects.items()}
    changes: list[tuple[Slot, Manifest | None]] = [(key, None) for key in before if key not in objects]
    changes += [(key, {**m, "kind": key[0]}) for key, m in objects.items() if before.get(key) != m]
    if changes:
        yield Move("the other replica does what it has to do", tuple(changes))


def _carry_out(objects: Objects, slot: Slot, write: Write) -> None:
    match write:
        case SetStatus(status):
            objects[slot] = {**objects[slot], "status": status}
        case Create(manifest):
            objects.setdefault(target(write), _seen(created(manifest)))
        case Delete():
            objects.pop(target(write), None)
        case Apply(manifest):
            found = objects[target(write)]
            parts = {part: {**found.get(part, {}), **manifest[part]} for part in ("spec", "data") if part in manifest}
            objects[target(write)] = {**found, **parts}


def _seen(manifest: Manifest) -> dict[str, Any]:
    """As a cache takes it."""
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": NAMESPACE, "resourceVersion": "1"}}
