"""The life of a server: open the ports, load, serve, drain, end.

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
import errno
import gc
import resource
import signal
import socket
import threading
import time
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import uvloop

from modelmill_contracts import environment
from modelmill_contracts.folder import ArtifactError
from modelmill_server import log, termination, welcome
from modelmill_server.app import App, Limits
from modelmill_server.counters import Board
from modelmill_server.errors import NotServableError
from modelmill_server.exposition import MetricsApp
from modelmill_server.protocol import Server
from modelmill_server.routes import LOOK_SECONDS, RoutesFile

if TYPE_CHECKING:
    from modelmill_server import http2
    from modelmill_server.model import Servable

_BACKLOG = 2048
# A connection that was accepted as the drain ended may have its request on the wire.
_LINGER_SECONDS = 0.3
# What is still in flight that long after the drain has hung.  The operator gives a pod 35 s from the drain's end until
# kubelet kills it.
_CLOSING_SECONDS = 30.0
_POLL_SECONDS = 0.02
# Files that a process opens beside its callers' connections, those of the metrics port among them.
_OTHER_FILES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is served to whom, wherever predictions come from."""

    name: str
    version: str
    digest: str | None  # the artifact's
    host: str  # "" is every interface
    port: int  # 0 is any free one
    grpc_port: int | None  # None is no gRPC
    metrics_port: int
    drain_seconds: float
    limits: Limits
    arm: str = ""  # of a rollout, a label of the counters
    routes: Path = Path(environment.ROUTES_FOLDER)  # where the routes file is, or will be


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Service):
    folder: Path
    workers: int = 1  # processes


_Service = TypeVar("_Service", bound=Service)
_Result = TypeVar("_Result")


class Sockets(NamedTuple):
    """What callers of one process connect to."""

    http: socket.socket
    grpc: socket.socket | None

    def close(self) -> None:
        for sock in self:
            if sock is not None:
                sock.close()


def main(settings: Settings) -> int:
    """Serve until a signal says stop; the exit code."""
    try:
        settings, sockets, metrics = bind(settings)
    except OSError as error:
        return fail_to_listen(error)
    if settings.workers > 1:
        from modelmill_server import workers  # noqa: PLC0415 - it imports what workers need

        return workers.main(settings, sockets, metrics)
    return live(settings, sockets, metrics, Board())


def bind(service: _Service) -> tuple[_Service, Sockets, socket.socket]:
    """The callers' sockets and that of the metrics, and the service with the ports that these have got."""
    sockets = listen(service)
    metrics = _bind(service.host, service.metrics_port)
    known = replace(
        service,
        port=_port(sockets.http),
        grpc_port=None if sockets.grpc is None else _port(sockets.grpc),
        metrics_port=_port(metrics),
    )
    return known, sockets, metrics


def fail_to_listen(error: OSError) -> int:
    if error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:  # below 0: of the resolver
        return termination.fail(
            "HostUnknown", f"cannot listen: --host is no address of this machine ({error.strerror})"
        )
    return termination.fail("PortUnavailable", f"cannot listen: {error}; choose other ports")


def listen(service: Service, *, shared: bool = False) -> Sockets:
    """Sockets that listen on the callers' ports; of those that are `shared`, each process can have its own."""
    grpc_port = service.grpc_port
    return Sockets(
        _bind(service.host, service.port, shared=shared),
        None if grpc_port is None else _bind(service.host, grpc_port, shared=shared),
    )


def announce(service: Service) -> None:
    grpc = {} if service.grpc_port is None else {"grpc_port": service.grpc_port}
    log.info("listening", port=service.port, metrics_port=service.metrics_port, **grpc)
    if isinstance(service, Settings) and service.digest is None:
        log.warning("no --digest was given: the files agree with their manifest, but anybody may have made it")


def longest_end(service: Service) -> float:
    """Seconds that a process takes at most to end after a SIGTERM."""
    return service.drain_seconds + _LINGER_SECONDS + _CLOSING_SECONDS


def live(
    settings: Settings,
    sockets: Sockets,
    metrics: socket.socket,
    board: Board,
    index: int = 0,
    alive: int | None = None,
) -> int:
    """One process' life.  It counts into slab `index` of `board`; a worker ends at the end of file `alive`."""
    counters = board.workers[index]
    app = App(settings.name, settings.version, settings.limits, counters, settings.arm)
    return uvloop.run(_Model(app, settings, sockets, metrics, board, index, alive).run())


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
        await self._metrics.open(self._metrics_socket, _BACKLOG)
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
            await listener.open(sock, _BACKLOG)

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


class _Model(Life):
    """The life of a process with a model of its own."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        sockets: Sockets,
        metrics: socket.socket,
        board: Board,
        index: int,
        alive: int | None,
    ) -> None:
        super().__init__(app, settings, sockets, metrics, board, alive)
        self._settings = settings
        self._index = index

    async def _get_ready(self) -> bool:
        try:
            servable = await self._until_stop(self._load())
        except (ArtifactError, NotServableError) as error:
            raise NotServableError(error.reason, f"cannot serve {self._settings.folder}: {error}") from error
        if servable is None:
            return False
        if self._board.layout is None and servable.bins is not None:
            self._board.bin_rows(servable.bins)
        self._app.serve(servable)
        return True

    def _welcome(self) -> None:
        settings, servable = self._settings, self._app.servable
        if servable is None:
            raise AssertionError("callers are welcomed before the model is loaded")
        log.info(
            "ready" if self._alive is None else f"worker {self._index} is ready",
            model=servable.name,
            version=servable.version,
            digest=servable.digest,
            runtime=servable.manifest.runtime,
            seconds=self.age,
            infer=f"http://{settings.host or 'localhost'}:{settings.port}/v2/models/{servable.name}/infer",
        )
        if self._alive is None:
            welcome.show(settings, servable.manifest)

    def _load(self) -> "asyncio.Future[Servable]":
        """The model, which is loaded in a thread so that probes are answered."""
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
        return future


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


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        with contextlib.suppress(OSError, ValueError):  # a machine without IPv6
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG, reuse_port=shared
            )
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
