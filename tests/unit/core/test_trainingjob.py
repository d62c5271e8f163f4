"""TrainingJob: from data to a ModelVersion with a number that nobody else has."""

import pytest
from world import World, digest_of, trained, training_spec, with_dataset, with_store

from modelmill.core.plan import Delete, NoPods, is_owned
from modelmill_contracts import report, task


def ready_world() -> World:
    return with_dataset(with_store(World()))


def train(world: World, name: str = "lr", letter: str = "1") -> None:
    world.put("TrainingJob", name, spec=training_spec())
    world.settle()
    world.end_job(f"{name}-train", trained(letter))
    world.settle()


def test_a_run_becomes_version_1_of_a_model_that_is_made_for_it() -> None:
    world = ready_world()
    train(world)
    status = world.get("TrainingJob", "lr")["status"]
    assert status["modelVersion"] == "triage-1"
    assert status["datasetVersion"] == digest_of("a")
    assert status["metrics"] == [{"name": "roc_auc", "value": "0.995"}]
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert world.condition("TrainingJob", "lr", "Failed")[0] == "False"
    version = world.get("ModelVersion", "triage-1")
    assert version["spec"]["artifact"]["digest"] == digest_of("1")
    assert version["spec"]["lineage"]["dataset"] == {"name": "tumours", "version": digest_of("a")}
    assert "ownerReferences" not in version["metadata"]


def test_two_runs_that_end_together_get_different_numbers() -> None:
    world = ready_world()
    for name in ("one", "two"):
        world.put("TrainingJob", name, spec=training_spec())
    world.settle()
    for name, letter in (("one", "1"), ("two", "2")):
        world.end_job(f"{name}-train", trained(letter))
    world.settle()
    versions = {world.get("TrainingJob", name)["status"]["modelVersion"] for name in ("one", "two")}
    assert versions == {"triage-1", "triage-2"}
    assert world.get("Model", "triage")["status"]["lastVersion"] == 2


def test_a_number_is_never_used_twice_even_when_the_version_is_deleted() -> None:
    world = ready_world()
    train(world)
    world.remove("ModelVersion", "triage-1")
    world.settle()
    train(world, "again", "2")
    assert world.get("TrainingJob", "again")["status"]["modelVersion"] == "triage-2"


def test_a_number_that_somebody_took_by_hand_is_left_to_him() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    world.reconcile("TrainingJob", "lr")
    world.reconcile("Model", "triage")
    artifact = {"uri": "s3://models/artifacts/x", "digest": digest_of("9")}
    by_hand = {"modelRef": {"name": "triage"}, "version": 1, "artifact": artifact}
    world.put("ModelVersion", "triage-1", spec=by_hand)
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["modelVersion"] == "triage-2"


def test_the_data_is_pinned_when_the_job_starts() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    dataset = world.get("Dataset", "tumours")
    newer = {**dataset["status"], "version": digest_of("b")}
    newer["history"] = [{**dataset["status"]["history"][0], "version": digest_of("b"), "file": digest_of("b")}]
    world.put("Dataset", "tumours", spec=dataset["spec"], status=newer)
    world.end_job("lr-train", trained())
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["datasetVersion"] == digest_of("a")


def test_the_task_is_what_was_declared() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec(seed=7, evaluation={"metrics": ["recall"]}))
    world.settle()
    pod = world.get("Job", "lr-train")["spec"]["template"]["spec"]
    work = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.TrainingTask)
    assert (work.seed, work.metrics, work.target) == (7, ("recall",), "benign")
    assert (work.version, work.file) == (digest_of("a"), digest_of("f"))
    assert work.estimator.steps[0].class_ == "sklearn.linear_model.LogisticRegression"
    assert pod["automountServiceAccountToken"] is False


def test_it_waits_for_a_dataset_that_does_not_exist_and_starts_when_it_does() -> None:
    world = with_store(World())
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    assert world.condition("TrainingJob", "lr", "DataReady") == ("Unknown", "DatasetNotFound")
    assert world.condition("TrainingJob", "lr", "Reconciling")[0] == "True"
    with_dataset(world)
    world.settle()
    assert world.has("Job", "lr-train")
    assert world.condition("TrainingJob", "lr", "DataReady")[0] == "True"


def test_a_version_that_the_dataset_does_not_have_stalls_it() -> None:
    world = ready_world()
    data = {"datasetRef": {"name": "tumours"}, "version": digest_of("c"), "target": "benign"}
    world.put("TrainingJob", "lr", spec=training_spec(data=data))
    world.settle()
    assert world.condition("TrainingJob", "lr", "DataReady") == ("False", "DatasetVersionNotFound")
    assert world.condition("TrainingJob", "lr", "Stalled")[0] == "True"


@pytest.mark.parametrize(
    ("said", "at"),
    [
        (report.Report(False, "UnknownParameter", "LogisticRegression has no parameter c; did you mean C?"), "Trained"),
        (report.Report(False, "StoreFull", "it is full; free space"), "PreflightPassed"),
        (report.Report(False, "DigestMismatch", "the snapshot was changed"), "DataReady"),
    ],
)
def test_a_failure_is_final_and_stands_at_the_gate_it_is_about(said: report.Report, at: str) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", said)
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", said.reason)
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("False", said.reason)
    assert world.condition("TrainingJob", "lr", at) == ("False", said.reason)
    assert world.message("TrainingJob", "lr", "Failed") == said.message
    assert not world.has("Model", "triage")
    world.remove("Job", "lr-train")
    assert world.plan("TrainingJob", "lr").writes == ()


def test_too_little_memory_says_what_to_raise() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", None, exit_reason="OOMKilled")
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "OutOfMemory")
    assert "resources.limits.memory" in world.message("TrainingJob", "lr", "Failed")


@pytest.mark.parametrize("pod", ["running", "ended", "gone"])
def test_a_run_that_is_too_long_says_so(pod: str) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", None, reason="DeadlineExceeded")
    if pod == "running":
        world.objects["Pod", "lr-train-x"]["status"] = {"phase": "Running"}
    elif pod == "gone":
        world.remove("Pod", "lr-train-x")
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "TimedOut")


def test_a_run_that_could_never_start_in_time_says_what_kept_it() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    refused = {"kind": "Job", "name": "lr-train", "uid": world.get("Job", "lr-train")["metadata"]["uid"]}
    world.put("Event", "lr-train.1", reason="FailedCreate", message="exceeded quota: small", involvedObject=refused)
    world.end_job("lr-train", None, reason="DeadlineExceeded")
    world.remove("Pod", "lr-train-x")
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "PodCreationRefused")


def test_suspend_stops_the_job_and_resume_starts_it() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    world.settle()
    assert not world.has("Job", "lr-train")
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Suspended")
    assert world.condition("TrainingJob", "lr", "Reconciling")[0] == "False"
    world.put("TrainingJob", "lr", spec=training_spec(suspend=False))
    world.settle()
    assert world.has("Job", "lr-train")


def test_without_a_model_it_is_a_tracked_run_and_nothing_more() -> None:
    world = ready_world()
    spec = training_spec()
    del spec["modelRef"]
    world.put("TrainingJob", "lr", spec=spec)
    world.settle()
    world.end_job("lr-train", trained())
    world.settle()
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"
    assert not [key for key in world.objects if key[0] in ("Model", "ModelVersion")]


def test_a_job_of_a_former_object_of_that_name_is_waited_for() -> None:
    world = ready_world()
    owner = {"apiVersion": "modelmill.dev/v1alpha1", "kind": "TrainingJob", "name": "lr", "uid": "former"}
    world.put("Job", "lr-train", metadata={"ownerReferences": [{**owner, "controller": True}]}, spec={}, status={})
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    assert world.condition("TrainingJob", "lr", "Stalled")[0] == "False"
    world.remove("Job", "lr-train")
    world.settle()
    assert world.has("Job", "lr-train")


def test_a_job_that_succeeded_with_its_second_pod_is_not_judged_by_the_first() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    second = world.objects["Pod", "lr-train-x"]
    failed = report.encode(report.Report(False, "StoreUnreachable", "no answer", retryable=True)).decode()
    first = {"name": "trainer", "state": {"terminated": {"exitCode": 75, "message": failed}}}
    world.objects["Pod", "lr-train-x"] = {**second, "status": {"phase": "Failed", "containerStatuses": [first]}}
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed")[0] == "Unknown"
    world.objects["Pod", "lr-train-x"] = second
    world.settle()
    assert world.condition("TrainingJob", "lr", "Succeeded")[0] == "True"


def test_a_report_that_cannot_be_read_ends_the_run() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    world.objects["Pod", "lr-train-x"]["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = "?"
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "ReportInvalid")


def test_an_image_that_could_not_be_pulled_in_time_is_what_is_said_in_the_end() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    waiting = {"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    world.pod_of_job("lr-train", containerStatuses=[waiting])
    world.settle()
    world.end_job("lr-train", None, reason="DeadlineExceeded")
    world.remove("Pod", "lr-train-x")
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "ImagePullFailed")


def test_what_ended_asks_for_nothing_more() -> None:
    world = ready_world()
    train(world)
    world.remove("Pod", "lr-train-x")
    plan = world.plan("TrainingJob", "lr")
    assert plan.writes == ()
    assert plan.requeue_after is None


def test_a_training_whose_pods_were_not_seen_yet_is_not_thrown_away() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    trained = world.get("Job", "lr-train")
    world.pod_of_job("lr-train")
    world.end_job("lr-train", None)
    pod = world.objects.pop(("Pod", "lr-train-x"))
    world.wait(3600)
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Delete))
    (guard,) = delete.guards
    assert isinstance(guard, NoPods)
    assert guard.job == trained["metadata"]["uid"]
    assert is_owned(pod, guard.job)
