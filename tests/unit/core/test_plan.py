"""Status, conditions and Events: written only where something is new, and told once."""

from datetime import timedelta
from typing import Any

import pytest
from world import START, World, training_spec, with_dataset, with_store, with_version

from modelmill.core import conditions
from modelmill.core.conditions import Condition
from modelmill.core.plan import Apply, Create, Delete, Observed, Outcome, Record, SetStatus, Settings, finish
from modelmill.core.resources import Key
from modelmill_contracts import report

REFUSED = report.Report(False, "StoreRefused", "check the Secret")


def test_a_condition_keeps_its_time_as_long_as_its_status_stays() -> None:
    world = with_store(World())
    world.wait(60)
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    found = {c["type"]: c for c in world.get("Workspace", "default")["status"]["conditions"]}
    assert found["Ready"]["lastTransitionTime"] == "2026-01-01T00:01:00Z"
    assert found["Stalled"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert found["Ready"]["observedGeneration"] == found["Stalled"]["observedGeneration"] == 2
    assert found["Stalled"]["reason"] == "PreflightRunning"


def test_a_long_message_is_cut_to_what_the_schema_allows() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(False, "StoreRefused", "x" * 2000))
    world.reconcile("Workspace", "default")
    assert world.message("Workspace", "default", "Ready") == "x" * 1024


def test_what_is_on_its_way_is_no_event_and_what_is_reached_is_one() -> None:
    world = with_store(World())
    assert world.events == [Record("Normal", "PreflightPassed", "store s3://models works")]


def test_a_failure_is_one_event_and_another_failure_is_another() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    again = report.Report(False, "StoreRefused", "check the Secret, please")
    for said in (REFUSED, REFUSED, again, report.Report(False, "BucketNotFound", "create it")):
        world.reconcile("Workspace", "default")
        world.end_job("default-preflight", said)
        world.reconcile("Workspace", "default")
        world.wait(60)
    assert world.events == [
        Record("Warning", "StoreRefused", "check the Secret (tried again within 10 min)"),
        Record("Warning", "BucketNotFound", "create it (tried again within 10 min)"),
    ]


def test_what_works_when_it_is_seen_first_is_an_event_too() -> None:
    world = with_store(World())
    del world.objects["Workspace", "default"]["status"]
    world.events.clear()
    world.reconcile("Workspace", "default")
    assert world.events == [Record("Normal", "PreflightPassed", "store s3://models works")]


def test_what_worked_and_does_not_any_more_is_an_event() -> None:
    world = with_store(World())
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    assert world.events[-1] == Record("Normal", "PreflightRunning", "the store is being tried")


def test_a_plan_for_what_is_told_already_is_empty() -> None:
    world = with_store(World())
    before = world.get("Workspace", "default")
    world.wait(3600)
    assert world.plan("Workspace", "default").writes == ()
    assert world.get("Workspace", "default") == before


def test_another_generation_alone_is_written_to_the_status() -> None:
    world = with_store(World())
    world.put("Workspace", "default", spec=world.get("Workspace", "default")["spec"])
    (write,) = world.plan("Workspace", "default").writes
    assert isinstance(write, SetStatus)
    assert write.status["observedGeneration"] == 2


def test_a_child_that_the_api_server_refuses_is_told_in_full_and_tried_again_in_a_minute() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.refused["Job", "another"] = "not wanted any more"
    world.refused["Job", "default-preflight"] = "exceeded quota: small"
    plan = world.reconcile("Workspace", "default")
    said = "ChildRefused: Job default-preflight is refused: exceeded quota: small"
    assert world.told("Workspace", "default") == [
        f"Ready False {said}",
        "PreflightPassed Unknown PreflightRunning: the store is being tried",
        "Collected Unknown NotAsked: spec.store.collect.enabled is false: nothing is deleted",
        "Mirrored Unknown NotAsked: spec.tracking is not declared: runs are objects here",
        "Reconciling False ChildRefused",
        f"Stalled True {said}",
    ]
    assert plan.requeue_after == timedelta(minutes=1)
    assert any(isinstance(write, Create) for write in plan.writes)  # it is tried again
    assert world.events == [Record("Warning", "ChildRefused", said.removeprefix("ChildRefused: "))]


def test_a_run_whose_job_is_refused_has_not_failed_for_good() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.refused["Job", "lr-train"] = "exceeded quota: small"
    world.reconcile("TrainingJob", "lr")
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "ChildRefused")
    assert world.condition("TrainingJob", "lr", "Stalled") == ("True", "ChildRefused")


def test_a_scale_that_the_api_server_refuses_is_told() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.reconcile("ModelDeployment", "triage")
    (name,) = world.deployments()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.refused["Deployment", name] = "denied"
    (*_, status, _) = world.plan("ModelDeployment", "triage").writes
    assert isinstance(status, SetStatus)
    assert status.status["conditions"][0]["message"] == f"Deployment {name} is refused: denied"


def test_a_deletion_that_the_api_server_refuses_is_said_and_tried_again_in_a_minute() -> None:
    world = with_store(World())
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.refused["Job", "default-preflight"] = "the operator may not delete it"
    plan = world.plan("Workspace", "default")
    assert any(isinstance(write, Delete) for write in plan.writes)
    (status,) = [write.status for write in plan.writes if isinstance(write, SetStatus)]
    said = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
    why = "the deletion of Job default-preflight is refused: the operator may not delete it"
    assert said["Ready"] == ("False", "ChildRefused", why)
    assert said["Stalled"] == ("True", "ChildRefused", why)
    assert plan.requeue_after == timedelta(minutes=1)


def test_a_training_that_ended_stays_so_where_what_it_left_may_not_be_deleted() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={}))
    world.reconcile("TrainingJob", "lr")
    end = {"type": "Succeeded", "status": "True", "reason": "TrainingSucceeded", "message": "ModelVersion triage-1"}
    since = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    ended = {**world.get("TrainingJob", "lr"), "status": {"conditions": [end | since], "modelVersion": "triage-1"}}
    world.store("TrainingJob", "lr", ended)
    left = world.get("Job", "lr-train")
    world.store("Job", "lr-again", {**left, "metadata": {**left["metadata"], "name": "lr-again", "uid": "again"}})
    assert world.deletes("TrainingJob", "lr") == [("Job", "lr-again", "again")]
    world.refused["Job", "lr-again"] = "the operator may not delete it"
    plan = world.plan("TrainingJob", "lr")
    said = next(w.status["conditions"] for w in plan.writes if isinstance(w, SetStatus))
    assert [c["status"] for c in said if c["type"] == "Succeeded"] == ["True"]
    assert plan.requeue_after == timedelta(minutes=1)


def test_a_model_says_that_a_version_may_not_be_deleted() -> None:
    world = World()
    world.put("Model", "triage", spec={})
    world.refused["ModelVersion", "triage-1"] = "the operator may not delete it"
    said = (
        Condition("Ready", "True", "Numbering"),
        Condition("Reconciling", "False", "Numbering"),
        Condition("Stalled", "False", "Numbering"),
    )
    outcome = Outcome({}, said, headline=(), writes=(Delete("ModelVersion", "triage-1", "v"),))
    _, status, *_ = finish(world.observed("Model", "triage"), world.now, outcome).writes
    assert isinstance(status, SetStatus)
    assert [(c["type"], c["status"], c["reason"]) for c in status.status["conditions"]] == [
        ("Ready", "False", "ChildRefused"),
        ("Reconciling", "False", "ChildRefused"),
        ("Stalled", "True", "ChildRefused"),
    ]


def manifest(status: str, **generations: int) -> dict[str, Any]:
    condition = {"type": "Ready", "status": status}
    if "observed" in generations:
        condition["observedGeneration"] = generations["observed"]  # type: ignore[assignment]
    metadata = {"generation": generations["now"]} if "now" in generations else {}
    return {"metadata": metadata, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("said", "true"),
    [
        (manifest("True", observed=2, now=2), True),
        (manifest("True", observed=1, now=2), False),
        (manifest("False", observed=2, now=2), False),
        (manifest("True"), True),
        (manifest("True", now=1), False),
        (manifest("True", observed=1), False),
        ({"metadata": {}}, False),
        ({"metadata": {}, "status": {}}, False),
    ],
)
def test_a_condition_counts_for_the_present_generation_only(said: dict[str, Any], true: bool) -> None:
    assert conditions.is_true(said, "Ready") is true
    assert not conditions.is_true(said, "Stalled")


def test_a_condition_has_no_message_unless_it_says_something() -> None:
    for make, status in ((conditions.true, "True"), (conditions.false, "False"), (conditions.unknown, "Unknown")):
        assert make("Ready", "Why") == Condition("Ready", status, "Why", "")


def test_an_object_is_found_in_its_own_namespace() -> None:
    mine = {"metadata": {"name": "a", "namespace": "team-a", "uid": "1", "resourceVersion": "7"}}
    child = {"metadata": {"name": "x", "resourceVersion": "9"}}
    related = {Key("Job", "team-a", "metadata.name", "x"): (child,), Key("Pod", "team-a", "l", "x"): ()}
    observed = Observed(mine, related, Settings("t", "s"))
    assert observed.get("Job", "x") == child
    assert observed.get("Job", "y") is None
    assert observed.get("Pod", "x") is None
    assert observed.find("Event", "involvedObject", "Job/x") == ()
    assert observed.version_of("Job", "x") == "9"
    assert observed.version_of("Pod", "x") is None
    assert observed.version_of("Job", "y") is None


def test_times_are_written_as_the_api_server_writes_them() -> None:
    assert conditions.timestamp(START) == "2026-01-01T00:00:00Z"
    assert conditions.moment("2026-01-01T00:00:00Z") == START


def test_a_write_asks_for_nothing_more_unless_it_says_so() -> None:
    assert Create({}).guards == Apply({}, "uid-1").guards == Delete("Job", "train", "uid-1").guards == ()
