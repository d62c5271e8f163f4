"""What the operator asks of Kubernetes, word for word: a change of it is seen in review, in manifests/."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from world import World, digest_of, trained, training_spec, with_dataset, with_store, with_version

from modelmill.core.plan import Create
from modelmill_contracts import report

EXPECTED = Path(__file__).parent / "manifests"
STORE = {"uri": "s3://models/a", "endpoint": "http://store:7070", "region": "eu", "secretRef": {"name": "store"}}


def world_with_a_secret() -> World:
    """A Workspace whose store has an endpoint, a region and credentials."""
    world = World()
    world.put("Workspace", "default", spec={"store": STORE})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    return world


def created(world: World, kind: str, name: str) -> list[Any]:
    return [write.manifest for write in world.plan(kind, name).writes if isinstance(write, Create)]


def preflight() -> list[Any]:
    world = World()
    world.put("Workspace", "default", spec={"store": STORE})
    return created(world, "Workspace", "default")


def snapshot_of_a_config_map() -> list[Any]:
    world = world_with_a_secret()
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "files", "key": "data.csv"}}})
    return created(world, "Dataset", "tumours")


def snapshot_of_a_bucket() -> list[Any]:
    world = world_with_a_secret()
    age = {"name": "age", "type": "Float", "nullable": False, "min": "0", "max": "120"}
    stage = {"name": "stage", "type": "String", "values": ["I", "II"]}
    world.put(
        "Dataset",
        "lake",
        spec={
            "source": {"uri": "s3://lake/a/b.parquet", "secretRef": {"name": "lake"}},
            "columns": [age, stage],
            "extraColumns": "Reject",
            "expectations": {"minRows": 100},
        },
    )
    return created(world, "Dataset", "lake")


def training() -> list[Any]:
    world = with_dataset(world_with_a_secret())
    scale = {"name": "scale", "class": "sklearn.preprocessing.StandardScaler", "params": {"with_mean": False}}
    numbers = {"name": "numbers", "select": ["age", "size"], "steps": [scale]}
    logistic = {"name": "lr", "class": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.5}}
    data = {"datasetRef": {"name": "tumours"}, "target": "benign", "features": ["age", "size"]}
    world.put(
        "TrainingJob",
        "lr",
        spec=training_spec(
            data={**data, "split": {"test": "0.3", "stratify": True}},
            estimator={"steps": [logistic], "columns": [numbers]},
            seed=7,
            evaluation={"metrics": ["recall"]},
            resources={"requests": {"memory": "3Gi"}, "limits": {"cpu": "2"}},
            limits={"timeout": "1h30m", "retries": 5},
        ),
    )
    return created(world, "TrainingJob", "lr")


def version_of_a_run() -> list[Any]:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "lr", spec=training_spec())
    world.reconcile("TrainingJob", "lr")
    world.end_job("lr-train", trained())
    model = world.plan("TrainingJob", "lr").writes
    world.reconcile("TrainingJob", "lr")
    world.reconcile("Model", "triage")
    return [*(w.manifest for w in model if isinstance(w, Create)), *created(world, "TrainingJob", "lr")]


def verification() -> list[Any]:
    world = world_with_a_secret()
    artifact = {"uri": "s3://models/a/artifacts/1", "digest": digest_of("1")}
    world.put("ModelVersion", "triage-1", spec={"modelRef": {"name": "triage"}, "version": 1, "artifact": artifact})
    return created(world, "ModelVersion", "triage-1")


def serving() -> list[Any]:
    world = with_version(world_with_a_secret(), 3)
    resources = {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}
    world.put(
        "ModelDeployment",
        "triage",
        spec={"model": {"name": "triage"}, "replicas": 2, "server": {"resources": resources}},
    )
    return created(world, "ModelDeployment", "triage")


def serving_of_an_artifact() -> list[Any]:
    world = with_store(World())
    artifact = {"uri": "s3://models/artifacts/sha256-1", "digest": digest_of("1")}
    world.put("ModelDeployment", "triage", spec={"model": artifact})
    return created(world, "ModelDeployment", "triage")


def serving_by_workers() -> list[Any]:
    world = with_version(world_with_a_secret(), 3)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "server": {"workers": 3}})
    return [w for w in created(world, "ModelDeployment", "triage") if w["kind"] == "Deployment"]


def serving_with_capture() -> list[Any]:
    world = with_version(world_with_a_secret(), 3)
    capture = {"sample": "0.05", "columns": ["size", "age", "$(PATH)"], "retention": "48h"}
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "capture": capture})
    return [w for w in created(world, "ModelDeployment", "triage") if w["kind"] == "Deployment"]


def serving_by_a_container() -> list[Any]:
    world = with_version(world_with_a_secret(), 3)
    world.put("Workspace", "default", spec={"store": STORE, "allow": {"images": ["registry.example.org/ml/*"]}})
    container = {
        "image": "registry.example.org/ml/triton:24@sha256:" + "0" * 64,
        "command": ["serve", "$(MILL_MODEL)"],
        "args": ["--port=$(MILL_PORT)"],
        "port": 9000,
        "protocol": "V1",
    }
    server = {"container": container, "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}}
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "server": server})
    return [w for w in created(world, "ModelDeployment", "triage") if w["kind"] == "Deployment"]


def snapshot_by_a_container() -> list[Any]:
    world = world_with_a_secret()
    world.put("Workspace", "default", spec={"store": STORE, "allow": {"images": ["*"]}})
    with_dataset(world)
    container = {"image": "registry.example.org/ml/clean:1", "command": ["clean"], "args": ["--fast"]}
    derive = {"from": [{"name": "tumours"}], "container": container}
    world.put("Dataset", "clean", spec={"source": {"derive": derive}, "refresh": {"schedule": "0 * * * *"}})
    return created(world, "Dataset", "clean")


def training_by_a_container() -> list[Any]:
    world = World()
    world.put("Workspace", "default", spec={"store": STORE, "allow": {"images": ["registry.example.org/ml/*"]}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    with_dataset(world)
    env = [{"name": "DEPTH", "value": "5"}]
    container = {"image": "registry.example.org/ml/train:1", "command": ["train"], "args": ["--fast"], "env": env}
    spec = training_spec(container=container, seed=7, evaluation={"metrics": ["recall"]})
    del spec["estimator"]
    world.put("TrainingJob", "own", spec=spec)
    return created(world, "TrainingJob", "own")


def training_by_workers() -> list[Any]:
    """What is between the workers, then their Job."""
    world = with_dataset(world_with_a_secret())
    world.put("TrainingJob", "lr", spec=training_spec(workers=2))
    between = created(world, "TrainingJob", "lr")
    world.reconcile("TrainingJob", "lr")
    world.remove("Job", "lr-train")
    return [*between, *created(world, "TrainingJob", "lr")]


def collection() -> list[Any]:
    world = World()
    world.put("Workspace", "default", spec={"store": {**STORE, "collect": {"enabled": True}}})
    world.reconcile("Workspace", "default")
    result = report.PreflightResult((), owned=True)
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=result))
    world.put("TrainingJob", "lr", spec=training_spec(), status={"datasetFile": digest_of("f")})
    return created(world, "Workspace", "default")


def mirror() -> list[Any]:
    world = World()
    tracking = {"mlflow": {"uri": "http://mlflow.tracking:5000", "secretRef": {"name": "mlflow"}}}
    world.put("Workspace", "default", spec={"store": STORE, "tracking": tracking})
    world.reconcile("Workspace", "default")
    ended = {"type": "Failed", "status": "True", "reason": "TargetMissing", "message": "there is no column benign"}
    said = {"conditions": [{**ended, "lastTransitionTime": "2026-01-01T00:01:00Z"}]}
    world.put("TrainingJob", "lr", spec=training_spec(), status=said)
    return created(world, "Workspace", "default")


def serving_from_a_volume_by_an_identity() -> list[Any]:
    world = World()
    world.put("PersistentVolumeClaim", "models", spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Bound"})
    identity = {"serviceAccountName": "cloud", "podLabels": {"azure.workload.identity/use": "true"}}
    world.put("Workspace", "default", spec={"store": {"uri": "pvc://models/team"}, "identity": identity})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    artifact = {"uri": "file:///mnt/store/team/artifacts/sha256-1", "digest": digest_of("1")}
    world.put("ModelDeployment", "triage", spec={"model": artifact})
    return created(world, "ModelDeployment", "triage")


def model_tests() -> list[Any]:
    """Version 2 against version 1, which serves."""
    world = with_version(world_with_a_secret(), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.settle()
    baseline = {"deploymentRef": {"name": "triage"}, "metric": "roc_auc", "maxRegression": "0.005"}
    metrics = [{"name": "recall", "min": "0.9", "everySlice": "age_group"}]
    world.put("Model", "triage", spec={"tests": {"metrics": metrics, "baseline": baseline}})
    with_version(world, 2)
    world.remove("Job", "triage-2-test")
    return created(world, "ModelVersion", "triage-2")


CASES = (
    preflight,
    snapshot_of_a_config_map,
    snapshot_of_a_bucket,
    training,
    version_of_a_run,
    verification,
    model_tests,
    serving,
    serving_of_an_artifact,
    serving_by_workers,
    serving_with_capture,
    serving_by_a_container,
    snapshot_by_a_container,
    training_by_a_container,
    training_by_workers,
    collection,
    mirror,
    serving_from_a_volume_by_an_identity,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_is_created_is_what_was_reviewed(case: Any) -> None:
    expected = EXPECTED / f"{case.__name__.replace('_', '-')}.yaml"
    assert plain(case()) == list(yaml.safe_load_all(expected.read_text()))


def plain(value: Any) -> Any:
    """As the API server gets it: no tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
