"""`helm install --wait` and `helm upgrade --wait`, by Helm itself."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Operator, StatusReaders

from live import API_VERSION, Kubectl

Start = Callable[..., Operator]
Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def helm(status_readers: StatusReaders, kubectl: Kubectl, tmp_path: Path) -> Helm:
    """Runs Helm with a chart of one object, and waits for it."""

    def run(verb: str, manifest: dict[str, Any], timeout: str) -> subprocess.CompletedProcess[str]:
        chart = tmp_path / "chart"
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text("{apiVersion: v2, name: chart, version: 0.1.0}")
        (chart / "templates/object.yaml").write_text(json.dumps(manifest))
        words = [verb, "release", str(chart), "--wait", "--timeout", timeout, "--kubeconfig", kubectl.config]
        homes = {f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")}
        command = [str(status_readers.helm), *words, "--namespace", kubectl.namespace]
        return subprocess.run(command, env={**os.environ, **homes}, capture_output=True, text=True, check=False)

    return run


def model(description: str) -> dict[str, Any]:
    spec = {"description": description}
    return {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "triage"}, "spec": spec}


def test_helm_waits_for_the_operator_to_see_what_is_new(helm: Helm, operator: Start) -> None:
    unseen = helm("install", model("first"), "3s")
    assert unseen.returncode != 0
    assert "Model/" in unseen.stderr
    assert "status: InProgress" in unseen.stderr
    running = operator().active()
    assert helm("upgrade", model("first"), "30s").returncode == 0
    running.stop()
    changed = helm("upgrade", model("second"), "3s")
    assert changed.returncode != 0
    assert "status: InProgress" in changed.stderr
    assert "latest observed generation is 1" in changed.stderr


def test_helm_gives_up_at_once_where_a_person_has_to_act_and_says_what_to_do(
    helm: Helm, kubectl: Kubectl, operator: Start
) -> None:
    operator().active()
    kubectl.run("create", "job", "default-preflight", "--image=theirs")
    spec = {"store": {"uri": "s3://models", "endpoint": "http://store:7070"}}
    workspace = {"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": "default"}, "spec": spec}
    stalled = helm("install", workspace, "300s")
    assert stalled.returncode != 0
    assert "status: Failed" in stalled.stderr
    assert "Job default-preflight exists and was not made for this object" in stalled.stderr
