"""A server of one's own behind Modelmill's: what callers see is the same."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from test_first_light import infer

from live import Kubectl, eventually

NAME = "triage-own"
OF_IT = f"modelmill.dev/modeldeployment={NAME}"
ROWS = {"inputs": [{"name": "input", "shape": [2, 30], "datatype": "FP32", "data": [1.0] * 30 + [20.0] * 30}]}


@pytest.fixture(scope="module")
def own(team: Kubectl) -> Iterator[Kubectl]:
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    team.apply_folder("examples/own-server")
    team.wait_for("mdep", NAME, "Ready", seconds=120)
    yield team
    team.run("delete", "mdep", NAME)


def test_it_predicts_what_the_model_predicts_without_it(own: Kubectl) -> None:
    theirs, ours = infer(own, ROWS, NAME), infer(own, ROWS)
    assert theirs["outputs"] == ours["outputs"]
    assert theirs["model_name"] == NAME


def test_it_has_the_counters_of_every_server(own: Kubectl) -> None:
    (pod,) = own.list("pods", OF_IT)
    infer(own, ROWS, NAME)
    raw = f"/api/v1/namespaces/{own.namespace}/pods/{pod['metadata']['name']}:9090/proxy/snapshot"
    snapshot = json.loads(own.output("get", "--raw", raw))
    assert snapshot["rows"] >= 2
    assert snapshot["ready"]


def test_it_has_no_credentials_and_its_pod_no_token(own: Kubectl) -> None:
    (pod,) = own.list("pods", OF_IT)
    (_, theirs) = pod["spec"]["initContainers"]
    assert theirs["name"] == "upstream"
    assert "secretKeyRef" not in json.dumps(theirs)
    assert "serviceaccount" not in json.dumps(pod["spec"]["volumes"])


def test_a_dead_server_is_started_again_and_the_pod_is_ready_again(own: Kubectl) -> None:
    (pod,) = own.list("pods", OF_IT)
    name = pod["metadata"]["name"]

    def restarts() -> int:
        statuses = own.list("pods", OF_IT)[0]["status"]["initContainerStatuses"]
        return int(next(status["restartCount"] for status in statuses if status["name"] == "upstream"))

    before = restarts()
    own.run("exec", name, "-c", "upstream", "--", "python3", "-c", "import os; os.kill(1, 15)")
    eventually(lambda: restarts() > before, "the server is started again", 60)
    own.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")

    def predicts() -> bool:
        with contextlib.suppress(AssertionError):
            return bool(infer(own, ROWS, NAME)["outputs"])
        return False

    eventually(predicts, "it predicts again", 30)
