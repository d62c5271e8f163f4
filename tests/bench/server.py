"""The model server against its peers, a prototype and a bare echo: `python -m tests.bench.server`.

The servers of one model run at once, pinned to the first CPU; the load generator is pinned to the second one and asks
them in turn, round after round, so that whatever else the machine does meets all of them.  Ratios are of one round.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import bodies, counting, document, instructions, loads, models, peers, processes, report, soak
from tests.bench.bodies import Workload
from tests.bench.loads import PATH
from tests.bench.models import FOREST, LARGE, LOGISTIC, Model
from tests.bench.processes import Server
from tests.bench.report import CONSTANT, ECHO, OURS, PROTOTYPE, Results

ROWS = 1000
ONE = Workload("JSON, 1 row", "json", 1, 32)
WORKLOADS = (
    ONE,
    Workload(f"JSON, {ROWS:,} rows", "json", ROWS, 4),
    Workload("binary, 1 row", "binary", 1, 32),
    Workload(f"binary, {ROWS:,} rows", "binary", ROWS, 4),
    Workload("gRPC, 1 row", "grpc", 1, 32),
    Workload(f"gRPC, {ROWS:,} rows", "grpc", ROWS, 4),
)
ALONE = Workload("JSON, 1 row, 1 connection", "json", 1, 1)
_STARTS = 5
_PAIRS = 60  # of processes, with counters and without
_START_PORT = 18590


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (%(default)s)")
    parser.add_argument("--pairs", type=int, default=_PAIRS, help="with counters and without (%(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second, two pairs, and docs/BENCHMARKS.md stays"
    )
    parser.add_argument("--no-update", action="store_true", help="leave docs/BENCHMARKS.md alone")
    parser.add_argument("--soak", type=int, metavar="REQUESTS", help="instead of all else: memory over that many")
    options = parser.parse_args([] if arguments is None else arguments)
    if options.quick:
        options.rounds, options.seconds, options.pairs, options.no_update = 1, 1, 2, True
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.soak:
            section, text = "soak", _soak(folder, options.soak)
        else:
            section, text = "server", _compare(folder, options.rounds, options.seconds, options.pairs)
    if options.no_update:
        print(text)
    else:
        document.update(section, text)


def _soak(folder: Path, requests: int) -> str:
    model = models.train(LOGISTIC, folder / "model")
    files = _write_bodies(folder, model)
    with processes.running(processes.ours(model, 18600), 18600) as server:
        return soak.measure(server, files, requests)


def _compare(folder: Path, rounds: int, seconds: int, pairs: int) -> str:
    began = time.monotonic()
    results = Results()
    for title in (LOGISTIC, FOREST):
        model = models.train(title, folder / title)
        _measure(model, folder / title, rounds, seconds, pairs, results)
    large = models.train(LARGE, folder / LARGE)
    results.starts = [processes.start_seconds(large, _START_PORT) for _ in range(_STARTS)]
    results.large = large.size / 1e6
    _say(began, "all is measured")
    return report.text(results, rounds, seconds)


def _measure(model: Model, folder: Path, rounds: int, seconds: int, pairs: int, results: Results) -> None:
    """All workloads of one model."""
    began = time.monotonic()
    commands = {
        OURS: processes.ours(model, 18600),
        peers.MLSERVER: peers.mlserver(model, folder / "mlserver", 18610),
        peers.KSERVE: peers.kserve(model, 18620),
        PROTOTYPE: processes.prototype(model, 18630),
    }
    if model.title == LOGISTIC:
        commands[ECHO] = processes.echo(18640)
    files = _write_bodies(folder, model)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(processes.running(command, 18600 + 10 * place))
            for place, (name, command) in enumerate(commands.items())
        }
        _require_same_answers(model, {name: server for name, server in servers.items() if name != ECHO})
        asked = {
            workload: [name for name, server in servers.items() if _takes(name, server, workload, files)]
            for workload in WORKLOADS
        }
        for server in servers.values():
            loads.closed(server, ONE, files[ONE], 1)
        for number in range(1, rounds + 1):
            for workload, names in asked.items():
                for name in names:
                    run = loads.closed(servers[name], workload, files[workload], seconds)
                    results.add(model.title, workload.title, name, run)
                _say(began, f"{model.title}, round {number} of {rounds}, {_line(results, model, workload.title)}")
            if model.title == LOGISTIC:
                for name, server in servers.items():
                    results.add(LOGISTIC, ALONE.title, name, loads.closed(server, ALONE, files[ONE], seconds))
                _say(began, f"{model.title}, round {number} of {rounds}: latency at one connection")
        if model.title == LOGISTIC:
            results.resident = {name: processes.resident(server.pid) for name, server in servers.items()}
    if model.title == LOGISTIC:
        _measure_tails(model, files[ONE], rounds, seconds, results)
        _say(began, "latency at a constant rate")
        results.counting = counting.measure(model, files[ONE], ONE, pairs)
        results.instructions = instructions.measure(model, files[ONE])
        _say(began, "the cost of counters")


def _measure_tails(model: Model, file: Path, rounds: int, seconds: int, results: Results) -> None:
    """Latency at half of our rate, and the echo's at the same rate, with no other server there."""
    half = statistics.median(run.rate for run in results.runs[LOGISTIC, ONE.title][OURS]) / 2
    with (
        processes.running(processes.ours(model, 18600), 18600) as ours,
        processes.running(processes.echo(18640), 18640) as echo,
    ):
        for _ in range(rounds):
            for name, server in ((OURS, ours), (ECHO, echo)):
                results.add(LOGISTIC, CONSTANT, name, loads.constant(server, file, half, seconds))


def _write_bodies(folder: Path, model: Model) -> dict[Workload, Path]:
    files = {workload: folder / f"bodies-{place}" for place, workload in enumerate(WORKLOADS)}
    for workload, file in files.items():
        bodies.write(file, workload, model.rows)
    return files


def _takes(name: str, server: Server, workload: Workload, files: dict[Workload, Path]) -> bool:
    """Whether a server is asked for a workload: some have no gRPC or no binary tensors."""
    if name == ECHO:
        return workload == ONE
    if workload.form == "grpc":
        return name != PROTOTYPE
    if workload.form == "json":
        return True
    body = bodies.read(files[workload])[0]
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(body.json_size)}
    try:
        return processes.ask(server.port, PATH, body.content, headers)[0] == 200
    except OSError:
        return False


def _require_same_answers(model: Model, servers: dict[str, Server]) -> None:
    """The same rows get the same labels, else the comparison means nothing."""
    rows = model.rows[:100]
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    found = {}
    for name, server in servers.items():
        status, content = processes.ask(server.port, PATH, body, {"content-type": "application/json"})
        if status != 200:
            raise SystemExit(f"{name} answers {status}: {content.decode()[:1000]}")
        found[name] = json.loads(content)["outputs"][0]["data"]
    if any(labels != found[OURS] for labels in found.values()):
        raise SystemExit(f"the servers disagree: {found}")


def _line(results: Results, model: Model, workload: str) -> str:
    runs = results.runs[model.title, workload]
    return f"{workload}: " + ", ".join(f"{name} {found[-1].rate:,.0f}/s" for name, found in runs.items())


def _say(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s  {what}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
