"""Processes of the local cluster's node: what a pod runs, and Kubernetes' own components.

The node is this machine, so they are found and killed as a crash would kill them, which no API does.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from live import ROOT, eventually

_HACK = ROOT / "hack"


def of_pod(uid: str, word: str) -> int:
    """The process in a pod's containers whose command has this word, the first that was started."""
    names = (uid, uid.replace("-", "_"))
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                groups, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
                if any(name in groups for name in names) and word.encode() in command.split(b"\0"):
                    found.append(int(folder.name))
    assert found, f"no process of pod {uid} has {word} in its command"
    return min(found)


def kill(pid: int) -> None:
    """As the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


def component(config: str, name: str) -> int:
    """The process of a component of the local cluster of that kubeconfig."""
    pid = int(json.loads((Path(config).parent / "processes.json").read_text())[name]["pid"])
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    assert Path(os.fsdecode(command)).name == name, f"process {pid} is {command!r}, not {name}"
    return pid


def restart(config: str, name: str) -> float:
    """Kill a component, and start it again as it was; for how many seconds it was away."""
    if str(_HACK) not in sys.path:
        sys.path.insert(0, str(_HACK))
    from local_cluster.paths import ClusterPaths
    from local_cluster.processes import ProcessRecord

    pid = component(config, name)
    command = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    record = ProcessRecord(ClusterPaths(Path(config).parent.name))
    kill(pid)
    begun = time.monotonic()
    eventually(lambda: not record.running(name), f"{name} is gone", 10)
    record.start(name, command)
    time.sleep(2)  # it writes its rules anew
    assert record.running(name), f"{name} does not run again"
    return time.monotonic() - begun - 2


def has_node(config: str) -> bool:
    """Whether the node's processes are this machine's."""
    record = Path(config).parent / "processes.json"
    return record.exists() and "kubelet" in json.loads(record.read_text())


def tell(pid: int) -> None:
    """What a program of a test's takes for its word."""
    os.kill(pid, signal.SIGUSR1)
