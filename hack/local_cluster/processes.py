"""The cluster's processes: start them apart from this one, know them again, and end exactly those.

A process id is reused sooner or later, so an id alone is never trusted. Each process is recorded with its
start time, and carries the cluster's state folder in its environment, which its children inherit: what
containerd's shims are is found by that mark, also when the record was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_cluster.commands import Argument, search_path
from local_cluster.console import ClusterError
from local_cluster.paths import ClusterPaths

MARK = "MODELMILL_CLUSTER_STATE"
PATIENCE_WITH_THE_KERNEL = 20.0


@dataclass(frozen=True)
class Process:
    pid: int
    # Field 22 of /proc/<pid>/stat, in clock ticks since the boot, with the boot's id: unique for the life of
    # the machine.
    start: str


def start_time(stat: str, boot: str) -> str | None:
    """The start of a process from its /proc/<pid>/stat; None for one that is dead and only waits for its
    parent."""
    # The second field, the command, may itself hold blanks and brackets: what counts begins after the last
    # bracket.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    state, threads, start = fields[0], int(fields[17]), fields[19]
    # A killed program's first thread is a zombie at once; while others are on their way out, its ports are
    # still taken.
    if state in ("Z", "X") and threads <= 1:
        return None
    return f"{boot}:{start}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Process | None:
    """The live process of an id, or None."""
    try:
        start = start_time(Path(f"/proc/{pid}/stat").read_text(), _boot())
    except OSError:
        return None
    return Process(pid, start) if start else None


def alive(process: Process) -> bool:
    return identify(process.pid) == process


class ProcessRecord:
    """The recorded processes of a cluster, by component name, in its state folder."""

    def __init__(self, paths: ClusterPaths) -> None:
        self._paths = paths
        self._file = paths.state / "processes.json"

    def read(self) -> dict[str, Process]:
        try:
            entries = json.loads(self._file.read_text())
            return {name: Process(entry["pid"], entry["start"]) for name, entry in entries.items()}
        except (OSError, ValueError, KeyError):
            return {}  # absent, or cut off by a crash: the mark finds the processes all the same

    def _write(self, processes: Mapping[str, Process]) -> None:
        text = json.dumps({name: {"pid": item.pid, "start": item.start} for name, item in processes.items()}, indent=1)
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(text)
        unfinished.rename(self._file)

    def start(self, name: str, argv: Sequence[Argument], env: Mapping[str, str] | None = None) -> None:
        """Start a component in a session of its own, its output in logs/<name>.log, the former output in
        .log.1."""
        self._paths.logs.mkdir(parents=True, exist_ok=True)
        log = self._paths.logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        environment = {**os.environ, **(env or {}), "PATH": search_path(), MARK: str(self._paths.state)}
        # Shells and Go programs read these; a component must not follow the user's own cluster or proxy.
        for variable in (
            "KUBECONFIG",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ):
            environment.pop(variable, None)
        with log.open("wb") as output:
            child = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        process = identify(child.pid)
        if process is None:
            raise self.died(name)
        self._write({**self.read(), name: process})

    def running(self, name: str) -> bool:
        # A child of ours that ended stays a zombie until it is waited for; `identify` counts it as dead.
        process = self.read().get(name)
        return process is not None and alive(process)

    def died(self, name: str) -> ClusterError:
        log = self._paths.logs / f"{name}.log"
        try:
            tail = "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-12:])
        except OSError:
            tail = ""
        return ClusterError(f"{name} ended right after its start. The end of {log}:\n{tail}")

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []  # ended meanwhile


def marked(state: Path) -> list[Process]:
    """All processes that carry the mark of a cluster's state folder in their environment."""
    wanted = f"{MARK}={state}".encode()
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if pid != os.getpid() and wanted in _environment(pid):
            process = identify(pid)
            if process is not None:
                found.append(process)
    return found


def end(processes: Iterable[Process], patience: float) -> None:
    """SIGTERM, then SIGKILL for what is still there after `patience` seconds (0: SIGKILL at once)."""
    deaf = _signalled(processes, signal.SIGTERM, patience) if patience else processes
    remaining = _signalled(deaf, signal.SIGKILL, PATIENCE_WITH_THE_KERNEL)
    if remaining:
        ids = ", ".join(str(item.pid) for item in remaining)
        raise ClusterError(f"the processes {ids} do not end, not even by SIGKILL: is a disk or mount hanging?")


def _signalled(processes: Iterable[Process], number: signal.Signals, seconds: float) -> list[Process]:
    """Signal all that are alive and wait for their end; those that are still there when the time is up."""
    remaining = [item for item in processes if alive(item)]
    for item in remaining:
        # The identity was checked right before: that is as near as a pid can be trusted.
        with contextlib.suppress(ProcessLookupError):
            os.kill(item.pid, number)
    deadline = time.monotonic() + seconds
    while remaining and time.monotonic() < deadline:
        _reap()
        remaining = [item for item in remaining if alive(item)]
        if remaining:
            time.sleep(0.02)
    return remaining


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
