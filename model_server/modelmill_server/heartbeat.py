"""Whether a worker still does something, as its parent sees it.

A worker's event loop writes the time into its slab once a second (`Counters.beat`).  One that stops doing so hangs, or
is in a long call: of a model, of a library that holds Python's lock.  The CPU time that it uses tells them apart, and
is also what makes patience end: no call may keep all callers of a worker waiting for ever.

    no beat, no CPU used for 10 s --> it hangs: stopped, deadlocked, waiting for a device
    no beat, CPU used             --> it computes; after 60 s it hangs all the same
"""

from pathlib import Path

HUNG_SECONDS = 10.0
LONGEST_CALL_SECONDS = 60.0
# Who looks that late was stopped itself, and with it perhaps all of them: a paused container, a busy machine.
_LATE_SECONDS = 5.0


class Pulse:
    """What the parent saw of one worker.  Times are those of one clock, in seconds."""

    __slots__ = ("_beat", "_idle_since", "_looked", "_silent_since", "_ticks")

    def __init__(self, now: float) -> None:
        self._beat = self._ticks = 0
        self._looked = self._silent_since = self._idle_since = now

    def hangs(self, beat: int, ticks: int, now: float) -> float | None:
        """For how many seconds it has been silent, if it hangs.  `beat` and `ticks` only have to change with it."""
        if now - self._looked > _LATE_SECONDS or beat != self._beat:
            self._silent_since = self._idle_since = now
        elif ticks != self._ticks:
            self._idle_since = now
        self._looked, self._beat, self._ticks = now, beat, ticks
        silent = now - self._silent_since
        return silent if now - self._idle_since > HUNG_SECONDS or silent > LONGEST_CALL_SECONDS else None


def cpu_ticks(pid: int) -> int:
    """The CPU time of a process; 0 where it has ended, or where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
