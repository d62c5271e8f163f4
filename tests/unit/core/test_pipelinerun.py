"""PipelineRun: what a run does, stage by stage, and how it ends."""

import json
from typing import Any

import pytest
from pipelines import (
    NAME,
    STAGES,
    cancel,
    create,
    declared,
    ended,
    finished,
    later,
    looked,
    made,
    refused,
    rolled_out,
    says,
    stage,
    states,
    status,
    trained,
    verified,
    with_deployment,
)
from world import World, digest_of, with_approval, with_dataset, with_store, with_version


def begun(world: World | None = None, **more: Any) -> World:
    """A run that somebody created, at its first stage."""
    world = declared(world=world, **more)
    create(world, "by-hand")
    return world


def at_release(world: World | None = None) -> World:
    """The run waits for its version to serve."""
    world = begun(world)
    looked(world, "b")
    trained(world, "by-hand")
    verified(world, "triage-1")
    return world


def test_each_stage_goes_on_with_what_the_one_before_it_gave() -> None:
    world = begun(with_deployment(with_dataset(with_store(World()))))
    assert states(world, "by-hand") == "data:Running train:Pending gate:Pending release:Pending"
    world.wait(5)
    looked(world, "b")
    job = world.get("TrainingJob", "by-hand-train")
    assert job["spec"]["data"]["version"] == digest_of("b")
    assert job["metadata"]["ownerReferences"][0]["name"] == "by-hand"
    assert stage(world, "by-hand", "data")["message"] == "569 rows, a new version"
    trained(world, "by-hand")
    assert states(world, "by-hand") == "data:Succeeded train:Succeeded gate:Running release:Pending"
    verified(world, "triage-1")
    rolled_out(world)
    assert ended(world, "by-hand") == "Succeeded RunSucceeded"
    assert status(world, "by-hand")["summary"] == ("data bbbbbbbb > train triage-1 > gate triage-1 > release triage-1")
    assert status(world, "by-hand")["modelVersion"] == "triage-1"
    assert "ownerReferences" not in world.get("ModelVersion", "triage-1")["metadata"]


def test_data_that_did_not_change_is_said_to_be_unchanged() -> None:
    world = declared()
    later(world, minutes=5)
    create(world, "by-hand")
    looked(world, "a")
    assert stage(world, "by-hand", "data")["message"] == "569 rows, unchanged since 2026-01-01T00:00:00Z"
    assert stage(world, "by-hand", "data")["output"] == digest_of("a")


def test_data_that_breaks_a_rule_fails_the_run() -> None:
    world = begun()
    refused(world)
    assert ended(world, "by-hand") == "Failed DataInvalid"
    assert states(world, "by-hand") == "data:Failed train:Skipped gate:Skipped release:Skipped"


def test_each_run_has_the_source_read_anew_and_once() -> None:
    world = begun()
    job = world.get("Job", "tumours-data")["metadata"]["uid"]
    looked(world, "b")
    assert world.get("Job", "tumours-data")["metadata"]["uid"] == job
    assert world.get("Dataset", "tumours")["status"].get("handledRuns") is None
    cancel(world, "by-hand")
    create(world, "again")
    assert world.get("Job", "tumours-data")["metadata"]["uid"] != job


def test_a_look_that_began_before_it_was_asked_for_does_not_count() -> None:
    world = declared()
    live = world.get("Dataset", "tumours")
    annotated = {**live["metadata"], "annotations": {"modelmill.dev/refresh": "1"}}
    world.store("Dataset", "tumours", {**live, "metadata": annotated})
    world.settle()
    create(world, "by-hand")
    looked(world, "b")
    assert states(world, "by-hand").startswith("data:Running")
    looked(world, "c")
    assert stage(world, "by-hand", "data")["output"] == digest_of("c")


def test_edits_of_the_pipeline_do_not_change_a_run_and_its_deletion_does_not_end_it() -> None:
    world = begun()
    other = [{**STAGES[0]}, {"name": "other", "timeout": "1h", "trainingJob": STAGES[1]["trainingJob"]}]
    live = world.get("Pipeline", NAME)
    world.put("Pipeline", NAME, spec={**live["spec"], "stages": other})
    world.settle()
    assert [s["name"] for s in json.loads(status(world, "by-hand")["pipeline"]["stages"])] == [
        "data",
        "train",
        "gate",
        "release",
    ]
    world.remove("Pipeline", NAME)
    looked(world, "b")
    assert world.has("TrainingJob", "by-hand-train")


def test_a_recipe_that_is_known_ends_the_run() -> None:
    world = with_deployment(with_dataset(with_store(World())))
    world = begun(world)
    finished(world, "by-hand", "b")
    create(world, "again")
    looked(world, "b")
    trained(world, "again", "b")
    assert ended(world, "again") == "Succeeded RecipeKnown"
    assert states(world, "again") == "data:Succeeded train:Succeeded gate:Skipped release:Skipped"
    assert "ModelVersion triage-1 is of this very recipe" in world.message("PipelineRun", "again", "Succeeded")


def test_a_training_that_fails_fails_the_run() -> None:
    world = begun()
    looked(world, "b")
    says(world, "TrainingJob", "by-hand-train", {}, Failed=("True", "TargetMissing"))
    world.settle()
    assert ended(world, "by-hand") == "Failed TargetMissing"


def test_what_somebody_deleted_is_not_made_again() -> None:
    world = begun()
    looked(world, "b")
    world.remove("TrainingJob", "by-hand-train")
    world.settle()
    assert ended(world, "by-hand") == "Failed StageObjectDeleted"


def test_somebody_elses_object_of_that_name_is_left_alone() -> None:
    world = begun()
    world.put("TrainingJob", "by-hand-train", spec=STAGES[1]["trainingJob"]["spec"])
    looked(world, "b")
    assert ended(world, "by-hand") == "Failed NameConflict"


def test_a_manual_gate_waits_for_an_approval_whatever_the_model_asks_for() -> None:
    stages = [*STAGES[:2], {"name": "gate", "timeout": "24h", "approve": "Manual"}]
    world = begun(stages=stages)
    looked(world, "b")
    trained(world, "by-hand")
    verified(world, "triage-1")
    assert "waits for a ModelApproval" in stage(world, "by-hand", "gate")["message"]
    with_approval(world, "triage-1", "1")
    world.settle()
    assert ended(world, "by-hand") == "Succeeded RunSucceeded"
    assert stage(world, "by-hand", "gate")["message"] == "ana approved it"


@pytest.mark.parametrize("how", ["Automatic", "Manual"])
def test_a_rejection_fails_the_run(how: str) -> None:
    stages = [*STAGES[:2], {"name": "gate", "timeout": "24h", "approve": how}]
    world = begun(stages=stages)
    looked(world, "b")
    trained(world, "by-hand")
    with_approval(world, "triage-1", "1", decision="Reject")
    world.settle()
    assert ended(world, "by-hand") == "Failed Rejected"


def test_a_version_that_fails_its_tests_fails_the_run() -> None:
    world = begun()
    looked(world, "b")
    trained(world, "by-hand")
    says(world, "ModelVersion", "triage-1", {}, Ready=("False", "TestFailed"), Tested=("False", "TestFailed"))
    world.reconcile("PipelineRun", "by-hand")
    assert ended(world, "by-hand") == "Failed TestFailed"


def test_a_rollback_fails_the_run() -> None:
    world = at_release(with_deployment(with_dataset(with_store(World()))))
    back = {
        "revision": "90ab11c2",
        "version": 1,
        "reason": "ErrorRate",
        "message": "it fails",
        "at": "2026-01-01T00:00:00Z",
    }
    says(world, "ModelDeployment", "triage", {"rolledBack": {**back, "spec": "a"}}, Ready=("True", "Serving"))
    world.reconcile("PipelineRun", "by-hand")
    assert ended(world, "by-hand") == "Failed RolledBack"
    assert "it fails" in world.message("PipelineRun", "by-hand", "Failed")


def test_what_was_rolled_back_by_an_older_spec_fails_no_run() -> None:
    """Its owner mends the spec, and starts the run again at once."""
    world = at_release(with_deployment(with_dataset(with_store(World()))))
    back = {"revision": "90ab11c2", "version": 1, "reason": "ErrorRate", "at": "2026-01-01T00:00:00Z", "spec": "a"}
    says(world, "ModelDeployment", "triage", {"rolledBack": back}, Ready=("False", "RolledBack"))
    world.put("ModelDeployment", "triage", spec={**world.get("ModelDeployment", "triage")["spec"], "replicas": 1})
    world.reconcile("PipelineRun", "by-hand")
    assert ended(world, "by-hand") == ""
    assert stage(world, "by-hand", "release")["message"] == "ModelDeployment triage has not read its spec yet"
    rolled_out(world)
    assert ended(world, "by-hand") == "Succeeded RunSucceeded"


def test_a_rollout_shows_how_far_it_is() -> None:
    world = at_release(with_deployment(with_dataset(with_store(World()))))
    candidate = {"revision": "90ab11c2", "version": 1, "step": 2, "steps": 3, "weight": 25, "message": "evidence"}
    says(world, "ModelDeployment", "triage", {"candidate": candidate}, Ready=("False", "RollingOut"))
    world.reconcile("PipelineRun", "by-hand")
    assert stage(world, "by-hand", "release")["progress"] == 25
    assert "step 2 of 3, weight 25 %: evidence" in stage(world, "by-hand", "release")["message"]
    assert status(world, "by-hand")["summary"].endswith("release 25%")


@pytest.mark.parametrize(
    ("model", "reason"),
    [({"version": 7}, "Failed VersionPinned"), ({"name": "other"}, "Failed OtherModel"), ({"version": 1}, "")],
)
def test_what_a_deployment_serves_is_its_owners_to_say(model: dict[str, Any], reason: str) -> None:
    world = at_release(with_deployment(with_dataset(with_store(World())), **model))
    assert ended(world, "by-hand") == reason


def test_a_newer_version_that_serves_ends_the_rollout() -> None:
    world = at_release(with_deployment(with_dataset(with_store(World()))))
    with_version(world, 2)
    rolled_out(world)
    assert ended(world, "by-hand") == "Succeeded RunSucceeded"
    assert stage(world, "by-hand", "release")["message"] == "version 2, which is newer, serves"


def test_an_absent_object_is_waited_for_and_not_for_ever() -> None:
    world = at_release()
    assert "there is no ModelDeployment triage" in stage(world, "by-hand", "release")["message"]
    later(world, hours=24)
    assert ended(world, "by-hand") == "Failed StageTimedOut"


def test_a_stage_that_takes_too_long_is_stopped() -> None:
    world = begun()
    looked(world, "b")
    assert world.has("TrainingJob", "by-hand-train")
    later(world, hours=2)
    assert ended(world, "by-hand") == "Failed StageTimedOut"
    assert not world.has("TrainingJob", "by-hand-train")


def test_a_run_that_is_cancelled_stops_what_it_has_under_way() -> None:
    world = begun()
    looked(world, "b")
    cancel(world, "by-hand")
    assert ended(world, "by-hand") == "Failed Cancelled"
    assert not world.has("TrainingJob", "by-hand-train")


def test_a_run_that_is_deleted_takes_what_it_made_along_and_makes_room() -> None:
    world = begun()
    looked(world, "b")
    world.remove("PipelineRun", "by-hand")
    create(world, "next")
    assert not world.has("TrainingJob", "by-hand-train")
    assert world.get("Pipeline", NAME)["status"]["lastRun"]["result"] == "Deleted"
    assert world.get("Pipeline", NAME)["status"]["active"]["name"] == "next"


def test_a_run_of_an_absent_pipeline_waits_a_while() -> None:
    world = World()
    create(world, "by-hand")
    assert world.condition("PipelineRun", "by-hand", "Reconciling") == ("True", "PipelineNotFound")
    later(world, minutes=10)
    assert ended(world, "by-hand") == "Failed PipelineNotFound"


def test_a_retry_starts_at_the_stage_that_failed() -> None:
    world = begun()
    looked(world, "b")
    says(world, "TrainingJob", "by-hand-train", {}, Failed=("True", "OutOfMemory"))
    world.settle()
    create(world, "retry", retryOf={"name": "by-hand"})
    assert states(world, "retry") == "data:Succeeded train:Running gate:Pending release:Pending"
    assert stage(world, "retry", "data")["takenFrom"] == "by-hand"
    assert world.get("TrainingJob", "retry-train")["spec"]["data"]["version"] == digest_of("b")
    cancel(world, "retry")
    create(world, "third", retryOf={"name": "retry"})
    assert stage(world, "third", "data")["takenFrom"] == "by-hand"


def test_a_retry_does_what_was_declared_then() -> None:
    world = begun()
    cancel(world, "by-hand")
    live = world.get("Pipeline", NAME)
    world.put("Pipeline", NAME, spec={**live["spec"], "stages": STAGES[:2]})
    create(world, "retry", retryOf={"name": "by-hand"})
    assert len(status(world, "retry")["stages"]) == 4


def test_a_retry_goes_on_with_a_version_that_is_known() -> None:
    world = begun()
    looked(world, "b")
    cancel(world, "by-hand")
    with_version(world, 1)
    create(world, "retry", retryOf={"name": "by-hand"})
    trained(world, "retry", "1")
    version = world.get("TrainingJob", "retry-train")["status"]["modelVersion"]
    says(world, "TrainingJob", "retry-train", {"modelVersion": version}, Succeeded=("True", "VersionExists"))
    world.settle()
    assert ended(world, "retry") != "Succeeded RecipeKnown"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (None, "Failed RetriedRunNotFound"),
        ("other", "Failed RetriedRunOfOther"),
        ("goes on", "Failed RetriedRunNotFailed"),
        ("succeeded", "Failed RetriedRunNotFailed"),
    ],
)
def test_only_what_failed_can_be_retried(before: str | None, reason: str) -> None:
    world = declared()
    if before is not None:
        pipeline = "other" if before == "other" else NAME
        world.put("PipelineRun", "first", spec={"pipelineRef": {"name": pipeline}, "cancel": False})
    if before == "succeeded":
        says(world, "PipelineRun", "first", {}, Succeeded=("True", "RunSucceeded"))
    create(world, "retry", retryOf={"name": "first"})
    assert ended(world, "retry") == reason


def test_stages_that_lack_what_they_need_are_refused() -> None:
    world = declared(stages=[STAGES[0], STAGES[2]])
    assert world.condition("Pipeline", NAME, "Ready") == ("False", "StagesInvalid")
    create(world, "by-hand")
    assert ended(world, "by-hand") == "Failed StagesInvalid"


def test_a_long_name_still_has_a_child_of_its_own() -> None:
    world = declared()
    for letter in "ab":
        create(world, f"triage-a-trigger-with-a-long-name-0{letter}", cause={"trigger": "ci"})
        looked(world, "b")
        name = f"triage-a-trigger-with-a-long-name-0{letter}"
        assert len(made(world, name)) <= 40
        cancel(world, name)
