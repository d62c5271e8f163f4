"""Every rule of the schemas is asked of the real API server, from one table."""

import copy
import json
from typing import Any

import pytest

from live import API_VERSION, Kubectl

DIGEST = "sha256:" + "0" * 64

GOOD: dict[str, dict[str, Any]] = {
    "Workspace": {
        "metadata": {"name": "default"},
        "spec": {"store": {"uri": "s3://models/a", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}},
    },
    "Dataset": {
        "metadata": {"name": "tumours"},
        "spec": {
            "source": {"uri": "s3://lake/a.csv", "secretRef": {"name": "lake"}},
            "columns": [{"name": "radius", "type": "Float", "min": "0", "max": "10.5"}],
            "expectations": {"minRows": 10},
        },
    },
    "TrainingJob": {
        "metadata": {"name": "forest"},
        "spec": {
            "modelRef": {"name": "triage"},
            "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
            "estimator": {
                "columns": [
                    {
                        "name": "num",
                        "select": ["a"],
                        "steps": [{"name": "scale", "class": "sklearn.preprocessing.StandardScaler"}],
                    }
                ],
                "steps": [
                    {"name": "f", "class": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 5}}
                ],
            },
            "resources": {"limits": {"memory": "1Gi"}},
        },
    },
    "Model": {"metadata": {"name": "triage"}, "spec": {"description": "d"}},
    "ModelVersion": {
        "metadata": {"name": "triage-7"},
        "spec": {
            "modelRef": {"name": "triage"},
            "version": 7,
            "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
        },
    },
    "ModelDeployment": {"metadata": {"name": "triage"}, "spec": {"model": {"name": "triage"}, "replicas": 2}},
}

# kind, path, value (... removes the field), words that the answer must have
BAD: list[tuple[str, str, Any, str]] = [
    ("Workspace", "metadata.name", "other", "should match"),
    ("Workspace", "spec.store", ..., "Required value"),
    ("Workspace", "spec.store.uri", "ftp://models", "should match"),
    ("Workspace", "spec.store.uri", "s3://models/../x y", "should match"),
    ("Workspace", "spec.store.uri", "gs://models", "endpoint is only for an s3:// uri"),
    ("Workspace", "spec.store.endpoint", "store:7070", "should match"),
    ("Workspace", "spec.store.secretRef.name", "A_B", "should match"),
    ("Workspace", "spec.allow", {"estimatorPackages": []}, "should have at least 1 items"),
    ("Workspace", "spec.allow", {"estimatorPackages": ["os.path"]}, "should match"),
    ("Workspace", "spec.allow", {"sources": ["file"]}, "Unsupported value"),
    ("Dataset", "metadata.name", "Tumours", "metadata.name"),
    ("Dataset", "metadata.name", "a" * 41, "metadata.name"),
    ("Dataset", "metadata.name", "1a", "metadata.name"),
    ("Dataset", "spec.source", {}, "give exactly one of uri, configMapRef"),
    ("Dataset", "spec.source.configMapRef", {"name": "a", "key": "b"}, "give exactly one of uri, configMapRef"),
    (
        "Dataset",
        "spec.source",
        {"configMapRef": {"name": "a", "key": "b"}, "secretRef": {"name": "s"}},
        "secretRef goes with uri",
    ),
    ("Dataset", "spec.source.uri", "file:///etc/passwd", "should match"),
    ("Dataset", "spec.source", {"configMapRef": {"name": "a", "key": "../b"}}, "should match"),
    ("Dataset", "spec.columns.0.type", "Number", "Unsupported value"),
    ("Dataset", "spec.columns.0.min", "11", "min must not be greater than max"),
    ("Dataset", "spec.columns.0.min", "one", "should match"),
    ("Dataset", "spec.columns.0.type", "String", "min and max are for Float and Integer"),
    ("Dataset", "spec.columns.0.values", ["1"], "values are for String, Integer and Boolean"),
    ("Dataset", "spec.columns.1", {"name": "radius", "type": "Float"}, "Duplicate value"),
    ("Dataset", "spec.columns.0.name", "", "at least 1 chars"),
    ("Dataset", "spec.extraColumns", "Ignore", "Unsupported value"),
    ("Dataset", "spec.expectations.minRows", 0, "greater than or equal to 1"),
    ("Dataset", "spec.versionHistoryLimit", 101, "less than or equal to 100"),
    ("TrainingJob", "spec.data", ..., "Required value"),
    ("TrainingJob", "spec.data.target", ..., "Required value"),
    ("TrainingJob", "spec.data.version", "latest", "should match"),
    ("TrainingJob", "spec.data.split", {"test": "1.5"}, "should match"),
    ("TrainingJob", "spec.data.split", {"test": "0.0"}, "should match"),
    ("TrainingJob", "spec.data.features", [], "at least 1 items"),
    ("TrainingJob", "spec.estimator.steps", [], "at least 1 items"),
    ("TrainingJob", "spec.estimator.steps.0.class", "RandomForest", "should match"),
    ("TrainingJob", "spec.estimator.steps.0.class", "os.system('x')", "should match"),
    ("TrainingJob", "spec.estimator.steps.0.name", "a__b", "should match"),
    (
        "TrainingJob",
        "spec.estimator.steps.1",
        {"name": "f", "class": "sklearn.ensemble.RandomForestClassifier"},
        "Duplicate value",
    ),
    ("TrainingJob", "spec.estimator.columns.0.select", [], "at least 1 items"),
    ("TrainingJob", "spec.seed", -1, "greater than or equal to 0"),
    ("TrainingJob", "spec.evaluation", {"metrics": ["ROC AUC"]}, "should match"),
    ("TrainingJob", "spec.resources.limits.memory", "0.5Gi", "should match"),
    ("TrainingJob", "spec.resources.limits", {"nvidia": "1"}, "keys must be among cpu, memory"),
    ("TrainingJob", "spec.limits", {"timeout": "7d"}, "should match"),
    ("TrainingJob", "spec.limits", {"retries": 11}, "less than or equal to 10"),
    ("TrainingJob", "spec.modelRef.name", "Triage", "should match"),
    ("Model", "spec.description", "x" * 1025, "may not be more than 1024"),
    ("ModelVersion", "metadata.name", "triage-8", "metadata.name must be the model's name, a dash and the version"),
    ("ModelVersion", "spec.version", 0, "greater than or equal to 1"),
    ("ModelVersion", "spec.version", 1000000, "less than or equal to 999999"),
    ("ModelVersion", "spec.artifact.digest", "sha256:abc", "should match"),
    ("ModelVersion", "spec.artifact.uri", "models", "should match"),
    ("ModelDeployment", "spec.model", {}, "give either name (and version), or uri and digest"),
    ("ModelDeployment", "spec.model", {"name": "a", "uri": "s3://a/b", "digest": DIGEST}, "give either name"),
    ("ModelDeployment", "spec.model", {"uri": "s3://a/b"}, "uri and digest go together"),
    ("ModelDeployment", "spec.model", {"uri": "s3://a/b", "digest": DIGEST, "version": 1}, "version goes with name"),
    ("ModelDeployment", "spec.model.version", 0, "greater than or equal to 1"),
    ("ModelDeployment", "spec.replicas", -1, "greater than or equal to 0"),
    ("ModelDeployment", "spec.replicas", 1001, "less than or equal to 1000"),
    ("ModelDeployment", "spec.revisionHistoryLimit", 101, "less than or equal to 100"),
    ("ModelDeployment", "spec.server", {"resources": {"limits": {"cpu": "half"}}}, "should match"),
]

# kind, path, new value, words ("" where the change is allowed)
CHANGES: list[tuple[str, str, Any, str]] = [
    ("TrainingJob", "spec.seed", 8, "field is immutable"),
    ("TrainingJob", "spec.data.target", "other", "field is immutable"),
    ("TrainingJob", "spec.estimator.steps.0.params", {"n_estimators": 6}, "field is immutable"),
    ("TrainingJob", "spec.modelRef", ..., "field is immutable"),
    ("TrainingJob", "spec.modelRef.name", "other", "field is immutable"),
    ("TrainingJob", "spec.evaluation", {"metrics": ["f1"]}, "field is immutable"),
    ("TrainingJob", "spec.resources.limits.memory", "2Gi", "field is immutable"),
    ("TrainingJob", "spec.limits", {"timeout": "2h"}, "field is immutable"),
    ("TrainingJob", "spec.suspend", True, ""),
    ("ModelVersion", "spec.artifact.uri", "s3://models/other", "field is immutable"),
    ("Dataset", "spec.expectations.minRows", 20, ""),
    ("ModelDeployment", "spec.replicas", 3, ""),
    ("Workspace", "spec.store.uri", "s3://others", ""),
]


def manifest(kind: str) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, **copy.deepcopy(GOOD[kind])}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    node: Any = document
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    if value is ...:
        del node[last]
    elif isinstance(node, list):
        node[int(last) :] = [value]
    else:
        node[last] = value
    return document


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_manifest_is_taken(kubectl: Kubectl, kind: str) -> None:
    assert kubectl.refused(manifest(kind)) == ""


@pytest.mark.parametrize(("kind", "path", "value", "words"), BAD, ids=[f"{b[0]}-{b[1]}-{i}" for i, b in enumerate(BAD)])
def test_a_bad_one_is_refused_and_told_why(kubectl: Kubectl, kind: str, path: str, value: Any, words: str) -> None:
    said = kubectl.refused(changed(manifest(kind), path, value))
    assert words in said, said or "it was taken"


@pytest.mark.parametrize(("kind", "path", "value", "words"), CHANGES)
def test_what_may_be_changed_later(kubectl: Kubectl, kind: str, path: str, value: Any, words: str) -> None:
    document = manifest(kind)
    kubectl.apply(document)
    live = kubectl.get(kind, document["metadata"]["name"])
    assert live is not None
    result = kubectl.run("replace", "-f", "-", stdin=json.dumps(changed(live, path, value)), check=False)
    if words:
        assert words in result.stderr, result.stderr or "it was taken"
    else:
        assert result.returncode == 0, result.stderr


def test_the_scale_subresource_scales(kubectl: Kubectl) -> None:
    kubectl.apply(manifest("ModelDeployment"))
    kubectl.run("scale", "modeldeployment/triage", "--replicas=4")
    live = kubectl.get("mdep", "triage")
    assert live is not None
    assert live["spec"]["replicas"] == 4


def test_kubectl_get_modelmill_lists_every_kind(kubectl: Kubectl) -> None:
    kubectl.apply(*(manifest(kind) for kind in GOOD))
    listed = kubectl.output("get", "modelmill", "-o", "name")
    assert sorted(line.split(".")[0] for line in listed.splitlines()) == sorted(kind.lower() for kind in GOOD)
