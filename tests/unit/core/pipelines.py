"""A Pipeline in a small world: what its surroundings do, and what is seen of it."""

from datetime import timedelta
from typing import Any

from world import World, digest_of, training_spec, with_dataset, with_store

from modelmill.core.conditions import timestamp
from modelmill_contracts import report

NAME = "triage"
STAGES: list[dict[str, Any]] = [
    {"name": "data", "timeout": "1h", "refresh": {"datasetRef": {"name": "tumours"}}},
    {"name": "train", "timeout": "2h", "trainingJob": {"spec": training_spec()}},
    {"name": "gate", "timeout": "24h", "approve": "Automatic"},
    {"name": "release", "timeout": "24h", "rollout": {"deploymentRef": {"name": "triage"}}},
]
BY_DATA = {"name": "data", "newVersionOf": {"datasetRef": {"name": "tumours"}}}
NIGHTLY = {"name": "nightly", "schedule": {"cron": "0 3 * * *", "timeZone": "Etc/UTC"}}
DRIFT = {"name": "drift", "onCondition": {"deploymentRef": {"name": "triage"}, "types": ["DriftDetected"]}}
CODE = {"name": "code", "onSpecChange": True}


def spec(*triggers: dict[str, Any], stages: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A Pipeline's, as the API server completes it."""
    return {
        "triggers": list(triggers),
        "stages": STAGES if stages is None else stages,
        "concurrencyPolicy": "Forbid",
        "cooldown": "0s",
        "maxRunsPerDay": 24,
        "suspend": False,
        "runHistoryLimit": {"succeeded": 5, "failed": 5},
        **more,
    }


def declared(*triggers: dict[str, Any], world: World | None = None, **more: Any) -> World:
    """A Pipeline whose first look is over, on data that is there."""
    world = world or with_dataset(with_store(World()))
    world.put("Pipeline", NAME, spec=spec(*triggers, **more))
    world.settle()
    return world


def runs(world: World) -> list[str]:
    """The names of all runs, the oldest first."""
    found = [manifest for (kind, _), manifest in world.objects.items() if kind == "PipelineRun"]
    return [run["metadata"]["name"] for run in found]


def going_on(world: World) -> list[str]:
    """The runs that have started, and not ended."""
    return [name for name in runs(world) if "startedAt" in status(world, name) and not ended(world, name)]


def status(world: World, run: str) -> dict[str, Any]:
    found: dict[str, Any] = world.get("PipelineRun", run).get("status", {})
    return found


def stage(world: World, run: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in status(world, run)["stages"] if s["name"] == name)
    return found


def states(world: World, run: str) -> str:
    """All stages in a line."""
    return " ".join(f"{s['name']}:{s['state']}" for s in status(world, run)["stages"])


def ended(world: World, run: str) -> str:
    """Why a run has ended; "": it has not."""
    for type_ in ("Succeeded", "Failed"):
        found = next((c for c in status(world, run).get("conditions", ()) if c["type"] == type_), None)
        if found is not None and found["status"] == "True":
            return f"{type_} {found['reason']}"
    return ""


def trigger(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in world.get("Pipeline", NAME)["status"]["triggers"] if t["name"] == name)
    return found


def create(world: World, name: str, **more: Any) -> None:
    """As kubectl create does."""
    world.put("PipelineRun", name, spec={"pipelineRef": {"name": NAME}, "cancel": False, **more})
    world.settle()


def cancel(world: World, name: str) -> None:
    live = world.get("PipelineRun", name)
    metadata = {**live["metadata"], "generation": live["metadata"]["generation"] + 1}
    world.store("PipelineRun", name, {**live, "metadata": metadata, "spec": {**live["spec"], "cancel": True}})
    world.settle()


def looked(world: World, letter: str = "a") -> None:
    """The Job that reads the source finds this content."""
    result = report.SnapshotResult(digest_of(letter), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    world.settle()


def refused(world: World) -> None:
    """The Job that reads the source finds that the data is bad."""
    problem = report.Problem("TooFewRows", "bad", "age", 3)
    world.end_job("tumours-data", report.Report(False, "DataInvalid", "fix the file", problems=(problem,)))
    world.settle()


def says(world: World, kind: str, name: str, more: dict[str, Any], **conditions: tuple[str, str]) -> None:
    """The operator's word on an object, in short: each condition has a status and a reason."""
    live = world.get(kind, name)
    generation = live["metadata"]["generation"]
    said = [
        {
            "type": type_,
            "status": status_,
            "reason": reason,
            "message": f"because of {reason}",
            "observedGeneration": generation,
            "lastTransitionTime": timestamp(world.now),
        }
        for type_, (status_, reason) in conditions.items()
    ]
    world.store(kind, name, {**live, "status": {**live.get("status", {}), **more, "conditions": said}})


def trained(world: World, run: str, letter: str = "1") -> None:
    """The training ends well, and its version is verified."""
    result = report.TrainingResult(
        recipe=digest_of(letter),
        artifact=digest_of(letter),
        uri=f"s3://models/artifacts/sha256-{letter * 64}",
        runtime="onnx",
        metrics=(report.Metric("roc_auc", "0.995"),),
    )
    world.end_job(f"{made(world, run)}-train", report.Report(True, "TrainingSucceeded", result=result))
    world.settle()


def made(world: World, run: str, name: str = "train") -> str:
    return str(stage(world, run, name)["made"]["name"])


def verified(world: World, version: str) -> None:
    artifact = world.get("ModelVersion", version)["spec"]["artifact"]["digest"]
    result = report.VerificationResult(artifact, (), (), 1000)
    world.end_job(f"{version}-verify", report.Report(True, "Verified", result=result))
    world.settle()


def rolled_out(world: World) -> None:
    """The pods of the newest revision are ready, and it takes over."""
    world.settle()
    for name in world.deployments():
        if world.get("Deployment", name)["spec"]["replicas"]:
            world.pods_of(name, 1)
    world.settle()


def with_deployment(world: World, **model: Any) -> World:
    selected = {"name": "triage", **model}
    world.put("ModelDeployment", "triage", spec={"model": selected, "replicas": 1})
    world.settle()
    return world


def finished(world: World, run: str, letter: str = "1", number: int = 1) -> None:
    """The run succeeds, with this content as data and as model."""
    looked(world, letter)
    trained(world, run, letter)
    verified(world, f"triage-{number}")
    rolled_out(world)
    assert ended(world, run) == "Succeeded RunSucceeded", status(world, run)


def later(world: World, **time: float) -> None:
    world.now += timedelta(**time)
    world.settle()
