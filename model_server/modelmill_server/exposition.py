"""What stands on the metrics port: the counters as Prometheus text (format 0.0.4) and as the collector's snapshot.

The text is written from a snapshot, so the two cannot differ.

prometheus_client would take 4 ms for the 322 buckets, and 0.1 s of the start; a prediction would wait for it.
"""

import functools
import operator
import os
import resource
from collections.abc import Iterator

import msgspec

from modelmill_contracts import counters as names
from modelmill_contracts.counters import Arm, Bins, Capture, Latency, Snapshot
from modelmill_server import arms
from modelmill_server.app import App
from modelmill_server.cells import added, sums
from modelmill_server.counters import Board
from modelmill_server.errors import RefusedError
from modelmill_server.http1 import Request, Response

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_EDGES = [*map(repr, names.LATENCY_EDGES), "+Inf"]
_PROC = "/proc"  # Linux only; elsewhere what it says is left out
_TICKS = os.sysconf("SC_CLK_TCK")


class MetricsApp:
    """The application of the metrics port: GET /metrics, /snapshot, and /healthz (whether the process lives)."""

    def __init__(self, app: App, board: Board) -> None:
        self._app = app
        self._board = board

    def open(self, request: Request) -> Response:
        path = request.path
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "GET only")
        if path == "/metrics":
            return Response(200, text(self._app, self._board), [(b"content-type", CONTENT_TYPE)])
        if path == names.SNAPSHOT_PATH:
            body = msgspec.json.encode(snapshot(self._app, self._board))
            return Response(200, body, [(b"content-type", b"application/json")])
        if path == "/healthz":
            return _plain(200, "ok")
        return _plain(404, "/metrics, /snapshot and /healthz are here")

    def call(self, request: Request) -> Response:
        raise AssertionError(f"{request.method} {request.path} is answered without its body")

    def refused(self, refusal: RefusedError, request: Request | None = None) -> Response:  # noqa: ARG002
        return _plain(refusal.status, refusal.message)

    def close(self, request: Request, *, gone: bool) -> None:
        """Nothing here is counted."""


def _plain(status: int, said: str) -> Response:
    return Response(status, said.encode() + b"\n", [(b"content-type", b"text/plain")])


def snapshot(app: App, board: Board) -> Snapshot:
    """All counters, summed over the workers."""
    workers = board.workers
    found = [worker.read() for worker in workers]
    parts = [part.bins for part in found if part.bins is not None]
    bins = functools.reduce(operator.add, parts) if parts else None
    return Snapshot(
        model=app.name,
        model_version=app.version,
        arm=app.arm,
        digest=app.digest,
        edges=board.layout.digest if board.layout is not None else "",
        started=board.started,
        ready=board.ready,
        workers_ready=sum(worker.answers for worker in workers),
        worker_restarts=sum(worker.restarts for worker in workers),
        in_flight=sum(worker.in_flight for worker in workers),
        requests=sums([part.requests for part in found]),
        refusals=sums([part.refusals for part in found]),
        rows=sum(part.rows for part in found),
        request=added([part.request for part in found]),
        compute=added([part.compute for part in found]),
        features=bins.features() if bins is not None else (),
        predictions=bins.predictions() if bins is not None else None,
        scores=bins.scores() if bins is not None else None,
        reference=board.layout.reference if board.layout is not None else None,
        rollout=arms.total(worker.arms for worker in workers),
        capture=_captured(app, board),
    )


def _captured(app: App, board: Board) -> Capture | None:
    if app.capture is None:
        return None
    return Capture(
        rows=sums([worker.captured.read() for worker in board.workers]),
        labels=sums([worker.labels.read() for worker in board.workers]),
        connected=app.capture.link.connected,
        written=app.capture.link.written,
    )


def text(app: App, board: Board) -> bytes:
    """All metrics of a server."""
    return written(app, board, snapshot(app, board))


def written(app: App, board: Board, seen: Snapshot) -> bytes:
    """What was seen, as text, and what the processes use."""
    return "".join((*_model(app, seen), *_rollout(seen), *_capture(seen), *_process(board))).encode()


def _model(app: App, seen: Snapshot) -> Iterator[str]:
    labels = _labels(seen)
    if seen.arm:
        labels += f',arm="{_escaped(seen.arm)}"'
    yield _family(names.REQUESTS, "counter", "Inference requests by status code.")
    for code, count in seen.requests.items():
        yield f'{names.REQUESTS}_total{{{labels},code="{code}"}} {count}\n'
    yield _single(names.PREDICTIONS, "counter", "Rows that were predicted.", labels, seen.rows)
    yield _family(names.REFUSALS, "counter", "Requests that were refused, by reason.")
    for reason, count in seen.refusals.items():
        yield f'{names.REFUSALS}_total{{{labels},reason="{reason}"}} {count}\n'
    help_ = "Answering a request, from its body's end to the answer's start."
    yield from _histogram(names.REQUEST_SECONDS, help_, seen.request, labels)
    yield from _histogram(names.COMPUTE_SECONDS, "The model alone, per request.", seen.compute, labels)
    if seen.features:
        yield _family(names.FEATURE_ROWS, "counter", "Rows by the bins of the profile.")
        for feature in seen.features:
            yield from _bins(names.FEATURE_ROWS, feature, f'{labels},feature="{_escaped(feature.name)}"')
    for name, bins in ((names.PREDICTION_ROWS, seen.predictions), (names.SCORE_ROWS, seen.scores)):
        if bins is not None:
            yield _family(name, "counter", "Rows by the bins of the profile.")
            yield from _bins(name, bins, labels)
    for name, help_, value in (
        (names.IN_FLIGHT, "Requests that are not answered yet.", seen.in_flight),
        (names.READY, "Whether new requests are welcome.", int(seen.ready)),
        (names.WORKERS_READY, "Processes that answer predictions.", seen.workers_ready),
    ):
        yield _single(name, "gauge", help_, labels, value)
    help_ = "Processes that died and were started again."
    yield _single(names.WORKER_RESTARTS, "counter", help_, labels, seen.worker_restarts)
    if app.runtime:
        yield _family(names.MODEL_INFO, "gauge", "The model that is served.")
        yield f'{names.MODEL_INFO}{{{labels},digest="{seen.digest}",runtime="{app.runtime}"}} 1\n'


def _labels(seen: Snapshot) -> str:
    return f'model="{_escaped(seen.model)}",version="{_escaped(seen.model_version)}"'


def _rollout(snapshot: Snapshot) -> Iterator[str]:
    labels, seen = _labels(snapshot), snapshot.rollout
    if seen is None:
        return
    yield from _arms(
        (names.ROLLOUT_REQUESTS, names.ROLLOUT_FAILURES, names.ROLLOUT_COMPUTE_SECONDS),
        "assigned to an arm of the rollout",
        {"stable": seen.stable, "candidate": seen.candidate},
        labels,
    )
    yield _single(names.ROLLOUT_STEERED, "counter", "Requests that named their arm.", labels, seen.steered)
    yield _family(names.ROLLOUT_FALLBACKS, "counter", "Requests of the candidate's that were answered here, by reason.")
    for reason, count in seen.fallbacks.items():
        yield f'{names.ROLLOUT_FALLBACKS}_total{{{labels},reason="{reason}"}} {count}\n'
    help_ = "Workers that do not ask the candidate for now."
    yield _single(names.ROLLOUT_OPEN_BREAKERS, "gauge", help_, labels, seen.open_breakers)
    shadow = seen.shadow
    if shadow is None:
        return
    yield from _arms(
        (names.SHADOW_REQUESTS, names.SHADOW_FAILURES, names.SHADOW_COMPUTE_SECONDS),
        "of which the candidate got a copy",
        {"stable": shadow.stable, "candidate": shadow.candidate},
        labels,
    )
    for name, help_, value in (
        (names.SHADOW_COMPARED, "Copies that both arms answered.", shadow.compared),
        (names.SHADOW_AGREED, "Those with equal predictions.", shadow.agreed),
        (names.SHADOW_DROPPED, "Copies that were not sent.", shadow.dropped),
    ):
        yield _single(name, "counter", help_, labels, value)
    yield _family(names.SHADOW_DIFFERENCES, "counter", "Those compared, by the largest difference of scores.")
    for index, value in enumerate(shadow.differences):
        yield f'{names.SHADOW_DIFFERENCES}_total{{{labels},bin="{index}"}} {value}\n'


def _capture(snapshot: Snapshot) -> Iterator[str]:
    labels, seen = _labels(snapshot), snapshot.capture
    if seen is None:
        return
    written = seen.written
    rows = {"Kept": 0, **seen.rows, "StoreAway": written.dropped}
    for name, help_, label, counts in (
        (names.CAPTURED_ROWS, "Rows of sampled predictions: kept, or why not.", "result", rows),
        (names.CAPTURE_LABELS, "Labels that came, by what became of them.", "result", seen.labels),
        (names.CAPTURE_SEGMENTS, "Segments that were written.", "kind", written.segments),
        (names.CAPTURE_FAILURES, "Attempts to write a segment that failed.", "kind", written.failures),
    ):
        yield _family(name, "counter", help_)
        for key, count in counts.items():
            yield f'{name}_total{{{labels},{label}="{key}"}} {count}\n'
    yield _family(names.CAPTURE_OLDEST, "gauge", "Age of the oldest row that is not written.")
    yield f"{names.CAPTURE_OLDEST}{{{labels}}} {written.oldest}\n"
    help_ = "Whether what writes segments can be reached."
    yield _single(names.CAPTURE_CONNECTED, "gauge", help_, labels, int(seen.connected))


def _arms(families: tuple[str, str, str], which: str, found: dict[str, Arm], labels: str) -> Iterator[str]:
    """Requests, failures and times of arms."""
    requests, failures, seconds = families
    of_arms = {name: f'{labels},arm="{name}"' for name in found}
    yield _family(requests, "counter", f"Requests {which}.")
    for name, arm in found.items():
        yield f"{requests}_total{{{of_arms[name]}}} {arm.requests}\n"
    yield _family(failures, "counter", f"Failures among the requests {which}.")
    for name, arm in found.items():
        yield f"{failures}_total{{{of_arms[name]}}} {arm.failures}\n"
    yield _family(seconds, "histogram", f"The model alone, per answered request {which}.")
    for name, arm in found.items():
        yield from _buckets(seconds, arm.compute, of_arms[name])


def _bins(name: str, bins: Bins, labels: str) -> Iterator[str]:
    for index, count in enumerate(bins.counts):
        yield f'{name}_total{{{labels},bin="{index}"}} {count}\n'
    yield f'{name}_total{{{labels},bin="other"}} {bins.other}\n'
    yield f'{name}_total{{{labels},bin="missing"}} {bins.missing}\n'


def _histogram(name: str, help_: str, latency: Latency, labels: str) -> Iterator[str]:
    yield _family(name, "histogram", help_)
    yield from _buckets(name, latency, labels)


def _buckets(name: str, latency: Latency, labels: str) -> Iterator[str]:
    cumulative = 0
    for edge, count in zip(_EDGES, latency.counts, strict=True):
        cumulative += count
        yield f'{name}_bucket{{{labels},le="{edge}"}} {cumulative}\n'
    yield f"{name}_sum{{{labels}}} {latency.total}\n"
    yield f"{name}_count{{{labels}}} {cumulative}\n"


def _process(board: Board) -> Iterator[str]:
    """The processes together, by the names that every Prometheus client uses."""
    own = os.getpid()
    # With one worker it is this process; else they have a parent, which also knows the time of those that died.
    pids = {own} if len(board.workers) == 1 else {os.getppid(), *(worker.pid for worker in board.workers)}
    yield _family("process_start_time_seconds", "gauge", "Start of the process since the Unix epoch.")
    yield f"process_start_time_seconds {board.started}\n"
    found = [process for pid in pids if (process := _usage(pid)) is not None]
    if not found:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield _family("process_cpu_seconds", "counter", "User and system CPU time.")
        yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}\n"
        return
    seconds, resident, descriptors = map(sum, zip(*found, strict=True))
    yield _family("process_cpu_seconds", "counter", "User and system CPU time.")
    yield f"process_cpu_seconds_total {seconds}\n"
    yield _family("process_resident_memory_bytes", "gauge", "Resident memory; what workers share counts for each.")
    yield f"process_resident_memory_bytes {resident}\n"
    yield _family("process_open_fds", "gauge", "Open file descriptors.")
    yield f"process_open_fds {descriptors}\n"


def _usage(pid: int) -> tuple[float, int, int] | None:
    """CPU seconds with those of ended children, resident bytes and open files; None where Linux' /proc has none."""
    folder = f"{_PROC}/{pid}"
    try:
        with open(f"{folder}/stat", "rb") as stat, open(f"{folder}/statm", "rb") as statm:  # noqa: PTH123 - faster
            ticks = stat.read().rpartition(b")")[2].split()[11:15]
            pages = int(statm.read().split()[1])
        descriptors = len(os.listdir(f"{folder}/fd"))  # noqa: PTH208
    except (OSError, IndexError):
        return None
    return sum(map(int, ticks)) / _TICKS, pages * resource.getpagesize(), descriptors


def _family(name: str, kind: str, help_: str) -> str:
    full = _full(name, kind)
    return f"# HELP {full} {help_}\n# TYPE {full} {kind}\n"


def _single(name: str, kind: str, help_: str, labels: str, value: int) -> str:
    """A family with one number, of a counter or a gauge."""
    return f"{_family(name, kind, help_)}{_full(name, kind)}{{{labels}}} {value}\n"


def _full(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
