"""The loop closes by itself: drift, a run, a version that was trained on what production saw, and no drift any more."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, last_line, namespace

from live import ROOT, Kubectl, eventually

NAME = "clinic"


@pytest.fixture(scope="module")
def clinic(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with the example, whose rows are as in training so far."""
    kubectl = namespace(system, "loop")
    kubectl.run("create", "configmap", "tumours", f"--from-file={ROOT / 'examples/breast-cancer/breast-cancer.csv'}")
    kubectl.apply_file("examples/breast-cancer/dataset.yaml")
    kubectl.apply_folder("examples/loop")
    kubectl.wait_for("modeldeployment", NAME, "Ready", seconds=180)
    kubectl.run("wait", "--for=condition=Ready", "pod/callers", "--timeout=180s")
    yield kubectl
    gone(system, kubectl)


def status(kubectl: Kubectl) -> dict[str, Any]:
    return (kubectl.get("mdep", NAME) or {}).get("status", {})


def window(kubectl: Kubectl) -> str:
    return str(status(kubectl).get("drift", {}).get("window", {}).get("endedAt", ""))


def test_what_drifts_is_trained_on_and_serves(clinic: Kubectl) -> None:
    clinic.wait_for("mdep", NAME, "DriftDetected", "False", seconds=150)
    ended = window(clinic)
    eventually(lambda: window(clinic) != ended, "another window", 90)
    clinic.run("exec", "callers", "--", "touch", "/tmp/shift")
    drifted = clinic.wait_for("mdep", NAME, "DriftDetected", seconds=180)
    assert "mean_radius" in drifted["message"]
    run = eventually(lambda: clinic.list("mplr"), "a run", 30)[0]
    name = run["metadata"]["name"]
    assert run["spec"]["cause"]["trigger"] == "drift"

    # Quality is measured while the first version still serves.
    quality = eventually(lambda: status(clinic).get("quality", {}).get("window"), "quality is measured", 180)
    assert quality["rows"] > 500
    assert quality["unknown"] == quality["mistyped"] == 0

    clinic.wait_for("mplr", name, "Succeeded", seconds=240)
    done = {stage["name"]: stage for stage in (clinic.get("mplr", name) or {})["status"]["stages"]}
    assert done["release"]["output"] == "clinic-2"
    trained = (clinic.get("tjob", f"{name}-train") or {})["spec"]
    assert trained["data"]["version"] == done["data"]["output"]
    seen = (clinic.get("dset", "clinic-seen") or {})["status"]
    assert done["data"]["output"] in {version["version"] for version in seen["history"]}
    assert status(clinic)["stable"]["version"] == 2

    # What is asked is what it was trained on.
    clinic.wait_for("mdep", NAME, "DriftDetected", "False", seconds=150)
    clinic.run("exec", "callers", "--", "touch", "/tmp/stop")
    result = last_line(clinic, "callers")
    assert (result["lost"], set(result["versions"])) == (0, {"1", "2"}), json.dumps(result)
    assert result["labels"]["acknowledged"] > 1000
