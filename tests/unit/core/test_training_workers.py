"""A TrainingJob with several workers: what is made for them, and what is said of each of them."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, allowing_images, digest_of, trained, training_spec, with_dataset, with_store

from modelmill.core import measurement
from modelmill.core.plan import Create, Delete, NoPods
from modelmill_contracts import progress, report, task

NAME, JOB, BETWEEN = "forest", "forest-train", "forest-workers"
INDEX = "batch.kubernetes.io/job-completion-index"
OUT_OF_MEMORY = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:10Z"}}


def world(**more: Any) -> World:
    made = with_dataset(with_store(World()))
    made.put("TrainingJob", NAME, spec=training_spec(workers=3, **more))
    return made


def started(**more: Any) -> World:
    made = world(**more)
    made.settle()
    return made


def pod(made: World, index: int, job: str = JOB, *, name: str = "", **status: Any) -> None:
    """The pod of that index, as the Job's controller makes it."""
    found = made.get("Job", job)
    labels = {**found["spec"]["template"]["metadata"]["labels"], INDEX: str(index)}
    owner = {"kind": "Job", "name": job, "uid": found["metadata"]["uid"], "controller": True}
    metadata = {"labels": labels, "ownerReferences": [owner]}
    made.put("Pod", name or f"{job}-{index}", metadata=metadata, status={"phase": "Running", **status})


def container(state: dict[str, Any], name: str = "trainer") -> list[dict[str, Any]]:
    return [{"name": name, "state": state}]


def told(said: report.Report, at: str) -> dict[str, Any]:
    message = report.encode(said).decode()
    return {"terminated": {"exitCode": report.exit_code(said), "message": message, "finishedAt": at}}


def end(made: World, type_: str, reason: str, job: str = JOB) -> None:
    condition = {"type": type_, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:30Z"}
    made.store("Job", job, {**made.get("Job", job), "status": {"conditions": [condition]}})
    made.settle()


def message(made: World, type_: str) -> str:
    return made.message("TrainingJob", NAME, type_)


def test_what_lets_them_talk_is_there_before_they_are() -> None:
    made = world()
    first = [w.manifest for w in made.plan("TrainingJob", NAME).writes if isinstance(w, Create)]
    assert [(m["kind"], m["metadata"]["name"]) for m in first] == [("Service", BETWEEN), ("NetworkPolicy", BETWEEN)]
    made.settle()
    assert made.has("Job", JOB)


def test_the_job_is_an_indexed_one_that_ends_with_its_first_pod() -> None:
    made = started()
    spec = made.get("Job", JOB)["spec"]
    asked = {key: spec[key] for key in ("completions", "parallelism", "completionMode", "successPolicy")}
    assert asked == {
        "completions": 3,
        "parallelism": 3,
        "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }
    # A worker that fails does not take the first one with it, which may be about to publish.
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"Ignore", "FailIndex"}
    assert (spec["backoffLimitPerIndex"], "backoffLimit" in spec) == (2, False)
    assert spec["template"]["spec"]["subdomain"] == BETWEEN
    (ours,) = spec["template"]["spec"]["containers"]
    variables = {v["name"]: v.get("value") for v in ours["env"]}
    assert (variables["MILL_WORKERS"], variables["MILL_SCHEDULER"]) == ("3", f"{JOB}-0.{BETWEEN}:8786")
    uid = next(v["valueFrom"] for v in ours["env"] if v["name"] == "MILL_JOB_UID")
    assert uid == {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}


def test_the_service_gives_names_to_these_pods_from_their_start_on() -> None:
    made = started()
    service, job = made.get("Service", BETWEEN), made.get("Job", JOB)
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    (owner,) = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("TrainingJob", NAME)


def test_one_worker_needs_nothing_and_its_task_is_the_same() -> None:
    several = started()
    alone = with_dataset(with_store(World()))
    alone.put("TrainingJob", NAME, spec=training_spec(workers=1))
    alone.settle()
    assert not alone.has("Service", BETWEEN)
    assert not alone.has("NetworkPolicy", BETWEEN)
    spec = alone.get("Job", JOB)["spec"]
    assert "completions" not in spec
    (one,), (many,) = (made.get("Job", JOB)["spec"]["template"]["spec"]["containers"] for made in (alone, several))
    assert one["env"][0]["name"] == task.ENVIRONMENT
    assert one["env"][0] == many["env"][0]
    assert len(one["env"]) < len(many["env"])


def test_a_container_is_told_where_the_others_are() -> None:
    made = with_dataset(allowing_images("*"))
    env = [{"name": "PET_NPROC_PER_NODE", "value": "2"}]
    spec = training_spec(workers=2, container={"image": "train:1", "env": env}, reproduce={"runs": 2})
    del spec["estimator"]
    made.put("TrainingJob", NAME, spec=spec)
    made.settle()
    pod_spec = made.get("Job", JOB)["spec"]["template"]["spec"]
    users = pod_spec["initContainers"][1]
    host = f"{JOB}-0.{BETWEEN}"
    assert {v["name"]: v["value"] for v in users["env"] if "value" in v and not v["name"].startswith("MILL_")} == {
        "PET_NPROC_PER_NODE": "2",
        "MASTER_ADDR": host,
        "MASTER_PORT": "29400",
        "WORLD_SIZE": "2",
        "PET_NNODES": "2",
        "PET_MASTER_ADDR": host,
        "PET_MASTER_PORT": "29400",
        "PET_RDZV_BACKEND": "static",
        "PET_RDZV_ENDPOINT": f"{host}:29400",
        "PET_RDZV_ID": JOB,
    }
    ranks = {v["name"]: v["valueFrom"]["fieldRef"]["fieldPath"] for v in users["env"] if "valueFrom" in v}
    assert ranks == dict.fromkeys(("RANK", "PET_NODE_RANK"), f"metadata.labels['{INDEX}']")
    assert {"name": "MILL_WORKERS", "value": "2"} in pod_spec["containers"][0]["env"]
    # Its processes choose ports by themselves.
    (rule,) = made.get("NetworkPolicy", BETWEEN)["spec"]["ingress"]
    assert "ports" not in rule
    # The second run's pods are others.
    pod(made, 0, containerStatuses=container(told(trained(), "2026-01-01T00:00:20Z")))
    end(made, "Complete", "SuccessPolicy")
    users = made.get("Job", "forest-again")["spec"]["template"]["spec"]["initContainers"][1]
    assert {"name": "MASTER_ADDR", "value": f"forest-again-0.{BETWEEN}"} in users["env"]


def test_the_first_pod_reports_for_all() -> None:
    made = started(resources={"limits": {"nvidia.com/gpu": "2"}})
    ended = {**told(trained(), "2026-01-01T00:00:20Z")["terminated"], "startedAt": "2026-01-01T00:00:10Z"}
    pod(made, 0, containerStatuses=container({"terminated": ended}))
    done = report.Report(True, "WorkDone", "worker 1 did its share")
    pod(made, 1, containerStatuses=container(told(done, "2026-01-01T00:00:21Z")))
    interrupted = report.Report(False, "Interrupted", "was told to end", retryable=True)
    pod(made, 2, containerStatuses=container(told(interrupted, "2026-01-01T00:00:22Z")))
    end(made, "Complete", "SuccessPolicy")
    status = made.get("TrainingJob", NAME)["status"]
    assert (status["artifact"]["digest"], status["modelVersion"]) == (digest_of("1"), "triage-1")
    assert status["usage"]["acceleratorSeconds"] == 3 * 2 * 10


def test_what_holds_any_of_them_up_is_told_with_its_number() -> None:
    made = started()
    pod(made, 0)
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    pod(made, 2, phase="Pending", conditions=[waiting])
    made.settle()
    assert made.condition("TrainingJob", NAME, "Stalled") == ("True", "Unschedulable")
    assert message(made, "Stalled").startswith("worker 2: no node takes the pod: 0/1 nodes")


def test_a_quota_that_lets_only_some_of_them_be_made_is_told() -> None:
    made = started()
    pod(made, 0)
    involved = {"kind": "Job", "name": JOB, "uid": made.get("Job", JOB)["metadata"]["uid"]}
    refused = {"reason": "FailedCreate", "message": "exceeded quota", "lastTimestamp": "2026-01-01T00:00:00Z"}
    made.put("Event", "e", involvedObject=involved, **refused)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Stalled") == ("True", "PodCreationRefused")
    for index in (1, 2):
        pod(made, index)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Stalled")[0] == "False"


def test_too_little_memory_in_any_of_them_is_the_end() -> None:
    made = started()
    pod(made, 0)
    pod(made, 1, phase="Failed", containerStatuses=container(OUT_OF_MEMORY))
    made.settle()
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "OutOfMemory")
    assert message(made, "Failed").startswith("worker 1: container trainer used more memory than its limit")
    assert not made.has("Job", JOB)


@pytest.mark.parametrize(("first", "said"), [(1, "worker 1: the scratch volume is full"), (0, "the model is none")])
def test_why_it_failed_is_what_the_pod_said_that_failed_before_the_others_were_told_to_end(
    first: int, said: str
) -> None:
    made = started()
    culprit = report.Report(False, "ScratchFull", "the scratch volume is full" if first else "the model is none")
    other = report.Report(False, "Interrupted", "was told to end", retryable=True)
    pod(made, first, containerStatuses=container(told(culprit, "2026-01-01T00:00:20Z")))
    pod(made, 1 - first, containerStatuses=container(told(other, "2026-01-01T00:00:25Z")))
    end(made, "Failed", "PodFailurePolicy")
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "ScratchFull")
    assert message(made, "Failed") == said


USERS_FAILED = container(
    {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z", "startedAt": "2025-12-31T23:00:00Z"}},
    "transform",
)
USERS_WROTE = container({"terminated": {"exitCode": 0, "finishedAt": "2025-12-31T23:59:59Z"}}, "transform")
USERS_RUNS = container({"running": {}}, "transform")


def by_a_container(**more: Any) -> World:
    made = with_dataset(allowing_images("*"))
    spec = training_spec(workers=3, container={"image": "train:1"}, **more)
    del spec["estimator"]
    made.put("TrainingJob", NAME, spec=spec)
    made.settle()
    return made


def give_up(made: World, indexes: str, job: str = JOB) -> None:
    """The Job tries these workers no more."""
    made.store("Job", job, {**made.get("Job", job), "status": {"failedIndexes": indexes}})
    made.settle()


@pytest.mark.parametrize("reason", ["FailedIndexes", "PodFailurePolicy", "BackoffLimitExceeded"])
def test_what_the_first_one_published_counts_though_another_failed(reason: str) -> None:
    made = by_a_container()
    pod(made, 1, phase="Failed", initContainerStatuses=USERS_FAILED)
    pod(
        made,
        0,
        initContainerStatuses=USERS_WROTE,
        containerStatuses=container(told(trained(), "2026-01-01T00:00:20Z")),
    )
    end(made, "Failed", reason)
    assert made.condition("TrainingJob", NAME, "Succeeded") == ("True", "TrainingSucceeded")
    assert made.get("TrainingJob", NAME)["status"]["modelVersion"] == "triage-1"


def test_a_first_one_that_was_told_to_end_published_nothing_whatever_it_was_brought() -> None:
    made = by_a_container()
    brought = told(report.Report(True, "Fetched", result=report.FetchResult(2)), "2025-12-31T23:00:00Z")
    interrupted = told(report.Report(False, "Interrupted", "was told to end", retryable=True), "2026-01-01T00:00:25Z")
    pod(made, 1, phase="Failed", initContainerStatuses=USERS_FAILED)
    fetched = [*container(brought, "fetch"), *USERS_WROTE]
    pod(made, 0, initContainerStatuses=fetched, containerStatuses=container(interrupted))
    end(made, "Failed", "PodFailurePolicy")
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "ContainerFailed")


@pytest.mark.parametrize("how", ["failed", "had too little memory"])
def test_once_the_first_container_wrote_its_model_the_others_are_not_needed(how: str) -> None:
    made = by_a_container()
    pod(made, 0, initContainerStatuses=USERS_WROTE, containerStatuses=container({"running": {}}))
    ended = USERS_FAILED if how == "failed" else container(OUT_OF_MEMORY, "transform")
    pod(made, 1, phase="Failed", initContainerStatuses=ended)
    give_up(made, "1-2")
    made.wait(3600)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Trained") == ("Unknown", "Training")
    assert made.has("Job", JOB)


def test_a_container_that_fails_ends_a_training_whose_first_one_is_not_done_soon() -> None:
    made = by_a_container()
    pod(made, 0, initContainerStatuses=USERS_RUNS)
    pod(made, 1, phase="Failed", initContainerStatuses=USERS_FAILED)
    give_up(made, "1")
    assert made.condition("TrainingJob", NAME, "Trained") == ("Unknown", "Training")
    assert made.plan("TrainingJob", NAME).requeue_after == timedelta(seconds=30)
    made.wait(30)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "ContainerFailed")
    assert message(made, "Failed").startswith("worker 1: container transform ended with exit code 1")
    assert not made.has("Job", JOB)


def test_only_a_worker_that_the_job_tries_no_more_is_missed() -> None:
    made = by_a_container()
    for index in (0, 2):
        pod(made, index, phase="Failed", initContainerStatuses=USERS_FAILED)
    later = container({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:02Z"}}, "transform")
    pod(made, 1, phase="Failed", initContainerStatuses=later)
    give_up(made, "1")
    assert made.condition("TrainingJob", NAME, "Trained") == ("Unknown", "Training")
    made.wait(32)
    made.settle()
    assert message(made, "Failed").startswith("worker 1: container transform ended with exit code 3")


def test_a_worker_of_which_nobody_knows_when_it_ended_is_missed_from_its_start_on() -> None:
    made = by_a_container()
    pod(made, 0, initContainerStatuses=USERS_RUNS)
    unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}
    pod(made, 1, phase="Failed", initContainerStatuses=container({"terminated": unknown}, "transform"))
    made.wait(10)
    give_up(made, "1")
    assert made.plan("TrainingJob", NAME).requeue_after == timedelta(seconds=20)
    made.wait(20)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "ContainerFailed")


def test_the_first_container_that_fails_ends_it_at_once_and_who_failed_first_is_named() -> None:
    made = by_a_container()
    later = container({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:02Z"}}, "transform")
    pod(made, 0, phase="Failed", initContainerStatuses=later)
    pod(made, 2, phase="Failed", initContainerStatuses=USERS_FAILED)
    give_up(made, "0,2")
    assert made.condition("TrainingJob", NAME, "Failed") == ("True", "ContainerFailed")
    assert message(made, "Failed").startswith("worker 2: container transform ended with exit code 1")
    assert not made.has("Job", JOB)


def test_an_estimator_goes_on_without_a_worker_that_failed() -> None:
    made = started()
    pod(made, 0, containerStatuses=container({"running": {}}))
    failed = report.Report(False, "InternalError", "the trainer failed with KeyError")
    pod(made, 1, phase="Failed", containerStatuses=container(told(failed, "2026-01-01T00:00:00Z")))
    give_up(made, "1")
    made.wait(3600)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Trained") == ("Unknown", "Training")


def test_a_second_run_of_which_a_worker_failed_says_nothing() -> None:
    made = by_a_container(reproduce={"runs": 2})
    pod(made, 0, containerStatuses=container(told(trained(), "2026-01-01T00:00:20Z")))
    end(made, "Complete", "SuccessPolicy")
    again = "forest-again"
    pod(made, 0, again, initContainerStatuses=USERS_RUNS)
    pod(made, 1, again, phase="Failed", initContainerStatuses=USERS_FAILED)
    give_up(made, "1", again)
    assert made.condition("TrainingJob", NAME, "Reproducible") == ("Unknown", "Reproducing")
    made.wait(30)
    made.settle()
    assert made.condition("TrainingJob", NAME, "Reproducible") == ("Unknown", "SecondRunFailed")
    assert "worker 1: container transform ended" in message(made, "Reproducible")
    assert made.condition("TrainingJob", NAME, "Succeeded")[0] == "True"
    assert not made.has("Job", again)


def test_of_each_worker_the_newest_pod_counts() -> None:
    made = started()
    pod(made, 0)
    pod(made, 1, phase="Failed", containerStatuses=container({"terminated": {"exitCode": 75}}))
    made.wait(5)
    pod(made, 1, name="again")
    made.settle()
    assert made.condition("TrainingJob", NAME, "Stalled")[0] == "False"


def test_progress_is_that_of_the_first() -> None:
    made = started()
    for index in (0, 1):
        pod(made, index, podIP=f"10.0.0.{index}", containerStatuses=container({"running": {}}))
        made.pod_says(f"{JOB}-{index}", progress.Progress(40 - index))
    asked = [measurement.source_of(made.get("Pod", f"{JOB}-{index}")) is not None for index in (0, 1)]
    assert asked == [True, False]
    made.settle()
    assert made.get("TrainingJob", NAME)["status"]["progress"]["percent"] == 40


def test_a_report_that_is_lost_is_not_waited_for_while_others_are_left() -> None:
    made = started()
    pod(made, 1)
    end(made, "Complete", "SuccessPolicy")
    assert made.condition("TrainingJob", NAME, "Trained") == ("Unknown", "ReportLost")
    made.wait(60)
    (delete,) = [w for w in made.plan("TrainingJob", NAME).writes if isinstance(w, Delete)]
    (guard,) = delete.guards
    assert isinstance(guard, NoPods)
    assert guard.index == 0
    made.carry_out("TrainingJob", NAME, delete)  # though the second pod is still there
    made.settle()
    assert made.has("Job", JOB)


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy"])
def test_what_somebody_deletes_or_edits_while_they_work_is_mended(kind: str) -> None:
    made = started()
    pod(made, 0)
    wanted = made.get(kind, BETWEEN)
    made.remove(kind, BETWEEN)
    made.settle()
    assert made.get(kind, BETWEEN)["spec"] == wanted["spec"]
    field = "selector" if kind == "Service" else "podSelector"
    edited = {**made.get(kind, BETWEEN)["spec"], field: {"app": "other"}}
    made.store(kind, BETWEEN, {**made.get(kind, BETWEEN), "spec": edited})
    made.settle()
    assert made.get(kind, BETWEEN)["spec"] == wanted["spec"]


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy"])
def test_a_name_that_somebody_else_has_is_said(kind: str) -> None:
    made = world()
    made.put(kind, BETWEEN, spec={})
    made.settle()
    assert not made.has("Job", JOB)
    assert made.condition("TrainingJob", NAME, "Stalled") == ("True", "NameConflict")
    assert message(made, "Stalled").startswith(f"{kind} {BETWEEN} exists")


def test_it_takes_one_place_in_the_queue() -> None:
    made = world()
    store = {"uri": "s3://models", "endpoint": "http://store:7070"}
    made.put("Workspace", "default", spec={"store": store, "training": {"maxParallel": 1}})
    made.settle()
    assert len(made.get("Workspace", "default")["status"]["admitted"]) == 1
    assert made.has("Job", JOB)


def test_suspended_its_pods_go_and_it_goes_on_with_as_many() -> None:
    made = started()
    spec = training_spec(workers=3)
    made.put("TrainingJob", NAME, spec={**spec, "suspend": True})
    made.settle()
    assert not made.has("Job", JOB)
    made.put("TrainingJob", NAME, spec=spec)
    made.settle()
    assert made.get("Job", JOB)["spec"]["completions"] == 3
