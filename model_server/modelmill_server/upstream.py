"""A lean HTTP/1.1 client for one other server, to which predictions are handed on.

httptools parses, a connection has one request at a time, and the connection that was used last is used next: so few
are open, and those are warm.  Libraries cost more than a prediction does (aiohttp 45 us of CPU, httpx 200 us).

    no connection                        UpstreamUnreachable
    closed before the answer was whole   UpstreamLost
    not HTTP                             UpstreamInvalid
    more than the limit                  UpstreamTooLarge
    the deadline passed                  UpstreamLate

A connection is dropped after any of these: what comes on it later would be taken for the next answer.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from time import perf_counter

import httptools
import msgspec

# uvicorn closes a connection that was idle for 5 s.  Whoever sends has to be the one that closes first, else a request
# and a close cross on the wire.
IDLE_SECONDS = 4.0
CONNECT_SECONDS = 2.0
_MAX_HEAD = 64 << 10  # bytes of an answer that are no body
# A timer that fires later than that was kept waiting by this process.  The answer may lie in the socket: it is read
# first, else one's own stall looks like the other server's.
_STALLED_SECONDS = 0.01
_ONE_ROUND = 0.001  # the event loop reads its sockets before a timer of that fires


class UpstreamError(Exception):
    """There is no answer.  `reason` is one of the above, the text says it in words that hold nothing of the request."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _StaleError(Exception):
    """The other side closed an idle connection just as a request was sent on it."""


class Response(msgspec.Struct, gc=False):
    """A whole answer, whatever its status; names of headers are in lower case.

    `seconds` are from when the request was sent to the answer's last byte.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    seconds: float


def head(method: str, target: str, host: str, headers: Iterable[tuple[bytes, bytes]], size: int) -> bytes:
    """What stands before a body of `size` bytes; `headers` are those of one's own, as they are sent."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    length = b"content-length: %d\r\n" % size if method == "POST" else b""
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (method.encode(), target.encode(), host.encode(), length, lines)


class Upstream:
    """The connections to one server; an answer's body may have up to `limit` bytes."""

    def __init__(self, host: str, port: int, limit: int) -> None:
        self.limit = limit
        self._host = host
        self._port = port
        self._idle: deque[_Connection] = deque()  # the one used last is the last

    async def ask(self, request: bytes, deadline: float) -> Response:
        """The answer to one whole request; UpstreamError where there is none by `deadline`, on the event loop's clock.

        A request may be sent twice: it has to be one that asks, and changes nothing.
        """
        if deadline <= asyncio.get_running_loop().time():
            raise _late()
        connection = self._warm()
        if connection is not None:
            with contextlib.suppress(_StaleError):
                return await self._exchange(connection, request, deadline)
        return await self._exchange(await self._connect(deadline), request, deadline)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _warm(self) -> "_Connection | None":
        """The connection that was used last, where the other side keeps it open for certain."""
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and (self._idle[0].idle_since < oldest or self._idle[0].closed):
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, deadline: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + CONNECT_SECONDS)):
                _, connection = await loop.create_connection(lambda: _Connection(self.limit), self._host, self._port)
        except (OSError, ValueError) as error:  # a timeout is an OSError, a host that can be no name a ValueError
            if loop.time() >= deadline:
                raise _late() from error
            raise UpstreamError("UpstreamUnreachable", "it takes no connections") from error
        return connection

    async def _exchange(self, connection: "_Connection", request: bytes, deadline: float) -> Response:
        try:
            response = await connection.send(request, deadline)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()
        return response


class _Connection(asyncio.Protocol):
    """One connection, with a request on its way or idle."""

    def __init__(self, limit: int) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answers = 0
        self._began = 0.0
        self._received = 0
        self._keeps_alive = True
        self._status = 0
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._in_body = False
        self._size: int | None = None  # of the body, where the headers say it
        self._to_the_end = False  # the body ends where the connection does
        self._whole = False

    @property
    def reusable(self) -> bool:
        """Whether the next request may go on it: the last one is sent and answered, and nothing came behind."""
        if self.closed or self._transport is None:
            return False
        return self._keeps_alive and not self._transport.get_write_buffer_size()

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    async def send(self, request: bytes, deadline: float) -> Response:
        if self._transport is None:
            raise AssertionError("a request was sent before there was a connection")
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._received = 0
        self._reset()
        self._timer = loop.call_at(deadline, self._on_deadline, loop, deadline)
        self._began = perf_counter()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._timer.cancel()
            self._answer = None

    def _on_deadline(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        if loop.time() - deadline > _STALLED_SECONDS:
            self._timer = loop.call_later(_ONE_ROUND, self._fail, _late())
        else:
            self._fail(_late())

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nothing was asked
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keeps_alive = False
            if not self._whole:
                self._fail(UpstreamError("UpstreamInvalid", "what it answers is not valid HTTP/1.1"))
                return
        if self._whole:
            self._succeed()
        elif self._received > self._limit + _MAX_HEAD or (self._size or 0) > self._limit:
            self._fail(_too_large(self._limit))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._to_the_end and exc is None:
            self._succeed()
        elif self._answers and not self._received:
            self._fail(_StaleError())
        else:
            self._fail(UpstreamError("UpstreamLost", "it closed the connection before its answer was complete"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:
            self._keeps_alive = False  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # else it is a trailer
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._whole:
            return
        self._in_body = True
        self._status = self._parser.get_status_code()
        size = self._headers.get(b"content-length")
        if size is not None:
            self._size = int(size)
        else:
            self._to_the_end = b"transfer-encoding" not in self._headers

    def on_body(self, body: bytes) -> None:
        if not self._whole:
            self._body += body

    def on_message_complete(self) -> None:
        if self._whole:
            return
        if self._status < 200:
            self._reset()  # such as 100 Continue: the answer is still to come
            return
        self._whole = True
        self._keeps_alive = self._parser.should_keep_alive()

    # The end of a request.

    def _succeed(self) -> None:
        if self._answer is None or self._answer.done():
            return
        if len(self._body) > self._limit:
            self._fail(_too_large(self._limit))
            return
        self._answers += 1
        seconds = perf_counter() - self._began
        self._answer.set_result(Response(self._status, self._headers, bytes(self._body), seconds))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _late() -> UpstreamError:
    return UpstreamError("UpstreamLate", "it did not answer before the request's deadline")


def _too_large(limit: int) -> UpstreamError:
    return UpstreamError("UpstreamTooLarge", f"its answer is over {limit} bytes")
