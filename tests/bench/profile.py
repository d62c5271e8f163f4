"""Where the time of one request goes: `python -m tests.bench.profile`.

The parts of the program are timed alone, in this process, one after the other, with nothing between them and the clock;
the fastest of several passes over the same bodies counts.  What the whole costs under load, in the program and in the
kernel, /proc says.  The difference is what cannot be timed alone: the event loop with its reads and writes, and caches
that hold less of the program when the kernel runs in between.  Where there is `perf`, it samples the same load by
the library that runs.
"""

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench import bodies, document, loads, models, processes
from tests.bench.bodies import Workload
from tests.bench.models import FOREST, LOGISTIC, Model
from tests.bench.processes import Server

from modelmill_server import model as servables
from modelmill_server.app import App
from modelmill_server.counters import Board
from modelmill_server.inference import Outcome
from modelmill_server.limits import Limits
from modelmill_server.outbox import Outbox
from modelmill_server.protocol import Connection
from modelmill_server.protocol import Server as Port

_ONE = Workload("JSON, 1 row", "json", 1, 32)
_PASSES, _REPEATS = 7, 8  # each pass goes over all bodies so often
_PORT = 18600
_LEAST = 1.0  # % of the samples: libraries with less are summed up


class _Parts(NamedTuple):
    """Microseconds of one request."""

    http: float
    decode: float
    model: float
    encode: float
    counters: float
    answer: float
    loop: float
    kernel: float


_NAMES = (  # of `_Parts`, in order
    "HTTP: parse the request (httptools), choose the short cut, hand the response over",
    "decode the JSON into float32, checks included",
    "the model (onnxruntime)",
    "encode the answer as JSON",
    "counters: two histograms, and the row for the bins",
    "the response's head, and what holds these steps together",
    "event loop, reads and writes outside of the kernel, colder caches",
    "kernel: sockets, loopback, waking the client",
)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load (%(default)s)")
    parser.add_argument("--no-update", action="store_true", help="leave docs/BENCHMARKS.md alone")
    options = parser.parse_args(arguments)
    found, samples = {}, ""
    with tempfile.TemporaryDirectory() as name:
        for title in (LOGISTIC, FOREST):
            print(f"profile of the {title} ...", flush=True)
            model = models.train(title, Path(name) / title)
            file = Path(name) / title / "bodies"
            bodies.write(file, _ONE, model.rows)
            with processes.running(processes.ours(model, _PORT), _PORT) as server:
                loads.closed(server, _ONE, file, 1)
                runs = [loads.closed(server, _ONE, file, options.seconds) for _ in range(options.rounds)]
                if title == LOGISTIC:
                    samples = _sampled(server, file, options.seconds)
            user, system = median(run.cpu - run.system for run in runs), median(run.system for run in runs)
            found[title] = _parts(model, [body.content for body in bodies.read(file)], user, system)
    text = _report(found, samples)
    if options.no_update:
        print(text)
    else:
        document.update("profile", text)


def _parts(model: Model, contents: list[bytes], user: float, system: float) -> _Parts:
    """`user` and `system` are microseconds of CPU per request under load."""
    served = app(model.artifact, model.digest)
    servable = served.servable
    assert servable is not None
    codec, runtime = servable.codec, servable.runtime
    (call, arrays, outcome) = _example(servable, contents[0])
    receive = receiver(served)
    requests = [request(content) for content in contents]
    decode = _microseconds(codec.decode, contents)
    predict = _microseconds(lambda _: runtime.predict(call.feeds), contents)
    encode = _microseconds(lambda _: codec.encode(call, arrays), contents)
    count = _microseconds(lambda _: served._count(outcome, 1e-4), contents)  # noqa: SLF001 - a part of the hot path
    answer = _microseconds(lambda content: served.short_cut.answer(content, None), contents)
    whole = _microseconds(receive, requests)
    return _Parts(
        http=whole - answer,
        decode=decode,
        model=predict,
        encode=encode,
        counters=count,
        answer=answer - decode - predict - encode - count,
        loop=user - whole,
        kernel=system,
    )


def app(artifact: Path, digest: str) -> App:
    """What `modelmill-server` serves, in this process."""
    servable = servables.load(artifact, digest, "model", "1")
    board = Board()
    if servable.bins is not None:
        board.bin_rows(servable.bins)
    served = App("model", "1", Limits(), board.workers[0])
    served.set_date("Thu, 01 Jan 1970 00:00:00 GMT")
    served.serve(servable)
    return served


def request(content: bytes) -> bytes:
    """A whole request with `content` as its body."""
    return (
        b"POST /v2/models/model/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )


def _example(servable: servables.Servable, content: bytes) -> tuple[Any, Any, Outcome]:
    call = servable.codec.decode(content)
    arrays = servable.runtime.predict(call.feeds)
    return call, arrays, Outcome(200, b"", "", 1e-5, 1, "", None, call.feeds, arrays)


class _Loop:
    """Stands for the event loop: what is to be called at the end of a round is called by `end`."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def call_at(self, *_: Any) -> None:
        pass

    def time(self) -> float:
        return 0.0

    def end(self) -> None:
        soon, self._soon = self._soon, []
        for call in soon:
            call()


class _Socket(asyncio.Transport):
    """Stands for a connection: what is written is gone."""

    def write(self, data: Any) -> None:
        pass


def receiver(served: App) -> Callable[[bytes], None]:
    """A function that takes one request as a connection does."""
    loop: Any = _Loop()
    connection = Connection(Port(served, served.limits, served.short_cut), Outbox(loop), loop)
    connection.connection_made(_Socket())

    def receive(request: bytes) -> None:
        connection.data_received(request)
        loop.end()

    return receive


def _microseconds(work: Callable[[bytes], Any], items: list[bytes]) -> float:
    fastest = float("inf")
    for _ in range(_PASSES):
        began = time.perf_counter()
        for _ in range(_REPEATS):
            for item in items:
                work(item)
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / (_REPEATS * len(items)) * 1e6


def _sampled(server: Server, file: Path, seconds: int) -> str:
    """The share of each library under load, as perf samples it; "" where there is no perf, or it may not."""
    if shutil.which("perf") is None:
        return ""
    with tempfile.NamedTemporaryFile() as output:
        record = ["perf", "record", "-q", "-F", "999", "-e", "cpu-clock", "-o", output.name, "-p", str(server.pid)]
        with subprocess.Popen(
            [*record, "--", "sleep", str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as perf:
            loads.closed(server, _ONE, file, seconds + 1)
        if perf.returncode:
            return ""
        report = ["perf", "report", "-i", output.name, "--stdio", "-q", "--sort", "dso"]
        text = subprocess.run(report, check=False, capture_output=True, text=True).stdout
    shares: dict[str, float] = {}
    for share, library in re.findall(r"^\s*([\d.]+)%\s+(\S+)", text, re.MULTILINE):
        name = re.split(r"[.-]cpython|\.so|\.cpython", library)[0]
        kept = name if float(share) >= _LEAST else "others"
        shares[kept] = shares.get(kept, 0.0) + float(share)
    return ", ".join(f"{name} {share:.0f} %" for name, share in sorted(shares.items(), key=lambda item: -item[1]))


def _report(found: dict[str, _Parts], samples: str) -> str:
    titles = list(found)
    lines = [
        document.machine(),
        "",
        f"| us of CPU per request, one row in JSON, {_ONE.connections} connections | {' | '.join(titles)} |",
        "|---|" + "---|" * len(titles),
    ]
    for name, values in zip(_NAMES, zip(*found.values(), strict=True), strict=True):
        lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")
    lines.append(f"| **all** | {' | '.join(f'{sum(found[title]):.1f}' for title in titles)} |")
    if samples:
        lines += ["", f"By perf, where the CPU is under the same load ({titles[0]}): {samples}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
