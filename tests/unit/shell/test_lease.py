"""The lease: what a machine slept through counts for who holds it."""

import time

import pytest

from modelmill.shell.lease import DEADLINE, DURATION, Fence, NotLeader, clock


def test_who_was_suspended_for_longer_than_the_deadline_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fence, real = Fence(), time.clock_gettime
    fence.renewed(clock())
    fence.check()
    assert DURATION - 1 < fence.seconds_left <= DURATION
    slept = DEADLINE + 1  # the monotonic clock, and the event loop's timers with it, stood still

    def since_boot(which: int) -> float:
        return real(which) + (slept if which == time.CLOCK_BOOTTIME else 0)

    monkeypatch.setattr(time, "clock_gettime", since_boot)
    assert not fence.open
    assert fence.seconds_left < DURATION - DEADLINE
    with pytest.raises(NotLeader):
        fence.check()
