"""The life of a server: open the ports, load, serve, drain, end.

                 SIGTERM                      drain time over                   nothing in flight
    serving ---------------> draining -----------------------------> closing -------------------> exit 0
                             not ready, answers everything,          no new connections,
                             asks for new connections: "connection:   finishes what is in flight
                             close" on each answer, gRPC's GOAWAY

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
from modelmill_server import log, protocol, termination
from modelmill_server.app import App, Limits
from modelmill_server.counters import Counters
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
    grpc_port: int | None  # None is no gRPC
    drain_seconds: float
    limits: Limits


def main(settings: Settings) -> int:
    """Serve until a signal says stop; the exit code."""
    return uvloop.run(_Life(settings).run())


class _Listener:
    """One open port with its connections."""

    def __init__(self, app: Any, counters: Counters, short_cut: protocol.ShortCut | None) -> None:
        self._config = protocol.configuration(app)
        self._short_cut = short_cut
        self._counters = counters
        self._server: asyncio.Server | None = None
        self.state = ServerState()

    async def open(self, host: str, port: int) -> int:
        """Listen; the port that was bound."""
        loop = asyncio.get_running_loop()
        sock, outbox = _bind(host, port), Outbox(loop)
        self._server = await loop.create_server(
            lambda: protocol.Protocol(self._config, self.state, self._counters, self._short_cut, outbox, loop),
            sock=sock,
            backlog=_BACKLOG,
        )
        return int(sock.getsockname()[1])

    def close(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()

    def release(self) -> None:
        """Close idle connections now, and the others after their answer."""
        for connection in list(self.state.connections):
            connection.shutdown()


class _Grpc:
    """The port for gRPC, whose modules are loaded only where it is asked for."""

    def __init__(self, app: App, limits: Limits) -> None:
        from modelmill_server import grpc, http2  # noqa: PLC0415

        self._service = grpc.Service(app, limits)
        self.calls = http2.Server(self._service, limits.body_seconds)

    async def open(self, host: str, port: int) -> int:
        """Listen; the port that was bound."""
        sock = _bind(host, port)
        await self.calls.open(sock, _BACKLOG)
        return int(sock.getsockname()[1])

    def serve(self, servable: "Servable") -> None:
        """Become ready."""
        from modelmill_server.grpc_codec import Codec  # noqa: PLC0415 - after the ports are open: it needs numpy

        self._service.serve(Codec(servable.name, servable.version, servable.signature, servable.codec))


class _Life:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counters = Counters()
        self._app = App(settings.name, settings.version, settings.limits, self._counters)
        self._callers = _Listener(self._app, self._counters, self._app.short_cut)
        self._grpc = None if settings.grpc_port is None else _Grpc(self._app, settings.limits)
        self._metrics = _Listener(MetricsApp(self._app), Counters(), None)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()  # no draining
        self._now = asyncio.Event()  # no waiting at all

    async def run(self) -> int:
        settings, began = self._settings, time.perf_counter()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        ports: dict[str, int] = {}
        try:
            port = await self._callers.open(settings.host, settings.port)
            metrics_port = await self._metrics.open(settings.host, settings.metrics_port)
            if self._grpc is not None and settings.grpc_port is not None:
                ports["grpc_port"] = await self._grpc.open(settings.host, settings.grpc_port)
        except OSError as error:
            return termination.fail("PortUnavailable", f"cannot listen: {error}; choose other ports")
        dates = asyncio.create_task(self._dates())
        log.info("listening", port=port, metrics_port=metrics_port, **ports)
        if settings.digest is None:
            log.warning("no --digest was given: the files agree with their manifest, but anybody may have made it")
        try:
            servable = await self._load()
        except (ArtifactError, NotServableError) as error:
            return termination.fail(error.reason, f"cannot serve {settings.folder}: {error}")
        if servable is not None:
            self._app.serve(servable)
            if self._grpc is not None:
                self._grpc.serve(servable)
            log.info(
                "ready",
                model=servable.name,
                version=servable.version,
                digest=servable.digest,
                runtime=servable.manifest.runtime,
                seconds=round(time.perf_counter() - began, 3),
                infer=f"http://{settings.host or 'localhost'}:{port}/v2/models/{servable.name}/infer",
            )
            await self._stop.wait()
            await self._end()
        dates.cancel()
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
                if self._grpc is not None:
                    from modelmill_server import grpc_codec  # noqa: F401, PLC0415 - so that the loop need not wait
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
        if self._grpc is not None:
            self._grpc.calls.drain()
        if not self._hurry.is_set():
            log.info("draining: not ready, still answering", seconds=drain)
            await _wait(self._hurry, drain)
        self._callers.close()
        if self._grpc is not None:
            self._grpc.calls.close()
        await _wait(self._now, _LINGER_SECONDS)
        self._callers.release()
        if self._grpc is not None:
            self._grpc.calls.release()
        deadline = time.monotonic() + _CLOSING_SECONDS
        while (self._counters.in_flight or self._connections()) and not self._now.is_set():
            if time.monotonic() > deadline:
                log.warning("requests hung and were given up", in_flight=self._counters.in_flight)
                break
            await asyncio.sleep(0.02)
        self._metrics.close()
        self._metrics.release()

    def _connections(self) -> int:
        """Of callers."""
        return len(self._callers.state.connections) + (0 if self._grpc is None else len(self._grpc.calls.connections))

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


def _bind(host: str, port: int) -> socket.socket:
    if not host:
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
        except (OSError, ValueError):
            pass  # a machine without IPv6
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)
