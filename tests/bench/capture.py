"""What capture costs: the server that keeps 1 % of its predictions against the same server that keeps none.

Pairs of new processes share a CPU and are asked at the same time, as a machine's speed drifts within seconds: what
slows one slows the other.  CPU time of the server for a request; of all pairs the median with its interval.  On the
other CPU, beside the load generators, runs the process that writes segments, to a folder; what that takes for a request
of the server's is measured, too.  Requests bring ids, or leave it to the server.  Pairs that are alike show how exact
that is.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import bodies, counting, document, loads, models, processes
from tests.bench.bodies import Workload
from tests.bench.models import LOGISTIC, Model
from tests.bench.processes import LOAD, ROOT, Server

from modelmill_contracts import counters, environment
from modelmill_contracts.captured import LABELS, ROWS

SHARE = 0.01
GOAL = 3.0  # per cent of the rate
_PAIRS = 12
_CONNECTIONS = 16  # to each of a pair
_PORT, _OTHER_PORT = 18660, 18670
_SECONDS = 6
_OF = "0b5a3f9e-1111-4222-8333-944445555666"
_ONE = Workload("JSON, 1 row", "json", 1, 32)


class Used(NamedTuple):
    """Microseconds of CPU for a request."""

    server: float
    writer: float


class Pair(NamedTuple):
    on: Used
    off: Used

    @property
    def cost(self) -> float:
        """Per cent of the rate: a server that is asked as fast as it answers uses its whole CPU."""
        return 100 * (1 - self.off.server / self.on.server)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pairs", type=int, default=_PAIRS, help="of processes, with capture and without (%(default)s)"
    )
    parser.add_argument("--no-update", action="store_true", help="leave docs/BENCHMARKS.md alone")
    options = parser.parse_args([] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = models.train(LOGISTIC, folder / "model")
        files = {"named by the caller": folder / "named", "named by the server": folder / "nameless"}
        bodies.write(folder / "named", _ONE, model.rows)
        _write_nameless(folder / "named", folder / "nameless")
        found = {which: _measure(model, file, folder, options.pairs) for which, file in files.items()}
        alike = _measure_alike(model, folder / "named", options.pairs)
    said = text(found, alike)
    if options.no_update:
        print(said)
    else:
        document.update("capture", said)


def text(found: dict[str, list[Pair]], alike: list[Pair]) -> str:
    """What was measured, as a table."""
    pairs_of_each = len(next(iter(found.values())))
    what = f"Logistic regression, 30 features, {_ONE.title}, {_CONNECTIONS} connections"
    method = f"{pairs_of_each} pairs, {_SECONDS} s each; medians [95 %]"
    lines = [
        f"{document.machine()} {what}; {SHARE:.0%} of predictions are kept; {method}.",
        "",
        "| predictions are | cost of the rate | of the server's CPU | goal | met | the writer's CPU, for a request |",
        "|---|---|---|---|---|---|",
    ]
    for which, pairs in found.items():
        cost = statistics.median(pair.cost for pair in pairs)
        micros = [pair.on.server - pair.off.server for pair in pairs]
        writer = statistics.median(pair.on.writer for pair in pairs)
        lines.append(
            f"| {which} | {_median([pair.cost for pair in pairs])} % | {_median(micros, 2)} us | <= {GOAL:.0f} % |"
            f" {'yes' if cost <= GOAL else '**no**'} | {writer:.2f} us |"
        )
    lines.append(f"| alike, both without capture | {_median([pair.cost for pair in alike])} % | | | | |")
    return "\n".join(lines)


def _median(values: list[float], digits: int = 1) -> str:
    low, high = counting.interval(values)
    return f"{statistics.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _measure(model: Model, file: Path, folder: Path, pairs: int) -> list[Pair]:
    found = []
    for number in range(pairs):
        place = folder / f"{file.name}-{number}"
        place.mkdir()
        capture = [f"--capture={SHARE}", f"--capture-socket={place / 'socket'}"]
        with (
            _writing(place) as writer,
            processes.running([*processes.ours(model, _PORT), *capture], _PORT) as on,
            processes.running(processes.ours(model, _OTHER_PORT), _OTHER_PORT) as off,
        ):
            found.append(_asked(on, off, file, writer))
            _require_kept(on, kept=True)
            _require_kept(off, kept=False)
        print(f"{file.name}, pair {number + 1} of {pairs}: {found[-1].cost:+.1f} %", flush=True)
    return found


def _measure_alike(model: Model, file: Path, pairs: int) -> list[Pair]:
    """Pairs of which neither has capture: what they differ in is the method's own error."""
    found = []
    for number in range(pairs):
        with (
            processes.running(processes.ours(model, _PORT), _PORT) as one,
            processes.running(processes.ours(model, _OTHER_PORT), _OTHER_PORT) as other,
        ):
            found.append(_asked(one, other, file, None))
        print(f"alike, pair {number + 1} of {pairs}: {found[-1].cost:+.1f} %", flush=True)
    return found


def _asked(on: Server, off: Server, file: Path, writer: int | None) -> Pair:
    """Both are asked at the same time, and share one CPU."""
    for server in (on, off):
        loads.closed(server, _ONE, file, 1)  # everything was called before
    pids = [on.pid, off.pid, *([writer] if writer else [])]
    before = [processes.run_nanoseconds(pid) for pid in pids]
    with ThreadPoolExecutor(2) as both:
        runs = list(both.map(lambda server: loads.closed(server, _ONE, file, _SECONDS, _CONNECTIONS), (on, off)))
    spent = [(processes.run_nanoseconds(pid) - start) / 1e3 for pid, start in zip(pids, before, strict=True)]
    of_writer = spent[2] / runs[0].requests if writer else 0.0
    return Pair(Used(spent[0] / runs[0].requests, of_writer), Used(spent[1] / runs[1].requests, 0.0))


def _require_kept(server: Server, *, kept: bool) -> None:
    """About the share of predictions is kept, and none is dropped."""
    _, content = processes.ask(server.port + 2, counters.SNAPSHOT_PATH)
    seen = json.loads(content)
    capture = seen.get("capture") or {"rows": {}}
    share = capture["rows"].get("Kept", 0) / seen["rows"]
    if set(capture["rows"]) - {"Kept"} or not (SHARE / 2 < share < 2 * SHARE if kept else share == 0):
        raise SystemExit(f"what is kept is not what should be: {capture['rows']} of {seen['rows']}")


@contextmanager
def _writing(place: Path) -> Iterator[int]:
    """The process that writes segments, on the load generator's CPU; its pid."""
    socket = place / "socket"
    command = [sys.executable, "-m", "modelmill_server", "capture", _OF, f"--socket={socket}", "--age=0.5"]
    location = json.dumps({"uri": f"file://{place}"})
    variables = {**os.environ, environment.STORE_LOCATION: location}
    process = subprocess.Popen(processes.pinned(LOAD, command), cwd=ROOT, env=variables, stdout=subprocess.DEVNULL)
    try:
        for _ in itertools.count():
            if socket.exists():
                break
            if process.poll() is not None:
                raise SystemExit("the writer has ended")
            time.sleep(0.01)
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)
    if not list(place.glob(f"captured/{_OF}/{ROWS}/*.gz")) or list(place.glob(f"captured/{_OF}/{LABELS}/*")):
        raise SystemExit("no segments were written, or others")


def _write_nameless(file: Path, target: Path) -> None:
    """The same bodies without ids."""
    with target.open("wb") as out:
        for body in bodies.read(file):
            content = json.loads(body.content)
            del content["id"]
            text_ = json.dumps(content, separators=(",", ":")).encode()
            out.write(b"0 %d\n" % len(text_) + text_)


if __name__ == "__main__":
    main(sys.argv[1:])
