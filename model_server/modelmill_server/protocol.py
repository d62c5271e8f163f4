"""HTTP: uvicorn's httptools protocol with the limits of this server and a short cut for predictions.

Every request can be answered through ASGI.  A prediction that arrives whole, in one read, for a model that
answers in the event loop takes the short cut: no scope, no task, no coroutine, one write (see `outbox`).  That
halves the CPU of a request.  Whatever is not plain (chunked, slow, pipelined behind a pending answer,
HTTP/1.0, an upgrade, a reader that does not read) goes through ASGI.

It overrides a few methods of uvicorn's class, which the locked version and the tests of this folder pin.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from modelmill_server.counters import Counters
from modelmill_server.framing import JSON_SIZE_NAME, known_size
from modelmill_server.outbox import Outbox

MAX_HEAD = 64 << 10  # bytes of a request line with its headers
# Longer than any client, proxy or load balancer keeps an idle connection (Google's: 600 s): the side that
# sends must be the one that closes, else a request and a close can cross on the wire.
KEEP_ALIVE_SECONDS = 620
# How long a refused connection is read on, for a caller that is still sending.
_REFUSED_SECONDS = 1.0


class ShortCut:
    """What is answered without ASGI: a POST to one of `paths` whose body has at most `limit` bytes.

    `answer` takes the body, and how much of it is JSON where raw tensors follow, and gives the whole response; it
    never raises.
    """

    __slots__ = ("answer", "limit", "paths")

    def __init__(self, answer: Callable[[bytes, int | None], bytes], limit: int) -> None:
        self.answer = answer
        self.limit = limit
        self.paths: frozenset[bytes] = frozenset()  # none: everything goes through ASGI


def configuration(app: Any) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    return config


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        counters: Counters,
        short_cut: ShortCut | None,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self._outbox = outbox
        self._counters = counters
        self._short_cut = short_cut
        self._body: bytes | None = None  # of the request on the short cut; None where there is none
        self._json_size: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._head_size = 0
        self._refused = False
        self._quiet = False  # whether nothing came since the timer of idle connections was set

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()  # uvicorn's does it only where the connection was not reset
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # read on, so that the refusal is not lost with a reset of the connection
        self._head_size += len(data)
        self._quiet = False
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._decline(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", "HttpInvalid", "this is not a valid HTTP/1.1 request")
            return
        if self._body is not None:
            # The rest of the body is still on its way.
            body, self._body = self._body, None
            self._enter_asgi()
            super().on_body(body)
        if self._head_size > MAX_HEAD:
            self._refuse(
                b"431 Request Header Fields Too Large",
                "HeadersTooLarge",
                f"the headers are over {MAX_HEAD} bytes; send fewer",
            )

    def on_message_begin(self) -> None:
        # The scope is made when it turns out that one is needed.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        self._head_size = 0
        if self.parser.should_upgrade():
            return  # `_decline` follows
        if self._is_plain():
            self._body = b""
        else:
            self._enter_asgi()

    def on_body(self, body: bytes) -> None:
        self._head_size = 0
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._body is None or self._short_cut is None:
            super().on_message_complete()
            return
        body, self._body = self._body, None
        self._outbox.send(self.transport, self._short_cut.answer(body, self._json_size))
        if self.timeout_keep_alive_task is None:
            self._set_keep_alive()

    def _set_keep_alive(self) -> None:
        self._quiet = True
        self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_SECONDS, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        # One timer for many requests, since a new one for each cost more than counting the request did.  So an
        # idle connection is closed after once to twice that time.
        self.timeout_keep_alive_task = None
        if self._quiet:
            super().timeout_keep_alive_handler()
        else:
            self._set_keep_alive()

    def shutdown(self) -> None:
        self._outbox.flush()
        super().shutdown()

    def _is_plain(self) -> bool:
        short_cut = self._short_cut
        if short_cut is None or self.url not in short_cut.paths or self.expect_100_continue:
            return False
        parser = self.parser
        if parser.get_method() != b"POST" or not parser.should_keep_alive():
            return False
        if parser.get_http_version() != "1.1" or self.flow.write_paused or self.pipeline:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        self._json_size = None
        plain = False
        for name, value in self.headers:
            if name == b"content-length":
                plain = int(value) <= short_cut.limit
            elif name == JSON_SIZE_NAME:
                self._json_size = known_size(value)
                if self._json_size is None:
                    return False
            elif name == b"content-encoding":
                return False
        return plain

    def _decline(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with a request that offers HTTP/2 (as Java's client does) or websockets.

        The parser takes what follows the headers for another protocol, so another one gets them without the
        offer, and then the `rest`.
        """
        if (method := self.parser.get_method()) == b"CONNECT":
            raise httptools.HttpParserError("not a proxy")
        lines = [b"%b %b HTTP/1.1" % (method, self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in (b"connection", b"upgrade")]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"\r\n".join([*lines, b"", rest]))

    def _enter_asgi(self) -> None:
        self._unset_keepalive_if_required()
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expect
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Counted here and not in the application, so that what waits for the event loop is in flight, too.
        self._counters.in_flight += 1
        # uvicorn keeps a set of tasks; a connection answers one request at a time, so one reference does.
        self._task = self.loop.create_task(cycle.run_asgi(app))

    def _refuse(self, status: bytes, reason: str, message: str) -> None:
        """Answer what cannot be parsed, and close."""
        self._counters.refused(reason)
        self._refused = True
        self._body = None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False  # its answer comes first, and is the last one
                return
            cycle.disconnected = True  # it is the one that cannot be parsed
            cycle.message_event.set()
        body = msgspec.json.encode({"error": message})
        self._outbox.flush()
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        self.transport.write(b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, headers, body))
        self.transport.write_eof()
        self.loop.call_later(_REFUSED_SECONDS, self.transport.close)
