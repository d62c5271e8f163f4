"""Collection: what nobody refers to is taken out of the store, once a day, where the store is the Workspace's alone."""

from datetime import timedelta
from typing import Any

import experiments
from test_retention import look, model_version
from world import World, digest_of, training_spec, with_version

from modelmill.core import collection, workspace
from modelmill.core.plan import Create
from modelmill_contracts import report, task

STORE = {"uri": "s3://models", "collect": {"enabled": True}}
JOB = "default-collect"
TRIAL = "default-preflight"


def reconcile(world: World) -> timedelta | None:
    return world.reconcile("Workspace", "default").requeue_after


def tried(world: World, *, owned: bool) -> None:
    reconcile(world)
    result = report.PreflightResult(("put", "get", "delete"), owned)
    world.end_job(TRIAL, report.Report(True, "StoreWorks", result=result))
    reconcile(world)


def with_collection(*, owned: bool = True, **store: Any) -> World:
    world = World()
    world.put("Workspace", "default", spec={"store": {**STORE, **store}})
    tried(world, owned=owned)
    return world


def collected(world: World, **more: int) -> None:
    result = report.CollectResult(**{"moved": 2, "restored": 1, "deleted": 3, "freed": 4711, **more})
    world.end_job(JOB, report.Report(True, "Collected", result=result))
    reconcile(world)


def work(world: World) -> task.CollectTask:
    pod = world.get("Job", JOB)["spec"]["template"]["spec"]
    found = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(found, task.CollectTask)
    return found


def collecting(world: World) -> collection.Decision:
    """What the collection does, whatever else is waited for."""
    facts = workspace.observe(world.observed("Workspace", "default"))
    assert facts.collecting is not None
    return collection.decide(facts.collecting, world.now)


def pause(world: World) -> timedelta | None:
    return collecting(world).requeue_after


def said(world: World) -> tuple[str, str]:
    return world.condition("Workspace", "default", "Collected")


def test_nothing_is_collected_where_nobody_asks_for_it() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    tried(world, owned=True)
    world.wait(10 * 86400)
    reconcile(world)
    assert not world.has("Job", JOB)
    assert said(world) == ("Unknown", "NotAsked")


def test_every_workspace_leaves_its_mark_in_its_store() -> None:
    world = World()
    live = world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    reconcile(world)
    trial = world.get("Job", TRIAL)["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert task.decode(trial) == task.PreflightTask(task.StoreLocation("s3://models"), live["metadata"]["uid"])


def test_once_a_day_a_job_is_told_what_to_keep() -> None:
    world = with_collection()
    assert said(world) == ("Unknown", "CollectionRunning")
    uid = world.get("Workspace", "default")["metadata"]["uid"]
    assert work(world) == task.CollectTask(task.StoreLocation("s3://models"), uid, (), "2026-01-01T00:00:00Z")
    world.wait(60)
    collected(world)
    done = {"at": "2026-01-01T00:01:00Z", "moved": 2, "restored": 1, "deleted": 3, "freed": 4711}
    assert world.get("Workspace", "default")["status"]["collected"] == done
    assert said(world) == ("True", "Collected")
    told = world.message("Workspace", "default", "Collected")
    assert told == "2 files were set aside, 1 put back, 3 deleted (4711 bytes)"
    reconcile(world)
    assert pause(world) == timedelta(days=1)
    first = world.get("Job", JOB)["metadata"]["uid"]
    world.wait(86399)
    reconcile(world)
    assert world.get("Job", JOB)["metadata"]["uid"] == first
    world.wait(1)
    reconcile(world)
    assert world.get("Job", JOB)["metadata"]["uid"] != first
    assert work(world).now == "2026-01-02T00:01:00Z"
    assert world.get("Workspace", "default")["status"]["collected"] == done
    assert world.condition("Workspace", "default", "Ready")[0] == "True"


def test_whatever_somebody_refers_to_is_kept() -> None:
    world = with_collection()
    collected(world)
    world.put("Dataset", "tumours", spec={"source": {"uri": "s3://lake/a.csv"}})
    look(world, "a")
    look(world, "b")
    live = world.get("Dataset", "tumours")
    newest = {**live["status"]["history"][0], "profile": digest_of("1"), "page": digest_of("2")}
    history = [newest, *live["status"]["history"][1:]]
    world.store("Dataset", "tumours", {**live, "status": {**live["status"], "history": history}})
    world.put("TrainingJob", "lr", spec=training_spec(), status={"datasetFile": digest_of("3")})
    world.put("TrainingJob", "new", spec=training_spec())
    version = model_version("tumours", "a", 1)
    world.put("ModelVersion", "triage-1", spec=version)
    version["lineage"]["dataset"] = {"name": "gone", "version": digest_of("c"), "file": digest_of("4")}
    world.put("ModelVersion", "triage-2", spec={**version, "version": 2})
    world.put("ModelVersion", "triage-3", spec={**version, "version": 3, "lineage": {}})
    world.wait(86400)
    reconcile(world)
    assert work(world).keep == tuple(digest_of(letter) for letter in "1234ab")


def test_the_file_of_a_version_that_is_no_digest_is_known_from_the_dataset_s_history() -> None:
    world = with_collection()
    collected(world)
    world.put("ModelVersion", "alone", spec={**model_version("tumours", "a", 1), "lineage": {}})
    world.put("ModelVersion", "triage-1", spec=model_version("tumours", "a", 2))
    entry = {"version": digest_of("a"), "file": digest_of("7"), "rows": 1, "observedAt": "2026-01-01T00:00:00Z"}
    world.put("Dataset", "tumours", spec={"source": {"uri": "s3://lake/a.csv"}}, status={"history": [entry]})
    version = model_version("tumours", "b", 3)
    world.put("ModelVersion", "triage-3", spec=version)
    world.wait(86400)
    reconcile(world)
    assert said(world) == ("False", "LineageUnknown")
    world.remove("ModelVersion", "triage-3")
    reconcile(world)
    assert digest_of("7") in work(world).keep


def test_what_cannot_be_told_apart_from_what_nobody_needs_stops_it() -> None:
    world = with_collection()
    collected(world)
    world.put("ModelVersion", "triage-1", spec=model_version("gone", "a", 1))
    world.wait(86400)
    assert not [w for w in world.plan("Workspace", "default").writes if isinstance(w, Create)]
    reconcile(world)
    assert said(world) == ("False", "LineageUnknown")
    assert "ModelVersion triage-1 was trained on version" in world.message("Workspace", "default", "Collected")
    waits = collecting(world).waiting
    assert waits is not None
    assert waits.stalled
    assert world.condition("Workspace", "default", "Ready")[0] == "True"
    world.remove("ModelVersion", "triage-1")
    reconcile(world)
    assert said(world) == ("Unknown", "CollectionRunning")


def test_more_than_a_job_can_be_told_stops_it() -> None:
    world = with_collection()
    collected(world)
    spec = {"source": {"uri": "s3://lake/a.csv"}}
    most = collection.MAX_KEPT
    for number, expected in ((most, ("Unknown", "CollectionRunning")), (most + 1, ("False", "TooMuchToKeep"))):
        digests = [f"sha256:{n:064}" for n in range(number)]
        history = [{"version": d, "file": d, "rows": 1, "observedAt": "2026-01-01T00:00:00Z"} for d in digests]
        world.put("Dataset", "tumours", spec=spec, status={"history": history})
        world.wait(86400)
        reconcile(world)
        assert said(world) == expected
        waits = collecting(world).waiting
        assert waits is not None
        assert waits.stalled == (number > most)
        if expected[0] == "Unknown":
            collected(world)


def test_what_a_job_can_be_told_fits_a_job() -> None:
    keep = tuple(digest_of("a") for _ in range(collection.MAX_KEPT))
    location = task.StoreLocation("s3://" + "b" * 1024, "http://" + "e" * 253, "r" * 64)
    assert len(task.encode(task.CollectTask(location, "u" * 36, keep, "2026-01-01T00:00:00Z"))) < 1 << 20


def test_a_store_that_others_use_is_left_alone() -> None:
    world = with_collection(owned=False)
    assert not world.has("Job", JOB)
    assert said(world) == ("False", "StoreShared")
    assert "Give this one a prefix of its own" in world.message("Workspace", "default", "Collected")
    assert world.condition("Workspace", "default", "Ready")[0] == "True"
    assert world.plan("Workspace", "default").writes == ()


def test_asking_for_it_later_goes_by_what_the_trial_found() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    tried(world, owned=True)
    world.remove("Job", TRIAL)
    world.put("Workspace", "default", spec={"store": STORE})
    reconcile(world)
    assert world.has("Job", JOB)
    assert not world.has("Job", TRIAL)  # it is known


def test_a_store_of_which_nobody_knows_whose_it_is_is_tried_again_while_everything_goes_on() -> None:
    world = with_collection(owned=False)
    world.remove("Job", TRIAL)
    reconcile(world)
    assert world.has("Job", TRIAL)
    assert said(world) == ("False", "StoreShared")  # until something else is known
    world.pod_of_job(TRIAL, conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    reconcile(world)
    assert world.condition("Workspace", "default", "Ready")[0] == "True"
    assert "preflight" in world.get("Workspace", "default")["status"]
    tried(world, owned=True)
    assert world.has("Job", JOB)


def test_another_store_is_not_this_ones_because_the_former_was() -> None:
    world = with_collection()
    collected(world)
    world.put("Workspace", "default", spec={"store": {**STORE, "uri": "s3://others"}})
    world.wait(86400)
    reconcile(world)
    assert said(world) == ("Unknown", "PreflightRunning")
    before = world.get("Job", JOB)["metadata"]["uid"]
    tried(world, owned=False)
    assert said(world) == ("False", "StoreShared")
    assert world.get("Job", JOB)["metadata"]["uid"] == before


def test_a_collection_of_a_former_store_is_given_up() -> None:
    world = with_collection()
    world.pod_of_job(JOB)
    world.put("Workspace", "default", spec={"store": {**STORE, "uri": "s3://others"}})
    tried(world, owned=True)
    assert work(world).store == task.StoreLocation("s3://others")


def test_a_collection_that_fails_says_why_and_is_tried_again_in_an_hour() -> None:
    world = with_collection()
    world.end_job(JOB, report.Report(False, "StoreUnreachable", "nothing answers", retryable=True))
    assert reconcile(world) == timedelta(hours=1)
    assert said(world) == ("False", "StoreUnreachable")
    assert world.condition("Workspace", "default", "Ready")[0] == "True"
    first = world.get("Job", JOB)["metadata"]["uid"]
    world.wait(3600)
    reconcile(world)
    assert world.get("Job", JOB)["metadata"]["uid"] != first


def test_a_report_that_is_lost_or_of_something_else_is_asked_for_again() -> None:
    world = with_collection()
    world.end_job(JOB, report.Report(True, "Collected", result=report.PreflightResult(())))
    reconcile(world)
    assert said(world) == ("Unknown", "CollectionRunning")
    first = world.get("Job", JOB)["metadata"]["uid"]
    world.end_job(JOB, report.Report(True, "Collected", result=report.CollectResult(0, 0, 0, 0)))
    world.remove("Pod", f"{JOB}-x")
    reconcile(world)
    assert said(world) == ("False", "ReportLost")
    world.wait(3600)
    reconcile(world)
    assert world.get("Job", JOB)["metadata"]["uid"] != first


def test_a_status_that_lacks_what_is_nothing_is_read_as_such() -> None:
    world = with_collection()
    collected(world)
    live = world.get("Workspace", "default")
    done = {"at": live["status"]["collected"]["at"]}
    world.store("Workspace", "default", {**live, "status": {**live["status"], "collected": done}})
    world.remove("Job", JOB)
    reconcile(world)
    assert world.get("Workspace", "default")["status"]["collected"] == {
        **done,
        "moved": 0,
        "restored": 0,
        "deleted": 0,
        "freed": 0,
    }


def test_a_clock_that_was_set_back_delays_it_by_a_day_at_most() -> None:
    world = with_collection()
    collected(world)
    world.wait(-10 * 86400)
    reconcile(world)
    assert pause(world) == timedelta(days=1)


def test_a_job_of_that_name_that_is_somebody_elses_is_left_alone() -> None:
    world = World()
    world.put("Job", JOB, spec={}, status={})
    world.put("Workspace", "default", spec={"store": STORE})
    tried(world, owned=True)
    assert said(world) == ("Unknown", "NameConflict")
    assert world.get("Job", JOB)["spec"] == {}


def test_what_holds_it_up_is_told() -> None:
    world = with_collection()
    world.pod_of_job(JOB, conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    reconcile(world)
    assert said(world) == ("False", "Unschedulable")


ARTIFACTS = {"collect": {"enabled": True, "artifacts": True}}
PROMOTED = {"revision": "3fa94c1b", "promotedAt": "2026-01-01T00:00:00Z"}


def kept(world: World) -> tuple[str, ...] | None:
    """The artifacts that stay, each as its letter."""
    reconcile(world)
    found = work(world).artifacts
    return None if found is None else tuple(digest[-1] for digest in found)


def artifact_of(letter: str) -> dict[str, Any]:
    return {"artifact": {"uri": f"s3://models/{letter}", "digest": digest_of(letter)}}


def served(world: World, model: dict[str, Any], *history: dict[str, Any]) -> None:
    promoted = [{**PROMOTED, **more} for more in history]
    world.put("ModelDeployment", "triage", spec={"model": model}, status={"history": promoted})


def test_artifacts_stay_where_nobody_asks_for_it() -> None:
    world = with_collection()
    assert kept(world) is None
    pod = world.get("Job", JOB)["spec"]["template"]["spec"]
    assert "artifacts" not in pod["containers"][0]["env"][0]["value"]


def test_artifacts_that_nobody_refers_to_are_collected_if_that_is_asked() -> None:
    assert kept(with_collection(**ARTIFACTS)) == ()


def test_the_artifact_of_a_version_stays_and_what_it_is_compared_with() -> None:
    world = with_version(with_collection(**ARTIFACTS), 1)
    live = world.get("ModelVersion", "triage-1")
    baseline = {"deployment": "triage", "artifact": {"uri": "s3://models/2", "digest": digest_of("2")}}
    world.store("ModelVersion", "triage-1", {**live, "status": {**live["status"], "baseline": baseline}})
    world.remove("Job", JOB)
    assert kept(world) == ("1", "2")
    world.remove("ModelVersion", "triage-1")
    world.remove("Job", JOB)
    assert kept(world) == ()


def test_the_artifacts_of_all_versions_stay() -> None:
    world = with_version(with_version(with_collection(**ARTIFACTS), 1), 2)
    world.remove("Job", JOB)
    assert kept(world) == ("1", "2")


def test_who_serves_is_asked_only_where_artifacts_are_collected() -> None:
    kinds = {a: {key.kind for key in collection.dependencies("n", "u", artifacts=a)} for a in (False, True)}
    assert kinds[True] - kinds[False] == {"ModelDeployment"}
    assert {key.value for key in collection.dependencies("n", "u", artifacts=False)} == {
        "u", "True", JOB, f"Job/{JOB}",
    }  # fmt: skip


def test_the_artifact_of_a_run_stays_while_it_is_no_version() -> None:
    world = with_collection(**ARTIFACTS)
    world.remove("Job", JOB)
    world.put("TrainingJob", "lr", spec=training_spec(), status=artifact_of("3"))
    world.put("TrainingJob", "running", spec=training_spec())
    assert kept(world) == ("3",)
    world.put("TrainingJob", "lr", spec=training_spec(), status={**artifact_of("3"), "modelVersion": "triage-3"})
    world.remove("Job", JOB)
    assert kept(world) == ()


def test_what_serves_or_can_be_gone_back_to_stays() -> None:
    world = with_collection(**ARTIFACTS)
    served(world, {"uri": "s3://models/7", "digest": digest_of("7")}, artifact_of("6"), artifact_of("5"))
    world.remove("Job", JOB)
    assert kept(world) == ("5", "6", "7")


def test_a_history_of_numbers_is_enough_while_the_versions_are_there() -> None:
    world = with_version(with_collection(**ARTIFACTS), 1)
    served(world, {"name": "triage"}, {"version": 1})
    world.remove("Job", JOB)
    assert kept(world) == ("1",)
    world.remove("Job", JOB)
    world.remove("ModelVersion", "triage-1")
    reconcile(world)
    assert not world.has("Job", JOB)
    assert said(world) == ("False", "ArtifactUnknown")
    assert world.message("Workspace", "default", "Collected") == (
        "what revision 3fa94c1b of ModelDeployment triage serves or served is not in its history, and there is no such"
        " ModelVersion; nothing is collected until that revision is beyond its revisionHistoryLimit"
    )
    served(world, {"name": "triage"}, {"version": 1, "model": "triage", **artifact_of("1")})
    assert kept(world) == ("1",)


def test_another_models_version_of_that_number_is_no_answer() -> None:
    world = with_version(with_collection(**ARTIFACTS), 1)
    served(world, {"name": "triage"}, {"version": 1, "model": "other"})
    world.remove("Job", JOB)
    reconcile(world)
    assert said(world) == ("False", "ArtifactUnknown")


def test_artifacts_count_among_what_a_job_can_be_told_of(monkeypatch: Any) -> None:
    world = with_version(with_collection(**ARTIFACTS), 1)
    world.remove("Job", JOB)
    monkeypatch.setattr(collection, "MAX_KEPT", 0)
    reconcile(world)
    assert said(world) == ("False", "TooMuchToKeep")


def test_the_page_of_an_experiment_is_kept() -> None:
    world = with_collection()
    world.put("Experiment", "search", spec=experiments.spec(), status={"report": digest_of("9")})
    facts = collection.observe(world.observed("Workspace", "default"), "store", artifacts=False)
    assert isinstance(facts.keep, collection.Kept)
    assert digest_of("9") in facts.keep.blobs
