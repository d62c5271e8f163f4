"""What the programs of this package see of HTTP/2: streams, answers, and what answers them.

How they come and go on a connection is in `http2`.
"""

import asyncio
from typing import Any, NamedTuple, Protocol

STREAM_WINDOW = 128 << 10  # holds 1,000 rows of 30 floats, so that they need no new credit


class Answer(NamedTuple):
    """Blocks of headers around a message.  Without a message, `head` is all of it."""

    head: bytes
    data: bytes = b""
    tail: bytes = b""


class Stream:
    """One request and its answer."""

    __slots__ = (
        "answer",
        "body",
        "complete",
        "credit",
        "deadline",
        "granted",
        "head",
        "id",
        "limit",
        "sent",
        "size",
        "task",
        "timer",
        "wants",
        "window",
    )

    def __init__(self, id_: int, head: Any, limit: int) -> None:
        self.id = id_
        self.head = head  # what the service made of the headers
        self.body: bytes | bytearray = b""
        self.deadline: float | None = None  # when the caller goes away, on the event loop's clock
        self.complete = False
        self.limit = limit  # bytes of its body
        self.window = STREAM_WINDOW  # what its caller may still send
        # The size of the body, as its first bytes say it (0: it is not known), and bytes beyond the window for it.
        self.size = self.wants = self.granted = 0
        # What the peer may be sent, beside the connection's initial window, and what it was sent of the answer.
        self.credit = self.sent = 0
        self.answer: Answer | None = None  # that waits for the peer's window
        self.task: asyncio.Task[Any] | None = None  # that computes the answer
        self.timer: asyncio.TimerHandle | None = None  # until the body is complete; then, until the answer is taken


class Replies(Protocol):
    """A connection, as a service sees it."""

    def reply(self, stream: Stream, answer: Answer) -> None:
        """Send the answer to a request that `Service.call` had none for."""
        ...


class Service(Protocol):
    """What answers requests."""

    limit: int  # bytes of a body

    def read(self, headers: dict[bytes, bytes]) -> Any:
        """What the service needs of a request's headers.  It is remembered, and must not be changed."""
        ...

    def open(self, stream: Stream) -> Answer | None:
        """Count a request in, and limit its body; an answer where the body is not wanted."""
        ...

    def size(self, stream: Stream) -> int:
        """How large the body of which the first bytes are here will be; 0 where they do not say it yet."""
        ...

    def call(self, connection: Replies, stream: Stream) -> Answer | None:
        """The answer, or None where `connection.reply` follows."""
        ...

    def late(self, stream: Stream) -> Answer:
        """The answer where a body did not come in time."""
        ...

    def large(self, stream: Stream) -> Answer:
        """The answer where a body is over the limit."""
        ...

    def gone(self, stream: Stream) -> None:
        """The caller gave up before it had its answer."""
        ...

    def close(self, stream: Stream) -> None:
        """Count a request out: its answer is there, or nobody waits for it."""
        ...

    def invalid(self) -> None:
        """Count a connection that does not speak HTTP/2."""
        ...
