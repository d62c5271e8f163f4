"""Trainings that measure more than once, that are done twice, and that a container of the user's does."""

import json
from typing import Any

from conftest import training

from live import API_VERSION, Kubectl, eventually


def test_folds_slices_and_a_second_run_in_another_pod(team: Kubectl) -> None:
    evaluation = {"metrics": ["roc_auc", "recall"], "crossValidation": 3, "slices": ["benign"]}
    team.apply(training("twice", evaluation=evaluation, reproduce={"runs": 2}, seed=7))
    team.wait_for("tjob", "twice", "Succeeded", seconds=180)
    team.run("wait", "--for=condition=Reproducible", "tjob/twice", "--timeout=1s")
    status = (team.get("tjob", "twice") or {})["status"]
    assert {metric["name"] for metric in status["metrics"]} == {"roc_auc", "recall"}
    assert all(float(metric["stddev"]) >= 0 for metric in status["metrics"])
    assert status["reproduction"] == {"digest": status["artifact"]["digest"]}
    first, second = (team.list("pods", f"batch.kubernetes.io/job-name=twice-{run}") for run in ("train", "again"))
    assert first[0]["metadata"]["uid"] != second[0]["metadata"]["uid"]


def test_how_far_a_training_is_can_be_seen_while_it_runs(team: Kubectl) -> None:
    network = {"hidden_layer_sizes": [200], "max_iter": 5000, "tol": 0.0, "n_iter_no_change": 5000}
    steps = [
        {"name": "scale", "class": "sklearn.preprocessing.StandardScaler"},
        {"name": "network", "class": "sklearn.neural_network.MLPClassifier", "params": network},
    ]
    team.apply(training("slow", estimator={"steps": steps}, evaluation={"crossValidation": 5}))

    def says() -> dict[str, Any]:
        progress: dict[str, Any] = (team.get("tjob", "slow") or {}).get("status", {}).get("progress", {})
        return progress

    def in_a_fold() -> dict[str, Any] | None:
        progress = says()
        return progress if progress.get("phase") == "fold" and "metrics" in progress else None

    later = eventually(in_a_fold, "it says what the first folds gave", 180, lambda: team.describe("tjob", "slow"))
    assert 0 < later["percent"] < 100
    assert later["metrics"][0]["name"] == "accuracy"
    shown = team.output("get", "tjob", "slow", "-o", "jsonpath={.status.progress.percent}")
    assert shown == "" or int(shown) >= later["percent"]
    team.wait_for("tjob", "slow", "Succeeded", seconds=180)
    assert says() == {}


def test_a_container_of_ones_own_trains_without_credentials(team: Kubectl) -> None:
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    team.apply_folder("examples/own-training")
    team.wait_for("tjob", "triage-own", "Succeeded", seconds=180)
    status = (team.get("tjob", "triage-own") or {})["status"]
    assert float(status["metrics"][0]["value"]) > 0.95
    assert team.condition("tjob", "triage-own", "Reproducible")["status"] == "True"
    (pod, *_) = team.list("pods", "batch.kubernetes.io/job-name=triage-own-train")
    theirs = next(c for c in pod["spec"]["initContainers"] if c["name"] == "transform")
    assert "secretKeyRef" not in json.dumps(theirs)
    team.wait_for("mver", "triage-own-1", "Ready", seconds=180)
    version = (team.get("mver", "triage-own-1") or {})["status"]
    assert {test["name"]: test["passed"] for test in version["tests"]} == dict.fromkeys(
        ("roc_auc", "recall", "latency"), True
    )


def test_a_recipe_that_is_known_is_the_version_that_exists(team: Kubectl) -> None:
    for name in ("known", "known-again"):
        team.apply(training(name, modelRef={"name": "known"}, seed=23))
        team.wait_for("tjob", name, "Succeeded", seconds=180)
    first, again = ((team.get("tjob", name) or {})["status"] for name in ("known", "known-again"))
    assert (first["modelVersion"], again["modelVersion"]) == ("known-1", "known-1")
    assert [again[field] for field in ("recipe", "artifact", "metrics")] == [
        first[field] for field in ("recipe", "artifact", "metrics")
    ]
    assert team.condition("tjob", "known-again", "Succeeded")["reason"] == "VersionExists"
    assert team.condition("tjob", "known-again", "Trained")["reason"] == "RecipeKnown"
    assert '"phase":"fit"' not in team.output("logs", "job/known-again-train")
    assert '"phase":"fit"' in team.output("logs", "job/known-train")
    assert (team.get("mdl", "known") or {})["status"]["lastVersion"] == 1


def test_three_workers_give_the_same_bytes_as_one(team: Kubectl) -> None:
    team.apply_folder("examples/workers")
    spec = (team.get("tjob", "triage-workers") or {})["spec"]
    alone = {key: value for key, value in spec.items() if key not in ("workers", "reproduce", "modelRef")}
    team.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "alone"}, "spec": alone})
    for name in ("triage-workers", "alone"):
        team.wait_for("tjob", name, "Succeeded", seconds=300)
    together, one = ((team.get("tjob", name) or {})["status"] for name in ("triage-workers", "alone"))
    assert (together["artifact"], together["recipe"]) == (one["artifact"], one["recipe"])
    assert team.condition("tjob", "triage-workers", "Reproducible")["status"] == "True"
    label = "batch.kubernetes.io/job-completion-index"
    for job in ("triage-workers-train", "triage-workers-again"):
        pods = team.list("pods", f"batch.kubernetes.io/job-name={job}")
        assert {pod["metadata"]["labels"][label] for pod in pods} == {"0", "1", "2"}
    (first,) = team.list("pods", f"batch.kubernetes.io/job-name=triage-workers-train,{label}=0")
    log = [json.loads(line) for line in team.output("logs", first["metadata"]["name"]).splitlines()]
    assert [line["workers"] for line in log if line.get("phase") == "gather"] == [3]
    assert not [line for line in log if line["message"].startswith("some workers have not come")]
    service = team.get("service", "triage-workers-workers") or {}
    assert service["spec"]["clusterIP"] == "None"
    team.run("delete", "tjob", "triage-workers", "--wait")
    eventually(lambda: team.get("service", "triage-workers-workers") is None, "its Service goes with it", 60)


_RANKS = """
import json, os, socket
from pathlib import Path
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(("", address[1])) as waiting:
        others = [waiting.accept()[0] for _ in range(world - 1)]
        heard = [int(connection.recv(8)) for connection in others]
else:
    told = False
    while not told:
        try:
            with socket.create_connection(address, 5) as connection:
                connection.sendall(str(rank).encode())
                told = True
                connection.settimeout(None)
                connection.recv(1)  # until rank 0 is done, and closes it
        except OSError:
            pass
    raise SystemExit(f"rank {rank} has lost rank 0")
import pandas as pd, skops.io
from sklearn.linear_model import LogisticRegression
task = json.loads(Path(os.environ["MILL_DATA"], "task.json").read_text())
train = pd.read_parquet(Path(os.environ["MILL_DATA"], "train.parquet"))
model = LogisticRegression(max_iter=10000).fit(train[task["features"]], train[task["target"]])
output = Path(os.environ["MILL_OUTPUT"])
(output / "model.skops").write_bytes(skops.io.dumps(model))
(output / "metrics.json").write_text(json.dumps({"heard": sum(heard)}))
"""


def test_the_containers_of_three_workers_find_each_other_and_may_fail_when_the_first_is_done(team: Kubectl) -> None:
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    # They wait for each other: all three have to fit a node of two CPUs at the same time.
    small = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    made = training("ranks", workers=3, resources=small)
    del made["spec"]["estimator"]
    made["spec"]["container"] = {"image": "modelmill/trainer:dev", "command": ["python3", "-c"], "args": [_RANKS]}
    made["spec"]["evaluation"] = {"metrics": ["heard"]}
    team.apply(made)
    team.wait_for("tjob", "ranks", "Succeeded", seconds=300)
    status = (team.get("tjob", "ranks") or {})["status"]
    assert float(status["metrics"][0]["value"]) == 1 + 2
