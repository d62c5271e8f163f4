"""The operator's own cost: 100 ModelDeployments on an API server without nodes: `python -m tests.bench.control_plane`.

Counts first: requests by verb, from the operator's own metrics; then memory and CPU, from /proc.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import document
from tests.live import API_VERSION, ROOT, Kubectl, environment, eventually, kubeconfig

CLUSTER = "modelmill-api"
NAMESPACE = "bench-operator"
OBJECTS = 100
CLOCK = 100  # jiffies a second: USER_HZ is 100 on every Linux


class Operator:
    """A running operator process and what it says of itself."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def proc(self, field: str) -> int:
        """A field of /proc/PID/status in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith(f"{field}:")]
        return round(int(line.split()[1]) / 1024)

    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK

    def requests(self) -> dict[str, int]:
        """Requests to the API server by verb and kind, the lease's own left out."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        counts: dict[str, int] = {}
        for line in lines:
            if line.startswith("modelmill_operator_api_requests_total{") and 'kind="Lease"' not in line:
                labels = dict(part.split("=") for part in line.partition("{")[2].partition("}")[0].split(","))
                key = f"{labels['verb'].strip(chr(34))} {labels['kind'].strip(chr(34))}"
                counts[key] = counts.get(key, 0) + round(float(line.rsplit(" ", 1)[1]))
        return counts


@contextmanager
def operator(config: str, folder: str, lease: str) -> Iterator[Operator]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "modelmill", "--trainer-image=trainer:bench", "--server-image=server:bench"),
        *("--host=127.0.0.1", f"--port={port}", f"--lease-name={lease}"),
    ]
    log = Path(folder) / f"{lease}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(config), stdout=out, stderr=out)
    try:
        eventually(lambda: "this replica is active now" in log.read_text(), "the operator is active", 60, log.read_text)
        yield Operator(process, port, log)
    finally:
        process.kill()
        process.wait()


def quiet(running: Operator, seconds: int = 10) -> None:
    """Wait until the operator has asked for nothing for so many seconds: the scheduler looks at 100 pods in turn."""
    before, since = running.requests(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(1)
        now = running.requests()
        if now != before:
            before, since = now, time.monotonic()


def deployments() -> list[dict[str, Any]]:
    model = {"uri": "s3://models/artifacts/bench", "digest": "sha256:" + "1" * 64}
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ModelDeployment",
            "metadata": {"name": f"bench-{number}"},
            "spec": {"model": model},
        }
        for number in range(OBJECTS)
    ]


def store(kubectl: Kubectl) -> None:
    """A Workspace, whose preflight we answer for the kubelet that is not there."""
    spec = {"store": {"uri": "s3://models", "endpoint": "http://store:7070"}}
    kubectl.apply({"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": "default"}, "spec": spec})
    selector = "batch.kubernetes.io/job-name=default-preflight"
    (pod,) = eventually(lambda: kubectl.list("pods", selector), "the preflight's pod")
    said = {"ok": True, "reason": "StoreReady", "result": {"type": "Preflight", "checked": []}}
    ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(said)}
    container = {"name": "trainer", "ready": False, "restartCount": 0, "image": "i", "imageID": "i"}
    status = {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
    patch = json.dumps({"status": status})
    kubectl.run("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)
    kubectl.wait_for("wsp", "default", "Ready")


def settled(kubectl: Kubectl) -> bool:
    found = kubectl.list("mdep")
    return len(found) == OBJECTS and all(
        m.get("status", {}).get("candidate") or m.get("status", {}).get("stable") for m in found
    )


def main() -> None:
    subprocess.run([ROOT / "hack/cluster", "up", "--name", CLUSTER, "--without-nodes"], check=True)
    config = kubeconfig(CLUSTER)
    system = Kubectl(config)
    system.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    for namespace in (NAMESPACE, "modelmill-system"):
        if system.run("get", "namespace", namespace, check=False).returncode:
            system.run("create", "namespace", namespace)
    kubectl = Kubectl(config, NAMESPACE)
    try:
        with tempfile.TemporaryDirectory() as folder:
            with operator(config, folder, "bench-a") as first:
                store(kubectl)
                empty, before, cpu = first.proc("VmRSS"), first.requests(), first.cpu()
                begun = time.monotonic()
                kubectl.apply(*deployments())
                eventually(lambda: settled(kubectl), "every child and status", 120)
                seconds, time_to_settle = first.cpu() - cpu, time.monotonic() - begun
                quiet(first)
                writes = {k: v - before.get(k, 0) for k, v in first.requests().items() if v != before.get(k, 0)}
                memory, peak = first.proc("VmRSS"), first.proc("VmHWM")
            with operator(config, folder, "bench-b") as second:
                time.sleep(10)
                again = {k: v for k, v in second.requests().items() if k.split()[0] not in ("get", "list", "watch")}
                restarted = second.proc("VmHWM")
    finally:
        system.run("delete", "namespace", NAMESPACE)
    listed = ", ".join(
        f"{count} {what}" for what, count in sorted(writes.items()) if not what.startswith(("list", "watch"))
    )
    document.update(
        "operator",
        f"""{OBJECTS} ModelDeployments of one replica, created at once on an API server without nodes.
{document.machine()}

| what | measured | target |
|---|---|---|
| memory with {OBJECTS} ModelDeployments (at most / at rest) | {peak} / {memory} MiB | < 120 MB |
| memory with none | {empty} MiB | |
| memory after a restart with all in place, at most | {restarted} MiB | < 120 MB |
| until every child and status is written (with kubectl's own time) | {time_to_settle:.1f} s | |
| the operator's CPU for that | {seconds:.2f} s | |
| requests to the API server for that | {listed} | |
| requests but reads after a restart with all in place | {again or "none"} | none |""",
    )


if __name__ == "__main__":
    main()
