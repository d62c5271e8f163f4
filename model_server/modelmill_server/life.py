"""The life of a process that serves: open the ports, get ready, serve, drain, end.

                 SIGTERM                      drain time over                   nothing in flight
    serving ---------------> draining -----------------------------> closing -------------------> exit 0
                             not ready, answers everything,          no new connections,
                             asks for new connections: "connection:   finishes what is in flight
                             close" on each answer, gRPC's GOAWAY

SIGINT (a person's Ctrl-C) skips the draining; a second one ends at once.
"""

import abc
import asyncio
import contextlib
import resource
import signal
import socket
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar

from modelmill_server import log, termination
from modelmill_server.app import App
from modelmill_server.counters import Board
from modelmill_server.errors import NotServableError
from modelmill_server.exposition import MetricsApp
from modelmill_server.ports import BACKLOG, Service, Sockets, announce
from modelmill_server.protocol import Server
from modelmill_server.routes import LOOK_SECONDS, RoutesFile

if TYPE_CHECKING:
    from modelmill_server import http2

# A connection that was accepted as the drain ended may have its request on the wire.
_LINGER_SECONDS = 0.3
# What is still in flight that long after the drain has hung.  The operator gives a pod 35 s from the drain's end until
# kubelet kills it.
_CLOSING_SECONDS = 30.0
_POLL_SECONDS = 0.02
# Files that a process opens beside its callers' connections, those of the metrics port among them.
_OTHER_FILES = 128

_Result = TypeVar("_Result")


def longest_end(service: Service) -> float:
    """Seconds that a process takes at most to end after a SIGTERM."""
    return service.drain_seconds + _LINGER_SECONDS + _CLOSING_SECONDS


class Life(abc.ABC):
    """The life of a process that answers with `app`; what has to be there before it is ready, subclasses know."""

    def __init__(
        self,
        app: App,
        service: Service,
        sockets: Sockets,
        metrics: socket.socket,
        board: Board,
        alive: int | None = None,
    ) -> None:
        self._service = service
        self._metrics_socket = metrics
        self._board = board
        self._alive = alive
        self._counters = app.counters
        self._counters.start()
        self._app = app
        limits = app.limits
        most = _most_connections(limits.connections, shared=sockets.grpc is not None)
        self._http = Server(app, limits, app.short_cut, most)
        self._callers: list[tuple[Server | http2.Server, socket.socket]] = [(self._http, sockets.http)]
        self._grpc: http2.Server | None = None
        if sockets.grpc is not None:
            self._grpc = _grpc_server(self._app)
            self._callers.append((self._grpc, sockets.grpc))
        self._metrics = Server(MetricsApp(self._app, board), limits)
        self._born = time.perf_counter()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()  # no draining
        self._now = asyncio.Event()  # no waiting at all

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        # A worker's parent blocks them, so that none is lost before they are handled.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if self._alive is not None:
            loop.add_reader(self._alive, self._orphaned)
        # A worker that takes a dead one's place lets its callers wait, and does not answer that it is not ready.
        late = self._counters.was_ready
        if not late:
            await self._open()
        await self._metrics.open(self._metrics_socket, BACKLOG)
        if self._alive is None:
            announce(self._service)
        dates, routes = asyncio.create_task(self._dates()), asyncio.create_task(self._follow_routes())
        try:
            ready = await self._get_ready()
        except NotServableError as error:
            return termination.fail(error.reason, str(error))
        if ready:
            if late:
                await self._open()
            self._welcome()
            await self._stop.wait()
            await self._end()
        dates.cancel()
        routes.cancel()
        self._counters.stop()
        if self._alive is None:
            log.info("stopped")
        return 0

    @abc.abstractmethod
    async def _get_ready(self) -> bool:
        """Be ready; False where a signal came first.  Raises NotServableError where that will never be."""

    @abc.abstractmethod
    def _welcome(self) -> None:
        """Say that callers are welcome."""

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return round(time.perf_counter() - self._born, 3)

    async def _until_stop(self, work: "asyncio.Future[_Result]") -> "_Result | None":
        """What `work` gives; None where a signal came first."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return work.result() if work.done() else None

    async def _open(self) -> None:
        for listener, sock in self._callers:
            await listener.open(sock, BACKLOG)

    async def _end(self) -> None:
        drain = self._service.drain_seconds
        self._app.drain()
        self._http.drain()
        if self._grpc is not None:
            self._grpc.drain()
        if not self._hurry.is_set():
            log.info("draining: not ready, still answering", seconds=drain)
            await _wait(self._hurry, drain)
        for listener, _ in self._callers:
            listener.close()
        await _wait(self._now, _LINGER_SECONDS)
        for listener, _ in self._callers:
            listener.release()
        deadline = time.monotonic() + _CLOSING_SECONDS
        while self._has_callers() and not self._now.is_set():
            if time.monotonic() > deadline:
                log.warning("requests hung and were given up", in_flight=self._counters.in_flight)
                break
            await asyncio.sleep(_POLL_SECONDS)
        self._metrics.close()
        for server in (self._metrics, *(listener for listener, _ in self._callers)):
            server.abort()
        await asyncio.sleep(_POLL_SECONDS)  # in which what is lost is counted

    def _has_callers(self) -> bool:
        return bool(self._counters.in_flight) or any(listener.connections for listener, _ in self._callers)

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
        """The Date header, which HTTP asks a server for, made once a second; and the sign that the event loop runs."""
        while True:
            date = formatdate(usegmt=True)
            self._http.date = self._metrics.date = date.encode()
            self._app.set_date(date)
            self._counters.beat()
            await asyncio.sleep(1.0)

    async def _follow_routes(self) -> None:
        """Send requests where the routes file says."""
        routes = RoutesFile(self._service.routes)
        while True:
            try:
                if routes.look():
                    self._app.route(routes.routes)
                elif self._app.split is not None:
                    self._app.split.look()
            except Exception as error:  # the requests are answered all the same
                log.failure("the routes cannot be followed", error)
            await asyncio.sleep(LOOK_SECONDS)


def _grpc_server(app: App) -> "http2.Server":
    from modelmill_server import grpc, http2  # noqa: PLC0415 - only where it is asked for

    return http2.Server(grpc.Service(app), app.limits.body_seconds)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _log(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the event loop says of an exception that nobody caught, without its text."""
    error = context.get("exception")
    message = "the event loop met an error"
    if isinstance(error, BaseException):
        log.failure(message, error)
    else:
        log.error(message, said=context.get("message"))


def _most_connections(wanted: int, *, shared: bool) -> int:
    """How many callers of HTTP may be connected: with them, and as many of gRPC, there are files left."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(1, (files - _OTHER_FILES) // (2 if shared else 1)))
