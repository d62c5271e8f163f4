"""`modelmill-server capture`: writes what servers of a pod hand over (see `handing`) to the store.

It is a process, and in Kubernetes a container, of its own: so what reads callers' requests has no access to the store,
and what the store does is felt by no prediction.  It ends, on SIGTERM, once everything that was handed over is written.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import msgspec
import uvloop

from modelmill_contracts import environment
from modelmill_contracts.captured import RowsHeader
from modelmill_contracts.task import StoreLocation
from modelmill_server import handing, log, segments, termination
from modelmill_server.segments import Labels, Rows, Segments

_GOODBYE_SECONDS = 1.0  # in which servers that end have said everything
_LAST_SECONDS = 30.0  # for what is left; kubelet may give less


def main(of: str, socket: Path, age: float) -> int:
    """Write until a signal says stop; the exit code."""
    text = os.environ.get(environment.STORE_LOCATION)
    if not text:
        message = f"nothing says where the store is; the operator sets {environment.STORE_LOCATION}"
        return termination.fail("StoreUnknown", message)
    try:
        location = msgspec.json.decode(text, type=StoreLocation)
    except msgspec.DecodeError as error:
        return termination.fail("StoreUnknown", f"{environment.STORE_LOCATION} holds no store's location: {error}")
    try:
        uvloop.run(_Capture(Segments(location, of), age).run(socket))
    except OSError as error:
        return termination.fail("SocketUnavailable", f"cannot listen on {socket}: {error.strerror or error}")
    return 0


class _Capture:
    def __init__(self, written: Segments, age: float) -> None:
        self._segments = written
        self._rows = Rows(written, age)
        self._labels = Labels(written)
        self._servers: set[asyncio.StreamWriter] = set()
        self._all_gone = asyncio.Event()

    async def run(self, socket: Path) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        socket.unlink(missing_ok=True)  # of one that was killed
        server = await asyncio.start_unix_server(self._serve, socket)
        log.info("taking what is captured", socket=str(socket))
        work = [asyncio.create_task(self._rows.run()), asyncio.create_task(self._labels.run())]
        states = asyncio.create_task(self._tell())
        await stop.wait()
        if self._servers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), _GOODBYE_SECONDS)
        server.close()
        self._rows.end()
        self._labels.end()
        _, left = await asyncio.wait(work, timeout=_LAST_SECONDS)
        if left:
            log.error("what was captured last could not be written and is lost", reason=self._segments.trouble)
        states.cancel()
        log.info("stopped")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One server's connection."""
        self._servers.add(writer)
        self._all_gone.clear()
        header: RowsHeader | None = None
        try:
            while (frame := await handing.read(reader)) is not None:
                if frame.kind == handing.HEADER:
                    header = msgspec.json.decode(frame.content, type=RowsHeader)
                elif frame.kind == handing.ROWS and header is not None:
                    self._rows.add(header, frame.content, frame.records)
                elif frame.kind == handing.LABELS:
                    self._labels.add(frame.content, frame.records, _answer(writer, frame.number))
        except msgspec.DecodeError as error:
            log.failure("a server of another release connects", error)
        finally:
            self._servers.discard(writer)
            if not self._servers:
                self._all_gone.set()
            writer.close()

    async def _tell(self) -> None:
        """Say to the servers what was done: their metrics have it."""
        while True:
            content = handing.frame(handing.STATE, msgspec.json.encode(segments.state(self._segments, self._rows)))
            for writer in self._servers:
                # A server that hangs, or that has just gone, is told nothing.
                if not writer.is_closing() and not writer.transport.get_write_buffer_size():
                    writer.write(content)
            await asyncio.sleep(handing.STATE_SECONDS)


def _answer(writer: asyncio.StreamWriter, number: int) -> "segments.Done":
    def done(is_written: bool) -> None:
        if not writer.is_closing():
            writer.write(handing.frame(handing.WRITTEN if is_written else handing.REFUSED, b"", number))

    return done
