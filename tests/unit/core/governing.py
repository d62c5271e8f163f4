"""A UseCase, a Model that refers to it, and what comes of both."""

from typing import Any

from world import World, with_dataset, with_store, with_version

from modelmill_contracts import report, task

NAME, USE_CASE = "tumour-triage", ("UseCase", "tumour-triage")
SOURCE = f"usecase/{NAME}"
MODEL, VERSION, DEPLOYMENT = ("Model", "triage"), ("ModelVersion", "triage-1"), ("ModelDeployment", "triage")
JOB = "triage-1-test"
QUALITY: dict[str, Any] = {"name": "quality", "metric": {"name": "roc_auc", "min": "0.98"}}
FAIR: dict[str, Any] = {"name": "fair", "metric": {"name": "recall", "min": "0.90", "everySlice": "age_group"}}
LATENCY: dict[str, Any] = {"name": "fast", "latency": {"quantile": "0.99", "max": "20ms"}}
AVAILABLE: dict[str, Any] = {"name": "available", "availability": {"min": "0.999", "window": "1h"}}
FRESH: dict[str, Any] = {"name": "fresh", "dataFreshness": {"datasetRef": {"name": "tumours"}, "max": "24h"}}
PRIORITY = {"value": 8, "urgency": 5, "riskReduction": 8, "effort": 3}


def use_case(*requirements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"owner": "radiology-ml@example.org", "requirements": list(requirements), **more}


def governed(*requirements: dict[str, Any], tests: dict[str, Any] | None = None, **more: Any) -> World:
    """A use case with these requirements, and a Model that has it."""
    world = with_store(World())
    world.put(*USE_CASE, spec=use_case(*requirements, **more))
    world.put(*MODEL, spec={"useCaseRef": {"name": NAME}, **({"tests": tests} if tests else {})})
    world.settle()
    return world


def settled(world: World) -> World:
    """Everything of ours has come to rest: a use case reads its Models, and they it."""
    world.settle()
    return world


def quality(observed: str = "0.991", least: str = "0.98", *, passed: bool = True) -> report.Outcome:
    return report.Outcome("roc_auc", passed, f">= {least}", observed)


def after_tests(world: World, *outcomes: report.Outcome, number: int = 1) -> World:
    """A version that was verified, and tested with these outcomes."""
    name = f"triage-{number}"
    if not world.has("ModelVersion", name):
        with_version(world, number)
    world.settle()
    said = report.Report(True, "TestsRun", result=report.ModelTestResult(outcomes))
    world.end_job(f"{name}-test", said)
    return settled(world)


def asked(world: World, job: str = JOB) -> task.Tests:
    (container,) = world.get("Job", job)["spec"]["template"]["spec"]["containers"]
    found = task.decode(task.text_of({v["name"]: v.get("value", "") for v in container["env"]}))
    assert isinstance(found, task.ModelTestTask)
    return found.tests


def served(world: World, replicas: int = 1, **more: Any) -> World:
    """A ModelDeployment that serves the newest version."""
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": replicas, **more})
    world.settle()
    for name in world.deployments():
        world.pods_of(name, replicas)
    return settled(world)


def levels(world: World, **said: Any) -> World:
    """What was measured of what serves, as its status says it."""
    live = world.get(*DEPLOYMENT)
    known = live["status"].get("serviceLevels", {})
    world.store(*DEPLOYMENT, {**live, "status": {**live["status"], "serviceLevels": {**known, **said}}})
    world.reconcile(*USE_CASE)
    return world


def requirement(world: World, name: str) -> dict[str, Any]:
    """What the use case's status says of one requirement."""
    (found,) = [r for r in world.get(*USE_CASE)["status"]["requirements"] if r["name"] == name]
    return dict(found)


__all__ = ["with_dataset"]
