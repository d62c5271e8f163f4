"""The server's end of the socket of `handing`: connected again and again, and never waited for by a prediction."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from modelmill_contracts.counters import Written
from modelmill_server import handing, log
from modelmill_server.errors import labels_not_written
from modelmill_server.handing import Frame

if TYPE_CHECKING:
    from modelmill_server.capturing import Queue

_PAUSE = 0.25  # seconds between two tries to connect
_GATHER = 0.2  # seconds in which rows gather
_MOST_UNSENT = 8 << 20  # bytes of labels that the other end does not take


class Link:
    """Hands over what is in `queue`, and labels."""

    def __init__(self, socket: Path, header: bytes, queue: "Queue") -> None:
        self._socket = socket
        self._header = header
        self._queue = queue
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._labels = 0
        self._task: asyncio.Task[None] | None = None
        self.written = Written()  # what the other end said last

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Hand over what is left, if that can be done so soon, and end."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(seconds):
                if (writer := self._writer) is not None:
                    await self._hand_over(writer)
                    await writer.drain()  # what was handed over before, and is not sent
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def write_labels(self, text: bytes, count: int, patience: float) -> None:
        """Return when they are in the store; RefusedError where that is not known after `patience` seconds."""
        writer = self._writer
        if writer is None:
            raise labels_not_written("the container that writes them does not run")
        if writer.transport.get_write_buffer_size() > _MOST_UNSENT:
            raise labels_not_written("the container that writes them takes no more")
        number = self._labels = (self._labels + 1) % (1 << 32)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        try:
            writer.write(handing.frame(handing.LABELS, text, number, count))
            is_written = await asyncio.wait_for(future, patience)
        except TimeoutError:
            is_written = False
        finally:
            del self._waiting[number]
        if not is_written:
            trouble = self.written.trouble
            raise labels_not_written(
                f"the store fails ({trouble})" if trouble else "it took too long, or was broken off"
            )

    async def _run(self) -> None:
        was_connected = True
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except OSError as error:
                if was_connected:
                    log.warning("what writes captured rows is away", why=error.strerror or f"{error}")
                was_connected = False
                await asyncio.sleep(_PAUSE)
                continue
            was_connected = True
            writer.transport.set_write_buffer_limits(0)  # what is drained is sent
            writer.write(self._header)
            self._writer, self._queue.is_away = writer, False
            sender = asyncio.create_task(self._send(writer))
            try:
                while (frame := await handing.read(reader)) is not None:
                    self._take(frame)
            finally:
                self._writer, self._queue.is_away = None, True
                sender.cancel()
                for future in self._waiting.values():
                    if not future.done():
                        future.set_result(False)
                writer.close()
            await asyncio.sleep(_PAUSE)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the reader sees the end
            while True:
                await self._hand_over(writer)
                await asyncio.sleep(_GATHER)

    async def _hand_over(self, writer: asyncio.StreamWriter) -> None:
        while frame := self._queue.take():
            writer.write(frame)
            await writer.drain()
            await asyncio.sleep(0)  # others have their turn

    def _take(self, frame: Frame) -> None:
        if frame.kind == handing.STATE:
            with contextlib.suppress(msgspec.DecodeError):
                self.written = msgspec.json.decode(frame.content, type=Written)
        elif (future := self._waiting.get(frame.number)) is not None and not future.done():
            future.set_result(frame.kind == handing.WRITTEN)
