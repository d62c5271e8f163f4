"""ModelVersion: verified before it may serve."""

from world import World, version_spec, with_store, with_version

from modelmill_contracts import report


def test_a_verified_version_is_ready_and_shows_its_schema() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Ready") == ("False", "VerificationRunning")
    tensor = report.TensorSummary("input", "FP32", (-1, 30))
    result = report.VerificationResult(version_spec(1)["artifact"]["digest"], (tensor,), (), 2048)
    world.end_job("triage-1-verify", report.Report(True, "Verified", result=result))
    world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Ready") == ("True", "Verified")
    status = world.get("ModelVersion", "triage-1")["status"]
    assert status["schema"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}]
    assert status["size"] == 2048


def test_what_was_verified_once_stays_so_without_its_job_and_without_the_store() -> None:
    world = with_version(with_store(World()), 1)
    world.remove("Job", "triage-1-verify")
    world.remove("Workspace", "default")
    assert world.plan("ModelVersion", "triage-1").writes == ()


def test_an_artifact_that_was_changed_is_never_ready_and_never_tried_again() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    world.end_job("triage-1-verify", report.Report(False, "DigestMismatch", "model.onnx was changed; train again"))
    plan = world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Verified") == ("False", "DigestMismatch")
    assert world.condition("ModelVersion", "triage-1", "Stalled")[0] == "True"
    assert plan.requeue_after is None


def test_a_store_that_did_not_answer_is_asked_again() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    world.end_job("triage-1-verify", report.Report(False, "StoreUnreachable", "no answer", retryable=True))
    plan = world.reconcile("ModelVersion", "triage-1")
    assert plan.requeue_after is not None


def test_a_store_that_refused_the_key_is_asked_again_when_that_may_be_mended() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    world.end_job("triage-1-verify", report.Report(False, "StoreRefused", "it refuses the key; check the Secret"))
    plan = world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Verified") == ("False", "StoreRefused")
    assert plan.requeue_after is not None
    job = world.get("Job", "triage-1-verify")["metadata"]["uid"]
    world.wait(plan.requeue_after.total_seconds())
    world.reconcile("ModelVersion", "triage-1")
    assert world.get("Job", "triage-1-verify")["metadata"]["uid"] != job
