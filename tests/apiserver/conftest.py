"""A real API server without nodes, our CRDs in it, and operator processes on this machine."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import asleep
from lives import Place

from live import ROOT, Kubectl, client, environment, eventually, kubeconfig

CLUSTERS = os.environ.get("MODELMILL_API_CLUSTERS", "modelmill-api").split()
LEASE_NAMESPACE = "modelmill-system"
_LONG = ("test_crash_points.py", "test_status_contract.py")
_ACTIVE = "this replica is active now"
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long by itself is first: else one process would wait for it while the others are through."""
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(scope="session")
def config(worker_id: str) -> str:
    """The kubeconfig of an API server of this process' own: tests kill theirs, and change its kinds."""
    path = kubeconfig(CLUSTERS[int(worker_id.removeprefix("gw")) % len(CLUSTERS) if worker_id != "master" else 0])
    kubectl = Kubectl(path)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    kubectl.established("-l", "app.kubernetes.io/part-of=modelmill")
    if kubectl.run("get", "namespace", LEASE_NAMESPACE, check=False).returncode:
        kubectl.run("create", "namespace", LEASE_NAMESPACE)
    return path


@pytest.fixture(scope="session")
def installed(config: str) -> Kubectl:
    """kubectl in the operator's namespace; everything in manifests/ is there, but no node runs the operator's pod."""
    kubectl = Kubectl(config, LEASE_NAMESPACE)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests"))
    return kubectl


@contextmanager
def fresh_namespace(config: str) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace, which goes away afterwards."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    client(config).create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield Kubectl(config, name)
    finally:
        client(config).delete("namespace", name)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says what was measured; on stderr, as that of a process of several is the terminal, too."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", file=sys.stderr, flush=True)

    return say


@pytest.fixture
def kubectl(config: str) -> Iterator[Kubectl]:
    with fresh_namespace(config) as found:
        yield found


class Operator:
    """One operator process."""

    def __init__(self, config: str, folder: Path, name: str, *more: str, pod: str | None = None) -> None:
        """`name` is the lease's; operators with the same `pod` are a container and its restarts."""
        self.log = folder / f"{pod or name}.log"
        self.port = _free_port()
        self.expected: tuple[str, ...] = ()  # what errors in its log may say
        self._command = [
            *(sys.executable, "-m", "modelmill", "--trainer-image=trainer:test", "--server-image=server:test"),
            *("--host=127.0.0.1", f"--port={self.port}", f"--lease-name={name}", *more),
        ]
        self._environment = environment(config) | ({"POD_UID": pod} if pod else {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Operator":
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=out, stderr=out)
        return self

    def active(self, seconds: float = 40) -> "Operator":
        """Wait until it holds the lease."""
        assert _ACTIVE in self.text() or eventually(lambda: _ACTIVE in self.text(), "active", seconds, self.text)
        return self

    def text(self) -> str:
        return self.log.read_text()

    def check_log(self) -> None:
        """No error that nobody expected."""
        text = self.text()
        assert "Traceback" not in text, text
        assert "this is a bug" not in text, text
        errors = [line for line in text.splitlines() if '"level": "error"' in line]
        assert not [line for line in errors if not any(part in line for part in self.expected)], text

    def ready(self) -> tuple[int, str]:
        """What /readyz says: the code, 0 where nobody answers, and the text."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def standby(self) -> "Operator":
        """Wait until it could take over."""
        eventually(lambda: self.ready() == (200, "ok, standby\n"), "standby", 40, self.text)
        return self

    def available(self) -> None:
        """Wait until it does its work, or could: what a Deployment's controller waits for before it stops another."""
        eventually(lambda: self.ready()[0] == 200, "ready", 40, self.text)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def reborn(self) -> float:
        """Kill it, start it again, and the seconds until it is active."""
        actives = self.text().count(_ACTIVE)
        self.kill()
        begun = time.monotonic()
        self.start()
        while self.text().count(_ACTIVE) == actives:
            assert time.monotonic() - begun < 30, self.text()
            time.sleep(0.05)
        return time.monotonic() - begun

    def stop(self) -> float:
        """Ask it to end; the seconds that took."""
        assert self.process
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - begun


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@contextmanager
def operators(config: str, kubectl: Kubectl, folder: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators for the namespace of `kubectl`; their logs may hold no error that nobody expected."""
    running: list[Operator] = []

    def start(name: str | None = None, *more: str, pod: str | None = None) -> Operator:
        lease = name or f"{kubectl.namespace}-{len(running)}"
        made = Operator(config, folder, lease, f"--namespace={kubectl.namespace}", *more, pod=pod)
        running.append(made)
        return made.start()

    try:
        yield start
    finally:
        for made in running:
            if made.process and made.process.poll() is None:
                made.kill()
    for made in running:
        made.check_log()


@pytest.fixture
def operator(config: str, kubectl: Kubectl, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    with operators(config, kubectl, tmp_path) as start:
        yield start


@dataclass(frozen=True)
class StatusReaders:
    """The code with which other tools read a status: see hack/go/status-readers/main.go."""

    program: Path
    helm: Path
    health_checks: Path  # what manifests/argocd gives Argo CD

    def read(self, manifests: Iterable[Any]) -> list[dict[str, dict[str, str]]]:
        """For each object what kstatus, Helm and Argo CD make of it: {reader: {"status", "message"}}."""
        lines = "".join(json.dumps(manifest) + "\n" for manifest in manifests)
        command = [str(self.program), str(self.health_checks)]
        result = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="session")
def status_readers(config: str, tmp_path_factory: pytest.TempPathFactory) -> StatusReaders:
    sys.path.insert(0, str(ROOT / "hack"))
    from local_cluster import build

    built = build.status_readers()
    health_checks = tmp_path_factory.mktemp("argocd") / "argocd-cm.json"
    rendered = yaml.safe_load(Kubectl(config).output("kustomize", str(ROOT / "manifests/argocd")))
    health_checks.write_text(json.dumps(rendered))
    return StatusReaders(built.program("status-readers"), built.program("helm"), health_checks)


@pytest.fixture
def place(config: str) -> Iterator[Place]:
    """Kubernetes' own controllers sleep there: the lives play them."""
    made = Place(config)
    with asleep(config, "kube-controller-manager"):
        yield made
    Kubectl(config).run("delete", "namespace", *made.namespaces, "--wait=false")
