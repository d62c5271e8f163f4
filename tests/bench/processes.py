"""Servers as processes: started, pinned to a CPU, asked whether they are ready, and what they cost (/proc)."""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.models import Model

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SERVERS, LOAD = 0, 1  # which CPU
_START_SECONDS = 90


class Server(NamedTuple):
    """gRPC is at the next port, metrics at the one after that."""

    port: int
    pid: int


class Cpu(NamedTuple):
    """Seconds in the program and in the kernel for it."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system


def ours(model: Model, port: int, module: str = "modelmill_server") -> list[str]:
    """The command that serves `model` as in a pod: verified, with all limits, checks and counters."""
    serve = [sys.executable, "-m", module, "serve", str(model.artifact), "--digest", model.digest, "--name=model"]
    return [*serve, f"--port={port}", f"--grpc-port={port + 1}", f"--metrics-port={port + 2}", "--drain-seconds=0"]


def echo(port: int) -> list[str]:
    return [sys.executable, "-P", str(HERE / "echo.py"), str(port)]


def forwarder(port: int, to: int) -> list[str]:
    return [sys.executable, "-P", str(HERE / "forwarder.py"), str(port), str(to)]


def prototype(model: Model, port: int) -> list[str]:
    return [sys.executable, "-P", str(HERE / "prototype.py"), str(model.artifact / "model.onnx"), str(port)]


def pinned(cpu: int, command: Sequence[str]) -> list[str]:
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[cpu]), *command] if len(cpus) > 1 else list(command)


@contextmanager
def running(command: Sequence[str], port: int, cpu: int = SERVERS) -> Iterator[Server]:
    """The server, ready; it is stopped at the end."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(pinned(cpu, command), stdout=output, stderr=output, cwd=ROOT)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise SystemExit(f"{' '.join(command)} does not serve:\n{output.read().decode()[-2000:]}")
                time.sleep(0.005)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # a peer that does not stop
                process.kill()
                process.wait()


def start_seconds(model: Model, port: int) -> float:
    """From the start of our process to its first 200 of /v2/health/ready."""
    began = time.perf_counter()
    with running(ours(model, port), port):
        return time.perf_counter() - began


def ask(port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The status and content of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _is_ready(port: int) -> bool:
    try:
        return ask(port, "/v2/health/ready")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def cpu(pid: int) -> Cpu:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return Cpu(int(fields[11]) / tick, int(fields[12]) / tick)


def run_nanoseconds(pid: int) -> int:
    """On a CPU, in the program and in the kernel for it, by the scheduler's clock: `cpu` counts in ticks of 10 ms."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def resident(pid: int) -> float:
    """MB (10^6 bytes)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0
