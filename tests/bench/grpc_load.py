"""A load generator for unary gRPC calls that costs a few microseconds a call: `python grpc_load.py PORT ...`.

ghz takes 140 us of a CPU for a call, and so measures itself.  This one makes its frames once and only counts answers;
it stops at the first one that is not a message followed by trailers.  It prints JSON: requests, seconds, p50 and p99
in ms.
"""

import argparse
import asyncio
import json
import struct
import time

import uvloop

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


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


def request(row: list[float], *, raw: bool) -> bytes:
    """A ModelInferRequest of one FP32 row for the model `model`."""

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        head = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
        return bytes((number << 3 | 2,)) + head + content

    values = struct.pack(f"<{len(row)}f", *row)
    tensor = field(1, b"input") + field(2, b"FP32") + field(3, bytes((1, len(row))))
    if raw:
        return field(1, b"model") + field(5, tensor) + field(7, values)
    return field(1, b"model") + field(5, tensor + field(5, field(6, values)))


class Connection(asyncio.Protocol):
    """`streams` calls at once, each followed by the next one."""

    def __init__(self, bodies: list[bytes], streams: int, latencies: list[float]) -> None:
        self._bodies = [b"\0" + struct.pack(">I", len(body)) + body for body in bodies]
        self._streams = streams
        self._latencies = latencies
        self._next = 1
        self._rest = b""
        self._started: dict[int, float] = {}
        self._answered: set[int] = set()
        self.stopped = False
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HI", 4, 1 << 30)
        hello = _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        transport.write(hello + b"".join(self._call() for _ in range(self._streams)))  # type: ignore[attr-defined]

    def _call(self) -> bytes:
        stream, self._next = self._next, self._next + 2
        self._started[stream] = time.perf_counter()
        body = self._bodies[stream // 2 % len(self._bodies)]
        head = _HEAD if stream == 1 else _INDEXED
        return _frame(_HEADERS, _END_HEADERS, stream, head) + _frame(_DATA, _END_STREAM, stream, body)

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
                if stream not in self._answered:
                    self.failed = f"a call was refused: {data[at + 9 : at + 9 + size]!r}"
                self._answered.discard(stream)
                self._latencies.append(time.perf_counter() - self._started.pop(stream))
                if not self.stopped:
                    out.append(self._call())
            elif kind in (_PING, _SETTINGS) and not flags & _ACK:
                out.append(_frame(kind, _ACK, 0, data[at + 9 : at + 9 + size] if kind == _PING else b""))
            elif kind in (_RESET, _GOAWAY):
                self.failed = f"frame {kind}: {data[at + 9 : at + 9 + size]!r}"
            at += 9 + size
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]


async def _run(port: int, connections: int, streams: int, seconds: float, *, raw: bool) -> dict[str, float]:
    latencies: list[float] = []
    bodies = [request([float(value + shift) for value in range(1, 31)], raw=raw) for shift in range(64)]
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: Connection(bodies, streams // connections, latencies), "127.0.0.1", port
        )
        made.append(connection)
    await asyncio.sleep(seconds)
    took, found = time.perf_counter() - began, sorted(latencies)
    for connection in made:
        connection.stopped = True
        if connection.failed:
            raise SystemExit(f"port {port}: {connection.failed}")
    count = len(found)
    return {
        "requests": count,
        "seconds": took,
        "p50": found[count // 2] * 1e3,
        "p99": found[count * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=32, help="calls at once, in all")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--raw", action="store_true", help="raw_input_contents, as tritonclient sends")
    options = parser.parse_args()
    result = uvloop.run(_run(options.port, options.connections, options.streams, options.seconds, raw=options.raw))
    print(json.dumps(result))
