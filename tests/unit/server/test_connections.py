"""What one caller's connection can cost the server, whatever it does: memory, slots, files and time."""

import asyncio
import contextlib
import gc
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import Process, Server, ask, matrix, read_all
from test_batching import Slow, until
from test_patience import BODY, HEAD, PATH, serving

from modelmill_server import life, model, protocol
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.http1 import Request
from modelmill_server.limits import Limits

PORTS = ("--port", "0", "--grpc-port", "0", "--metrics-port", "0", "--host", "127.0.0.1")
GET = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = GET.replace(b"x\r\n", b"x\r\nconnection: close\r\n", 1)


@pytest.fixture
async def busy(regression: Made, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Slow, App, int]]:
    """A model that answers when the test lets it, one request at a time."""
    servable = model.load(regression.folder, regression.digest, "model", "1")
    slow, runtime = Slow(), servable.runtime

    class Waits:
        def predict(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
            slow.predict(feeds)
            return runtime.predict(feeds)

    servable.runtime, servable.inline_rows = Waits(), 0
    monkeypatch.setattr(model, "load", lambda *_: servable)
    async with serving(regression, Limits(threads=1)) as (app, port):
        yield slow, app, port
    slow.go.release(1000)


def requests() -> int:
    gc.collect()
    return sum(isinstance(thing, Request) for thing in gc.get_objects())


async def test_what_is_pipelined_behind_a_slow_answer_is_not_even_parsed(busy: tuple[Slow, App, int]) -> None:
    slow, app, port = busy
    count = 20_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + BODY + GET * count + HEAD + BODY + LAST)
    await until(lambda: slow.calls)
    await asyncio.sleep(0.3)
    assert requests() < 300
    assert app.counters.in_flight == 1
    slow.go.release()
    await until(lambda: len(slow.calls) == 2)
    await asyncio.sleep(0.1)
    assert requests() < 300
    slow.go.release()
    async with asyncio.timeout(60):
        answer = await reader.read()
    assert answer.count(b"HTTP/1.1 200 ") == count + 3
    assert answer.index(b'"outputs"') < answer.index(b'"extensions"') < answer.rindex(b'"outputs"')
    writer.close()


async def test_nonsense_behind_a_slow_answer_waits_for_its_turn(busy: tuple[Slow, App, int]) -> None:
    slow, app, port = busy
    chunk = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".encode()
    for number, nonsense in enumerate((b"nonsense\r\n\r\n", chunk, b"GET /v2 HTTP/1.1\r\n\r\n"), 1):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + BODY + GET + nonsense)
        await until(lambda: len(slow.calls) == number)  # noqa: B023
        await asyncio.sleep(0.05)
        slow.go.release()
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:4]] == [b"200", b"200", b"400"]
        assert app.counters.refusals == {"HttpInvalid": number}
        assert app.counters.in_flight == 0
        writer.close()


async def test_a_caller_that_hangs_up_is_not_computed_for(busy: tuple[Slow, App, int]) -> None:
    slow, app, port = busy
    first, other = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    first[1].write(HEAD + BODY)
    await until(lambda: slow.calls)
    other[1].write(HEAD + BODY)
    await until(lambda: app.counters.in_flight == 2)
    other[1].close()
    await until(lambda: app.counters.refusals == {"Disconnected": 1})
    assert app.counters.in_flight == 1
    slow.go.release(2)
    assert (await first[0].readline()).startswith(b"HTTP/1.1 200 ")
    await asyncio.sleep(0.1)
    assert len(slow.calls) == 1
    first[1].close()


async def test_a_head_that_does_not_come(regression: Made) -> None:
    async with serving(regression, Limits(body_seconds=0.3)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + BODY + b"POST /v2")  # one that was complete does not help the next one
        answered = await reader.readuntil(b"]}]}")
        assert answered.startswith(b"HTTP/1.1 200 ")
        for byte in b"/models HTTP/1.1":  # nor does each byte of it
            await asyncio.sleep(0.05)
            writer.write(bytes([byte]))
        async with asyncio.timeout(10):
            refusal = await reader.read()
        assert refusal.startswith(b"HTTP/1.1 408 ")
        assert app.counters.refusals == {"HeadTimeout": 1}
        writer.close()


async def test_each_head_and_each_body_has_its_own_time(regression: Made) -> None:
    async with serving(regression, Limits(body_seconds=1.0)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        message = HEAD + BODY
        for part in (message[:-5], message[-5:] + message[:20], message[20:]):
            writer.write(part)
            await asyncio.sleep(0.6)
        for _ in range(2):
            assert (await reader.readuntil(b"]}]}")).startswith(b"HTTP/1.1 200 ")
        assert app.counters.refusals == {}
        writer.close()


async def test_a_connection_on_which_nothing_comes(regression: Made) -> None:
    async with serving(regression, Limits(body_seconds=0.2)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        assert app.counters.refusals == {}
        writer.close()


async def test_a_body_that_is_not_wanted_and_does_not_come(regression: Made) -> None:
    async with serving(regression, Limits(body_seconds=0.2)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()  # to the end of the connection
        assert answer.count(b"HTTP/1.1 ") == 1
        assert app.counters.in_flight == 0
        writer.close()


async def test_what_is_sent_for_a_large_body_is_read_up_to_a_limit(regression: Made) -> None:
    async with serving(regression, Limits(body=1000, swallow=1 << 20)) as (app, port):
        for head in ("content-length: 100000000", "transfer-encoding: chunked"):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode())
            part = b"a" * 0x8000 if "length" in head else b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 100_000_000:
                    writer.write(part)
                    await writer.drain()
                    sent += len(part)
            assert sent < 20_000_000  # the kernel holds some
            writer.close()
        assert app.counters.refusals == {"BodyTooLarge": 2}


async def test_an_answer_that_nobody_reads(regression: Made) -> None:
    rows = np.ones((5000, 3))
    content = msgspec.json.encode({"inputs": [matrix(rows)]})
    asked = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
    async with serving(regression, Limits(body_seconds=0.5)) as (app, port):
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(caller, ("127.0.0.1", port))
            with pytest.raises((ConnectionError, TimeoutError)):
                await asyncio.wait_for(send_for_ever(loop, caller, asked), 20)
            await until(lambda: app.counters.in_flight == 0)
            await until(lambda: not connections())


async def send_for_ever(loop: asyncio.AbstractEventLoop, caller: socket.socket, data: bytes) -> None:
    while True:
        await loop.sock_sendall(caller, data)


def connections() -> int:
    gc.collect()
    return sum(isinstance(thing, protocol.Connection) for thing in gc.get_objects())


def test_callers_that_do_not_read_do_not_hold_up_a_second_interrupt(cancer: Made) -> None:
    content = msgspec.json.encode({"inputs": [matrix(np.zeros((5000, 30)))]})
    asked = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
    server = Server(cancer.folder)
    try:
        server.wait_for("ready")
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", server.port))
            caller.settimeout(2)
            with contextlib.suppress(TimeoutError):
                while True:
                    caller.sendall(asked)
            server.signal(signal.SIGTERM)
            server.wait_for("draining")
            server.signal(signal.SIGINT)
            assert server.wait(20) == 0
    finally:
        server.end()


async def test_no_more_connections_than_the_limit() -> None:
    app = App("model", "1", Limits(), Counters())
    server = protocol.Server(app, Limits(), most=2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.open(listener, 10)
        address = listener.getsockname()
        kept = [await asyncio.open_connection(*address) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*address)
        refusal = await reader.read()
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in refusal
        assert app.counters.refusals == {"ConnectionsFull": 1}
        writer.close()
        kept.pop()[1].close()
        await until(lambda: len(server.connections) == 1)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(LAST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, other in (*kept, (reader, writer)):
            other.close()
        server.close()
        server.abort()
        await asyncio.sleep(0.01)


def test_with_few_files_the_metrics_port_answers_while_callers_take_all_connections(cancer: Made) -> None:
    shell = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", sys.executable, "-m", "modelmill_server"]
    process = Process(command=[*shell, str(cancer.folder), *PORTS])
    connected: list[socket.socket] = []
    try:
        process.wait_for("ready")
        ports = process.wait_for("listening")
        connected += [socket.create_connection(("127.0.0.1", ports["port"]), 10) for _ in range(250)]
        assert ask(ports["metrics_port"], "GET", "/healthz").status == 200
        assert b"HTTP/1.1 503 " in read_all(connected[-1])
        while connected:
            connected.pop().close()
        assert ask(ports["port"], "GET", "/v2/health/ready").status == 200
    finally:
        for connection in connected:
            connection.close()
        process.end()


async def test_a_failure_of_the_server_is_logged_without_its_text(
    regression: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise ValueError("Zq7secret")

    async with serving(regression, Limits()) as (app, port):
        app._gets["/v2"] = fails  # noqa: SLF001
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + LAST)
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 500 ") == 2
        assert app.counters.refusals == {"InternalError": 2}
        assert app.counters.in_flight == 0
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(life._log)  # noqa: SLF001 - as a server's life does
        loop.call_soon(fails)
        await asyncio.sleep(0.01)
        writer.close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["exception"] for line in lines] == ["ValueError"] * 3
    assert all(Path(__file__).name in line["where"][-1] for line in lines)
    assert "Zq7secret" not in json.dumps(lines) + answer.decode()
