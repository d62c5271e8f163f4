"""How long the server waits for callers: for a slow body, an idle connection, and one that does not read."""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import matrix

from modelmill_server import model, protocol
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.limits import Limits

PATH = "/v2/models/model/infer"
BODY = msgspec.json.encode({"inputs": [matrix(np.ones((1, 3)))]})
HEAD = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()


@asynccontextmanager
async def serving(made: Made, limits: Limits) -> AsyncIterator[tuple[App, int]]:
    """A server in this process, whose limits can be shorter than a user may set; the app and the port."""
    counters = Counters()
    app = App("model", "1", limits, counters)
    app.set_date("now")
    app.serve(model.load(made.folder, made.digest, "model", "1"))
    server = protocol.Server(app, limits, app.short_cut)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.open(listener, 100)
        yield app, listener.getsockname()[1]
        server.close()
        server.abort()
        await asyncio.sleep(0.01)


async def test_a_body_that_does_not_come(regression: Made) -> None:
    async with serving(regression, Limits(body_seconds=0.2)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + BODY[:5])
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        assert app.counters.refusals == {"BodyTimeout": 1}
        writer.close()


async def test_idle_connections_outlive_every_clients_pool(regression: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert protocol.KEEP_ALIVE_SECONDS > 600
    monkeypatch.setattr(protocol, "KEEP_ALIVE_SECONDS", 0.3)
    async with serving(regression, Limits()) as (_, port):
        for path in (PATH, f"{PATH}?x=1"):  # on the short cut, and through ASGI
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):
                writer.write(HEAD.replace(PATH.encode(), path.encode()) + BODY)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                await reader.readuntil(b"]}]}")
                await asyncio.sleep(0.2)
            async with asyncio.timeout(10):
                assert await reader.read() == b""  # closed, since nothing came any more
            writer.close()


@pytest.mark.parametrize("path", [PATH, f"{PATH}?x=1"])  # on the short cut, and through ASGI
async def test_a_connection_that_was_reset_is_forgotten_at_once(regression: Made, path: str) -> None:
    async with serving(regression, Limits()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD.replace(PATH.encode(), path.encode()) + BODY)
        await reader.readuntil(b"]}]}")
        assert connections() == 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        async with asyncio.timeout(10):
            while connections():
                await asyncio.sleep(0.01)


def connections() -> int:
    gc.collect()
    return sum(isinstance(thing, protocol.Connection) for thing in gc.get_objects())


async def test_a_caller_that_does_not_read_is_not_read_either(regression: Made) -> None:
    count = 20_000
    async with serving(regression, Limits()) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write((HEAD + BODY) * count)
        answered = -1
        while answered != app.counters.read().rows:
            answered = app.counters.read().rows
            await asyncio.sleep(0.3)
        assert 0 < answered < count  # what is not read is not computed

        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received, rest = 0, b""
        async with asyncio.timeout(60):
            while received < count:
                data = rest + await reader.read(1 << 16)
                received += data.count(b"HTTP/1.1 200 ")
                rest = data[-12:] if b"HTTP/1.1 200 " not in data[-12:] else b""
        assert app.counters.read().rows == count
        writer.close()
