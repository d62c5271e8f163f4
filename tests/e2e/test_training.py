"""Trainings that measure more than once, that are done twice, and that a container of the user's does."""

import json

from conftest import training

from live import Kubectl


def test_folds_slices_and_a_second_run_in_another_pod(team: Kubectl) -> None:
    evaluation = {"metrics": ["roc_auc", "recall"], "crossValidation": 3, "slices": ["benign"]}
    team.apply(training("twice", evaluation=evaluation, reproduce={"runs": 2}, seed=7))
    team.run("wait", "--for=condition=Succeeded", "tjob/twice", "--timeout=180s")
    team.run("wait", "--for=condition=Reproducible", "tjob/twice", "--timeout=1s")
    status = (team.get("tjob", "twice") or {})["status"]
    assert {metric["name"] for metric in status["metrics"]} == {"roc_auc", "recall"}
    assert all(float(metric["stddev"]) >= 0 for metric in status["metrics"])
    assert status["reproduction"] == {"digest": status["artifact"]["digest"]}
    first, second = (team.list("pods", f"batch.kubernetes.io/job-name=twice-{run}") for run in ("train", "again"))
    assert first[0]["metadata"]["uid"] != second[0]["metadata"]["uid"]


def test_a_container_of_ones_own_trains_without_credentials(team: Kubectl) -> None:
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    team.apply_folder("examples/own-training")
    team.run("wait", "--for=condition=Succeeded", "tjob/triage-own", "--timeout=180s")
    status = (team.get("tjob", "triage-own") or {})["status"]
    assert float(status["metrics"][0]["value"]) > 0.95
    assert team.condition("tjob", "triage-own", "Reproducible")["status"] == "True"
    (pod, *_) = team.list("pods", "batch.kubernetes.io/job-name=triage-own-train")
    theirs = next(c for c in pod["spec"]["initContainers"] if c["name"] == "transform")
    assert "secretKeyRef" not in json.dumps(theirs)
