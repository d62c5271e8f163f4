"""A training that is done twice: the second run only says what it would give, and the verdict stays."""

from typing import Any

import pytest
from msgspec.structs import replace
from world import World, digest_of, moved_to, trained, training_spec, with_dataset, with_store

from modelmill.core import reproduction
from modelmill.core.plan import Create, Guard, NoPods
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


def test_a_second_run_that_fails_does_not_reproduce() -> None:
    world = ended(report.Report(False, "TrainingFailed", "it did not converge"))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("False", "SecondRunFailed")
    assert "TrainingFailed: it did not converge" in world.message("TrainingJob", "lr", "Reproducible")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert "reproduction" not in world.get("TrainingJob", "lr")["status"]


def test_a_second_run_that_runs_out_of_memory_is_not_tried_again() -> None:
    world = trained_once()
    world.end_job("lr-again", None, exit_reason="OOMKilled")
    world.objects["Job", "lr-again"]["status"] = {}  # it has retries left
    world.settle()
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("False", "SecondRunFailed")
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert not world.has("Job", "lr-again")


def test_a_report_of_something_else_is_no_second_run() -> None:
    world = ended(report.Report(True, "StoreWorks", result=report.PreflightResult(("put",))))
    assert world.condition("TrainingJob", "lr", "Reproducible") == ("False", "SecondRunFailed")


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
