"""What callers send over HTTP/1.1, request behind request and cut anywhere, and what must hold of what comes back."""

import json
from random import Random
from typing import Any, NamedTuple

from modelmill_server.http1 import Header
from modelmill_server.outbox import Outbox
from modelmill_server.protocol import MAX_HEAD, Connection, Server

from .inputs import MARK, MAX_ERROR
from .wire import Host, Wire, exchange, lateness, manner

_BODY = 20_000  # bytes
_INFER = "/v2/models/model/infer"
_PIECE = 4 << 10  # bytes that a connection parses at once, at most, but for bodies
_TOKENS = [b"", b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b"0", b"9", b"\xff", b"HTTP/1.0", b"chunked"]
_FIRST = [b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"]
_STATUSES = {200, 400, 404, 405, 408, 413, 415, 429, 431, 500, 503, 504, 505}


class _Sent(NamedTuple):
    data: bytes
    status: int | None  # of the answer; None where it is not certain, or the last one


class Target:
    """A model behind connections of HTTP/1.1."""

    def __init__(self, host: Host) -> None:
        self.loop = host.loop
        self.app = host.app(_BODY)


class _Deferred:
    """A response of the short cut that comes later, as one does of a candidate, and that may come too late."""

    def __init__(self, target: Target, answer: bytes, *, is_stopped: bool) -> None:
        self._target, self._answer, self._is_stopped = target, answer, is_stopped
        self._handle: Any = None

    def start(self, reply: Any) -> None:
        self._target.app.counters.in_flight += 1
        self._handle = self._target.loop.call_later(self._target.app.late, reply, self._answer)

    def cancel(self) -> None:
        if self._is_stopped:
            self._handle.cancel()


def check(r: Random, target: Target) -> str:
    """Send requests over one connection, and check what is answered; the last status, or how it ended.

    AssertionError, or what was raised, where it is not as it must be.
    """
    app, loop = target.app, target.loop
    sent = [_request(r) for _ in range(r.choice([1, 1, 2, 3, 6]) if r.random() < 0.99 else 0)]
    data = b"".join(part.data for part in sent)
    if is_damaged := r.random() < 0.4:
        data = _damaged(r, data)
    how = manner(r, len(data))
    app.late = lateness(r)
    app.short_cut.split = None
    if r.random() < 0.2:
        app.short_cut.split = lambda body, size, _: _maybe_deferred(r, target, body, size)
    server = Server(app, app.limits, app.short_cut, most=0 if r.random() < 0.01 else None)
    server.date = b"now"
    connection = Connection(server, Outbox(loop), loop)
    wire = Wire(loop, connection, how.takes)
    ends = r.choice([server.drain, server.release, server.abort, server.close]) if r.random() < 0.3 else None
    before = app.counters.refusals.get("InternalError")
    read = max(stop - start for start, stop in zip([0, *how.cuts], [*how.cuts, len(data)], strict=True))

    def bounded() -> None:
        assert len(connection._held) <= read  # noqa: SLF001
        assert sum(len(request.body) for request in connection._waiting) <= 2 * _BODY + _PIECE  # noqa: SLF001
        # A head may begin in one piece, which is not counted, and is over the limit at the end of another one.
        assert sum(len(name) + len(value) for name, value in connection._headers) <= MAX_HEAD + 2 * _PIECE  # noqa: SLF001

    loop.run(exchange(wire, connection, data, how, bounded, ends or _nothing))
    assert not server.connections
    assert app.counters.in_flight == 0, "something is in flight behind the end"
    assert before == app.counters.refusals.get("InternalError"), wire.data
    statuses = _statuses(bytes(wire.data), is_whole=how.takes is None)
    if how.is_patient and not is_damaged and ends is None and server.most is None:
        expected = [part.status for part in sent]
        if None in expected:
            expected = expected[: expected.index(None)]
            assert statuses[: len(expected)] == expected, (data, wire.data)
        else:
            assert statuses == expected, (data, wire.data)
    return str(statuses[-1]) if statuses else "no answer"


def _nothing() -> None:
    pass


def _maybe_deferred(r: Random, target: Target, body: bytes, size: int | None) -> Any:
    answer = target.app.short_cut.answer(body, size)
    return answer if r.random() < 0.3 else _Deferred(target, answer, is_stopped=r.random() < 0.5)


def _statuses(data: bytes, *, is_whole: bool) -> list[int]:
    """The statuses of the responses in `data`, each of which is checked."""
    found, at = [], 0
    while at < len(data):
        end = data.find(b"\r\n\r\n", at)
        if end < 0 and not is_whole:
            break
        lines = data[at:end].split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1", data[at:]
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        at = end + 4
        if status == b"100":
            assert not headers
            continue
        assert int(status) in _STATUSES, data
        size = int(headers[b"content-length"])
        if data[at : at + 9] != b"HTTP/1.1 " and at < len(data):  # else it answers a HEAD
            body = data[at : at + size]
            assert len(body) == size or not is_whole
            at += size
            if int(status) != 200 and len(body) == size:
                error = json.loads(body)["error"]
                assert MARK not in error, error
                assert 0 < len(error) < MAX_ERROR, error
                assert int(status) != 500 or "is not finite" in error, error
        if headers.get(b"connection") == b"close":
            assert at >= len(data), "something is answered behind the last answer"
        found.append(int(status))
    return found


def _request(r: Random) -> _Sent:  # noqa: C901 - a table
    rows = r.choice([1, 1, 1, 2, 300, 900])
    values = ",".join(str(r.choice([0, 1, 2.5, -3])) for _ in range(3))
    tensor = f'{{"name":"input","shape":[{rows},3],"datatype":"FP32","data":[{",".join([values] * rows)}]}}'
    good = f'{{"id":"{MARK}","inputs":[{tensor}]}}'.encode()
    headers: list[Header] = [(b"host", b"x")]
    method, path, version, body, status = "POST", _INFER, "1.1", good, 200
    match r.randint(0, 13):
        case 0 | 1 | 2 | 3 | 4:
            pass
        case 5:
            path = f"{_INFER}?x={MARK}"
        case 6:
            path, body = "/v2/models/model/versions/1/infer", b"nonsense " + MARK.encode()
            status = 400
        case 7:
            method, body = r.choice(["GET", "HEAD"]), b""
            path = r.choice(["/v2", "/v2/models/model", "/v2/%6dodels/model"])
        case 8:
            path, status = f"/{MARK}", 404
        case 9:
            method, path, body, status = "DELETE", _INFER, b"", 405
        case 10:
            body, status = b" " * r.choice([_BODY + 1, 2 * _BODY, 4 * _BODY]), None
        case 11:
            method, path, body = "GET", "/v2", b"a body that nobody wants"
        case 12:
            path, body = "/v2/repository/index", r.choice([b"", b'{"ready": true}'])
        case _:
            headers, status = [], None  # no host
    more = _more_headers(r) if r.random() < 0.4 else None
    if more is not None:
        headers += more.headers
        version = more.version
        status = None
    if method == "POST" and r.random() < 0.2:
        headers.append((b"Transfer-Encoding", b"chunked"))
        body = _chunked(r, body)
    elif body or r.random() < 0.7:
        headers.append((r.choice([b"content-length", b"Content-Length"]), b"%d" % len(body)))
    r.shuffle(headers)
    line = f"{method} {path} HTTP/{version}".encode()
    head = b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", b""])
    return _Sent((b"\r\n" if r.random() < 0.05 else b"") + head + body, status)


class _More(NamedTuple):
    headers: list[Header]
    version: str


def _more_headers(r: Random) -> _More:  # noqa: C901 - a table
    """Headers that mean something to a server, right and wrong ones."""
    version = "1.1"
    match r.randint(0, 11):
        case 0:
            headers = [(b"expect", r.choice([b"100-continue", b"100-Continue", MARK.encode()]))]
        case 1:
            headers = [(b"connection", r.choice([b"close", b"keep-alive", b"Keep-Alive", b"upgrade", MARK.encode()]))]
        case 2:
            headers = [(b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAEA")]
        case 3:
            version = r.choice(["1.0", "1.0", "2.0", "0.9"])
            headers = [(b"connection", r.choice([b"keep-alive", b"close"]))]
        case 4:
            headers = [(b"inference-header-content-length", r.choice([b"0", b"10", b"x", b"9" * 20]))]
        case 5:
            headers = [(b"x-request-timeout", r.choice([b"5", b"0", b"0.001", b"-1", b"nan", MARK.encode()]))]
        case 6:
            headers = [(b"content-encoding", r.choice([b"gzip", b"identity"]))]
        case 7:
            headers = [(b"host", b"y")]
        case 8:
            headers = [(b"x", bytes([r.choice(b"ax")]) * r.choice([10, 5000, 70_000]))]
        case 9:
            headers = [(b"content-length", r.choice([b"0", b"1", b"-1", b"999999999999999999999", b"1, 1"]))]
        case 10:
            headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-key", MARK.encode())]
        case _:
            headers = [(b"x%d" % number, b"y") for number in range(r.choice([3, 200]))]
    return _More(headers, version)


def _chunked(r: Random, body: bytes) -> bytes:
    size = r.choice([7, 100, 5000])
    size = max(size, len(body) // 50)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    trailer = r.choice([b"", b"", b"x: y\r\n", b"host: z\r\n"])
    more = r.choice([b"", b"", b";x=y"])
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), more, part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def _damaged(r: Random, data: bytes) -> bytes:
    """Mostly where the heads are: what is wrong in a body is found elsewhere."""
    if r.random() < 0.05:
        return r.choice(_FIRST) + data
    if r.random() < 0.15:
        return data[: r.randint(0, len(data))]
    message = bytearray(data)
    for _ in range(r.randint(1, 3)):
        at = r.randint(0, min(len(message), 400)) if r.random() < 0.8 else r.randint(0, len(message))
        message[at : at + r.choice([0, 0, 1, 2, 30])] = r.choice(_TOKENS)
    return bytes(message)
