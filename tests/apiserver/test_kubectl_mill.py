"""`kubectl mill` as a plugin of a real kubectl, and the fields and labels that lineage can be asked by."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from live import API_VERSION, Kubectl, environment, eventually

DATA, ARTIFACT = "sha256:" + "a" * 64, "sha256:" + "1" * 64


def made(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def with_lineage(kubectl: Kubectl) -> Kubectl:
    """Data, a run and its version, as an operator leaves them; none runs here."""
    data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
    steps = [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]
    kubectl.apply(
        made("Dataset", "tumours", {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}),
        made("TrainingJob", "lr", {"modelRef": {"name": "triage"}, "data": data, "estimator": {"steps": steps}}),
    )
    run = kubectl.get("tjob", "lr")
    assert run is not None
    taken = {"version": DATA, "file": DATA, "rows": 569, "observedAt": "2026-01-01T00:00:00Z"}
    says(kubectl, "dset", "tumours", history=[taken])
    says(kubectl, "tjob", "lr", datasetVersion=DATA, datasetFile=DATA, modelVersion="triage-1")
    lineage = {
        "trainingJob": {"name": "lr", "uid": run["metadata"]["uid"]},
        "dataset": {"name": "tumours", "version": DATA},
        "gitCommit": "9f2c1e0",
    }
    artifact = {"uri": "s3://models/artifacts/x", "digest": ARTIFACT}
    spec = {"modelRef": {"name": "triage"}, "version": 1, "artifact": artifact, "lineage": lineage}
    kubectl.apply(made("ModelVersion", "triage-1", spec, labels={"modelmill.dev/dataset-version": "a" * 16}))
    return kubectl


def says(kubectl: Kubectl, kind: str, name: str, **status: Any) -> None:
    kubectl.patch_status(kind, name, {"observedGeneration": 1, **status})


def mill(config: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The plugin, found by kubectl beside this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = environment(config) | {"PATH": path}
    return subprocess.run(
        ["kubectl", "mill", *words], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_lineage_is_drawn_through_the_users_own_kubeconfig(kubectl: Kubectl) -> None:
    with_lineage(kubectl)
    answer = mill(kubectl.config, "lineage", "dset/tumours@aaaa", "-n", kubectl.namespace)
    assert answer.stderr == ""
    assert (
        answer.stdout
        == """\
Dataset tumours@aaaaaaaaaaaaaaaa  569 rows, 2026-01-01T00:00:00Z

made of it
`-- TrainingJob lr  not seen yet
    `-- ModelVersion triage-1  not seen yet, 1111111111111111
"""
    )
    answer = mill(kubectl.config, "lineage", "mver/triage-1", "--namespace", kubectl.namespace)
    assert "|-- Git commit 9f2c1e0" in answer.stdout
    assert "`-- Dataset tumours@aaaaaaaaaaaaaaaa  569 rows" in answer.stdout


def test_what_is_not_there_is_said(kubectl: Kubectl) -> None:
    answer = mill(kubectl.config, "lineage", "mver/triage-1", "-n", kubectl.namespace)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        f"error: there is no ModelVersion triage-1 in namespace {kubectl.namespace}, nor any other; is it another one"
        " (-n)?\n"
    )


def test_who_may_not_read_a_kind_is_told_so_and_sees_the_rest(kubectl: Kubectl, tmp_path: Path) -> None:
    with_lineage(kubectl)
    kubectl.run("create", "serviceaccount", "ann")
    known = json.loads(kubectl.output("config", "view", "--raw", "--minify", "-o", "json"))
    known["users"][0]["user"] = {"token": kubectl.output("create", "token", "ann")}
    config = tmp_path / "config"
    config.touch(mode=0o600)
    config.write_text(json.dumps(known))
    words = ("lineage", "mver/triage-1", "-n", kubectl.namespace)
    answer = mill(str(config), *words)
    assert answer.returncode == 1
    assert answer.stderr == f"error: you may not list modelversions in namespace {kubectl.namespace}\n"
    resources = "datasets.modelmill.dev,modelversions.modelmill.dev"
    kubectl.run("create", "role", "reads", "--verb=list", f"--resource={resources}")
    kubectl.run("create", "rolebinding", "reads", "--role=reads", f"--serviceaccount={kubectl.namespace}:ann")
    answer = eventually(lambda: (a := mill(str(config), *words)).returncode == 0 and a, "ann's rights are known", 20)
    assert "Dataset tumours@aaaaaaaaaaaaaaaa  569 rows" in answer.stdout
    assert f"(you may not list trainingjobs in namespace {kubectl.namespace})" in answer.stdout


def test_lineage_can_be_asked_by_fields_and_labels(kubectl: Kubectl) -> None:
    with_lineage(kubectl)
    other = {"uri": "s3://models/artifacts/y", "digest": "sha256:" + "2" * 64}
    kubectl.apply(made("ModelVersion", "triage-2", {"modelRef": {"name": "triage"}, "version": 2, "artifact": other}))

    def found(kind: str, *words: str) -> str:
        return kubectl.output("get", kind, "-o", "name", *words)

    for field in (
        f"spec.lineage.dataset.version={DATA}",
        "spec.lineage.dataset.name=tumours",
        "spec.lineage.trainingJob.name=lr",
        "spec.lineage.gitCommit=9f2c1e0",
        f"spec.artifact.digest={ARTIFACT}",
    ):
        assert found("mver", f"--field-selector={field}") == "modelversion.modelmill.dev/triage-1", field
    assert len(found("mver", "--field-selector=spec.modelRef.name=triage").splitlines()) == 2
    assert found("mver", "-l", f"modelmill.dev/dataset-version={'a' * 16}") == "modelversion.modelmill.dev/triage-1"
    for field in (f"status.datasetVersion={DATA}", "status.modelVersion=triage-1", "spec.data.datasetRef.name=tumours"):
        assert found("tjob", f"--field-selector={field}") == "trainingjob.modelmill.dev/lr", field
    assert found("tjob", "--field-selector=status.modelVersion=triage-2") == ""


def test_a_run_is_started_and_one_that_failed_is_retried(kubectl: Kubectl) -> None:
    stage = {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}}
    kubectl.apply(made("Pipeline", "triage", {"stages": [stage]}))
    assert mill(kubectl.config, "run", "triage", "-n", kubectl.namespace, "--why", "it is Monday").returncode == 0
    (first,) = kubectl.list("mplr", "modelmill.dev/pipeline=triage,app.kubernetes.io/managed-by=modelmill")
    assert first["metadata"]["name"].startswith("triage-")
    assert first["spec"] == {
        "pipelineRef": {"name": "triage"},
        "cause": {"trigger": "by-hand", "key": "", "message": "it is Monday"},
        "cancel": False,
    }
    name = first["metadata"]["name"]
    answer = mill(kubectl.config, "run", "triage", "-n", kubectl.namespace, "--retry", name)
    again = next(run for run in kubectl.list("mplr") if run["metadata"]["name"] != name)
    assert f"PipelineRun {again['metadata']['name']} is created" in answer.stdout
    assert again["spec"]["retryOf"] == {"name": name}


def test_a_run_of_what_is_not_there_is_none(kubectl: Kubectl) -> None:
    answer = mill(kubectl.config, "run", "triage", "-n", kubectl.namespace)
    assert answer.stderr == f"error: there is no Pipeline triage in namespace {kubectl.namespace} (kubectl get mpl)\n"
    stage = {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}}
    kubectl.apply(made("Pipeline", "triage", {"stages": [stage]}))
    answer = mill(kubectl.config, "run", "triage", "-n", kubectl.namespace, "--retry", "No Run")
    assert "the API server does not take it" in answer.stderr


def test_a_run_by_hand_stands_beside_trials_and_is_compared_with_one(kubectl: Kubectl) -> None:
    label = {"modelmill.dev/experiment": "forests"}

    def training(depth: int) -> dict[str, Any]:
        steps = [{"name": "f", "class": "sklearn.ensemble.RandomForestClassifier", "params": {"max_depth": depth}}]
        return {"data": {"datasetRef": {"name": "tumours"}, "target": "benign"}, "estimator": {"steps": steps}}

    kubectl.apply(
        made("TrainingJob", "forests-1", training(3), labels={**label, "modelmill.dev/trial": "1"}),
        made("TrainingJob", "by-hand", training(5), labels=label),
        made("TrainingJob", "apart", training(7)),
    )
    for name, value in (("forests-1", "0.98"), ("by-hand", "0.99"), ("apart", "0.97")):
        ended = {"status": "True", "reason": "TrainingSucceeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        metrics = [{"name": "roc_auc", "value": value, "stddev": "0.01"}]
        says(kubectl, "tjob", name, conditions=[{"type": "Succeeded", **ended}], metrics=metrics)
    board = kubectl.output("get", "tjob", "-l", "modelmill.dev/experiment=forests", "-o", "wide").splitlines()
    assert {line.split()[0] for line in board[1:]} == {"forests-1", "by-hand"}
    assert "0.99" in next(line for line in board if line.startswith("by-hand"))
    answer = mill(kubectl.config, "experiments", "export", "forests", "-n", kubectl.namespace)
    assert [line.split(",")[0] for line in answer.stdout.splitlines()[1:]] == ["by-hand", "forests-1"]
    answer = mill(kubectl.config, "experiments", "compare", "apart", "forests-1", "-n", kubectl.namespace)
    assert answer.stderr == ""
    lines = {line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines()}
    assert lines["param.f__max_depth"] == ["7", "3"]
    assert lines["metric.roc_auc"] == ["0.97", "+-", "0.01", "0.98", "+-", "0.01"]
