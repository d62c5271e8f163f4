"""What is captured, on its way into the store: rows and labels wait here, go together, and are written as segments.

An attempt to write is one request under a key that is its own, with the time at which it began.  It counts only if it
ends within `captured.ATTEMPT_SECONDS`: so who reads later knows from when on no segment of a time can appear, unless
nobody was told that it is there.
"""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from modelmill_contracts import captured
from modelmill_contracts.captured import LABELS, ROWS, LabelsHeader, RowsHeader
from modelmill_contracts.counters import Written
from modelmill_contracts.store import Store, StoreError
from modelmill_contracts.task import StoreLocation
from modelmill_server import handing, log

_ATTEMPT = timedelta(seconds=captured.ATTEMPT_SECONDS / 3)  # until a request is given up; it may ask for a key before
_FIRST_PAUSE = 0.25  # seconds between attempts
_LONGEST_PAUSE, _LONGEST_FOR_LABELS = 5.0, 1.0
_ROWS, _LABELS = 10_000, 10_000  # of one segment
_BYTES = 4 << 20  # of one segment, not packed
_PATIENCE = handing.PATIENCE - 1.0  # seconds that labels wait: whoever sent them is to hear why
_MOST_BYTES = 32 << 20  # that wait, of rows and of labels
_OVERHEAD = 1 << 9  # bytes of memory, besides their text, of labels that came together

Done = Callable[[bool], None]  # whether it is written


class Segments:
    """Writes what is captured of the ModelDeployment with the UID `of`."""

    def __init__(self, location: StoreLocation, of: str) -> None:
        self._location = location
        self._of = of
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._store: Store | None = None
        self.written = {ROWS: 0, LABELS: 0}
        self.failures = {ROWS: 0, LABELS: 0}
        self.trouble = ""

    async def write(self, kind: str, header: RowsHeader | LabelsHeader, text: bytes) -> bool:
        """Try once to write a segment; whether it is there."""
        self._number += 1
        key = captured.key(self._of, kind, datetime.now(UTC), self._writer, self._number)
        began = time.monotonic()
        try:
            await asyncio.to_thread(self._put, key, header, text)
            trouble, message = "", ""
        except StoreError as error:
            trouble, message = error.reason, str(error)
        except Exception as error:
            log.failure("a segment could not be written", error)
            trouble = message = "InternalError"
        if not trouble and time.monotonic() - began > captured.ATTEMPT_SECONDS:
            trouble, message = "StoreSlow", f"it took over {captured.ATTEMPT_SECONDS} s to write {key}"
        if trouble and trouble != self.trouble:
            log.error(message, reason=trouble)
        self.trouble = trouble
        counts = self.failures if trouble else self.written
        counts[kind] += 1
        return not trouble

    def _put(self, key: str, header: RowsHeader | LabelsHeader, text: bytes) -> None:
        if self._store is None:
            self._store = Store(self._location, attempt=_ATTEMPT)
        self._store.put_once(key, captured.pack_lines(header, text))


class _Pause:
    """Between attempts, longer and longer."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._seconds = _FIRST_PAUSE

    async def after(self, *, is_written: bool) -> None:
        if is_written:
            self._seconds = _FIRST_PAUSE
            return
        await asyncio.sleep(self._seconds)
        self._seconds = min(2 * self._seconds, self._longest)


class _Batch(msgspec.Struct):
    """Rows that go into one segment."""

    header: RowsHeader
    since: float  # when the first one came
    parts: list[bytes]
    rows: int = 0
    size: int = 0  # bytes

    @property
    def is_full(self) -> bool:
        return self.rows >= _ROWS or self.size >= _BYTES


class Rows:
    """Rows are written when they are enough for a segment, or `age` seconds old; again and again until it succeeds."""

    def __init__(self, segments: Segments, age: float) -> None:
        self._segments = segments
        self._age = age
        self._batches: deque[_Batch] = deque()  # oldest first; only the last one of a header takes more
        self._changed = asyncio.Event()
        self._is_taken = False  # the first batch is being written
        self._ends = False
        self._size = 0
        self.dropped = 0

    @property
    def oldest(self) -> float:
        """Seconds since the oldest row came that is not written; 0: there is none."""
        return time.monotonic() - self._batches[0].since if self._batches else 0.0

    def add(self, header: RowsHeader, text: bytes, rows: int) -> None:
        """Take `rows`, if there is room."""
        if self._size + len(text) > _MOST_BYTES:
            self.dropped += rows
            return
        last = self._batches[-1] if self._batches else None
        if last is None or last.header != header or last.is_full or (self._is_taken and len(self._batches) == 1):
            last = _Batch(header, time.monotonic(), [])
            self._batches.append(last)
        last.parts.append(text)
        last.rows += rows
        last.size += len(text)
        self._size += len(text)
        self._changed.set()

    def end(self) -> None:
        """Write what is there, and then end."""
        self._ends = True
        self._changed.set()

    async def run(self) -> None:
        pause = _Pause(_LONGEST_PAUSE)
        while True:
            self._changed.clear()
            if not self._batches:
                if self._ends:
                    return
                await self._changed.wait()
                continue
            first = self._batches[0]
            wait = first.since + self._age - time.monotonic()
            if len(self._batches) == 1 and not first.is_full and not self._ends and wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
                continue
            self._is_taken = True
            is_written = await self._segments.write(ROWS, first.header, b"".join(first.parts))
            self._is_taken = False
            if is_written:
                self._batches.popleft()
                self._size -= first.size
            await pause.after(is_written=is_written)


class _Group(msgspec.Struct):
    """Labels that came together, and who waits for them."""

    text: bytes
    labels: int
    until: float  # when nobody waits any more
    done: Done

    @property
    def size(self) -> int:
        return len(self.text) + _OVERHEAD


class Labels:
    """Labels are written at once: what comes while a write is under way goes together with the next one."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._waiting: deque[_Group] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._ends = False

    def add(self, text: bytes, labels: int, done: Done) -> None:
        """`done` is told whether they are written: not, where there is no room, or it takes too long."""
        group = _Group(text, labels, time.monotonic() + _PATIENCE, done)
        if self._size + group.size > _MOST_BYTES:
            done(False)
            return
        self._waiting.append(group)
        self._size += group.size
        self._changed.set()

    def end(self) -> None:
        """Write what is there, and then end."""
        self._ends = True
        self._changed.set()

    async def run(self) -> None:
        pause = _Pause(_LONGEST_FOR_LABELS)
        while True:
            self._changed.clear()
            some = self._next()
            if not some:
                if self._ends:
                    return
                await self._changed.wait()
                continue
            is_written = await self._segments.write(LABELS, LabelsHeader(), b"".join([one.text for one in some]))
            if is_written:
                for one in some:
                    self._done(one, is_written=True)
            else:
                self._waiting.extendleft(reversed(some))
            await pause.after(is_written=is_written)

    def _next(self) -> list[_Group]:
        """What goes together."""
        some: list[_Group] = []
        labels = size = 0
        now = time.monotonic()
        while self._waiting:
            first = self._waiting[0]
            if some and (labels + first.labels > _LABELS or size + len(first.text) > _BYTES):
                break
            self._waiting.popleft()
            if first.until < now:
                self._done(first, is_written=False)
                continue
            some.append(first)
            labels, size = labels + first.labels, size + len(first.text)
        return some

    def _done(self, group: _Group, *, is_written: bool) -> None:
        self._size -= group.size
        group.done(is_written)


def state(segments: Segments, rows: Rows) -> Written:
    """What has been done so far."""
    written, failures = dict(segments.written), dict(segments.failures)
    return Written(written, failures, rows.dropped, round(rows.oldest, 3), segments.trouble)
