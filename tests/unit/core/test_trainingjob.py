"""TrainingJob: from data to a ModelVersion with a number that nobody else has."""

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from world import World, digest_of, moved_to, trained, training_spec, with_dataset, with_store

from modelmill.core.plan import Create, Delete, Guard, NoPods, SetStatus, is_owned
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
    assert version["spec"]["lineage"]["dataset"] == {
        "name": "tumours",
        "version": digest_of("a"),
        "file": digest_of("f"),
    }
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
    assert (work.split, work.evaluation, work.publish) == (task.Split(), task.Evaluation(), True)
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("declared", "asked"),
    [
        ({}, task.Split()),
        ({"method": "Random", "test": "0.3"}, task.Split("0.3")),
        ({"stratify": True}, task.Split(stratify=True)),
        ({"method": "Stratified"}, task.Split(stratify=True)),  # the same task, and so the same recipe
        ({"method": "Stratified", "stratify": True}, task.Split(stratify=True)),
        ({"method": "Group", "by": "patient"}, task.Split(group="patient")),
        ({"method": "Time", "by": "day"}, task.Split(time="day")),
    ],
)
def test_the_split_is_what_was_declared(declared: dict[str, Any], asked: task.Split) -> None:
    world = ready_world()
    data = {"datasetRef": {"name": "tumours"}, "target": "benign", "split": declared}
    evaluation = {"crossValidation": 5, "slices": ["age_group"]}
    world.put("TrainingJob", "lr", spec=training_spec(data=data, evaluation=evaluation))
    world.settle()
    work = work_of(world, "lr-train")
    assert work.split == asked
    assert work.evaluation == task.Evaluation(5, ("age_group",))


def work_of(world: World, job: str) -> task.TrainingTask:
    """What the pod of that Job is asked to do."""
    work = task.decode(world.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.TrainingTask)
    return work


def test_a_task_that_uses_no_newer_field_is_written_as_it_always_was() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec(seed=7))
    world.settle()
    text = world.get("Job", "lr-train")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    always = ("estimator", "file", "image", "packages", "seed", "split", "store", "target", "type", "version")
    assert sorted(json.loads(text)) == list(always)
    assert json.loads(text)["split"] == {"test": "0.2"}


def test_the_worst_slices_are_told_and_stay() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    slices = (
        report.WorstSlice("recall", "age_group", 40, "0.91", "old"),
        report.WorstSlice("roc_auc", "age_group", 12, "0.88"),
    )
    said = trained()
    world.end_job("lr-train", replace(said, result=replace(said.result, slices=slices)))
    world.settle()
    world.remove("Job", "lr-train")
    world.settle()
    assert world.get("TrainingJob", "lr")["status"]["slices"] == [
        {"metric": "recall", "column": "age_group", "slice": "old", "rows": 40, "value": "0.91"},
        {"metric": "roc_auc", "column": "age_group", "rows": 12, "value": "0.88"},
    ]


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


def test_too_little_memory_ends_it_though_the_job_would_try_once_more() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", None, exit_reason="OOMKilled")
    world.objects["Job", "lr-train"]["status"] = {}  # it has retries left
    uid = world.get("Job", "lr-train")["metadata"]["uid"]
    first = world.plan("TrainingJob", "lr").writes
    assert not [w for w in first if isinstance(w, Delete)]  # were it deleted before that is said, it could start anew
    world.carry_out("TrainingJob", "lr", first[0])
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "OutOfMemory")
    assert world.deletes("TrainingJob", "lr") == [("Job", "lr-train", uid)]
    world.settle()
    assert not world.has("Job", "lr-train")
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "OutOfMemory")


@pytest.mark.parametrize("reason", ["Error", "ContainerStatusUnknown"])
def test_who_was_killed_for_another_reason_is_tried_again(reason: str) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    rules = world.get("Job", "lr-train")["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"] == [[1]]
    world.end_job("lr-train", None, exit_reason=reason)
    ended = world.objects["Pod", "lr-train-x"]["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["exitCode"] = 137
    world.objects["Job", "lr-train"]["status"] = {}
    world.settle()
    assert world.condition("TrainingJob", "lr", "Succeeded") == ("Unknown", "Training")


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


def test_a_job_of_a_former_object_is_not_deleted_by_its_suspended_successor() -> None:
    world = ready_world()
    owner = {"apiVersion": "modelmill.dev/v1alpha1", "kind": "TrainingJob", "name": "lr", "uid": "former"}
    world.put("Job", "lr-train", metadata={"ownerReferences": [{**owner, "controller": True}]}, spec={}, status={})
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    theirs = world.get("Job", "lr-train")["metadata"]["uid"]
    deletes = [write for write in world.plan("TrainingJob", "lr").writes if isinstance(write, Delete)]
    assert not [write for write in deletes if write.uid in (theirs, None)]


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
    assert (guard.kind, guard.job) == ("Pod", trained["metadata"]["uid"])
    assert guard.meaning == "the pods of Job lr-train are gone"
    assert is_owned(pod, guard.job)


def told(world: World, name: str = "lr") -> list[str]:
    world.reconcile("TrainingJob", name)
    return world.told("TrainingJob", name)


STORE_WORKS = "PreflightPassed True StoreWorks: the store works"
PINNED = "DataReady True VersionPinned: a valid version of the data is pinned"
PUBLISHED = "Trained True ArtifactPublished: the artifact is in the store"
NOT_ASKED = "Reproducible Unknown NotAsked: without spec.reproduce it is trained once"


def test_each_step_to_a_version_is_told_in_full() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.put("TrainingJob", "lr", spec=training_spec())
    trying = "PreflightRunning: Workspace default is trying its store"
    assert told(world) == [
        f"Succeeded Unknown {trying}",
        "Failed Unknown PreflightRunning",
        f"PreflightPassed Unknown {trying}",
        "DataReady Unknown PreflightRunning",
        "Trained Unknown PreflightRunning",
        NOT_ASKED,
        f"Reconciling True {trying}",
        "Stalled False PreflightRunning",
    ]
    with_store(world)
    absent = "DatasetNotFound: there is no Dataset tumours in this namespace yet; create it"
    assert told(world) == [
        f"Succeeded Unknown {absent}",
        "Failed Unknown DatasetNotFound",
        STORE_WORKS,
        f"DataReady Unknown {absent}",
        "Trained Unknown DatasetNotFound",
        NOT_ASKED,
        f"Reconciling True {absent}",
        "Stalled False DatasetNotFound",
    ]
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}})
    assert told(world)[0] == "Succeeded Unknown DatasetNotReady: Dataset tumours has no valid version"
    world.reconcile("Dataset", "tumours")
    reading = (
        "DatasetNotReady: Dataset tumours has no valid version (SnapshotRunning: the data is being read and checked)"
    )
    assert told(world)[6:] == [f"Reconciling True {reading}", "Stalled False DatasetNotReady"]
    world.end_job("tumours-data", report.Report(False, "SourceNotFound", "no key data.csv"))
    world.reconcile("Dataset", "tumours")
    why = "SourceNotFound: no key data.csv (tried again within 10 min)"
    bad = f"DatasetNotReady: Dataset tumours has no valid version ({why})"
    assert told(world) == [
        f"Succeeded Unknown {bad}",
        "Failed Unknown DatasetNotReady",
        STORE_WORKS,
        f"DataReady False {bad}",
        "Trained Unknown DatasetNotReady",
        NOT_ASKED,
        "Reconciling False DatasetNotReady",
        f"Stalled True {bad}",
    ]
    world.remove("Dataset", "tumours")
    with_dataset(world)
    first = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, SetStatus)).status
    assert first["conditions"][0]["message"] == "Job lr-train is starting"
    assert first["conditions"][0]["reason"] == "Training"
    training = "Training: Job lr-train is training"
    assert told(world) == [
        f"Succeeded Unknown {training}",
        "Failed Unknown Training",
        STORE_WORKS,
        PINNED,
        f"Trained Unknown {training}",
        NOT_ASKED,
        f"Reconciling True {training}",
        "Stalled False Training",
    ]
    world.pod_of_job("lr-train", conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    full = "Unschedulable: no node takes the pod: none; ask for less in resources, or add nodes"
    assert told(world) == [
        f"Succeeded Unknown {full}",
        "Failed Unknown Unschedulable",
        STORE_WORKS,
        PINNED,
        f"Trained Unknown {full}",  # it may still come right by itself
        NOT_ASKED,
        "Reconciling False Unschedulable",
        f"Stalled True {full}",
    ]
    world.end_job("lr-train", trained())
    making = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, SetStatus)).status
    assert making["conditions"][0]["message"] == "Model triage is being created"
    assert making["conditions"][0]["reason"] == "CreatingModel"
    assert making["artifact"]["digest"] == digest_of("1")  # it is kept from now on, whatever becomes of the Job
    numbering = "WaitingForNumber: Model triage gives the version its number"
    assert told(world) == [
        f"Succeeded Unknown {numbering}",
        "Failed Unknown WaitingForNumber",
        STORE_WORKS,
        PINNED,
        PUBLISHED,
        NOT_ASKED,
        f"Reconciling True {numbering}",
        "Stalled False WaitingForNumber",
    ]
    world.reconcile("Model", "triage")
    naming = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, SetStatus)).status
    assert naming["conditions"][0]["message"] == "ModelVersion triage-1 is being created"
    assert naming["conditions"][0]["reason"] == "CreatingVersion"
    assert told(world) == [
        "Succeeded True TrainingSucceeded: ModelVersion triage-1",
        "Failed False TrainingSucceeded",
        STORE_WORKS,
        PINNED,
        PUBLISHED,
        NOT_ASKED,
        "Reconciling False TrainingSucceeded",
        "Stalled False TrainingSucceeded",
    ]


def test_what_kubectl_shows_of_a_run_that_succeeded_stays_when_everything_else_is_gone() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    result = report.TrainingResult(
        recipe=digest_of("e"),
        artifact=digest_of("1"),
        uri="s3://models/artifacts/1",
        runtime="onnx",
        metrics=(
            report.Metric("recall", "0.1"),
            report.Metric("roc_auc", "0.995", "0.001"),
            report.Metric("recall", "0.9"),
        ),
        cpu_seconds=7,
    )
    world.end_job("lr-train", report.Report(True, "TrainingSucceeded", result=result))
    world.settle()
    expected = {
        "modelVersion": "triage-1",
        "datasetVersion": digest_of("a"),
        "datasetFile": digest_of("f"),
        "recipe": digest_of("e"),
        "artifact": {"uri": "s3://models/artifacts/1", "digest": digest_of("1")},
        "metrics": [{"name": "recall", "value": "0.9"}, {"name": "roc_auc", "value": "0.995", "stddev": "0.001"}],
        "usage": {"cpuSeconds": 7},
        "observedGeneration": 1,
    }
    for gone in ((), ("Job", "lr-train"), ("ModelVersion", "triage-1"), ("Dataset", "tumours"), ("Model", "triage")):
        if gone:
            world.remove(*gone)
            assert world.plan("TrainingJob", "lr").writes == (), gone
        status = dict(world.get("TrainingJob", "lr")["status"])
        del status["conditions"]
        assert status == expected


def test_a_run_without_a_model_says_where_its_result_is() -> None:
    world = ready_world()
    spec = training_spec()
    del spec["modelRef"]
    world.put("TrainingJob", "lr", spec=spec)
    world.settle()
    world.end_job("lr-train", trained())
    assert told(world)[0] == "Succeeded True TrainingSucceeded: the artifact is in the store"
    assert "modelVersion" not in world.get("TrainingJob", "lr")["status"]
    assert world.plan("TrainingJob", "lr").writes == ()


@pytest.mark.parametrize(
    ("reason", "gates"),
    [
        ("FitFailed", ("True", "True", "False")),
        ("StoreFull", ("False", "True", "False")),
        ("ObjectNotFound", ("True", "False", "False")),
        ("DigestMismatch", ("True", "False", "False")),
    ],
)
def test_a_failure_is_told_in_full(reason: str, gates: tuple[str, ...]) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", report.Report(False, reason, "do this"))
    passed = (STORE_WORKS, PINNED, PUBLISHED)
    names = ("PreflightPassed", "DataReady", "Trained")
    expected = [
        f"Succeeded False {reason}: do this",
        f"Failed True {reason}: do this",
        *(
            good if gate == "True" else f"{name} False {reason}: do this"
            for name, good, gate in zip(names, passed, gates, strict=True)
        ),
        NOT_ASKED,
        f"Reconciling False {reason}",
        f"Stalled True {reason}: do this",
    ]
    assert told(world) == expected
    world.remove("Job", "lr-train")
    assert told(world) == expected
    assert [(e.type, e.reason) for e in world.events if e.reason == reason] == [("Warning", reason)]


def test_a_suspended_run_is_told_in_full_and_is_no_failure() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    assert told(world) == [
        "Succeeded Unknown Suspended: spec.suspend is true; set it to false to go on",
        "Failed Unknown Suspended",
        "PreflightPassed Unknown Suspended",
        "DataReady Unknown Suspended",
        "Trained Unknown Suspended",
        NOT_ASKED,
        "Reconciling False Suspended",
        "Stalled False Suspended",
    ]
    assert "datasetVersion" not in world.get("TrainingJob", "lr")["status"]


def test_a_suspended_run_whose_report_is_lost_is_stopped_too() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    world.remove("Pod", "lr-train-x")
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    world.reconcile("TrainingJob", "lr")
    assert not world.has("Job", "lr-train")


def test_a_run_is_stopped_only_if_it_is_still_suspended_when_asked_fresh() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Delete))
    (guard,) = delete.guards
    assert isinstance(guard, Guard)
    live = world.get("TrainingJob", "lr")
    assert (guard.kind, guard.name) == ("TrainingJob", "lr")
    assert guard.meaning == "TrainingJob lr is suspended"
    assert guard.holds(live)
    assert not guard.holds({**live, "spec": training_spec()})
    assert not guard.holds({**live, "metadata": {**live["metadata"], "uid": "another"}})
    assert not guard.holds(None)


def test_a_run_that_failed_before_it_was_suspended_is_not_thrown_away() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", report.Report(False, "FitFailed", "do this"))
    world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    world.reconcile("TrainingJob", "lr")
    assert world.has("Job", "lr-train")


@pytest.mark.parametrize("seen", ["in the cache", "when it was created"])
def test_a_name_that_is_taken_is_told_and_tried_again_in_a_minute(seen: str) -> None:
    world = ready_world()
    if seen == "in the cache":
        world.put("Job", "lr-train", spec={}, status={})
    else:
        world.foreign.add(("Job", "lr-train"))
    world.put("TrainingJob", "lr", spec=training_spec())
    plan = world.reconcile("TrainingJob", "lr")
    assert world.condition("TrainingJob", "lr", "Trained") == ("Unknown", "NameConflict")
    assert world.message("TrainingJob", "lr", "Stalled").startswith("Job lr-train exists")
    assert world.condition("TrainingJob", "lr", "Stalled") == ("True", "NameConflict")
    assert plan.requeue_after == timedelta(minutes=1)


def test_a_report_that_never_comes_is_waited_for_and_then_the_run_is_repeated() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    former = world.get("Job", "lr-train")["metadata"]["uid"]
    world.end_job("lr-train", trained())
    world.remove("Pod", "lr-train-x")
    plan = world.reconcile("TrainingJob", "lr")
    assert world.told("TrainingJob", "lr")[0] == (
        "Succeeded Unknown ReportLost: the pod went away before it could report"
    )
    assert plan.requeue_after == timedelta(seconds=10)
    assert world.has("Job", "lr-train")
    world.wait(10)
    world.reconcile("TrainingJob", "lr")
    assert world.get("Job", "lr-train")["metadata"]["uid"] != former


def test_a_report_of_another_task_is_a_failure() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    assert told(world)[1] == "Failed True ReportInvalid: the Job's report is not that of a training"


def test_a_run_may_name_a_former_version_of_the_data() -> None:
    world = ready_world()
    history = [
        {"version": digest_of(v), "file": digest_of(f), "rows": 1, "observedAt": "2026-01-01T00:00:00Z"}
        for v, f in (("b", "2"), ("a", "1"))
    ]
    world.objects["Dataset", "tumours"]["status"]["history"] = history
    data = {"datasetRef": {"name": "tumours"}, "version": digest_of("a"), "target": "benign"}
    world.put("TrainingJob", "lr", spec=training_spec(data=data))
    world.reconcile("TrainingJob", "lr")
    status = world.get("TrainingJob", "lr")["status"]
    assert (status["datasetVersion"], status["datasetFile"]) == (digest_of("a"), digest_of("1"))
    data["version"] = digest_of("c")
    world.put("TrainingJob", "other", spec=training_spec(data=data))
    missing = (
        f"DatasetVersionNotFound: Dataset tumours has no version {digest_of('c')} in status.history; name one that it"
        " has, or none for the newest"
    )
    assert told(world, "other")[3] == f"DataReady False {missing}"


def test_data_that_is_not_ready_is_not_trained_on_unless_the_version_is_named() -> None:
    world = ready_world()
    spec = world.get("Dataset", "tumours")["spec"]
    world.put("Dataset", "tumours", spec={**spec, "expectations": {"minRows": 1000}})
    world.put("TrainingJob", "lr", spec=training_spec())
    assert told(world)[3].startswith("DataReady Unknown DatasetNotReady: Dataset tumours has no valid version")
    assert not world.has("Job", "lr-train")
    data = {"datasetRef": {"name": "tumours"}, "version": digest_of("a"), "target": "benign"}
    world.put("TrainingJob", "named", spec=training_spec(data=data))
    world.reconcile("TrainingJob", "named")
    assert world.has("Job", "named-train")


def test_a_source_that_vanished_is_said_to_be_gone_and_not_that_there_never_was_a_version() -> None:
    world = ready_world()
    live = world.get("Dataset", "tumours")
    metadata = {**live["metadata"], "annotations": {"modelmill.dev/refresh": "now"}}
    world.store("Dataset", "tumours", {**live, "metadata": metadata})
    world.reconcile("Dataset", "tumours")
    world.end_job("tumours-data", report.Report(False, "SourceNotFound", "there is no ConfigMap tumours; create it"))
    world.reconcile("Dataset", "tumours")
    world.put("TrainingJob", "lr", spec=training_spec())
    assert told(world)[3] == (
        "DataReady False DatasetNotReady: the newest data of Dataset tumours is not ready (SourceNotFound: there is no"
        " ConfigMap tumours; create it (tried again within 10 min)); name a version of its status.history to train on"
        " that one"
    )


def test_a_source_that_may_not_be_read_any_more_leaves_the_versions_that_there_are() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec={"source": {"uri": "s3://lake/a.csv"}})
    world.reconcile("Dataset", "tumours")
    result = report.SnapshotResult(digest_of("a"), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", "tumours")
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"sources": []}})
    world.settle()
    world.put("TrainingJob", "lr", spec=training_spec())
    assert "the newest data of Dataset tumours is not ready (SourceNotAllowed: " in told(world)[3]
    assert told(world)[3].endswith("; name a version of its status.history to train on that one")


def test_data_that_is_declared_anew_has_no_version_of_that_yet() -> None:
    world = ready_world()
    spec = world.get("Dataset", "tumours")["spec"]
    world.put("Dataset", "tumours", spec={**spec, "expectations": {"minRows": 1000}})
    world.put("TrainingJob", "lr", spec=training_spec())
    waits = "DataReady Unknown DatasetNotReady: Dataset tumours has no valid version of what it declares now"
    assert told(world)[3] == waits
    world.reconcile("Dataset", "tumours")
    assert told(world)[3] == f"{waits} (SnapshotRunning: the data is being read and checked)"


def test_data_that_is_in_another_store_is_not_trained_on() -> None:
    world = moved_to(ready_world(), "s3://others")
    world.put("TrainingJob", "lr", spec=training_spec())
    missing = "Dataset tumours has no version yet in the store that Workspace default declares"
    assert told(world)[3] == f"DataReady Unknown DatasetNotReady: {missing}"
    data = {"datasetRef": {"name": "tumours"}, "version": digest_of("a"), "target": "benign"}
    world.put("TrainingJob", "named", spec=training_spec(data=data))
    elsewhere = (
        f"version {digest_of('a')} of Dataset tumours was written to another store than the one that Workspace default"
        " declares now; name one that was taken since, or none for the newest"
    )
    assert told(world, "named")[3] == f"DataReady False DatasetVersionNotFound: {elsewhere}"
    world.reconcile("Dataset", "tumours")  # it takes the data again
    assert "has no valid version (SnapshotRunning: " in told(world)[3]
    assert not world.has("Job", "lr-train")
    result = report.SnapshotResult(digest_of("a"), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", "tumours")
    for name in ("lr", "named"):
        world.reconcile("TrainingJob", name)
        assert world.has("Job", f"{name}-train")


def test_a_pinned_version_that_stayed_in_the_former_store_is_not_looked_for_in_this_one() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    world.remove("Job", "lr-train")
    moved_to(world, "s3://others")
    assert told(world)[3].startswith("DataReady False DatasetVersionNotFound: version sha256:aaa")
    assert world.get("TrainingJob", "lr")["status"]["datasetVersion"] == digest_of("a")
    assert not world.has("Job", "lr-train")
    moved_to(world, "s3://models")
    world.reconcile("TrainingJob", "lr")
    assert world.has("Job", "lr-train")


def test_packages_are_those_that_the_workspace_allows() -> None:
    world = ready_world()
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"estimatorPackages": ["sklearn", "xgboost"]}})
    world.reconcile("Workspace", "default")
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    pod = world.get("Job", "lr-train")["spec"]["template"]["spec"]
    work = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.TrainingTask)
    assert work.packages == ("sklearn", "xgboost")


def test_a_job_is_created_only_if_the_object_has_neither_ended_nor_an_artifact_when_asked_fresh() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    (create, *_) = world.plan("TrainingJob", "lr").writes
    assert isinstance(create, Create)
    guard = create.guards[-1]
    assert isinstance(guard, Guard)
    live = world.get("TrainingJob", "lr")
    assert (guard.kind, guard.name) == ("TrainingJob", "lr")
    assert guard.meaning == "TrainingJob lr has not ended, and has no artifact"
    assert guard.holds(live)
    assert guard.holds({**live, "status": {"observedGeneration": 1}})
    assert not guard.holds({**live, "status": {"artifact": {"uri": "s3://models/1"}}})
    for type_ in ("Failed", "Succeeded"):
        said = {"type": type_, "reason": "FitFailed", "message": ""}
        assert guard.holds({**live, "status": {"conditions": [{**said, "status": "Unknown"}]}})
        assert not guard.holds({**live, "status": {"conditions": [{**said, "status": "True"}]}})
    assert not guard.holds({**live, "metadata": {**live["metadata"], "uid": "another"}})
    assert not guard.holds(None)


@pytest.mark.parametrize("edited", ["TrainingJob", "Workspace"])
def test_a_job_is_created_only_for_what_is_still_declared_when_asked_fresh(edited: str) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    (create, *_) = world.plan("TrainingJob", "lr").writes
    assert isinstance(create, Create)
    guards = [guard for guard in create.guards if not isinstance(guard, NoPods)]
    assert all(guard.holds(world.get(guard.kind, guard.name)) for guard in guards)
    if edited == "TrainingJob":
        world.put("TrainingJob", "lr", spec=training_spec(suspend=True))
    else:
        world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    assert [guard.kind for guard in guards if not guard.holds(world.get(guard.kind, guard.name))][:1] == [edited]


def test_a_job_whose_task_somebody_changed_is_thrown_away_only_for_what_is_still_declared() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.get("Job", "lr-train")["metadata"]["annotations"]["modelmill.dev/task"] = "another"
    (delete,) = (w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Delete))
    assert [(guard.kind, guard.meaning) for guard in delete.guards] == [
        ("TrainingJob", "TrainingJob lr is as it was read"),
        ("Workspace", "Workspace default is as it was read"),
    ]


def test_a_version_that_the_run_made_is_found_again_where_the_status_was_lost() -> None:
    world = ready_world()
    train(world)
    del world.objects["TrainingJob", "lr"]["status"]
    world.reconcile("TrainingJob", "lr")
    assert world.get("TrainingJob", "lr")["status"]["modelVersion"] == "triage-1"
    assert world.get("Model", "triage")["status"]["lastVersion"] == 1


def test_without_a_workspace_it_says_what_to_create() -> None:
    world = World()
    world.put("TrainingJob", "lr", spec=training_spec())
    assert told(world)[2].startswith("PreflightPassed False WorkspaceNotFound: namespace team-a has no store")


@pytest.mark.parametrize("said", [report.Report(False, "FitFailed", "do this"), report.Report(True, "StoreWorks")])
def test_an_end_is_told_with_one_write(said: report.Report) -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    if said.ok:
        said = report.Report(True, "StoreWorks", result=report.PreflightResult(()))
    world.end_job("lr-train", said)
    status = next(w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, SetStatus)).status
    found = {c["type"]: c["status"] for c in status["conditions"]}
    assert (found["Failed"], found["Reconciling"], found["Stalled"]) == ("True", "False", "True")


def test_a_success_is_told_with_one_write() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    world.reconcile("TrainingJob", "lr")
    world.reconcile("Model", "triage")
    (create, *_) = world.plan("TrainingJob", "lr").writes
    assert isinstance(create, Create)
    world.put(create.manifest["kind"], create.manifest["metadata"]["name"], spec=create.manifest["spec"])
    (status, _) = world.plan("TrainingJob", "lr").writes
    assert isinstance(status, SetStatus)
    assert status.status["modelVersion"] == "triage-1"
    assert status.status["artifact"]["digest"] == digest_of("1")


def test_what_ended_is_not_run_again_whatever_else_of_its_status_was_lost() -> None:
    world = ready_world()
    train(world)
    world.remove("Job", "lr-train")
    for field in ("artifact", "modelVersion", "datasetVersion"):
        del world.objects["TrainingJob", "lr"]["status"][field]
    assert not [w for w in world.plan("TrainingJob", "lr").writes if isinstance(w, Create)]


def test_a_status_without_what_is_empty_is_still_that_of_a_run_with_an_artifact() -> None:
    world = ready_world()
    train(world)
    world.remove("Job", "lr-train")
    for field in ("metrics", "usage"):
        del world.objects["TrainingJob", "lr"]["status"][field]
    world.reconcile("TrainingJob", "lr")
    status = world.get("TrainingJob", "lr")["status"]
    assert (status["metrics"], status["usage"]) == ([], {"cpuSeconds": 0})


def test_a_good_report_of_a_job_that_failed_is_no_result() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained(), reason="DeadlineExceeded")
    world.objects["Job", "lr-train"]["status"]["conditions"][0]["type"] = "Failed"
    world.settle()
    assert world.condition("TrainingJob", "lr", "Failed") == ("True", "TimedOut")


def test_a_job_that_somebody_gave_another_task_is_made_anew() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    former = world.get("Job", "lr-train")["metadata"]["uid"]
    world.objects["Job", "lr-train"]["metadata"]["annotations"]["modelmill.dev/task"] = "edited"
    world.reconcile("TrainingJob", "lr")
    assert world.get("Job", "lr-train")["metadata"]["uid"] != former


def test_an_annotation_that_somebody_removed_is_no_half_a_version() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    del world.objects["Job", "lr-train"]["metadata"]["annotations"]["modelmill.dev/dataset-file"]
    del world.objects["TrainingJob", "lr"]["status"]
    world.reconcile("TrainingJob", "lr")
    assert world.get("TrainingJob", "lr")["status"]["datasetFile"] == digest_of("f")


def test_a_run_whose_data_nobody_knows_any_more_becomes_a_version_without_that_lineage() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.settle()
    world.end_job("lr-train", trained())
    world.reconcile("TrainingJob", "lr")
    world.remove("Job", "lr-train")
    world.remove("Dataset", "tumours")
    for field in ("datasetVersion", "datasetFile"):
        del world.objects["TrainingJob", "lr"]["status"][field]
    world.settle()
    assert set(world.get("ModelVersion", "triage-1")["spec"]["lineage"]) == {"trainingJob", "recipe"}


def test_what_is_not_declared_has_the_documented_default() -> None:
    world = ready_world()
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    job = world.get("Job", "lr-train")["spec"]
    assert job["template"]["spec"]["containers"][0]["resources"] == {
        "limits": {"memory": "2Gi"},
        "requests": {"cpu": "500m", "memory": "512Mi"},
    }
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (2, 3600)


def test_a_declared_limit_of_memory_is_kept_above_the_request() -> None:
    world = ready_world()
    resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    world.put("TrainingJob", "lr", spec=training_spec(resources=resources))
    world.reconcile("TrainingJob", "lr")
    pod = world.get("Job", "lr-train")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {
        "limits": {"memory": "3Gi"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    }
