"""The processes of the test's own cluster: put to sleep, killed, started again."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from live import ROOT


def _process(config: str, component: str) -> int:
    """The id of a component of the local cluster of that kubeconfig."""
    record = Path(config).parent / "processes.json"
    pid = int(json.loads(record.read_text())[component]["pid"])
    # An id alone may be another process' by now.
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    assert Path(os.fsdecode(command)).name == component, f"process {pid} is {command!r}, not {component}"
    return pid


@contextlib.contextmanager
def asleep(config: str, component: str) -> Iterator[None]:
    """The component does nothing meanwhile."""
    pid = _process(config, component)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def killed(config: str, component: str, seconds: float) -> Iterator[None]:
    """The component is killed, and after so many seconds at the least the cluster is up and ready again."""
    os.kill(_process(config, component), signal.SIGKILL)
    begun = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
    finally:
        name = Path(config).parent.name
        command = [str(ROOT / "hack/cluster"), "up", "--name", name, "--without-nodes"]
        subprocess.run(command, check=True, capture_output=True)
