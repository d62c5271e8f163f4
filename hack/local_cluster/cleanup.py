"""Taking a cluster off the machine: its processes, groups, interfaces, rules and files, and nothing else.

The same steps serve `down` and an `up` that finds the remains of a run that was killed. Each step stands
alone and may find nothing, so that an interrupted clean-up is simply repeated.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from local_cluster import cgroups, firewall, network, settings
from local_cluster.paths import ClusterPaths
from local_cluster.processes import Process, ProcessRecord, alive, end, marked
from local_cluster.record import ClusterRecord

# Fixed places where kubelet and containerd leave something, whatever their root folders are.
SHARED_FOLDERS = (
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/plugins_registry",
    "/var/lib/kubelet",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/run/containerd/s",
    "/run/containerd/fifo",
    "/run/containerd",
    "/run/modelmill",
)


def absent_folders() -> list[str]:
    return [folder for folder in SHARED_FOLDERS if not Path(folder).exists()]


def stop_processes(paths: ClusterPaths, with_node: bool) -> None:
    """End every process of the cluster; the pods' as well. Data stays."""
    record = ProcessRecord(paths)
    # First those that would start others again.
    first = [process for name, process in record.read().items() if name in ("kubelet", "containerd")]
    end(first, patience=0)
    while True:
        rest: set[Process] = {process for process in record.read().values() if alive(process)}
        rest.update(marked(paths.state))
        if with_node:
            rest.update(cgroups.processes(paths.name))
        if not rest:
            break
        # SIGKILL: etcd and containerd stand it (their logs are written ahead), and a graceful end of the API
        # server waits up to a minute for watches.
        end(rest, patience=0)
    record.forget()


def remove_node_traces(paths: ClusterPaths, record: ClusterRecord) -> None:
    """What the node left in the kernel and under /run. Mounts and namespaces went with the last process."""
    cgroups.remove(paths.name)
    network.remove_bridge(paths.name)
    firewall.remove(record.foreign_chains)
    for socket in shim_sockets(paths.run):
        socket.unlink(missing_ok=True)
    _remove_log_links(Path("/var/log/containers"), paths.state)
    shutil.rmtree(paths.run, ignore_errors=True)


def restore_machine(record: ClusterRecord) -> None:
    settings.restore(record.former_settings)
    for folder in record.absent_folders:
        _remove_if_unused(Path(folder))


def shim_sockets(run: Path) -> Iterable[Path]:
    """Sockets of containerd's shims: in a folder that all containerds of a machine share, named in each
    task's folder."""
    for address in run.glob("containerd/io.containerd.runtime.v2.task/*/*/address"):
        place = address.read_text().strip()
        if place.startswith("unix://"):
            yield Path(place[len("unix://") :])


def _remove_log_links(folder: Path, state: Path) -> None:
    # kubelet links each container's log here for log collectors; the place is fixed.
    if folder.is_dir():
        for link in folder.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(f"{state}/"):
                link.unlink()


def _remove_if_unused(folder: Path) -> None:
    """A folder that the cluster's programs made: empty, or with nothing but dead sockets and state files of
    kubelet."""
    if not folder.is_dir():
        return
    if str(folder).startswith(("/var/lib/kubelet", "/var/lib/cni")):
        shutil.rmtree(folder, ignore_errors=True)
        return
    # Unless somebody else uses it by now.
    with contextlib.suppress(OSError):
        folder.rmdir()
