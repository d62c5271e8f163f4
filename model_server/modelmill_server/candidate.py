"""The candidate of a rollout, as one worker asks it: few requests at once, each until a deadline, and no retry.

The own model is the retry, so the deadline is short: ten times what the own model takes.  One timer looks at all
deadlines.
"""

import asyncio
import functools
import heapq
import math
from collections.abc import Callable

from modelmill_contracts.counters import LATENCY_EDGES, Latency
from modelmill_server.breaker import Breaker
from modelmill_server.judging import glance
from modelmill_server.upstream import ONE_ROUND, STALLED_SECONDS, Exchange, Response, Upstream, UpstreamError, late

MOST = 16  # requests on their way, for which callers wait
MOST_COPIES = 8  # for which nobody waits
_MAX_ANSWER = 32 << 20  # bytes
_LIFETIME = 10.0  # seconds of a connection: a name stands for all pods of the candidate
_EARLY = 0.001  # seconds: a timer counts in milliseconds

Done = Callable[[Response | UpstreamError], None]


class Candidate:
    """Requests go to one of the pods behind `host`."""

    def __init__(self, host: str, port: int) -> None:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.host = address
        self.breaker = Breaker()
        self.in_flight = 0  # requests for which callers wait
        self.copies = 0
        self._upstream = Upstream(host, port, _MAX_ANSWER, _LIFETIME, glance)
        self._due: list[tuple[float, int, Exchange]] = []  # a heap
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def ask(self, request: bytes, deadline: float, done: Done) -> None:
        """Send a request; `done` gets the answer, or why there is none at the deadline, on the event loop's clock."""
        self._sent += 1
        exchange = self._upstream.send(request, done)
        heapq.heappush(self._due, (deadline, self._sent, exchange))
        if deadline < self._timer_due:
            self._set_timer(deadline)

    @functools.cached_property
    def now(self) -> Callable[[], float]:
        """The event loop's clock."""
        return self._upstream.loop.time

    def close(self) -> None:
        """Nothing more is asked; what is on its way comes to its end."""
        self._upstream.close()

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._upstream.loop.call_at(due, self._look)

    def _look(self) -> None:
        loop = self._upstream.loop
        if loop.time() - self._timer_due > STALLED_SECONDS:
            # This process was held up.  What is in its sockets is read first, else that looks like the candidate's.
            self._timer = loop.call_later(ONE_ROUND, self._expire)
        else:
            self._expire()

    def _expire(self) -> None:
        """Give up what is late."""
        due, now = self._due, self.now() + _EARLY
        self._timer, self._timer_due = None, -math.inf  # what is asked meanwhile sets none
        while due and (due[0][2].over or due[0][0] <= now):
            heapq.heappop(due)[2].fail(late())
        self._timer_due = math.inf
        if due:
            self._set_timer(due[0][0])


class Patience:
    """How long the candidate is waited for: ten times the 99th percentile of what the own model takes, and 20 ms.

    What a slow model takes is not known until it has answered something.
    """

    LEAST = 0.02  # seconds
    _TIMES = 10
    _UNKNOWN = 1.0  # seconds, for a model that is slow
    _ENOUGH = 1000  # requests: then older ones no longer count

    def __init__(self) -> None:
        self.seconds = self._UNKNOWN
        self.is_known = False
        self._before = [0] * (len(LATENCY_EDGES) + 1)

    @property
    def of_many_rows(self) -> float:
        """The same for a request that is larger than most."""
        return max(self.seconds, self._UNKNOWN)

    def look(self, seen: Latency, *, fast: bool) -> None:
        """`seen` is what the own model has taken so far, with the wait for it."""
        counts = [now - before for now, before in zip(seen.counts, self._before, strict=True)]
        total = sum(counts)
        if not total:
            if not self.is_known:
                self.seconds = self.LEAST if fast else self._UNKNOWN
            return
        self.is_known = True
        self.seconds = max(self.LEAST, self._TIMES * _quantile(counts, 0.99 * total))
        if total >= self._ENOUGH:
            self._before = list(seen.counts)


def _quantile(counts: list[int], rank: float) -> float:
    below = 0
    for edge, count in zip(LATENCY_EDGES, counts, strict=False):
        below += count
        if below >= rank:
            return edge
    return LATENCY_EDGES[-1]
