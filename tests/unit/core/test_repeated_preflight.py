"""A store that works is tried again now and then: nothing is said of it unless it fails."""

from datetime import timedelta
from itertools import pairwise

import pytest
from world import World, with_store

from modelmill.core.plan import SetStatus
from modelmill_contracts import report

JOB = "default-preflight"
WORKS = report.Report(True, "StoreWorks", result=report.PreflightResult(("put", "get", "delete")))
UNREACHABLE = report.Report(False, "StoreUnreachable", "nothing answers", retryable=True, store=True)
REFUSED = report.Report(False, "StoreRefused", "it refuses the key", store=True)
OVERWRITES = report.Report(False, "StoreOverwrites", "it ignores If-None-Match")
INTERRUPTED = report.Report(False, "Interrupted", "the node goes away", retryable=True)


def job(world: World) -> str:
    return str(world.get("Job", JOB)["metadata"]["uid"])


def again(world: World) -> timedelta:
    """How long it is left."""
    found = world.reconcile("Workspace", "default").requeue_after
    assert found is not None
    return found


def tried_again() -> World:
    """A Workspace whose store worked, and is being tried once more."""
    world = with_store(World())
    first = job(world)
    world.wait(again(world).total_seconds() - 1)
    world.reconcile("Workspace", "default")
    assert job(world) == first
    world.wait(1)
    world.reconcile("Workspace", "default")
    assert job(world) != first
    return world


def test_nothing_is_said_where_it_works_as_before() -> None:
    world = with_store(World())
    status, events = world.get("Workspace", "default")["status"], len(world.events)
    for _ in range(3):
        former = job(world)
        world.wait(again(world).total_seconds())
        world.reconcile("Workspace", "default")
        assert job(world) != former
        world.end_job(JOB, WORKS)
        assert timedelta(hours=1) <= again(world) <= timedelta(minutes=75)
        assert world.get("Workspace", "default")["status"] == status
    assert len(world.events) == events


def test_workspaces_take_turns() -> None:
    pauses = []
    for number in range(20):
        world = World()
        for other in range(number):
            world.put("Model", f"m-{other}", spec={})  # so that its UID is another one
        pauses.append(again(with_store(world)))
    assert len(set(pauses)) == 20
    assert max(late - early for early, late in pairwise(sorted(pauses))) < timedelta(minutes=8)


@pytest.mark.parametrize("said", [UNREACHABLE, REFUSED, OVERWRITES], ids=lambda said: said.reason)
def test_a_store_that_does_not_work_any_more_is_told_and_tried_soon_and_heals(said: report.Report) -> None:
    world = tried_again()
    world.end_job(JOB, said)
    assert again(world) == timedelta(seconds=5)
    assert world.condition("Workspace", "default", "PreflightPassed") == ("False", said.reason)
    assert world.condition("Workspace", "default", "Ready") == ("False", said.reason)
    assert "preflight" not in world.get("Workspace", "default")["status"]
    world.wait(5)
    world.reconcile("Workspace", "default")
    world.end_job(JOB, WORKS)
    assert timedelta(hours=1) <= again(world)
    assert world.condition("Workspace", "default", "Ready") == ("True", "PreflightPassed")


@pytest.mark.parametrize("ended", ["no node", "interrupted", "a crash", "too late"])
def test_a_try_that_could_not_ask_says_nothing_and_is_repeated_after_a_while(ended: str) -> None:
    world = tried_again()
    status = world.get("Workspace", "default")["status"]
    if ended == "no node":
        no_node = {"type": "PodScheduled", "status": "False", "message": "none"}
        world.pod_of_job(JOB, conditions=[no_node])
        world.reconcile("Workspace", "default")
        assert world.get("Workspace", "default")["status"] == status
    said = {"interrupted": INTERRUPTED}.get(ended)
    world.end_job(JOB, said, reason="DeadlineExceeded" if ended in ("no node", "too late") else "")
    if ended in ("no node", "too late"):
        world.remove("Pod", f"{JOB}-x")
    former = job(world)
    assert again(world) == timedelta(minutes=10)
    world.wait(600)
    world.reconcile("Workspace", "default")
    assert job(world) != former
    assert world.get("Workspace", "default")["status"] == status


def test_a_pod_that_is_cleaned_up_after_it_answered_changes_nothing() -> None:
    world = with_store(World())
    before = again(world)
    world.remove("Pod", f"{JOB}-x")
    assert again(world) == before
    assert world.plan("Workspace", "default").writes == ()


def test_the_first_try_is_for_once_and_a_repeated_one_is_patient() -> None:
    world = with_store(World())
    assert world.get("Job", JOB)["spec"]["backoffLimit"] == 0
    world = tried_again()
    assert world.get("Job", JOB)["spec"]["backoffLimit"] == 3
    assert world.get("Job", JOB)["spec"]["activeDeadlineSeconds"] == 600


def test_a_clock_that_was_set_back_delays_it_by_no_more_than_its_pause() -> None:
    world = with_store(World())
    before = again(world)
    world.wait(-86400)
    assert again(world) == before


def test_other_settings_are_tried_at_once_also_while_the_former_ones_are() -> None:
    world = tried_again()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    assert "s3://others" in str(world.get("Job", JOB))
    assert world.condition("Workspace", "default", "Ready") == ("False", "PreflightRunning")


def test_a_store_that_others_use_too_is_said_to_be_shared_all_the_time() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models", "collect": {"enabled": True}}})
    world.reconcile("Workspace", "default")
    world.end_job(JOB, WORKS)
    former = (again(world), job(world))
    world.wait(former[0].total_seconds())
    written = [w for w in world.plan("Workspace", "default").writes if isinstance(w, SetStatus)]
    world.reconcile("Workspace", "default")
    assert job(world) != former[1]
    assert written == []
    assert world.condition("Workspace", "default", "Collected") == ("False", "StoreShared")


def test_a_former_try_that_a_finalizer_keeps_is_deleted_once() -> None:
    world = with_store(World())
    world.wait(4500)
    world.objects["Job", JOB]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    plan = world.plan("Workspace", "default")
    assert (plan.writes, plan.requeue_after) == ((), None)
