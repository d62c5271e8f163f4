"""A server with a model of its own: the ports are opened, the model is loaded, by this process or by several."""

import asyncio
import contextlib
import gc
import socket
import threading
from typing import TYPE_CHECKING

import uvloop

from modelmill_contracts.folder import ArtifactError
from modelmill_server import log, ports, welcome
from modelmill_server.app import App
from modelmill_server.counters import Board
from modelmill_server.errors import NotServableError
from modelmill_server.life import Life
from modelmill_server.ports import Settings, Sockets

if TYPE_CHECKING:
    from modelmill_server.model import Servable

_HAND_OVER_SECONDS = 2.0  # for the last rows that were captured, which wait in this process for moments


def main(settings: Settings) -> int:
    """Serve until a signal says stop; the exit code."""
    try:
        settings, sockets, metrics = ports.bind(settings)
    except OSError as error:
        return ports.fail_to_listen(error)
    if settings.workers > 1:
        from modelmill_server import workers  # noqa: PLC0415 - it imports what workers need

        return workers.main(settings, sockets, metrics, live)
    return live(settings, sockets, metrics, Board())


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
        if self._settings.capture is None:
            self._app.serve(servable)
        else:
            from modelmill_server.capturing import Capture  # noqa: PLC0415 - see `model`

            capture = Capture(self._settings.capture, servable, self._counters)
            capture.link.start()
            self._app.serve(servable, capture)
        return True

    async def _end(self) -> None:
        await super()._end()
        if self._app.capture is not None:
            await self._app.capture.link.close(_HAND_OVER_SECONDS)

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
