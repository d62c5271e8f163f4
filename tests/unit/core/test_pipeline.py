"""Pipeline: what starts a run, what stands against it, and that one cause is one run."""

from datetime import timedelta
from typing import Any

import pytest
from pipelines import (
    BY_DATA,
    CODE,
    DRIFT,
    NAME,
    NIGHTLY,
    STAGES,
    cancel,
    create,
    declared,
    ended,
    finished,
    going_on,
    later,
    looked,
    runs,
    says,
    status,
    trigger,
    with_deployment,
)
from world import World, digest_of, with_dataset, with_store

from modelmill.core.plan import Create


def edited(world: World, **spec: Any) -> None:
    world.put("Pipeline", NAME, spec={**world.get("Pipeline", NAME)["spec"], **spec})
    world.settle()


def new_version(world: World, letter: str) -> None:
    """The Dataset has this content from now on."""
    live = world.get("Dataset", "tumours")
    told = world.now.isoformat() + letter
    annotated = {**live["metadata"], "annotations": {"modelmill.dev/refresh": told}}
    world.store("Dataset", "tumours", {**live, "metadata": annotated})
    world.settle()
    looked(world, letter)


def drifts(world: World, status_: str = "True", type_: str = "DriftDetected") -> None:
    """The deployment says so now."""
    says(world, "ModelDeployment", "triage", {}, Ready=("True", "Serving"), **{type_: (status_, "Measured")})
    world.reconcile("Pipeline", NAME)


def watched(*triggers: dict[str, Any], **more: Any) -> World:
    return declared(*triggers, world=with_deployment(with_dataset(with_store(World()))), **more)


# Causes.


def test_each_time_of_the_schedule_starts_one_run() -> None:
    world = declared(NIGHTLY)
    assert runs(world) == []
    assert trigger(world, "nightly")["next"] == "2026-01-01T03:00:00Z"
    later(world, hours=3)
    (first,) = runs(world)
    assert first.startswith("triage-nightly-")
    assert world.get("PipelineRun", first)["spec"]["cause"]["key"] == "2026-01-01T03:00:00Z"
    cancel(world, first)
    later(world, hours=23)
    assert runs(world) == [first]
    later(world, hours=1)
    assert len(runs(world)) == 2


def test_of_the_times_that_went_by_only_the_last_is_made_up_for() -> None:
    world = declared(NIGHTLY)
    later(world, days=6)
    (run,) = runs(world)
    assert world.get("PipelineRun", run)["spec"]["cause"]["key"] == "2026-01-06T03:00:00Z"


def test_a_clock_that_is_set_back_brings_no_time_back_and_one_that_was_far_ahead_is_no_end() -> None:
    world = declared(NIGHTLY)
    later(world, hours=3)
    cancel(world, runs(world)[0])
    later(world, hours=-1)
    later(world, hours=1)
    assert len(runs(world)) == 1
    later(world, days=365)
    cancel(world, runs(world)[1])
    later(world, days=-360)
    assert len(runs(world)) == 2
    later(world, days=1)
    assert len(runs(world)) == 3


def test_a_schedule_that_is_edited_does_not_start_for_a_time_before_that() -> None:
    world = declared(NIGHTLY)
    later(world, hours=12)
    cancel(world, runs(world)[0])
    edited(world, triggers=[{"name": "nightly", "schedule": {"cron": "0 11 * * *", "timeZone": "Etc/UTC"}}])
    assert len(runs(world)) == 1
    later(world, hours=23)
    assert len(runs(world)) == 2


@pytest.mark.parametrize("before", [NIGHTLY, BY_DATA, DRIFT, CODE], ids=["schedule", "data", "condition", "stages"])
@pytest.mark.parametrize("after", [NIGHTLY, BY_DATA, DRIFT, CODE], ids=["schedule", "data", "condition", "stages"])
def test_a_trigger_that_becomes_another_one_begins_anew(before: dict[str, Any], after: dict[str, Any]) -> None:
    world = watched({**before, "name": "it"})
    later(world, hours=4)
    for run in runs(world):
        cancel(world, run)
    known = len(runs(world))
    edited(world, triggers=[{**after, "name": "it"}])
    new_stages = before is not CODE and after is CODE
    assert len(runs(world)) == known + new_stages
    assert trigger(world, "it")["runs"] == known + new_stages


def test_a_trigger_of_another_dataset_does_not_start_for_the_version_that_is_there() -> None:
    world = with_dataset(declared(BY_DATA), "others", "c")
    edited(world, triggers=[{**BY_DATA, "newVersionOf": {"datasetRef": {"name": "others"}}}])
    assert runs(world) == []


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "61 * * * *"])
def test_a_schedule_that_never_comes_is_said_and_the_other_triggers_go_on(cron: str) -> None:
    world = declared({"name": "never", "schedule": {"cron": cron, "timeZone": "Etc/UTC"}}, CODE)
    assert world.condition("Pipeline", NAME, "Ready") == ("False", "ScheduleInvalid")
    assert world.condition("Pipeline", NAME, "Stalled") == ("True", "ScheduleInvalid")
    assert len(runs(world)) == 1


def test_a_schedule_that_always_comes_is_bounded_by_the_runs_of_a_day() -> None:
    always = {"name": "always", "schedule": {"cron": "* * * * *", "timeZone": "Etc/UTC"}}
    world = declared(always, maxRunsPerDay=3)
    for _ in range(60):
        later(world, minutes=1)
        for run in going_on(world):
            cancel(world, run)
    assert len(runs(world)) == 3
    assert "spec.maxRunsPerDay, 3, is used up until 2026-01-02T00:01:00Z" in trigger(world, "always")["message"]
    later(world, hours=23, minutes=1)
    assert len(runs(world)) == 4


def test_a_new_version_starts_a_run_and_the_one_that_was_there_does_not() -> None:
    world = declared(BY_DATA)
    assert runs(world) == []
    new_version(world, "b")
    (run,) = runs(world)
    assert world.get("PipelineRun", run)["spec"]["cause"]["message"] == "a new version of Dataset tumours"


def test_a_version_that_a_run_found_itself_starts_no_other() -> None:
    world = declared(BY_DATA, world=with_deployment(with_dataset(with_store(World()))))
    create(world, "by-hand")
    finished(world, "by-hand", "b")
    assert runs(world) == ["by-hand"]
    assert trigger(world, "data")["handled"] == digest_of("b")
    assert trigger(world, "data")["message"] == "run by-hand found it itself"


@pytest.mark.parametrize("policy", ["Forbid", "Queue", "Replace"])
def test_a_circle_of_triggers_settles(policy: str) -> None:
    # Each look finds other data, which would start another run that looks again.
    world = declared(BY_DATA, concurrencyPolicy=policy)
    new_version(world, "b")
    for letter in "cdef":
        if going_on(world):
            looked(world, letter)
            cancel(world, going_on(world)[0])
    assert len(runs(world)) == 1


def test_a_version_that_comes_back_is_a_cause_again() -> None:
    world = declared(BY_DATA)
    for letter in "baba":
        new_version(world, letter)
        for run in going_on(world):
            cancel(world, run)
        later(world, minutes=1)
    assert len(runs(world)) == 4


def test_a_condition_that_becomes_true_starts_one_run() -> None:
    world = watched(DRIFT)
    drifts(world, "False")
    assert runs(world) == []
    drifts(world)
    (run,) = runs(world)
    assert world.get("PipelineRun", run)["spec"]["cause"] == {
        "trigger": "drift",
        "key": "DriftDetected@2026-01-01T00:00:00Z",
        "message": "DriftDetected of ModelDeployment triage",
    }
    cancel(world, run)
    later(world, hours=1)
    assert runs(world) == [run]
    drifts(world, "False")
    drifts(world)
    assert len(runs(world)) == 2


def test_a_condition_that_the_deployment_does_not_have_is_told() -> None:
    """Nobody declared drift there, so that the trigger would be silent for ever."""
    world = watched(DRIFT)
    assert trigger(world, "drift")["message"] == (
        "ModelDeployment triage has no condition DriftDetected: is it spelt so, and does its spec.monitoring declare"
        " it?"
    )
    assert world.condition("Pipeline", NAME, "Ready") == ("True", "WaitingForCause")
    drifts(world, "False")
    assert trigger(world, "drift")["message"] == ""
    drifts(world)
    assert trigger(world, "drift")["message"].endswith("started for it")


def test_each_of_several_conditions_is_a_cause() -> None:
    both = {"name": "drift", "onCondition": {**DRIFT["onCondition"], "types": ["DriftDetected", "QualityDropped"]}}
    world = watched(both)
    drifts(world)
    world.settle()
    cancel(world, runs(world)[0])
    world.wait(60)
    drifts(world, type_="QualityDropped")
    assert len(runs(world)) == 2
    world.settle()
    cancel(world, runs(world)[1])
    assert trigger(world, "drift")["handled"] == (
        "DriftDetected@2026-01-01T00:00:00Z QualityDropped@2026-01-01T00:01:00Z"
    )


def test_other_stages_start_a_run_and_other_settings_do_not() -> None:
    world = declared(CODE)
    cancel(world, runs(world)[0])
    edited(world, cooldown="1s", maxRunsPerDay=7)
    assert len(runs(world)) == 1
    later(world, minutes=1)
    edited(world, stages=STAGES[:2])
    assert len(runs(world)) == 2
    assert len(status(world, runs(world)[1])["stages"]) == 2


def test_a_field_that_a_newer_api_completes_starts_no_run() -> None:
    world = declared(CODE)
    cancel(world, runs(world)[0])
    completed = [{**STAGES[0]}, {**STAGES[1], "trainingJob": {"spec": {**STAGES[1]["trainingJob"]["spec"], "seed": 0}}}]
    edited(world, stages=[*completed, *STAGES[2:]])
    assert len(runs(world)) == 1


def test_what_a_trigger_refers_to_may_come_later() -> None:
    world = declared(BY_DATA, DRIFT, world=World())
    assert world.condition("Pipeline", NAME, "Ready") == ("False", "DatasetNotFound")
    assert world.condition("Pipeline", NAME, "Stalled")[0] == "False"
    with_dataset(with_store(world), version="b")
    world.settle()
    assert len(runs(world)) == 1
    with_deployment(world)
    assert world.condition("Pipeline", NAME, "Ready")[0] == "True"


def test_the_commit_that_the_pipeline_is_of_is_that_of_its_runs() -> None:
    world = declared(NIGHTLY)
    live = world.get("Pipeline", NAME)
    annotated = {**live["metadata"], "annotations": {"modelmill.dev/git-commit": "main@sha1:4f00aa11"}}
    world.store("Pipeline", NAME, {**live, "metadata": annotated})
    later(world, hours=3)
    looked(world, "b")
    job = world.get("TrainingJob", status(world, runs(world)[0])["stages"][1]["made"]["name"])
    assert job["metadata"]["annotations"]["modelmill.dev/git-commit"] == "main@sha1:4f00aa11"


# What stands against a run.


def test_forbid_skips_what_comes_while_a_run_goes_on() -> None:
    world = watched(DRIFT)
    create(world, "by-hand")
    drifts(world)
    assert "skipped: run by-hand was going on" in trigger(world, "drift")["message"]
    create(world, "another")
    assert ended(world, "another") == "Failed ConcurrencyForbidden"
    cancel(world, "by-hand")
    later(world, hours=1)
    assert runs(world) == ["by-hand", "another"]


def test_queue_lets_what_comes_meanwhile_wait() -> None:
    world = watched(DRIFT, concurrencyPolicy="Queue")
    create(world, "by-hand")
    create(world, "another")
    assert world.condition("PipelineRun", "another", "Succeeded") == ("Unknown", "Queued")
    assert world.condition("PipelineRun", "another", "Reconciling") == ("False", "Queued")
    drifts(world)
    assert trigger(world, "drift")["message"] == "it waits until run by-hand has ended"
    cancel(world, "by-hand")
    assert going_on(world) == ["another"]
    # It began after the drift, and deals with it.
    assert "pending" not in trigger(world, "drift")
    assert runs(world) == ["by-hand", "another"]


def test_a_cause_that_is_no_longer_so_starts_nothing() -> None:
    world = watched(DRIFT, concurrencyPolicy="Queue")
    create(world, "by-hand")
    drifts(world)
    drifts(world, "False")
    cancel(world, "by-hand")
    assert runs(world) == ["by-hand"]


def test_replace_cancels_the_run_that_goes_on() -> None:
    world = watched(DRIFT, concurrencyPolicy="Replace")
    create(world, "by-hand")
    looked(world, "b")
    drifts(world)
    world.settle()
    assert ended(world, "by-hand") == "Failed Replaced"
    assert not world.has("TrainingJob", "by-hand-train")
    assert going_on(world) == [runs(world)[1]]


def test_triggers_wait_after_a_run_and_who_creates_one_does_not() -> None:
    world = watched(DRIFT, cooldown="1h")
    create(world, "by-hand")
    cancel(world, "by-hand")
    drifts(world)
    assert trigger(world, "drift")["message"] == "it waits until 2026-01-01T01:00:00Z (spec.cooldown, 1h)"
    assert trigger(world, "drift")["pending"].startswith("DriftDetected@")
    world.wait(59 * 60)
    assert world.reconcile("Pipeline", NAME).requeue_after == timedelta(minutes=1)
    assert runs(world) == ["by-hand"]
    world.wait(60)
    world.reconcile("Pipeline", NAME)
    assert len(runs(world)) == 2


def test_who_creates_a_run_waits_for_the_budget_as_well() -> None:
    world = declared(maxRunsPerDay=1)
    create(world, "first")
    cancel(world, "first")
    later(world, hours=1)
    create(world, "second")
    assert world.condition("PipelineRun", "second", "Succeeded") == ("Unknown", "Queued")
    later(world, hours=22)
    assert going_on(world) == []
    later(world, hours=1)
    assert going_on(world) == ["second"]
    assert world.get("Pipeline", NAME)["status"]["runsToday"] == 1


def test_a_suspended_pipeline_starts_nothing_by_itself() -> None:
    world = declared(NIGHTLY, suspend=True)
    later(world, hours=4)
    assert runs(world) == []
    assert world.condition("Pipeline", NAME, "Ready") == ("True", "Suspended")
    create(world, "by-hand")
    assert going_on(world) == ["by-hand"]


# One cause, one run.


def test_a_crash_after_the_run_was_made_makes_no_second_one() -> None:
    world = watched(DRIFT)
    says(world, "ModelDeployment", "triage", {}, Ready=("True", "Serving"), DriftDetected=("True", "Measured"))
    plan = world.plan("Pipeline", NAME)
    created = [write for write in plan.writes if isinstance(write, Create)]
    world.carry_out("Pipeline", NAME, created[0])  # and there it ends: the next one finds this
    world.settle()
    assert len(runs(world)) == 1
    looked(world, "b")
    cancel(world, runs(world)[0])
    later(world, hours=1)
    assert len(runs(world)) == 1


def test_a_run_that_was_made_for_a_cause_and_deleted_is_not_made_again() -> None:
    world = watched(DRIFT)
    drifts(world)
    world.settle()
    world.remove("PipelineRun", runs(world)[0])
    later(world, hours=1)
    assert runs(world) == []


def test_causes_that_come_together_are_one_run() -> None:
    world = watched(NIGHTLY, DRIFT, BY_DATA)
    world.wait(3 * 3600)
    drifts(world)
    world.settle()
    (run,) = runs(world)
    assert "triage-nightly-" in run
    assert trigger(world, "drift")["message"] == f"run {run}, which started anyway, deals with it"
    cancel(world, run)
    later(world, hours=1)
    assert runs(world) == [run]


def test_a_pipeline_of_the_same_name_lets_what_goes_on_come_to_its_end_first() -> None:
    world = declared()
    create(world, "by-hand")
    spec = world.get("Pipeline", NAME)["spec"]
    world.remove("Pipeline", NAME)
    world.put("Pipeline", NAME, spec={**spec, "concurrencyPolicy": "Queue"})
    world.settle()
    create(world, "another")
    assert going_on(world) == ["by-hand"]
    looked(world, "b")
    assert world.has("TrainingJob", "by-hand-train")
    cancel(world, "by-hand")
    assert going_on(world) == ["another"]


# What is kept.


def test_the_newest_runs_are_kept_and_those_of_people_are_theirs() -> None:
    world = declared(CODE, runHistoryLimit={"succeeded": 5, "failed": 2})
    create(world, "by-hand")
    for number in range(1, 6):
        for run in going_on(world):
            cancel(world, run)
        later(world, minutes=1)
        edited(world, stages=[{**STAGES[0], "timeout": f"{number}h"}])
    made = [run for run in runs(world) if run != "by-hand"]
    assert len([run for run in made if ended(world, run)]) == 2
    assert world.has("PipelineRun", "by-hand")


def test_a_run_that_is_to_be_retried_stays() -> None:
    world = declared(CODE, runHistoryLimit={"succeeded": 0, "failed": 0}, maxRunsPerDay=1)
    failed = runs(world)[0]
    world.put(
        "PipelineRun", "retry", spec={"pipelineRef": {"name": NAME}, "retryOf": {"name": failed}, "cancel": False}
    )
    cancel(world, failed)
    assert runs(world) == [failed, "retry"]
    later(world, hours=24)
    assert going_on(world) == ["retry"]
    assert failed not in runs(world)


def test_the_status_is_read_as_it_was_written() -> None:
    world = watched(NIGHTLY, DRIFT, CODE)
    assert world.plan("Pipeline", NAME).writes == ()
