"""A known recipe is answered by the version that exists, without a training, unless `reproduce` asks for one."""

from typing import Any

import pytest
from msgspec.structs import replace
from world import World, digest_of, moved_to, trained, training_spec, version_spec, with_dataset, with_store

from modelmill.core import known
from modelmill_contracts import report, task


def ready_world() -> World:
    return with_dataset(with_store(World()))


def begin(world: World, name: str, **more: Any) -> task.TrainingTask:
    """The run is created; what its pod is asked to do."""
    world.put("TrainingJob", name, spec=training_spec(**more))
    world.settle()
    work = task.decode(
        world.get("Job", f"{name}-train")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    )
    assert isinstance(work, task.TrainingTask)
    return work


def end(world: World, name: str, said: report.Report | None = None) -> None:
    world.end_job(f"{name}-train", said or trained())
    world.settle()


def remembered(letter: str = "1") -> report.Report:
    """What a pod answers that knows its recipe, and so did not train."""
    said = trained(letter)
    return replace(said, reason="RecipeKnown", result=replace(said.result, known=True))


def versions(world: World) -> list[str]:
    return sorted(name for kind, name in world.objects if kind == "ModelVersion")


def test_the_pod_is_told_what_earlier_trainings_on_this_data_made() -> None:
    world = ready_world()
    assert begin(world, "first").known == ()
    end(world, "first")
    assert begin(world, "second").known == (task.Known(digest_of("e"), digest_of("1")),)


def test_a_run_whose_recipe_is_known_is_the_version_that_exists_and_says_so() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    begin(world, "second")
    end(world, "second", remembered())
    assert versions(world) == ["triage-1"]
    assert world.get("Model", "triage")["status"]["lastVersion"] == 1
    status = world.get("TrainingJob", "second")["status"]
    assert (status["modelVersion"], status["artifact"]["digest"]) == ("triage-1", digest_of("1"))
    assert status["metrics"] == [{"name": "roc_auc", "value": "0.995"}]
    said = "ModelVersion triage-1 is of this very recipe: nothing was trained (spec.reproduce would train it again)"
    assert world.told("TrainingJob", "second") == [
        f"Succeeded True VersionExists: {said}",
        "Failed False VersionExists",
        "PreflightPassed True StoreWorks: the store works",
        "DataReady True VersionPinned: a valid version of the data is pinned",
        "Trained True RecipeKnown: the artifact was made by this very recipe before; nothing was trained",
        "Reproducible Unknown NotAsked: without spec.reproduce it is trained once",
        "Reconciling False VersionExists",
        "Stalled False VersionExists",
    ]


def test_what_it_said_stays_when_that_version_and_the_job_are_gone() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    begin(world, "second")
    end(world, "second", remembered())
    before = world.get("TrainingJob", "second")["status"]
    world.remove("ModelVersion", "triage-1")
    world.remove("Job", "second-train")
    world.settle()
    assert world.get("TrainingJob", "second")["status"] == before
    assert versions(world) == []


def test_what_was_trained_all_the_same_becomes_no_second_version() -> None:
    world = ready_world()
    begin(world, "first")
    begin(world, "second")  # both at the same time: neither can know
    end(world, "first")
    end(world, "second")
    assert versions(world) == ["triage-1"]
    said = "ModelVersion triage-1 is of this very recipe: the training gave the same bytes"
    assert world.told("TrainingJob", "second")[0] == f"Succeeded True VersionExists: {said}"
    assert world.condition("TrainingJob", "second", "Trained") == ("True", "ArtifactPublished")


def test_other_bytes_of_the_same_recipe_are_another_version() -> None:
    world = ready_world()
    begin(world, "first")
    begin(world, "second")
    end(world, "first")
    end(world, "second", trained("2"))
    assert versions(world) == ["triage-1", "triage-2"]


def test_reproduce_asks_for_a_training() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    assert begin(world, "second", reproduce={"runs": 2}).known == ()
    end(world, "second")
    world.end_job("second-again", trained())
    world.settle()
    assert world.condition("TrainingJob", "second", "Reproducible") == ("True", "SameBytes")
    assert world.condition("TrainingJob", "second", "Succeeded") == ("True", "VersionExists")
    assert versions(world) == ["triage-1"]


def test_a_version_that_went_while_the_pod_looked_at_it_is_made_again_of_what_it_was() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    begin(world, "second")
    world.remove("ModelVersion", "triage-1")
    end(world, "second", remembered())
    assert versions(world) == ["triage-2"]
    assert world.get("ModelVersion", "triage-2")["spec"]["artifact"]["digest"] == digest_of("1")
    assert world.condition("TrainingJob", "second", "Succeeded") == ("True", "TrainingSucceeded")
    assert world.condition("TrainingJob", "second", "Trained") == ("True", "RecipeKnown")


def test_a_version_that_is_being_deleted_answers_nothing() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    world.get("ModelVersion", "triage-1")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert begin(world, "second").known == ()
    end(world, "second")
    assert versions(world) == ["triage-1", "triage-2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"lineage": {"recipe": digest_of("e"), "dataset": {"name": "tumours", "version": digest_of("b")}}},
        {"lineage": {"dataset": {"name": "tumours", "version": digest_of("a")}}},
        {"artifact": {"uri": f"s3://other/artifacts/sha256-{'1' * 64}", "digest": digest_of("1")}},
        {"modelRef": {"name": "other"}},
    ],
    ids=["other data", "no recipe", "another store", "another model"],
)
def test_what_cannot_be_the_same_is_not_told(changes: dict[str, Any]) -> None:
    world = ready_world()
    spec = {
        **version_spec(1),
        "lineage": {"recipe": digest_of("e"), "dataset": {"name": "tumours", "version": digest_of("a")}},
    }
    world.put("ModelVersion", "triage-1", spec={**spec, **changes})
    assert begin(world, "lr").known == ()
    world.put("ModelVersion", "triage-1", spec=spec)
    assert begin(world, "again").known == (task.Known(digest_of("e"), digest_of("1")),)


def test_a_pod_is_told_of_the_newest_versions_only() -> None:
    world = ready_world()
    lineage = {"dataset": {"name": "tumours", "version": digest_of("a")}}
    for number in range(1, known.MAX_TOLD + 2):
        spec = {**version_spec(number, "1"), "lineage": {**lineage, "recipe": f"sha256:{number:064}"}}
        world.put("ModelVersion", f"triage-{number}", spec=spec)
    told = begin(world, "lr").known
    assert len(told) == known.MAX_TOLD
    assert told[0].recipe == f"sha256:{known.MAX_TOLD + 1:064}"
    assert told[-1].recipe == f"sha256:{2:064}"


def test_without_a_model_there_is_no_version_to_answer_with() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    spec = training_spec()
    del spec["modelRef"]
    world.put("TrainingJob", "tracked", spec=spec)
    world.settle()
    end(world, "tracked")
    assert world.condition("TrainingJob", "tracked", "Succeeded") == ("True", "TrainingSucceeded")
    assert "modelVersion" not in world.get("TrainingJob", "tracked")["status"]


def test_what_is_in_another_store_by_now_is_trained_again() -> None:
    world = ready_world()
    begin(world, "first")
    end(world, "first")
    moved_to(world, "s3://elsewhere")
    with_dataset(world, "moved")
    data = {"datasetRef": {"name": "moved"}, "target": "benign"}
    assert begin(world, "second", data=data).known == ()
