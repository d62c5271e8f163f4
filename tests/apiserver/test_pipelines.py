"""Pipelines with the operator's own process: how soon a run follows its cause, and one run after a kill."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from conftest import Operator
from test_operator import deployment, end_job, with_store

from live import API_VERSION, Kubectl, eventually
from modelmill_contracts import report

Start = Callable[..., Operator]
STEPS = {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]}
TRAINING = {"data": {"datasetRef": {"name": "tumours"}, "target": "benign"}, "estimator": STEPS}
STAGES: list[dict[str, Any]] = [
    {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}},
    {"name": "train", "trainingJob": {"spec": TRAINING}},
]


def pipeline(*triggers: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"triggers": list(triggers), "stages": STAGES, **more}
    return {"apiVersion": API_VERSION, "kind": "Pipeline", "metadata": {"name": "triage"}, "spec": spec}


DRIFT = {"name": "drift", "onCondition": {"deploymentRef": {"name": "triage"}, "types": ["DriftDetected"]}}


def drifts(kubectl: Kubectl, status: str) -> None:
    """As the operator says it, when the window that shows it is committed."""
    live = kubectl.get("mdep", "triage") or {}
    condition = {
        "type": "DriftDetected",
        "status": status,
        "observedGeneration": live["metadata"]["generation"],
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reason": "Measured",
        "message": "the feature radius is not as it was",
    }
    others = [c for c in live["status"].get("conditions", ()) if c["type"] != "DriftDetected"]
    kubectl.patch_status("mdep", "triage", {"conditions": [*others, condition]})


def with_data(kubectl: Kubectl) -> None:
    with_store(kubectl)
    spec = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}
    kubectl.apply({"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "tumours"}, "spec": spec})
    looked(kubectl, "a")
    kubectl.wait_for("dset", "tumours", "Ready")


def looked(kubectl: Kubectl, letter: str) -> None:
    snapshot = report.SnapshotResult("sha256:" + letter * 64, "sha256:" + "b" * 64, 569, 31)
    end_job(kubectl, "tumours-data", report.Report(True, "SnapshotTaken", result=snapshot))


def test_a_run_exists_at_once_when_a_condition_becomes_true(
    kubectl: Kubectl, operator: Start, tell: Callable[[str], None]
) -> None:
    operator("lease-a").active()
    with_store(kubectl)
    kubectl.apply(deployment(), pipeline(DRIFT, concurrencyPolicy="Replace"))
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    kubectl.wait_for("mpl", "triage", "Ready")
    took = []
    for number in range(1, 6):
        drifts(kubectl, "False")
        time.sleep(1.1)  # times have whole seconds
        began = time.monotonic()
        drifts(kubectl, "True")
        eventually(lambda number=number: len(kubectl.list("mplr")) >= number, f"run {number}", 10)
        took.append(time.monotonic() - began)
    tell(f"from the condition to the run: {', '.join(f'{seconds:.2f} s' for seconds in took)}")
    assert max(took) < 5.0  # what is promised, one interval aside: the window was committed before
    assert len(kubectl.list("mplr")) == 5


def test_an_operator_that_is_killed_makes_no_other_run(kubectl: Kubectl, operator: Start) -> None:
    first = operator("lease-a").active()
    with_data(kubectl)
    kubectl.apply(pipeline({"name": "code", "onSpecChange": True}))
    (run,) = eventually(lambda: kubectl.list("mplr"), "a run")
    first.kill()
    name = run["metadata"]["name"]
    operator("lease-b").active()
    eventually(lambda: (kubectl.get("dset", "tumours") or {})["status"].get("lastRun"), "a look")
    before = (kubectl.get("dset", "tumours") or {})["status"]["lastRun"]

    def read_anew() -> bool:
        job = kubectl.get("job", "tumours-data")
        return job is not None and bool(job["metadata"]["uid"] != before)

    eventually(read_anew, "the source is read for the run")
    looked(kubectl, "c")
    made = eventually(lambda: kubectl.get("tjob", f"{name}-train"), "the run trains")
    assert made["spec"]["data"]["version"] == "sha256:" + "c" * 64
    assert [found["metadata"]["name"] for found in kubectl.list("mplr")] == [name]
    kubectl.run("patch", "mplr", name, "--type=merge", "-p", json.dumps({"spec": {"cancel": True}}))
    kubectl.run("wait", "--for=condition=Failed", f"mplr/{name}", "--timeout=20s")
    eventually(lambda: kubectl.get("tjob", f"{name}-train") is None, "what it had under way is deleted")
    shown = kubectl.output("get", "mplr", name).splitlines()[1]
    assert "data cccccccc > train failed" in shown
