"""Baselines: no request is weighed twice, whoever weighed it and however often the operator is started."""

from datetime import UTC, datetime
from time import monotonic

from modelmill.core.plan import Measurement
from modelmill.shell.baselines import Baselines

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answer(value: int, asked: float | None = None) -> Measurement:
    return Measurement(value, NOW, monotonic() if asked is None else asked)


def test_the_first_answer_of_a_pod_is_where_its_part_begins() -> None:
    known = Baselines()
    known.opened("a", ("e", 0))
    known.answered("a", {"x": answer(1)})
    known.answered("a", {"x": answer(2), "y": answer(7)})
    assert known.of("a") == {"x": 1, "y": 7}


def test_what_was_asked_before_the_window_was_seen_to_begin_is_no_baseline() -> None:
    known, before = Baselines(), monotonic()
    known.opened("a", ("e", 1))
    known.answered("a", {"x": answer(1, before - 1)})
    assert known.of("a") == {}


def test_our_own_window_is_followed_by_the_next_one() -> None:
    known = Baselines()
    known.opened("a", ("e", 0))
    known.answered("a", {"x": answer(1)})
    known.opened("a", ("e", 1))  # the status that we wrote is seen
    known.weighed("a", ("e", 1), {"x": 5})
    known.answered("a", {"x": answer(9)})
    assert known.of("a") == {"x": 5}


def test_a_window_that_somebody_else_weighed_drops_what_is_open() -> None:
    known = Baselines()
    known.opened("a", ("e", 0))
    known.answered("a", {"x": answer(1)})
    known.opened("a", ("e", 1))
    assert known.of("a") == {}
    known.weighed("a", ("e", 0), {"x": 5})  # an answer that comes too late
    assert known.of("a") == {}


def test_a_pod_and_a_rollout_that_are_gone_are_forgotten() -> None:
    known = Baselines()
    known.opened("a", ("e", 0))
    known.answered("a", {"x": answer(1), "y": answer(2)})
    known.gone("a", "x")
    known.gone(None, "y")
    assert known.of("a") == {"y": 2}
    known.closed("a")
    known.answered("a", {"x": answer(1)})
    assert known.of("a") == {}
