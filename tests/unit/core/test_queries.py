"""Prometheus in a rollout: within its bound it lets steps pass, outside it rolls back, and anything else holds."""

import dataclasses
from typing import Any

import pytest
from rolling_out import KIND, NAME, NAMESPACE, Rolling, begun, serving
from world import with_version

from modelmill.core import queries
from modelmill.core.plan import Measurement
from modelmill.core.queries import Answer

REVENUE = {"name": "revenue", "query": 'sum(revenue{version="$version"})', "min": "90", "max": "110.5"}
BOUND = 'sum ( revenue{ version = "2" , namespace="team-a"} )'
STEPS = [{"weight": 5, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
INTERVAL = 15


def rolling(*declared: dict[str, Any], steps: Any = STEPS, label: str | None = "namespace", **more: Any) -> Rolling:
    """The first step goes on, and evidence is there for it; what Prometheus says of it is not."""
    analysis = {"minRequests": 10, "prometheus": list(declared or (REVENUE,))}
    world = begun(steps=steps, analysis=analysis, **more)
    world.settings = dataclasses.replace(world.settings, tenant_label=label)
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((100_000, 0), (50_000, 0))
    return world


def says(world: Rolling, value: float | None, problem: str = "", query: str = BOUND, after: float = INTERVAL) -> None:
    """Prometheus answers after so many seconds, and the rollout is looked at."""
    world.wait(after)
    world.prometheus = {query: Measurement(Answer(value, problem), world.now)}
    world.step()


def step(world: Rolling) -> int:
    return int(world.candidate["step"])


def said(world: Rolling) -> dict[str, Any]:
    (found,) = world.candidate["prometheus"]
    return dict(found)


def test_what_is_asked_is_bound_to_the_namespace_and_to_the_revisions() -> None:
    world = rolling()
    asked = queries.asked_of(world.get(KIND, NAME), world.settings)
    assert asked is not None
    assert (asked.queries, asked.every.total_seconds()) == ((BOUND,), INTERVAL)


def test_nobody_is_asked_without_a_prometheus_and_the_step_says_so() -> None:
    world = rolling(label=None)
    assert queries.asked_of(world.get(KIND, NAME), world.settings) is None
    world.step(120)
    assert (step(world), said(world)["reason"]) == (1, "PrometheusNotConfigured")
    assert world.condition(KIND, NAME, "Ready") == ("False", "WaitingForPrometheus")


@pytest.mark.parametrize("value", [90.0, 100.0, 110.5])
def test_within_its_bound_the_steps_pass(value: float) -> None:
    world = rolling()
    says(world, value, after=60)
    assert step(world) == 2
    assert said(world) == {"name": "revenue", "verdict": "Promote", "reason": "InsideBound"}
    says(world, value, after=60)
    assert step(world) == 3


HOLDS = [
    queries.UNREACHABLE, queries.SLOW, queries.REFUSED, queries.NONSENSE,
    queries.NO_DATA, queries.SEVERAL, queries.NOT_A_NUMBER,
]  # fmt: skip


@pytest.mark.parametrize("problem", HOLDS)
def test_without_a_number_nothing_passes_and_nothing_is_rolled_back(problem: str) -> None:
    world = rolling()
    for _ in range(20):
        says(world, None, problem, after=60)
        assert (step(world), said(world)["verdict"], said(world)["reason"]) == (1, "Hold", problem)
    assert "revenue" in world.message(KIND, NAME, "Ready")
    says(world, 100.0, after=1)
    assert step(world) == 2


def test_an_old_answer_is_none() -> None:
    world = rolling()
    says(world, 100.0)
    world.step(90)
    assert (step(world), said(world)["reason"]) == (1, "NotAnswered")


def test_an_answer_to_another_query_is_none() -> None:
    world = rolling()
    says(world, 100.0, query=BOUND.replace("2", "1"), after=60)
    assert (step(world), said(world)["reason"]) == (1, "NotAnswered")


@pytest.mark.parametrize("value", [89.9, 110.6, -1.0])
def test_outside_of_it_three_times_in_a_row_it_is_rolled_back(value: float) -> None:
    world = rolling()
    for count in (1, 2):
        says(world, value)
        assert (said(world)["failures"], step(world)) == (count, 1)
        assert said(world)["verdict"] == "Hold"
    says(world, value)
    back = world.status["rolledBack"]
    assert (back["reason"], back["message"]) == (
        "PrometheusAgainst", "revenue is outside of its bound, 3 times in a row",
    )  # fmt: skip
    last = world.status["lastRollout"]["prometheus"]
    assert last == [{"name": "revenue", "verdict": "Reject", "reason": "OutsideOfBound"}]


def test_one_answer_is_counted_once_and_those_within_an_interval_as_one() -> None:
    world = rolling()
    says(world, 1.0)
    for _ in range(5):
        world.step(2)
    for _ in range(2):
        says(world, 1.0, after=2)
    assert said(world)["failures"] == 1


def test_one_inside_begins_anew_and_none_changes_nothing() -> None:
    world = rolling()
    for value, count in ((1.0, 1), (1.0, 2), (None, 2), (100.0, 0), (1.0, 1), (None, 1), (1.0, 2)):
        says(world, value, "" if value is not None else queries.NO_DATA)
        assert said(world).get("failures", 0) == count
        assert "rolledBack" not in world.status


def test_a_query_that_goes_on_as_before_is_not_written_again() -> None:
    world = rolling(steps=[{"weight": 5, "hold": "1h"}])
    says(world, 100.0, after=20)
    written = world.get(KIND, NAME)["metadata"]["resourceVersion"]
    for _ in range(10):
        says(world, 100.0)
    assert world.get(KIND, NAME)["metadata"]["resourceVersion"] == written


def test_no_number_is_in_the_status() -> None:
    for value in (98765.4321, 97.654321):
        world = rolling()
        says(world, value)
        says(world, value)
        shown = str(world.status) + str(world.events)
        assert f"{value}"[:5] not in shown


def test_what_is_not_understood_is_not_asked_and_says_where() -> None:
    world = rolling({**REVENUE, "query": 'revenue{namespace="other"}'})
    assert queries.asked_of(world.get(KIND, NAME), world.settings) is None
    world.step(60)
    assert (step(world), said(world)["reason"]) == (1, "QueryNotUnderstood")
    assert "'namespace': this label is given by the operator" in world.message(KIND, NAME, "Ready")


def test_of_several_each_must_be_within_its_bound() -> None:
    world = rolling(REVENUE, {"name": "latency", "query": "latency", "max": "1"})
    other = 'latency{ namespace="team-a"}'
    says(world, 100.0, after=60)
    assert step(world) == 1
    world.prometheus = {
        BOUND: Measurement(Answer(100.0), world.now), other: Measurement(Answer(0.5), world.now),
    }  # fmt: skip
    world.step(5)
    assert step(world) == 2


def test_during_copies_nobody_is_asked_but_in_the_last_step() -> None:
    world = rolling(steps=[{"shadow": "1m"}, {"weight": 5, "hold": "1m"}])
    assert queries.asked_of(world.get(KIND, NAME), world.settings) is None
    assert "prometheus" not in world.candidate
    world.counts((50_000, 0), (50_000, 0), copies=True)
    world.step(60)
    assert step(world) == 2
    assert queries.asked_of(world.get(KIND, NAME), world.settings) is not None

    only = serving(strategy="BlueGreen", steps=[{"shadow": "1m"}], analysis={"prometheus": [REVENUE]})
    with_version(only, 2)
    only.settings = dataclasses.replace(only.settings, tenant_label="namespace")
    only.step()
    only.pods_of(f"{NAME}-{only.revision(2)}", 2)
    only.step()
    assert queries.asked_of(only.get(KIND, NAME), only.settings) is not None


def test_a_rejected_one_stays_so_until_somebody_resumes_it() -> None:
    world = rolling(onFailure="Pause")
    for _ in range(3):
        says(world, 1.0)
    assert (world.candidate["state"], world.candidate["weight"]) == ("Rejected", 0)
    says(world, 100.0)
    assert world.candidate["state"] == "Rejected"
    world.act(f"resume@{world.revision(2)}")
    world.step()
    assert world.candidate["state"] == "Running"
    assert said(world).get("failures") is None


def test_a_clock_that_was_set_back_counts_on() -> None:
    world = rolling()
    says(world, 1.0)
    says(world, 1.0, after=-3600)
    assert said(world)["failures"] == 2


ANSWERS = [
    (b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"97"]}]}}', Answer(97.0)),
    (b'{"status":"success","data":{"resultType":"scalar","result":[1.5,"-0.5"]}}', Answer(-0.5)),
    (b'{"status":"success","data":{"resultType":"vector","result":[]}}', Answer(None, queries.NO_DATA)),
    (b'{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}', Answer(None, queries.NOT_A_NUMBER)),
    (b'{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}', Answer(None, queries.NOT_A_NUMBER)),
    (b'{"status":"success","data":{"resultType":"string","result":[1,"7"]}}', Answer(None, queries.NOT_A_NUMBER)),
    (b'{"status":"success","data":{"resultType":"matrix","result":[]}}', Answer(None, queries.NOT_A_NUMBER)),
    (
        b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"1"]}]}}',
        Answer(None, queries.SEVERAL),
    ),
]


@pytest.mark.parametrize(("body", "wanted"), ANSWERS)
def test_one_number_is_an_answer(body: bytes, wanted: Answer) -> None:
    assert queries.decode(body) == wanted


NONSENSE = [
    b"", b"{}", b"[]", b"null", b"<html>", b"[" * 5000, b'{"status":"error","data":{}}',
    b'{"status":"success","data":{"resultType":"vector","result":[{}]}}',
    b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"x"]}]}}',
    b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,null]}]}}',
    b'{"status":"success","data":{"resultType":"vector","result":7}}',
    b'{"status":"success","data":{"resultType":"other","result":[1,"1"]}}',
    b'{"status":"failure","data":{"resultType":"scalar","result":[1,"1"]}}',
]  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE)
def test_anything_else_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="no answer"):
        queries.decode(body)


assert NAMESPACE in BOUND
