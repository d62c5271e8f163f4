"""An outage of the control plane under a running operator, which is restarted as kubelet would."""

import threading
import time
from typing import Self

from audit import OPERATOR, Writes
from conftest import Operator
from control_plane import killed

from live import API_VERSION, Kubectl

FIRST_PAUSE = 10.0  # kubelet's: the first restart is at once, then the pauses double


class Kubelet:
    """Restarts one operator when it ends, as a pod's container is."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.restarts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(0.1):
            assert self._operator.process
            if self._operator.process.poll() is not None and not self._ended.wait(pause):
                pause = max(FIRST_PAUSE, 2 * pause)
                self.restarts += 1
                self._operator.start()


def survive(config: str, kubectl: Kubectl, operator: Operator, component: str, seconds: float) -> str:
    """Kill a component for so many seconds; what was measured until a new object is reconciled."""
    operator.expected = ("the lease ran out", "the lease is lost")
    written = Writes(config, OPERATOR, kubectl.namespace)
    kubectl.apply(_model("before"))
    kubectl.wait_for("mdl", "before", "Ready")
    with Kubelet(operator) as kubelet:
        lines = len(operator.text().splitlines())
        with killed(config, component, seconds):
            pass
        ready = time.monotonic()
        said = len(operator.text().splitlines()) - lines
        kubectl.apply(_model("after"))
        kubectl.wait_for("mdl", "after", "Ready", seconds=120)
        took = time.monotonic() - ready
    assert [write.name for write in written() if write.verb == "patch" and write.code < 300] == ["before", "after"]
    assert took < (10 if seconds <= 10 else 60), took
    assert kubelet.restarts <= 1, operator.text()
    # Each of two dozen kinds and the lease may say that it tries again, the more seldom the longer, and that it can.
    assert said < 120 + 4 * seconds, operator.text()
    return f"{component} away for {seconds:.0f} s: reconciling {took:.1f} s after it is ready, {kubelet.restarts} restart(s), {said} lines in the log"  # noqa: E501


def _model(name: str) -> dict[str, object]:
    return {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": name}}
