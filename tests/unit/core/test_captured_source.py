"""A Dataset of what a ModelDeployment captured: what is asked of a Job, and when there is nothing to ask."""

from datetime import timedelta
from typing import Any

import pytest
from world import START, World, digest_of, with_store

from modelmill.core.dataset import CONTROLLER
from modelmill.core.resources import Key
from modelmill_contracts import report, task

CAPTURE = {"sample": "0.1"}


def deployment(world: World, capture: dict[str, str] | None = CAPTURE, **metadata: Any) -> str:
    spec = {"model": {"name": "triage"}, **({"capture": capture} if capture is not None else {})}
    made = world.put("ModelDeployment", "triage", spec=spec, metadata=metadata)
    return str(made["metadata"]["uid"])


def dataset(world: World, **more: Any) -> None:
    source = {"deployment": {"name": "triage", **more.pop("source", {})}}
    world.put("Dataset", "seen", spec={"source": source, **more})


def work(world: World) -> task.SnapshotTask:
    pod = world.get("Job", "seen-data")["spec"]["template"]["spec"]
    found = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(found, task.SnapshotTask)
    return found


def answer(world: World, letter: str = "a") -> None:
    result = report.SnapshotResult(digest_of(letter), digest_of(letter), 10, 2)
    world.end_job("seen-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", "seen")


def told(world: World) -> tuple[str, str]:
    world.reconcile("Dataset", "seen")
    return world.condition("Dataset", "seen", "Ready")[1], world.message("Dataset", "seen", "Ready")


@pytest.fixture
def world() -> World:
    return with_store(World())


def test_what_is_asked_is_in_the_own_store_and_ended_a_little_while_ago(world: World) -> None:
    uid = deployment(world)
    dataset(world)
    assert told(world)[0] == "SnapshotRunning"
    until = (world.now - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert work(world).captured == task.CapturedRows(uid, 720 * 3600, until)
    assert work(world).source == ""
    world.remove("Job", "seen-data")
    dataset(world, source={"labels": "Optional", "since": "24h30m", "target": "malignant"})
    world.reconcile("Dataset", "seen")
    assert work(world).captured == task.CapturedRows(uid, 88_200, until, labelled=False, target="malignant")


def test_it_depends_on_the_deployment(world: World) -> None:
    dataset(world)
    keys = CONTROLLER.depends(world.get("Dataset", "seen"))
    assert Key("ModelDeployment", "team-a", "metadata.name", "triage") in keys


def test_no_scheme_has_to_be_allowed(world: World) -> None:
    world.put("Workspace", "default", spec={**world.get("Workspace", "default")["spec"], "allow": {"sources": []}})
    world.reconcile("Workspace", "default")
    deployment(world)
    dataset(world)
    assert told(world)[0] == "SnapshotRunning"


def test_a_deployment_that_is_not_there_or_captures_nothing_is_waited_for(world: World) -> None:
    dataset(world)
    assert told(world) == (
        "ModelDeploymentNotFound",
        "there is no ModelDeployment triage in this namespace yet; create it",
    )
    assert world.condition("Dataset", "seen", "Reconciling")[0] == "True"
    deployment(world, None)
    reason, message = told(world)
    assert reason == "NotCaptured"
    assert message.startswith("ModelDeployment triage captures nothing; give it a spec.capture")
    assert world.condition("Dataset", "seen", "Stalled")[0] == "True"
    deployment(world)
    assert told(world)[0] == "SnapshotRunning"


def test_time_that_passes_is_no_other_declaration(world: World) -> None:
    deployment(world)
    dataset(world, refresh={"schedule": "0 * * * *"})
    world.reconcile("Dataset", "seen")
    asked = work(world)
    world.wait(1000)
    assert not world.reconcile("Dataset", "seen").writes  # the Job that is there does what is declared
    answer(world)
    assert told(world)[0] == "SnapshotTaken"
    world.wait(60)
    assert told(world)[0] == "SnapshotTaken"
    assert not world.has("Job", "seen-data") or work(world) == asked
    world.wait(3600)
    for _ in range(3):  # the Job before is deleted first
        world.reconcile("Dataset", "seen")
    again = work(world)
    assert again.captured is not None
    assert (
        again.captured.until == (world.now - timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ") > START.isoformat()
    )
    answer(world, "b")
    assert [version["version"] for version in world.get("Dataset", "seen")["status"]["history"]] == [
        digest_of("b"),
        digest_of("a"),
    ]


def test_a_deployment_that_was_made_anew_has_rows_of_its_own(world: World) -> None:
    deployment(world)
    dataset(world)
    world.reconcile("Dataset", "seen")
    answer(world)
    world.remove("ModelDeployment", "triage")
    # What was taken stays in the history, and is not what is declared.
    assert told(world)[0] == "ModelDeploymentNotFound"
    assert world.get("Dataset", "seen")["status"]["version"] == digest_of("a")
    uid = deployment(world)
    for _ in range(3):
        world.reconcile("Dataset", "seen")
    asked = work(world).captured
    assert asked is not None
    assert asked.of == uid


def test_rows_of_a_deployment_that_captures_no_more_are_not_what_is_declared(world: World) -> None:
    deployment(world)
    dataset(world)
    world.reconcile("Dataset", "seen")
    answer(world)
    deployment(world, None)
    assert told(world)[0] == "NotCaptured"
    assert world.get("Dataset", "seen")["status"]["version"] == digest_of("a")
