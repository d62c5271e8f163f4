"""A connection without a network, in an event loop without a clock: what is sent on it, and that it comes to an end.

The loop's time is where its next timer is, so that what takes minutes for a caller takes microseconds here, and every
timeout of a connection is a part of its fuzzing.
"""

import asyncio
import selectors
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgspec

from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.inference import Outcome
from modelmill_server.limits import Limits

SECONDS = 300.0  # until a body is complete
# Longer than several late answers and then no request may take.
_ENDED = 9000.0


class _Clock(selectors.SelectSelector):
    """Waits for nothing but the time, which passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing will ever happen any more"
        self.now += max(timeout, 0.0)
        return []


class Loop(asyncio.SelectorEventLoop):
    """Runs until what is given to it is done; an exception of any callback is raised then."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self._failed: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self._failed.append(context))

    def time(self) -> float:
        return self._clock.now

    def run(self, work: Any) -> None:
        self.run_until_complete(work)
        self._clock.now = 0.0  # a float is exact to a nanosecond for some months only
        if self._failed:
            context, *_ = failed = self._failed
            self._failed = []
            raise context.get("exception") or AssertionError(str(failed))


class LateApp(App):
    """Answers `late` seconds later, where that is not 0, as a model does that has a thread of its own."""

    late = 0.0

    def predict(self, *args: Any, **more: Any) -> Any:
        found = super().predict(*args, **more)
        return _later(found, self.late) if self.late and isinstance(found, Outcome) else found


async def _later(outcome: Outcome, seconds: float) -> Outcome:
    await asyncio.sleep(seconds)
    return outcome


def lateness(r: Random) -> float:
    """Seconds until a model answers: at once, soon, or after the patience of a connection."""
    return r.choice([0.0, 0.0, 0.0, 0.01, SECONDS + 50])


class Host:
    """Serves one model over connections of the event loop."""

    def __init__(self, servable: Any) -> None:
        self.loop = Loop()
        # All is computed in place, however many rows there are: a thread has a clock of its own.
        self._servable = msgspec.structs.replace(servable, inline_rows=1 << 40)

    def app(self, body: int) -> LateApp:
        limits = Limits(body=body, swallow=3 * body, body_seconds=SECONDS)
        app = LateApp("model", "1", limits, Counters())
        app.set_date("now")
        app.serve(self._servable)
        return app

    def close(self) -> None:
        self.loop.close()


class Wire(asyncio.Transport):
    """What a connection writes.  Its caller takes so many bytes and then no more, where `takes` is not None."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any, takes: int | None) -> None:
        super().__init__()
        self._loop, self._connection, self._takes = loop, connection, takes
        self.data = bytearray()
        self.reads = True
        self.full = self.ended = self.closing = self.lost = False
        self.gone = False  # nobody is there any more: what is written then goes nowhere

    def write(self, data: Any) -> None:
        if self.gone:
            return
        assert not self.closing, "something is written behind the end"
        assert not self.ended, "something is written behind the end of writing"
        self.data += data
        if self._takes is not None and len(self.data) > self._takes and not self.full:
            self.full = True
            self._connection.pause_writing()

    def take(self) -> None:
        """The caller reads on."""
        self._takes = None
        if self.full and not self.lost:
            self.full = False
            self._connection.resume_writing()
            if self.closing:
                self._loop.call_soon(self._lose)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closing

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.full:
                self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.closing = self.gone = True
        self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._connection.connection_lost(None)


class Manner(NamedTuple):
    """How a caller behaves, beside what it sends."""

    cuts: list[int]  # where what it sends is cut
    pause: float  # seconds between some of the parts
    takes: int | None  # bytes, before it stops reading
    takes_on: bool  # it reads the rest in the end
    leaves: str  # "": it does not; "eof" or "abort"

    @property
    def is_patient(self) -> bool:
        """Whether it gets all answers."""
        return not self.leaves and not self.pause and self.takes is None


def manner(r: Random, size: int) -> Manner:
    cuts: list[int] = []
    if size > 1 and r.random() < 0.7:
        cuts = sorted({r.randrange(1, size) for _ in range(r.choice([1, 2, 3, 8]))})
    if size < 200 and r.random() < 0.1:
        cuts = list(range(1, size))
    takes = r.choice([0, 100, 1000]) if r.random() < 0.1 else None
    pause = r.choice([20.0, SECONDS]) if r.random() < 0.05 else 0.0
    return Manner(cuts, pause, takes, r.random() < 0.5, r.choice(["eof", "abort"]) if r.random() < 0.1 else "")


async def exchange(
    wire: Wire, connection: Any, data: bytes, how: Manner, bounded: Callable[[], None], meanwhile: Callable[[], None]
) -> None:
    """Send `data`, and wait until the connection is at its end, which it has to come to by itself.

    `bounded` checks what the connection holds whenever it got something; `meanwhile` happens in the middle.
    """
    connection.connection_made(wire)
    middle = len(how.cuts) // 2
    for index, (start, stop) in enumerate(zip([0, *how.cuts], [*how.cuts, len(data)], strict=True)):
        waited = 0
        while not (wire.reads or wire.closing):
            await asyncio.sleep(1)
            waited += 1
            assert waited < _ENDED, "it does not read, and does not close"
        if wire.closing:
            break
        if start < stop:
            connection.data_received(data[start:stop])
        bounded()
        if index == middle:
            meanwhile()
        if index % 2:
            await asyncio.sleep(how.pause)
    if how.leaves == "eof" and not wire.closing and not connection.eof_received():
        wire.gone = True
        wire.close()
    elif how.leaves == "abort":
        wire.abort()
    if how.takes_on:
        await asyncio.sleep(1)
        wire.take()
    await asyncio.sleep(_ENDED)
    assert wire.lost, "the connection neither ends nor is ended"
