"""How many Events an object may have: one that flaps must not fill etcd with its story.

The numbers are client-go's: 25 at once, and then one in five minutes.
"""

from collections.abc import Callable
from time import monotonic

BURST = 25
REFILL_SECONDS = 300.0
_MANY = 4096  # objects that are remembered, before those that have their full number again are forgotten


class Budget:
    """What is left for each object, by its UID."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # Events that were left, and when

    def take(self, uid: str) -> bool:
        """Whether the object may have one more now."""
        now = self._now()
        left = self._refilled(uid, now)
        if len(self._left) >= _MANY:
            self._left = {known: (self._refilled(known, now), now) for known in self._left}
            self._left = {known: entry for known, entry in self._left.items() if entry[0] < BURST}
        if left < 1:
            return False
        self._left[uid] = (left - 1, now)
        return True

    def _refilled(self, uid: str, now: float) -> float:
        left, at = self._left.get(uid, (BURST, now))
        return min(BURST, left + (now - at) / REFILL_SECONDS)
