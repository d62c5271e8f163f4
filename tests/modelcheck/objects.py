"""Versions of objects as numbers: equal versions are one number, and 0 is none.

What would make the number of versions endless is written in few names: times are one of three, and a UID or a
generation that nobody mentions any more is used again.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from modelmill.api.rollout import Agreement, Analysis
from modelmill.core import collection, evidence, mirror
from modelmill.core.conditions import timestamp
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.resources import MANAGED_BY, TYPES, Manifest
from modelmill.stats.window import ArmWindow, Window

NAMESPACE = "team-a"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AHEAD, JUST_NOW, LONG_AGO = (timestamp(NOW + timedelta(days=d)) for d in (1, 0, -1))
NEW = "new"  # as a UID or a generation: one that nobody mentions

_HALF_A_DAY_AGO = timestamp(NOW - timedelta(hours=12))
_TIME = re.compile("|".join((AHEAD, JUST_NOW, LONG_AGO)))
_LATER = {AHEAD: JUST_NOW, JUST_NOW: LONG_AGO, LONG_AGO: LONG_AGO}
_EARLIER = {AHEAD: AHEAD, JUST_NOW: AHEAD, LONG_AGO: JUST_NOW}
_UID = re.compile(r"[A-Za-z]+/[-a-z0-9.]+#[0-9]+")

# Conditions whose transition time the core reads; the others' times are for people.
_TIMED = {
    "Workspace": {"PreflightPassed", "Mirrored"},
    "Dataset": {"Available", "Valid"},
    "ModelVersion": {"Verified", "Tested"},
    "TrainingJob": {"Trained"},
    "PipelineRun": {"Succeeded", "Failed"},
    "Job": {"Complete", "Failed"},
}
_TOLD = (collection.JOB, mirror.JOB)
_SORTED_BY_AGE = {"Deployment", "Pod"}
AGED = "aged"  # a label: when this one was made counts, too

Slot = tuple[str, str]  # kind, name


def as_text(value: Any) -> str:
    """Equal values are equal texts; a tuple is a list."""
    return msgspec.json.encode(value, order="sorted").decode()


def uid(kind: str, name: str, number: int = 0) -> str:
    return f"{kind}/{name}#{number}"


def created(manifest: Manifest) -> dict[str, Any]:
    """What exists once a create of this manifest was carried out."""
    metadata = {"uid": NEW, "generation": NEW, **manifest["metadata"], "creationTimestamp": LONG_AGO}
    return {**manifest, "metadata": metadata, "status": {}}


def leaving(kind: str, manifest: Manifest) -> dict[str, Any]:
    """What is left of an object that was deleted, while a finalizer keeps it."""
    return {**manifest, "kind": kind, "metadata": {**manifest["metadata"], "deletionTimestamp": LONG_AGO}}


def later(text: str) -> str:
    """Time passed: what was just now is long ago."""
    return _TIME.sub(lambda found: _LATER[found[0]], text)


def earlier(text: str) -> str:
    """The clock was set back: what was just now is ahead."""
    return _TIME.sub(lambda found: _EARLIER[found[0]], text)


class Objects:
    """All versions that were ever met."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._slot_numbers: dict[Slot, int] = {}
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = [""]
        self.manifests: list[dict[str, Any]] = [{}]
        self.slot_of: list[int] = [-1]
        self.mentions: list[dict[int, frozenset[str]]] = [{}]  # by the slot that they name
        self.shown: list[int] = [0]  # as the operator's watch shows it: nothing, where the label is missing
        self.templates: list[tuple[int, Manifest]] = []
        self._template_numbers: dict[str, int] = {}
        self._named: dict[tuple[int, frozenset[str]], int] = {}
        self._mapped = {change: _Mapped(self, change) for change in (later, earlier)}

    def slot(self, kind: str, name: str) -> int:
        """The place of an object in a state."""
        known = self._slot_numbers.get((kind, name))
        if known is None:
            known = self._slot_numbers[kind, name] = len(self.slots)
            self.slots.append((kind, name))
        return known

    def number(self, kind: str, manifest: Manifest) -> int:
        """The number of this version of an object."""
        slot = self.slot(kind, manifest["metadata"]["name"])
        version = _canonical(kind, manifest)
        return self._number(slot, kind, version)

    def _number(self, slot: int, kind: str, version: dict[str, Any]) -> int:
        text = as_text([slot, version])
        known = self._numbers.get(text)
        if known is None:
            known = self._numbers[text] = len(self.manifests)
            self.manifests.append(version)
            self._texts.append(text)
            self.slot_of.append(slot)
            self.mentions.append(self.by_slot(frozenset(_UID.findall(text)) | _generations(slot, version)))
            ours = not TYPES[kind].label_selector or MANAGED_BY.items() <= version["metadata"]["labels"].items()
            self.shown.append(known if ours else 0)
        return known

    def mapped(self, change: Callable[[str], str]) -> Callable[[int], int]:
        """From a version to the version with its times changed."""
        return self._mapped[change].__getitem__

    def with_times(self, change: Callable[[str], str], number: int) -> int:
        slot, version = msgspec.json.decode(change(self._texts[number]))
        return self._number(slot, self.slots[slot][0], version)

    def by_slot(self, mentioned: frozenset[str]) -> dict[int, frozenset[str]]:
        """UIDs and generations, by the object that they are of."""
        found: dict[int, set[str]] = {}
        for text in mentioned:
            slot, _, generation = text.partition("@")
            number = int(slot) if generation else self.slot(*text.partition("#")[0].split("/"))
            found.setdefault(number, set()).add(text)
        return {slot: frozenset(texts) for slot, texts in found.items()}

    def template(self, kind: str, manifest: Manifest) -> int:
        """The number of a manifest that asks for a new UID or generation."""
        slot = self.slot(kind, manifest["metadata"]["name"])
        text = as_text([slot, manifest])
        known = self._template_numbers.get(text)
        if known is None:
            known = self._template_numbers[text] = len(self.templates)
            self.templates.append((slot, msgspec.json.decode(text)[1]))
        return known

    def named(self, template: int, mentioned: frozenset[str]) -> int:
        """The version with a UID and a generation that are not mentioned, where its template asks for new ones."""
        known = self._named.get((template, mentioned))
        if known is None:
            slot, manifest = self.templates[template]
            kind, name = self.slots[slot]
            metadata = dict(manifest["metadata"])
            if metadata["uid"] == NEW:
                metadata["uid"] = next(u for u in (uid(kind, name, n) for n in count()) if u not in mentioned)
            if metadata.get("generation") == NEW:
                metadata["generation"] = next(n for n in count(1) if f"{slot}@{n}" not in mentioned)
            known = self._named[template, mentioned] = self.number(kind, {**manifest, "metadata": metadata})
        return known


class _Mapped(dict[int, int]):
    """Versions and what they are with other times."""

    def __init__(self, objects: Objects, change: Callable[[str], str]) -> None:
        super().__init__()
        self._objects = objects
        self._change = change

    def __missing__(self, number: int) -> int:
        self[number] = changed = number if number <= 0 else self._objects.with_times(self._change, number)
        return changed


def _canonical(kind: str, manifest: Manifest) -> dict[str, Any]:
    whole = msgspec.json.decode(msgspec.json.encode(manifest))
    version: dict[str, Any] = TYPES[kind].project(whole)
    if kind == "Job" and whole["metadata"]["name"] in _TOLD and "template" in whole.get("spec", {}):
        # The operator does not read it, but what becomes of the store, or of MLflow, depends on what it asked for.
        (asked, *_) = whole["spec"]["template"]["spec"]["containers"][0]["env"]
        version["asked"] = asked["value"]
    elif kind == "Job" and "asked" in whole:
        version["asked"] = whole["asked"]
    if kind == "NetworkPolicy":
        version = {"metadata": version["metadata"], "spec": whole.get("spec")}  # its projection is a digest
    if kind == "ModelDeployment":
        _shorten(version.get("status") or {})
    metadata = version["metadata"]
    metadata["namespace"], metadata["resourceVersion"] = NAMESPACE, "1"
    metadata.setdefault("labels", {})
    if kind not in _SORTED_BY_AGE and AGED not in metadata["labels"]:
        metadata["creationTimestamp"] = LONG_AGO
    if kind not in CONTROLLERS:
        metadata.pop("generation", None)
        version.get("status", {}).pop("observedGeneration", None)
    for condition in version.get("status", {}).get("conditions") or ():
        if condition["type"] not in _TIMED.get(kind, ()) and condition.get("lastTransitionTime"):
            condition["lastTransitionTime"] = LONG_AGO
    return version


def _shorten(status: dict[str, Any]) -> None:
    """Evidence without end: what a gate has seen is as much as its verdict takes, and windows are even or odd."""
    status.pop("lastRollout", None)  # nothing is decided by it
    _shorten_quality(status)
    candidate = status.get("candidate") or {}
    candidate.pop("passed", None)
    if "windows" in candidate:
        candidate |= {"windows": candidate["windows"] % 2, "failures": 0, "requests": min(candidate["requests"], 1)}
    if candidate.get("evidence"):
        gates = [gate["gate"] for gate in candidate["evidence"]]
        known = _EVIDENCE["agreement" in gates]
        candidate["evidence"] = [known[gate["gate"], gate["verdict"] == "Promote"] for gate in candidate["evidence"]]


def _shorten_quality(status: dict[str, Any]) -> None:
    """Windows of half a day: the last one ends just now; they are even or odd, and each begins without evidence."""
    if "quality" not in status:
        return
    status |= msgspec.json.decode(as_text(status).replace(_HALF_A_DAY_AGO, JUST_NOW))
    said = status["quality"]
    windows = said["windows"] if said["windows"] < 3 else said["windows"] - 2
    said |= {"windows": windows, "rows": min(said["rows"], 1), "alarms": min(said["alarms"], 1)}
    said |= {"evidence": "0", "detector": [], "spread": "0"}


def _evidence(*, agreement: bool) -> dict[tuple[str, bool], dict[str, Any]]:
    """What a status has of each gate, by whether it is proven."""
    declared, found = Analysis(agreement=Agreement(min="0.9") if agreement else None), {}
    for proven, windows in ((False, ()), (True, (Window(ArmWindow(10**6), ArmWindow(10**6), 10**6, 10**6),))):
        gates = evidence.gates(declared)
        for window in windows:
            gates = evidence.after(gates, window)
        states = dict(evidence.states(gates))
        for finding in evidence.findings(gates, declared):
            found[finding.gate, proven] = evidence.status_of(finding, states[finding.gate])
    return found


_EVIDENCE = {agreement: _evidence(agreement=agreement) for agreement in (False, True)}


def _generations(slot: int, version: Mapping[str, Any]) -> frozenset[str]:
    """The generations of an object of ours that one of its versions knows."""
    status = version.get("status") or {}
    known = {version["metadata"].get("generation"), status.get("observedGeneration")}
    known |= {condition.get("observedGeneration") for condition in status.get("conditions") or ()}
    return frozenset(f"{slot}@{generation}" for generation in known if generation)
