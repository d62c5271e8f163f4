"""The rank of a use case orders the queue of training runs, and nothing starves."""

import itertools
from datetime import timedelta
from typing import Any

import experiments
import pytest
from governing import use_case
from hypothesis import given
from hypothesis import strategies as st
from world import START, World, trained, training_spec, with_dataset, with_store

from modelmill.core.admission import LATEST, Candidate, admitted, turn_of
from modelmill.core.conditions import moment, timestamp

STORE = {"uri": "s3://models", "endpoint": "http://store:7070"}


def crowded(training: dict[str, Any], *jobs: str) -> World:
    """TrainingJobs of the Models a (rank 1), b (rank 2) and c (no use case), made an hour after each other."""
    world = with_dataset(with_store(World()))
    world.put("Workspace", "default", spec={"store": STORE, "training": training})
    for name, value in (("a", 8), ("b", 2)):
        priority = {"value": value, "urgency": 0, "riskReduction": 0, "effort": 1}
        world.put("UseCase", name, spec=use_case(priority=priority))
        world.put("Model", name, spec={"useCaseRef": {"name": name}})
    world.put("Model", "c", spec={})
    world.settle()
    first, *others = jobs
    world.put("TrainingJob", first, spec=training_spec(modelRef={"name": first[0]}))
    world.settle()
    for name in others:
        world.put("TrainingJob", name, spec=training_spec(modelRef={"name": name[0]}))
        world.wait(60)
    world.settle()
    return world


def order(world: World, *jobs: str) -> list[str]:
    """The order in which they run, one at a time."""
    found = []
    for number in range(len(jobs)):
        world.settle()
        (running,) = [
            n for n in jobs if world.has("Job", f"{n}-train") and not world.get("Job", f"{n}-train")["status"]
        ]
        found.append(running)
        world.end_job(f"{running}-train", trained(str(number)))
        world.settle()
    return found


def test_what_is_of_a_better_rank_comes_first() -> None:
    jobs = ("c-0", "c-1", "b-1", "a-1", "a-2")
    assert order(crowded({"maxParallel": 1}, *jobs), *jobs) == ["c-0", "a-1", "a-2", "b-1", "c-1"]


def test_without_ranks_it_is_the_order_of_creation() -> None:
    jobs = ("c-0", "c-2", "c-1")
    assert order(crowded({"maxParallel": 1}, *jobs), *jobs) == ["c-0", "c-2", "c-1"]


def search_for(world: World, name: str, model: str) -> None:
    """An Experiment of two trials, one after the other, for the Model."""
    template = training_spec(modelRef={"name": model})
    world.put("Experiment", name, spec=experiments.spec(template=template, trials={"max": 2, "parallel": 2}))
    world.settle()


def test_trials_have_the_rank_of_the_model_that_their_experiment_is_for() -> None:
    world = crowded({"maxParallel": 1}, "c-0", "b-1", "c-1")
    world.wait(60)
    search_for(world, "search", "a")
    assert "modelRef" not in world.get("TrainingJob", "search-1")["spec"]
    jobs = ("c-0", "b-1", "c-1", "search-1", "search-2")
    assert order(world, *jobs) == ["c-0", "search-1", "search-2", "b-1", "c-1"]


def test_who_waited_a_day_longer_comes_first_whatever_its_rank() -> None:
    world = crowded({"maxParallel": 1}, "b-0", "c-1")
    world.wait(24 * 3600)
    world.put("TrainingJob", "a-1", spec=training_spec(modelRef={"name": "a"}))
    jobs = ("b-0", "c-1", "a-1")
    assert order(world, *jobs) == ["b-0", "c-1", "a-1"]


@pytest.mark.parametrize(("rank", "hours"), [(1, 1), (2, 2), (24, 24), (25, 24), (1000, 24), (None, 24)])
def test_a_rank_is_hours_and_at_most_a_day(rank: int | None, hours: int) -> None:
    assert moment(turn_of(timestamp(START), rank)) - START == timedelta(hours=hours)


RUN = st.tuples(st.integers(0, 200), st.one_of(st.none(), st.integers(1, 40)))  # hours, rank


@given(st.lists(RUN, min_size=2, max_size=12))
def test_nobody_is_overtaken_by_what_came_a_day_later(runs: list[tuple[int, int | None]]) -> None:
    names = itertools.count()
    waiting = []
    created = {}
    for hours, rank in runs:
        at = timestamp(START + timedelta(hours=hours))
        one = Candidate(turn_of(at, rank), f"run-{next(names):02}", f"uid-{len(waiting)}", runs=False)
        created[one.uid] = moment(at)
        waiting.append(one)
    place = {one.uid: number for number, one in enumerate(admitted(tuple(sorted(waiting)), frozenset(), 99))}
    for one, other in itertools.permutations(waiting, 2):
        if created[one.uid] - created[other.uid] > LATEST:
            assert place[other.uid] < place[one.uid]


def test_a_better_rank_never_waits_for_a_worse_one_of_the_same_time() -> None:
    at = timestamp(START)
    ranks: list[int | None] = [*range(1, 25), None]
    turns = [turn_of(at, rank) for rank in ranks]
    assert turns == sorted(turns)


def test_a_workspace_that_admits_nobody_reads_no_model() -> None:
    world = crowded({"priorityClasses": ["high"]}, "c-0", "a-1")
    keys = world.observed("Workspace", "default").related
    assert not [key for key in keys if key.kind in ("Model", "TrainingJob")]
    assert world.has("Job", "c-0-train")
    assert world.has("Job", "a-1-train")


# Across namespaces the cluster decides.


def job(world: World, name: str) -> tuple[str | None, str | None]:
    """The class of the pods, and that for Kueue."""
    made = world.get("Job", f"{name}-train")
    labels = made["metadata"]["labels"]
    return made["spec"]["template"]["spec"].get("priorityClassName"), labels.get("kueue.x-k8s.io/priority-class")


def test_pods_have_the_class_that_the_workspace_names_for_the_rank() -> None:
    world = crowded(
        {"priorityClasses": ["high", "low"], "queuePriorityClasses": ["first", "rest"]}, "a-1", "b-1", "c-1"
    )
    assert job(world, "a-1") == ("high", None)
    assert job(world, "b-1") == ("low", None)
    assert job(world, "c-1") == ("low", None)
    world.put("TrainingJob", "a-2", spec=training_spec(modelRef={"name": "a"}, queueName="team"))
    world.put("TrainingJob", "c-2", spec=training_spec(queueName="team"))
    world.settle()
    assert job(world, "a-2") == ("high", "first")
    assert job(world, "c-2") == ("low", "rest")


def test_pods_of_trials_have_the_class_of_that_model() -> None:
    world = crowded({"priorityClasses": ["high", "low"]}, "c-1")
    search_for(world, "search", "a")
    search_for(world, "other", "c")
    assert job(world, "search-1") == ("high", None)
    assert job(world, "other-1") == ("low", None)


def test_without_classes_a_job_is_what_it_was() -> None:
    world = crowded({"maxParallel": 4}, "a-1", "c-1")
    assert job(world, "a-1") == (None, None)
