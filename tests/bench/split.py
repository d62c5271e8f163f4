"""What splitting and shadowing cost the stable server, and what a faulty candidate costs its callers.

`python -m tests.bench.split`.  The stable server has a CPU for itself; the candidate shares the other one with the load
generator.  So what is compared is the stable's CPU per request, and its rate only where few requests are the
candidate's: with so many connections that it always has one to read.  All shares are measured in turn on the same
processes, round after round, by other routes; ratios are of one round.  The code without a rollout is compared in pairs
of new processes, each first in every other pair.  What forwarding takes at least is measured in the same rounds: by a
program that passes bytes to the candidate and back, and reads nothing in them.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import bodies, document, loads, models, processes
from tests.bench.bodies import Workload
from tests.bench.loads import Run
from tests.bench.models import LOGISTIC, Model
from tests.bench.processes import LOAD, Server

from modelmill_contracts import routes
from modelmill_contracts.routes import Routes

# As many connections as a worker has requests at the candidate's: with more, it answers the others itself.
ONE = Workload("JSON, 1 row", "json", 1, 16)
BUSY = 64  # connections; with 16, server and load generator wait for each other in lock step
_PORT, _OTHER_PORT, _FORWARDER_PORT = 18660, 18670, 18680
_PAIRS = 12
_TURNS = 15
_RATE = 2500  # requests/s that all shares are asked at, so that each is as often idle
_FAULT_SECONDS = 5
_FOLLOWED_SECONDS = 10


class Share(NamedTuple):
    title: str
    routes: dict[str, int] | None  # None: there are none
    most_cpu: float | None = None  # over that without routes
    most_rate: float | None = None  # % of the rate of a busy server that it may cost

    @property
    def is_compared_at_one_rate(self) -> bool:
        return self.routes is None or self.most_cpu is not None


SHARES = (
    Share("no rollout", None),
    Share("weight 0 %", {"weight": 0}),
    Share("weight 10 %", {"weight": 10}, most_rate=8),
    Share("weight 50 %", {"weight": 50}, most_cpu=1.25),
    Share("weight 100 %", {"weight": 100}, most_cpu=1.35),
    Share("shadow 10 %", {"shadow": 10}, most_rate=8),
    Share("shadow 100 %", {"shadow": 100}, most_cpu=1.55),
)


class Fault(NamedTuple):
    signal: signal.Signals
    p99: float  # us
    p99_before: float
    requests: int
    fallbacks: dict[str, int]


class _Runs(NamedTuple):
    """By share, and of a program that only forwards."""

    usual: dict[str, list[Run]]
    busy: dict[str, list[tuple[Run, Run]]]  # and that without a rollout, right before or after it
    at_one_rate: dict[str, list[Run]]
    forwarder: list[Run]


class _Stable(NamedTuple):
    server: Server
    folder: Path

    def follow(self, share: Share) -> None:
        """Write the routes, and wait until they are followed."""
        file = self.folder / routes.FILE
        if share.routes is None:
            file.unlink(missing_ok=True)
        else:
            wanted = Routes(epoch=share.title, host="127.0.0.1", port=_OTHER_PORT, **share.routes)  # type: ignore[arg-type]
            written = file.with_suffix(".new")
            written.write_bytes(routes.encode(wanted))
            written.replace(file)
        deadline = time.monotonic() + _FOLLOWED_SECONDS
        while (self.rollout() or {}).get("epoch") != (None if share.routes is None else share.title):
            if time.monotonic() > deadline:
                raise SystemExit(f"the server does not follow its routes to {share.title}")
            time.sleep(0.1)

    def rollout(self) -> dict[str, Any] | None:
        _, text = processes.ask(self.server.port + 2, "/snapshot")
        found: dict[str, Any] | None = json.loads(text)["rollout"]
        return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (%(default)s)")
    parser.add_argument("--pairs", type=int, default=_PAIRS, help="of processes with and without (%(default)s)")
    parser.add_argument(
        "--turns", type=int, default=_TURNS, help="of a busy server with a share and without (%(default)s)"
    )
    parser.add_argument("--no-update", action="store_true", help="leave docs/BENCHMARKS.md alone")
    options = parser.parse_args([] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as name:
        model = models.train(LOGISTIC, Path(name) / "model")
        file = Path(name) / "bodies"
        bodies.write(file, ONE, model.rows)
        pairs = _measure_code(model, file, options.pairs, options.seconds)
        runs, faults = _measure_shares(model, file, Path(name), options.rounds, options.seconds, options.turns)
    text = _text(pairs, runs, faults, options.seconds)
    if options.no_update:
        print(text)
    else:
        document.update("split", text)


def _measure_code(model: Model, file: Path, pairs: int, seconds: int) -> list[float]:
    """What the code costs of the CPU per request where nothing is rolled out, in %, by pair."""
    costs = []
    modules = {"with": "modelmill_server", "without": "tests.bench.unsplit"}
    for number in range(pairs):
        found = {}
        for name in list(modules)[:: 1 if number % 2 else -1]:
            with processes.running(processes.ours(model, _PORT, modules[name]), _PORT) as server:
                loads.closed(server, ONE, file, 1)
                found[name] = loads.closed(server, ONE, file, seconds).cpu
        costs.append(100 * (found["with"] / found["without"] - 1))
        print(f"pair {number + 1} of {pairs}: {costs[-1]:+.1f} %", flush=True)
    return costs


@contextmanager
def _both(model: Model, folder: Path) -> Iterator[tuple[_Stable, Server]]:
    mounted = folder / "routes"
    mounted.mkdir(exist_ok=True)
    own = [*processes.ours(model, _PORT), f"--routes={mounted}"]
    other = [*processes.ours(model, _OTHER_PORT), "--version=2"]
    with processes.running(other, _OTHER_PORT, LOAD) as candidate, processes.running(own, _PORT) as server:
        yield _Stable(server, mounted), candidate


def _measure_shares(
    model: Model, file: Path, folder: Path, rounds: int, seconds: int, turns: int
) -> tuple[_Runs, list[Fault]]:
    runs = _Runs(
        {share.title: [] for share in SHARES},
        {},
        {share.title: [] for share in SHARES if share.is_compared_at_one_rate},
        [],
    )
    forward = processes.forwarder(_FORWARDER_PORT, _OTHER_PORT)
    with _both(model, folder) as (stable, _), processes.running(forward, _FORWARDER_PORT) as forwarder:
        loads.closed(stable.server, ONE, file, 1)
        for number in range(1, rounds + 1):
            for share in SHARES:
                stable.follow(share)
                loads.closed(stable.server, ONE, file, 1)
                run = loads.closed(stable.server, ONE, file, seconds)
                runs.usual[share.title].append(run)
                told = f"{share.title}: {run.rate:,.0f}/s, {run.cpu:.1f} us"
                print(f"round {number} of {rounds}: {told}", flush=True)
                if share.is_compared_at_one_rate:
                    run = loads.constant(stable.server, file, _RATE, seconds)
                    runs.at_one_rate[share.title].append(run)
                    print(f"round {number} of {rounds}: {share.title}, {_RATE:,}/s: {run.cpu:.1f} us", flush=True)
                if (missing := _missing(share, stable.rollout())) is not None:
                    raise SystemExit(missing)
            runs.forwarder.append(loads.closed(forwarder, ONE, file, seconds))
            print(f"round {number} of {rounds}: a bare forwarder: {runs.forwarder[-1].cpu:.1f} us", flush=True)
        for share in SHARES:
            if share.most_rate is not None:
                found = [_turn(stable, file, share, number) for number in range(turns)]
                runs.busy[share.title] = [pair for pair in found if pair is not None]
    faults = []
    rate = statistics.median(run.rate for run in runs.usual[SHARES[0].title]) / 4
    for what in (signal.SIGSTOP, signal.SIGKILL):
        with _both(model, folder) as (stable, candidate):
            stable.follow(SHARES[2])
            before = loads.constant(stable.server, file, rate, _FAULT_SECONDS)
            breaks = threading.Timer(1.0, os.kill, (candidate.pid, what))
            breaks.start()
            during = loads.constant(stable.server, file, rate, _FAULT_SECONDS + 1)
            breaks.join()
            seen = stable.rollout() or {}
            faults.append(Fault(what, during.p99, before.p99, during.requests, seen["fallbacks"]))
            if what is signal.SIGSTOP:
                os.kill(candidate.pid, signal.SIGCONT)
    return runs, faults


def _turn(stable: _Stable, file: Path, share: Share, number: int) -> tuple[Run, Run] | None:
    """A busy server with the share and without a rollout, a second each: a machine's speed drifts within seconds.

    None where the candidate stood still, and so had not its share.
    """
    found = {}
    for each in (share, SHARES[0])[:: 1 if number % 2 else -1]:
        stable.follow(each)
        loads.closed(stable.server, ONE, file, 1, BUSY)
        found[each.title] = loads.closed(stable.server, ONE, file, 1, BUSY)
        missing = _missing(each, stable.rollout())
        if missing is not None:
            print(f"turn {number + 1} does not count: {missing}", flush=True)
            return None
    run, base = found[share.title], found[SHARES[0].title]
    print(f"turn {number + 1}: {share.title} costs {_less(run, base):+.1f} % of {base.rate:,.0f}/s", flush=True)
    return run, base


def _missing(share: Share, seen: dict[str, Any] | None) -> str | None:
    """What the candidate has not answered of what it should; then the figures are of something else."""
    if seen is None:
        return None
    asked = seen["stable"]["requests"] + seen["candidate"]["requests"]
    answered = sum(seen["candidate"]["compute"]["counts"])
    if answered < 0.8 * (share.routes or {}).get("weight", 0) / 100 * asked:
        return f"{share.title}: the candidate answered {answered} of {asked}: {seen['fallbacks']}"
    if seen["shadow"] is not None:
        copies, dropped = seen["shadow"]["stable"]["requests"], seen["shadow"]["dropped"]
        print(f"{share.title}: {copies:,} copies, {dropped:,} dropped", flush=True)
    return None


def _text(pairs: list[float], runs: _Runs, faults: list[Fault], seconds: int) -> str:
    turns = min(map(len, runs.busy.values()))
    counts = f"{len(runs.forwarder)} rounds of {seconds} s, {len(pairs)} pairs, {turns} turns of a busy server"
    lines = [
        f"{counts}; min / median / max, a target is reached by the median.",
        document.machine(),
        "",
        "| what | measured | target | reached |",
        "|---|---|---|---|",
    ]
    if pairs:
        reached = "yes" if statistics.median(pairs) <= 2 else "**no**"
        lines.append(
            f"| without a rollout: CPU per request for the code | {_spread(pairs, '%')} | <= 2 % | {reached} |"
        )
    for share in SHARES[1:]:
        both = list(zip(runs.usual[share.title], runs.usual[SHARES[0].title], strict=True))
        cpu = [run.cpu / base.cpu for run, base in both]
        lines.append(_line(f"{share.title}: CPU per request", cpu, "x", share.most_cpu))
        lines.append(_line(f"{share.title}: of the rate, it costs", [_less(*pair) for pair in both], "%", None))
        if share.is_compared_at_one_rate:
            both = list(zip(runs.at_one_rate[share.title], runs.at_one_rate[SHARES[0].title], strict=True))
            cpu = [run.cpu / base.cpu for run, base in both]
            lines.append(
                _line(f"{share.title}: CPU per request, at {_RATE:,} requests/s each", cpu, "x", share.most_cpu)
            )
        if share.most_rate is not None:
            what = f"{share.title}: of the rate of a busy server ({BUSY} connections), it costs"
            lines.append(_line(what, [_less(*pair) for pair in runs.busy[share.title]], "%", share.most_rate))
    floor = [run.cpu / base.cpu for run, base in zip(runs.forwarder, runs.usual[SHARES[0].title], strict=True)]
    lines.append(_line("a bare forwarder: CPU per request, over the server's without a rollout", floor, "x", None))
    over = [run.cpu / floor.cpu for run, floor in zip(runs.usual["weight 100 %"], runs.forwarder, strict=True)]
    lines.append(_line("weight 100 %: CPU per request, over the bare forwarder's", over, "x", None))
    for fault in faults:
        most = 1.5 * fault.p99_before + 1000
        late = fault.fallbacks.get("Late", 0)
        what = f"{fault.signal.name} under {fault.requests:,} requests, none of which failed"
        reached = "yes" if fault.p99 <= most and late <= 32 else "**no**"
        lines.append(
            f"| {what}: p99, and requests that paid the deadline | {fault.p99:,.0f} us, {late} |"
            f" <= {most:,.0f} us, <= 32 | {reached} |"
        )
    return "\n".join(lines)


def _less(run: Run, base: Run) -> float:
    return 100 * (1 - run.rate / base.rate)


def _line(what: str, values: list[float], unit: str, most: float | None) -> str:
    if most is None:
        return f"| {what} | {_spread(values, unit)} | | |"
    reached = "yes" if statistics.median(values) <= most else "**no**"
    return f"| {what} | {_spread(values, unit)} | <= {most:g} {unit} | {reached} |"


def _spread(values: list[float], unit: str) -> str:
    digits = 2 if unit == "x" else 1
    return " / ".join(f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values))) + f" {unit}"


if __name__ == "__main__":
    main(sys.argv[1:])
