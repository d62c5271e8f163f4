"""Experiments for the tests of the core: their specs, and trials that end."""

from typing import Any

from msgspec.structs import replace
from world import World, digest_of, trained, training_spec, with_dataset, with_store

from modelmill_contracts import report, task

NAME = "search"
DEPTH = {"param": "lr__depth", "integer": {"min": 1, "max": 9}}
C = {"param": "lr__C", "float": {"min": "0.01", "max": "10", "log": True}}


def spec(algorithm: str = "Random", **more: Any) -> dict[str, Any]:
    template = more.pop("template", training_spec())
    return {
        "objective": {"metric": "roc_auc", **more.pop("objective", {})},
        "search": {"algorithm": algorithm, "seed": 1, **more.pop("search", {})},
        "parameters": more.pop("parameters", [C, DEPTH]),
        "trials": {"max": 6, "parallel": 2, "maxFailed": 1, **more.pop("trials", {})},
        "template": {"spec": template},
        **more,
    }


def searching(algorithm: str = "Random", **more: Any) -> World:
    """A world in which the search has begun."""
    world = with_dataset(with_store(World()))
    world.put("Experiment", NAME, spec=spec(algorithm, **more))
    world.settle()
    return world


def trials(world: World) -> list[str]:
    return sorted((name for kind, name in world.objects if kind == "TrainingJob"), key=lambda n: (len(n), n))


def end(world: World, number: int, value: str, *, size: int = 1000, stddev: str | None = None, **more: Any) -> None:
    """Trial `number` ends with this value of the objective (or of `metric`), and a model of that size."""
    metric = more.pop("metric", world.get("Experiment", NAME)["spec"]["objective"]["metric"])
    result = replace(
        trained().result,
        metrics=(report.Metric(metric, value, stddev),),
        recipe=digest_of(f"{number % 16:x}"),
        artifact=digest_of(f"{(number + 1) % 16:x}"),
        uri=f"s3://models/artifacts/sha256-{number}",
        model_bytes=size,
        **more,
    )
    world.end_job(f"{NAME}-{number}-train", report.Report(True, "Trained", result=result))
    world.settle()


def fail(world: World, number: int, reason: str = "TrainingFailed", message: str = "it could not be fitted") -> None:
    world.end_job(f"{NAME}-{number}-train", report.Report(False, reason, message))
    world.settle()


def stop(world: World, number: int, *folds: str) -> None:
    """Trial `number` is stopped after these folds."""
    result = report.StoppedResult((report.Metric("roc_auc", folds[0]),), folds)
    world.end_job(f"{NAME}-{number}-train", report.Report(True, "StoppedEarly", "worse", result=result))
    world.settle()


def proposal(world: World) -> task.ProposalTask:
    """What the pod that chooses trials is asked."""
    asked = asked_of(world, f"{NAME}-propose")
    assert isinstance(asked, task.ProposalTask)
    return asked


def propose(world: World, *rows: tuple[str | None, ...]) -> None:
    """It has chosen these."""
    result = report.ProposalResult(proposal(world).first, rows)
    world.end_job(f"{NAME}-propose", report.Report(True, "Proposed", result=result))
    world.settle()


def page(world: World) -> None:
    """The page is written."""
    result = report.SearchPageResult(digest_of("9"))
    world.end_job(f"{NAME}-page", report.Report(True, "PageWritten", result=result))
    world.settle()


def asked_of(world: World, job: str) -> task.Task:
    env = world.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["env"]
    return task.decode(task.text_of({v["name"]: v["value"] for v in env if "value" in v}))


def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.get("Experiment", NAME)["status"]
    return found


def told(world: World) -> str:
    """What Succeeded says."""
    return world.told("Experiment", NAME)[0]
