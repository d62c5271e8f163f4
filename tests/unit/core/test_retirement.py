"""Retirement: beyond a Model's versionHistoryLimit, what TrainingJobs made and nobody needs is deleted, a while after
that was written down."""

from typing import Any

import pytest
from world import World, digest_of, training_spec, version_spec, with_store, with_version

from modelmill.core.plan import Delete, Guard, Listed
from modelmill.core.resources import MANAGED_BY

MINUTE = 60


def with_versions(*numbers: int, limit: int | None = 2) -> World:
    """A Model with versions that runs made, all of them Ready."""
    world = with_store(World())
    world.put("Model", "triage", spec=_limited(limit))
    for number in numbers:
        made(world, number)
    return world


def _limited(limit: int | None) -> dict[str, Any]:
    return {} if limit is None else {"versionHistoryLimit": limit}


def made(world: World, number: int) -> None:
    """A version that a run made, verified."""
    name = f"triage-{number}"
    with_version(world, number)
    live = world.get("ModelVersion", name)
    lineage = {"trainingJob": {"name": f"run-{number}", "uid": f"run-{number}"}, "recipe": digest_of("e")}
    metadata = {**live["metadata"], "labels": dict(MANAGED_BY)}
    world.store("ModelVersion", name, {**live, "spec": {**live["spec"], "lineage": lineage}, "metadata": metadata})


def retiring(world: World) -> list[int]:
    """The versions that are written down to go."""
    world.reconcile("Model", "triage")
    return [r["version"] for r in world.get("Model", "triage")["status"].get("retiring", ())]


def left(world: World) -> list[int]:
    """The versions that are there."""
    return sorted(v["spec"]["version"] for (kind, _), v in world.objects.items() if kind == "ModelVersion")


def after_a_while(world: World) -> list[int]:
    """The versions that are there when time has passed."""
    world.reconcile("Model", "triage")
    world.wait(10 * MINUTE)
    world.reconcile("Model", "triage")
    return left(world)


def patch(world: World, kind: str, name: str, **fields: Any) -> None:
    """Somebody changes these parts of an object, and nothing of what makes it another one."""
    live = world.get(kind, name)
    world.store(kind, name, {**live, **{key: {**live.get(key, {}), **value} for key, value in fields.items()}})


def says(world: World, number: int, **status: Any) -> None:
    patch(world, "ModelVersion", f"triage-{number}", status=status)


def condition(type_: str, status: str, reason: str = "Said") -> dict[str, Any]:
    said = {"type": type_, "status": status, "reason": reason, "message": "", "observedGeneration": 1}
    return {**said, "lastTransitionTime": "2026-01-01T00:00:00Z"}


def test_without_a_limit_all_stay() -> None:
    world = with_versions(1, 2, 3, limit=None)
    assert after_a_while(world) == [1, 2, 3]
    assert "retiring" not in world.get("Model", "triage")["status"]
    assert world.plan("Model", "triage").requeue_after is None


def test_the_oldest_is_written_down_first_and_goes_ten_minutes_later() -> None:
    world = with_versions(1, 2, 3)
    plan = world.reconcile("Model", "triage")
    uid = world.get("ModelVersion", "triage-1")["metadata"]["uid"]
    assert world.get("Model", "triage")["status"]["retiring"] == [
        {"version": 1, "uid": uid, "since": "2026-01-01T00:00:00Z"}
    ]
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 10 * MINUTE
    world.wait(10 * MINUTE - 1)
    plan = world.reconcile("Model", "triage")
    assert left(world) == [1, 2, 3]
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 1
    world.wait(1)
    assert world.deletes("Model", "triage") == [("ModelVersion", "triage-1", uid)]
    assert retiring(world) == []
    assert left(world) == [2, 3]
    event = world.events[-1]
    assert (event.type, event.reason) == ("Normal", "VersionRetired")
    assert event.message == "ModelVersion triage-1 is deleted: spec.versionHistoryLimit is 2, and nobody needs it"


def test_what_was_not_written_down_yet_does_not_go_however_long_it_is_unneeded() -> None:
    world = with_versions(1, 2, 3)
    world.wait(60 * MINUTE)
    assert world.deletes("Model", "triage") == []
    assert retiring(world) == [1]


def test_a_clock_that_was_set_back_only_makes_it_wait() -> None:
    world = with_versions(1, 2, 3)
    assert retiring(world) == [1]
    world.wait(-60 * MINUTE)
    plan = world.reconcile("Model", "triage")
    assert left(world) == [1, 2, 3]
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 10 * MINUTE


def test_one_goes_at_a_time_the_oldest_first() -> None:
    world = with_versions(3, 1, 2, limit=1)
    assert retiring(world) == [1, 2]
    world.wait(10 * MINUTE)
    assert [name for _, name, _ in world.deletes("Model", "triage")] == ["triage-1"]
    world.reconcile("Model", "triage")
    assert left(world) == [3]


def test_numbers_do_not_come_back() -> None:
    world = with_versions(1, 2, 3, limit=1)
    assert after_a_while(world) == [3]
    assert world.get("Model", "triage")["status"]["lastVersion"] == 3
    # Not even where the Model is made anew: the newest version always stays.
    world.remove("Model", "triage")
    world.put("Model", "triage", spec=_limited(1))
    world.reconcile("Model", "triage")
    assert world.get("Model", "triage")["status"]["lastVersion"] == 3


def test_what_was_written_by_hand_neither_counts_nor_goes() -> None:
    world = with_versions(1, 2)
    for number in (3, 4, 5):
        with_version(world, number)
    assert after_a_while(world) == [1, 2, 3, 4, 5]
    patch(
        world, "ModelVersion", "triage-5", spec={"lineage": {"recipe": digest_of("e")}}, metadata={"labels": MANAGED_BY}
    )
    assert retiring(world) == []


def test_who_takes_the_label_off_keeps_the_version() -> None:
    world = with_versions(1, 2, 3)
    patch(world, "ModelVersion", "triage-1", metadata={"labels": {}})
    assert after_a_while(world) == [1, 2, 3]


def test_the_newest_that_is_ready_stays() -> None:
    world = with_versions(1, 2, 3, limit=1)
    stalled = [condition("Ready", "False", "TestFailed"), condition("Stalled", "True", "TestFailed")]
    for number in (2, 3):
        says(world, number, conditions=stalled)
    assert after_a_while(world) == [1, 3]


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "False")]},
        {"conditions": []},
        {"testing": digest_of("7")},
    ],
    ids=["it waits for an approval", "nobody has seen it yet", "it is tested again"],
)
def test_what_is_on_its_way_stays(status: dict[str, Any]) -> None:
    world = with_versions(1, 2, 3)
    says(world, 1, **status)
    assert after_a_while(world) == [1, 2, 3]


def test_what_another_one_is_compared_with_stays_until_that_is_tested() -> None:
    world = with_versions(1, 2, 3)
    artifact = world.get("ModelVersion", "triage-1")["spec"]["artifact"]
    says(world, 3, testing=digest_of("7"), baseline={"deployment": "triage", "version": 1, "artifact": artifact})
    assert after_a_while(world) == [1, 2, 3]
    del world.get("ModelVersion", "triage-3")["status"]["testing"]
    assert after_a_while(world) == [2, 3]


PROMOTED = {"revision": "3fa94c1b", "version": 1, "promotedAt": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ({"name": "triage", "version": 1}, {}),
        ({"name": "triage"}, {"stable": {"revision": "3fa94c1b", "version": 1}}),
        ({"name": "triage"}, {"candidate": {"revision": "3fa94c1b", "version": 1}}),
        ({"name": "triage"}, {"history": [PROMOTED]}),
        ({"name": "other"}, {"history": [{**PROMOTED, "model": "triage"}]}),
        ({"uri": "s3://models/x", "digest": digest_of("9")}, {"history": [{**PROMOTED, "model": "triage"}]}),
    ],
    ids=["named", "serves", "comes up", "can be gone back to", "served before the model was changed", "by uri now"],
)
def test_what_a_model_deployment_needs_stays(model: dict[str, Any], status: dict[str, Any]) -> None:
    world = with_versions(1, 2, 3)
    world.put("ModelDeployment", "triage", spec={"model": model}, status=status)
    assert after_a_while(world) == [1, 2, 3]
    world.remove("ModelDeployment", "triage")
    assert after_a_while(world) == [2, 3]


def test_what_other_models_serve_is_no_reason() -> None:
    world = with_versions(1, 2, 3)
    status = {"stable": {"revision": "3fa94c1b", "version": 1}, "history": [{**PROMOTED, "model": "other"}]}
    world.put("ModelDeployment", "other", spec={"model": {"name": "other", "version": 1}}, status=status)
    assert after_a_while(world) == [2, 3]


@pytest.mark.parametrize("how", ["made it", "names it", "would make the same again"])
def test_what_a_training_is_about_to_name_stays_until_it_has_ended(how: str) -> None:
    world = with_versions(1, 2, 3)
    status: dict[str, Any] = {"modelVersion": "triage-1"} if how == "names it" else {}
    if how == "would make the same again":
        status = {"recipe": digest_of("e")}
    world.put("TrainingJob", "again", spec=training_spec(), status=status)
    if how == "made it":
        patch(world, "TrainingJob", "again", metadata={"uid": "run-1"})
    assert after_a_while(world) == [1, 2, 3]
    patch(world, "TrainingJob", "again", status={"conditions": [condition("Succeeded", "True")], "modelVersion": "x"})
    assert after_a_while(world) == [2, 3]


def test_who_needs_it_again_takes_it_off_the_list_and_the_time_begins_anew() -> None:
    world = with_versions(1, 2, 3)
    assert retiring(world) == [1]
    world.wait(9 * MINUTE)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage", "version": 1}})
    assert retiring(world) == []
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage", "version": 3}})
    assert retiring(world) == [1]
    world.wait(MINUTE)
    world.reconcile("Model", "triage")
    assert left(world) == [1, 2, 3]


def test_what_is_being_deleted_already_is_left_to_its_finalizers_and_does_not_count() -> None:
    world = with_versions(1, 2, 3)
    patch(world, "ModelVersion", "triage-3", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert retiring(world) == []
    patch(world, "ModelVersion", "triage-1", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert world.deletes("Model", "triage") == []


def guards(world: World) -> dict[str, Any]:
    """What is read fresh before version 1 is deleted, by what it says."""
    retiring(world)
    world.wait(10 * MINUTE)
    (delete,) = [w for w in world.plan("Model", "triage").writes if isinstance(w, Delete)]
    return {guard.meaning: guard for guard in delete.guards}


def test_it_goes_only_if_nobody_needs_it_when_asked_fresh() -> None:
    world = with_versions(1, 2, 3)
    found = guards(world)
    assert list(found) == [
        "Model triage is as it was read",
        "Model triage has triage-1 in status.retiring",
        "no ModelVersion needs triage-1",
        "no TrainingJob needs triage-1",
        "no ModelDeployment needs triage-1",
    ]
    marked = found["Model triage has triage-1 in status.retiring"]
    assert isinstance(marked, Guard)
    live = world.get("Model", "triage")
    assert marked.holds(live)
    later = [{**live["status"]["retiring"][0], "since": "2026-01-01T00:05:00Z"}]  # taken off the list, and put on it
    assert not marked.holds({**live, "status": {**live["status"], "retiring": later}})
    assert not marked.holds(None)
    versions = found["no ModelVersion needs triage-1"]
    assert isinstance(versions, Listed)
    every = tuple(v for (kind, _), v in world.objects.items() if kind == "ModelVersion")
    others = {**version_spec(9), "modelRef": {"name": "other"}}
    assert versions.holds((*every, {**every[0], "spec": others}))
    assert not versions.holds(every[:2])  # somebody deleted version 3
    anew = {**every[0], "metadata": {**every[0]["metadata"], "uid": "another"}}
    assert not versions.holds((anew, *every[1:]))
    served = found["no ModelDeployment needs triage-1"]
    assert isinstance(served, Listed)
    assert served.holds(())
    assert not served.holds(({"spec": {"model": {"name": "triage", "version": 1}}, "status": {}},))
    runs = found["no TrainingJob needs triage-1"]
    assert isinstance(runs, Listed)
    assert runs.holds(())
    assert not runs.holds(({"metadata": {"uid": "run-1"}, "status": {}},))


def test_more_than_the_status_holds_go_in_turn() -> None:
    world = World()
    world.put("Model", "triage", spec=_limited(1))
    ready = {"conditions": [condition("Ready", "True")]}
    for number in range(1, 300):
        lineage = {"trainingJob": {"name": "run", "uid": f"run-{number}"}}
        spec = {**version_spec(number, "a"), "lineage": lineage}
        world.put("ModelVersion", f"triage-{number}", spec=spec, status=ready, metadata={"labels": MANAGED_BY})
    assert retiring(world) == list(range(1, 257))
