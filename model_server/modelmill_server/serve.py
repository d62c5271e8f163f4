"""The life of a server: open the ports, load, serve, drain, end.

                 SIGTERM                      drain time over                   nothing in flight
    serving ---------------> draining -----------------------------> closing -------------------> exit 0
                             not ready, answers everything,          no new connections,
                             "connection: close" on each answer      finishes what is in flight

SIGINT (a person's Ctrl-C) skips the draining; a second one ends at once.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from uvicorn.server import ServerState

from modelmill_contracts.folder import ArtifactError
from modelmill_server import log, protocol, termination, welcome
from modelmill_server.app import App, Limits
from modelmill_server.counters import Board, Counters
from modelmill_server.errors import NotServableError
from modelmill_server.exposition import MetricsApp
from modelmill_server.outbox import Outbox

if TYPE_CHECKING:
    from modelmill_server.model import Servable

_BACKLOG = 2048
# A connection that was accepted as the drain ended may have its request on the wire.
_LINGER_SECONDS = 0.3
# What is still in flight that long after the drain has hung; kubelet would kill the pod soon.
_CLOSING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    folder: Path
    name: str
    version: str
    digest: str | None
    host: str  # "" is every interface
    port: int  # 0 is any free one
    metrics_port: int
    drain_seconds: float
    limits: Limits
    workers: int = 1  # processes
    arm: str = ""  # of a rollout, a label of the counters


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a server listens on."""

    callers: socket.socket
    metrics: socket.socket


def main(settings: Settings) -> int:
    """Serve until a signal says stop; the exit code."""
    try:
        sockets = Sockets(bind(settings.host, settings.port), bind(settings.host, settings.metrics_port))
    except OSError as error:
        return termination.fail("PortUnavailable", f"cannot listen: {error}; choose other ports")
    if settings.workers > 1:
        from modelmill_server import workers  # noqa: PLC0415 - it imports what workers need

        return workers.main(settings, sockets)
    return live(settings, sockets, Board(), 0, None)


def ports(sockets: Sockets) -> tuple[int, int]:
    return sockets.callers.getsockname()[1], sockets.metrics.getsockname()[1]


def announce(settings: Settings, sockets: Sockets) -> None:
    port, metrics_port = ports(sockets)
    log.info("listening", port=port, metrics_port=metrics_port)
    if settings.digest is None:
        log.warning("no --digest was given: the files agree with their manifest, but anybody may have made it")


def live(settings: Settings, sockets: Sockets, board: Board, index: int, alive: int | None) -> int:
    """One worker's life: it counts into slab `index` of `board`; at the end of file `alive` it ends."""
    return uvloop.run(_Life(settings, sockets, board, index, alive).run())


class _Listener:
    """One open port with its connections."""

    def __init__(self, app: Any, counters: Counters, short_cut: protocol.ShortCut | None) -> None:
        self._config = protocol.configuration(app)
        self._short_cut = short_cut
        self._counters = counters
        self._server: asyncio.Server | None = None
        self.state = ServerState()

    async def open(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        self._server = await loop.create_server(
            lambda: protocol.Protocol(self._config, self.state, self._counters, self._short_cut, outbox, loop),
            sock=sock,
            backlog=_BACKLOG,
        )

    def close(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()

    def release(self) -> None:
        """Close idle connections now, and the others after their answer."""
        for connection in list(self.state.connections):
            connection.shutdown()


class _Life:
    def __init__(self, settings: Settings, sockets: Sockets, board: Board, index: int, alive: int | None) -> None:
        self._settings = settings
        self._sockets = sockets
        self._board = board
        self._index = index
        self._alive = alive
        self._counters = board.workers[index]
        self._counters.start()
        self._app = App(settings.name, settings.version, settings.limits, self._counters, settings.arm)
        self._callers = _Listener(self._app, self._counters, self._app.short_cut)
        self._metrics = _Listener(MetricsApp(self._app, board), Counters(), None)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()  # no draining
        self._now = asyncio.Event()  # no waiting at all

    async def run(self) -> int:
        settings, began = self._settings, time.perf_counter()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        # A worker's parent blocks them, so that none is lost before they are handled.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if self._alive is not None:
            loop.add_reader(self._alive, self._orphaned)
        # A worker that takes a dead one's place lets its callers wait, and does not answer that it is not ready.
        late = self._counters.was_ready
        if not late:
            await self._callers.open(self._sockets.callers)
        await self._metrics.open(self._sockets.metrics)
        if self._alive is None:
            announce(settings, self._sockets)
        dates = asyncio.create_task(self._dates())
        try:
            servable = await self._load()
        except (ArtifactError, NotServableError) as error:
            return termination.fail(error.reason, f"cannot serve {settings.folder}: {error}")
        if servable is not None:
            if self._board.layout is None and servable.bins is not None:
                self._board.bin_rows(servable.bins)
            self._app.serve(servable)
            if late:
                await self._callers.open(self._sockets.callers)
            port, metrics_port = ports(self._sockets)
            log.info(
                "ready" if self._alive is None else f"worker {self._index} is ready",
                model=servable.name,
                version=servable.version,
                digest=servable.digest,
                runtime=servable.manifest.runtime,
                seconds=round(time.perf_counter() - began, 3),
                infer=f"http://{settings.host or 'localhost'}:{port}/v2/models/{servable.name}/infer",
            )
            if self._alive is None:
                welcome.show(settings, servable.manifest, port, metrics_port)
            await self._stop.wait()
            await self._end()
        dates.cancel()
        self._counters.stop()
        if self._alive is None:
            log.info("stopped")
        return 0

    async def _load(self) -> "Servable | None":
        """The model, loaded in a thread so that probes are answered; None where a signal came first."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Servable] = loop.create_future()

        def work() -> None:
            try:
                from modelmill_server import model  # noqa: PLC0415 - see there

                servable = model.load(settings.folder, settings.digest, settings.name, settings.version)
            except Exception as error:
                outcome, value = future.set_exception, error
            else:
                # What is there now lives as long as the process: the collector need not look at it again.
                gc.collect()
                gc.freeze()
                outcome, value = future.set_result, servable  # type: ignore[assignment]
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(outcome, value)

        # A daemon, so that a signal need not wait for it.
        threading.Thread(target=work, name="load", daemon=True).start()
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((future, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return future.result() if future.done() else None

    async def _end(self) -> None:
        drain = self._settings.drain_seconds
        self._app.drain()
        if not self._hurry.is_set():
            log.info("draining: not ready, still answering", seconds=drain)
            await _wait(self._hurry, drain)
        self._callers.close()
        await _wait(self._now, _LINGER_SECONDS)
        self._callers.release()
        deadline = time.monotonic() + _CLOSING_SECONDS
        while (self._counters.in_flight or self._callers.state.connections) and not self._now.is_set():
            if time.monotonic() > deadline:
                log.warning("requests hung and were given up", in_flight=self._counters.in_flight)
                break
            await asyncio.sleep(0.02)
        self._metrics.close()
        self._metrics.release()

    def _orphaned(self) -> None:
        """The parent has died, and with it what would restart and stop workers."""
        if self._alive is not None:
            asyncio.get_running_loop().remove_reader(self._alive)
        self._interrupted()

    def _interrupted(self) -> None:
        if self._stop.is_set():
            self._now.set()
        self._hurry.set()
        self._stop.set()

    async def _dates(self) -> None:
        """The Date header, which HTTP asks a server for, made once a second."""
        while True:
            date = formatdate(usegmt=True)
            self._callers.state.default_headers = [(b"date", date.encode())]
            self._app.set_date(date)
            await asyncio.sleep(1.0)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; of those that are `shared`, several can have one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        with contextlib.suppress(OSError, ValueError):  # a machine without IPv6
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG, reuse_port=shared
            )
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
