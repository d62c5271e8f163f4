"""The model server against MLServer and against a bare echo: `python -m tests.bench.server`.

All servers run at once, pinned to the first CPU; wrk is pinned to the second one and asks them in turn, round
after round, so that whatever else the machine does meets all of them.  Ratios are of the same round.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.bench import document, mlserver_peer

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OURS, PEER, ECHO = "modelmill-server", f"MLServer {mlserver_peer.VERSION}", "bare uvicorn echo"
PATH = "/v2/models/model/infer"
CONNECTIONS = 32
STARTS = 5


class Run(NamedTuple):
    rate: float  # requests/s
    p50: float  # ms
    p99: float
    cpu: float  # us of the server's CPU per request


class Server(NamedTuple):
    port: int
    pid: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (%(default)s)")
    parser.add_argument("--no-update", action="store_true", help="leave docs/BENCHMARKS.md alone")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        artifact, digest = _artifact(Path(folder) / "artifact")
        ours = _our_command(artifact, digest)
        starts = [_start_seconds(ours) for _ in range(STARTS)]
        servers = {
            OURS: stack.enter_context(_running(ours(18600), 18600)),
            PEER: stack.enter_context(_running(mlserver_peer.prepare(Path(folder) / "mlserver", 18610), 18610)),
            ECHO: stack.enter_context(_running([sys.executable, "-P", str(HERE / "echo.py"), "18620"], 18620)),
        }
        _require_same_answers(servers[OURS], servers[PEER])
        for server in servers.values():
            _load(server, CONNECTIONS, 1.0)
        many, one = _rounds(servers, options.rounds, options.seconds)
        calls = _grpc_rounds({name: servers[name] for name in (OURS, PEER)}, options.rounds, options.seconds)
        resident = {name: _resident(server.pid) for name, server in servers.items()}
    report = _report(many, one, starts, resident, options.rounds, options.seconds) + _grpc_report(calls)
    if options.no_update:
        print(report)
    else:
        document.update("server", report)


def _rounds(
    servers: dict[str, Server], rounds: int, seconds: float
) -> tuple[dict[str, list[Run]], dict[str, list[Run]]]:
    many: dict[str, list[Run]] = {name: [] for name in servers}
    one: dict[str, list[Run]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, server in servers.items():
            many[name].append(_load(server, CONNECTIONS, seconds))
        for name, server in servers.items():
            one[name].append(_load(server, 1, seconds))
        rates = ", ".join(f"{name} {many[name][-1].rate:,.0f}/s" for name in servers)
        print(f"round {number + 1} of {rounds}: {rates}", flush=True)
    return many, one


def _artifact(folder: Path) -> tuple[Path, str]:
    sys.path.insert(0, str(ROOT / "tests" / "unit" / "server"))
    import artifacts

    made = artifacts.cancer(folder)
    return made.folder, made.digest


def _our_command(folder: Path, digest: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        serve = [sys.executable, "-m", "modelmill_server", "serve", str(folder), "--digest", digest]
        return [
            *serve,
            "--name=model",
            f"--port={port}",
            f"--grpc-port={port + 1}",
            f"--metrics-port={port + 2}",
            "--drain-seconds=0",
        ]

    return command


def _pinned(cpu: int, command: Sequence[str]) -> list[str]:
    cpus = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cpus[cpu]), *command] if len(cpus) > 1 else list(command)


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[Server]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(_pinned(0, command), stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise SystemExit(f"{command[0]} does not serve:\n{output.read().decode()[-2000:]}")
                time.sleep(0.005)
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def _start_seconds(command: Callable[[int], list[str]]) -> float:
    began = time.perf_counter()
    with _running(command(18590), 18590):
        return time.perf_counter() - began


def _require_same_answers(ours: Server, peer: Server) -> None:
    """The same row gets the same answer, else the comparison means nothing."""
    row = [float(value) for value in range(1, 31)]
    answers = []
    for server in (ours, peer):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        tensor = {"name": "input", "shape": [1, 30], "datatype": "FP32", "data": row}
        connection.request("POST", PATH, json.dumps({"inputs": [tensor]}), {"content-type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"a server answers {answer.status}: {content}")
        answers.append(next(o["data"] for o in content["outputs"] if o["name"] == "predict"))
    if answers[0] != answers[1]:
        raise SystemExit(f"the servers disagree: {answers}")


def _load(server: Server, connections: int, seconds: float) -> Run:
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s", "-s", str(HERE / "predict.lua")]
    before = _cpu(server.pid)
    done = subprocess.run(
        _pinned(1, [*wrk, f"http://127.0.0.1:{server.port}{PATH}"]), check=True, capture_output=True, text=True
    )
    used = _cpu(server.pid) - before
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if result["errors"]:
        raise SystemExit(f"port {server.port}: {result['errors']} requests failed:\n{done.stdout}")
    requests = result["requests"]
    return Run(requests / result["seconds"], result["p50"], result["p99"], used / requests * 1e6)


def _grpc_rounds(servers: dict[str, Server], rounds: int, seconds: float) -> dict[str, list[Run]]:
    """32 calls at once on one connection, raw tensors; gRPC is at the port after REST's, ours and the peer's."""
    found: dict[str, list[Run]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, server in servers.items():
            found[name].append(_grpc_load(server, seconds))
        rates = ", ".join(f"{name} {runs[-1].rate:,.0f}/s" for name, runs in found.items())
        print(f"gRPC, round {number + 1} of {rounds}: {rates}", flush=True)
    return found


def _grpc_load(server: Server, seconds: float) -> Run:
    load = [sys.executable, "-P", str(HERE / "grpc_load.py"), str(server.port + 1), f"--seconds={seconds:g}", "--raw"]
    before = _cpu(server.pid)
    done = subprocess.run(_pinned(1, [*load, f"--streams={CONNECTIONS}"]), check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    requests = result["requests"]
    used = _cpu(server.pid) - before
    return Run(requests / result["seconds"], result["p50"], result["p99"], used / requests * 1e6)


def _grpc_report(calls: dict[str, list[Run]]) -> str:
    lines = [
        "",
        "",
        f"gRPC, raw tensors, {CONNECTIONS} calls at once on one connection (`tests/bench/grpc_load.py`):",
        "",
        "| server | calls/s | CPU per call | p50 |",
        "|---|---|---|---|",
    ]
    for name, runs in calls.items():
        rate, cpu = _spread([run.rate for run in runs], "{:,.0f}"), _spread([run.cpu for run in runs], "{:,.0f}")
        lines.append(f"| {name} | {rate} | {cpu} us | {_spread([run.p50 for run in runs], '{:.1f}')} ms |")
    ratios = [ours.rate / peer.rate for ours, peer in zip(calls[OURS], calls[PEER], strict=True)]
    lines += ["", f"Our rate over {PEER}'s, paired by round: {_spread(ratios, '{:.1f}')}."]
    return "\n".join(lines)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _report(
    many: dict[str, list[Run]],
    one: dict[str, list[Run]],
    starts: list[float],
    resident: dict[str, float],
    rounds: int,
    seconds: float,
) -> str:
    columns = ("server", f"requests/s, {CONNECTIONS} connections", "CPU per request", "p50, 1 connection")
    lines = [
        f"Logistic regression, one row of 30 features, one worker, {rounds} rounds of {seconds:g} s each.",
        _machine(),
        "",
        f"| {' | '.join(columns)} | p99, 1 connection | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in many.items():
        cells = (
            _spread([run.rate for run in runs], "{:,.0f}"),
            _spread([run.cpu for run in runs], "{:,.0f}") + " us",
            _spread([run.p50 * 1000 for run in one[name]], "{:,.0f}") + " us",
            _spread([run.p99 * 1000 for run in one[name]], "{:,.0f}") + " us",
            f"{resident[name]:.0f} MiB",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rates = [ours.rate / peer.rate for ours, peer in zip(many[OURS], many[PEER], strict=True)]
    cpus = [peer.cpu / ours.cpu for ours, peer in zip(many[OURS], many[PEER], strict=True)]
    medians = [ours.p50 / echo.p50 for ours, echo in zip(one[OURS], one[ECHO], strict=True)]
    lines += [
        "",
        "| ratio, paired by round | min / median / max | target |",
        "|---|---|---|",
        f"| rate, over {PEER}'s | {_spread(rates, '{:.1f}')} | >= 15 |",
        f"| {PEER}'s CPU per request, over ours | {_spread(cpus, '{:.1f}')} | |",
        f"| p50 at one connection, over the echo's | {_spread(medians, '{:.2f}')} | <= 1.3 |",
        "",
        "From the start of the process to the first 200 of `/v2/health/ready` (target 2 s):",
        f"{_spread(starts, '{:.2f}')} s.",
        "",
        "Ranges are min / median / max.",
    ]
    return "\n".join(lines)


def _spread(values: Sequence[float], form: str) -> str:
    return " / ".join(form.format(value) for value in (min(values), statistics.median(values), max(values)))


def _machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "onnxruntime", "numpy", "msgspec"))
    return f"{document.machine()} {libraries}."


if __name__ == "__main__":
    main()
