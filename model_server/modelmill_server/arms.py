"""What one worker counts of a rollout, in its part of the memory that all workers share (see `counters`).

Counts belong to an epoch.  Workers hear of another one within a second of each other; what the newest epoch has is what
a server tells of (`total`).  A worker that is started again within an epoch counts on.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import NamedTuple

from modelmill_contracts.counters import DIFFERENCE_EDGES, FAILURES, FALLBACKS, LATENCY_EDGES, Arm, Rollout, Shadow
from modelmill_server.cells import HISTOGRAM, WORD, Histogram, added, sums

_EPOCH = 256  # bytes: 64 characters
# The words: what stands where.
_BEGAN, _EPOCH_SIZE, _EPOCH_AT = 0, 1, 2
_SCALARS = _EPOCH_AT + _EPOCH // WORD
_STEERED, _OPEN, _COMPARED, _AGREED, _DROPPED, _SHADOWED = range(_SCALARS, _SCALARS + 6)
_DIFFERENCES = _SCALARS + 6
_FALLBACKS = _DIFFERENCES + len(DIFFERENCE_EDGES) + 1
_ARMS = _FALLBACKS + len(FALLBACKS)
_ARM = 2 + HISTOGRAM  # words: failures, other requests without a time, and the times of the rest
SIZE = WORD * (_ARMS + 4 * _ARM)

_PLACES = {reason: _FALLBACKS + place for place, reason in enumerate(FALLBACKS)}
_FAILURES = frozenset(FAILURES)


class ArmCounts:
    """Counts of one arm.  A request is one of `answered`, `failed` and `refused`."""

    __slots__ = ("_latency", "_words", "answered")

    def __init__(self, memory: memoryview) -> None:
        self._words = memory[: 2 * WORD].cast("Q")
        self._latency = Histogram(memory[2 * WORD :])
        self.answered = self._answered()

    def failed(self) -> None:
        self._words[0] += 1

    def refused(self) -> None:
        """There was something wrong with the request."""
        self._words[1] += 1

    def read(self) -> Arm:
        # In this order, so that no more failures than requests are read whatever is counted meanwhile.
        failures, others = self._words
        latency = self._latency.read()
        return Arm(failures + others + sum(latency.counts), failures, latency)

    def _answered(self) -> Callable[[float], None]:
        """What most requests are: `Histogram.add` without its call and look-ups."""
        counts, total = self._latency.counts, self._latency.sum
        bisect, edges = bisect_left, LATENCY_EDGES

        def answered(seconds: float) -> None:
            """It was answered, in so many seconds of the model."""
            counts[bisect(edges, seconds)] += 1
            total[0] += seconds

        return answered


class Reading(NamedTuple):
    began: int  # the epoch, by the machine's clock
    rollout: Rollout


class Arms:
    """The counts of one worker; `memory` is its part, zeros at first."""

    __slots__ = ("_memory", "_words", "candidate", "shadow_candidate", "shadow_stable", "stable")

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory[:SIZE]
        self._words = memory[: _ARMS * WORD].cast("Q")
        parts = [memory[(_ARMS + i * _ARM) * WORD : (_ARMS + (i + 1) * _ARM) * WORD] for i in range(4)]
        self.stable, self.candidate, self.shadow_stable, self.shadow_candidate = map(ArmCounts, parts)

    def begin(self, epoch: str) -> None:
        """Count for `epoch`: from zero, or on where this worker counts for it already."""
        name = epoch.encode()[:_EPOCH]
        if self._words[_BEGAN] and name == self._epoch():
            self._words[_OPEN] = 0
            return
        self._words[_BEGAN] = 0
        self._memory[:] = bytes(SIZE)
        self._memory[_EPOCH_AT * WORD : _EPOCH_AT * WORD + len(name)] = name
        self._words[_EPOCH_SIZE] = len(name)
        self._words[_BEGAN] = time.monotonic_ns()

    def end(self) -> None:
        """There is no rollout."""
        self._words[_BEGAN] = 0

    def steered(self) -> None:
        self._words[_STEERED] += 1

    def fell_back(self, reason: str) -> None:
        """The stable answers a request of the candidate's for this reason, one of FALLBACKS.

        Whether it is a failure, `candidate` is told apart from this.
        """
        self._words[_PLACES[reason]] += 1

    def breaker(self, *, is_open: bool) -> None:
        self._words[_OPEN] = is_open

    def shadows(self) -> None:
        """The candidate gets copies in this epoch."""
        self._words[_SHADOWED] = 1

    def dropped(self) -> None:
        self._words[_DROPPED] += 1

    def compared(self, *, agree: bool, difference: float | None) -> None:
        """Both arms answered, with equal predictions or not; `difference` is that of scores, where there are any."""
        words = self._words
        if difference is not None:
            words[_DIFFERENCES + bisect_left(DIFFERENCE_EDGES, difference)] += 1
        words[_COMPARED] += 1
        words[_AGREED] += agree

    def read(self) -> Reading | None:
        """What is counted so far; None where no rollout is."""
        while began := self._words[_BEGAN]:
            words, epoch = tuple(self._words), self._epoch()
            stable, candidate = self.stable.read(), self.candidate.read()
            shadow = None
            if words[_SHADOWED]:
                shadow = Shadow(
                    self.shadow_stable.read(),
                    self.shadow_candidate.read(),
                    words[_COMPARED],
                    words[_AGREED],
                    words[_DROPPED],
                    words[_DIFFERENCES:_FALLBACKS],
                )
            if began == self._words[_BEGAN]:  # else another epoch began meanwhile
                rollout = Rollout(
                    epoch=epoch.decode(errors="replace"),
                    stable=stable,
                    candidate=candidate,
                    steered=words[_STEERED],
                    fallbacks={reason: words[place] for reason, place in _PLACES.items() if words[place]},
                    open_breakers=words[_OPEN],
                    shadow=shadow,
                )
                return Reading(began, rollout)
        return None

    def _epoch(self) -> bytes:
        return bytes(self._memory[_EPOCH_AT * WORD : _EPOCH_AT * WORD + self._words[_EPOCH_SIZE]])


def is_failure(reason: str) -> bool:
    """Whether a reason to fall back is a failure of the candidate."""
    return reason in _FAILURES


def total(workers: Iterable[Arms]) -> Rollout | None:
    """The newest epoch's counts, over all workers that know of it."""
    found = [reading for arms in workers if (reading := arms.read()) is not None]
    if not found:
        return None
    epoch = max(found).rollout.epoch
    parts = [reading.rollout for reading in found if reading.rollout.epoch == epoch]
    shadows = [part.shadow for part in parts if part.shadow is not None]
    return Rollout(
        epoch=epoch,
        stable=_sum([part.stable for part in parts]),
        candidate=_sum([part.candidate for part in parts]),
        steered=sum(part.steered for part in parts),
        fallbacks=sums([part.fallbacks for part in parts]),
        open_breakers=sum(part.open_breakers for part in parts),
        shadow=_sum_of_shadows(shadows) if shadows else None,
    )


def _sum(arms: list[Arm]) -> Arm:
    return Arm(
        sum(arm.requests for arm in arms), sum(arm.failures for arm in arms), added([arm.compute for arm in arms])
    )


def _sum_of_shadows(parts: list[Shadow]) -> Shadow:
    return Shadow(
        _sum([part.stable for part in parts]),
        _sum([part.candidate for part in parts]),
        sum(part.compared for part in parts),
        sum(part.agreed for part in parts),
        sum(part.dropped for part in parts),
        tuple(map(sum, zip(*(part.differences for part in parts), strict=True))),
    )
