"""What the server counts, in memory that all of its workers share.

Each worker writes a slab of its own, so there are no locks, and whoever is asked sums all slabs.  A slab outlives the
worker that wrote it: the one that takes its place counts on.  The hot path only adds to integers.
"""

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from modelmill_contracts.counters import LATENCY_EDGES, Latency
from modelmill_server import arms, heartbeat
from modelmill_server.arms import Arms
from modelmill_server.cells import HISTOGRAM, NAME, WORD, Histogram, Named, added

if TYPE_CHECKING:  # numpy comes after the ports are open
    from modelmill_server.bins import Bins, Layout, Totals

# The words of a slab: what stands where.
_READY, _PID, _IN_FLIGHT, _ROWS, _STARTS, _WAS_READY, _BEAT, _HEAD = 0, 1, 2, 3, 4, 5, 6, 8
_CODES, _REASONS, _CAPTURED = 48, 128, 8
_OWN = WORD * (_HEAD + 2 * HISTOGRAM) + (_CODES + _REASONS + 2 * _CAPTURED) * (NAME + WORD)
_SLAB = _OWN + arms.SIZE


class Reading(NamedTuple):
    """What one worker has counted."""

    requests: dict[str, int]  # inference requests by status code
    refusals: dict[str, int]  # by reason, of any path
    rows: int
    request: Latency
    compute: Latency
    bins: "Totals | None"


class Counters:
    """The counters of one worker."""

    __slots__ = (
        *("_codes", "_reasons", "_words", "arms", "bins", "board", "captured", "compute", "labels", "predicted"),
        "request",
    )

    def __init__(self, memory: memoryview | None = None, board: "Board | None" = None) -> None:
        memory = memoryview(bytearray(_SLAB)) if memory is None else memory
        at = _HEAD * WORD
        self._words = memory[:at].cast("Q")
        size = HISTOGRAM * WORD
        self.request = Histogram(memory[at : at + size])
        self.compute = Histogram(memory[at + size : at + 2 * size])
        at += 2 * size
        codes = _CODES * (NAME + WORD)
        self._codes = Named(memory[at : at + codes], _CODES)
        at += codes
        reasons, captured = _REASONS * (NAME + WORD), _CAPTURED * (NAME + WORD)
        self._reasons = Named(memory[at : at + reasons], _REASONS)
        at += reasons
        self.captured = Named(memory[at : at + captured], _CAPTURED)  # rows, by what became of them
        self.labels = Named(memory[at + captured : _OWN], _CAPTURED)  # by what became of them
        self.arms = Arms(memory[_OWN:])
        self.predicted = self._predicted()
        self.bins: Bins | None = None
        self.board = board

    def refused(self, reason: str) -> None:
        self._reasons.add(reason)

    def answered(self, code: int) -> None:
        self._codes.add(_TEXTS[code])

    def _predicted(self) -> Callable[[int, float, float], None]:
        """What most requests are, as lean as Python allows: `Histogram.add` twice, without its calls and look-ups."""
        words, bisect, edges = self._words, bisect_left, LATENCY_EDGES
        compute_counts, compute_sum = self.compute.counts, self.compute.sum
        request_counts, request_sum = self.request.counts, self.request.sum

        def predicted(rows: int, compute: float, request: float) -> None:
            """A request with `rows` was answered (200) after `request` seconds, `compute` of them the model's."""
            words[_ROWS] += rows
            compute_counts[bisect(edges, compute)] += 1
            compute_sum[0] += compute
            request_counts[bisect(edges, request)] += 1
            request_sum[0] += request

        return predicted

    @property
    def refusals(self) -> dict[str, int]:
        """By reason, of any path."""
        return self._reasons.read()

    def read(self) -> "Reading":
        """What this worker has counted so far."""
        rows, compute, request = self._words[_ROWS], self.compute.read(), self.request.read()
        bins = self.bins.read() if self.bins is not None else None
        if bins is not None:
            of_rows, whole = bins.times()
            rows += sum(of_rows.counts)
            compute, request = added([compute, of_rows]), added([request, whole])
        codes = self._codes.read()
        # Those that were answered, and no others, have a time of the model.
        requests = {"200": answered, **codes} if (answered := sum(compute.counts)) else codes
        return Reading(requests, self.refusals, rows, request, compute, bins)

    @property
    def in_flight(self) -> int:
        """Requests of any path whose headers are here and that are not answered."""
        return self._words[_IN_FLIGHT]

    @in_flight.setter
    def in_flight(self, requests: int) -> None:
        self._words[_IN_FLIGHT] = requests

    @property
    def ready(self) -> bool:
        return bool(self._words[_READY])

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._words[_READY] = ready
        if ready:
            self._words[_WAS_READY] = 1

    @property
    def was_ready(self) -> bool:
        """Whether this worker, or one that it took the place of, was ever ready."""
        return bool(self._words[_WAS_READY])

    @property
    def pid(self) -> int:
        return self._words[_PID]

    @property
    def restarts(self) -> int:
        return max(0, self._words[_STARTS] - 1)

    def beat(self) -> None:
        """Say that this process' event loop goes round."""
        self._words[_BEAT] = time.monotonic_ns()

    @property
    def last_beat(self) -> int:
        """Nanoseconds of the machine's clock; 0 where nothing beats."""
        return self._words[_BEAT]

    @property
    def answers(self) -> bool:
        """Whether this worker is ready, and not silent for so long that its parent will end it."""
        beat = self._words[_BEAT]
        return self.ready and (not beat or time.monotonic_ns() - beat < heartbeat.HUNG_SECONDS * 1e9)

    def start(self) -> None:
        """This process writes here from now on."""
        self._words[_PID] = os.getpid()
        self._words[_STARTS] += 1
        self._codes.reload()
        self._reasons.reload()
        self.captured.reload()
        self.labels.reload()
        self.stop()

    def stop(self) -> None:
        """Nobody writes here: the process has ended."""
        self._words[_READY] = self._words[_IN_FLIGHT] = self._words[_BEAT] = 0


class Board:
    """The counters of all workers of a server.  It is made before they are forked, and shared by them."""

    def __init__(self, workers: int = 1) -> None:
        self.started = time.time()
        memory = memoryview(mmap.mmap(-1, workers * _SLAB))
        self.workers = [Counters(memory[i * _SLAB : (i + 1) * _SLAB], self) for i in range(workers)]
        self.layout: Layout | None = None

    def bin_rows(self, layout: "Layout") -> None:
        """Count rows in the bins of `layout`, too."""
        from modelmill_server.bins import Bins  # noqa: PLC0415 - it imports numpy

        memory = memoryview(mmap.mmap(-1, len(self.workers) * layout.size))
        for index, worker in enumerate(self.workers):
            worker.bins = Bins(layout, memory[index * layout.size : (index + 1) * layout.size])
        self.layout = layout

    @property
    def ready(self) -> bool:
        """Whether all workers have been ready, and new requests are welcome.

        One that died later does not make the others unready: they take its connections until it is back.
        """
        return all(worker.was_ready for worker in self.workers) and any(worker.answers for worker in self.workers)


_TEXTS = {code: str(code) for code in range(1000)}
