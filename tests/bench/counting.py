"""What the counters cost: the server as it is against the same server with counting off, and nothing else.

A process differs from the next one of the same program by up to 10 % (where its memory lies), and the machine stalls.
So what is compared is the CPU time, user and system, of the server for a request, and not the rate: while the server
waits for a CPU, it uses none.  Each of many pairs is two new processes, asked one after the other by `wrk` from the
other CPU, for a second, which is some 40,000 requests; which one goes first alternates (ABBA).  A server that is asked
as fast as it answers uses its whole CPU, so the share of CPU time is the share of the rate.  The result is the median
of the pairs' shares, with its 95 % bootstrap interval (percentile method, B. Efron 1979).

`instructions` counts without noise, but not what the caches make of them, nor the kernel's and the event loop's.
"""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import loads, processes
from tests.bench.bodies import Workload
from tests.bench.models import Model
from tests.bench.processes import Server

from modelmill_contracts.counters import PREDICTIONS

_COUNTED, _UNCOUNTED = "modelmill_server", "tests.bench.uncounted"  # modules
_PORT = 18650
_SECONDS = 1
_RESAMPLES = 10_000


class Pair(NamedTuple):
    """Microseconds of CPU of the server for a request, with counters and without."""

    counted: float
    uncounted: float

    @property
    def cost(self) -> float:
        """Per cent of the rate: the rest is what is left of it."""
        return 100 * (1 - self.uncounted / self.counted)


def measure(model: Model, file: Path, workload: Workload, pairs: int) -> list[Pair]:
    """`pairs` of processes that serve `model` and are asked with the bodies in `file`."""
    found = []
    for number in range(pairs):
        order = (_COUNTED, _UNCOUNTED) if number % 2 else (_UNCOUNTED, _COUNTED)
        cpu = {module: _microseconds(model, module, file, workload) for module in order}
        found.append(Pair(cpu[_COUNTED], cpu[_UNCOUNTED]))
    return found


def text(pairs: Sequence[Pair]) -> str:
    """The median cost with its interval, in per cent and in microseconds."""
    costs, times = [pair.cost for pair in pairs], [pair.counted - pair.uncounted for pair in pairs]
    (low, high), (least, most) = interval(costs), interval(times)
    return (
        f"{statistics.median(costs):.1f} % [{low:.1f}, {high:.1f}],"
        f" {statistics.median(times):.2f} us [{least:.2f}, {most:.2f}]"
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the median, by bootstrap: 95 % of the medians of resamples lie in it; the same each time."""
    chance = random.Random(7)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    tail = _RESAMPLES // 40
    return medians[tail], medians[-1 - tail]


def _microseconds(model: Model, module: str, file: Path, workload: Workload) -> float:
    """Of CPU for a request, by a new process."""
    with processes.running(processes.ours(model, _PORT, module), _PORT) as server:
        loads.closed(server, workload, file, 1)  # everything was called before
        before = processes.run_nanoseconds(server.pid)
        run = loads.closed(server, workload, file, _SECONDS)
        used = processes.run_nanoseconds(server.pid) - before
        _require_counted(module, server)
    return used / run.requests / 1e3


def _require_counted(module: str, server: Server) -> None:
    """The one with counters has counted, the other has not."""
    _, content = processes.ask(server.port + 2, "/metrics")
    counts = [line for line in content.decode().splitlines() if line.startswith(f"{PREDICTIONS}_total{{")]
    if (sum(float(line.rpartition(" ")[2]) for line in counts) > 0) is not (module == _COUNTED):
        raise SystemExit(f"{module} has counted what it should not, or not what it should: {counts}")
