"""The work queue, with controller-runtime's semantics.

An item is processed by one worker at a time; adding it again while it waits changes nothing, adding it while
it is processed makes it wait once more.  Failures come back later and later, up to a bound.

What somebody declares goes first: the rest (news of children, failures, what own writes changed) stands so many places
behind what is added at that moment.  So it is overtaken when much is declared at once, and never waits for ever.
"""

import asyncio
import heapq
from collections.abc import Hashable
from itertools import count
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

BASE_DELAY = 0.05  # seconds; doubled with each failure
MAX_DELAY = 60.0
_BEHIND = 10_000  # places


class WorkQueue(Generic[Item]):
    """Items to reconcile, each at most once at a time."""

    def __init__(self) -> None:
        self._ready: asyncio.PriorityQueue[tuple[int, int, Item]] = asyncio.PriorityQueue()  # place, number, item
        self._queued: dict[Item, float] = {}  # item -> since when
        self._behind: set[Item] = set()  # of those
        self._processing: dict[Item, float] = {}  # item -> since when
        self._taken = 0.0  # when one was taken last
        self._again: dict[Item, bool] = {}  # whether it goes first
        self._later: list[tuple[float, int, Item]] = []
        self._due: dict[Item, float] = {}
        self._failures: dict[Item, int] = {}
        self._sequence = count()
        self._timer = asyncio.Event()
        self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def oldest(self) -> float:
        """Seconds that the longest waiting item has been waiting; 0 where none does."""
        return monotonic() - min(self._queued.values()) if self._queued else 0.0

    @property
    def busy(self) -> bool:
        """Whether items wait or are processed."""
        return bool(self._queued or self._processing)

    @property
    def stuck(self) -> float:
        """Seconds without progress: none was taken though some waited, or one is processed; the longer of both.

        How long an item waits says nothing: much may be declared at once, and others go first.
        """
        now = monotonic()
        untaken = now - max(self._taken, min(self._queued.values())) if self._queued else 0.0
        held = now - min(self._processing.values()) if self._processing else 0.0
        return max(untaken, held)

    def add(self, item: Item) -> None:
        """Process the item as soon as a worker is free."""
        if item in self._processing:
            self._again[item] = True
        elif item not in self._queued or item in self._behind:
            self._behind.discard(item)
            self._put(item, 0)

    def add_behind(self, item: Item) -> None:
        """Process the item when what was declared before, and a little of what is declared later, is."""
        if item in self._processing:
            self._again.setdefault(item, False)
        elif item not in self._queued:
            self._behind.add(item)
            self._put(item, _BEHIND)

    def _put(self, item: Item, places: int) -> None:
        self._queued.setdefault(item, monotonic())
        number = next(self._sequence)
        self._ready.put_nowait((number + places, number, item))

    def add_after(self, item: Item, seconds: float) -> None:
        """Process the item in so many seconds, or earlier if something else asks for it."""
        due = monotonic() + seconds
        known = self._due.get(item)
        if known is not None and known <= due:
            return
        self._due[item] = due
        heapq.heappush(self._later, (due, next(self._sequence), item))
        self._timer.set()

    def add_rate_limited(self, item: Item, at_least: float = 0.0) -> None:
        """Process a failed item again, the later the more often it failed in a row."""
        failures = self._failures.get(item, 0)
        self._failures[item] = failures + 1
        self.add_after(item, max(at_least, min(BASE_DELAY * 2**failures, MAX_DELAY)))

    def forget(self, item: Item) -> None:
        """The item succeeded: its next failure is its first."""
        self._failures.pop(item, None)

    async def get(self) -> Item:
        """The next item; `done` must follow."""
        while True:
            _, _, item = await self._ready.get()
            if self._stopped:
                await asyncio.Event().wait()  # for ever
            if item in self._queued:  # else it had two places, and this is the second one
                break
        del self._queued[item]
        self._behind.discard(item)
        self._due.pop(item, None)
        self._processing[item] = self._taken = monotonic()
        self._idle.clear()
        return item

    def done(self, item: Item) -> None:
        """The worker has finished with the item."""
        self._processing.pop(item, None)
        if not self._processing:
            self._idle.set()
        goes_first = self._again.pop(item, None)
        if goes_first is not None:
            (self.add if goes_first else self.add_behind)(item)

    async def stop(self, seconds: float) -> None:
        """Give out no more items, and wait for those that are processed, but no longer than that."""
        self._stopped = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return

    async def run(self) -> None:
        """Moves what is due into the queue; runs for ever."""
        while True:
            self._timer.clear()
            now = monotonic()
            while self._later and self._later[0][0] <= now:
                due, _, item = heapq.heappop(self._later)
                if self._due.get(item) == due:
                    del self._due[item]
                    self.add_behind(item)
            pause = self._later[0][0] - now if self._later else None
            try:
                await asyncio.wait_for(self._timer.wait(), pause)
            except TimeoutError:
                continue
