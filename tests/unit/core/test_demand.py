"""The demand: what pods counted between two answers, each request once, whoever answered it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rolling_out import arm

from modelmill.core import windows
from modelmill.core.demand import demand
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Measurement
from modelmill.core.windows import Counted, Counts
from modelmill_contracts import counters

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def counted(answered: int, handed: int | None = None, *, epoch: str = "e", started: float = 1.0) -> Counted:
    none = arm(0, 0)
    counts = Counts(epoch=epoch, stable=none, candidate=none, handed=handed) if handed is not None else None
    return Counted(version=1, started=started, rollout=counts, requests=answered)


def answer(before: Counted | None, now: Counted, seconds: float = 10.0, at: datetime = AT) -> Measurement:
    earlier = Measurement(before, at, 100.0) if before is not None else None
    return Measurement(now, at, 100.0 + seconds, earlier)


def test_the_rates_of_all_pods_are_summed_each_over_its_own_time() -> None:
    later = AT + timedelta(seconds=3)
    found = demand([answer(counted(100), counted(300)), answer(counted(0), counted(300), 15.0, later)])
    assert (found.rate, found.unknown, found.since) == (40.0, 0, AT)


def test_a_pod_that_was_not_asked_twice_is_not_known() -> None:
    assert demand([]).rate is None
    found = demand([None, answer(None, counted(10)), answer(counted(0), counted(100))])
    assert (found.rate, found.unknown) == (10.0, 2)


@pytest.mark.parametrize(
    ("before", "now", "requests"),
    [
        (counted(100), counted(150, 30), 80),  # a rollout began
        (counted(100, 30), counted(150, 50), 70),
        (counted(100, 30), counted(150, 20, epoch="another"), 70),  # another one began
        (counted(100, 30), counted(150), 50),  # it is over
        (counted(1000), counted(40), 40),  # it was started anew, and did not say so
        (counted(1000, 30), counted(1040, 5, started=2.0), 1045),
    ],
)
def test_what_was_handed_to_another_revision_is_asked_of_this_one(before: Counted, now: Counted, requests: int) -> None:
    assert demand([answer(before, now)]).rate == requests / 10


def test_what_a_pod_answered_in_the_candidates_place_counts_once() -> None:
    latency = counters.Latency(counts=(0,) * (len(counters.LATENCY_EDGES) + 1), total=0.0)
    rollout = counters.Rollout(epoch="e", stable=arm(60, 0), candidate=arm(40, 10), fallbacks={"Late": 8, "Failed": 2})
    snapshot = counters.Snapshot(
        model="m", model_version="1", arm="", digest="", edges="", started=1.0, ready=True, workers_ready=1,
        worker_restarts=0, in_flight=0, requests={"200": 70, "429": 5}, refusals={}, rows=70, request=latency,
        compute=latency, rollout=rollout,
    )  # fmt: skip
    found = windows.decode(msgspec.json.encode(snapshot))
    assert (found.requests, found.rollout and found.rollout.handed) == (75, 30)


def test_pods_are_asked_where_the_demand_decides_and_during_a_rollout() -> None:
    spec = {"autoscaling": {"max": 3, "requestsPerSecond": 10}}
    serves = {"stable": {"revision": "3fa94c1b"}}
    asked = asked_of({"spec": spec, "status": serves})
    assert asked is not None
    assert (asked.revision, asked.window, asked.source.every) == ("3fa94c1b", None, timedelta(seconds=15))
    rolled = asked_of({"spec": spec, "status": {**serves, "candidate": {"epoch": "e", "windows": 3}}})
    assert rolled is not None
    assert (rolled.window, rolled.source.every) == (("e", 3), timedelta(seconds=5))
    assert rolled.span == asked.span is not None
    assert asked_of({"spec": {"autoscaling": {"max": 3, "cpuPercent": 70}}, "status": serves}) is None
    assert asked_of({"spec": spec, "status": {}}) is None
