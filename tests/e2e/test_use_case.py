"""examples/use-case: what was promised is written once, and tested, measured and told by kubectl get usecase."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, namespace
from test_earned_version import ROW
from test_first_light import infer

from live import ROOT, Kubectl, eventually

NAME, VERSION = "tumour-triage", "triage-1"


@pytest.fixture(scope="module")
def promised(system: Kubectl) -> Iterator[Kubectl]:
    kubectl = namespace(system, "promised")
    kubectl.run("create", "configmap", "tumours", f"--from-file={ROOT}/examples/breast-cancer/breast-cancer.csv")
    kubectl.run("apply", "-k", str(ROOT / "examples/use-case"))
    yield kubectl
    gone(system, kubectl)


def requirements(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    status = (kubectl.get("usecase", NAME) or {}).get("status", {})
    return {one["name"]: one for one in status.get("requirements", ())}


def test_what_was_promised_is_tested_of_the_version_that_serves(promised: Kubectl) -> None:
    promised.wait_for("usecase", NAME, "Feasible", seconds=180)
    promised.wait_for("mdep", "triage", "Ready", seconds=300)
    tests = (promised.get("mver", VERSION) or {})["status"]["tests"]
    assert [(test["name"], test["source"], test["passed"]) for test in tests] == [
        ("accuracy", "model/triage", True),
        ("roc_auc", f"usecase/{NAME}", True),
        ("recall", f"usecase/{NAME}", True),
        ("latency 0.99", f"usecase/{NAME}", True),
    ]
    found = requirements(promised)
    assert {name: one["met"] for name, one in found.items() if name in ("quality", "recall", "fresh")} == {
        "quality": "True",
        "recall": "True",
        "fresh": "True",
    }
    assert found["quality"]["evidence"] == f"modelversion/{VERSION}"


def test_what_serves_is_measured_and_then_every_promise_is_kept(promised: Kubectl) -> None:
    promised.wait_for("mdep", "triage", "Ready", seconds=300)

    def measured() -> bool:
        for _ in range(20):
            infer(promised, ROW)
        time.sleep(1)
        return requirements(promised)["available"]["met"] != "Unknown"

    eventually(measured, "what serves was measured", 120)
    promised.wait_for("usecase", NAME, "Ready", reason="AllMet", seconds=30)
    levels = (promised.get("mdep", "triage") or {})["status"]["serviceLevels"]
    assert levels["availability"]["observed"] == "1.000000"
    assert levels["requests"] >= 20
    (line,) = promised.output("get", "usecase", NAME, "--no-headers").splitlines()
    assert line.split()[:7] == [NAME, "1", "7.00", "5/5", "True", "True", "0"]
    assert "to level 1: give a Pipeline a stage that trains" in line


def test_a_test_that_is_looser_than_what_was_promised_is_refused_with_the_reason(promised: Kubectl) -> None:
    looser = {"spec": {"tests": {"metrics": [{"name": "roc_auc", "min": "0.5"}]}}}
    promised.run("patch", "model/triage", "--type=merge", "-p", json.dumps(looser))
    promised.wait_for("model", "triage", "Stalled", reason="TestLooser")
    said = promised.condition("model", "triage", "Stalled")["message"]
    assert (
        "spec.tests.metrics[0].min is 0.5, and UseCase tumour-triage requires at least 0.97 (requirement quality)"
        in said
    )
    promised.wait_for("usecase", NAME, "Stalled", reason="TestLooser")
    assert infer(promised, ROW)["model_version"] == "1"  # what serves goes on
    promised.run("apply", "-k", str(ROOT / "examples/use-case"))
    promised.wait_for("model", "triage", "Ready", reason="Numbering")


def test_a_promise_that_is_broken_says_which_where_and_what_to_do(promised: Kubectl) -> None:
    live = promised.get("usecase", NAME)
    assert live is not None
    spec = live["spec"]
    spec["requirements"][0]["metric"]["min"] = "0.9999"
    promised.run("patch", f"usecase/{NAME}", "--type=merge", "-p", json.dumps({"spec": spec}))
    promised.wait_for("usecase", NAME, "Stalled", reason="RequirementNotMet", seconds=180)
    found = requirements(promised)["quality"]
    assert (found["met"], found["evidence"]) == ("False", f"modelversion/{VERSION}")
    assert found["threshold"] == "roc_auc >= 0.9999"
    assert "train a better one" in (promised.get("usecase", NAME) or {})["status"]["next"]
