"""examples/earned-version: who sets the bar, who trains and who approves are three people, and only then it serves."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, namespace
from test_first_light import infer

from live import ROOT, Kubectl, eventually

EXAMPLE = ROOT / "examples/earned-version"
ROW = {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}]}
VERSION = "triage-1"


def apply(kubectl: Kubectl, user: str, *paths: str) -> str:
    """What the API server says against these files of this user; "" where it takes them."""
    files = [word for path in paths for word in ("-f", str(ROOT / "examples" / path))]
    result = kubectl.run("apply", f"--as={user}", *files, check=False)
    return "" if result.returncode == 0 else result.stderr


def approve(kubectl: Kubectl, user: str) -> str:
    command = f"kubectl --kubeconfig {kubectl.config} --namespace {kubectl.namespace} --as {user}"
    result = subprocess.run(
        [str(EXAMPLE / "approve"), VERSION, "second reading done"],
        env={**os.environ, "KUBECTL": command},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if result.returncode == 0 else result.stderr


@pytest.fixture(scope="module")
def people(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store, its people and their data, and the bar."""
    kubectl = namespace(system, "earned")
    kubectl.apply_file("examples/earned-version/people.yaml")
    kubectl.run("create", "configmap", "tumours", f"--from-file={ROOT}/examples/breast-cancer/breast-cancer.csv")
    # Rights are known a moment after they are written.
    eventually(lambda: not apply(kubectl, "eve", "earned-version/model.yaml"), "eve sets the bar", 30)
    yield kubectl
    gone(system, kubectl)


@pytest.fixture(scope="module")
def tested(people: Kubectl) -> Kubectl:
    """A version that passed its tests."""
    assert apply(people, "dan", "breast-cancer/dataset.yaml", "earned-version/training.yaml") == ""
    people.wait_for("tjob", "triage-logistic", "Succeeded", seconds=180)
    people.wait_for("mver", VERSION, "Tested", seconds=180)
    return people


def test_who_trains_sets_no_bar(people: Kubectl) -> None:
    # What is there as it is declared is not written, so that nobody is asked.
    lower = ("patch", "model/triage", "--as=dan", "--type=merge", "-p", '{"spec": {"approval": "Automatic"}}')
    assert "forbidden" in people.run(*lower, check=False).stderr
    assert "forbidden" in apply(people, "ana", "earned-version/training.yaml")


def test_a_version_that_passed_its_tests_waits_for_an_approval_and_is_not_served(tested: Kubectl) -> None:
    status: dict[str, Any] = (tested.get("mver", VERSION) or {})["status"]
    names = ["roc_auc", "recall", "baseline roc_auc", "larger-is-no-better", "latency"]
    assert [(test["name"], test["passed"]) for test in status["tests"]] == [(name, True) for name in names]
    tested.wait_for("mver", VERSION, "Ready", "False", reason="WaitingForApproval")
    tested.wait_for("mdep", "triage", "Ready", "False", reason="ModelVersionNotReady")
    assert tested.list("deployments", "modelmill.dev/modeldeployment=triage") == []


def test_only_who_may_approve_approves_and_then_it_serves(tested: Kubectl) -> None:
    for other in ("dan", "eve"):
        assert "forbidden" in approve(tested, other)
    assert approve(tested, "ana") == ""
    tested.wait_for("mver", VERSION, "Ready", reason="Approved")
    tested.wait_for("mdep", "triage", "Ready", seconds=120)
    assert infer(tested, ROW)["model_version"] == "1"


def test_what_serves_goes_on_when_its_approval_is_withdrawn(tested: Kubectl) -> None:
    tested.wait_for("mdep", "triage", "Ready", seconds=120)
    tested.run("delete", "--as=ana", f"mappr/{VERSION}")
    tested.wait_for("mver", VERSION, "Ready", "False", reason="ApprovalWithdrawn")
    tested.wait_for("mdep", "triage", "Stalled", reason="ModelVersionNotReady")
    assert tested.condition("mdep", "triage", "Available")["status"] == "True"
    assert infer(tested, ROW)["model_version"] == "1"
