"""ModelVersion: verified before it may serve."""

from datetime import timedelta

import pytest
from world import World, version_spec, with_store, with_version

from modelmill_contracts import report, signature, task


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


NOT_REQUIRED = (
    "Tested True NotRequired: the Model asks for no tests (spec.tests)",
    "Approved True NotRequired: the Model asks for no approval (spec.approval is Automatic)",
)


def told(world: World) -> list[str]:
    world.reconcile("ModelVersion", "triage-1")
    return world.told("ModelVersion", "triage-1")


def test_each_step_is_told_in_full() -> None:
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    waiting = "PreflightRunning: Workspace default is trying its store"
    assert told(world) == [
        f"Ready False {waiting}",
        f"Verified Unknown {waiting}",
        *NOT_REQUIRED,
        f"Reconciling True {waiting}",
        "Stalled False PreflightRunning",
    ]
    with_store(world)
    running = "VerificationRunning: the artifact is being fetched and verified"
    assert told(world) == [
        f"Ready False {running}",
        f"Verified Unknown {running}",
        *NOT_REQUIRED,
        f"Reconciling True {running}",
        "Stalled False VerificationRunning",
    ]
    world.pod_of_job("triage-1-verify", conditions=[{"type": "PodScheduled", "status": "False", "message": "none"}])
    full = "Unschedulable: no node takes the pod: none; ask for less in resources, or add nodes"
    assert told(world) == [
        f"Ready False {full}",
        f"Verified Unknown {full}",  # a full cluster says nothing about the artifact
        *NOT_REQUIRED,
        "Reconciling False Unschedulable",
        f"Stalled True {full}",
    ]
    result = report.VerificationResult(version_spec(1)["artifact"]["digest"], (), (), 2048)
    world.end_job("triage-1-verify", report.Report(True, "Verified", result=result))
    assert told(world) == [
        "Ready True Verified: the artifact is verified; this version may be served",
        "Verified True DigestsMatch: every file has the digest that the manifest says",
        *NOT_REQUIRED,
        "Reconciling False Verified",
        "Stalled False Verified",
    ]


def test_what_kubectl_shows_of_a_version_stays_after_its_job_is_gone() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    tensors = (report.TensorSummary("input", "FP32", (-1, 30)),), (report.TensorSummary("label", "INT64", ()),)
    result = report.VerificationResult(version_spec(1)["artifact"]["digest"], *tensors, 2048)
    world.end_job("triage-1-verify", report.Report(True, "Verified", result=result))
    world.reconcile("ModelVersion", "triage-1")
    expected = {
        "schema": {
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}],
            "outputs": [{"name": "label", "datatype": "INT64", "shape": []}],
        },
        "size": 2048,
    }
    for gone in ("nothing", "Job"):
        if gone == "Job":
            world.remove("Job", "triage-1-verify")
            assert world.plan("ModelVersion", "triage-1").writes == ()
        status = world.get("ModelVersion", "triage-1")["status"]
        assert {key: status[key] for key in expected} == expected


@pytest.mark.parametrize("kept", ["inputs", "outputs"])
def test_a_status_without_what_is_empty_is_still_that_of_a_verified_version(kept: str) -> None:
    world = with_version(with_store(World()), 1)
    world.remove("Job", "triage-1-verify")
    status = world.get("ModelVersion", "triage-1")["status"]
    # What is empty may be dropped by a client on its way.
    status["schema"] = {kept: [{"name": "input", "datatype": "FP32"}]}
    del status["size"]
    world.reconcile("ModelVersion", "triage-1")
    status = world.get("ModelVersion", "triage-1")["status"]
    tensor = {"name": "input", "datatype": "FP32", "shape": []}
    assert (status["schema"], status["size"]) == ({"inputs": [], "outputs": [], kept: [tensor]}, 0)
    assert not world.has("Job", "triage-1-verify")


def test_a_name_that_is_taken_is_told_and_tried_again_in_a_minute() -> None:
    world = with_store(World())
    world.put("Job", "triage-1-verify", spec={}, status={})
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    plan = world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Verified") == ("Unknown", "NameConflict")
    assert world.condition("ModelVersion", "triage-1", "Stalled") == ("True", "NameConflict")
    assert world.message("ModelVersion", "triage-1", "Ready").startswith("Job triage-1-verify exists")
    assert plan.requeue_after == timedelta(minutes=1)


def test_a_report_of_another_task_needs_a_person() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    world.end_job("triage-1-verify", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    said = "ReportInvalid: the Job's report is not that of a verification"
    assert told(world)[0] == f"Ready False {said}"
    assert told(world)[-1] == f"Stalled True {said}"
    assert world.plan("ModelVersion", "triage-1").requeue_after is None


@pytest.mark.parametrize(
    "reason",
    ["DigestMismatch", "ManifestInvalid", "ArtifactTooLarge", "FileMissing", "NotARegularFile", "FileUnexpected"],
)
def test_bytes_that_are_wrong_stay_wrong(reason: str) -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    job = world.get("Job", "triage-1-verify")["metadata"]["uid"]
    world.end_job("triage-1-verify", report.Report(False, reason, "train again"))
    world.wait(86400)
    assert world.reconcile("ModelVersion", "triage-1").requeue_after is None
    assert told(world)[0] == f"Ready False {reason}: train again"
    assert world.get("Job", "triage-1-verify")["metadata"]["uid"] == job


def test_a_store_that_does_not_answer_is_no_news_while_it_is_asked_again_and_asked_ever_more_seldom() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    pauses = []
    for _ in range(12):
        world.reconcile("ModelVersion", "triage-1")
        if pauses:
            assert world.condition("ModelVersion", "triage-1", "Verified") == ("False", "StoreUnreachable")
        world.end_job("triage-1-verify", report.Report(False, "StoreUnreachable", "no answer", retryable=True))
        plan = world.reconcile("ModelVersion", "triage-1")
        assert plan.requeue_after is not None
        pauses.append(plan.requeue_after.total_seconds())
        world.wait(pauses[-1])
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (5, 60)


def test_another_store_is_asked_at_once() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    former = world.get("Job", "triage-1-verify")["metadata"]["uid"]
    world.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    world.reconcile("ModelVersion", "triage-1")
    assert world.get("Job", "triage-1-verify")["metadata"]["uid"] != former


@pytest.mark.parametrize("lost", ["the schema", "the generation"])
def test_what_was_verified_counts_only_for_what_it_was_verified_for(lost: str) -> None:
    world = with_version(with_store(World()), 1)
    world.remove("Job", "triage-1-verify")
    if lost == "the schema":
        del world.objects["ModelVersion", "triage-1"]["status"]["schema"]
    else:
        world.put("ModelVersion", "triage-1", spec=version_spec(1, "2"))
    world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Ready") == ("False", "VerificationRunning")
    assert world.has("Job", "triage-1-verify")


def test_a_report_that_never_comes_is_asked_for_again() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    former = world.get("Job", "triage-1-verify")["metadata"]["uid"]
    world.end_job("triage-1-verify", report.Report(True, "Verified"))
    world.remove("Pod", "triage-1-verify-x")
    assert told(world)[0] == "Ready False ReportLost: the pod went away before it could report; trying again"
    world.wait(10)
    world.reconcile("ModelVersion", "triage-1")
    assert world.get("Job", "triage-1-verify")["metadata"]["uid"] != former


def test_a_version_that_becomes_ready_is_an_event() -> None:
    world = with_version(with_store(World()), 1)
    assert world.events[-1].reason == "Verified"


ANA = "-----BEGIN PUBLIC KEY-----\nYW5h\n-----END PUBLIC KEY-----\n"  # no key, but what it is known by
BOB = "-----BEGIN PUBLIC KEY-----\nYm9i\n-----END PUBLIC KEY-----\n"
SIGNED = report.Signed("ana", str(signature.fingerprint(ANA)))


def asks_for(world: World, *keys: str, required: bool = True) -> World:
    """The Workspace names these keys."""
    declared = [{"name": name, "publicKey": {"ana": ANA, "bob": BOB}[name]} for name in keys]
    spec = {**world.get("Workspace", "default")["spec"], "signing": {"required": required, "keys": declared}}
    world.put("Workspace", "default", spec=spec)
    world.reconcile("Workspace", "default")
    return world


def verification(world: World) -> task.VerificationTask:
    pod = world.get("Job", "triage-1-verify")["spec"]["template"]["spec"]
    found = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(found, task.VerificationTask)
    return found


def answered(world: World, signed: report.Signed | None) -> tuple[str, str]:
    result = report.VerificationResult(version_spec(1)["artifact"]["digest"], (), (), 2048, signed)
    world.end_job("triage-1-verify", report.Report(True, "Verified", result=result))
    world.reconcile("ModelVersion", "triage-1")
    return world.condition("ModelVersion", "triage-1", "Verified")


def test_who_signed_it_is_looked_for_and_told() -> None:
    world = asks_for(with_store(World()), "ana", "bob", required=False)
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    asked = verification(world)
    assert ([key.name for key in asked.keys], asked.signed) == (["ana", "bob"], False)
    assert answered(world, SIGNED) == ("True", "SignatureMatches")
    said = "every file has the digest that the manifest says, and ana signed it"
    assert world.message("ModelVersion", "triage-1", "Verified") == said
    status = world.get("ModelVersion", "triage-1")["status"]
    assert status["signature"] == {"key": "ana", "fingerprint": SIGNED.fingerprint}
    assert world.plan("ModelVersion", "triage-1").writes == ()


def test_where_nobody_asks_for_a_signature_the_job_is_what_it_always_was() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    assert verification(world) == task.VerificationTask(verification(world).store, *_artifact())
    assert answered(world, None) == ("True", "DigestsMatch")
    assert "signature" not in world.get("ModelVersion", "triage-1")["status"]


def _artifact() -> tuple[str, str]:
    artifact = version_spec(1)["artifact"]
    return artifact["uri"], artifact["digest"]


def test_what_must_be_signed_from_now_on_is_verified_again() -> None:
    world = asks_for(with_version(with_store(World()), 1), "ana")
    world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Ready") == ("False", "VerificationRunning")
    assert verification(world).signed
    said = report.Report(False, "SignatureMissing", "none of the keys has signed it")
    world.end_job("triage-1-verify", said)
    plan = world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Verified") == ("False", "SignatureMissing")
    assert plan.requeue_after is not None  # somebody may sign it
    world.wait(3600)
    world.reconcile("ModelVersion", "triage-1")
    assert answered(world, SIGNED) == ("True", "SignatureMatches")


def test_keys_that_are_named_without_asking_for_a_signature_change_nothing() -> None:
    world = asks_for(with_version(with_store(World()), 1), "ana", required=False)
    assert world.plan("ModelVersion", "triage-1").writes == ()


def test_a_signature_counts_while_its_key_is_named() -> None:
    world = asks_for(with_store(World()), "ana")
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    world.reconcile("ModelVersion", "triage-1")
    assert answered(world, SIGNED) == ("True", "SignatureMatches")
    asks_for(world, "bob", "ana")
    assert world.plan("ModelVersion", "triage-1").writes == ()
    asks_for(world, "bob")
    world.reconcile("ModelVersion", "triage-1")
    assert world.condition("ModelVersion", "triage-1", "Ready") == ("False", "VerificationRunning")
    asks_for(world, "bob", required=False)
    world.reconcile("ModelVersion", "triage-1")
    assert [key.name for key in verification(world).keys] == ["bob"]
