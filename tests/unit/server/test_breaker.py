"""The breaker: when it opens, how it is tried, and that it settles for partial faults, too."""

import random

import pytest

from modelmill_server.breaker import Breaker


def fail(breaker: Breaker, now: float = 0.0) -> int:
    """Failures in a row until it opens."""
    count = 0
    while not breaker.is_open:
        breaker.count(now, failed=True)
        count += 1
    return count


def tried(breaker: Breaker, now: float, *outcomes: bool) -> None:
    """A trial whose copies end so, in order."""
    trials = [breaker.trial(now) for _ in outcomes]
    assert 0 not in trials
    for trial, failed in zip(trials, outcomes, strict=True):
        breaker.tried(trial, now, failed=failed)


def test_a_few_failures_in_a_row_open_it() -> None:
    assert fail(Breaker()) == 8


def test_one_failure_in_ten_does_not_and_three_do() -> None:
    for share, opens in ((0.1, False), (0.3, True)):
        breaker, chance = Breaker(), random.Random(7)
        asked = 0
        while not breaker.is_open and asked < 300:
            breaker.count(0.0, failed=chance.random() < share)
            asked += 1
        assert breaker.is_open is opens


def test_a_closed_one_is_not_tried() -> None:
    assert Breaker().trial(100.0) == 0


def test_eight_copies_that_are_answered_close_it() -> None:
    breaker = Breaker()
    fail(breaker)
    assert breaker.trial(0.2) == 0  # too early
    tried(breaker, 0.3, *[False] * 7)
    assert breaker.is_open
    tried(breaker, 0.3, False)
    assert not breaker.is_open
    assert breaker.trial(0.3) == 0
    # It opens sooner now than at first.
    assert fail(breaker, 1.0) < 8


def test_a_trial_has_eight_copies_at_most() -> None:
    breaker = Breaker()
    fail(breaker)
    assert sum(breaker.trial(0.3) > 0 for _ in range(100)) == 8


def test_a_copy_that_fails_ends_the_trial_and_doubles_the_pause_once() -> None:
    breaker = Breaker()
    fail(breaker)
    now, pauses = 0.0, []
    for _ in range(8):
        due = next(now + step / 8 for step in range(1, 100) if breaker.trial(now + step / 8))
        pauses.append(due - now)
        now = due
        trials = [breaker.trial(now) for _ in range(7)]
        for trial in trials:
            breaker.tried(trial, now, failed=True)
    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 8, 8])


def test_what_comes_late_of_a_former_trial_says_nothing_of_this_one() -> None:
    breaker = Breaker()
    fail(breaker)
    old = breaker.trial(0.3)
    tried(breaker, 0.3, True)
    for _ in range(8):
        breaker.tried(old, 0.4, failed=False)
    assert breaker.is_open
    tried(breaker, 10.0, *[False] * 7)
    breaker.tried(old, 10.0, failed=True)
    tried(breaker, 10.0, False)
    assert not breaker.is_open


def test_the_pause_grows_on_where_it_opens_again_at_once_and_not_after_a_good_while() -> None:
    for closed, pause in ((1.0, 0.5), (60.0, 0.25)):
        breaker = Breaker()
        fail(breaker)
        tried(breaker, 0.3, True)  # the next pause is 0.5 s
        tried(breaker, 1.0, *[False] * 8)
        now = 1.0 + closed
        fail(breaker, now)
        assert breaker.trial(now + pause - 0.01) == 0
        assert breaker.trial(now + pause + 0.01) > 0


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_with_partial_faults_few_requests_pay(share: float) -> None:
    """100 requests/s for a minute, of which a share fails: copies that fail cost nobody anything."""
    paid = []
    for seed in range(200):
        breaker, chance = Breaker(), random.Random(seed)
        paid.append(0)
        for step in range(6000):
            now = step / 100
            if not breaker.is_open:
                failed = chance.random() < share
                paid[-1] += failed
                breaker.count(now, failed=failed)
            elif trial := breaker.trial(now):
                breaker.tried(trial, now, failed=chance.random() < share)
    assert sum(paid) / len(paid) <= 32
