"""The control groups of a cluster's pods: one root per cluster, so that they are found and removed as a
whole."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from local_cluster.console import ClusterError
from local_cluster.processes import Process, end, identify


def root_name(cluster: str) -> str:
    return f"modelmill-{cluster}"


def hierarchies() -> list[Path]:
    """Where control groups are mounted: one folder with cgroup v2, one per controller with v1, both in hybrid
    mode."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            found.append(Path(place))
    return found


def create(cluster: str) -> None:
    """kubelet wants its root to exist under every controller before it starts."""
    try:
        for hierarchy in hierarchies():
            (hierarchy / root_name(cluster)).mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"cannot create the control group {error.filename} ({error.strerror}): the node's limits need "
            "it. In a container, run it with --privileged and a writable /sys/fs/cgroup."
        ) from None


def processes(cluster: str) -> list[Process]:
    """All processes of the cluster's pods, whatever their environment says."""
    pids: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, files in os.walk(hierarchy / root_name(cluster)):
            if "cgroup.procs" in files:
                try:
                    pids.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
                except OSError:
                    continue
    return [process for process in map(identify, pids - {0}) if process is not None]


def remove(cluster: str) -> None:
    """End what is left in the groups and remove them, innermost first."""
    for _ in range(3):
        members = processes(cluster)
        if not members:
            break
        end(members, patience=0)
    deadline = time.monotonic() + 5
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / root_name(cluster), topdown=False):
            # The kernel takes a moment to let go of a group whose last process has just ended.
            while not _removed(Path(folder)) and time.monotonic() < deadline:
                time.sleep(0.02)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True
