"""Workspace: the store is tried, and everybody is told."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, with_store

from modelmill.core.plan import Create, Delete, Unedited
from modelmill_contracts import report

REFUSED = report.Report(False, "StoreRefused", "it refuses the key; check the Secret")


def test_a_working_store_makes_it_ready_and_is_not_tried_again_soon() -> None:
    world = with_store(World())
    assert world.condition("Workspace", "default", "Ready") == ("True", "PreflightPassed")
    assert world.condition("Workspace", "default", "Stalled")[0] == "False"
    world.remove("Job", "default-preflight")
    assert world.plan("Workspace", "default").writes == ()


def test_a_store_that_refuses_the_key_stalls_it_and_says_what_to_do() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Reconciling") == ("True", "PreflightRunning")
    world.end_job("default-preflight", REFUSED)
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "PreflightPassed") == ("False", "StoreRefused")
    assert world.condition("Workspace", "default", "Stalled") == ("True", "StoreRefused")
    assert "check the Secret" in world.message("Workspace", "default", "Ready")
    assert [(e.type, e.reason) for e in world.events][-1] == ("Warning", "StoreRefused")


def test_a_failing_store_is_tried_again_ever_more_slowly_and_says_nothing_new_meanwhile() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", REFUSED)
    plan = world.reconcile("Workspace", "default")
    pauses = []
    for _ in range(6):
        assert plan.requeue_after is not None
        pauses.append(plan.requeue_after.total_seconds())
        world.wait(pauses[-1])
        world.reconcile("Workspace", "default")  # discards the old Job, makes a new one
        events = len(world.events)
        assert world.condition("Workspace", "default", "PreflightPassed") == ("False", "StoreRefused")
        world.end_job("default-preflight", REFUSED)
        plan = world.reconcile("Workspace", "default")
        assert len(world.events) == events
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert 5 < max(pauses) <= 60


UNREACHABLE = report.Report(False, "StoreUnreachable", "nothing answers", retryable=True)


def test_what_may_heal_by_itself_needs_a_person_only_after_five_minutes() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    begun = world.now
    while (world.now - begun).total_seconds() < 300:
        world.end_job("default-preflight", UNREACHABLE)
        plan = world.reconcile("Workspace", "default")
        assert world.condition("Workspace", "default", "Reconciling") == ("True", "StoreUnreachable")
        assert world.condition("Workspace", "default", "PreflightPassed") == ("False", "StoreUnreachable")
        assert world.message("Workspace", "default", "Ready") == "nothing answers (tried again within 1 min)"
        assert world.events == []
        assert plan.requeue_after is not None
        world.wait(plan.requeue_after.total_seconds())
        world.reconcile("Workspace", "default")
    world.end_job("default-preflight", UNREACHABLE)
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Stalled") == ("True", "StoreUnreachable")
    assert [(e.type, e.reason) for e in world.events] == [("Warning", "StoreUnreachable")]


def test_a_person_is_needed_after_five_minutes_to_the_second() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    for seconds in (299, 1):
        world.reconcile("Workspace", "default")
        world.end_job("default-preflight", UNREACHABLE)
        world.reconcile("Workspace", "default")
        assert world.condition("Workspace", "default", "Stalled")[0] == "False"
        world.wait(seconds)
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Stalled") == ("True", "StoreUnreachable")


def test_a_clock_that_was_set_back_delays_a_try_by_no_more_than_its_pause() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", REFUSED)
    world.wait(-3600)
    plan = world.reconcile("Workspace", "default")
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 5


def test_other_settings_are_tried_anew() -> None:
    world = with_store(World())
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Ready") == ("False", "PreflightRunning")
    assert "s3://others" in str(world.get("Job", "default-preflight"))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]:80"])
def test_a_store_at_a_metadata_address_is_not_even_tried(host: str) -> None:
    world = with_store(World())
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models", "endpoint": f"http://{host}"}})
    world.reconcile("Workspace", "default")
    assert f"http://{host}" not in str(world.get("Job", "default-preflight"))
    assert world.condition("Workspace", "default", "PreflightPassed") == ("False", "StoreAddressDenied")
    assert world.condition("Workspace", "default", "Stalled") == ("True", "StoreAddressDenied")
    assert world.message("Workspace", "default", "Ready").startswith("spec.store.endpoint: ")


def test_a_job_that_somebody_else_made_is_left_alone() -> None:
    world = World()
    world.put("Job", "default-preflight", spec={}, status={})
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Ready") == ("False", "NameConflict")
    assert world.get("Job", "default-preflight")["spec"] == {}


def test_other_settings_are_tried_soon_however_long_the_former_ones_failed() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", REFUSED)
    world.reconcile("Workspace", "default")
    world.wait(3600)
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", REFUSED)
    plan = world.reconcile("Workspace", "default")
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 5


def told(world: World) -> list[str]:
    world.reconcile("Workspace", "default")
    return world.told("Workspace", "default")


NOT_SHOWN = "Mirrored Unknown NotAsked: spec.tracking is not declared: runs are objects here"
NOT_ASKED = "Collected Unknown NotAsked: spec.store.collect.enabled is false: nothing is deleted"


def test_each_step_is_told_in_full() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    trying = "PreflightRunning: the store is being tried"
    assert told(world) == [
        f"Ready False {trying}",
        f"PreflightPassed Unknown {trying}",
        NOT_ASKED,
        NOT_SHOWN,
        f"Reconciling True {trying}",
        "Stalled False PreflightRunning",
    ]
    world.end_job("default-preflight", REFUSED)
    refused = "StoreRefused: it refuses the key; check the Secret (tried again within 10 min)"
    assert told(world) == [
        f"Ready False {refused}",
        f"PreflightPassed False {refused}",
        NOT_ASKED,
        NOT_SHOWN,
        "Reconciling False StoreRefused",
        f"Stalled True {refused}",
    ]
    world.wait(5)
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    assert told(world) == [
        "Ready True PreflightPassed: store s3://models works",
        "PreflightPassed True StoreWorks: the store takes, gives and deletes objects",
        NOT_ASKED,
        NOT_SHOWN,
        "Reconciling False PreflightPassed",
        "Stalled False PreflightPassed",
    ]


def test_what_holds_the_trial_up_is_told() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    world.pod_of_job("default-preflight", conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    full = "Unschedulable: no node takes the pod: none; ask for less in resources, or add nodes"
    assert told(world)[-1] == f"Stalled True {full}"


def test_a_name_that_is_taken_is_told_and_tried_again_in_a_minute() -> None:
    world = World()
    world.put("Job", "default-preflight", spec={}, status={})
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    assert told(world)[0] == (
        "Ready False NameConflict: Job default-preflight exists and was not made for this object; it is left as it is:"
        " rename this object, or delete the other one if nobody needs it"
    )
    assert world.plan("Workspace", "default").requeue_after == timedelta(minutes=1)


def test_a_store_that_failed_is_no_news_while_it_is_tried_again_and_its_failure_is_known_to_others() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", REFUSED)
    world.reconcile("Workspace", "default")
    world.reconcile("Dataset", "tumours")
    refused = "it refuses the key; check the Secret (tried again within 10 min)"
    assert world.told("Dataset", "tumours")[:2] == [
        f"Ready False StoreRefused: Workspace default: {refused}",
        f"PreflightPassed False StoreRefused: Workspace default: {refused}",
    ]
    assert world.condition("Dataset", "tumours", "Stalled") == ("True", "StoreRefused")
    world.wait(5)
    assert told(world)[0] == f"Ready False StoreRefused: {refused}"


def test_what_kubectl_shows_of_a_store_that_works_and_of_one_that_does_not() -> None:
    world = with_store(World())
    status = dict(world.get("Workspace", "default")["status"])
    asked = world.get("Job", "default-preflight")["metadata"]["annotations"]["modelmill.dev/task"]
    del status["conditions"]
    assert status == {"preflight": asked, "observedGeneration": 1}
    again = world.plan("Workspace", "default").requeue_after
    assert again is not None
    assert timedelta(hours=1) <= again <= timedelta(minutes=75)
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    assert "preflight" not in world.get("Workspace", "default")["status"]


@pytest.mark.parametrize(
    "change",
    [{"uri": "s3://others"}, {"endpoint": "http://other"}, {"region": "eu"}, {"secretRef": {"name": "other"}}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_of_the_store_is_tried(change: dict[str, Any]) -> None:
    world = with_store(World())
    former = world.get("Job", "default-preflight")["metadata"]["uid"]
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={"store": {**spec["store"], **change}})
    world.reconcile("Workspace", "default")
    assert world.get("Job", "default-preflight")["metadata"]["uid"] != former


def test_a_trial_is_begun_and_thrown_away_only_for_the_store_that_is_declared() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    (create,) = (w for w in world.plan("Workspace", "default").writes if isinstance(w, Create) and w.guards)
    world.reconcile("Workspace", "default")
    world.put("Workspace", "default", spec={"store": {"uri": "s3://other"}})
    (delete, *_) = world.plan("Workspace", "default").writes
    assert isinstance(delete, Delete)
    live = world.get("Workspace", "default")
    assert delete.guards == (Unedited.of("Workspace", live),)
    assert [guard.meaning for guard in create.guards] == ["Workspace default is as it was read"]
    assert not create.guards[0].holds(live)
