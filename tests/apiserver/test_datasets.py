"""Datasets and the store's collection against a real API server; what the Jobs' pods would say is said by the test."""

import re
from collections.abc import Callable
from typing import Any

import kubelet
from conftest import Operator
from test_operator import end_job, with_store, workspace

from live import API_VERSION, Kubectl, eventually
from modelmill_contracts import task
from modelmill_contracts.report import CollectResult, PreflightResult, Problem, Report, SnapshotResult

Start = Callable[..., Operator]
SOURCE = {"configMapRef": {"name": "tumours", "key": "data.csv"}}


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def dataset(name: str, source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    spec = {"source": source or SOURCE, **more}
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": spec}


def derived(name: str, source: str) -> dict[str, Any]:
    return dataset(name, {"derive": {"from": [{"name": source}], "sql": "select 1"}})


def snapshot(letter: str) -> Report:
    return Report(True, "SnapshotTaken", result=SnapshotResult(digest(letter), digest("b"), 569, 31))


def shown(kubectl: Kubectl, name: str) -> dict[str, str]:
    """What kubectl get shows of a Dataset, by column."""
    header, line = kubectl.output("get", "dset", name).splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    ends = [*starts[1:], max(len(header), len(line))]
    return {header[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_datasets_that_are_derived_from_each_other_say_by_which_way_and_heal(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(derived("a", "b"), derived("b", "c"), derived("c", "a"))
    for name, way in (("a", "a -> b -> c -> a"), ("b", "b -> c -> a -> b"), ("c", "c -> a -> b -> c")):
        condition = kubectl.wait_for("dset", name, "Stalled", reason="DerivationCycle")
        assert way in condition["message"]
    assert not kubectl.list("jobs", "modelmill.dev/dataset")
    kubectl.apply(dataset("c"))
    end_job(kubectl, "c-data", snapshot("a"))
    kubectl.wait_for("dset", "c", "Ready")
    kubectl.wait_for("dset", "a", "Ready", "False", reason="InputNotReady")
    eventually(lambda: kubectl.get("job", "b-data"), "the next one is taken")


def deployment(**spec: Any) -> dict[str, Any]:
    made = {"model": {"name": "triage"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "triage"}, "spec": made}


def test_a_dataset_waits_for_the_deployment_whose_rows_it_is_to_be(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(dataset("seen", {"deployment": {"name": "triage", "since": "24h", "target": "benign"}}))
    kubectl.wait_for("dset", "seen", "Ready", "False", reason="ModelDeploymentNotFound")
    kubectl.apply(deployment())
    kubectl.wait_for("dset", "seen", "Stalled", reason="NotCaptured")
    kubectl.apply(deployment(capture={"sample": "1"}))
    job = eventually(lambda: kubectl.get("job", "seen-data"), "what was captured is read")
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    work = task.decode(task.text_of({v["name"]: v["value"] for v in variables if "value" in v}))
    assert isinstance(work, task.SnapshotTask)
    assert work.captured is not None
    uid = (kubectl.get("mdep", "triage") or {})["metadata"]["uid"]
    found = work.captured
    assert (found.of, found.since, found.labelled, found.target) == (uid, 86_400, True, "benign")
    end_job(kubectl, "seen-data", snapshot("a"))
    kubectl.wait_for("dset", "seen", "Ready")


def test_kubectl_get_shows_the_worst_problem_and_none_when_it_is_over(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(dataset("tumours"))
    worst = Problem(
        "BelowMinimum", "column 'age': 2 values (rows 7, 9) are below the declared min of 0", "age", 2, (7, 9)
    )
    bad = Report(False, "DataInvalid", worst.message, problems=(worst, Problem("NotUnique", "1 row repeats", None, 1)))
    end_job(kubectl, "tumours-data", bad)
    kubectl.wait_for("dset", "tumours", "Valid", "False", reason="DataInvalid")
    columns = shown(kubectl, "tumours")
    assert (columns["READY"], columns["PROBLEM"], columns["REASON"]) == ("False", "BelowMinimum", "DataInvalid")
    kubectl.apply(dataset("tumours", expectations={"minRows": 2}))

    def ready() -> bool:
        return kubectl.condition("dset", "tumours", "Ready").get("status") == "True"

    kubelet.end(kubectl, "tumours-data", snapshot("a"), ready, "tumours is Ready")
    live = kubectl.get("dset", "tumours")
    assert live is not None
    assert "problems" not in live["status"]
    assert "BelowMinimum" not in kubectl.output("get", "dset", "tumours")


def test_a_schedule_fires(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(dataset("tumours", refresh={"schedule": "* * * * *"}))
    end_job(kubectl, "tumours-data", snapshot("a"))
    kubectl.wait_for("dset", "tumours", "Ready")
    first = (kubectl.get("dset", "tumours") or {})["status"]

    def looked_again() -> Any:
        status = (kubectl.get("dset", "tumours") or {})["status"]
        return status if status["lastRun"] != first["lastRun"] else None

    status = kubelet.end(kubectl, "tumours-data", snapshot("c"), looked_again, "a minute later it is looked again")
    assert status["version"] == digest("c")
    assert [version["version"] for version in status["history"]] == [digest("c"), digest("a")]
    assert status["lastSchedule"].endswith(":00Z")
    assert status["lastSchedule"] > first["lastSchedule"]


def test_what_a_history_has_is_what_the_collection_is_told_to_keep(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(dataset("tumours"))
    end_job(kubectl, "tumours-data", snapshot("a"))
    kubectl.wait_for("dset", "tumours", "Ready")
    made = workspace()
    made["spec"]["store"]["collect"] = {"enabled": True}
    kubectl.apply(made)
    kubectl.wait_for("wsp", "default", "Collected", "False", reason="StoreShared")
    kubectl.run("delete", "job", "default-preflight")  # so that it is asked again whose the store is
    ours = Report(True, "StoreWorks", result=PreflightResult(("write", "read", "delete"), owned=True))
    job = kubelet.end(
        kubectl, "default-preflight", ours, lambda: kubectl.get("job", "default-collect"), "it is collected"
    )
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    work = task.decode(task.text_of({v["name"]: v["value"] for v in variables if "value" in v}))
    assert isinstance(work, task.CollectTask)
    live = kubectl.get("wsp", "default")
    assert live is not None
    assert (work.owner, work.keep, work.artifacts) == (live["metadata"]["uid"], (digest("b"),), None)
    end_job(kubectl, "default-collect", Report(True, "Collected", result=CollectResult(2, 0, 1, 4711)))
    kubectl.wait_for("wsp", "default", "Collected", "True", reason="Collected")
    collected = (kubectl.get("wsp", "default") or {})["status"]["collected"]
    assert (collected["moved"], collected["deleted"], collected["freed"]) == (2, 1, 4711)
