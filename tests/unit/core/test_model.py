"""Model: numbers that are given once, and which version is the newest that is Ready."""

from typing import Any

from world import World, digest_of, trained, training_spec, version_spec, with_dataset, with_store, with_version


def status(world: World) -> dict[str, Any]:
    world.reconcile("Model", "triage")
    found = dict(world.get("Model", "triage")["status"])
    del found["conditions"]
    return found


def end_runs(world: World, *names: str, letter: str = "") -> None:
    """Runs that have an artifact, each one of its own unless they share a letter, and no version yet."""
    for name in names:
        world.put("TrainingJob", name, spec=training_spec())
        world.reconcile("TrainingJob", name)
    for name in names:
        world.end_job(f"{name}-train", trained(letter or _LETTERS[name]))
        world.reconcile("TrainingJob", name)


_LETTERS = {"lr": "1", "a": "a", "b": "b", "one": "1", "two": "2", "three": "3"}


def uid(world: World, name: str) -> str:
    return str(world.get("TrainingJob", name)["metadata"]["uid"])


def test_a_new_model_has_given_no_number() -> None:
    world = World()
    world.put("Model", "triage", spec={})
    assert status(world) == {"lastVersion": 0, "observedGeneration": 1}
    assert world.told("Model", "triage") == [
        "Ready True Numbering: the last version given is 0",
        "Reconciling False Numbering",
        "Stalled False Numbering",
    ]
    assert world.events == []
    assert world.plan("Model", "triage").requeue_after is None


def test_a_number_is_reserved_for_a_run_until_its_version_exists() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "lr")
    reserved = {"version": 1, "trainingJob": "lr", "uid": uid(world, "lr")}
    assert status(world) == {"lastVersion": 1, "reservations": [reserved], "observedGeneration": 1}
    world.reconcile("TrainingJob", "lr")
    assert world.has("ModelVersion", "triage-1")
    assert status(world) == {"lastVersion": 1, "observedGeneration": 1}


def test_numbers_are_given_in_the_order_in_which_runs_ended() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "b")
    world.wait(1)
    end_runs(world, "a")
    given = status(world)["reservations"]
    assert [(r["version"], r["trainingJob"]) for r in given] == [(1, "b"), (2, "a")]


def test_a_run_that_has_its_version_gets_no_other_number_while_its_status_does_not_say_so() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "lr")
    world.reconcile("Model", "triage")
    world.reconcile("TrainingJob", "lr")
    del world.objects["TrainingJob", "lr"]["status"]["modelVersion"]
    assert status(world)["lastVersion"] == 1


def test_a_number_of_a_run_that_is_gone_is_not_kept_for_it_and_not_given_again() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "one", "two")
    assert len(status(world)["reservations"]) == 2
    world.remove("TrainingJob", "two")
    assert [r["trainingJob"] for r in status(world)["reservations"]] == ["one"]
    end_runs(world, "three")
    assert [r["version"] for r in status(world)["reservations"]] == [1, 3]


def test_after_the_last_number_there_is_none_and_the_model_says_so() -> None:
    world = with_dataset(with_store(World()))
    by_hand = {"uri": "s3://models/artifacts/x", "digest": digest_of("9")}
    world.put("Model", "triage", spec={})
    world.put(
        "ModelVersion", "triage-999999", spec={"modelRef": {"name": "triage"}, "version": 999_999, "artifact": by_hand}
    )
    end_runs(world, "lr")
    assert "reservations" not in status(world)
    assert world.condition("Model", "triage", "Ready") == ("False", "NumbersUsedUp")
    assert world.condition("Model", "triage", "Stalled") == ("True", "NumbersUsedUp")


def test_of_runs_that_made_the_same_one_becomes_a_version_and_the_others_say_that_one() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "one", "two", letter="1")
    assert [r["trainingJob"] for r in status(world)["reservations"]] == ["one"]
    world.settle()
    assert {world.get("TrainingJob", name)["status"]["modelVersion"] for name in ("one", "two")} == {"triage-1"}
    assert status(world) == {"lastVersion": 1, "observedGeneration": 1}
    end_runs(world, "three")
    world.settle()
    assert world.get("TrainingJob", "three")["status"]["modelVersion"] == "triage-2"  # no number is left out


def test_a_run_gets_the_number_where_the_one_that_made_the_same_is_gone_before_it_became_a_version() -> None:
    world = with_dataset(with_store(World()))
    end_runs(world, "one", "two", letter="1")
    status(world)
    world.remove("TrainingJob", "one")
    world.settle()
    assert world.get("TrainingJob", "two")["status"]["modelVersion"] == "triage-2"


def test_more_runs_than_the_status_holds_get_their_numbers_as_others_get_their_versions() -> None:
    world = World()
    world.put("Model", "triage", spec={})
    done = {"type": "Trained", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    for number in range(257):
        artifact = {"uri": "s3://models/a", "digest": f"sha256:{number:064}"}
        ended = {"recipe": digest_of("e"), "artifact": artifact, "conditions": [done]}
        world.put("TrainingJob", f"lr-{number:03}", spec=training_spec(), status=ended)
    assert (status(world)["lastVersion"], len(status(world)["reservations"])) == (256, 256)
    world.objects["TrainingJob", "lr-000"]["status"]["modelVersion"] = "triage-1"
    assert status(world)["lastVersion"] == 257
    assert status(world)["reservations"][-1]["trainingJob"] == "lr-256"


def test_a_number_that_was_used_by_hand_is_counted() -> None:
    world = with_dataset(with_store(World()))
    world.put("Model", "triage", spec={})
    world.put("ModelVersion", "triage-7", spec=version_spec(7))
    end_runs(world, "lr")
    assert status(world)["lastVersion"] == 8


def test_a_run_of_another_model_or_without_an_artifact_gets_no_number() -> None:
    world = with_dataset(with_store(World()))
    world.put("Model", "triage", spec={})
    world.put("TrainingJob", "other", spec=training_spec(modelRef={"name": "other"}))
    world.put("TrainingJob", "running", spec=training_spec())
    world.reconcile("TrainingJob", "other")
    world.reconcile("TrainingJob", "running")
    world.end_job("other-train", trained())
    world.reconcile("TrainingJob", "other")
    assert status(world) == {"lastVersion": 0, "observedGeneration": 1}


def test_the_newest_ready_version_is_told_however_many_came_after_it() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={})
    for number in (1, 2):
        with_version(world, number)
    world.put("ModelVersion", "triage-3", spec=version_spec(3))
    world.reconcile("ModelVersion", "triage-3")
    assert status(world) == {"lastVersion": 3, "latestReady": 2, "observedGeneration": 1}


def test_a_version_that_was_trained_elsewhere_has_no_run() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={})
    spec = version_spec(1)
    world.put("ModelVersion", "triage-1", spec={**spec, "lineage": {"recipe": digest_of("e")}})
    assert status(world)["lastVersion"] == 1
