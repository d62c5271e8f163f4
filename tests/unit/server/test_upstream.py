"""The client that hands predictions on: what it keeps, closes, sends again, and gives up."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from fronting import scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill_server import upstream as module
from modelmill_server.upstream import Response, Upstream, UpstreamError, head

REQUEST = head("POST", "/x", "host", [(b"a", b"b")], 2) + b"{}"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Behind:
    """A server on loopback; `talk` is what it does with each request."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self.open = 0
        self.server: asyncio.Server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                assert await reader.readexactly(len(REQUEST)) == REQUEST
                await self.talk(reader, writer)
        self.open -= 1
        writer.close()


async def good(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GOOD)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(1)


@asynccontextmanager
async def between(talk: Talk, limit: int = 1000) -> AsyncIterator[tuple[Behind, Upstream]]:
    behind = Behind(talk)
    behind.server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    client = Upstream("127.0.0.1", behind.server.sockets[0].getsockname()[1], limit)
    try:
        yield behind, client
    finally:
        client.close()
        behind.server.close()


async def ask(client: Upstream, seconds: float = 10) -> Response:
    return await client.ask(REQUEST, asyncio.get_running_loop().time() + seconds)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_head_of_a_request() -> None:
    assert REQUEST == b"POST /x HTTP/1.1\r\nhost: host\r\ncontent-length: 2\r\na: b\r\n\r\n{}"
    assert head("GET", "/", "[::1]:1", (), 0) == b"GET / HTTP/1.1\r\nhost: [::1]:1\r\n\r\n"


async def test_an_answer() -> None:
    async with between(good) as (_, client):
        found = await ask(client)
    assert (found.status, found.body, found.headers[b"x"]) == (200, b"ok", b"y")
    assert 0 < found.seconds < 10


async def test_one_request_at_a_time_on_a_connection_and_the_last_one_again() -> None:
    async with between(good) as (behind, client):
        await asyncio.gather(*(ask(client) for _ in range(5)))
        assert behind.connections == 5
        for _ in range(20):
            await ask(client)
        assert behind.connections == 5


async def test_what_was_idle_for_long_is_closed_here_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with between(good) as (behind, client):
        await asyncio.gather(*(ask(client) for _ in range(3)))
        await asyncio.sleep(0.1)
        await ask(client)
        assert behind.connections == 4
        await settled(lambda: behind.open == 1)


async def test_what_the_other_side_closed_is_not_used() -> None:
    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD)
        writer.close()

    async with between(once) as (behind, client):
        for number in range(1, 4):
            await ask(client)
            await settled(lambda: behind.open == 0)
            assert behind.connections == number


async def test_a_request_that_was_lost_on_a_used_connection_is_sent_once_more() -> None:
    lost = 0

    async def second_is_lost(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        if asked.pop() == "lose":
            lost += 1
            writer.transport.abort()
        else:
            writer.write(GOOD)

    async with between(second_is_lost) as (behind, client):
        asked = ["answer"]
        await ask(client)
        asked = ["answer", "lose"]
        assert (await ask(client)).body == b"ok"
        assert (lost, behind.connections) == (1, 2)
        asked = ["answer", "lose", "lose"]
        with pytest.raises(UpstreamError) as error:  # the second one is fresh: a failure
            await ask(client)
        assert (error.value.reason, lost) == ("UpstreamLost", 3)


async def test_what_is_lost_after_its_first_byte_is_not_sent_again() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(parts.pop())
        if len(parts) == 0:
            writer.close()

    async with between(half) as (behind, client):
        parts = [GOOD[:5], GOOD]
        await ask(client)
        with pytest.raises(UpstreamError) as error:
            await ask(client)
        assert (error.value.reason, behind.connections) == ("UpstreamLost", 1)


async def test_a_late_answer_comes_to_nobody() -> None:
    async def first_is_late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if behind.connections == 1:
            await asyncio.sleep(0.3)
            writer.write(GOOD.replace(b"ok", b"no"))
        else:
            writer.write(GOOD)

    async with between(first_is_late) as (behind, client):
        with pytest.raises(UpstreamError) as error:
            await ask(client, 0.05)
        assert error.value.reason == "UpstreamLate"
        for _ in range(10):
            assert (await ask(client)).body == b"ok"
            await asyncio.sleep(0.05)


async def test_a_deadline_that_has_passed_sends_nothing() -> None:
    async with between(good) as (behind, client):
        with pytest.raises(UpstreamError):
            await ask(client, 0)
        assert behind.connections == 0


def test_an_answer_that_is_here_counts_although_this_process_was_late_to_look() -> None:
    async def run(port: int) -> None:
        client = Upstream("127.0.0.1", port, 1000)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asking = asyncio.create_task(ask(client, 0.2))
            await settled(lambda: bool(behind.requests))
            loop = asyncio.get_running_loop()
            loop.add_reader(ours, lambda: (loop.remove_reader(ours), time.sleep(0.5)))
            theirs.send(b"x")  # holds everybody up as it is read
            assert (await asking).body == b"ok"

    with scripted() as behind:
        behind.answering = lambda connection, _: (time.sleep(0.1), connection.sendall(GOOD))[1]
        uvloop.run(run(behind.port))  # which looks at its timers before its sockets


async def test_who_gives_up_leaves_no_connection_behind() -> None:
    async with between(silence) as (behind, client):
        asking = asyncio.create_task(ask(client))
        await settled(lambda: behind.open == 1)
        asking.cancel()
        await settled(lambda: behind.open == 0)


async def test_nobody_listens() -> None:
    async with between(good) as (behind, client):
        behind.server.close()
        await behind.server.wait_closed()
        with pytest.raises(UpstreamError) as error:
            await ask(client)
        assert error.value.reason == "UpstreamUnreachable"


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 70, "a..b"])
def test_a_host_that_nobody_knows(host: str) -> None:
    with pytest.raises(UpstreamError) as error:
        uvloop.run(ask(Upstream(host, 1, 1000)))
    assert error.value.reason == "UpstreamUnreachable"


_PARTS = (
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 100 x\r\n", b"HTTP/1.1 204 x\r\n"),
    *(b"HTTP/1.1 101 x\r\n", b"connection: upgrade\r\nupgrade: x\r\n", b"connection: close\r\n", b"x: y\r\n"),
    *(b"content-length: 2\r\n", b"content-length: 99\r\n", b"transfer-encoding: chunked\r\n", b"\r\n"),
    *(b"ok", b"2\r\nok\r\n", b"0\r\n\r\n", b"\x00", b"\xff"),
)


@given(st.lists(st.sampled_from(_PARTS) | st.binary(max_size=20), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_comes_there_is_an_answer_or_a_reason_and_the_next_request_has_its_own(
    parts: list[bytes], closes: bool
) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if behind.connections > 1:
            writer.write(GOOD)
            return
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        if closes:
            writer.close()

    async def run() -> None:
        nonlocal behind
        async with between(talk) as (behind, client):
            with contextlib.suppress(UpstreamError):
                assert len((await ask(client, 0.05)).body) <= 1000
            client.close()  # what it keeps open would be answered with the same
            assert (await ask(client)).body == b"ok"

    behind: Behind
    asyncio.run(run())
