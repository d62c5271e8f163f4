"""What counts are made of, in memory that processes share: histograms of durations, and counts by name."""

from bisect import bisect_left
from collections.abc import Sequence

from modelmill_contracts.counters import LATENCY_EDGES, Latency

WORD = 8  # bytes
HISTOGRAM = len(LATENCY_EDGES) + 2  # words
NAME = 40  # bytes


class Histogram:
    """Counts of durations in (edge[i-1], edge[i]] and, last, above all edges; their sum is in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self, memory: memoryview | None = None) -> None:
        memory = memoryview(bytearray(HISTOGRAM * WORD)) if memory is None else memory
        self.counts = memory[WORD:].cast("Q")
        self.sum = memory[:WORD].cast("d")

    def read(self) -> Latency:
        return Latency(tuple(self.counts), self.sum[0])

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_EDGES, seconds)] += 1
        self.sum[0] += seconds


class Named:
    """Counts by name.  A name gets its place when it is first counted; what finds none is counted as the last one."""

    __slots__ = ("_counts", "_memory", "_places")

    def __init__(self, memory: memoryview, places: int) -> None:
        self._memory = memory[: places * NAME]
        self._counts = memory[places * NAME : places * (NAME + WORD)].cast("Q")
        self.reload()

    def reload(self) -> None:
        """Know the names that another process has counted here."""
        self._places = {name: place for place, name in enumerate(self._names())}

    def add(self, name: str, count: int = 1) -> None:
        place = self._places.get(name)
        if place is None:
            place = self._place(name)
        self._counts[place] += count

    def read(self) -> dict[str, int]:
        return dict(zip(self._names(), self._counts, strict=False))

    def _place(self, name: str) -> int:
        place = min(len(self._places), len(self._counts) - 1)
        if place == len(self._counts) - 1:
            name = "Other"
        self._memory[place * NAME : (place + 1) * NAME] = name.encode()[:NAME].ljust(NAME, b"\0")
        self._places[name] = place
        return place

    def _names(self) -> list[str]:
        names = []
        for start in range(0, len(self._memory), NAME):
            name = bytes(self._memory[start : start + NAME]).rstrip(b"\0")
            if not name:
                break
            names.append(name.decode(errors="replace"))
        return names


def sums(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def added(parts: Sequence[Latency]) -> Latency:
    counts = map(sum, zip(*(part.counts for part in parts), strict=True))
    return Latency(tuple(counts), sum(part.total for part in parts))
