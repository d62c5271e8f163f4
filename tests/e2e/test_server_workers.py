"""A ModelDeployment with several processes in a pod: one set of counters, and another number is another revision."""

import json
from collections.abc import Iterator

import pytest
from conftest import deployment
from test_first_light import infer

from live import Kubectl

NAME = "triage-workers"
OF_IT = f"modelmill.dev/modeldeployment={NAME}"
ROW = {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}]}


@pytest.fixture(scope="module")
def several(team: Kubectl) -> Iterator[Kubectl]:
    team.apply(deployment(NAME, {"name": "triage", "version": 1}, server={"workers": 2}))
    team.wait_for("mdep", NAME, "Ready", seconds=120)
    yield team
    team.run("delete", "mdep", NAME)


def test_they_answer_and_count_together(several: Kubectl) -> None:
    assert infer(several, ROW, NAME)["model_version"] == "1"
    (pod,) = several.list("pods", OF_IT)
    raw = f"/api/v1/namespaces/{several.namespace}/pods/{pod['metadata']['name']}:9090/proxy/snapshot"
    snapshot = json.loads(several.output("get", "--raw", raw))
    assert snapshot["workers_ready"] == 2
    assert snapshot["rows"] >= 1


def test_one_worker_takes_over_as_any_revision_does(several: Kubectl) -> None:
    before = several.get("mdep", NAME)
    several.apply(deployment(NAME, {"name": "triage", "version": 1}, server={"workers": 1}))
    several.wait_for("mdep", NAME, "Ready", seconds=120)
    after = several.get("mdep", NAME)
    assert before is not None
    assert after is not None
    assert before["status"]["stable"]["revision"] != after["status"]["stable"]["revision"]
    assert infer(several, ROW, NAME)["outputs"]
