"""What the server counts.  The hot path only adds to plain integers; `exposition` reads them at a scrape.

Everything runs in one event loop, so there are no locks.
"""

from bisect import bisect_left

from modelmill_contracts.counters import LATENCY_EDGES


class Histogram:
    """Counts of durations in (edge[i-1], edge[i]] and, last, above all edges; `total` is in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_EDGES) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_EDGES, seconds)] += 1
        self.total += seconds


class Counters:
    """The counters of one served model version."""

    __slots__ = ("compute", "in_flight", "predictions", "ready", "refusals", "request", "requests")

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}  # inference requests by status code
        self.refusals: dict[str, int] = {}  # by reason, of any path
        self.predictions = 0  # rows
        self.request = Histogram()
        self.compute = Histogram()
        self.in_flight = 0  # requests of any path whose headers are here and that are not answered
        self.ready = False

    def refused(self, reason: str) -> None:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def answered(self, code: int) -> None:
        self.requests[code] = self.requests.get(code, 0) + 1
