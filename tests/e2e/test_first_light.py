"""From `kubectl apply` to a prediction: what a user types, and what he is told."""

import json
import time
from typing import Any

import pytest
from conftest import last_line, run_script

from live import ROOT, Kubectl, eventually


def infer(kubectl: Kubectl, body: dict[str, Any], name: str = "triage") -> dict[str, Any]:
    """One request through the API server's proxy: no port of this machine is needed."""
    raw = f"/api/v1/namespaces/{kubectl.namespace}/services/{name}:http/proxy/v2/models/{name}/infer"
    result = kubectl.run("create", "--raw", raw, "-f", "-", stdin=json.dumps(body))
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_prediction_is_scikit_learns_own(team: Kubectl) -> None:
    run_script(team, "scikit-learn", "scikit_learn.py")
    theirs = last_line(team, "scikit-learn")
    rows = theirs["rows"]
    shape = [len(rows), len(rows[0])]
    answer = infer(team, {"inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": rows}]})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs["predict"] == theirs["labels"]
    assert outputs["predict_proba"][1::2] == pytest.approx(theirs["probabilities"], abs=1e-4)


def test_it_is_counted_on_a_port_of_its_own(team: Kubectl) -> None:
    row = [[1.0] * 30]
    infer(team, {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": row}]})
    pods = team.list("pods", "modelmill.dev/modeldeployment=triage")
    counted = 0.0
    for pod in pods:
        raw = f"/api/v1/namespaces/{team.namespace}/pods/{pod['metadata']['name']}:9090/proxy/metrics"
        for line in team.output("get", "--raw", raw).splitlines():
            if line.startswith("modelmill_predictions_total"):
                counted += float(line.rsplit(" ", 1)[1])
    assert counted >= 1


def test_kubectl_tells_what_a_user_wants_to_know(team: Kubectl) -> None:
    listed = {line.partition(".")[0] for line in team.output("get", "modelmill", "-o", "name").splitlines()}
    assert listed == {"workspace", "dataset", "trainingjob", "model", "modelversion", "modeldeployment"}
    team.run("wait", "--for=condition=Succeeded", "tjob/triage-logistic", "--timeout=1s")
    team.run("wait", "--for=condition=Ready", "mdep/triage", "--timeout=1s")
    team.run("wait", "--for=condition=Ready", "dset/tumours", "--timeout=1s")
    row = team.output("get", "mdep", "triage").splitlines()[1].split()
    assert row[:6] == ["triage", "True", "True", "1", "2", "Serving"]
    explained = team.output("explain", "modeldeployment.spec", "--recursive")
    assert "revisionHistoryLimit" in explained
    status = (team.get("mver", "triage-1") or {})["status"]
    assert status["schema"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}]


def test_the_pods_are_restricted_and_have_no_token(team: Kubectl) -> None:
    # The namespace enforces the restricted profile: that the pods run is the proof.  A token would be a mount.
    for pod in team.list("pods", "app.kubernetes.io/managed-by=modelmill"):
        assert "serviceaccount" not in json.dumps(pod["spec"].get("volumes", []))


def test_the_scale_subresource_scales_what_serves(team: Kubectl) -> None:
    for replicas in (3, 2):
        team.run("scale", "mdep/triage", f"--replicas={replicas}")
        team.wait_for("mdep", "triage", "Ready")
        eventually(
            lambda n=replicas: (team.get("mdep", "triage") or {})["status"]["stable"]["ready"] == n,
            f"{replicas} replicas",
        )


@pytest.mark.alone
def test_another_default_image_restarts_no_serving_pod_and_says_what_is_wrong_with_itself(
    system: Kubectl, team: Kubectl
) -> None:
    before = {pod["metadata"]["uid"] for pod in team.list("pods", "modelmill.dev/modeldeployment=triage")}
    spec = {"model": {"name": "triage"}}
    other = {"apiVersion": "modelmill.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "other"}}
    try:
        system.run("set", "env", "deployment/modelmill-operator", "MILL_SERVER_IMAGE=registry.invalid/server:none")
        system.run("rollout", "status", "deployment/modelmill-operator", "--timeout=120s")
        team.apply({**other, "spec": spec})
        condition = team.wait_for("mdep", "other", "Stalled", reason="ImagePullFailed")
        assert "registry.invalid/server:none" in condition["message"]
        after = {pod["metadata"]["uid"] for pod in team.list("pods", "modelmill.dev/modeldeployment=triage")}
        assert after == before
        assert team.condition("mdep", "triage", "Ready")["status"] == "True"
    finally:
        team.run("delete", "mdep", "other", "--ignore-not-found")
        system.apply_folder("manifests")
        system.run("rollout", "status", "deployment/modelmill-operator", "--timeout=120s")


def test_from_apply_to_the_first_prediction(team: Kubectl) -> None:
    """Not a measurement (see `make bench`): only that nothing waits for a resync or a retry."""
    begun = time.monotonic()
    step = {"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}
    spec = {
        "modelRef": {"name": "quick"},
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
        "estimator": {"steps": [step]},
    }
    api = {"apiVersion": "modelmill.dev/v1alpha1"}
    team.apply(
        {**api, "kind": "ModelDeployment", "metadata": {"name": "quick"}, "spec": {"model": {"name": "quick"}}},
        {**api, "kind": "TrainingJob", "metadata": {"name": "quick"}, "spec": spec},
    )
    team.wait_for("mdep", "quick", "Ready", seconds=120)
    infer(team, {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [[1.0] * 30]}]}, "quick")
    print(f"\nfrom apply to prediction: {time.monotonic() - begun:.1f} s")
    team.run("delete", "mdep/quick", "tjob/quick")


def test_a_first_model_of_ones_own_data_as_the_readme_has_it(team: Kubectl) -> None:
    section = (ROOT / "README.md").read_text().partition("## Your own data")[2]
    manifests = section.partition("<<'END'\n")[2].partition("\nEND\n")[0]
    team.run("create", "configmap", "mine", f"--from-file=mine.csv={ROOT}/examples/breast-cancer/breast-cancer.csv")
    team.run("apply", "-f", "-", stdin=manifests.replace("LABEL", "benign"))
    team.wait_for("mdep", "mine", "Ready", seconds=180)
    row = {"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}
    assert infer(team, {"inputs": [row]}, "mine")["model_version"] == "1"
    team.run("delete", "mdep/mine")
