"""How many pods: at once where more are asked for, late where fewer are, and never from or to one by accident."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelmill.api.modeldeployment import Autoscaling
from modelmill.core import autoscaling
from modelmill.core.autoscaling import Demand, Scale, Scaled, Situation
from modelmill.core.conditions import timestamp

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = timestamp(NOW - timedelta(hours=1))
BY_REQUESTS = Autoscaling(min=1, max=20, requests_per_second=100)
BY_CPU = Autoscaling(min=1, max=20, cpu_percent=70)


def ago(**time: Any) -> str:
    return timestamp(NOW - timedelta(**time))


def decided(
    rate: float | None,
    replicas: int = 4,
    *,
    lower: int | None = None,
    since: str | None = None,
    changed: str = LONG_AGO,
    declared: Autoscaling = BY_REQUESTS,
    running: int | None = None,
    **demand: Any,
) -> Scaled:
    """What follows for so many pods and requests per second."""
    asked = Demand(rate, since=NOW if rate is not None else None, **demand)
    known = Scale(replicas, changed, lower, since)
    return autoscaling.decide(Situation(declared, 1, known, asked), replicas if running is None else running, NOW)


@pytest.mark.parametrize(
    ("rate", "replicas"),
    [
        (400.0, 4),
        (440.0, 4),  # a tenth more
        (361.0, 4),  # a tenth less
        (441.0, 5),
        (500.0, 5),
        (501.0, 6),
        (800.0, 8),
        (5000.0, 8),  # twice as many at most
        (None, 4),
    ],
)
def test_as_many_pods_as_the_requests_take(rate: float | None, replicas: int) -> None:
    assert decided(rate).replicas == replicas


def test_one_pod_may_become_five_at_once_and_never_more_than_the_most() -> None:
    assert decided(5000.0, 1).replicas == 5
    assert decided(5000.0, 15).replicas == 20


def test_more_pods_come_every_fifteen_seconds() -> None:
    changed = ago(seconds=5)
    found = decided(5000.0, 8, changed=changed)
    assert (found.replicas, found.look_again) == (8, timedelta(seconds=10))
    assert found.scale == Scale(8, changed)  # nothing new to be written
    assert decided(5000.0, 8, changed=ago(seconds=15)).replicas == 16


def test_fewer_are_waited_for() -> None:
    found = decided(100.0)
    assert found == Scaled(4, Scale(4, LONG_AGO, 1, timestamp(NOW)), look_again=timedelta(minutes=5))


def test_what_was_enough_all_the_time_is_enough_and_at_least_half_stay() -> None:
    assert decided(100.0, lower=3, since=ago(minutes=5)).scale == Scale(3, timestamp(NOW))
    assert decided(100.0, lower=1, since=ago(minutes=5)).scale == Scale(2, timestamp(NOW))
    assert decided(0.0, 20, lower=1, since=ago(minutes=5)).replicas == 10
    assert decided(0.0, 2, lower=1, since=ago(minutes=5)).replicas == 1


def test_a_wait_is_written_down_only_where_more_was_needed_in_it() -> None:
    since = ago(minutes=2)
    found = decided(100.0, lower=2, since=since)
    assert (found.scale, found.look_again) == (Scale(4, LONG_AGO, 2, since), timedelta(minutes=3))
    assert decided(250.0, lower=2, since=since).scale == Scale(4, LONG_AGO, 3, since)
    assert decided(400.0, lower=2, since=since).scale == Scale(4, LONG_AGO, 4, since)
    assert decided(500.0, lower=2, since=since).scale == Scale(5, timestamp(NOW))


def test_a_wait_in_which_all_were_needed_begins_anew_or_ends() -> None:
    assert decided(100.0, lower=4, since=ago(minutes=5)).scale == Scale(4, LONG_AGO, 1, timestamp(NOW))
    assert decided(400.0, lower=4, since=ago(minutes=5)).scale == Scale(4, LONG_AGO)


@pytest.mark.parametrize("demand", [{"unknown": 1}, {}], ids=["a pod is silent", "it is old"])
def test_what_is_not_known_never_takes_a_pod_away(demand: dict[str, int]) -> None:
    old = {} if demand else {"since": NOW - timedelta(seconds=61)}
    asked = Demand(100.0, **{"since": NOW, **demand, **old})
    found = autoscaling.decide(Situation(BY_REQUESTS, 1, Scale(4, LONG_AGO, 1, ago(minutes=5)), asked), 4, NOW)
    assert found.replicas == 4
    known = autoscaling.decide(Situation(BY_REQUESTS, 1, Scale(4, LONG_AGO), Demand(900.0, 1, NOW)), 4, NOW)
    assert known.replicas == 8


def test_a_clock_that_was_set_back_takes_nothing_away_early() -> None:
    ahead = timestamp(NOW + timedelta(days=1))
    assert decided(100.0, lower=1, since=ahead).replicas == 4
    assert decided(5000.0, changed=ahead).replicas == 4


def test_bounds_are_held_at_once() -> None:
    assert decided(None, declared=Autoscaling(min=6, max=20, requests_per_second=100)).replicas == 6
    assert decided(800.0, declared=Autoscaling(min=1, max=3, requests_per_second=100)).replicas == 3
    both = Autoscaling(min=2, max=2, requests_per_second=100)
    assert decided(0.0, declared=both, lower=1, since=ago(hours=1)).replicas == 2


def test_more_may_run_than_was_written_down() -> None:
    """The operator was killed between the two."""
    assert decided(100.0, 2, running=8).replicas == 8
    assert decided(100.0, 8, running=2).replicas == 8


@pytest.mark.parametrize("declared", [BY_REQUESTS, BY_CPU], ids=["requests", "cpu"])
def test_an_autoscaler_begins_with_the_pods_that_there_are(declared: Autoscaling) -> None:
    """spec.replicas is 1 then, as nobody writes it beside autoscaling."""
    found = autoscaling.decide(Situation(declared, 1, None), 8, NOW)
    assert (found.replicas, found.scale) == (8, Scale(8, timestamp(NOW)))
    assert autoscaling.decide(Situation(declared, 1, None), 0, NOW).replicas == 1
    assert autoscaling.decide(Situation(declared, 3, None), 0, NOW).replicas == 3


def test_zero_replicas_switch_it_off() -> None:
    assert autoscaling.decide(Situation(BY_REQUESTS, 0, Scale(8, LONG_AGO)), 8, NOW) == Scaled(0)
    assert autoscaling.decide(Situation(BY_CPU, 0, Scale(8, LONG_AGO)), 8, NOW) == Scaled(0, least=1)


def test_without_an_autoscaler_what_ran_stays_until_somebody_says_how_many() -> None:
    kept = autoscaling.decide(Situation(None, 1, Scale(8, LONG_AGO, 2, LONG_AGO)), 8, NOW)
    assert kept == Scaled(8, Scale(8, LONG_AGO), kept=True)
    assert autoscaling.decide(Situation(None, 5, Scale(8, LONG_AGO)), 8, NOW) == Scaled(5)
    assert autoscaling.decide(Situation(None, 1, Scale(1, LONG_AGO)), 1, NOW) == Scaled(1)


class TestByCpu:
    """What a HorizontalPodAutoscaler does with spec.replicas, and when it is followed."""

    @staticmethod
    def decided(replicas: int, least: int | None, known: int = 8, declared: Autoscaling = BY_CPU) -> Scaled:
        return autoscaling.decide(Situation(declared, replicas, Scale(known, LONG_AGO), least=least), known, NOW)

    def test_it_is_made_to_hold_what_there_is(self) -> None:
        found = self.decided(1, None)
        assert (found.replicas, found.least) == (8, 8)

    def test_until_it_has_said_so_nothing_goes(self) -> None:
        found = self.decided(1, 8)
        assert (found.replicas, found.least) == (8, 8)

    def test_then_it_may_go_down(self) -> None:
        found = self.decided(8, 8)
        assert (found.replicas, found.least) == (8, 1)
        found = self.decided(2, 1)
        assert (found.replicas, found.least) == (2, 1)
        assert found.scale == Scale(2, timestamp(NOW))

    def test_bounds_are_held_at_once_whatever_it_says_yet(self) -> None:
        assert self.decided(8, 1, declared=Autoscaling(min=1, max=5, cpu_percent=70)).replicas == 5
        raised = self.decided(2, 1, known=2, declared=Autoscaling(min=3, max=5, cpu_percent=70))
        assert (raised.replicas, raised.least) == (3, 3)
        beyond = self.decided(1, 8, declared=Autoscaling(min=1, max=5, cpu_percent=70))
        assert (beyond.replicas, beyond.least) == (5, 5)
