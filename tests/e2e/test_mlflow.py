"""Runs are shown in a real MLflow beside the cluster: a search's and one by hand, each once, also after an outage."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, namespace

import mlflow_server
from live import API_VERSION, ROOT, Kubectl, environment, eventually
from mlflow_server import ADMIN, MlflowServer

SELECTOR = "modelmill.dev/experiment=forests"
FOREST = "sklearn.ensemble.RandomForestClassifier"


@pytest.fixture(scope="module")
def mlflow(this_machine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder, version = tmp_path_factory.mktemp("mlflow"), mlflow_server.VERSIONS[0]
    with mlflow_server.running(folder, version, auth=True, address=this_machine) as server:
        yield server


@pytest.fixture(scope="module")
def tracked(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store and the example's data."""
    kubectl = namespace(system, "tracked")
    data = (ROOT / "examples/breast-cancer/breast-cancer.csv").read_text()
    metadata = {"name": "tumours"}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"data.csv": data}},
        made("Dataset", "tumours", {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}),
    )
    yield kubectl
    gone(system, kubectl)


def made(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def training(depth: int | None = None) -> dict[str, Any]:
    params = {"n_estimators": 10, **({"max_depth": depth} if depth is not None else {})}
    return {
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign", "split": {"stratify": True}},
        "estimator": {"steps": [{"name": "forest", "class": FOREST, "params": params}]},
        "evaluation": {"metrics": ["roc_auc"], "crossValidation": 3},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }


def track(kubectl: Kubectl, uri: str) -> None:
    patch = {"spec": {"tracking": {"mlflow": {"uri": uri, "secretRef": {"name": "mlflow"}}}}}
    kubectl.run("patch", "workspace", "default", "--type=merge", "-p", json.dumps(patch))


def test_runs_are_shown_once_and_can_be_compared(tracked: Kubectl, mlflow: MlflowServer) -> None:
    words = [f"--from-literal={key}={value}" for key, value in zip(("username", "password"), ADMIN, strict=True)]
    tracked.run("create", "secret", "generic", "mlflow", *words)
    track(tracked, mlflow.url.rpartition(":")[0] + ":9")  # nobody is there
    parameters = [{"param": "forest__max_depth", "integer": {"min": 2, "max": 4}}]
    search = {
        "objective": {"metric": "roc_auc"},
        "search": {"algorithm": "Grid"},
        "parameters": parameters,
        "trials": {"max": 3, "parallel": 2},
        "template": {"spec": training()},
    }
    tracked.apply(made("TrainingJob", "by-hand", training(8)), made("Experiment", "forests", search))
    tracked.wait_for("tjob", "by-hand", "Succeeded", seconds=180)
    tracked.wait_for("mexp", "forests", "Succeeded", seconds=300)
    # An outage is told, and nothing waited for it.
    tracked.wait_for("workspace", "default", "Mirrored", "False", reason="MlflowUnreachable", seconds=180)
    assert tracked.condition("workspace", "default", "Ready")["status"] == "True"
    track(tracked, mlflow.url)
    names = {"by-hand", "forests-1", "forests-2", "forests-3"}

    def told() -> bool:
        found = tracked.list("tjob")
        return {job["metadata"]["name"] for job in found if job["status"].get("mlflow", {}).get("run")} == names

    eventually(told, "every run says what it is in MLflow", 300)
    tracked.wait_for("workspace", "default", "Mirrored", "True", seconds=60)
    jobs = {job["metadata"]["name"]: job for job in tracked.list("tjob")}
    (by_hand,) = mlflow.runs(tracked.namespace)
    trials = mlflow.runs(f"{tracked.namespace}/forests")
    assert [run["info"]["run_name"] for run in trials] == ["forests-1", "forests-2", "forests-3"]
    for run in (by_hand, *trials):
        job = jobs[run["info"]["run_name"]]
        assert job["status"]["mlflow"] == {"run": run["info"]["run_id"]}
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        assert tags["modelmill.uid"] == job["metadata"]["uid"]
        assert tags["modelmill.artifact"] == job["status"]["artifact"]["digest"]
        assert tags["modelmill.datasetVersion"] == job["status"]["datasetVersion"]
        shown = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
        (metric,) = job["status"]["metrics"]
        assert shown == {"roc_auc": float(metric["value"]), "roc_auc.stddev": float(metric["stddev"])}
        parameters_shown = {p["key"]: p["value"] for p in run["data"]["params"]}
        declared = job["spec"]["estimator"]["steps"][0]["params"]
        assert parameters_shown == {f"forest__{name}": str(value) for name, value in declared.items()}
    # The same without MLflow: the leaderboard has the trials, and a run by hand is compared with one.
    assert len(tracked.output("get", "tjob", "-l", SELECTOR, "-o", "name").split()) == 3
    command = [sys.executable, "-m", "modelmill.cli", "experiments", "compare", "by-hand", "forests-1"]
    done = subprocess.run(
        [*command, "-n", tracked.namespace], env=environment(tracked.config), capture_output=True, text=True, check=True
    )
    assert "param.forest__max_depth" in done.stdout
    assert "metric.roc_auc" in done.stdout
