"""Whether the candidate is asked at all: a breaker, so that one that hangs does not cost each of its requests the wait.

The failure rate is exponentially weighted, over about the last 32 requests, so that the breaker opens for partial
faults, too; breakers that count consecutive failures do not.  An open one lets nothing through.  After a pause the
candidate is tried with a few copies of requests that are answered elsewhere: no user waits for a trial.

    closed --- rate > 20 % ---> open for 0.25 s ---> trial of 8 copies --- all answered ---> closed
                                 ^                        |
                                 +--- one failed, pause x 2, 8 s at most
"""

_WEIGHT = 1 / 32
_MOST_FAILURES = 0.2
_AFTER_TRIAL = 0.1  # the rate that is assumed when a trial succeeded
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0  # seconds
_TRIAL = 8  # copies
_STEADY = 10.0  # seconds, after which what opens it anew has nothing to do with what did before


class Breaker:
    """Times are of one clock, in seconds."""

    __slots__ = ("_answered", "_closed_at", "_due", "_pause", "_sent", "_trial", "is_open", "rate")

    def __init__(self) -> None:
        self.is_open = False
        self.rate = 0.0  # of failures
        self._pause = _FIRST_PAUSE
        self._closed_at = 0.0
        self._due = 0.0  # when the next trial begins
        self._trial = 0  # its number
        self._sent = self._answered = 0  # of it

    def count(self, now: float, *, failed: bool) -> None:
        """The candidate was asked, and answered or failed."""
        self.rate += (failed - self.rate) * _WEIGHT
        if failed and not self.is_open and self.rate > _MOST_FAILURES:
            self.is_open = True
            if now - self._closed_at > _STEADY:
                self._pause = _FIRST_PAUSE
            self._wait(now)

    def trial(self, now: float) -> int:
        """The number of the trial for which the candidate is to get a copy of a request; 0: it is to get none."""
        if not self.is_open or now < self._due or self._sent == _TRIAL:
            return 0
        self._sent += 1
        return self._trial

    def tried(self, trial: int, now: float, *, failed: bool) -> None:
        """How a copy of a trial ended."""
        if not self.is_open or trial != self._trial:
            return
        if failed:
            self._pause = min(_LONGEST_PAUSE, 2 * self._pause)
            self._wait(now)
            return
        self._answered += 1
        if self._answered == _TRIAL:
            self.is_open = False
            self._closed_at = now
            self.rate = _AFTER_TRIAL

    def _wait(self, now: float) -> None:
        self._due = now + self._pause
        self._trial += 1
        self._sent = self._answered = 0
