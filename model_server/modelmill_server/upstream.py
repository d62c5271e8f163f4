"""A lean HTTP/1.1 client for one other server, to which predictions are handed on.

httptools parses, a connection has one request at a time, and the connection that was used last is used next: so few
are open, and those are warm.  Libraries cost more than a prediction does (aiohttp 45 us of CPU, httpx 200 us).

    no connection                        UpstreamUnreachable
    closed before the answer was whole   UpstreamLost
    not HTTP                             UpstreamInvalid
    more than the limit                  UpstreamTooLarge
    the deadline passed                  UpstreamLate

A connection is dropped after any of these: what comes on it later would be taken for the next answer.

`Upstream.ask` is for coroutines.  `Upstream.send` calls back, which costs a third of it, and knows no deadline: who
sends gives up with `Exchange.fail`.
"""

import asyncio
import functools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
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
STALLED_SECONDS = 0.01
ONE_ROUND = 0.001  # the event loop reads its sockets before a timer of that fires


class UpstreamError(Exception):
    """There is no answer.  `reason` is one of the above, the text says it in words that hold nothing of the request."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StaleError(UpstreamError):
    """The other side closed an idle connection just as a request was sent on it: that says nothing of the request."""

    def __init__(self) -> None:
        super().__init__("UpstreamStale", "it closed an idle connection")


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


class Exchange:
    """A request on its way; `done` is called once, with how it ended."""

    __slots__ = ("_done", "connection", "request")

    def __init__(self, request: bytes, done: "Done") -> None:
        self.request = request
        self.connection: _Connection | None = None
        self._done: Done | None = done

    @property
    def over(self) -> bool:
        return self._done is None

    def finish(self, result: "Response | UpstreamError") -> None:
        done, self._done = self._done, None
        self.request = b""
        if done is not None:
            done(result)

    def fail(self, error: UpstreamError) -> None:
        """Give it up, and the connection with it."""
        if self.connection is not None and not self.over:
            self.connection.close()
        self.finish(error)


Done = Callable[[Response | UpstreamError], None]
Glance = Callable[[bytes], tuple[dict[bytes, bytes], bytes] | None]  # only for a whole answer with status 200


class Upstream:
    """The connections to one server; an answer's body may have up to `limit` bytes.

    A name may stand for several servers: a connection lives for about `lifetime` seconds, so that all get requests.
    `glance` knows most answers as a whole, and parses them in half the time: headers and body, or None.
    """

    def __init__(
        self, host: str, port: int, limit: int, lifetime: float = math.inf, glance: "Glance | None" = None
    ) -> None:
        self.limit = limit
        self.glance = glance
        self._host = host
        self._port = port
        self._lifetime = lifetime
        self._idle: deque[_Connection] = deque()  # the one used last is the last
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    @functools.cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that it lives in; to ask for the running one takes a system call."""
        return asyncio.get_running_loop()

    async def ask(self, request: bytes, deadline: float) -> Response:
        """The answer to one whole request; UpstreamError where there is none by `deadline`, on the event loop's clock.

        A request may be sent twice: it has to be one that asks, and changes nothing.
        """
        if deadline <= self.loop.time():
            raise late()
        try:
            return await self._ask(request, deadline)
        except StaleError:
            return await self._ask(request, deadline, fresh=True)

    async def _ask(self, request: bytes, deadline: float, *, fresh: bool = False) -> Response:
        loop = self.loop
        future: asyncio.Future[Response] = loop.create_future()
        exchange = self.send(request, functools.partial(_settle, future), fresh=fresh)
        timer = loop.call_at(deadline, _expire, exchange, loop, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            exchange.fail(late())
            raise
        finally:
            timer.cancel()

    def send(self, request: bytes, done: Done, *, fresh: bool = False) -> Exchange:
        """Send one whole request, on a new connection if it has to be `fresh`.

        `done` is called with the answer, or with why there is none; not before this returns.
        """
        exchange = Exchange(request, done)
        connection = None if fresh else self._warm()
        if connection is None:
            task = self.loop.create_task(self._connect(exchange))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            connection.send(exchange)
        return exchange

    def close(self) -> None:
        """Close what is idle, and the others after their answers."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def write(self, transport: asyncio.Transport, request: bytes) -> None:
        """Write at the end of this round of the event loop, together with others: see `outbox`."""
        if not self._waiting:
            self.loop.call_soon(self._flush)
        self._waiting.append((transport, request))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport, request in waiting:
            transport.write(request)

    def release(self, connection: "_Connection") -> None:
        """The connection has given its answer."""
        now = self.loop.time()
        if connection.reusable and now < connection.lives_until and not self._closed:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()

    def _warm(self) -> "_Connection | None":
        """The connection that was used last, where the other side keeps it open for certain."""
        idle = self._idle
        oldest = self.loop.time() - IDLE_SECONDS
        while idle and (idle[0].idle_since < oldest or idle[0].closed):
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, exchange: Exchange) -> None:
        """Send on a new connection."""
        loop = self.loop
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except (OSError, ValueError):  # a timeout is an OSError, a host that can be no name a ValueError
            exchange.finish(UpstreamError("UpstreamUnreachable", "it takes no connections"))
            return
        connection.lives_until = loop.time() + self._lifetime * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        if exchange.over:
            self.release(connection)  # the next request need not wait for one
        else:
            connection.send(exchange)


class _Connection(asyncio.Protocol):
    """One connection, with a request on its way or idle."""

    def __init__(self, pool: Upstream) -> None:
        self.closed = False
        self.idle_since = 0.0
        self.lives_until = math.inf
        self._pool = pool
        self._limit = pool.limit
        self._glance = pool.glance
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._answers = 0
        self._began = 0.0
        self._received = 0
        self._keeps_alive = True
        self._status = 0
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
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
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def send(self, exchange: Exchange) -> None:
        if self._transport is None:
            raise AssertionError("a request was sent before there was a connection")
        self._exchange = exchange
        exchange.connection = self
        self._received = 0
        self._reset()
        self._began = perf_counter()
        self._pool.write(self._transport, exchange.request)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # nothing was asked
            return
        if self._glance is not None and not self._received and (found := self._glance(data)) is not None:
            self._status = 200
            self._headers, self._body = found
            self._succeed()
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
            self._fail(StaleError())
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
        if self._whole:
            return
        if not self._body:
            self._body = body  # mostly all of it
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
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
        exchange = self._exchange
        if exchange is None:
            return
        if len(self._body) > self._limit:
            self._fail(_too_large(self._limit))
            return
        self._answers += 1
        self._exchange = None
        seconds = perf_counter() - self._began
        response = Response(self._status, self._headers, bytes(self._body), seconds)
        self._pool.release(self)
        exchange.finish(response)

    def _fail(self, error: UpstreamError) -> None:
        if self._exchange is not None:
            self._exchange.fail(error)


def _settle(future: asyncio.Future[Response], result: Response | UpstreamError) -> None:
    if future.done():
        return
    if isinstance(result, UpstreamError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _expire(exchange: Exchange, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
    if loop.time() - deadline > STALLED_SECONDS:
        loop.call_later(ONE_ROUND, exchange.fail, late())
    else:
        exchange.fail(late())


def late() -> UpstreamError:
    return UpstreamError("UpstreamLate", "it did not answer before the request's deadline")


def _too_large(limit: int) -> UpstreamError:
    return UpstreamError("UpstreamTooLarge", f"its answer is over {limit} bytes")
