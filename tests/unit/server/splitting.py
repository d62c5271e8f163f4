"""A rollout as pods see it: the folder that kubelet mounts, a stable server that follows it, and a candidate."""

import http.client
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from artifacts import Made
from fronting import Scripted, whole_request
from serving import Server, ask, matrix, serving

from modelmill_contracts import counters, routes
from modelmill_contracts.counters import Rollout, Snapshot
from modelmill_contracts.routes import Routes

INFER = "/v2/models/model/infer"
STABLE, CANDIDATE = "7", "8"  # versions


class Mounted:
    """A ConfigMap's folder: a file is a link into `..data`, which is a link that is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._swaps = 0

    def write(self, text: Routes | bytes | None) -> None:
        """Swap the folder's content; None: the ConfigMap is gone."""
        self._swaps += 1
        made = self.folder / f"..{self._swaps}"
        made.mkdir()
        file = self.folder / routes.FILE
        if text is not None:
            (made / routes.FILE).write_bytes(text if isinstance(text, bytes) else routes.encode(text))
        link = self.folder / "..data_tmp"
        link.symlink_to(made.name)
        link.replace(self.folder / "..data")
        if text is None:
            file.unlink(missing_ok=True)
        elif not file.is_symlink():
            file.symlink_to(f"..data/{routes.FILE}")
        shutil.rmtree(self.folder / f"..{self._swaps - 1}", ignore_errors=True)


class Stable(Server):
    """A server with version 7 whose routes `mounted` holds."""

    mounted: Mounted

    def follow(self, wanted: Routes) -> None:
        """Write routes, and wait until the server splits as they say."""
        self.mounted.write(wanted)
        until(lambda: self.rollout is not None and self.rollout.epoch == wanted.epoch, "the routes are followed")

    @property
    def snapshot(self) -> Snapshot:
        answer = ask(self.metrics_port, "GET", counters.SNAPSHOT_PATH)
        return msgspec.json.decode(answer.body, type=Snapshot)

    @property
    def rollout(self) -> Rollout | None:
        return self.snapshot.rollout

    def counted(self) -> Rollout:
        found = self.rollout
        assert found is not None, "nothing is rolled out"
        return found


@contextmanager
def stable(made: Made, folder: Path, *options: str) -> Iterator[Stable]:
    """A ready server that follows the routes in `folder`; none are there yet."""
    mounted = Mounted(folder)
    server = Stable(made.folder, "--digest", made.digest, "--routes", str(folder), *options)
    server.mounted = mounted
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.end()


def candidate(made: Made, *options: str) -> Any:
    """A ready server with version 8."""
    return serving(made, "--version", CANDIDATE, *options)


def to(port: int, weight: int = 0, **more: Any) -> Routes:
    """Routes to a candidate on loopback."""
    return Routes(**{"epoch": "90ab11c2.1", "host": "127.0.0.1", "port": port, "weight": weight, **more})


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def one_row(made: Made) -> bytes:
    return msgspec.json.encode({"inputs": [matrix(made.rows[:1])]})


class Caller(threading.Thread):
    """Predicts on a kept-alive connection until it is told to stop, and writes down who answered."""

    def __init__(
        self, port: int, body: bytes, stop: threading.Event, path: str = INFER, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._body, self._enough, self._path, self._headers = port, body, stop, path, headers or {}
        self.failures: list[str] = []
        self.versions: list[str] = []  # of the answers, in order

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._enough.is_set():
            try:
                connection.request("POST", self._path, self._body, self._headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status}: {body[:200]!r}")
                self.versions.append(answer.headers["modelmill-model-version"])
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


@contextmanager
def load(port: int, body: bytes, callers: int = 4, **more: Any) -> Iterator[list[Caller]]:
    """Callers that have been answered at least once at the beginning, and are through at the end."""
    stop = threading.Event()
    started = [Caller(port, body, stop, **more) for _ in range(callers)]
    for caller in started:
        caller.start()
    try:
        until(lambda: all(caller.versions or caller.failures for caller in started), "all callers were answered")
        yield started
    finally:
        stop.set()
        for caller in started:
            caller.join(30)


def relay(port: int) -> Callable[[socket.socket, bytes], None]:
    """What a `Scripted` does that hands requests on to another server."""

    def work(connection: socket.socket, request: bytes) -> None:
        connection.sendall(through(port, request))

    return work


def through(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as other:
        other.sendall(request)
        return whole_request(other)  # an answer is framed like a request


@contextmanager
def between(port: int) -> Iterator[Scripted]:
    """What hands everything on to the server on `port`, until it is told to do something else."""
    server = Scripted()
    server.answering = relay(port)
    try:
        yield server
    finally:
        with suppress(OSError):
            server.close()
