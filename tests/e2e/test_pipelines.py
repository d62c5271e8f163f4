"""Pipelines of examples/pipelines: from data to a version that serves, and a run that goes on where another failed."""

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import gone, namespace

from live import API_VERSION, ROOT, Kubectl, eventually

EXAMPLES = sorted((ROOT / "examples/pipelines").glob("*.yaml"))


@pytest.fixture(scope="module")
def line(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store, the breast cancer example served, and a Pipeline for each trigger."""
    kubectl = namespace(system, "line")
    kubectl.apply_folder("examples/breast-cancer")
    kubectl.wait_for("modeldeployment", "triage", "Ready", seconds=180)
    for path in EXAMPLES:
        if path.name != "run.yaml":
            kubectl.apply_file(str(path.relative_to(ROOT)))
    yield kubectl
    gone(system, kubectl)


def runs(kubectl: Kubectl, pipeline: str) -> list[str]:
    found = [run for run in kubectl.list("mplr") if run["spec"]["pipelineRef"]["name"] == pipeline]
    return [run["metadata"]["name"] for run in sorted(found, key=lambda run: run["metadata"]["creationTimestamp"])]


def stages(kubectl: Kubectl, run: str) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in (kubectl.get("mplr", run) or {})["status"]["stages"]}


def succeeded(kubectl: Kubectl, run: str) -> None:
    eventually(
        lambda: "True" in (kubectl.condition("mplr", run, t).get("status") for t in ("Succeeded", "Failed")),
        f"{run} has ended",
        240,
        lambda: kubectl.describe("mplr", run),
    )
    assert kubectl.condition("mplr", run, "Succeeded")["reason"] == "RunSucceeded", kubectl.describe("mplr", run)


def test_a_commit_trains_and_rolls_out(line: Kubectl) -> None:
    (run,) = eventually(lambda: runs(line, "triage-code"), "the first stages are a run")
    succeeded(line, run)
    done = stages(line, run)
    assert [stage["state"] for stage in done.values()] == ["Succeeded"] * 4
    assert "unchanged since" in done["data"]["message"]
    assert done["train"]["output"] == done["release"]["output"] == "triage-2"
    trained = line.get("tjob", f"{run}-train") or {}
    assert trained["spec"]["data"]["version"] == done["data"]["output"]
    assert (line.get("mdep", "triage") or {})["status"]["stable"]["version"] == 2
    head, row = line.output("get", "mplr", run).splitlines()
    assert head.split() == ["NAME", "PIPELINE", "CAUSE", "SUCCEEDED", "REASON", "STAGES", "VERSION", "AGE"]
    assert f"data {done['data']['output'][7:15]} > train triage-2 > gate triage-2 > release triage-2" in row


def test_a_run_by_hand_of_what_is_known_says_so(line: Kubectl) -> None:
    line.run("create", "-f", str(ROOT / "examples/pipelines/run.yaml"))
    run = eventually(lambda: runs(line, "triage-code")[1:], "a second run")[0]
    line.wait_for("mplr", run, "Succeeded", seconds=120)
    said = line.condition("mplr", run, "Succeeded")
    assert (said["reason"], "ModelVersion triage-2 is of this very recipe" in said["message"]) == ("RecipeKnown", True)


def test_new_data_trains_and_a_run_goes_on_where_another_failed(line: Kubectl) -> None:
    # What the first run would be rolled out to is not there, and it does not wait for long.
    live = line.get("mpl", "triage-data") or {}
    elsewhere = [
        {**stage, "rollout": {"deploymentRef": {"name": "second"}}, "timeout": "5s"} if "rollout" in stage else stage
        for stage in live["spec"]["stages"]
    ]
    line.apply(
        {"apiVersion": API_VERSION, "kind": "Pipeline", "metadata": {"name": "triage-data"}}
        | {"spec": {**live["spec"], "stages": elsewhere}}
    )
    text = (ROOT / "examples/breast-cancer/breast-cancer.csv").read_text().splitlines()[:-10]
    data = {"breast-cancer.csv": "\n".join(text) + "\n"}
    line.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tumours"}, "data": data})
    line.run("annotate", "dset", "tumours", "modelmill.dev/refresh=fewer-rows")
    (failed,) = eventually(lambda: runs(line, "triage-data"), "new data is a run", 60)
    line.wait_for("mplr", failed, "Failed", seconds=240)
    assert line.condition("mplr", failed, "Failed")["reason"] == "StageTimedOut"
    first = stages(line, failed)
    assert [stage["state"] for stage in first.values()] == ["Succeeded", "Succeeded", "Succeeded", "Failed"]
    deployment = {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "second"}}
    line.apply({**deployment, "spec": {"model": {"name": "triage"}, "replicas": 1}})
    line.wait_for("mdep", "second", "Ready", seconds=120)
    retry = {"pipelineRef": {"name": "triage-data"}, "retryOf": {"name": failed}}
    line.apply({"apiVersion": API_VERSION, "kind": "PipelineRun", "metadata": {"name": "once-more"}, "spec": retry})
    succeeded(line, "once-more")
    again = stages(line, "once-more")
    assert [again[name].get("takenFrom") for name in ("data", "train", "gate", "release")] == [failed] * 3 + [None]
    assert again["train"]["output"] == first["train"]["output"]
    assert [job["metadata"]["name"] for job in line.list("tjob", "modelmill.dev/pipeline-run=once-more")] == []
