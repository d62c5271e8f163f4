"""A search from plain manifests: trials in pods, by Optuna in a pod, the best one as a version, and a page."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import gone, namespace

from live import Kubectl, environment

SELECTOR = "modelmill.dev/experiment=forests"


@pytest.fixture(scope="module")
def searching(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store: what the search promotes is served by nobody else's deployment."""
    kubectl = namespace(system, "search")
    yield kubectl
    gone(system, kubectl)


def test_the_example_searches_promotes_and_tells(searching: Kubectl) -> None:
    searching.apply_folder("examples/experiment")
    searching.wait_for("mexp", "forests", "Succeeded", seconds=300)
    status = (searching.get("mexp", "forests") or {})["status"]
    counts = status["trials"]
    assert (counts["succeeded"] + counts["stopped"], counts["running"], counts["failed"]) == (12, 0, 0)
    assert float(status["best"]["value"]) > 0.97
    trials = searching.list("tjob", f"{SELECTOR},modelmill.dev/trial")
    assert {trial["metadata"]["name"] for trial in trials} == {f"forests-{number}" for number in range(1, 13)}
    assert all(trial["status"]["usage"]["cpuSeconds"] > 0 for trial in trials)
    # The leaderboard, as a person reads it.
    shown = searching.output("get", "tjob", "-l", SELECTOR, "-o", "wide")
    assert "PARAMETERS" in shown
    assert "max_depth=" in shown
    # The best one is a version, and nothing was trained for it.
    promoted = (searching.get("tjob", status["promoted"]) or {})["status"]
    assert searching.condition("tjob", status["promoted"], "Trained")["reason"] == "RecipeKnown"
    assert promoted["artifact"]["digest"] == status["best"]["artifact"]
    assert promoted["recipe"] == status["best"]["recipe"]
    version = (searching.get("mver", status["modelVersion"]) or {})["spec"]
    assert version["artifact"]["digest"] == status["best"]["artifact"]
    assert version["lineage"]["dataset"]["version"] == status["datasetVersion"]
    # What a pod chose, and the page.
    assert '"phase":"propose"' in searching.output("logs", "job/forests-propose")
    reported = searching.condition("mexp", "forests", "Reported")
    assert reported["status"] == "True", reported
    assert status["report"].startswith("sha256:")
    command = [sys.executable, "-m", "modelmill.cli", "experiments", "export", "forests", "-o", "json"]
    done = subprocess.run(
        [*command, "-n", searching.namespace],
        env=environment(searching.config),
        capture_output=True,
        text=True,
        check=True,
    )
    runs = {run["run"]: run for run in json.loads(done.stdout)}
    best = runs[status["best"]["trial"]]
    assert best["metrics"]["roc_auc"]["value"] == status["best"]["value"]
    assert {value["name"]: value["value"] for value in status["best"]["parameters"]} == {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in best["parameters"].items()
    }
