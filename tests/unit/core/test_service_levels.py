"""Service levels: what pods count is written down step by step, and nothing is counted twice."""

import dataclasses
from typing import Any

import pytest
from governing import AVAILABLE, DEPLOYMENT, LATENCY, SOURCE, after_tests, governed, served, settled
from world import World, with_store, with_version

from modelmill.api.model import Governance, RequiredAvailability, RequiredLatency
from modelmill.api.modeldeployment import Monitoring
from modelmill.core import servicelevels
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Measurement, SetStatus
from modelmill.core.windows import Counted
from modelmill_contracts import counters, report

BINS = len(counters.LATENCY_EDGES) + 1
STEP = 300  # seconds: a twelfth of an hour


class Counting(World):
    """As the shell does, it remembers what pods had counted when a step began."""

    def __init__(self) -> None:
        super().__init__()
        self.since: Any = None
        self.begun: dict[str, Counted] = {}

    def observed(self, kind: str, name: str) -> Any:
        asked = asked_of(self.get(kind, name)) if kind == "ModelDeployment" else None
        if asked is not None and asked.levels != self.since:
            self.since, self.begun = asked.levels, {}
        if asked is not None:
            for uid, answer in self.answers.items():
                self.begun.setdefault(uid, answer.value)
        return dataclasses.replace(super().observed(kind, name), levels=dict(self.begun))

    def carry_out(self, kind: str, name: str, write: Any) -> None:
        super().carry_out(kind, name, write)
        if isinstance(write, SetStatus) and write.levels is not None:
            asked = asked_of(self.get(kind, name))
            self.since = asked.levels if asked is not None else None
            self.begun = dict(write.levels)

    def counts(
        self, requests: int, failures: int = 0, *, ms: float = 1.0, pod: str = "x", started: float = 1.0
    ) -> None:
        """What a pod has counted by now; all that it answered took as long."""
        place = next(i for i, edge in enumerate(counters.LATENCY_EDGES) if edge >= ms / 1000)
        times = tuple(requests if index == place else 0 for index in range(BINS))
        found = Counted(
            version=1, started=started, requests=requests, failures=failures, request=counters.Latency(times, 0.0)
        )
        self.answers[self.get("Pod", f"serving-{pod}")["metadata"]["uid"]] = Measurement(found, self.now, 1.0)

    @property
    def levels(self) -> dict[str, Any]:
        return dict(self.get(*DEPLOYMENT)["status"]["serviceLevels"])

    def step(self, seconds: float = 0) -> None:
        self.wait(seconds)
        self.reconcile(*DEPLOYMENT)


def serving(levels: dict[str, Any] | None = None, **more: Any) -> Counting:
    world = Counting()
    with_version(with_store(world), 1)
    monitoring = {"monitoring": {"serviceLevels": levels}} if levels else {}
    served(world, **monitoring, **more)
    pod(world)
    return world


def pod(world: World, name: str = "x") -> None:
    deployment = world.get("Deployment", world.deployments()[0])
    metadata = {"labels": deployment["spec"]["template"]["metadata"]["labels"]}
    running = {"name": "server", "state": {"running": {}}}
    status = {"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [running]}
    world.put("Pod", f"serving-{name}", metadata=metadata, status=status)


PROMISED = {
    "availability": {"min": "0.999", "window": "1h"},
    "latency": [{"quantile": "0.99", "max": "20ms"}],
}


def test_nobody_asks_and_nothing_is_said() -> None:
    world = serving()
    assert "serviceLevels" not in world.get(*DEPLOYMENT)["status"]
    assert asked_of(world.get(*DEPLOYMENT)) is None


def test_what_was_counted_in_a_step_is_written_down_once_it_is_over() -> None:
    world = serving(PROMISED)
    world.counts(1000)
    world.step()
    assert world.levels == {
        "source": "spec.monitoring",
        "window": "1h",
        "availability": {"min": "0.999", "met": "Unknown"},
        "latency": [{"quantile": "0.99", "max": "20ms", "met": "Unknown"}],
        "requests": 0,
        "failures": 0,
        "since": "2026-01-01T00:00:00Z",
        "slots": [],
    }
    world.counts(3000, 1)
    world.step(STEP - 1)
    assert world.levels["requests"] == 0
    assert world.plan(*DEPLOYMENT).writes == ()
    world.step(1)
    found = world.levels
    assert found["availability"] == {
        "min": "0.999", "observed": "0.999500", "met": "True", "burn": "0.50", "recentBurn": "0.50",
    }  # fmt: skip
    assert found["since"] == "2026-01-01T00:05:00Z"
    assert [(slot["requests"], slot["failures"]) for slot in found["slots"]] == [(2000, 1)]
    assert world.plan(*DEPLOYMENT).writes == ()


@pytest.mark.parametrize(
    ("slow", "met", "observed"),
    [(10, "True", "10.624ms"), (11, "False", "101.07ms")],
)
def test_a_latency_is_the_edge_that_enough_answers_do_not_exceed(slow: int, met: str, observed: str) -> None:
    """Of 1,000 answers these take 100 ms, the others 10 ms; edges lie 9 % apart."""
    world = serving(PROMISED)
    pod(world, "y")
    for name in "xy":
        world.counts(0, pod=name)
    world.step()
    world.counts(1000 - slow, ms=10)
    world.counts(slow, ms=100, pod="y")
    world.step(STEP)
    assert world.levels["latency"] == [{"quantile": "0.99", "max": "20ms", "observed": observed, "met": met}]


def test_each_step_counts_what_came_in_it() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    for total in (1000, 3000, 6000):
        world.counts(total)
        world.step(STEP)
    assert [slot["requests"] for slot in world.levels["slots"]] == [1000, 2000, 3000]
    assert world.levels["requests"] == 6000


def test_what_is_older_than_the_window_goes_with_one_write_a_step() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    writes = 0
    for number in range(1, 20):
        world.counts(100 * number)
        before = world.get(*DEPLOYMENT)["metadata"]["resourceVersion"]
        world.step(STEP)
        writes += world.get(*DEPLOYMENT)["metadata"]["resourceVersion"] != before
    assert writes == 19
    assert len(world.levels["slots"]) == servicelevels.STEPS
    assert world.levels["requests"] == 1200


def test_without_requests_nothing_is_written_until_what_was_is_too_old() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(100)
    world.step(STEP)
    plan = world.reconcile(*DEPLOYMENT)
    world.wait(STEP)
    plan = world.plan(*DEPLOYMENT)
    assert plan.writes == ()
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 3600 - STEP
    world.step(3600 - STEP)
    assert world.levels["availability"] == {"min": "0.999", "met": "Unknown"}
    assert world.levels["slots"] == []
    plan = world.plan(*DEPLOYMENT)
    assert plan.writes == ()


def test_a_failure_is_told_with_how_fast_the_budget_goes() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(10_000)
    world.step(STEP)
    world.counts(11_000, 100)
    world.step(STEP)
    assert world.levels["availability"] == {
        "min": "0.999", "observed": "0.990909", "met": "False", "burn": "9.09", "recentBurn": "100.00",
    }  # fmt: skip


def test_the_next_step_begins_with_the_answers_that_were_written_down() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(100)
    world.wait(STEP)
    (write,) = [write for write in world.plan(*DEPLOYMENT).writes if isinstance(write, SetStatus)]
    assert write.baseline is None
    assert write.levels == {uid: answer.value for uid, answer in world.answers.items()}


# Restarts.


def test_a_pod_that_was_started_anew_is_counted_from_zero() -> None:
    world = serving(PROMISED)
    world.counts(30)
    world.step()
    world.counts(40, started=2.0)
    world.step(STEP)
    assert world.levels["requests"] == 40


def test_counts_that_went_down_are_counted_from_zero() -> None:
    world = serving(PROMISED)
    world.counts(5000)
    world.step()
    world.counts(40)
    world.step(STEP)
    assert world.levels["requests"] == 40


def test_a_pod_that_comes_begins_there_and_one_that_goes_is_left_out() -> None:
    world = serving(PROMISED)
    world.counts(1000)
    world.step()
    pod(world, "y")
    world.counts(70, pod="y")
    world.counts(1100)
    world.step(10)
    world.counts(75, pod="y")
    world.step(STEP - 10)
    assert world.levels["requests"] == 105
    world.remove("Pod", "serving-x")
    world.counts(80, pod="y")
    world.step(STEP)
    assert world.levels["slots"][-1]["requests"] == 5


def test_an_operator_that_starts_anew_drops_the_open_step_and_counts_nothing_twice() -> None:
    world = serving(PROMISED)
    world.counts(1000)
    world.step()
    world.counts(1500)
    world.step(STEP)
    assert world.levels["requests"] == 500
    world.counts(1700)
    world.since, world.begun = None, {}  # nothing of it is remembered
    world.step(STEP)
    assert world.levels["requests"] == 500
    world.counts(1750)
    world.step(STEP)
    assert world.levels["requests"] == 550


def test_a_clock_that_was_set_back_ends_no_step_before_its_time() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(100)
    world.step(-3600)
    assert world.levels["requests"] == 0


def test_what_was_measured_stays_while_nothing_serves() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(100)
    world.step(STEP)
    world.remove("Deployment", world.deployments()[0])
    world.reconcile(*DEPLOYMENT)
    assert world.levels["requests"] == 100


def test_who_asks_no_more_has_no_levels() -> None:
    world = serving(PROMISED)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1})
    world.step()
    assert "serviceLevels" not in world.get(*DEPLOYMENT)["status"]
    assert asked_of(world.get(*DEPLOYMENT)) is None


def test_another_bound_judges_what_was_counted_anew() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(1000, 2)
    world.step(STEP)
    assert world.levels["availability"]["met"] == "False"
    levels = {"availability": {"min": "0.99", "window": "1h"}}
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1, "monitoring": {"serviceLevels": levels}})
    world.step()
    assert world.levels["availability"]["met"] == "True"
    assert world.levels["requests"] == 1000


def test_a_text_that_somebody_changed_is_no_time() -> None:
    world = serving(PROMISED)
    world.counts(0)
    world.step()
    world.counts(100)
    world.step(STEP)
    live = world.get(*DEPLOYMENT)
    (slot,) = live["status"]["serviceLevels"]["slots"]
    slots = {"slots": [{**slot, "times": "x"}]}
    levels = {**live["status"]["serviceLevels"], **slots}
    world.store(*DEPLOYMENT, {**live, "status": {**live["status"], "serviceLevels": levels}})
    world.step()
    assert world.levels["latency"][0]["met"] == "Unknown"


# Who asks.


def test_a_use_case_asks_for_what_it_requires() -> None:
    said = report.Outcome("latency 0.99", True, "<= 20ms", "3ms")
    world = served(after_tests(governed(AVAILABLE, LATENCY), said))
    found = settled(world).get(*DEPLOYMENT)["status"]["serviceLevels"]
    assert (found["source"], found["window"]) == (SOURCE, "1h")
    assert found["latency"] == [{"quantile": "0.99", "max": "20ms", "met": "Unknown"}]


ASKS = Governance(
    name="tumour-triage",
    latency=(RequiredLatency(requirement="fast", quantile="0.99", max="20ms"),),
    availability=RequiredAvailability(requirement="available", min="0.999", window="1h"),
)


@pytest.mark.parametrize(
    ("own", "asks", "expected"),
    [
        (None, None, None),
        (None, Governance(name="tumour-triage"), None),
        (None, ASKS, (SOURCE, "1h", "0.999", (("0.99", "20ms"),))),
        (
            {"availability": {"min": "0.9999", "window": "1h"}, "latency": [{"quantile": "0.990", "max": "5ms"}]},
            ASKS,
            (SOURCE, "1h", "0.9999", (("0.990", "5ms"),)),
        ),
        (
            {"availability": {"min": "0.99999", "window": "24h"}, "latency": [{"quantile": "0.5", "max": "5ms"}]},
            ASKS,
            (SOURCE, "1h", "0.999", (("0.5", "5ms"), ("0.99", "20ms"))),
        ),
        ({"latency": [{"quantile": "0.9", "max": "5ms"}]}, None, ("spec.monitoring", "1h", None, (("0.9", "5ms"),))),
    ],
)
def test_the_stricter_of_both_is_promised(own: Any, asks: Governance | None, expected: Any) -> None:
    monitoring = Monitoring.model_validate({"serviceLevels": own} if own else {})
    found = servicelevels.promise(monitoring, asks)
    assert (None if found is None else (found.source, found.window, found.availability, found.latency)) == expected
