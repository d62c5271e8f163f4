"""Drift of a ModelDeployment between two versions: windows in which its pods see what they were trained on, or not.

What pods counted is one Pod's message: what they saw, and the window that it is of; another window knows nothing of it.
"""

from array import array
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import NOW, uid
from modelcheck.systems.modeldeployment import KIND, NAME, ModelDeploymentSystem, deployment_spec
from modelmill.core import conditions
from modelmill.core.drift import CONDITION
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Measurement, Observed, SetStatus, Write
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest, dig
from modelmill.core.tally import Answer, Profile
from modelmill_contracts.counters import Reference, Trained

TRAFFIC = "traffic"
SEEN = {"usual": (500, 500, 500), "shifted": (10, 300, 1190)}  # in each window
WINDOW = timedelta(hours=24)  # of the times that there are, from one to the next
_MOST = 4  # windows, so that it comes to rest
_TRAINED = Reference((Trained("radius", (3000, 3000, 3000)),))


def spec(pinned: int | None, **more: Any) -> dict[str, Any]:
    return {**deployment_spec(1, pinned, 1), "monitoring": {"drift": {"window": "24h", **more}}}


def traffic(message: str) -> Manifest:
    """The Pod whose counts the operator reads."""
    labels = {**MANAGED_BY, OWNER_LABEL: uid(KIND, NAME)}
    return {
        "kind": "Pod",
        "metadata": {"name": TRAFFIC, "uid": uid("Pod", TRAFFIC), "labels": labels},
        "status": {"message": message},
    }


def window_of(deployment: Manifest | None) -> str | None:
    """The window that is open, in words; None where nobody wants to know."""
    asked = asked_of(deployment) if deployment is not None else None
    return None if asked is None or asked.drift is None else f"{asked.drift[0]}/{asked.drift[1]}"


def _answer(revision: str, counts: tuple[int, ...]) -> Answer:
    numbers = array("q", (*counts, 0, 0))
    return Answer(version=1, started=1.0, counts=numbers.tobytes(), profile=Profile("", revision, _TRAINED))


class DriftSystem(ModelDeploymentSystem):
    """The user also stops asking for drift, and asks again."""

    slots = 24
    longest_pause = WINDOW

    def __init__(self) -> None:
        edits = (spec(None), spec(1), deployment_spec(1, None, 1))
        life = ("they see what is shifted", "they see what is shifted", "version 2 is made", "version 2 becomes Ready")
        super().__init__("ModelDeployment: drift", edits, life, loss=False)

    def start(self) -> list[Manifest]:
        return [*super().start(), traffic("")]

    def heard(self, observed: Observed) -> Observed:
        revision = dig(observed.status, "stable", "revision")
        for key, found in observed.related.items():
            for pod in found if key.kind == "Pod" else ():
                seen, _, window = str(dig(pod, "status", "message") or "").partition("@")
                if window and window == window_of(observed.object):
                    name = pod["metadata"]["uid"]
                    said = {name: Measurement(_answer(revision, SEEN[seen]), NOW)}
                    nothing = {name: _answer(revision, (0, 0, 0))}
                    seconds = WINDOW.total_seconds()
                    return replace(observed, measured=said, drift_baseline=nothing, drift_seconds=seconds)
        return replace(observed, drift_seconds=0.0)

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        yield from self._windows(live)

    def _windows(self, live: Live) -> Iterator[Move]:
        present = live.get(KIND, NAME)
        window, told = window_of(present), str(dig(live.get("Pod", TRAFFIC), "status", "message"))
        windows = dig(present, "status", "drift", "windows") or 0
        if window is not None and windows < _MOST and not told.endswith(f"@{window}"):
            for what in SEEN:
                yield move(f"they see what is {what}", traffic(f"{what}@{window}"))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if not isinstance(write, SetStatus):
            return super().unsafe(write, before, after)
        was, now = before.get(KIND, NAME), after.get(KIND, NAME)
        former, said = dig(was, "status", "drift"), dig(now, "status", "drift")
        if said is None or (former is not None and _number(former) == _number(said)):
            return None
        same = former is not None and former["profile"] == said["profile"]
        if said["windows"] != (former["windows"] + 1 if same else 1):
            return "a window is counted twice, or not at all"
        told = str(dig(before.get("Pod", TRAFFIC), "status", "message"))
        if told.partition("@")[2] != window_of(was):
            return "what was counted before is counted again"
        moved = next((m["windows"] for m in said["worst"] if m["aspect"] == "Values"), 0)
        recent = [dig(found, "recent") or () for found in (former if same else None, said)]
        if told.startswith("shifted") != (int(recent[1][-1], 16) > 0):
            return "the status says something else than pods have seen"
        if moved != sum(int(bits, 16) & 1 for bits in (*recent[0], recent[1][-1])):
            return "former windows are forgotten"
        return None

    def untrue(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        said, condition = dig(present, "status", "drift"), conditions.find(present or {}, CONDITION)
        declared = dig(present, "spec", "monitoring", "drift") is not None
        if present is None or not dig(present, "status", "conditions"):
            return None
        current = present["status"].get("observedGeneration") == present["metadata"]["generation"]
        if current and declared != (condition is not None):
            return f"drift is {'' if declared else 'not '}declared, and the condition says {condition}"
        if condition is None:
            return None if said is None else "nobody wants to know of drift, and the status tells of it"
        if said is None:
            return None if condition["status"] == "Unknown" else "nothing was compared, and the condition knows"
        if said["revision"] != dig(present, "status", "stable", "revision"):
            return "the status tells of a revision that does not serve"
        if (condition["status"] == "True") != (said["drifted"] > 0):
            return f"{said['drifted']} distributions drifted, and the condition says {condition['status']}"
        return super().untrue(live)

    def unreached(self, live: Live) -> str | None:
        window = window_of(live.get(KIND, NAME))
        if window and str(dig(live.get("Pod", TRAFFIC), "status", "message")).endswith(f"@{window}"):
            return "a window that is full is not compared"
        return super().unreached(live)


def _number(said: Manifest) -> tuple[str, int]:
    return said["profile"], said["windows"]
