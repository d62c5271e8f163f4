"""A load generator for unary gRPC calls that costs a few microseconds a call: `python -m tests.bench.grpc_load`.

ghz takes 140 us of a CPU for a call, and so measures itself.  This one only counts answers; it stops at the first one
that is not a message followed by trailers.  Messages come from a file of `bodies`.  It prints JSON: requests, seconds,
p50 and p99 in ms.
"""

import argparse
import asyncio
import json
import struct
import time
from pathlib import Path

import uvloop
from tests.bench import bodies

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4  # a setting
_MAX_FRAME, _DEFAULT_WINDOW, _LARGE_WINDOW = 16384, 65535, 1 << 30


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value


_HEAD = b"".join(
    (
        b"\x83\x86",  # POST, http
        _literal(b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        _literal(b":authority", b"localhost"),
        _literal(b"te", b"trailers"),
        _literal(b"content-type", b"application/grpc"),
    )
)
_INDEXED = b"\x83\x86\xc1\xc0\xbf\xbe"  # the same, once it stands in the table


class _Rest:
    """Of a message that the server has not given enough credit for."""

    __slots__ = ("content", "credit", "sent", "stream")

    def __init__(self, stream: int, content: bytes, credit: int) -> None:
        self.stream = stream
        self.content = content
        self.credit = credit
        self.sent = 0


class Connection(asyncio.Protocol):
    """`streams` calls at once, each followed by the next one."""

    def __init__(self, messages: list[bytes], streams: int, latencies: list[float]) -> None:
        self._messages = [b"\0" + struct.pack(">I", len(message)) + message for message in messages]
        self._streams = streams
        self._latencies = latencies
        self._next = 1
        self._rest = b""
        self._started: dict[int, float] = {}
        self._answered: set[int] = set()
        self._credit = self._initial = _DEFAULT_WINDOW
        self._waiting: dict[int, _Rest] = {}
        self._received = 0  # bytes that the server has no new credit for yet
        self.stopped = False
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HI", _INITIAL_WINDOW, _LARGE_WINDOW)
        hello = _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _window_update(_LARGE_WINDOW)
        transport.write(hello + b"".join(self._call() for _ in range(self._streams)))  # type: ignore[attr-defined]

    def _call(self) -> bytes:
        stream, self._next = self._next, self._next + 2
        self._started[stream] = time.perf_counter()
        content = self._messages[stream // 2 % len(self._messages)]
        head = _frame(_HEADERS, _END_HEADERS, stream, _HEAD if stream == 1 else _INDEXED)
        if len(content) <= min(_MAX_FRAME, self._credit, self._initial):
            self._credit -= len(content)
            return head + _frame(_DATA, _END_STREAM, stream, content)
        self._waiting[stream] = _Rest(stream, content, self._initial)
        return head + self._data()

    def _data(self) -> bytes:
        """What there is credit for of the messages that wait, the oldest first."""
        frames = []
        for rest in list(self._waiting.values()):
            while size := min(_MAX_FRAME, len(rest.content) - rest.sent, max(0, rest.credit), self._credit):
                part = rest.content[rest.sent : rest.sent + size]
                rest.sent += size
                rest.credit -= size
                self._credit -= size
                complete = rest.sent == len(rest.content)
                frames.append(_frame(_DATA, _END_STREAM if complete else 0, rest.stream, part))
                if complete:
                    del self._waiting[rest.stream]
        return b"".join(frames)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """Take a frame that is not part of an answer; what it is answered with."""
        if kind == _WINDOW_UPDATE:
            self._take_credit(stream, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settle(payload)
            return _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        elif kind in (_RESET, _GOAWAY):
            self.failed = f"frame {kind}: {payload!r}"
        return b""

    def _settle(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW:
                for rest in self._waiting.values():
                    rest.credit += value - self._initial
                self._initial = value

    def _take_credit(self, stream: int, payload: bytes) -> None:
        (credit,) = struct.unpack(">I", payload)
        if stream == 0:
            self._credit += credit
        elif stream in self._waiting:
            self._waiting[stream].credit += credit

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, out = 0, []
        while len(data) - at >= 9:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if len(data) - at - 9 < size:
                break
            kind, flags = data[at + 3], data[at + 4]
            (stream,) = struct.unpack_from(">I", data, at + 5)
            if kind == _DATA:
                self._answered.add(stream)
            elif kind == _HEADERS and flags & _END_STREAM:
                if stream not in self._answered or stream in self._waiting:
                    self.failed = f"a call was refused: {data[at + 9 : at + 9 + size]!r}"
                self._answered.discard(stream)
                self._latencies.append(time.perf_counter() - self._started.pop(stream))
                if not self.stopped:
                    out.append(self._call())
            else:
                out.append(self._control(kind, flags, stream, data[at + 9 : at + 9 + size]))
            at += 9 + size
        self._rest = data[at:]
        self._received += at
        if self._received > _LARGE_WINDOW // 2:
            out.append(_window_update(self._received))
            self._received = 0
        if self._waiting:
            out.append(self._data())
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]


def _window_update(credit: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", credit))


async def _run(port: int, messages: list[bytes], connections: int, streams: int, seconds: float) -> dict[str, float]:
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: Connection(messages, streams // connections, latencies), "127.0.0.1", port
        )
        made.append(connection)
    await asyncio.sleep(seconds)
    took, found = time.perf_counter() - began, sorted(latencies)
    for connection in made:
        connection.stopped = True
        if connection.failed:
            raise SystemExit(f"port {port}: {connection.failed}")
    count = len(found)
    if not count:
        raise SystemExit(f"port {port}: no call was answered")
    return {
        "requests": count,
        "seconds": took,
        "p50": found[count // 2] * 1e3,
        "p99": found[count * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("messages", type=Path, help="a file of tests/bench/bodies.py")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=32, help="calls at once, in all")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    sent = [body.content for body in bodies.read(options.messages)]
    result = uvloop.run(_run(options.port, sent, options.connections, options.streams, options.seconds))
    print(json.dumps(result))
