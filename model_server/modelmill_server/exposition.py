"""What stands on the metrics port: the counters as Prometheus text (format 0.0.4), built when they are asked for.

prometheus_client would take 4 ms for the 322 buckets, and 0.1 s of the start; a prediction would wait for it.
"""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelmill_contracts import counters as names
from modelmill_server.app import App
from modelmill_server.counters import Histogram

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_EDGES = [*map(repr, names.LATENCY_EDGES), "+Inf"]
_STARTED = time.time()
_STATM = Path("/proc/self/statm")  # Linux only; elsewhere these two are left out
_DESCRIPTORS = Path("/proc/self/fd")


class MetricsApp:
    """The ASGI application of the metrics port: GET /metrics and GET /healthz (whether the process lives)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ARG002
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            status, kind, body = 405, b"text/plain", b"GET only\n"
        elif path == "/metrics":
            status, kind, body = 200, CONTENT_TYPE, text(self._app)
        elif path == "/healthz":
            status, kind, body = 200, b"text/plain", b"ok\n"
        else:
            status, kind, body = 404, b"text/plain", b"/metrics and /healthz are here\n"
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def text(app: App) -> bytes:
    """All metrics of a server."""
    return "".join((*_model(app), *_process())).encode()


def _model(app: App) -> Iterator[str]:
    counters = app.counters
    labels = f'model="{_escaped(app.name)}",version="{_escaped(app.version)}"'
    yield _family(names.REQUESTS, "counter", "Inference requests by status code.")
    for code, count in sorted(counters.requests.items()):
        yield f'{names.REQUESTS}_total{{{labels},code="{code}"}} {count}\n'
    yield _family(names.PREDICTIONS, "counter", "Rows that were predicted.")
    yield f"{names.PREDICTIONS}_total{{{labels}}} {counters.predictions}\n"
    yield _family(names.REFUSALS, "counter", "Requests that were refused, by reason.")
    for reason, count in sorted(counters.refusals.items()):
        yield f'{names.REFUSALS}_total{{{labels},reason="{reason}"}} {count}\n'
    help_ = "Answering a request, from its body's end to the answer's start."
    yield from _histogram(names.REQUEST_SECONDS, help_, counters.request, labels)
    yield from _histogram(names.COMPUTE_SECONDS, "The model alone, per request.", counters.compute, labels)
    yield _family(names.IN_FLIGHT, "gauge", "Requests that are not answered yet.")
    yield f"{names.IN_FLIGHT}{{{labels}}} {counters.in_flight}\n"
    yield _family(names.READY, "gauge", "Whether new requests are welcome.")
    yield f"{names.READY}{{{labels}}} {int(counters.ready)}\n"
    if app.servable is not None:
        digest, runtime = app.servable.digest, app.servable.manifest.runtime
        yield _family(names.MODEL_INFO, "gauge", "The model that is served.")
        yield f'{names.MODEL_INFO}{{{labels},digest="{digest}",runtime="{runtime}"}} 1\n'


def _histogram(name: str, help_: str, histogram: Histogram, labels: str) -> Iterator[str]:
    yield _family(name, "histogram", help_)
    cumulative = 0
    for edge, count in zip(_EDGES, histogram.counts, strict=True):
        cumulative += count
        yield f'{name}_bucket{{{labels},le="{edge}"}} {cumulative}\n'
    yield f"{name}_sum{{{labels}}} {histogram.total}\n"
    yield f"{name}_count{{{labels}}} {cumulative}\n"


def _process() -> Iterator[str]:
    """The process, by the names that every Prometheus client uses."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _family("process_cpu_seconds", "counter", "User and system CPU time.")
    yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}\n"
    yield _family("process_start_time_seconds", "gauge", "Start of the process since the Unix epoch.")
    yield f"process_start_time_seconds {_STARTED}\n"
    if _STATM.exists():
        resident = int(_STATM.read_text().split()[1]) * resource.getpagesize()
        yield _family("process_resident_memory_bytes", "gauge", "Resident memory.")
        yield f"process_resident_memory_bytes {resident}\n"
        yield _family("process_open_fds", "gauge", "Open file descriptors.")
        yield f"process_open_fds {len(os.listdir(_DESCRIPTORS))}\n"  # noqa: PTH208 - ten times as fast


def _family(name: str, kind: str, help_: str) -> str:
    full = f"{name}_total" if kind == "counter" else name
    return f"# HELP {full} {help_}\n# TYPE {full} {kind}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
