"""Every version that our objects ever had in one namespace, and every Event, as the API server's watches show them."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from live import API_VERSION, Kubectl, eventually, kubectl_program
from modelmill.api.crd import KINDS

PLURALS = {kind.__name__: kind.plural for kind in KINDS}
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """What a person would say of an object at one moment: Done, InProgress, Stalled or Suspended."""

    title: str
    manifest: Manifest
    stand: str


@dataclass
class Recording:
    """What was seen, and what was asked meanwhile."""

    versions: dict[tuple[str, str, str], list[Manifest]]  # (kind, name, UID) -> oldest first
    events: list[Manifest]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    # Exit codes of `kubectl wait`, for generations that nobody had seen, and for such that were done.
    waits_in_vain: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    status_writes: dict[tuple[str, str], int] | None = None  # (plural, name) -> by the operator, as the audit log says
    written_at_rest: list[str] = field(default_factory=list)

    def every(self) -> Iterator[Manifest]:
        for versions in self.versions.values():
            yield from versions

    def transitions(self) -> Iterator[tuple[Manifest, Manifest]]:
        """Each version and the next one of the same object."""
        for versions in self.versions.values():
            yield from pairwise(versions)


def conditions(manifest: Manifest) -> dict[str, Manifest]:
    return {c["type"]: c for c in manifest.get("status", {}).get("conditions", ())}


def named(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']}/{metadata['name']} at resource version {metadata['resourceVersion']}"


class Recorder:
    """Watches from the moment when it is made."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        self._kubectl = kubectl
        group = f"/apis/{API_VERSION}/namespaces/{kubectl.namespace}"
        self._paths = {kind: f"{group}/{plural}" for kind, plural in PLURALS.items()}
        self._paths["Event"] = f"/apis/events.k8s.io/v1/namespaces/{kubectl.namespace}/events"
        self._files = {kind: folder / f"{kind}.jsonl" for kind in self._paths}
        self._processes = [self._follow(kind) for kind in self._paths]

    def _follow(self, kind: str) -> subprocess.Popen[bytes]:
        # From the version of a list on, the API server shows every change, however late the watch begins.
        version = json.loads(self._kubectl.output("get", "--raw", self._paths[kind]))["metadata"]["resourceVersion"]
        path = f"{self._paths[kind]}?watch=true&resourceVersion={version}"
        with self._files[kind].open("wb") as out:
            return subprocess.Popen(
                [kubectl_program(), "--kubeconfig", self._kubectl.config, "get", "--raw", path], stdout=out
            )

    def seen(self, kind: str) -> list[Manifest]:
        """Every version of every object of the kind, in the order of their change; a deletion has the last one."""
        lines = self._files[kind].read_text().split("\n")[:-1]  # what follows the last newline is not complete
        found = []
        for line in lines:
            change = json.loads(line)
            assert change["type"] in ("ADDED", "MODIFIED", "DELETED"), line
            found.append(change["object"])
        return found

    def caught_up(self) -> bool:
        """Whether the newest version of everything that exists was seen."""
        for kind, plural in PLURALS.items():
            versions = {manifest["metadata"]["resourceVersion"] for manifest in self.seen(kind)}
            if any(live["metadata"]["resourceVersion"] not in versions for live in self._kubectl.list(plural)):
                return False
        return True

    def recording(self) -> Recording:
        eventually(self.caught_up, "the watches have shown everything")
        versions: defaultdict[tuple[str, str, str], list[Manifest]] = defaultdict(list)
        for kind in PLURALS:
            for manifest in self.seen(kind):
                metadata = manifest["metadata"]
                versions[kind, metadata["name"], metadata["uid"]].append(manifest)
        events = [e for e in self.seen("Event") if e.get("reportingController") == "modelmill.dev/operator"]
        return Recording(dict(versions), events)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()
