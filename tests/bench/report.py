"""The tables of what `server` measured: the targets first, then what every server did."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import NamedTuple

from tests.bench import counting, document, peers
from tests.bench.counting import Pair
from tests.bench.instructions import Instructions
from tests.bench.loads import Run
from tests.bench.models import FOREST, LOGISTIC

OURS, ECHO, PROTOTYPE = "modelmill-server", "bare uvicorn echo", "prototype"
CONSTANT = "JSON, 1 row, at half of our rate"
_ONE, _ALONE = "JSON, 1 row", "JSON, 1 row, 1 connection"
# What our rate must be, over a peer's, for one row in JSON; elsewhere it must be ahead.
_TIMES = {LOGISTIC: 15.0, FOREST: 100.0}


class Results:
    """All runs, by model and workload and then by server, one for each round."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], dict[str, list[Run]]] = {}
        self.counting: list[Pair] = []  # with counters and without
        self.instructions: Instructions | None = None  # the same, where there is valgrind
        self.resident: dict[str, float] = {}  # MB
        self.starts: list[float] = []  # seconds
        self.large = 0.0  # MB of the model that was started

    def add(self, model: str, workload: str, server: str, run: Run) -> None:
        self.runs.setdefault((model, workload), {}).setdefault(server, []).append(run)


class _Target(NamedTuple):
    what: str
    values: Sequence[float]
    form: str
    target: str
    reached: Callable[[float], bool]
    measured: str = ""  # in other words than the least, the median and the most of the values

    def line(self) -> str:
        reached = "yes" if self.reached(statistics.median(self.values)) else "**no**"
        return f"| {self.what} | {self.measured or _spread(self.values, self.form)} | {self.target} | {reached} |"


def text(results: Results, rounds: int, seconds: int) -> str:
    """The section of docs/BENCHMARKS.md."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("uvicorn", "onnxruntime", "numpy", "msgspec", "scikit-learn")
    )
    lines = [
        f"{rounds} rounds of {seconds} s each; ranges are min / median / max, and a target is reached by the median.",
        f"{document.machine()} {libraries}.",
        "",
        "| what | measured | target | reached |",
        "|---|---|---|---|",
        *(target.line() for target in _targets(results)),
    ]
    for model in (LOGISTIC, FOREST):
        lines += ["", *_details(results, model)]
    others = ", ".join(f"{name} {size:.0f} MB" for name, size in results.resident.items() if name != OURS)
    lines += ["", f"Memory of the others after the same requests: {others}.", "", *_lateness(results)]
    if results.instructions is not None:
        lines += ["", f"Instructions of a request that are the counters', by callgrind: {results.instructions}."]
    return "\n".join(lines)


def _targets(results: Results) -> Iterable[_Target]:
    for (model, workload), runs in results.runs.items():
        if workload in (_ALONE, CONSTANT):
            continue
        for peer in (peers.MLSERVER, peers.KSERVE):
            if peer in runs:
                least = _TIMES[model] if workload == _ONE else 1.0
                yield _Target(
                    f"{model}, {workload}: rate over {peer}'s",
                    _ratios(runs[OURS], runs[peer], "rate"),
                    "{:.1f}",
                    f">= {least:g}" if workload == _ONE else "> 1",
                    lambda value, least=least: value >= least,  # type: ignore[misc]
                )
        if workload == _ONE:
            rates = _ratios(runs[OURS], runs[PROTOTYPE], "rate")
            what = f"{model}, {workload}: rate over the prototype's"
            yield _Target(what, rates, "{:.2f}", ">= 0.75", lambda value: value >= 0.75)
    alone = results.runs[LOGISTIC, _ALONE]
    medians = _ratios(alone[OURS], alone[ECHO], "p50")
    yield _Target("p50 at one connection, over the echo's", medians, "{:.2f}", "<= 1.3", lambda value: value <= 1.3)
    constant = results.runs[LOGISTIC, CONSTANT]
    tails = [run.p99 / run.p50 for run in constant[OURS]]
    yield _Target("p99 over p50, at half of our rate", tails, "{:.2f}", "<= 2", lambda value: value <= 2)
    tails = _ratios(constant[OURS], constant[ECHO], "p99")
    yield _Target("the same p99, over the echo's", tails, "{:.2f}", "<= 1.3", lambda value: value <= 1.3)
    what = f"of the rate without counters, they cost (median of {len(results.counting)} pairs [95 % interval])"
    costs, measured = [pair.cost for pair in results.counting], counting.text(results.counting)
    yield _Target(what, costs, "{:.1f} %", "<= 8 %", lambda value: value <= 8, measured)
    starts = f"start to ready, model of {results.large:.2f} MB"
    yield _Target(starts, results.starts, "{:.2f} s", "< 1 s", lambda value: value < 1)
    memory = [results.resident[OURS]]
    yield _Target("resident memory, logistic regression", memory, "{:.0f} MB", "< 120 MB", lambda value: value < 120)


def _details(results: Results, model: str) -> Iterable[str]:
    yield f"| {model} | server | requests/s | CPU per request | p50 | p99 |"
    yield "|---|---|---|---|---|---|"
    for (of, workload), servers in results.runs.items():
        if of != model:
            continue
        for name, runs in servers.items():
            cells = [_spread([getattr(run, field) for run in runs], "{:,.0f}") for field in ("rate", "cpu")]
            cells += [_time([getattr(run, field) for run in runs]) for field in ("p50", "p99")]
            yield f"| {workload} | {name} | {cells[0]} | {cells[1]} us | {cells[2]} | {cells[3]} |"
        for peer in (peers.MLSERVER, peers.KSERVE):
            if peer not in servers and workload != CONSTANT:
                yield f"| {workload} | {peer} | not supported | | | |"


def _lateness(results: Results) -> Iterable[str]:
    late = [run.late for run in results.runs[LOGISTIC, CONSTANT][OURS]]
    yield (
        "At a constant rate, the load generator itself sent 99 % of the requests at most"
        f" {_spread(late, '{:,.0f}')} us after they were due."
    )


def _ratios(ours: Sequence[Run], others: Sequence[Run], field: str) -> list[float]:
    """Of each round."""
    return [getattr(one, field) / getattr(other, field) for one, other in zip(ours, others, strict=True)]


def _time(values: Sequence[float]) -> str:
    """Microseconds as such, or as milliseconds where they are many."""
    if statistics.median(values) < 10_000:
        return _spread(values, "{:,.0f}") + " us"
    return _spread([value / 1000 for value in values], "{:,.1f}") + " ms"


def _spread(values: Sequence[float], form: str) -> str:
    if len(values) == 1:
        return form.format(values[0])
    return " / ".join(form.format(value) for value in (min(values), statistics.median(values), max(values)))
