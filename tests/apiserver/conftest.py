"""A real API server without nodes, our CRDs in it, and operator processes on this machine."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live import ROOT, Kubectl, environment, eventually, kubeconfig

CLUSTER = os.environ.get("MODELMILL_API_CLUSTER", "modelmill-api")
LEASE_NAMESPACE = "modelmill-system"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def config() -> str:
    path = kubeconfig(CLUSTER)
    kubectl = Kubectl(path)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    kubectl.run("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=modelmill")
    if kubectl.run("get", "namespace", LEASE_NAMESPACE, check=False).returncode:
        kubectl.run("create", "namespace", LEASE_NAMESPACE)
    return path


@pytest.fixture(scope="session")
def installed(config: str) -> Kubectl:
    """kubectl in the operator's namespace; everything in manifests/ is there, but no node runs the operator's pod."""
    kubectl = Kubectl(config, LEASE_NAMESPACE)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests"))
    return kubectl


@pytest.fixture
def kubectl(config: str) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace, which goes away afterwards."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    Kubectl(config).run("create", "namespace", name)
    yield Kubectl(config, name)
    Kubectl(config).run("delete", "namespace", name, "--wait=false")


class Operator:
    """One operator process."""

    def __init__(self, config: str, folder: Path, name: str, *more: str) -> None:
        self.log = folder / f"{name}.log"
        self._command = [
            *(sys.executable, "-m", "modelmill", "--trainer-image=trainer:test", "--server-image=server:test"),
            *("--host=127.0.0.1", "--port=0", f"--lease-name={name}", *more),
        ]
        self._environment = environment(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Operator":
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=out, stderr=out)
        return self

    def active(self, seconds: float = 40) -> "Operator":
        """Wait until it holds the lease."""
        count = self.text().count("this replica is active now")
        assert count or eventually(lambda: "this replica is active now" in self.text(), "active", seconds, self.text)
        return self

    def text(self) -> str:
        return self.log.read_text()

    def check_log(self) -> None:
        """No error that nobody expected."""
        text = self.text()
        assert "Traceback" not in text, text
        assert '"level": "error"' not in text, text
        assert "this is a bug" not in text, text

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """Ask it to end; the seconds that took."""
        assert self.process
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return time.monotonic() - begun


@pytest.fixture
def operator(config: str, kubectl: Kubectl, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators for this test's namespace; their logs may hold no error that nobody expected."""
    running: list[Operator] = []

    def start(name: str | None = None, *more: str) -> Operator:
        lease = name or f"{kubectl.namespace}-{len(running)}"
        made = Operator(config, tmp_path, lease, f"--namespace={kubectl.namespace}", *more)
        running.append(made)
        return made.start()

    yield start
    for made in running:
        if made.process and made.process.poll() is None:
            made.kill()
    for made in running:
        made.check_log()
