"""What the programs of this package see of HTTP/1.1: requests, responses, and what answers them.

How they come and go on a connection is in `protocol`.
"""

import http
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import httptools

from modelmill_server.errors import RefusedError, invalid

Header = tuple[bytes, bytes]


def value_of(headers: Iterable[Header], wanted: bytes) -> bytes | None:
    """The first value of the header with that name, in lower case; None where there is none."""
    return next((value for name, value in headers if name == wanted), None)


class Response(NamedTuple):
    """An answer.  `headers` are all but those of every response: date, content-length, connection."""

    status: int
    body: bytes
    headers: Iterable[Header]

    def encoded(self, date: bytes, *, closes: bool, bodiless: bool = False) -> bytes:
        """Its bytes; `bodiless` for a HEAD."""
        lines = [b"HTTP/1.1 %b\r\ndate: %b\r\n" % (status_line(self.status), date)]
        lines += [b"%b: %b\r\n" % header for header in self.headers]
        end = b"connection: close\r\n\r\n" if closes else b"\r\n"
        lines.append(b"content-length: %d\r\n%b" % (len(self.body), end))
        if not bodiless:
            lines.append(self.body)
        return b"".join(lines)


Answer = Response | Coroutine[Any, Any, Response]  # or what gives it later


class Request:
    """A request whose head is here.  Names of headers are in lower case; `path` is decoded, and has no query."""

    __slots__ = (
        *("answered", "awaited", "body", "closes", "deadline", "expects", "headers", "json_size", "large"),
        *("length", "method", "opened", "path", "size", "task", "whole"),
    )

    def __init__(self, method: str, path: str, headers: list[Header]) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body: bytes | bytearray = b""
        # What the application notes.
        self.json_size: int | None = None
        self.deadline: float | None = None  # on the event loop's clock
        # Where the connection is with it.
        self.length = 0  # of the body, as the head says; 0 where it does not
        self.size = 0  # bytes of the body that came
        self.large = False  # the body is over the limit
        self.expects = False  # its sender waits for "100 Continue"
        self.closes = False  # its sender wants no other answer on this connection
        self.opened = self.whole = self.answered = False
        self.awaited = False  # its body is what its answer waits for
        self.task: Any = None  # that computes the answer

    def check(self, version: str, limit: int) -> None:
        """Note what the head says of the body, which may have `limit` bytes.

        RefusedError where HTTP does not allow such a head.
        """
        if version not in ("1.1", "1.0"):
            raise RefusedError(505, "HttpInvalid", "this server speaks HTTP/1.1")
        self.closes = version == "1.0"
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                self.length = int(value)
                self.large = self.length > limit
            elif name == b"expect":
                self.expects = value.lower() == b"100-continue" and version == "1.1"
        if hosts > 1 or (not hosts and version == "1.1"):
            raise invalid("HttpInvalid", f"a request has one Host header, and this one has {hosts}")


class Application(Protocol):
    """What answers requests: first `open`, then `call` if that gave None, and at the end `close`.

    `open` and `call`, and what they give, may raise RefusedError; `refused` then makes a response of it.
    """

    def open(self, request: Request) -> Answer | None:
        """Count a request in, whose body is not here yet; an answer where it is not wanted."""
        ...

    def call(self, request: Request) -> Answer:
        """The answer to a request that is whole."""
        ...

    def refused(self, refusal: RefusedError, request: Request | None = None) -> Response:
        """What the connection says, and counts, of a request, or of what is none."""
        ...

    def close(self, request: Request, *, gone: bool) -> None:
        """Count a request out: it is answered, or its caller is gone."""
        ...


class Deferred(Protocol):
    """A response that comes later."""

    def start(self, reply: Callable[[bytes], None]) -> None:
        """Count it in, and begin; `reply` gets the whole response, not before this returns."""
        ...

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        ...


class ShortCut:
    """What is answered without an application: a POST to one of `paths` whose body has at most `limit` bytes.

    `answer` takes the body, and how much of it is JSON where raw tensors follow, and gives the whole response; it never
    raises.  Where there is a `split`, that is asked instead, with the headers, and may give the response later.
    `checks` say of each header that matters whether a value may take the short cut.
    """

    __slots__ = ("answer", "checks", "limit", "paths", "split")

    def __init__(
        self,
        answer: Callable[[bytes, int | None], bytes],
        limit: int,
        checks: Mapping[bytes, Callable[[bytes], bool]],
    ) -> None:
        self.answer = answer
        self.split: Callable[[bytes, int | None, list[Header]], bytes | Deferred] | None = None
        self.limit = limit
        self.checks = {**_CHECKS, **checks}
        self.paths: frozenset[bytes] = frozenset()  # none: everything goes to the application


def never(_: bytes) -> bool:
    return False


def _keeps_alive(value: bytes) -> bool:
    return value.lower() == b"keep-alive"


# Those of HTTP itself; the first two are counted and compared by the connection.
_CHECKS: dict[bytes, Callable[[bytes], bool]] = {
    b"host": never,
    b"content-length": never,
    b"connection": _keeps_alive,
    b"expect": never,
}


def path_of(target: bytes) -> str:
    """The path of a request's target, decoded."""
    try:
        path = (httptools.parse_url(target).path or b"/").decode("ascii")
    except ValueError as error:
        raise invalid("HttpInvalid", "a target must be ASCII; quote the rest") from error
    return urllib.parse.unquote(path) if "%" in path else path


def without_offer(headers: Iterable[Header]) -> Iterator[bytes]:
    """The lines of a head without the offer of another protocol."""
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            if kept := [token for token in tokens if token.lower() not in _OFFERS]:
                yield b"connection: " + b", ".join(kept)
        elif name not in _OFFERS:
            yield b"%b: %b" % (name, value)


def status_line(status: int) -> bytes:
    return _LINES[status]


_OFFERS = (b"upgrade", b"http2-settings")
_LINES = {status.value: b"%d %b" % (status.value, status.phrase.encode()) for status in http.HTTPStatus}
