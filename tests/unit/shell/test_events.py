"""Events: an object that flaps has so many and no more."""

from modelmill.shell.events import BURST, REFILL_SECONDS, Budget


def test_an_object_has_a_burst_of_events_and_then_one_now_and_then() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    assert [budget.take("a") for _ in range(BURST + 3)] == [True] * BURST + [False] * 3
    assert budget.take("b")  # another one is not concerned
    now = REFILL_SECONDS - 1
    assert not budget.take("a")
    now = REFILL_SECONDS
    assert budget.take("a")
    assert not budget.take("a")


def test_who_was_quiet_for_long_has_a_burst_again_and_no_more() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    assert all(budget.take("a") for _ in range(BURST))
    now = 1000 * REFILL_SECONDS
    assert sum(budget.take("a") for _ in range(2 * BURST)) == BURST


def test_who_has_its_full_number_again_is_forgotten() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    for number in range(5000):
        budget.take(str(number))
        now += REFILL_SECONDS
    assert len(budget._left) < 5000  # noqa: SLF001 - it does not grow
