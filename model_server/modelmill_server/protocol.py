"""HTTP/1.1 on one connection: requests in, answers out in their order, and nobody waits or is waited for for ever.

httptools parses.  A prediction that arrives whole, in one read, for a model that answers in the event loop takes the
short cut: no request, no task, one write (see `outbox`).  That halves the CPU of a request.  Whatever is not plain
(chunked, slow, pipelined behind a pending answer, HTTP/1.0, an upgrade, a reader that does not read) is a `Request`
for the application.

    who waits                                          for                        then
    a connection on which nothing came                 `body_seconds`             it is closed
    a head, and then a body, that is not complete      `body_seconds`             408, closed
    an answer that nobody reads                        `body_seconds`             the connection is reset
    a connection between requests                      KEEP_ALIVE_SECONDS         it is closed
    the sender of something that was refused           _LINGER_SECONDS            it is closed

What comes while a request waits for its answer is not read, but for what came with it: of that, one piece at a time is
parsed.  So the memory of a connection is bounded by one body, one read and the requests of one piece.
"""

import asyncio
import functools
import math
import socket
from collections import deque
from collections.abc import Callable, Mapping

import httptools

from modelmill_server import http1, log
from modelmill_server.errors import RefusedError, invalid
from modelmill_server.framing import JSON_SIZE_NAME
from modelmill_server.http1 import Answer, Application, Deferred, Request, Response, ShortCut
from modelmill_server.limits import Limits
from modelmill_server.outbox import Outbox

MAX_HEAD = 64 << 10  # bytes of a request line with its headers
# Longer than any client, proxy or load balancer keeps an idle connection (Google's: 600 s): the side that
# sends must be the one that closes, else a request and a close can cross on the wire.
KEEP_ALIVE_SECONDS = 620
# How long a connection is read on after the last answer, for a caller that is still sending: a reset would take the
# answer with it.
_LINGER_SECONDS = 1.0
_PIECE = 4 << 10  # bytes that are parsed at once: some 160 of the smallest requests
_EARLY = 0.002  # seconds: a timer counts in milliseconds
_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSED = ShortCut(lambda *_: b"", 0, {})
_NOT_YET = asyncio.Transport()  # of a connection that is being made


class Server:
    """The connections of one port, `most` at once."""

    def __init__(
        self, app: Application, limits: Limits, short_cut: ShortCut | None = None, most: int | None = None
    ) -> None:
        self.app = app
        self.limits = limits
        self.short_cut = _CLOSED if short_cut is None else short_cut
        self.most = most
        self.connections: set[Connection] = set()
        self.draining = False
        self.glance = min(limits.body_seconds, KEEP_ALIVE_SECONDS)  # so often, each connection looks at the clock
        self.date = b""  # the Date header, which HTTP asks a server for
        self._server: asyncio.Server | None = None

    async def open(self, sock: socket.socket, backlog: int) -> None:
        """Listen on `sock`, which is bound."""
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        self._server = await loop.create_server(lambda: Connection(self, outbox, loop), sock=sock, backlog=backlog)

    def close(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()

    def drain(self) -> None:
        """Close each connection after its next answer; its caller will find another server."""
        self.draining = True

    def release(self) -> None:
        """Close idle connections now, and the others after their answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.release()

    def abort(self) -> None:
        """End all connections at once, whatever is on its way."""
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, server: Server, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._app = server.app
        self._short_cut = server.short_cut
        self._outbox = outbox
        self._loop = loop
        self._transport: asyncio.Transport = _NOT_YET
        self._parser = httptools.HttpRequestParser(self)
        # What is being read.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._head_size = 0  # bytes that came since something was complete
        self._body: bytes | None = None  # of a request on the short cut; None where there is none
        self._length = 0  # of that body
        self._json_size: int | None = None
        self._reading: Request | None = None  # whose body is not complete
        self._held = b""  # what waits to be parsed
        self._round: asyncio.Handle | None = None  # of the event loop, in which it goes on with that
        # What is answered.
        self._waiting: deque[Request] = deque()  # for an answer, in order; only the first one is worked on
        self._refusal: Response | None = None  # the answer after those, and the last one
        self._blocked = False  # the caller does not read
        self._ending = False  # there will be no other answer
        # One timer for everything, since a new one for each request costs more than counting it does.
        self._quiet = True  # nothing came since the timer was set
        self._quiet_since = loop.time()
        self._read_due: float | None = None  # when what is being read must be complete
        self._end_due: float | None = None  # when the caller must have taken what was written, or the end comes
        self._lingers = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        self._transport = transport  # type: ignore[assignment]
        server.connections.add(self)
        self._in(server.glance)
        if server.most is not None and len(server.connections) > server.most:
            message = f"{server.most} connections are open already; try again in a second, or close some"
            self._refuse(RefusedError(503, "ConnectionsFull", message))
            self._close()  # no lingering: there are too many
        else:
            self._read_due = self._in(server.limits.body_seconds)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._ending = True
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._forget()
        del self._parser  # it knows this object

    def data_received(self, data: bytes) -> None:
        self._quiet = False
        if self._waiting or self._held or self._blocked or self._ending or self._refusal:
            if not self._ending and self._refusal is None:
                self._held += data
                self._parse_held()
            return
        if len(data) <= _PIECE:
            self._parse(data)
        else:
            # A head alone, where it is here, so that its body is taken in one piece.
            end = data.find(_END_OF_HEAD, 0, _PIECE) + len(_END_OF_HEAD)
            self._parse(data[:end])
            if self._missing() != len(data) - end:
                self._held = data[end:]
                self._parse_held()
                return
            self._parse(memoryview(data)[end:])
        if self._in_head or self._reading or self._read_due is not None or self._body is not None:
            self._expect()

    def eof_received(self) -> None:
        self._close()

    def pause_writing(self) -> None:
        self._blocked = True
        self._end_due = self._in(self._server.limits.body_seconds)

    def resume_writing(self) -> None:
        self._blocked = False
        if not self._ending:
            self._end_due = None
            self._advance()
            self._parse_held()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._in_head = True
        self._read_due = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_size = 0
        self._in_head = False
        self._read_due = None
        if self._is_plain():
            self._body = b""
        elif not self._parser.should_upgrade():  # else `_decline` follows
            self._begin()

    def on_body(self, body: bytes) -> None:
        self._head_size = 0
        if self._body is None:
            self._take(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._body is not None:
            body, self._body = self._body, None
            if self._short_cut.split is None:
                self._outbox.send(self._transport, self._short_cut.answer(body, self._json_size))
            else:
                self._answer_or_defer(self._short_cut.split(body, self._json_size, self._headers))
        elif self._reading is not None:
            request, self._reading = self._reading, None
            request.whole = True
            if request.awaited:
                self._answer(request, self._app.call)

    # Reading.

    def _parse(self, data: bytes | memoryview) -> None:
        self._head_size += len(data)
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline(bytes(data[upgrade.args[0] :]))
                if data:
                    continue
            except httptools.HttpParserError as error:
                self._break(error)
                return
            break
        if self._head_size > MAX_HEAD:
            message = f"the headers are over {MAX_HEAD} bytes; send fewer"
            self._refuse(RefusedError(431, "HeadersTooLarge", message))

    def _parse_held(self) -> None:
        """Parse a piece of what came, and bodies to their end, unless a whole request waits for its answer."""
        data, at = memoryview(self._held), 0
        while at < len(data) and self._may_parse():
            missing = self._missing()
            if at >= _PIECE and not missing:
                break
            size = missing or _PIECE
            self._parse(data[at : at + size])
            at += size
        if self._ending or self._refusal is not None:
            self._held = b""
        elif at < len(data):
            self._held = bytes(data[at:])
            self._transport.pause_reading()
            if self._round is None and self._may_parse():
                # One caller's many requests let others through.
                self._round = self._loop.call_soon(self._next_round)
        else:
            self._held = b""
            self._transport.resume_reading()  # and see, while a request is computed, whether its caller is there
            self._expect()

    def _next_round(self) -> None:
        self._round = None
        if self._held:
            self._parse_held()

    def _may_parse(self) -> bool:
        if self._blocked or self._ending or self._refusal is not None:
            return False
        return not self._waiting or self._waiting[0] is self._reading

    def _missing(self) -> int:
        """Bytes of the body that is being read, as far as they are known."""
        if self._body is not None:
            return self._length - len(self._body)
        return 0 if self._reading is None else max(0, self._reading.length - self._reading.size)

    def _expect(self) -> None:
        """What is left is part of a request: the rest has to come in time."""
        if self._ending or self._refusal is not None:
            return
        if self._body is not None:
            # It is not plain.
            body, self._body = self._body, None
            self._begin()
            self._take(body)
        if not self._in_head and self._reading is None:
            self._read_due = None
        elif self._read_due is None:
            self._read_due = self._in(self._server.limits.body_seconds)

    def _is_plain(self) -> bool:
        short_cut, parser = self._short_cut, self._parser
        if self._url not in short_cut.paths or self._waiting or self._blocked:
            return False
        if parser.get_method() != b"POST" or not parser.should_keep_alive():
            return False
        return self._has_plain_headers(short_cut.checks) and 0 <= self._length <= short_cut.limit

    def _has_plain_headers(self, checks: Mapping[bytes, Callable[[bytes], bool]]) -> bool:
        self._length, self._json_size = -1, None
        hosts = 0
        for name, value in self._headers:
            if name not in checks:
                continue
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self._length = int(value)
            elif not checks[name](value):
                return False
            elif name == JSON_SIZE_NAME:
                self._json_size = int(value)
            elif name == b"connection" and self._parser.get_http_version() != "1.1":
                return False
        return hosts == 1

    def _begin(self) -> None:
        """A request for the application; RefusedError where its head is none that HTTP allows."""
        parser = self._parser
        request = Request(parser.get_method().decode(), http1.path_of(self._url), self._headers)
        request.check(parser.get_http_version(), self._server.limits.body)
        request.closes = request.closes or not parser.should_keep_alive()
        self._reading, self._headers = request, []  # what may come now are trailers
        self._waiting.append(request)
        self._advance()

    def _take(self, body: bytes) -> None:
        """More of the body of a request."""
        request = self._reading
        if request is None:
            return
        request.size += len(body)
        if request.answered or request.large:
            # Read on, so that its sender sees the answer.
            if request.size > self._server.limits.swallow:
                self._close()
        elif request.size > self._server.limits.body:
            request.large, request.body = True, b""
            if request.awaited:
                self._answer(request, self._refuse_large)
        elif request.body:
            if isinstance(request.body, bytes):
                request.body = bytearray(request.body)
            request.body += body
        else:
            request.body = body

    def _decline(self, rest: bytes) -> bytes:
        """What another parser gets instead of a request that offers HTTP/2 (as Java's client does) or websockets.

        This one takes what follows the headers, the `rest`, for another protocol.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version()
        self._parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            self._refuse(invalid("HttpInvalid", "this is no proxy"))
            return b""
        line = b"%b %b HTTP/%b" % (method, self._url, version.encode())
        return b"\r\n".join([line, *http1.without_offer(self._headers), b"", rest])

    # Answering.

    def _advance(self) -> None:
        """Work on the request whose turn it is."""
        while self._waiting and not (self._waiting[0].opened or self._blocked or self._ending):
            request = self._waiting[0]
            request.opened = True
            self._answer(request, self._open)
        if self._refusal is not None and not self._waiting and not self._ending:
            self._end(self._refusal.encoded(self._server.date, closes=True))

    def _open(self, request: Request) -> Answer | None:
        answer = self._app.open(request)
        if answer is not None:
            return answer
        if request.large:
            return self._refuse_large(request)
        if request.whole:
            return self._app.call(request)
        if request.expects and not request.size:
            request.expects = False
            self._outbox.send(self._transport, _CONTINUE)
        request.awaited = True
        return None

    def _answer(self, request: Request, work: "Callable[[Request], Answer | None]") -> None:
        """Answer with what `work` gives, now or later; not at all where that is None."""
        request.awaited = False
        try:
            answer = work(request)
        except Exception as error:
            answer = self._refused(request, error)
        if isinstance(answer, Response):
            self._respond(request, answer)
        elif answer is not None:
            request.task = self._loop.create_task(answer)
            request.task.add_done_callback(lambda task: self._done(request, task))

    def _answer_or_defer(self, answer: bytes | Deferred) -> None:
        """What the short cut gave: the response, or what gives it later."""
        if isinstance(answer, bytes):
            self._outbox.send(self._transport, answer)
            return
        request = Request("POST", "", [])
        request.opened = request.whole = True
        request.task = answer
        self._waiting.append(request)
        answer.start(functools.partial(self._take_response, request))

    def _take_response(self, request: Request, response: bytes) -> None:
        if request.answered or self._transport.is_closing():
            return
        self._waiting.popleft()
        self._count_out(request, gone=False)
        if self._server.draining:
            self._end(response.replace(_END_OF_HEAD, b"\r\nconnection: close" + _END_OF_HEAD, 1))
            return
        self._outbox.send(self._transport, response)
        if self._waiting or self._held or self._refusal is not None:
            self._advance()
            self._parse_held()

    def _done(self, request: Request, task: "asyncio.Task[Response]") -> None:
        if task.cancelled() or request.answered or self._transport.is_closing():
            return
        error = task.exception()
        self._respond(request, task.result() if error is None else self._refused(request, error))
        self._advance()
        self._parse_held()

    def _respond(self, request: Request, response: Response) -> None:
        """Answer the first request that waits."""
        self._waiting.popleft()
        self._count_out(request, gone=False)
        # Who was not told to send the body may send it or not: what follows cannot be told apart.
        closes = request.closes or self._server.draining or (request.expects and not request.whole)
        data = response.encoded(self._server.date, closes=closes, bodiless=request.method == "HEAD")
        if closes:
            self._end(data)
        else:
            self._outbox.send(self._transport, data)

    def _refused(self, request: Request, error: BaseException) -> Response:
        return self._app.refused(error if isinstance(error, RefusedError) else _failure(error), request)

    def _refuse_large(self, request: Request) -> Response:
        return self._app.refused(self._server.limits.too_large(), request)

    def _count_out(self, request: Request, *, gone: bool) -> None:
        request.answered = True
        request.body = b""
        self._app.close(request, gone=gone)

    def _forget(self) -> None:
        """Give up what waits for an answer: nobody is there to get it, and nothing else is answered."""
        self._short_cut = _CLOSED
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            if request.opened:
                self._count_out(request, gone=True)
                if request.task is not None:
                    request.task.cancel()

    # The end.

    def _break(self, error: httptools.HttpParserError) -> None:
        """What came is not HTTP."""
        if self._ending or (self._waiting and self._waiting[-1].closes and self._waiting[-1].whole):
            return  # it came behind a request that was to be the last one
        cause = error.__context__  # what was raised here
        if isinstance(cause, RefusedError):
            self._refuse(cause)
        elif cause is None or isinstance(cause, httptools.HttpParserError):
            self._refuse(invalid("HttpInvalid", "this is not a valid HTTP/1.1 request"))
        else:
            self._refuse(_failure(cause))

    def _refuse(self, refusal: RefusedError) -> None:
        """Answer what is no request, after those before it, and close."""
        if self._ending or self._refusal is not None:
            return
        self._body = None
        broken, self._reading = self._reading, None
        if broken is not None and broken.answered:
            self._end(b"")
            return
        if broken is not None:
            self._waiting.remove(broken)
            if broken.opened:
                self._count_out(broken, gone=True)
        self._refusal = self._app.refused(refusal)
        self._advance()

    def _end(self, last: bytes) -> None:
        """Send the last answer, and close as soon as the caller has had time to read it."""
        self._ending = True
        self._forget()
        if last:
            self._outbox.send(self._transport, last)
        self._outbox.flush()
        if self._reading is None and self._refusal is None and not self._held:
            self._close()  # nothing is on its way that could be met by a reset
            return
        self._lingers = True
        self._end_due = self._in(_LINGER_SECONDS)
        self._transport.resume_reading()
        self._transport.write_eof()

    def _close(self) -> None:
        """Close when everything is written, and not later than in a while."""
        self._ending = True
        self._lingers = False
        self._forget()
        self._outbox.flush()
        self._end_due = self._in(self._server.limits.body_seconds)
        self._transport.close()

    def release(self) -> None:
        """Close as soon as nothing waits for an answer."""
        if not (self._waiting or self._reading or self._in_head or self._ending):
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    # Time.

    def _in(self, seconds: float) -> float:
        """A time that the timer will not miss."""
        due = self._loop.time() + seconds
        if due < self._timer_due:
            self._set_timer(due)
        return due

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self._end_due is not None and now > self._end_due - _EARLY:
            if not self._lingers:
                self.abort()
                return
            self._close()
        elif self._read_due is not None and now > self._read_due - _EARLY:
            self._read_due = None
            self._give_up_reading()
        elif not self._quiet or self._waiting:
            self._quiet, self._quiet_since = True, now
        elif not self._ending and now > self._quiet_since + KEEP_ALIVE_SECONDS - _EARLY:
            self._close()
        dues = [due for due in (self._end_due, self._read_due) if due is not None]
        self._set_timer(min([now + self._server.glance, *dues]))

    def _give_up_reading(self) -> None:
        request, seconds = self._reading, self._server.limits.body_seconds
        if self._ending or self._refusal is not None:
            return
        if not self._may_parse() or (request is not None and not request.awaited and not request.answered):
            self._read_due = self._in(seconds)  # the caller waits for this side
        elif request is not None and request.answered:
            self._close()
        elif request is not None:
            request.closes = True
            self._answer(request, lambda _: self._app.refused(self._server.limits.too_slow(), request))
        elif self._in_head:
            self._refuse(RefusedError(408, "HeadTimeout", f"the headers were not complete after {seconds:g} s"))
        else:
            self._close()  # nothing ever came


def _failure(error: BaseException) -> RefusedError:
    log.failure("a request failed", error)
    return RefusedError(500, "InternalError", "the server failed to answer; its log says where")
