"""The operator process against a real API server: restarts, conflicts, leases, deletion.  Nodes are not needed."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from conftest import Operator

from live import API_VERSION, Kubectl, eventually
from modelmill_contracts import report

DIGEST = "sha256:" + "1" * 64
Start = Callable[..., Operator]


def workspace() -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Workspace",
        "metadata": {"name": "default"},
        "spec": {"store": {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}},
    }


def deployment(**more: Any) -> dict[str, Any]:
    model = {"uri": "s3://models/artifacts/x", "digest": DIGEST}
    spec = {"model": model, **more}
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "triage"}, "spec": spec}


def end_job(kubectl: Kubectl, name: str, said: report.Report) -> None:
    """Play the kubelet and the Job controller: the Job's pod ended with this report."""
    job = eventually(lambda: kubectl.get("job", name), f"job/{name}")
    # The Job controller runs here and makes the pod; nothing schedules it.
    pod = eventually(
        lambda: next(iter(kubectl.list("pods", f"batch.kubernetes.io/job-name={name}")), None), f"a pod of {name}"
    )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {
        "exitCode": 0 if said.ok else 1,
        "reason": "Completed" if said.ok else "Error",
        "message": report.encode(said).decode(),
        "startedAt": now,
        "finishedAt": now,
    }
    status = {
        "phase": "Succeeded" if said.ok else "Failed",
        "containerStatuses": [
            {
                "name": "trainer",
                "state": {"terminated": ended},
                "ready": False,
                "restartCount": 0,
                "image": "i",
                "imageID": "i",
            }
        ],
    }
    kubectl.patch_status("pod", pod["metadata"]["name"], status)
    assert job is not None


def with_store(kubectl: Kubectl) -> None:
    kubectl.apply(workspace())
    passed = report.Report(True, "StoreWorks", result=report.PreflightResult(("write", "read", "delete")))
    end_job(kubectl, "default-preflight", passed)
    kubectl.wait_for("workspace", "default", "Ready")


def managed(kubectl: Kubectl) -> dict[str, str]:
    """Everything in the namespace that the operator wrote, with its resource version."""
    kinds = "modelmill,deployments,services,jobs"
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in kubectl.list(kinds)
    }


def test_a_deployment_gets_its_children_and_a_restart_writes_nothing(kubectl: Kubectl, operator: Start) -> None:
    first = operator("lease-a").active()
    with_store(kubectl)
    kubectl.apply(deployment())
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    before = managed(kubectl)
    assert sum(key.startswith("Deployment/") for key in before) == 1
    assert "Service/triage" in before
    first.kill()
    second = operator("lease-b").active()
    time.sleep(3)
    assert managed(kubectl) == before
    assert second.text().count("will be tried again") == 0


def test_another_operator_with_other_images_restarts_no_serving_pod(kubectl: Kubectl, operator: Start) -> None:
    first = operator("lease-a").active()
    with_store(kubectl)
    kubectl.apply(deployment())
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    before = {item["metadata"]["name"]: item["metadata"]["generation"] for item in kubectl.list("deployments")}
    first.stop()
    operator("lease-a", "--server-image=server:newer").active()
    kubectl.apply(deployment(replicas=2))
    eventually(lambda: kubectl.list("deployments")[0]["spec"]["replicas"] == 2, "two replicas")
    (after,) = kubectl.list("deployments")
    assert after["metadata"]["name"] in before
    assert {c["image"] for c in after["spec"]["template"]["spec"]["containers"]} == {"server:test"}


def test_a_service_of_somebody_else_is_never_touched_and_its_removal_heals(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.run("create", "service", "clusterip", "triage", "--tcp=80:80")
    theirs = kubectl.get("service", "triage")
    kubectl.apply(deployment())
    condition = kubectl.wait_for("mdep", "triage", "Stalled", reason="NameConflict")
    assert "Service triage" in condition["message"]
    assert kubectl.get("service", "triage") == theirs
    kubectl.run("delete", "service", "triage")
    kubectl.run("annotate", "mdep", "triage", "look=again")
    kubectl.wait_for("mdep", "triage", "Stalled", reason="Unschedulable")
    service = kubectl.get("service", "triage")
    assert service is not None
    assert "modelmill.dev/revision" in service["spec"]["selector"]


def test_everything_goes_with_its_owner_also_while_no_operator_runs(kubectl: Kubectl, operator: Start) -> None:
    first = operator().active()
    with_store(kubectl)
    kubectl.apply(deployment())
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    first.kill()
    kubectl.run("delete", "mdep/triage", "workspace/default", "--timeout=20s")
    eventually(lambda: not managed(kubectl), "nothing is left", 60, lambda: str(managed(kubectl)))


def test_a_child_that_is_deleted_comes_back(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(deployment())
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    kubectl.run("delete", "service,deployment", "--all")
    eventually(lambda: kubectl.get("service", "triage") and kubectl.list("deployments"), "the children are back")


def test_a_service_that_was_edited_is_mended(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(deployment())
    service = eventually(lambda: kubectl.get("service", "triage"), "the service")
    patch = '[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9999}]'
    kubectl.run("patch", "service", "triage", "--type=json", "-p", patch)

    def mended() -> bool:
        live = kubectl.get("service", "triage")
        return live is not None and live["spec"]["ports"] == service["spec"]["ports"]

    eventually(mended, "the port is as it was")


def test_a_standby_takes_over_quickly_when_the_active_one_stops(kubectl: Kubectl, operator: Start) -> None:
    active = operator("shared").active()
    standby = operator("shared")
    time.sleep(3)
    assert standby.log == active.log
    text = active.text()
    assert text.count("this replica is active now") == 1
    begun = time.monotonic()
    assert active.stop() < 15
    eventually(lambda: active.text().count("this replica is active now") == 2, "the standby is active", 20)
    assert time.monotonic() - begun < 15
    with_store(kubectl)


def test_a_kind_whose_crd_is_missing_is_told_and_the_others_go_on(
    kubectl: Kubectl, operator: Start, config: str
) -> None:
    everything = Kubectl(config)
    everything.run("delete", "crd", "datasets.modelmill.dev")
    try:
        process = operator().active()
        with_store(kubectl)
        kubectl.apply(deployment())
        kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
        assert "install or update the CRDs" in process.text()
    finally:
        everything.apply_file("crds/datasets.yaml")
        everything.established("datasets.modelmill.dev")


def test_a_training_job_waits_says_so_and_becomes_a_version(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    spec = {
        "modelRef": {"name": "triage"},
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
        "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
    }
    kubectl.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "lr"}, "spec": spec})
    kubectl.wait_for("tjob", "lr", "DataReady", "Unknown", reason="DatasetNotFound")
    source = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}
    kubectl.apply({"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "tumours"}, "spec": source})
    snapshot = report.SnapshotResult("sha256:" + "a" * 64, "sha256:" + "b" * 64, 569, 31)
    end_job(kubectl, "tumours-data", report.Report(True, "SnapshotTaken", result=snapshot))
    kubectl.wait_for("dset", "tumours", "Ready")
    training = report.TrainingResult(
        "sha256:" + "c" * 64, DIGEST, "s3://models/artifacts/x", "onnx", (report.Metric("roc_auc", "0.99"),)
    )
    end_job(kubectl, "lr-train", report.Report(True, "TrainingSucceeded", result=training))
    kubectl.run("wait", "--for=condition=Succeeded", "tjob/lr", "--timeout=30s")
    verification = report.VerificationResult(DIGEST, (), (), 100)
    end_job(kubectl, "triage-1-verify", report.Report(True, "Verified", result=verification))
    kubectl.run("wait", "--for=condition=Ready", "mver/triage-1", "--timeout=30s")
    eventually(lambda: (kubectl.get("mdl", "triage") or {}).get("status", {}).get("latestReady") == 1, "latestReady 1")

    def said() -> list[str]:
        events = [e for e in kubectl.list("events.events.k8s.io") if e["regarding"]["kind"] == "TrainingJob"]
        return [e["reason"] for e in events if e["type"] == "Normal"]

    eventually(said, "an Event about the TrainingJob")  # it is written when nothing else waits to be
    assert said() == ["TrainingSucceeded"]
