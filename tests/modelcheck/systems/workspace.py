"""A Workspace, its preflight Job, and two stores between which its user changes."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, NEW, Slot, uid
from modelcheck.systems import jobs
from modelmill.core import conditions, workspace
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest
from modelmill_contracts import report

NAME = workspace.NAME
_ANYBODY: dict[str, Any] = {}  # a rule without anything that it asks for
STORES = {"a": "s3://models", "b": "s3://others"}


def manifest(store: str, **metadata: Any) -> Manifest:
    spec = {"store": {"uri": STORES[store], "endpoint": "http://store:7070"}}
    return {
        "kind": "Workspace",
        "metadata": {"name": NAME, "uid": NEW, "generation": NEW, **metadata},
        "spec": spec,
    }


def edited(live: Manifest, spec: Any) -> Manifest:
    """The object with another spec."""
    return {**live, "metadata": {**live["metadata"], "generation": NEW}, "spec": spec}


def passed(_: Manifest) -> report.Report:
    return report.Report(True, "StoreWorks", result=report.PreflightResult(("put", "get", "delete")))


def _known(type_status: str, reason: str, **status: Any) -> Manifest:
    """A Workspace whose store was tried before; nobody reconciles it."""
    made = manifest("a", uid=uid("Workspace", NAME), generation=1)
    said = {"type": "PreflightPassed", "status": type_status, "reason": reason, "message": "as it says"}
    condition = {**said, "observedGeneration": 1, "lastTransitionTime": LONG_AGO}
    return {**made, "status": {"observedGeneration": 1, "conditions": [condition], **status}}


def working_workspace() -> Manifest:
    spec = workspace.WorkspaceSpec.model_validate(manifest("a")["spec"])
    return _known("True", "StoreWorks", preflight=workspace.asked_of(workspace.store_access(spec)))


def failing_workspace() -> Manifest:
    return _known("False", "StoreUnreachable")


class WorkspaceSystem(System):
    name = "Workspace"
    slots = 6
    clock_goes_back = True
    longest_pause = timedelta(minutes=75)  # a store that works is tried again
    life = ("a user creates the Workspace with store a", "the user changes to store b", "the user deletes")

    def controllers(self) -> list[Slot]:
        return [("Workspace", NAME)]

    def start(self) -> list[Manifest]:
        return []

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get("Workspace", NAME)
        for store in STORES:
            wanted = manifest(store)
            if present is None:
                yield move(f"a user creates the Workspace with store {store}", wanted)
            elif present["spec"] != wanted["spec"]:
                changed = {"kind": "Workspace", **edited(present, wanted["spec"])}
                yield move(f"the user changes to store {store}", changed)
        if present is not None:
            yield move("the user deletes the Workspace", gone=[("Workspace", NAME)])
        yield from jobs.moves(live, workspace.JOB, passed)
        yield from jobs.collected(live, workspace.JOB)
        yield from jobs.orphans(live, "NetworkPolicy")
        yield from opened(live)

    def help(self, live: Live) -> Iterator[Move]:
        yield from jobs.help_(live, workspace.JOB, passed)
        yield from jobs.orphans(live, "NetworkPolicy")

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present = before.get("Workspace", NAME)
        if isinstance(write, SetStatus) and write.status.get("preflight") and present is not None:
            asked = workspace.asked_of(workspace.store_access(workspace.WorkspaceSpec.model_validate(present["spec"])))
            current = write.status["observedGeneration"] == present["metadata"]["generation"]
            if current and write.status["preflight"] != asked:
                return "a store that was not tried is said to work"
        return None

    def unreached(self, live: Live) -> str | None:
        present, job = live.get("Workspace", NAME), live.get("Job", workspace.JOB)
        if present is None:
            return "a child is left behind" if job is not None or live.all("NetworkPolicy") else None
        if is_open(live):
            return "anybody may call the pods of Jobs"
        if not conditions.is_true(present, "Ready"):
            return f"the Workspace is not Ready: {conditions.find(present, 'Ready')}"
        return None


def opened(live: Live) -> Iterator[Move]:
    """Somebody edits a NetworkPolicy so that anybody may call the pods."""
    for policy in live.all("NetworkPolicy"):
        if _ANYBODY not in policy["spec"].get("ingress", ()):
            spec = {**policy["spec"], "ingress": [_ANYBODY]}
            yield move("somebody opens the NetworkPolicy", {"kind": "NetworkPolicy", **policy, "spec": spec})


def is_open(live: Live) -> bool:
    return any(_ANYBODY in policy["spec"].get("ingress", ()) for policy in live.all("NetworkPolicy"))
