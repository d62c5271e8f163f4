"""Runs that ended are shown in MLflow: by one Job for many of them, and each says what became of it there."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, digest_of, trained, training_spec, with_dataset

from modelmill.core import mirror, workspace
from modelmill.core.plan import Create
from modelmill_contracts import report, task

JOB = "default-mirror"
STORE = {"uri": "s3://models", "endpoint": "http://store:7070"}
MLFLOW: dict[str, Any] = {"uri": "http://mlflow.tracking:5000", "secretRef": {"name": "mlflow"}}
UNREACHABLE = report.Report(False, "MlflowUnreachable", "no answer", retryable=True)
REFUSED = report.Report(False, "MlflowRefused", "check the Secret")


def with_mlflow(**more: Any) -> World:
    """A Workspace that names a server, whose store works, and a Dataset."""
    world = World()
    world.put("Workspace", "default", spec={"store": STORE, "tracking": {"mlflow": {**MLFLOW, **more}}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    return with_dataset(world)


def look(world: World) -> timedelta | None:
    return world.reconcile("Workspace", "default").requeue_after


def said(world: World) -> tuple[str, str]:
    return world.condition("Workspace", "default", "Mirrored")


def run(world: World, name: str, *, experiment: str | None = None, failed: bool = False, **spec: Any) -> str:
    """A run that has ended; its UID."""
    labels = {"modelmill.dev/experiment": experiment, "modelmill.dev/trial": "17"} if experiment else {}
    asked = {key: value for key, value in training_spec(**spec).items() if key != "modelRef"}
    live = world.put("TrainingJob", name, spec=asked, metadata={"labels": labels})
    world.reconcile("TrainingJob", name)
    world.wait(60)
    said_ = report.Report(False, "TrainingFailed", "it does not take it") if failed else trained()
    world.end_job(f"{name}-train", said_)
    world.reconcile("TrainingJob", name)
    return str(live["metadata"]["uid"])


def work(world: World) -> task.MirrorTask:
    pod = world.get("Job", JOB)["spec"]["template"]["spec"]
    variables = {v["name"]: v["value"] for v in pod["containers"][0]["env"] if "value" in v}
    found = task.decode(task.text_of(variables))
    assert isinstance(found, task.MirrorTask)
    return found


def answered(world: World, *runs: report.MirroredRun) -> None:
    world.end_job(JOB, report.Report(True, "Mirrored", result=report.MirrorResult(runs)))


def mirrored(world: World) -> None:
    """The Job shows all its runs, and everybody takes over what it said."""
    answered(world, *(report.MirroredRun(f"run-of-{run.name}") for run in work(world).runs))
    look(world)
    for asked in [key for key in world.objects if key[0] == "TrainingJob"]:
        world.reconcile(*asked)
    look(world)


def test_nothing_is_shown_where_nobody_asks_for_it() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": STORE})
    look(world)
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    look(world)
    run(with_dataset(world), "lr")
    look(world)
    assert not world.has("Job", JOB)
    assert said(world) == ("Unknown", "NotAsked")
    assert "mlflow" not in world.get("TrainingJob", "lr")["status"]


def test_a_run_that_ended_is_shown_and_says_so() -> None:
    world = with_mlflow()
    look(world)
    assert said(world) == ("True", "Mirrored")
    assert not world.has("Job", JOB)
    uid = run(world, "lr")
    look(world)
    assert said(world) == ("Unknown", "Mirroring")
    answered(world, report.MirroredRun("4f00"))
    look(world)
    assert world.get("Workspace", "default")["status"]["mirrored"] == [{"uid": uid, "run": "4f00"}]
    assert said(world) == ("Unknown", "Mirroring")
    world.reconcile("TrainingJob", "lr")
    assert world.get("TrainingJob", "lr")["status"]["mlflow"] == {"run": "4f00"}
    look(world)
    assert "mirrored" not in world.get("Workspace", "default")["status"]
    assert said(world) == ("True", "Mirrored")
    assert "http://mlflow.tracking:5000" in world.message("Workspace", "default", "Mirrored")
    # That is that.
    assert world.plan("TrainingJob", "lr").writes == ()
    world.wait(86400)
    world.remove("Job", JOB)
    assert not any(isinstance(w, Create) and w.manifest["metadata"]["name"] == JOB for w in _plan(world))


def _plan(world: World) -> Any:
    return world.plan("Workspace", "default").writes


def test_what_is_told_of_a_trial() -> None:
    world = with_mlflow(prefix="prod/")
    steps = [
        {"name": "lr", "class": "a.B", "params": {"C": 0.5, "penalty": None, "solver": "saga", "much": "x" * 9000}}
    ]
    uid = run(world, "forests-17", experiment="forests", estimator={"steps": steps}, seed=7)
    look(world)
    told = work(world)
    assert (told.uri, told.secret) == (MLFLOW["uri"], "mlflow")
    (shown,) = told.runs
    assert (shown.uid, shown.name, shown.experiment, shown.status) == (
        *(uid, "forests-17", "prod/team-a/forests", "FINISHED"),
    )
    assert shown.end - shown.start == 60_000
    parameters = dict(shown.parameters)
    assert len(parameters.pop("lr__much")) == mirror.LONGEST
    assert parameters == {"lr__C": "0.5", "lr__penalty": "null", "lr__solver": "saga"}
    assert shown.metrics == (task.MirroredMetric("roc_auc", "0.995"),)
    tags = dict(shown.tags)
    assert tags == {
        "modelmill.namespace": "team-a",
        "modelmill.run": "forests-17",
        "modelmill.experiment": "forests",
        "modelmill.trial": "17",
        "modelmill.state": "Succeeded",
        "modelmill.reason": "TrainingSucceeded",
        "modelmill.dataset": "tumours",
        "modelmill.datasetVersion": digest_of("a"),
        "modelmill.recipe": digest_of("e"),
        "modelmill.artifact": digest_of("1"),
        "modelmill.artifactUri": f"s3://models/artifacts/sha256-{'1' * 64}",
        "modelmill.cpuSeconds": "0",
        "modelmill.seed": "7",
        "mlflow.source.type": "JOB",
        "mlflow.source.name": "modelmill",
        "mlflow.note.content": "the artifact is in the store",
    }


def test_a_failure_a_deviation_folds_and_a_commit_are_told_too() -> None:
    world = with_mlflow()
    run(world, "bad", failed=True)
    stopping = {"metric": "roc_auc", "direction": "Maximize", "bounds": [{"folds": 1, "value": "0.9"}]}
    evaluation = {"metrics": ["roc_auc"], "crossValidation": 5, "stopping": stopping}
    spec = {key: value for key, value in training_spec(evaluation=evaluation).items() if key != "modelRef"}
    annotations = {"modelmill.dev/git-commit": "main@sha1:9f2c1e0"}
    world.put("TrainingJob", "hopeless", spec=spec, metadata={"annotations": annotations})
    world.reconcile("TrainingJob", "hopeless")
    result = report.StoppedResult((report.Metric("roc_auc", "0.5", "0.1"),), ("0.4", "0.6"), 3)
    world.end_job("hopeless-train", report.Report(True, "StoppedEarly", "it is hopeless", result=result))
    world.reconcile("TrainingJob", "hopeless")
    look(world)
    bad, hopeless = work(world).runs
    assert (bad.name, bad.experiment, bad.status) == ("bad", "team-a", "FAILED")
    assert dict(bad.tags)["mlflow.note.content"] == "it does not take it"
    assert dict(hopeless.tags)["modelmill.state"] == "Stopped"
    assert dict(hopeless.tags)["mlflow.source.git.commit"] == "9f2c1e0"
    assert [(m.name, m.value, m.step) for m in hopeless.metrics] == [
        *(("roc_auc", "0.5", 0), ("roc_auc.stddev", "0.1", 0), ("roc_auc.fold", "0.4", 1), ("roc_auc.fold", "0.6", 2)),
    ]


def test_the_pod_has_the_servers_credentials_and_not_the_stores() -> None:
    world = World()
    identity = {"serviceAccountName": "cloud", "podLabels": {"cloud": "yes"}}
    spec = {"store": {**STORE, "secretRef": {"name": "store"}}, "identity": identity, "tracking": {"mlflow": MLFLOW}}
    world.put("Workspace", "default", spec=spec)
    look(world)
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    look(world)
    run(with_dataset(world), "lr")
    look(world)
    pod = world.get("Job", JOB)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    secrets = {v["name"]: v["valueFrom"]["secretKeyRef"] for v in container["env"] if "valueFrom" in v}
    assert secrets == {
        f"MLFLOW_TRACKING_{key.upper()}": {"name": "mlflow", "key": key, "optional": True}
        for key in ("username", "password", "token")
    }
    assert "serviceAccountName" not in pod["spec"]
    assert "cloud" not in pod["metadata"]["labels"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tmp"]


def test_three_hundred_trials_take_six_jobs() -> None:
    world = with_mlflow()
    run(world, "forests-0", experiment="forests")
    template = world.get("TrainingJob", "forests-0")
    for number in range(1, 300):
        metadata = {**template["metadata"], "name": f"forests-{number}", "uid": f"uid-of-{number}"}
        world.store("TrainingJob", f"forests-{number}", {**template, "metadata": metadata})
    shown: list[str] = []
    jobs = 0
    look(world)
    while said(world) != ("True", "Mirrored"):
        jobs += 1
        names = [run.name for run in work(world).runs]
        shown += names
        answered(world, *(report.MirroredRun(f"run-of-{name}") for name in names))
        look(world)
        world.reconcile("TrainingJob", names[0])
        assert world.get("TrainingJob", names[0])["status"]["mlflow"] == {"run": f"run-of-{names[0]}"}
        for name in names[1:]:
            live = world.get("TrainingJob", name)
            world.store("TrainingJob", name, {**live, "status": {**live["status"], "mlflow": {"run": "as the first"}}})
        look(world)
        world.wait(30 if jobs >= 5 else 1)  # the last ones are no whole batch
        look(world)
    assert jobs == 6
    assert sorted(shown) == sorted(f"forests-{number}" for number in range(300))


def test_what_ends_one_by_one_waits_for_half_a_minute() -> None:
    world = with_mlflow()
    run(world, "first")
    look(world)
    mirrored(world)
    former = world.get("Job", JOB)["metadata"]["uid"]
    run(world, "second")  # a minute later
    look(world)
    assert world.get("Job", JOB)["metadata"]["uid"] != former
    mirrored(world)
    former = world.get("Job", JOB)["metadata"]["uid"]
    world.now -= timedelta(seconds=60)  # it runs for a minute, and ended just now
    run(world, "third")
    world.wait(10)
    assert look(world) == timedelta(seconds=20)
    assert said(world) == ("Unknown", "Mirroring")
    assert world.get("Job", JOB)["metadata"]["uid"] == former
    world.wait(20)
    look(world)
    assert [shown.name for shown in work(world).runs] == ["third"]


def test_what_there_was_no_time_for_comes_next() -> None:
    world = with_mlflow()
    for name in ("a", "b", "c"):
        run(world, name)
    look(world)
    assert [shown.name for shown in work(world).runs] == ["a", "b", "c"]
    answered(world, report.MirroredRun("1"), report.MirroredRun("", "EXPERIMENT_DELETED"))
    look(world)
    for name in ("a", "b", "c"):
        world.reconcile("TrainingJob", name)
    told = [world.get("TrainingJob", name)["status"].get("mlflow") for name in ("a", "b", "c")]
    assert told == [{"run": "1"}, {"refused": "EXPERIMENT_DELETED"}, None]
    world.wait(30)
    look(world)
    assert [shown.name for shown in work(world).runs] == ["c"]


def test_an_outage_is_told_and_holds_nothing_else_up() -> None:
    world = with_mlflow()
    run(world, "lr")
    pauses = []
    for _ in range(12):
        look(world)
        world.end_job(JOB, UNREACHABLE)
        pause = look(world)
        assert pause is not None
        pauses.append(pause.total_seconds())
        assert said(world) == ("False", "MlflowUnreachable")
        assert world.condition("Workspace", "default", "Ready") == ("True", "PreflightPassed")
        assert world.condition("TrainingJob", "lr", "Succeeded") == ("True", "TrainingSucceeded")
        world.wait(pause.total_seconds())
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert max(pauses) == 60
    look(world)
    assert said(world) == ("False", "MlflowUnreachable")  # until it is known to be over
    mirrored(world)
    assert said(world) == ("True", "Mirrored")


def test_what_somebody_has_to_mend_is_tried_every_ten_minutes_and_at_once_when_it_is_edited() -> None:
    world = with_mlflow()
    run(world, "lr")
    look(world)
    world.end_job(JOB, REFUSED)
    look(world)
    world.wait(3600)
    look(world)
    world.end_job(JOB, REFUSED)
    assert look(world) == timedelta(minutes=10)
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "tracking": {"mlflow": {"uri": "http://other"}}})
    look(world)
    assert work(world).uri == "http://other"


def test_what_is_edited_stops_no_job_and_what_it_said_counts() -> None:
    world = with_mlflow()
    run(world, "lr")
    look(world)
    job = world.get("Job", JOB)
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "tracking": {"mlflow": {"uri": "http://other"}}})
    look(world)
    assert world.get("Job", JOB) == job
    mirrored(world)
    assert world.get("TrainingJob", "lr")["status"]["mlflow"] == {"run": "run-of-lr"}


def test_a_job_that_nobody_looks_for_any_more_goes_by_itself() -> None:
    world = with_mlflow()
    run(world, "lr")
    look(world)
    assert world.get("Job", JOB)["spec"]["ttlSecondsAfterFinished"] == 2 * 86400
    mirrored(world)
    world.remove("Job", JOB)  # as Kubernetes does then
    look(world)
    assert said(world) == ("True", "Mirrored")
    assert not world.has("Job", JOB)


def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    world = with_mlflow()
    run(world, "lr")
    look(world)
    answered(world, report.MirroredRun("1"))
    world.remove("Pod", f"{JOB}-x")
    world.wait(10)
    look(world)
    assert [shown.name for shown in work(world).runs] == ["lr"]
    # Once it is in a status, the pod is not needed any more.
    answered(world, report.MirroredRun("1"))
    look(world)
    world.remove("Job", JOB)
    look(world)
    assert not world.has("Job", JOB)
    world.reconcile("TrainingJob", "lr")
    look(world)
    assert said(world) == ("True", "Mirrored")


def test_runs_that_are_gone_hold_nobody_up() -> None:
    world = with_mlflow()
    for name in ("a", "b"):
        run(world, name)
    look(world)
    answered(world, report.MirroredRun("1"), report.MirroredRun("2"))
    look(world)
    world.remove("TrainingJob", "a")
    world.reconcile("TrainingJob", "b")
    look(world)
    assert said(world) == ("True", "Mirrored")


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]"])
def test_a_metadata_address_is_not_even_tried(host: str) -> None:
    world = with_mlflow(uri=f"http://{host}")
    assert said(world) == ("False", "MlflowAddressDenied")
    run(world, "lr")
    look(world)
    assert not world.has("Job", JOB)
    assert said(world) == ("False", "MlflowAddressDenied")
    assert world.message("Workspace", "default", "Mirrored").startswith("spec.tracking.mlflow.uri: ")


def test_a_name_that_is_taken_is_left_alone() -> None:
    world = with_mlflow()
    world.put("Job", JOB, spec={}, status={})
    run(world, "lr")
    look(world)
    assert said(world) == ("Unknown", "NameConflict")
    assert world.get("Job", JOB)["spec"] == {}


def test_a_report_of_something_else_is_looked_at_by_somebody() -> None:
    world = with_mlflow()
    run(world, "lr")
    look(world)
    world.end_job(JOB, report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    assert look(world) == timedelta(minutes=10)
    assert said(world) == ("False", "ReportInvalid")
    world.wait(600)
    former = world.get("Job", JOB)["metadata"]["uid"]
    look(world)
    assert world.get("Job", JOB)["metadata"]["uid"] != former


def test_it_needs_no_store() -> None:
    world = with_mlflow()
    run(world, "lr")
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "store": {"uri": "s3://others"}})
    look(world)
    assert world.condition("Workspace", "default", "Ready")[0] == "False"
    mirrored(world)
    assert said(world) == ("True", "Mirrored")


def test_a_batch_fits_into_a_job_however_long_its_parameters_are() -> None:
    world = with_mlflow()

    def params(count: int) -> dict[str, Any]:
        return {"steps": [{"name": "s", "class": "a.B", "params": {f"p{n}": "x" * 5900 for n in range(count)}}]}

    for number in range(3):
        run(world, f"large-{number}", estimator=params(40))
    run(world, "larger", estimator=params(100))
    seen: list[list[str]] = []
    look(world)
    while said(world) != ("True", "Mirrored"):
        told = work(world)
        assert len(task.encode(told)) < 2 * mirror.ROOM
        seen.append([shown.name for shown in told.runs])
        mirrored(world)
        world.wait(30)
        look(world)
    assert seen == [["large-0", "large-1"], ["large-2", "larger"]]
    facts = workspace.observe(world.observed("Workspace", "default"))
    assert facts.mirroring is not None
    assert facts.mirroring.work == ""
