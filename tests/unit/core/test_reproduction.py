"""A training that is done twice: the second run only says what it would give, and the verdict stays."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from world import World, digest_of, moved_to, trained, training_spec, with_dataset, with_store

from modelmill.core import reproduction
from modelmill.core.plan import Create, Delete, Guard, NoPods, SetStatus
from modelmill_contracts import report, task

FILES = (
    report.FileDigest("card.md", digest_of("4")),
    report.FileDigest("model.onnx", digest_of("5")),
    report.FileDigest("model.skops", digest_of("6")),
)


def gave(letter: str = "1", files: tuple[report.FileDigest, ...] = FILES, **more: Any) -> report.Report:
    said = trained(letter)
    assert isinstance(said.result, report.TrainingResult)
    return replace(said, result=replace(said.result, files=files, **more))


def trained_once(**more: Any) -> World:
    """The first run ended, and the second one has begun."""
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}, **more))
    world.settle()
    assert not world.has("Job", "lr-again")
    world.end_job("lr-train", gave())
    world.settle()
    return world


def ended(again: report.Report | None, **more: Any) -> World:
    world = trained_once()
    world.end_job("lr-again", again, **more)
    world.settle()
    return world


def test_the_second_run_does_the_same_and_publishes_nothing() -> None:
    world = trained_once()
    first, second = (
        task.decode(world.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
        for job in ("lr-train", "lr-again")
    )
    assert isinstance(first, task.TrainingTask)
    assert first.publish
    assert second == task.unpublished(first)
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Reproducing")
    assert world.condition("TrainingJob", "lr", "Trained") == ("True", "ArtifactPublished")
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "Reproducing")
    assert world.message("TrainingJob", "lr", "Reproducible") == "Job lr-again trains a second time"
    assert not world.has("Model", "triage")


def test_the_same_bytes_are_one_version() -> None:
    world = ended(gave())
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("True", "SameBytes")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert [name for kind, name in world.objects if kind == "ModelVersion"] == ["triage-1"]
    assert world.get("TrainingJob", "lr")["status"]["reproduction"] == {"digest": digest_of("1")}


def test_other_bytes_are_named_to_the_file_and_the_first_run_is_what_counts() -> None:
    other = (FILES[0], report.FileDigest("model.onnx", digest_of("7")), report.FileDigest("more", digest_of("8")))
    world = ended(gave("2", other))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("False", "ArtifactDiffers")
    assert "other bytes in model.onnx, model.skops, more" in world.message("TrainingJob", "lr", "Reproducible")
    assert world.get("TrainingJob", "lr")["status"]["reproduction"] == {
        "digest": digest_of("2"),
        "differs": ["model.onnx", "model.skops", "more"],
    }
    assert world.get("ModelVersion", "triage-1")["spec"]["artifact"]["digest"] == digest_of("1")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"


@pytest.mark.parametrize("files", [FILES, ()])
def test_where_no_file_differs_it_is_the_manifest(files: tuple[report.FileDigest, ...]) -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={}))
    world.settle()
    world.end_job("lr-train", gave(files=files))
    world.settle()
    world.end_job("lr-again", gave("2", files))
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["reproduction"]["differs"] == ["manifest.json"]


def test_another_recipe_is_told_apart() -> None:
    world = ended(gave("2", recipe=digest_of("9")))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("False", "RecipeDiffers")
    assert "nodes of one kind" in world.message("TrainingJob", "lr", "Reproducible")
    expected = {"digest": digest_of("2"), "differs": ["manifest.json"]}
    assert world.get("TrainingJob", "lr")["status"]["reproduction"] == expected


def test_of_a_second_run_that_fails_nothing_is_known() -> None:
    world = ended(report.Report(False, "TrainingFailed", "it did not converge"))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "SecondRunFailed")
    assert "TrainingFailed: it did not converge" in world.message("TrainingJob", "lr", "Reproducible")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert "reproduction" not in world.get("TrainingJob", "lr")["status"]


@pytest.mark.parametrize("kept", ["a quota", "an image"])
def test_a_second_run_that_never_ran_says_why_and_nothing_else(kept: str) -> None:
    world = trained_once()
    job = world.get("Job", "lr-again")
    if kept == "a quota":
        involved = {"kind": "Job", "name": "lr-again", "uid": job["metadata"]["uid"]}
        world.put("Event", "e", involvedObject=involved, reason="FailedCreate", message="exceeded quota")
    else:
        waiting = {"reason": "ImagePullBackOff", "message": "not found"}
        world.pod_of_job("lr-again", containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    condition = {**late, "lastTransitionTime": "2026-01-01T01:00:00Z"}
    world.store("Job", "lr-again", {**world.get("Job", "lr-again"), "status": {"conditions": [condition]}})
    world.settle()
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "SecondRunFailed")
    reason = "PodCreationRefused" if kept == "a quota" else "ImagePullFailed"
    assert f"the second run failed: {reason}: " in world.message("TrainingJob", "lr", "Reproducible")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    before = world.get("TrainingJob", "lr")["status"]
    world.remove("Job", "lr-again")
    world.settle()
    assert world.get("TrainingJob", "lr")["status"] == before
    assert not world.has("Job", "lr-again")


def test_a_second_run_that_runs_out_of_memory_is_not_tried_again() -> None:
    world = trained_once()
    world.end_job("lr-again", None, exit_reason="OOMKilled")
    world.objects["Job", "lr-again"]["status"] = {}  # it has retries left
    world.settle()
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "SecondRunFailed")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert not world.has("Job", "lr-again")


def test_a_report_of_something_else_is_no_second_run() -> None:
    world = ended(report.Report(True, "StoreWorks", result=report.PreflightResult(("put",))))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "SecondRunFailed")


@pytest.mark.parametrize("gone", [("Job", "lr-again"), ("Job", "lr-train"), ("ModelVersion", "triage-1")])
def test_the_verdict_stays_when_everything_else_is_gone(gone: tuple[str, str]) -> None:
    world = ended(gave("2", FILES[:2]))
    before = world.get("TrainingJob", "lr")["status"]
    world.remove(*gone)
    assert world.plan("TrainingJob", "lr").writes == ()
    assert world.get("TrainingJob", "lr")["status"] == before
    assert before["reproduction"]["differs"] == ["model.skops"]


def test_what_is_asked_once_is_trained_once() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", gave())
    world.settle()
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "NotAsked")
    assert not world.has("Job", "lr-again")
    files = world.get("TrainingJob", "lr")["status"]["artifact"]["files"]
    assert files == [{"name": file.name, "digest": file.digest} for file in FILES]


def test_suspend_stops_the_second_run_and_resume_starts_it_anew() -> None:
    world = trained_once()
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}, suspend=True))
    world.settle()
    assert not world.has("Job", "lr-again")
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Suspended")
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "Suspended")
    assert world.get("TrainingJob", "lr")["status"]["artifact"]["digest"] == digest_of("1")
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.end_job("lr-again", gave())
    world.settle()
    assert world.condition("TrainingJob", "lr", "Reproducible")[0] == "True"


def test_a_second_run_whose_report_is_lost_is_run_again_and_not_thrown_away_unseen() -> None:
    world = trained_once()
    world.end_job("lr-again", gave())
    world.remove("Pod", "lr-again-x")
    uid = world.get("Job", "lr-again")["metadata"]["uid"]
    assert world.deletes("TrainingJob", "lr") == []
    world.reconcile("TrainingJob", "lr")
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "ReportLost")
    world.wait(3600)
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if not hasattr(w, "status"))
    (guard,) = delete.guards
    assert isinstance(guard, NoPods)
    assert (guard.job, guard.meaning) == (uid, "the pods of Job lr-again are gone")
    world.settle()
    assert world.get("Job", "lr-again")["metadata"]["uid"] != uid


def test_a_name_that_is_taken_is_told() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.put("Job", "lr-again", spec={}, status={})
    world.end_job("lr-train", gave())
    world.settle()
    assert world.condition("TrainingJob", "lr", "Stalled") == ("True", "NameConflict")
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "NameConflict")
    assert world.condition("TrainingJob", "lr", "Trained")[0] == "True"


def test_the_second_run_waits_for_a_store_that_has_its_data() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.end_job("lr-train", gave())
    moved_to(world, "s3://elsewhere")
    world.settle()
    assert not world.has("Job", "lr-again")
    assert world.condition("TrainingJob", "lr", "Reproducible")[0] == "Unknown"
    assert world.get("TrainingJob", "lr")["status"]["artifact"]["digest"] == digest_of("1")


def test_the_second_run_keeps_the_place_that_the_first_had() -> None:
    world = World()
    spec = {"store": {"uri": "s3://models", "endpoint": "http://store:7070"}, "training": {"maxParallel": 1}}
    with_dataset(with_store(world))
    world.put("Workspace", "default", spec=spec)
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.wait(1)
    world.put("TrainingJob", "next", spec=training_spec())
    world.settle()
    world.end_job("lr-train", gave())
    world.settle()
    assert world.has("Job", "lr-again")
    assert not world.has("Job", "next-train")
    world.end_job("lr-again", gave())
    world.settle()
    assert world.has("Job", "next-train")


def test_it_starts_only_if_nothing_was_compared_when_asked_fresh() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.end_job("lr-train", gave())
    create = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Create))
    guard = next(g for g in create.guards if isinstance(g, Guard) and "second run" in g.meaning)
    live = world.get("TrainingJob", "lr")
    assert guard.meaning == "TrainingJob lr has no second run that was compared"
    assert guard.holds(live)
    assert not guard.holds(None)
    assert not guard.holds({**live, "metadata": {**live["metadata"], "uid": "another"}})
    told = {"type": reproduction.REPRODUCIBLE, "status": "False", "reason": "ArtifactDiffers", "message": ""}
    assert not guard.holds({**live, "status": {"conditions": [told]}})


# What is told while it is not known yet.

AGAIN = "lr-again"
LATE = "2026-01-01T00:00:00Z"


def told(world: World) -> list[str]:
    world.reconcile("TrainingJob", "lr")
    return world.told("TrainingJob", "lr")


def runs(world: World) -> None:
    world.pod_of_job(AGAIN)


def has_no_node(world: World) -> None:
    world.pod_of_job(AGAIN, conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])


def has_no_image(world: World) -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    world.pod_of_job(AGAIN, containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])


def leaves(world: World) -> None:
    job = world.get("Job", AGAIN)
    world.store("Job", AGAIN, {**job, "metadata": {**job["metadata"], "deletionTimestamp": LATE}})


def lost_its_report(world: World) -> None:
    world.end_job(AGAIN, gave())
    world.remove("Pod", f"{AGAIN}-x")


def finds_its_name_taken(world: World) -> None:
    world.remove("Job", AGAIN)
    world.put("Job", AGAIN, spec={}, status={})


def has_another_store(world: World) -> None:
    world.remove("Job", AGAIN)
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models", "endpoint": "http://other:7070"}})


def has_no_store(world: World) -> None:
    world.remove("Job", AGAIN)
    world.remove("Workspace", "default")


def has_its_data_elsewhere(world: World) -> None:
    world.remove("Job", AGAIN)
    moved_to(world, "s3://elsewhere")


def has_no_data(world: World) -> None:
    world.remove("Job", AGAIN)
    world.remove("Dataset", "tumours")
    for field in ("datasetVersion", "datasetFile"):
        del world.objects["TrainingJob", "lr"]["status"][field]
    world.remove("Job", "lr-train")  # whose annotations have it, too


SOON, LATER = timedelta(seconds=10), timedelta(minutes=1)
UNTIL_THEN: list[tuple[Callable[[World], None], str, bool, timedelta | None]] = [
    (runs, "Reproducing: Job lr-again trains a second time", False, None),
    (leaves, "Reproducing: Job lr-again of a former run is being cleaned up", False, None),
    (
        has_no_node,
        "Unschedulable: no node takes the pod: none; ask for less in resources, or add nodes",
        True,
        None,
    ),
    (
        has_no_image,
        (
            "ImagePullFailed: the image of container trainer cannot be pulled (ErrImagePull: not found); check"
            " its name, that the registry answers, and the pull secret"
        ),
        True,
        None,
    ),
    (lost_its_report, "ReportLost: the pod of the second run went away before it could report", False, SOON),
    (
        finds_its_name_taken,
        (
            "NameConflict: Job lr-again exists and was not made for this object; it is left as it is: rename this"
            " object, or delete the other one if nobody needs it"
        ),
        True,
        LATER,
    ),
    (has_another_store, "PreflightRunning: Workspace default is trying its store", False, None),
    (
        has_no_store,
        (
            "WorkspaceNotFound: namespace team-a has no store; create the Workspace default, for example with kubectl"
            " apply -n team-a -k manifests/store"
        ),
        True,
        None,
    ),
    (
        has_its_data_elsewhere,
        (
            f"DatasetVersionNotFound: version {digest_of('a')} of Dataset tumours was written to another store than the"
            " one that Workspace default declares now; name one that was taken since, or none for the newest"
        ),
        True,
        None,
    ),
    (has_no_data, "DatasetNotFound: there is no Dataset tumours in this namespace yet; create it", False, None),
]


@pytest.mark.parametrize(("happens", "why", "stalled", "again"), UNTIL_THEN, ids=lambda v: getattr(v, "__name__", ""))
def test_until_there_is_a_verdict_it_is_told_what_the_second_run_waits_for(
    happens: Callable[[World], None], why: str, stalled: bool, again: timedelta | None
) -> None:
    world = trained_once()
    happens(world)
    reason = why.partition(":")[0]
    assert told(world) == [
        f"Succeeded Unknown {why}",
        f"Failed Unknown {reason}",
        "PreflightPassed True StoreWorks: the store works",
        "DataReady True VersionPinned: a valid version of the data is pinned",
        "Trained True ArtifactPublished: the artifact is in the store",
        f"Reproducible Unknown {why}",
        *(
            (f"Reconciling False {reason}", f"Stalled True {why}")
            if stalled
            else (f"Reconciling True {why}", f"Stalled False {reason}")
        ),
    ]
    plan = world.plan("TrainingJob", "lr")
    assert (plan.writes, plan.requeue_after) == ((), again)
    assert world.get("TrainingJob", "lr")["status"]["artifact"]["digest"] == digest_of("1")


def test_the_start_of_the_second_run_is_told_with_the_artifact_of_the_first() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}))
    world.settle()
    world.end_job("lr-train", gave())
    create, status = world.plan("TrainingJob", "lr").writes
    assert isinstance(create, Create)
    assert create.manifest["metadata"]["name"] == AGAIN
    assert [guard.meaning for guard in create.guards if not isinstance(guard, NoPods)] == [
        "TrainingJob lr is as it was read",
        "Workspace default is as it was read",
        "TrainingJob lr has no second run that was compared",
    ]
    assert isinstance(status, SetStatus)
    first = status.status["conditions"][0]
    assert (first["reason"], first["message"]) == ("Reproducing", "Job lr-again is starting")
    assert status.status["artifact"]["digest"] == digest_of("1")
    assert status.status["datasetVersion"] == digest_of("a")


def test_a_second_run_that_waits_for_its_turn_says_so() -> None:
    world = trained_once()
    world.remove("Job", AGAIN)
    store = {"uri": "s3://models", "endpoint": "http://store:7070"}
    world.put("Workspace", "default", spec={"store": store, "training": {"maxParallel": 3}})
    queued = (
        "Queued: Workspace default has 3 TrainingJobs run at the same time (spec.training.maxParallel); this one starts"
        " when it is its turn"
    )
    assert told(world) == [
        f"Succeeded Unknown {queued}",
        "Failed Unknown Queued",
        "PreflightPassed True StoreWorks: the store works",
        "DataReady True VersionPinned: a valid version of the data is pinned",
        f"Trained Unknown {queued}",
        "Reproducible Unknown Queued",
        "Reconciling False Queued",
        "Stalled False Queued",
    ]
    assert not world.has("Job", AGAIN)


@pytest.mark.parametrize(
    ("again", "why"),
    [
        (
            report.Report(False, "TrainingFailed", "it did not converge"),
            "SecondRunFailed: the second run failed: TrainingFailed: it did not converge",
        ),
        (
            report.Report(True, "StoreWorks", result=report.PreflightResult(())),
            "SecondRunFailed: the second run failed: its report is not that of a training",
        ),
        (
            None,
            (
                "SecondRunFailed: the second run failed: OutOfMemory: container trainer used more memory than its"
                " limit; raise resources.limits.memory"
            ),
        ),
    ],
)
def test_a_second_run_that_fails_is_a_verdict_and_the_run_succeeds(again: report.Report | None, why: str) -> None:
    world = ended(again, exit_reason="" if again else "OOMKilled")
    said = world.told("TrainingJob", "lr")
    assert said[5] == f"Reproducible Unknown {why}"
    assert said[0] == "Succeeded True TrainingSucceeded: ModelVersion triage-1"
    assert said[6:] == ["Reconciling False TrainingSucceeded", "Stalled False TrainingSucceeded"]


@pytest.mark.parametrize("state", ["runs", "lost its report", "ended"])
def test_suspend_throws_away_the_second_run_only_and_only_what_has_no_verdict(state: str) -> None:
    world = trained_once()
    uid = world.get("Job", AGAIN)["metadata"]["uid"]
    if state == "lost its report":
        lost_its_report(world)
    elif state == "ended":
        world.end_job(AGAIN, gave())
    world.put("TrainingJob", "lr", spec=training_spec(reproduce={"runs": 2}, suspend=True))
    if state == "ended":
        assert world.deletes("TrainingJob", "lr") == []
        return
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Delete))
    assert (delete.kind, delete.name, delete.uid) == ("Job", AGAIN, uid)
    (guard,) = delete.guards
    meaning = "TrainingJob lr is suspended" if state == "runs" else "the pods of Job lr-again are gone"
    assert guard.meaning == meaning
    world.reconcile("TrainingJob", "lr")
    assert world.has("Job", "lr-train")
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("Unknown", "Suspended")


def test_a_second_run_whose_task_somebody_changed_is_made_anew_for_what_is_still_declared() -> None:
    world = trained_once()
    world.get("Job", AGAIN)["metadata"]["annotations"]["modelmill.dev/task"] = "another"
    uid = world.get("Job", AGAIN)["metadata"]["uid"]
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Delete))
    assert (delete.name, delete.uid) == (AGAIN, uid)
    assert [guard.meaning for guard in delete.guards] == [
        "TrainingJob lr is as it was read",
        "Workspace default is as it was read",
    ]
    world.settle()
    assert world.get("Job", AGAIN)["metadata"]["uid"] != uid


def test_what_is_left_of_a_second_run_goes_once_the_end_is_told_and_the_first_stays() -> None:
    world = ended(None, exit_reason="OOMKilled")
    kept = {key: world.get("Job", AGAIN)["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    world.put("Job", AGAIN, metadata={**kept, "uid": "left"}, spec={}, status={})
    assert world.deletes("TrainingJob", "lr") == [("Job", AGAIN, "left")]
    assert world.has("Job", "lr-train")
