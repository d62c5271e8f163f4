"""HTTP/2 under peers that send anything: what one connection can hold, cost, and break."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from artifacts import Made
from calls import INFER, SERVICE, request, tensor

from modelmill_server import hpack, http2, model
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.grpc import Service
from modelmill_server.limits import Limits
from modelmill_server.outbox import Outbox

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
PROTOCOL_ERROR, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, REFUSED, CANCEL, CALM = 1, 3, 5, 6, 7, 8, 11
MESSAGE = request(tensor("input", "FP32", [1, 3], [1.0, 2.0, 3.0])).SerializeToString()
EMPTY = bytes(5)  # a message of no bytes
LARGE = 1 << 20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def prefixed(message: bytes) -> bytes:
    return b"\0" + word(len(message)) + message


def headers(stream: int, method: str = INFER, kind: bytes = b"application/grpc", flags: int = END_HEADERS) -> bytes:
    block = b"\x83\x86" + hpack.encode((b":path", method.encode()), (b"content-type", kind), (b"te", b"trailers"))
    return frame(HEADERS, flags, stream, block)


def ask(stream: int, message: bytes = prefixed(MESSAGE), method: str = INFER) -> bytes:
    return headers(stream, method) + frame(DATA, END_STREAM, stream, message)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """The other end of a connection, which does what the test says and nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))

    async def frame(self) -> Frame:
        async with asyncio.timeout(20):
            head = await self._reader.readexactly(9)
            size, kind, flags, stream = struct.unpack(">I", b"\0" + head[:3])[0], *struct.unpack(">BBI", head[3:])
            return Frame(kind, flags, stream, await self._reader.readexactly(size))

    async def until(self, condition: Callable[[Frame], bool]) -> list[Frame]:
        """The frames up to the first one that is as it should be."""
        found = [await self.frame()]
        while not condition(found[-1]):
            found.append(await self.frame())
        return found

    async def answer(self, stream: int) -> list[Frame]:
        return await self.until(lambda f: f.stream == stream and bool(f.flags & END_STREAM) and f.kind == HEADERS)

    async def pong(self) -> list[Frame]:
        """What comes until everything that was sent was read."""
        self.send(frame(PING, 0, 0, bytes(8)))
        return await self.until(lambda f: f.kind == PING)

    async def farewell(self) -> int:
        """The code of the GOAWAY that ends the connection."""
        (last,) = (await self.until(lambda f: f.kind == GOAWAY))[-1:]
        async with asyncio.timeout(20):
            assert await self._reader.read() == b""
        return int.from_bytes(last.payload[4:8])


class Running(NamedTuple):
    app: App
    server: http2.Server
    port: int

    async def peer(self, settings: bytes = b"", first: bytes = http2.PREFACE) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        peer.send(first, frame(SETTINGS, 0, 0, settings))
        return peer


@asynccontextmanager
async def serving(made: Made, seconds: float = 30.0, **limits: Any) -> AsyncIterator[Running]:
    app = App("model", "1", Limits(body_seconds=seconds, **limits), Counters())
    app.serve(model.load(made.folder, made.digest, "model", "1"))
    loop = asyncio.get_running_loop()
    calls, outbox = http2.Server(Service(app), seconds), Outbox(loop)
    server = await loop.create_server(lambda: http2.Connection(calls, outbox, loop), "127.0.0.1", 0)
    yield Running(app, calls, server.sockets[0].getsockname()[1])
    server.close()


@pytest.fixture
async def running(regression: Made) -> AsyncIterator[Running]:
    async with serving(regression) as made:
        yield made


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE),
        (headers(3) + headers(1), STREAM_CLOSED),
        (ask(1) + frame(DATA, END_STREAM, 1, b"more"), STREAM_CLOSED),
        (frame(RESET, 0, 1, word(CANCEL)), PROTOCOL_ERROR),
        (headers(1) + frame(RESET, 0, 1, word(CANCEL)) + frame(DATA, 0, 1, b"more"), STREAM_CLOSED),
        (frame(WINDOW_UPDATE, 0, 0, word(0)), PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(8)) * 1001, CALM),
        (frame(WINDOW_UPDATE, 0, 0, word(1)) * 1001, CALM),
        (frame(SETTINGS, 0, 0) * 1001, CALM),
        (headers(1) + frame(DATA, 0, 1) * 1001, CALM),
        (b"".join(headers(s) + frame(DATA, 0, s, b"\0" + word(LARGE)) for s in range(1, 21, 2))
         + frame(DATA, 0, 19, bytes(16000)) * 9, FLOW_CONTROL),
    ],
    ids=["settings in an ack", "a lower number", "behind the end", "nothing", "behind a reset", "no credit", "pings",
         "credits", "settings", "empty data", "more than the window"],
)  # fmt: skip
async def test_what_ends_a_connection(running: Running, sent: bytes, code: int) -> None:
    peer = await running.peer()
    peer.send(sent)
    assert await peer.farewell() == code
    assert running.app.counters.in_flight == 0


async def test_settings_come_first(running: Running) -> None:
    peer = await running.peer(first=http2.PREFACE + frame(PING, 0, 0, bytes(8)))
    assert await peer.farewell() == PROTOCOL_ERROR


async def test_who_asks_may_ping_as_well(running: Running) -> None:
    peer = await running.peer()
    for stream in range(1, 21, 2):
        peer.send(frame(PING, 0, 0, bytes(8)) * 900, ask(stream))
        await peer.answer(stream)
    assert running.app.counters.read().rows == 10


@pytest.mark.parametrize(("given", "code"), [([0], PROTOCOL_ERROR), ([2**31 - 1, 1], FLOW_CONTROL)])
async def test_a_bad_credit_of_a_stream_ends_the_stream_alone(running: Running, given: list[int], code: int) -> None:
    peer = await running.peer()
    peer.send(headers(1), *(frame(WINDOW_UPDATE, 0, 1, word(credit)) for credit in given), ask(3))
    frames = await peer.answer(3)
    assert [(f.stream, f.payload) for f in frames if f.kind == RESET] == [(1, word(code))]
    assert running.app.counters.in_flight == 0


@pytest.mark.parametrize("kind", [b"application/grpc-web", b"application/grpcx", b"application/json"])
async def test_another_protocol_is_none_that_this_port_has(running: Running, kind: bytes) -> None:
    peer = await running.peer()
    peer.send(headers(1, kind=kind))
    assert b"grpc-status\x0212" in (await peer.answer(1))[-1].payload
    peer.send(headers(3, kind=b"application/grpc+proto"), frame(DATA, END_STREAM, 3, prefixed(MESSAGE)))
    assert b"grpc-status\x010" in (await peer.answer(3))[-1].payload


async def test_who_comes_as_the_server_drains_gets_the_settings_first_and_is_asked_after_its_answer(
    running: Running,
) -> None:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", running.port))
    while not running.server.connections:
        await asyncio.sleep(0.01)
    running.server.drain()
    peer.send(http2.PREFACE, frame(SETTINGS, 0, 0), ask(1))
    frames = await peer.answer(1)
    assert (frames[0].kind, frames[0].flags) == (SETTINGS, 0)
    assert GOAWAY not in [f.kind for f in frames]
    assert (await peer.frame()).kind == GOAWAY


async def test_who_never_spoke_is_told_nothing_at_the_end(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    while not running.server.connections:
        await asyncio.sleep(0.01)
    running.server.release()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_what_was_refused_early_may_be_sent_to_its_end(running: Running) -> None:
    peer = await running.peer()
    peer.send(headers(1, f"{SERVICE}Other"))
    assert b"grpc-status\x0212" in (await peer.answer(1))[-1].payload
    peer.send(*[frame(DATA, 0, 1, bytes(1000))] * 3, frame(DATA, END_STREAM, 1), ask(3))
    assert b"grpc-status\x010" in (await peer.answer(3))[-1].payload
    peer.send(frame(DATA, 0, 1, bytes(1000)))
    assert await peer.farewell() == STREAM_CLOSED


async def test_more_streams_than_a_connection_may_have(running: Running) -> None:
    peer = await running.peer()
    peer.send(*(headers(2 * index + 1, f"{SERVICE}ServerLive") for index in range(http2.MAX_STREAMS + 1)))
    refused = [f for f in await peer.pong() if f.kind == RESET]
    assert [(f.stream, f.payload) for f in refused] == [(2 * http2.MAX_STREAMS + 1, word(REFUSED))]


async def test_only_predictions_fill_the_queue_and_other_messages_are_small(regression: Made) -> None:
    async with serving(regression, in_flight=1) as running:
        peer = await running.peer()
        live = f"{SERVICE}ServerLive"
        peer.send(*(headers(stream, live) + frame(DATA, 0, stream, EMPTY[:3]) for stream in range(1, 21, 2)))
        peer.send(ask(21))
        assert b"grpc-status\x010" in (await peer.answer(21))[-1].payload
        peer.send(headers(23, live), frame(DATA, 0, 23, bytes(5000)))
        frames = await peer.answer(23)
        assert b"over 4096 bytes" in frames[-1].payload
        assert running.app.counters.in_flight == 0
        assert running.app.counters.refusals == {"BodyTooLarge": 1}


async def test_a_message_that_says_that_it_is_too_large_is_refused_before_it_is_here(running: Running) -> None:
    peer = await running.peer()
    peer.send(headers(1), frame(DATA, 0, 1, b"\0" + word(LARGE + 1)))
    assert b"over 1048576 bytes" in (await peer.answer(1))[-1].payload


async def test_a_connection_sends_few_large_messages_at_a_time(running: Running) -> None:
    many, head = 40, b"\0" + word(LARGE)
    peer = await running.peer()
    peer.send(*(headers(stream) + frame(DATA, 0, stream, head) for stream in range(1, 2 * many, 2)))

    def credit(frames: list[Frame]) -> dict[int, int]:
        given = [(f.stream, int.from_bytes(f.payload)) for f in frames if f.kind == WINDOW_UPDATE and f.stream]
        assert len(dict(given)) == len(given)
        return dict(given)

    given = credit(await peer.pong())
    assert set(given.values()) == {LARGE + 5 - (128 << 10)}
    assert 8 <= len(given) < 10
    assert list(given) == list(range(1, 2 * len(given), 2))  # in the order in which they came
    # One is complete, and one is given up: as many others may go on.
    peer.send(*(frame(DATA, 0, 1, bytes(LARGE >> 6)) for _ in range(63)), frame(DATA, END_STREAM, 1, bytes(LARGE >> 6)))
    assert list(credit(await peer.answer(1))) == [2 * len(given) + 1]
    peer.send(frame(RESET, 0, 3, word(CANCEL)))
    assert list(credit(await peer.pong())) == [2 * len(given) + 3]
    # A stream that is reset while it waits for credit is forgotten.
    peer.send(*(frame(RESET, 0, stream, word(CANCEL)) for stream in range(5, 2 * many, 2)))
    await peer.pong()
    assert running.app.counters.in_flight == 0
    peer.send(headers(2 * many + 1) + frame(DATA, 0, 2 * many + 1, head))
    assert list(credit(await peer.pong())) == [2 * many + 1]


async def test_padding_is_given_back(running: Running) -> None:
    peer = await running.peer()
    padded = frame(DATA, PADDED, 1, bytes((200,)) + EMPTY[:1] + bytes(200))
    peer.send(headers(1), padded)
    frames = await peer.pong()
    assert [f.payload for f in frames if f.kind == WINDOW_UPDATE and f.stream == 1] == [word(201)]


@pytest.mark.parametrize("size", [1000, 80_000])  # rows
async def test_many_large_messages_at_once(running: Running, size: int) -> None:
    rows = np.ones((size, 3), np.float32)
    message = request(tensor("input", "FP32", [size, 3]), raw_input_contents=[rows.tobytes()]).SerializeToString()
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options) as on:
        answers = await asyncio.gather(*(on.unary_unary(INFER)(message, timeout=60) for _ in range(150)))
    assert {len(answer) for answer in answers} == {len(answers[0])}
    assert running.app.counters.read().rows == 150 * size


async def test_an_answer_is_not_held_by_a_byte_now_and_then(regression: Made) -> None:
    async with serving(regression, 0.3) as running:
        peer = await running.peer(struct.pack(">HI", 4, 0))  # no window
        peer.send(ask(1))
        await peer.until(lambda f: f.kind == HEADERS)
        assert running.app.counters.in_flight == 0  # it is answered
        taken: list[Frame] = []
        while not any(f.kind == RESET for f in taken):
            peer.send(frame(WINDOW_UPDATE, 0, 1, word(1)))
            taken += await peer.pong()
            assert sum(f.kind == DATA for f in taken) < 40, "all of the answer was taken, byte by byte"
            await asyncio.sleep(0.05)
        assert [(f.stream, f.payload) for f in taken if f.kind == RESET] == [(1, word(CANCEL))]
        assert running.app.counters.refusals == {"Disconnected": 1}
        assert running.app.counters.in_flight == 0


async def test_credits_are_used_once_for_all_that_were_read(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0
    send = http2.Connection._send_part  # noqa: SLF001

    def counting(self: http2.Connection, stream: http2.Stream) -> None:
        nonlocal tried
        tried += 1
        send(self, stream)

    monkeypatch.setattr(http2.Connection, "_send_part", counting)
    peer = await running.peer(struct.pack(">HI", 4, 0))
    peer.send(*(ask(2 * index + 1) for index in range(80)))
    await peer.pong()
    tried = 0
    peer.send(frame(WINDOW_UPDATE, 0, 0, word(1)) * 900)
    await peer.pong()
    assert tried <= 80 * 10  # once for each answer and each read, of which there are a few


async def test_a_peer_that_does_not_read_is_given_up(regression: Made) -> None:
    async with serving(regression, 0.3) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1)
        wide = struct.pack(">HI", 4, 2**31 - 1)
        writer.write(http2.PREFACE + frame(SETTINGS, 0, 0, wide) + frame(WINDOW_UPDATE, 0, 0, word(2**30)))
        rows = np.ones((20_000, 3), np.float32)
        message = request(tensor("input", "FP32", [20_000, 3]), raw_input_contents=[rows.tobytes()])
        data = prefixed(message.SerializeToString())
        async with asyncio.timeout(30):
            stream = 1
            while not running.server.connections:
                await asyncio.sleep(0.01)
            while running.server.connections:
                if not writer.transport.is_closing() and writer.transport.get_write_buffer_size() < 1 << 16:  # type: ignore[attr-defined]
                    writer.write(headers(stream))
                    parts = [data[at : at + 16384] for at in range(0, len(data), 16384)]
                    writer.write(b"".join(frame(DATA, 0, stream, part) for part in parts))
                    writer.write(frame(DATA, END_STREAM, stream))
                    stream += 2
                await asyncio.sleep(0.005)
        writer.transport.abort()
        assert running.app.counters.in_flight == 0
