"""Accelerators and Kueue's queues: what a training asks for reaches its Job, and what it waits for is told."""

from typing import Any

import pytest
from test_training_by_a_container import own_training, with_images
from world import World, trained, training_spec, with_dataset, with_store

QUEUE = "kueue.x-k8s.io/queue-name"
TWO = {"limits": {"memory": "4Gi", "nvidia.com/gpu": "2"}}


def started(**more: Any) -> World:
    """A TrainingJob that has its Job."""
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec(**more))
    world.settle()
    return world


def worked(world: World, start: str | None, end: str | None, key: str = "containerStatuses") -> None:
    """From when to when the pod's first container under this key worked."""
    status = world.objects["Pod", "lr-train-x"]["status"]
    ended = status[key][0]["state"]["terminated"]
    ended |= {
        field: f"2026-01-01T00:{time}Z"
        for field, time in (("startedAt", start), ("finishedAt", end))
        if time is not None
    }


def test_the_trainer_has_the_accelerators_that_are_declared() -> None:
    (trainer,) = started(resources=TWO).get("Job", "lr-train")["spec"]["template"]["spec"]["containers"]
    assert trainer["resources"] == {
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "2"},
        "requests": {"cpu": "500m", "memory": "4Gi", "nvidia.com/gpu": "2"},
    }


def test_of_a_pod_with_a_container_of_the_users_it_alone_has_them() -> None:
    world = with_images("*")
    world.put("TrainingJob", "own", spec=own_training(resources=TWO))
    world.settle()
    pod = world.get("Job", "own-train")["spec"]["template"]["spec"]
    fetch, users = pod["initContainers"]
    (trainer,) = pod["containers"]
    assert users["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": "2"}
    for ours in (fetch, trainer):
        assert ours["resources"] == {"limits": {"memory": "4Gi"}, "requests": {"cpu": "500m", "memory": "4Gi"}}


def test_that_no_node_has_them_is_told_while_it_waits() -> None:
    world = started(resources=TWO)
    none = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    world.pod_of_job("lr-train", conditions=[{"type": "PodScheduled", "status": "False", "message": none}])
    world.settle()
    assert world.condition("TrainingJob", "lr", "Stalled") == ("True", "Unschedulable")
    assert world.message("TrainingJob", "lr", "Succeeded") == (
        f"no node takes the pod: {none}; ask for less in resources, or add nodes"
    )


def test_how_long_it_had_them_is_told_and_stays() -> None:
    world = started(resources=TWO)
    world.end_job("lr-train", trained())
    worked(world, "01:00", "02:30")
    world.settle()
    usage = {"cpuSeconds": 0, "acceleratorSeconds": 180}
    assert world.get("TrainingJob", "lr")["status"]["usage"] == usage
    world.remove("Job", "lr-train")
    assert world.plan("TrainingJob", "lr").writes == ()
    assert world.get("TrainingJob", "lr")["status"]["usage"] == usage


def test_it_has_them_from_the_first_container_s_start_to_the_last_one_s_end() -> None:
    world = started(resources=TWO)
    world.end_job("lr-train", trained())
    status = world.objects["Pod", "lr-train-x"]["status"]
    status["initContainerStatuses"] = [{"name": "fetch", "state": {"terminated": {"exitCode": 0}}}]
    worked(world, "00:10", "00:20", "initContainerStatuses")
    worked(world, "00:30", "00:40")
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["usage"]["acceleratorSeconds"] == 60


@pytest.mark.parametrize(
    ("resources", "start", "end"),
    [
        ({}, "00:00", "01:30"),
        (TWO, None, None),  # it is not known
        (TWO, "00:00", None),
        (TWO, None, "00:10"),
        (TWO, "01:30", "00:00"),  # a clock that was set back
    ],
)
def test_where_there_is_nothing_to_tell_nothing_is_told(
    resources: dict[str, Any], start: str | None, end: str | None
) -> None:
    world = started(resources=resources)
    world.end_job("lr-train", trained())
    worked(world, start, end)
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["usage"] == {"cpuSeconds": 0}


@pytest.mark.parametrize("known", [{}, {"startedAt": "2026-01-01T00:00:30Z"}, {"finishedAt": "2026-01-01T00:00:30Z"}])
def test_times_that_the_api_server_writes_as_null_are_not_known(known: dict[str, str]) -> None:
    world = started(resources=TWO)
    world.end_job("lr-train", trained())
    (container,) = world.objects["Pod", "lr-train-x"]["status"]["containerStatuses"]
    container["state"]["terminated"] |= {"startedAt": None, "finishedAt": None} | known
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["usage"] == {"cpuSeconds": 0}


def test_the_queue_is_a_label_of_each_of_its_jobs_and_of_no_pod() -> None:
    world = started(queueName="team-a", reproduce={"runs": 2})
    world.end_job("lr-train", trained())
    world.settle()
    for name in ("lr-train", "lr-again"):
        job = world.get("Job", name)
        assert job["metadata"]["labels"][QUEUE] == "team-a"
        assert job["metadata"]["labels"]["modelmill.dev/trainingjob"] == "lr"
        assert QUEUE not in job["spec"]["template"]["metadata"]["labels"]
    assert QUEUE not in started().get("Job", "lr-train")["metadata"]["labels"]


def held(world: World, status: str) -> None:
    """Kueue's word on the Job, by Kubernetes' Job controller."""
    said = {
        "type": "Suspended",
        "status": status,
        "reason": "JobSuspended",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    world.store("Job", "lr-train", {**world.get("Job", "lr-train"), "status": {"conditions": [said]}})
    world.settle()


def test_a_job_that_waits_in_a_queue_is_told_and_is_neither_stalled_nor_on_its_way() -> None:
    world = started(queueName="team-a")
    held(world, "True")
    waits = "Queued: Job lr-train waits in queue team-a (spec.queueName) until Kueue admits it"
    assert world.told("TrainingJob", "lr") == [
        f"Succeeded Unknown {waits}",
        "Failed Unknown Queued",
        "PreflightPassed True StoreWorks: the store works",
        "DataReady True VersionPinned: a valid version of the data is pinned",
        f"Trained Unknown {waits}",
        "Reproducible Unknown NotAsked: without spec.reproduce it is trained once",
        "Reconciling False Queued",
        "Stalled False Queued",
    ]
    assert world.plan("TrainingJob", "lr").writes == ()
    held(world, "False")
    assert world.condition("TrainingJob", "lr", "Trained") == ("Unknown", "Training")


def test_a_job_that_waits_in_a_queue_goes_when_the_training_is_suspended() -> None:
    world = started(queueName="team-a")
    held(world, "True")
    world.put("TrainingJob", "lr", spec=training_spec(queueName="team-a", suspend=True))
    world.settle()
    assert not world.has("Job", "lr-train")
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Suspended")


def test_a_job_that_somebody_suspended_waits_in_no_queue_where_none_is_declared() -> None:
    world = started()
    held(world, "True")
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Training")
