"""What a cluster remembers about itself between two calls: its shape, addresses, and what it found on the
machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local_cluster import paths
from local_cluster.addresses import Subnets
from local_cluster.paths import ClusterPaths


@dataclass
class ClusterRecord:
    """`former_*`, `foreign_*` and `absent_*` are the state of the machine before the cluster's first start,
    which `down` goes back to."""

    name: str
    with_node: bool
    ports: dict[str, int]
    subnets: Subnets
    backend: str = "processes"
    # The folder it belongs to: what carries its name under /run may be of another one.
    state: str = ""
    former_settings: dict[str, str] = field(default_factory=dict)
    foreign_chains: list[str] = field(default_factory=list)
    absent_folders: list[str] = field(default_factory=list)
    # Image name -> id of the build that was loaded last.
    loaded: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        files = ClusterPaths(self.name)
        self.state = str(files.state)
        places = [
            files.record,
            *([files.run_record] if self.with_node and self.backend == "processes" else []),
        ]
        for file in places:
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(asdict(self), indent=1))
            unfinished.rename(file)


def load(name: str) -> ClusterRecord | None:
    """The cluster's own record; when its folder was deleted by hand, the copy beside its sockets."""
    files = ClusterPaths(name)
    record = _read(files.record)
    if record is None:
        copy = _read(files.run_record)
        if copy is not None and copy.state == str(files.state):
            return copy
    return record


def of_another_cache(name: str) -> ClusterRecord | None:
    """A cluster of the same name whose folder is elsewhere, made with another XDG_CACHE_HOME."""
    files = ClusterPaths(name)
    record = _read(files.run_record)
    return record if record is not None and record.state != str(files.state) else None


def _read(file: Path) -> ClusterRecord | None:
    try:
        values = json.loads(file.read_text())
        return ClusterRecord(**{**values, "subnets": Subnets(**values["subnets"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def others(name: str) -> list[ClusterRecord]:
    """The other clusters of this user."""
    found = []
    for folder in sorted(paths.clusters().glob("*/cluster.json")):
        record = load(folder.parent.name)
        if record is not None and record.name != name:
            found.append(record)
    return found
