"""The controllers that are compared: how each is started, what it is given to do, and what it costs (/proc)."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.go_module import folder_of
from tests.live import API_VERSION, ROOT, environment

sys.path.insert(0, str(ROOT / "hack"))  # hack/cluster is a program of its own, outside of the distribution
from local_cluster import build
from local_cluster.versions import component

CLOCK = 100  # jiffies a second: USER_HZ is 100 on every Linux
ARGO = component("argo-rollouts")


@dataclass(frozen=True)
class Contender:
    """A controller, its kind, and the child in which an edit of spec.replicas arrives."""

    title: str
    agents: tuple[str, ...]  # how its user agents begin in the audit log
    plural: str
    crds: Path
    namespace: str  # where its lease is
    edited: str  # the path prefix and plural of that child
    spec: Callable[[str], dict[str, Any]]  # of the object of that name
    kind: str
    api_version: str

    def collection(self, namespace: str) -> str:
        return f"/apis/{self.api_version}/namespaces/{namespace}/{self.plural}"

    def manifests(self, count: int) -> list[dict[str, Any]]:
        head = {"apiVersion": self.api_version, "kind": self.kind}
        return [{**head, "metadata": {"name": f"bench-{n}"}, "spec": self.spec(f"bench-{n}")} for n in range(count)]

    def command(self, ports: tuple[int, int]) -> list[str]:
        """Default flags; only the ports are chosen, as others may have the usual ones."""
        if self is OURS:
            images = ("--trainer-image=trainer:bench", "--server-image=server:bench")
            return [sys.executable, "-m", "modelmill", *images, "--host=127.0.0.1", f"--port={ports[0]}"]
        build.ensure_built((ARGO.name,))
        program = str(ARGO.program("rollouts-controller"))
        return [program, f"--metricsPort={ports[0]}", f"--healthzPort={ports[1]}"]


OURS = Contender(
    title="Modelmill",
    agents=("modelmill", "kopf"),
    plural="modeldeployments",
    crds=ROOT / "crds",
    namespace="modelmill-system",
    edited="deployments",
    spec=lambda _: {"model": {"uri": "s3://models/artifacts/bench", "digest": "sha256:" + "1" * 64}, "replicas": 1},
    kind="ModelDeployment",
    api_version=API_VERSION,
)


def _rollout(name: str) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "server", "image": "registry.k8s.io/pause:3.10"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"canary": {}}, "template": template}


def argo_rollouts() -> Contender:
    """Argo Rollouts, built from its Go module: a canary without steps, the plainest that it does."""
    return Contender(
        title=f"Argo Rollouts {ARGO.version}",
        agents=("rollouts-controller",),
        plural="rollouts",
        crds=folder_of("argo-rollouts", "github.com/argoproj/argo-rollouts") / "manifests/crds",
        namespace="argo-rollouts",
        edited="replicasets",
        spec=_rollout,
        kind="Rollout",
        api_version="argoproj.io/v1alpha1",
    )


class Program:
    """A running controller."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def memory(self, field: str) -> float:
        """VmRSS (now) or VmHWM (the most so far), in MB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith(f"{field}:")]
        return int(line.split()[1]) * 1024 / 1e6

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        """CPU seconds so far; an error where it ended by itself."""
        return cpu_of(self._process.pid)


@contextmanager
def running(contender: Contender, config: str, log: Path) -> Iterator[Program]:
    """The controller as a process of its own; killed at the end."""
    with log.open("ab") as out:
        command = contender.command(_free_ports())
        process = subprocess.Popen(command, env=environment(config), stdout=out, stderr=out)
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class Machine:
    """Who had the CPUs since this was made: what is measured, or others, whose share spoils the times."""

    def __init__(self, cluster: str, program: Program) -> None:
        self._mark = f"/clusters/{cluster}/".encode()
        self._own = program.pid
        self._begun = (time.monotonic(), _busy(), self._measured())

    def others(self) -> float:
        """The share of all CPU time that processes took which have nothing to do with the measurement."""
        since, busy, measured = self._begun
        taken = (_busy() - busy) - (self._measured() - measured)
        return max(0.0, taken) / ((time.monotonic() - since) * (os.cpu_count() or 1))

    def _measured(self) -> float:
        """CPU seconds so far of the control plane, the controller and this program."""
        pids = [self._own, os.getpid()]
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended
                if self._mark in (folder / "cmdline").read_bytes():
                    pids.append(int(folder.name))
        return sum(cpu_of(pid) for pid in set(pids))


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise RuntimeError(f"the process {pid} ended by itself")
    return (int(fields[11]) + int(fields[12])) / CLOCK


def _busy() -> float:
    """CPU seconds of the whole machine so far, neither idle nor waiting."""
    user, nice, system, _, _, irq, softirq = (int(f) for f in Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / CLOCK


def await_quiet_machine(seconds: float, below: float = 0.1) -> None:
    """Wait until others leave the CPUs alone for ten seconds, but no longer than that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = _busy()
        time.sleep(10)
        if (_busy() - before) / (10 * (os.cpu_count() or 1)) < below:
            return
