"""What callers send over HTTP/2, frame by frame, and what must hold of what comes back."""

import functools
import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import hpack as reference
import numpy as np

from modelmill_server import http2
from modelmill_server.grpc import Service
from modelmill_server.outbox import Outbox
from modelmill_server.protobuf import field, varint

from .hpack_inputs import Encoder
from .inputs import MARK
from .wire import SECONDS, Host, Wire, exchange, lateness, manner

_BODY = 256 << 10  # bytes: some 60 bodies of it are more than a connection may hold
_SERVICE = "/inference.GRPCInferenceService/"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_MAX_FRAME = 16384
_WINDOW = 65535
_STREAM_WINDOW = 120 << 10  # bytes, with room for padding


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def _message(rows: int) -> bytes:
    shape = field(3, varint(rows) + varint(3))
    tensor = field(1, "input") + field(2, "FP32") + shape
    return field(1, "model") + field(5, tensor) + field(7, np.ones((rows, 3), "<f4").tobytes())


_MESSAGES = {rows: _message(rows) for rows in (1, 2, 100, 3000, 12_000, 25_000)}
_ONE = [1] * 12 + [2, 100]  # rows


class Target:
    """A model behind connections of HTTP/2."""

    def __init__(self, host: Host) -> None:
        self.loop = host.loop
        self.app = host.app(_BODY)
        self.service = Service(self.app)


class _Caller:
    """Frames of one connection, and what is known of their answers."""

    def __init__(self, r: Random) -> None:
        self._r = r
        self._encoder = Encoder()
        self._next = 1
        self.frames: list[bytes] = []
        self.answered: set[int] = set()  # streams that get an answer, if no frame is wrong
        self.is_plain = True  # nothing was sent that a server may refuse

    def add(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.frames.append(_frame(kind, flags, stream, payload))

    def call(self) -> None:
        """A call that is right."""
        r, stream = self._r, self._stream()
        method = r.choice(["ModelInfer"] * 6 + ["ServerLive", "ServerReady", "ServerMetadata"])
        message = _MESSAGES[r.choice(_ONE)] if method == "ModelInfer" else b""
        if method == "ModelInfer" and r.random() < 0.02:
            message = _MESSAGES[r.choice([3000, 12_000])]
            self.is_plain = self.is_plain and len(message) < _STREAM_WINDOW  # it does not wait for credit
        more = [(b"grpc-timeout", r.choice([b"5S", b"100m", b"1H"]))] if r.random() < 0.2 else []
        self._head(stream, _SERVICE + method, more)
        self._body(stream, b"\0" + struct.pack(">I", len(message)) + message)
        self.answered.add(stream)

    def odd_call(self) -> None:
        """A call that is not as it should be, though its frames are."""
        r, stream = self._r, self._stream()
        path = r.choice([_SERVICE + "ModelInfer"] * 4 + [_SERVICE + "ModelReady", _SERVICE + MARK, "/" + MARK, ""])
        if r.random() < 0.1:
            path = "/grpc.health.v1.Health/Check"
        message = r.choice([_MESSAGES[1], _MESSAGES[1], b"", MARK.encode(), bytes(5000), _MESSAGES[25_000]])
        packed, more = r.random() < 0.2, []
        if packed:
            encoding = r.choice([b"gzip", b"deflate", b"br"])
            more = [(b"grpc-encoding", encoding)]
            shrink = zlib.compressobj(wbits=31 if encoding == b"gzip" else 15)
            message = shrink.compress(message) + shrink.flush()
        if r.random() < 0.2:
            more.append((b"grpc-timeout", r.choice([b"0S", b"1n", b"", b"x", b"123456789S"])))
        if r.random() < 0.05:
            more.append((b"x", bytes(r.choice([4000, 17_000]))))
        size = len(message) if r.random() < 0.7 else r.choice([0, 1, 5000, _BODY + 9, 1 << 31, len(message) + 1])
        self.is_plain = False
        if r.random() < 0.05:
            self._head(stream, path, more, ends=True)
            return
        self._head(stream, path, more)
        self._body(stream, bytes((packed,)) + struct.pack(">I", size) + message)

    def begun(self) -> None:
        """Calls whose ends do not come, or later."""
        r = self._r
        self.is_plain = False
        many = r.choice([1, 1, 2, 3]) if r.random() < 0.9 else r.choice([80, 120])
        for _ in range(many):
            stream = self._stream()
            self._head(stream, _SERVICE + "ModelInfer", [])
            if many == 80:
                self.add(_DATA, 0, stream, b"\0" + struct.pack(">I", _BODY))
            elif r.random() < 0.5:
                self.add(_DATA, 0, stream, b"\0\0\0\0"[: r.randint(0, 4)])
            if r.random() < 0.2:
                self.add(_RESET, 0, stream, _word(8))
            elif r.random() < 0.1:
                self.add(_WINDOW_UPDATE, 0, stream, _word(r.choice([0, 1, (1 << 31) - 1])))
        if r.random() < 0.3:
            for stream in range(1, self._next, 2):
                self.add(_DATA, _END_STREAM, stream, r.choice([b"", b"more"]))

    def control(self) -> None:  # noqa: C901 - a table
        """A frame that belongs to no call, or to one that was."""
        r = self._r
        stream = r.choice([0, 1, max(self._next - 2, 1), self._next, 2])
        match r.randint(0, 10):
            case 0:
                self.add(_PING, r.choice([0, 0, _ACK]), 0, r.randbytes(8))
            case 1:
                self.add(_SETTINGS, 0, 0, self._settings())
                self.is_plain = False
            case 2:
                self.add(_SETTINGS, _ACK, 0)
            case 3:
                self.add(_WINDOW_UPDATE, 0, 0, _word(r.choice([1, 1000, 1 << 20])))
            case 4:
                self.add(_WINDOW_UPDATE, 0, stream, _word(r.choice([0, 1, 1000, 1 << 30, (1 << 31) - 1])))
                self.is_plain = False
            case 5:
                self.add(_RESET, 0, stream, _word(r.choice([0, 5, 8])))
                self.is_plain = False
            case 6:
                self.add(_PRIORITY, 0, max(stream, 1), bytes(5))
            case 7:
                self.add(r.choice([10, 12, 200]), r.randrange(256), stream, r.randbytes(r.randint(0, 9)))
            case 8:
                self.add(_GOAWAY, 0, 0, bytes(8))
            case 9:
                self.add(_DATA, r.choice([0, _END_STREAM]), stream, r.choice([b"", b"more"]))
                self.is_plain = False
            case _:
                self.add(_HEADERS, _END_HEADERS | r.choice([0, _END_STREAM]), stream, b"\x00\x01x\x01y")
                self.is_plain = False

    def wrong(self) -> None:  # noqa: C901 - a table
        """A frame that nobody may send, or many of one."""
        r = self._r
        self.is_plain = False
        stream = r.choice([0, 1, max(self._next - 2, 1)])
        match r.randint(0, 8):
            case 0:
                kind = r.choice([_PING, _RESET, _SETTINGS, _WINDOW_UPDATE, _PRIORITY])
                self.add(kind, 0, stream, bytes(r.choice([0, 3, 7])))
            case 1:
                self.add(r.choice([_PUSH, _CONTINUATION, _GOAWAY, _PRIORITY]), 0, stream, bytes(5))
            case 2:
                self.add(_HEADERS, _PADDED | _END_HEADERS, self._stream(), r.choice([b"", b"\xff\x83", b"\0"]))
            case 3:
                self.add(_HEADERS, _WITH_PRIORITY | _END_HEADERS, self._stream(), bytes(r.choice([0, 4, 5])))
            case 4:  # headers that never end
                self.add(_HEADERS, 0, self._stream(), b"\x00\x01x\x01y")
                for _ in range(r.choice([1, 3, 20])):
                    self.add(_CONTINUATION, 0, self._next - 2, bytes(r.choice([0, 1, 3000])))
            case 5:
                self.frames.append(struct.pack(">HBBBI", 0x40, r.choice([0, 1]), _DATA, 0, 1))  # its size is too large
            case 6:
                kind, payload = r.choice([(_PING, bytes(8)), (_SETTINGS, b""), (_WINDOW_UPDATE, _word(1)), (77, b"")])
                self.frames.append(_frame(kind, 0, 0, payload) * r.choice([5, 5, 5, 5, 1001]))
            case 7:  # calls of nothing, which are refused before their ends
                for _ in range(3 if r.random() < 0.95 else 1100):
                    self.add(_HEADERS, _END_HEADERS, self._stream(), b"\x83")
            case _:
                for _ in range(r.choice([1, 12])):
                    self.add(_DATA, r.choice([0, _PADDED]), stream, bytes(r.choice([1, 16000])))

    def _settings(self) -> bytes:
        r = self._r
        pairs = [
            (1, r.choice([0, 4096, 1 << 20])),
            (2, r.choice([0, 1, 2])),
            (3, r.choice([0, 100])),
            (4, r.choice([0, 1, 100, _WINDOW, 1 << 20, (1 << 31) - 1, 1 << 31])),
            (5, r.choice([0, _MAX_FRAME, 1 << 20, 1 << 24])),
            (99, 1),
        ]
        return b"".join(struct.pack(">HI", *pair) for pair in r.sample(pairs, r.randint(0, 3)))

    def _stream(self) -> int:
        stream, self._next = self._next, self._next + (2 if self._r.random() < 0.97 else 10)
        return stream

    def _head(self, stream: int, path: str, more: list[tuple[bytes, bytes]], *, ends: bool = False) -> None:
        r = self._r
        kind = b"application/grpc" if r.random() < 0.9 else r.choice([b"application/grpc+proto", b"text/html", b""])
        self.is_plain = self.is_plain and kind.startswith(b"application/grpc")
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b"content-type", kind)]
        block = self._encoder.encode(r, [*headers, (b"te", b"trailers"), *more])
        flags, before, behind = _END_STREAM if ends else 0, b"", b""
        if r.random() < 0.1:
            flags, before, behind = flags | _PADDED, bytes((3,)), bytes(3)
        if r.random() < 0.1:
            flags, before = flags | _WITH_PRIORITY, before + bytes(5)
        parts = [block[at : at + _MAX_FRAME - 20] for at in range(0, len(block), _MAX_FRAME - 20)]
        if r.random() < 0.15:
            at = r.randint(1, len(block))
            parts = [block[:at], block[at:]]
        last = len(parts) == 1
        self.add(_HEADERS, flags | (_END_HEADERS if last else 0), stream, before + parts[0] + behind)
        for number, part in enumerate(parts[1:], 2):
            self.add(_CONTINUATION, _END_HEADERS if number == len(parts) else 0, stream, part)

    def _body(self, stream: int, body: bytes) -> None:
        r = self._r
        size = _MAX_FRAME - 10
        if len(body) > 1 and r.random() < 0.3:
            size = min(size, max(r.choice([1, 4, 5, len(body) // 2]), len(body) // 9))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        if r.random() < 0.1:
            parts.append(b"")
        trailers = r.random() < 0.1
        for number, part in enumerate(parts, 1):
            flags = _END_STREAM if number == len(parts) and not trailers else 0
            if r.random() < 0.1:
                flags, part = flags | _PADDED, bytes((5,)) + part + bytes(5)  # noqa: PLW2901
            self.add(_DATA, flags, stream, part)
        if trailers:
            self.add(_HEADERS, _END_HEADERS | _END_STREAM, stream, b"\x00\x01x\x01y")


def check(r: Random, target: Target) -> str:
    """Send frames over one connection, and check what is answered; the code of its end, or how many were answered.

    AssertionError, or what was raised, where it is not as it must be.
    """
    app, loop = target.app, target.loop
    caller = _Caller(r)
    caller.add(_SETTINGS, 0, 0, caller._settings() if r.random() < 0.1 else b"")  # noqa: SLF001
    caller.is_plain = len(caller.frames[0]) == 9
    for _ in range(r.choice([1, 2, 4, 8])):
        kind = r.random()
        act = caller.call if kind < 0.55 else caller.control if kind < 0.75 else caller.odd_call
        (act if kind < 0.88 else caller.begun if kind < 0.93 else caller.wrong)()
    data = http2.PREFACE + b"".join(caller.frames)
    if r.random() < 0.3:
        data, caller.is_plain = _damaged(r, caller.frames), False
    how = manner(r, len(data))
    app.late = lateness(r)
    server = http2.Server(target.service, SECONDS)
    connection = http2.Connection(server, Outbox(loop), loop)
    wire = Wire(loop, connection, how.takes)
    ends = r.choice([server.drain, server.release, server.abort, server.close]) if r.random() < 0.08 else None

    def bounded() -> None:
        streams = connection._streams.values()  # noqa: SLF001
        assert len(streams) <= http2.MAX_STREAMS
        assert sum(len(stream.body) for stream in streams) <= len(streams) * (128 << 10) + (8 << 20)
        assert 0 <= connection._granted <= (8 << 20) + _BODY  # noqa: SLF001
        assert wire.closing or len(connection._rest) <= _MAX_FRAME + 9  # noqa: SLF001
        assert len(connection._block[2]) <= http2.MAX_HEAD + _MAX_FRAME  # noqa: SLF001
        assert len(connection._unfinished) <= 1000  # noqa: SLF001

    before = app.counters.refusals.get("InternalError")
    loop.run(exchange(wire, connection, data, how, bounded, ends or _nothing))
    assert not server.connections
    assert app.counters.in_flight == 0, "something is in flight behind the end"
    left = (connection._streams, connection._waiting, connection._wanting, connection._granted)  # noqa: SLF001
    assert not any(left), left
    assert before == app.counters.refusals.get("InternalError"), "the server failed"
    code, answered = _read(bytes(wire.data), is_whole=how.takes is None)
    if caller.is_plain and how.is_patient and ends is None:
        assert answered == caller.answered, (answered, caller.answered)
    return f"end {code}" if code else "answered" if answered else "no answer"


def _nothing() -> None:
    pass


def _read(data: bytes, *, is_whole: bool) -> tuple[int, set[int]]:
    """The code that the connection ended with, and the streams that were answered; what was sent is checked."""
    if data.startswith(b"HTTP/1.1 400 "):
        return 1, set()
    ended, reset, code = set[int](), set[int](), 0
    for number, frame in enumerate(_frames(data, is_whole=is_whole)):
        assert number or frame.kind == _SETTINGS, "settings come first"
        assert frame.kind in (_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE)
        assert not code, "something is sent behind the end"
        if frame.kind in (_DATA, _HEADERS, _RESET):
            assert frame.stream & 1
            assert frame.stream not in reset
            assert frame.stream not in ended or frame.kind == _RESET, "a stream goes on behind its end"
        if frame.kind == _RESET:
            reset.add(frame.stream)
        elif frame.kind == _HEADERS and frame.flags & _END_STREAM:
            headers = _headers(frame.payload)
            assert MARK.encode() not in headers.get(b"grpc-message", b"")
            assert headers.get(b"grpc-status") != b"13" or b"is not finite" in headers[b"grpc-message"], headers
        elif frame.kind == _GOAWAY:
            code = int.from_bytes(frame.payload[4:8])
        if frame.kind in (_DATA, _HEADERS) and frame.flags & _END_STREAM:
            ended.add(frame.stream)
    return code, ended


@functools.lru_cache(maxsize=1000)
def _headers(block: bytes) -> dict[bytes, bytes]:
    """Those of a block that leaves the table alone, as the server's do."""
    return dict(tuple(header) for header in reference.Decoder().decode(block, raw=True))


def _frames(data: bytes, *, is_whole: bool) -> Iterator[_Frame]:
    at = 0
    while at < len(data):
        high, low, kind, flags, stream = struct.unpack_from(">HBBBI", data, at)
        size = high << 8 | low
        stop = at + 9 + size
        assert stop <= len(data) or not is_whole
        yield _Frame(kind, flags, stream, data[at + 9 : stop])
        at = stop


def _damaged(r: Random, frames: list[bytes]) -> bytes:
    """The frames, one of them changed in a way that frames are wrong in."""
    frames = list(frames)
    if r.random() < 0.1:
        frames.pop(r.randrange(len(frames)))
    preface = (
        http2.PREFACE if r.random() < 0.97 else r.choice([b"", b"GET / HTTP/1.1\r\n\r\n", http2.PREFACE[:-1], b"P"])
    )
    index = r.randrange(len(frames)) if frames else -1
    if index >= 0:
        frame = bytearray(frames[index])
        match r.randint(0, 5):
            case 0:
                frame[3] = r.choice([*range(11), 255])  # its kind
            case 1:
                frame[4] ^= 1 << r.randrange(8)  # a flag
            case 2:
                frame[8] = r.choice([0, 1, 2, 3, 255])  # its stream
            case 3:
                frame[2] = r.randrange(256)  # its size
            case 4:
                frame.insert(r.randint(9, len(frame)), r.randrange(256))
                frame[:3] = struct.pack(">I", len(frame) - 9)[1:]
            case _:
                frame[r.randrange(len(frame))] = r.randrange(256)
        frames[index] = bytes(frame)
        if r.random() < 0.2:
            frames.insert(r.randrange(len(frames)), frames[index])
    data = preface + b"".join(frames)
    return data[: r.randint(0, len(data))] if r.random() < 0.1 else data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _word(value: int) -> bytes:
    return struct.pack(">I", value)
