"""One measurement: a load generator on its own CPU, and what it and /proc say about the server."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench import processes
from tests.bench.bodies import Workload
from tests.bench.processes import HERE, LOAD, ROOT, Server

PATH = "/v2/models/model/infer"
_SETTLE_SECONDS = 3.0


class Run(NamedTuple):
    rate: float  # requests/s
    p50: float  # us
    p99: float
    cpu: float  # us of the server's CPU per request
    late: float = 0.0  # us that the generator itself was late, see `open_loop`
    requests: int = 0
    system: float = 0.0  # us of `cpu` that are the kernel's


def closed(server: Server, workload: Workload, file: Path, seconds: int, connections: int | None = None) -> Run:
    """As fast as the server answers: each connection (or stream of gRPC's one connection) asks when it was answered."""
    connections = connections or workload.connections
    if workload.form == "grpc":
        load = [sys.executable, "-m", "tests.bench.grpc_load", str(server.port + 1), str(file)]
        command = [*load, f"--streams={connections}", f"--seconds={seconds}"]
    else:
        url = f"http://127.0.0.1:{server.port}{PATH}"
        wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s", "-s", str(HERE / "predict.lua")]
        command = [*wrk, url, "--", str(file)]
    return _measured(server, command)


def constant(server: Server, file: Path, rate: float, seconds: int) -> Run:
    """`rate` requests/s, whatever the server does."""
    load = [sys.executable, "-m", "tests.bench.open_loop", str(server.port), str(file)]
    return _measured(server, [*load, f"--rate={rate:.0f}", f"--seconds={seconds}"])


def _measured(server: Server, command: list[str]) -> Run:
    settle(server)
    before = processes.cpu(server.pid)
    done = subprocess.run(processes.pinned(LOAD, command), check=False, capture_output=True, text=True, cwd=ROOT)
    after = processes.cpu(server.pid)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    requests = result["requests"]
    if result.get("errors") or not requests:
        raise SystemExit(f"port {server.port}: {result.get('errors')} requests of {requests} failed:\n{done.stdout}")
    used = (after.total - before.total) / requests * 1e6
    system = (after.system - before.system) / requests * 1e6
    late = result.get("late", 0.0) * 1e3
    return Run(requests / result["seconds"], result["p50"] * 1e3, result["p99"] * 1e3, used, late, requests, system)


def settle(server: Server) -> None:
    """Wait until the server has done with what a former load left behind when it ended."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = processes.cpu(server.pid).total
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = processes.cpu(server.pid).total
        if now - before < 0.015:
            return
        before = now
