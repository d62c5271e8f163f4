"""Bad input ends in a condition that says what to do, and what serves is untouched."""

import json
from typing import Any

import pytest
from conftest import config_map, dataset, deployment, gone, namespace, training

from live import API_VERSION, ROOT, Kubectl, eventually

CSV = (ROOT / "examples/breast-cancer/breast-cancer.csv").read_text()
HEADER, *ROWS = CSV.strip().splitlines()


def rows(change: Any) -> str:
    """The example's data with each line's fields changed."""
    return "\n".join([HEADER, *(",".join(change(number, line.split(","))) for number, line in enumerate(ROWS))])


def step(class_: str, **params: Any) -> dict[str, Any]:
    return {"estimator": {"steps": [{"name": "m", "class": class_, "params": params}]}}


def data(name: str = "tumours", target: str = "benign", **more: Any) -> dict[str, Any]:
    return {"data": {"datasetRef": {"name": name}, "target": target, **more}}


LR = "sklearn.linear_model.LogisticRegression"

# name -> (spec, reason, words of the message)
TRAININGS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "class-unknown": (step("sklearn.linear_model.LogisticRegresion"), "EstimatorUnknown", ["LogisticRegression"]),
    "class-denied": (step("os.path.join"), "EstimatorNotAllowed", ["sklearn"]),
    "param-unknown": (step(LR, max_iterations=5), "ParameterUnknown", ["max_iterations", "max_iter"]),
    "param-invalid": (step(LR, C=-1), "ParameterInvalid", ["C"]),
    "feature-missing": (data(features=["mean_radius", "diameter"]), "FeatureMissing", ["diameter"]),
    "target-missing": (data(target="malignant"), "TargetMissing", ["malignant"]),
    "text-feature": (data("with-text"), "FeatureNotNumeric", ["mean_radius"]),
    "nan-feature": (data("with-nan"), "FeatureMissingValues", ["mean_texture"]),
    "one-class": (data("one-class"), "TargetOneClass", ["benign"]),
    "metric-unknown": ({"evaluation": {"metrics": ["rocauc"]}}, "MetricUnknown", ["roc_auc"]),
    "memory": ({"resources": {"limits": {"memory": "48Mi"}}}, "OutOfMemory", ["resources.limits.memory"]),
    "time": ({"limits": {"timeout": "1s"}}, "TimedOut", ["limits.timeout"]),
}

# name -> (spec, condition that is False, reason, words of the message)
DATASETS: dict[str, tuple[dict[str, Any], str, str, list[str]]] = {
    "missing-column": (
        {
            "source": {"configMapRef": {"name": "tumours", "key": "breast-cancer.csv"}},
            "columns": [{"name": "age", "type": "Float"}],
        },
        "Valid",
        "DataInvalid",
        ["age"],
    ),
    "not-numeric": (
        {
            "source": {"configMapRef": {"name": "with-text", "key": "data.csv"}},
            "columns": [{"name": "mean_radius", "type": "Float"}],
        },
        "Valid",
        "DataInvalid",
        ["mean_radius", "rows 5"],
    ),
    "empty": ({"source": {"configMapRef": {"name": "empty", "key": "data.csv"}}}, "Valid", "EmptyFile", ["empty"]),
    "no-key": (
        {"source": {"configMapRef": {"name": "tumours", "key": "other.csv"}}},
        "Available",
        "SourceNotFound",
        ["other.csv"],
    ),
    "no-map": ({"source": {"configMapRef": {"name": "nobody", "key": "a.csv"}}}, "Available", "SourceNotFound", []),
    "no-host": (
        {"source": {"uri": "https://nowhere.invalid/data.csv"}},
        "Available",
        "SourceUnresolvable",
        ["nowhere.invalid"],
    ),
    "no-object": ({"source": {"uri": "s3://models/none.csv"}}, "Available", "SourceNotFound", ["none.csv"]),
    "no-secret": (
        {"source": {"uri": "s3://models/none.csv", "secretRef": {"name": "nobody"}}},
        "Available",
        "ContainerConfigInvalid",
        ["nobody"],
    ),
    "metadata": (
        {"source": {"uri": "https://169.254.169.254/latest/data.csv"}},
        "Available",
        "SourceAddressDenied",
        [],
    ),
}


@pytest.fixture(scope="module")
def bad(team: Kubectl) -> Kubectl:
    """Everything bad at once: it waits for nobody."""
    with_text = rows(lambda n, fields: ["large" if n == 4 else fields[0], *fields[1:]])
    with_nan = rows(lambda n, fields: [fields[0], "" if n == 4 else fields[1], *fields[2:]])
    one_class = rows(lambda _, fields: [*fields[:-1], "1"])
    team.apply(
        config_map("with-text", **{"data.csv": with_text}),
        config_map("with-nan", **{"data.csv": with_nan}),
        config_map("one-class", **{"data.csv": one_class}),
        config_map("empty", **{"data.csv": ""}),
        *(
            dataset(name, source={"configMapRef": {"name": name, "key": "data.csv"}})
            for name in ("with-text", "with-nan", "one-class")
        ),
        *(dataset(f"bad-{name}", **spec) for name, (spec, *_) in DATASETS.items()),
        *(training(f"bad-{name}", **spec) for name, (spec, *_) in TRAININGS.items()),
    )
    return team


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_cannot_succeed_says_why(bad: Kubectl, name: str) -> None:
    _, reason, words = TRAININGS[name]
    condition = bad.wait_for("tjob", f"bad-{name}", "Failed", seconds=240)
    assert condition["reason"] == reason, condition
    assert all(word in condition["message"] for word in words), condition["message"]
    assert bad.condition("tjob", f"bad-{name}", "Stalled")["status"] == "True"


@pytest.mark.parametrize("name", DATASETS)
def test_data_that_cannot_be_used_says_why(bad: Kubectl, name: str) -> None:
    _, type_, reason, words = DATASETS[name]
    # On a full node it says first that its pod waits for room.
    condition = bad.wait_for("dset", f"bad-{name}", type_, "False", reason=reason, seconds=180)
    assert all(word in condition["message"] for word in words), condition["message"]


def test_what_serves_was_not_touched(bad: Kubectl) -> None:
    assert bad.condition("mdep", "triage", "Ready")["status"] == "True"
    assert all(
        status["restartCount"] == 0
        for pod in bad.list("pods", "modelmill.dev/modeldeployment=triage")
        for status in pod["status"]["containerStatuses"]
    )


def test_a_deployment_waits_for_its_model_and_starts_when_it_appears(team: Kubectl) -> None:
    team.apply(deployment("late", {"name": "late"}))
    team.wait_for("mdep", "late", "Ready", "False", reason="ModelNotFound")
    assert team.condition("mdep", "late", "Reconciling")["status"] == "True"
    team.apply(training("late", modelRef={"name": "late"}))
    team.wait_for("mdep", "late", "Ready", seconds=120)
    team.run("delete", "mdep/late", "tjob/late")


def test_a_name_that_somebody_else_has(team: Kubectl) -> None:
    team.run("create", "service", "clusterip", "taken", "--tcp=80:80")
    team.apply(deployment("taken", {"name": "triage"}))
    condition = team.wait_for("mdep", "taken", "Stalled", reason="NameConflict")
    assert "Service taken" in condition["message"]
    service = team.get("service", "taken")
    assert service is not None
    assert service["spec"]["selector"] == {"app": "taken"}
    team.run("delete", "mdep/taken", "service/taken")


def test_a_model_that_was_changed_after_training_never_serves(team: Kubectl) -> None:
    team.apply(training("tampered", modelRef={"name": "tampered"}, seed=11))
    team.wait_for("mver", "tampered-1", "Ready", seconds=120)
    version = team.get("mver", "tampered-1")
    assert version is not None
    folder = version["spec"]["artifact"]["uri"].removeprefix("s3://models/")
    store = "deployment/store"
    team.run("exec", store, "-c", "store", "--", "sh", "-c", f"printf x >> /data/models/{folder}/model.onnx")
    team.apply(deployment("tampered", {"name": "tampered"}))
    condition = team.wait_for("mdep", "tampered", "Stalled", reason="DigestMismatch")
    assert "changed after it was made" in condition["message"]
    assert team.condition("mdep", "tampered", "Available")["status"] == "False"
    # The same artifact under another version is refused before anybody serves it.
    again = {**version["spec"], "version": 2}
    team.apply({"apiVersion": API_VERSION, "kind": "ModelVersion", "metadata": {"name": "tampered-2"}, "spec": again})
    team.wait_for("mver", "tampered-2", "Verified", "False", reason="DigestMismatch")
    team.run("delete", "mdep/tampered")


STORES: dict[str, tuple[dict[str, Any], str]] = {
    "absent": (
        {"uri": "s3://models", "endpoint": "http://nobody:7070", "secretRef": {"name": "store"}},
        "StoreUnreachable",
    ),
    "no-keys": ({"uri": "s3://models", "endpoint": "http://store:7070"}, "StoreCredentialsMissing"),
    "wrong-key": (
        {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "wrong"}},
        "StoreRefused",
    ),
    "no-bucket": (
        {"uri": "s3://nobody", "endpoint": "http://store:7070", "secretRef": {"name": "store"}},
        "StoreBucketMissing",
    ),
    "no-secret": (
        {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "nobody"}},
        "ContainerConfigInvalid",
    ),
}


def test_a_store_that_does_not_work_is_said_everywhere_and_healing_it_is_enough(system: Kubectl) -> None:
    kubectl = namespace(system, "stores")
    try:
        kubectl.run(
            *("create", "secret", "generic", "wrong"),
            *("--from-literal=accessKeyId=modelmill-trial", "--from-literal=secretAccessKey=wrong-secret-key"),
        )
        workspace = {"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": "default"}}
        good = (kubectl.get("wsp", "default") or {})["spec"]
        for store, reason in STORES.values():
            kubectl.run("replace", "-f", "-", stdin=json.dumps({**workspace, "spec": {"store": store}}))
            condition = kubectl.wait_for("wsp", "default", "PreflightPassed", "False", reason=reason, seconds=120)
            assert condition["message"]
        kubectl.apply_folder("examples/breast-cancer")
        kubectl.wait_for("dset", "tumours", "PreflightPassed", "False", reason=reason)
        kubectl.wait_for("tjob", "triage-logistic", "PreflightPassed", "False", reason=reason)
        kubectl.run("replace", "-f", "-", stdin=json.dumps({**workspace, "spec": good}))
        kubectl.wait_for("mdep", "triage", "Ready", seconds=180)
    finally:
        gone(system, kubectl)


def test_a_full_store_is_said(system: Kubectl) -> None:
    kubectl = namespace(system, "full", store=False)
    try:
        small = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
        kubectl.apply_folder("manifests/store")
        fill = "mkdir -p /data/models; dd if=/dev/zero of=/data/fill bs=1024 2>/dev/null || true"
        patch = [
            {"op": "replace", "path": "/spec/template/spec/volumes", "value": small},
            {"op": "replace", "path": "/spec/template/spec/initContainers/0/command", "value": ["sh", "-c", fill]},
        ]
        kubectl.run("patch", "deployment", "store", "--type=json", "-p", json.dumps(patch))
        condition = kubectl.wait_for("wsp", "default", "PreflightPassed", "False", reason="StoreFull", seconds=150)
        assert "free space" in condition["message"]
    finally:
        gone(system, kubectl)


def test_a_quota_that_is_exceeded_is_said(system: Kubectl) -> None:
    kubectl = namespace(system, "quota")
    try:
        kubectl.apply_folder("examples/breast-cancer")
        kubectl.wait_for("mdep", "triage", "Ready", seconds=180)
        hard = {"spec": {"hard": {"pods": "1"}}}
        kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, **hard})
        eventually(lambda: (kubectl.get("quota", "small") or {}).get("status", {}).get("used"), "the quota counts")
        kubectl.apply(training("refused"), deployment("refused", {"name": "triage"}))
        for kind, name in (("tjob", "refused"), ("mdep", "refused")):
            condition = kubectl.wait_for(kind, name, "Stalled", reason="PodCreationRefused")
            assert "exceeded quota: small" in condition["message"]
        assert kubectl.condition("mdep", "triage", "Ready")["status"] == "True"
        kubectl.run("delete", "quota", "small")
        kubectl.wait_for("mdep", "refused", "Ready", seconds=180)
    finally:
        gone(system, kubectl)
