"""Admission: so many TrainingJobs run at a time as the Workspace says, in the order of their creation."""

from typing import Any

from world import World, trained, training_spec, with_dataset, with_store

from modelmill.core import admission
from modelmill.core.admission import Candidate

NAMES = ("a", "b", "c")


def limited(most: int | None) -> dict[str, Any]:
    store = {"uri": "s3://models", "endpoint": "http://store:7070"}
    return {"store": store, **({"training": {"maxParallel": most}} if most else {})}


def crowded(most: int | None = 1) -> World:
    """Three TrainingJobs, made one after the other, the last in the alphabet first."""
    world = with_dataset(with_store(World()))
    world.put("Workspace", "default", spec=limited(most))
    for name in reversed(NAMES):
        world.put("TrainingJob", name, spec=training_spec(modelRef={"name": "triage"}))
        world.wait(1)
    world.settle()
    return world


def running(world: World) -> list[str]:
    world.settle()
    return [n for n in NAMES if world.has("Job", f"{n}-train") and not world.get("Job", f"{n}-train")["status"]]


def test_without_a_limit_all_start() -> None:
    assert running(crowded(None)) == ["a", "b", "c"]


def test_the_oldest_starts_and_the_others_wait_for_their_turn() -> None:
    world = crowded(1)
    assert running(world) == ["c"]
    said = (
        "Queued: Workspace default has 1 TrainingJobs run at the same time (spec.training.maxParallel); this one starts"
        " when it is its turn"
    )
    assert world.told("TrainingJob", "a") == [
        f"Succeeded Unknown {said}",
        "Failed Unknown Queued",
        "PreflightPassed True StoreWorks: the store works",
        "DataReady True VersionFound: there is a valid version of the data; it is pinned at the start",
        f"Trained Unknown {said}",
        "Reproducible Unknown NotAsked: without spec.reproduce it is trained once",
        "Reconciling False Queued",
        "Stalled False Queued",
    ]
    assert "datasetVersion" not in world.get("TrainingJob", "a")["status"]
    for name, following in (("c", "b"), ("b", "a")):
        world.end_job(f"{name}-train", trained())
        assert running(world) == [following]
    world.end_job("a-train", trained())
    world.settle()
    assert "admitted" not in world.get("Workspace", "default")["status"]


def test_who_suspends_or_deletes_gives_the_place_up() -> None:
    world = crowded(1)
    world.put("TrainingJob", "c", spec=training_spec(suspend=True))
    assert running(world) == ["b"]
    world.remove("TrainingJob", "b")
    assert running(world) == ["a"]


def test_who_is_suspended_gives_the_place_up_before_its_status_says_so() -> None:
    world = crowded(1)
    world.put("TrainingJob", "c", spec=training_spec(suspend=True))
    world.reconcile("Workspace", "default")
    assert [a["name"] for a in world.get("Workspace", "default")["status"]["admitted"]] == ["b"]


def test_who_goes_on_after_a_pause_waits_for_a_turn_again() -> None:
    world = crowded(1)
    world.put("TrainingJob", "c", spec=training_spec(suspend=True))
    assert running(world) == ["b"]
    world.put("TrainingJob", "c", spec=training_spec(suspend=False))
    world.reconcile("Workspace", "default")  # before the TrainingJob has said that it goes on
    assert running(world) == ["b"]
    assert world.condition("TrainingJob", "c", "Trained") == ("Unknown", "Queued")
    world.end_job("b-train", trained())
    assert running(world) == ["c"]


def test_who_waits_for_data_takes_no_place() -> None:
    world = with_dataset(with_store(World()))
    world.put("Workspace", "default", spec=limited(1))
    data = {**training_spec()["data"], "datasetRef": {"name": "missing"}}
    world.put("TrainingJob", "a", spec=training_spec(data=data))
    world.settle()
    world.wait(1)
    world.put("TrainingJob", "b", spec=training_spec())
    assert running(world) == ["b"]


def test_who_has_an_artifact_needs_no_place_for_the_rest() -> None:
    world = crowded(1)
    world.end_job("c-train", trained())
    world.reconcile("TrainingJob", "c")  # which waits for its number now
    assert world.condition("TrainingJob", "c", "Succeeded")[0] == "Unknown"
    world.reconcile("Workspace", "default")
    admitted = world.get("Workspace", "default")["status"]["admitted"]
    assert admitted == [{"name": "b", "uid": world.get("TrainingJob", "b")["metadata"]["uid"]}]


def test_a_limit_that_comes_later_stops_nothing_and_counts_what_runs() -> None:
    world = crowded(None)
    world.put("Workspace", "default", spec=limited(2))
    world.wait(1)
    world.put("TrainingJob", "d", spec=training_spec())
    assert running(world) == ["a", "b", "c"]
    assert [a["name"] for a in world.get("Workspace", "default")["status"]["admitted"]] == ["c", "b", "a"]
    assert not world.has("Job", "d-train")
    world.end_job("a-train", trained())
    running(world)
    assert not world.has("Job", "d-train")
    world.end_job("b-train", trained())
    running(world)
    assert world.has("Job", "d-train")


def test_a_larger_limit_and_none_let_more_start() -> None:
    world = crowded(1)
    world.put("Workspace", "default", spec=limited(2))
    assert running(world) == ["b", "c"]
    world.put("Workspace", "default", spec=limited(None))
    assert running(world) == ["a", "b", "c"]


def candidate(name: str, *, runs: bool = False) -> Candidate:
    return Candidate("2026-01-01T00:00:00Z", name, f"uid-{name}", runs)


def test_who_was_admitted_stays_and_names_decide_between_those_of_one_moment() -> None:
    a, b, c = (candidate(name) for name in NAMES)
    assert admission.admitted((a, b, c), frozenset(), 2) == (a, b)
    assert admission.admitted((a, b, c), frozenset({"uid-c"}), 2) == (a, c)
    assert admission.admitted((a, b, c), frozenset({"uid-b", "uid-c"}), 1) == (b, c)
    assert admission.admitted((a, b, candidate("c", runs=True)), frozenset(), 1) == (candidate("c", runs=True),)
    assert admission.admitted((a, candidate("c", runs=True)), frozenset({"uid-a"}), 5) == (a, candidate("c", runs=True))


def test_more_than_a_status_holds_wait() -> None:
    many = tuple(candidate(f"j{number:04}", runs=True) for number in range(600))
    assert admission.admitted(many, frozenset(), 1) == many[:512]
