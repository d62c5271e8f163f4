"""Every bound and every rule of the schemas is asked of the real API server.

The bounds are generated from the committed CRDs: each one has values that break it and values just inside of it.
For the CEL rules there is one table; a rule that is missing in it fails by its name.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from kubernetes import client
from kubernetes import config as configuration
from schema_bounds import (
    GONE,
    WITHOUT_BOUNDARY,
    Bound,
    Change,
    Node,
    bounds,
    crds,
    inside,
    largest,
    nodes,
    outside,
    reached,
    schema,
)
from schema_examples import DIGEST, OBJECTS, TEXTS

from live import API_VERSION, Kubectl, eventually

GROUP, _, VERSION = API_VERSION.partition("/")
BOUNDS = [bound for kind in crds() for bound in bounds(kind)]

IMMUTABLE = "field is immutable: delete the object and create a new one"

OWN_TRAINING: Node = {"data": {"datasetRef": {"name": "a"}, "target": "b"}, "container": {"image": "a"}}

SEARCH: Node = OBJECTS["Experiment"][0]["spec"]
FOREST: Node = {"steps": [{"name": "f", "class": "sklearn.ensemble.RandomForestClassifier"}]}
SEARCH_ALONE: Node = OBJECTS["Experiment"][2]["spec"]  # which promotes nothing
OWN_SEARCH: Node = OBJECTS["Experiment"][1]["spec"]


def _of_a_template(path: str, value: Any) -> tuple[str, Any]:
    """The same change, of the TrainingJob that an Experiment has as its template."""
    if path == "spec":
        return path, {**OWN_SEARCH, "template": {"spec": value}}
    return f"spec.template.{path}", value


# What breaks each CEL rule, and nothing else: (path, value) in the first good object of the kind, or (GONE takes a
# field away) in what was created from it, where the rule is about a change.
RULES: dict[str, list[tuple[str, Any]]] = {
    "Workspace spec.store.endpoint: endpoint is only for an s3:// uri": [
        ("spec.store.uri", "gs://models"),
        ("spec.store.uri", "az://models"),
    ],
    "Workspace spec.store.account: account is only for an az:// uri": [
        ("spec.store.account", "models"),
        ("spec.store", {"uri": "pvc://models", "account": "models"}),
    ],
    "Workspace spec.store.uri: no part of a folder in a volume starts with a dot": [
        ("spec.store", {"uri": "pvc://models/.a"}),
        ("spec.store", {"uri": "pvc://models/a/.."}),
    ],
    "Workspace spec.store.secretRef: a volume takes no secretRef": [
        ("spec.store", {"uri": "pvc://models", "secretRef": {"name": "s"}}),
    ],
    "Workspace spec.identity.podLabels: labels of modelmill.dev and app.kubernetes.io are the operator's own": [
        ("spec.identity.podLabels", {"modelmill.dev/revision": "1"}),
        ("spec.identity.podLabels", {"team": "a", "app.kubernetes.io/managed-by": "me"}),
    ],
    "UseCase spec.requirements[]: give exactly one of metric, latency, availability, dataFreshness": [
        ("spec.requirements.0", {"name": "a"}),
        ("spec.requirements.1.dataFreshness", {"datasetRef": {"name": "a"}, "max": "1h"}),
        ("spec.requirements.3.metric", {"name": "recall", "min": "0.9"}),
        ("spec.requirements.2.latency", {"quantile": "0.5", "max": "1s"}),
    ],
    "UseCase spec.requirements[].metric: give min, max or both": [
        ("spec.requirements.4.metric", {"name": "recall"}),
    ],
    "UseCase spec.requirements[].metric.min: min must not be greater than max": [
        ("spec.requirements.0.metric.min", "1.0001"),
        ("spec.requirements.0.metric.max", "-1"),
    ],
    "UseCase spec.requirements: give one availability at most": [
        ("spec.requirements.5", {"name": "again", "availability": {"min": "0.9", "window": "5m"}}),
    ],
    "UseCase spec.requirements: give 3 latencies at most": [
        (
            "spec.requirements",
            [{"name": f"a{n}", "latency": {"quantile": f"0.{n}", "max": "1s"}} for n in range(1, 5)],
        ),
    ],
    "ModelDeployment spec.monitoring.serviceLevels: give availability, latency or both": [
        ("spec.monitoring.serviceLevels", {}),
        ("spec.monitoring.serviceLevels", {"latency": []}),
    ],
    "Dataset spec.source: give exactly one of uri, sql, derive, deployment, configMapRef": [
        ("spec.source", {}),
        ("spec.source.configMapRef", {"name": "a", "key": "b"}),
        ("spec.source.sql", {"urlRef": {"name": "a", "key": "b"}, "query": "select 1"}),
        ("spec.source.derive", {"from": [{"name": "a"}], "sql": "select 1"}),
        ("spec.source.deployment", {"name": "a"}),
    ],
    "Dataset spec.source.deployment.target: columns captured_... are those of what was answered: give the labels"
    " another name": [
        ("spec.source", {"deployment": {"name": "a", "target": "captured_prediction"}}),
        ("spec.source", {"deployment": {"name": "a", "target": "captured_"}}),
    ],
    "Dataset spec.source.endpoint: endpoint is only for an s3:// uri": [
        ("spec.source", {"uri": "gs://lake/a", "endpoint": "http://lake:7070"}),
        ("spec.source", {"configMapRef": {"name": "a", "key": "b"}, "endpoint": "http://lake:7070"}),
    ],
    "Dataset spec.source.region: region is only for an s3:// uri": [
        ("spec.source", {"uri": "https://example.org/a.csv", "region": "eu-central-1"}),
        ("spec.source", {"configMapRef": {"name": "a", "key": "b"}, "region": "eu-central-1"}),
    ],
    "Dataset spec.source.account: account is only for an az:// uri": [
        ("spec.source.account", "lake"),
        ("spec.source", {"configMapRef": {"name": "a", "key": "b"}, "account": "lake"}),
    ],
    "Dataset spec.source.secretRef: a volume takes no secretRef": [
        ("spec.source", {"uri": "pvc://lake/a", "secretRef": {"name": "s"}}),
    ],
    "Dataset spec.source.secretRef: an https source is asked without credentials: leave secretRef out, or copy the file"
    " to a bucket": [
        ("spec.source", {"uri": "https://example.org/a.csv", "secretRef": {"name": "s"}}),
    ],
    "Dataset spec.source.uri: a uri has no user and no password: whoever may read the Dataset would see them": [
        ("spec.source", {"uri": "https://ana:secret@example.org/a.csv"}),
        ("spec.source", {"uri": "https://ana@example.org"}),
        ("spec.source", {"uri": "https://@example.org/a.csv"}),
    ],
    "Dataset spec.source.uri: a volume's uri is pvc://CLAIM/PATH, and no part of the path starts with a dot": [
        ("spec.source", {"uri": "pvc://lake"}),
        ("spec.source", {"uri": "pvc://lake/"}),
        ("spec.source", {"uri": "pvc://lake/a/"}),
        ("spec.source", {"uri": "pvc://lake/../a"}),
        ("spec.source", {"uri": "pvc://lake//a"}),
        ("spec.source", {"uri": "pvc://Lake/a"}),
        ("spec.source", {"uri": "pvc:///a"}),
    ],
    "Dataset spec.source.derive: give exactly one of sql, container": [
        ("spec.source", {"derive": {"from": [{"name": "a"}]}}),
        ("spec.source", {"derive": {"from": [{"name": "a"}], "sql": "select 1", "container": {"image": "a"}}}),
    ],
    "Dataset spec.source.derive.from: a Dataset cannot be derived from itself": [
        ("spec.source", {"derive": {"from": [{"name": "a"}, {"name": "tumours"}], "sql": "select 1"}}),
    ],
    "Dataset spec.source.secretRef: secretRef goes with uri": [
        ("spec.source", {"configMapRef": {"name": "a", "key": "b"}, "secretRef": {"name": "s"}}),
    ],
    "Dataset spec.columns[]: min and max are for Float and Integer": [
        ("spec.columns.0.type", "String"),
        ("spec.columns.1.type", "Timestamp"),  # min alone
        ("spec.columns.2.type", "Boolean"),  # max alone
    ],
    "Dataset spec.columns[].min: min must not be greater than max": [
        ("spec.columns.0.min", "11"),
        ("spec.columns.0.max", "-0.5"),
        ("spec.columns.0.min", "10.50001"),
    ],
    "Dataset spec.columns[].values: values are for String, Integer and Boolean": [
        ("spec.columns.0.values", ["1"]),
        ("spec.columns.3.type", "Timestamp"),
    ],
    f"TrainingJob spec.modelRef: {IMMUTABLE}": [
        ("spec.modelRef", GONE),
        ("spec.modelRef.name", "other"),
    ],
    f"TrainingJob spec.data: {IMMUTABLE}": [
        ("spec.data.target", "other"),
        ("spec.data.features", GONE),
        ("spec.data.split.stratify", True),
    ],
    "TrainingJob spec.data.split.by: by goes with the methods Group and Time, and they with it": [
        ("spec.data.split", {"method": "Group"}),
        ("spec.data.split", {"method": "Time"}),
        ("spec.data.split", {"by": "patient_id"}),
        ("spec.data.split", {"method": "Random", "by": "patient_id"}),
        ("spec.data.split", {"method": "Stratified", "by": "patient_id"}),
    ],
    "TrainingJob spec.data.split.stratify: stratify: true is the method Stratified": [
        ("spec.data.split", {"method": "Random", "stratify": True}),
        ("spec.data.split", {"method": "Time", "by": "taken_at", "stratify": True}),
    ],
    "TrainingJob spec: give exactly one of estimator, container": [
        ("spec.estimator", GONE),
    ],
    "TrainingJob spec.evaluation: crossValidation goes with an estimator: a container trains one model": [
        ("spec", {**OWN_TRAINING, "evaluation": {"crossValidation": 5}}),
    ],
    "TrainingJob spec.container.env: names that start with MILL_ are the operator's": [
        ("spec", {**OWN_TRAINING, "container": {"image": "a", "env": [{"name": "MILL_DATA", "value": "/"}]}}),
    ],
    "TrainingJob spec: estimator and container are immutable: delete the object and create a new one": [
        ("spec.estimator.steps.0.params.max_depth", 6),
        ("spec.estimator.columns", []),
    ],
    f"TrainingJob spec.seed: {IMMUTABLE}": [("spec.seed", 8)],
    f"TrainingJob spec.evaluation: {IMMUTABLE}": [
        ("spec.evaluation.metrics", ["f1"]),
        ("spec.evaluation.crossValidation", GONE),
        ("spec.evaluation.slices", []),
    ],
    f"TrainingJob spec.reproduce: {IMMUTABLE}": [("spec.reproduce", GONE)],
    f"TrainingJob spec.workers: {IMMUTABLE}": [("spec.workers", 1)],
    "TrainingJob spec.container.env: with workers above 1, MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK,"
    " JOB_COMPLETION_INDEX and, of those that start with PET_, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT and RDZV_*"
    " are the operator's": [
        ("spec", {**OWN_TRAINING, "workers": 2, "container": {"image": "a", "env": [{"name": name, "value": "1"}]}})
        for name in ("RANK", "MASTER_ADDR", "PET_NNODES", "PET_RDZV_BACKEND")
    ],
    f"TrainingJob spec.resources: {IMMUTABLE}": [("spec.resources.limits.memory", "2Gi")],
    f"TrainingJob spec.queueName: {IMMUTABLE}": [("spec.queueName", "other"), ("spec.queueName", GONE)],
    "TrainingJob spec.resources.limits: keys must be cpu, memory or an accelerator's name such as nvidia.com/gpu": [
        ("spec.resources.limits", {key: "1"}) for key in ("gpu", "CPU", "hugepages-2Mi", "a/b/c", "/gpu", "nvidia.com/")
    ],
    "TrainingJob spec.resources.limits: accelerators are counted in whole numbers": [
        ("spec.resources.limits", {"nvidia.com/gpu": quantity}) for quantity in ("500m", "1Gi")
    ],
    f"TrainingJob spec.limits: {IMMUTABLE}": [("spec.limits.timeout", "3h")],
    "ModelVersion metadata.name: metadata.name must be the model's name, a dash and the version, such as triage-7": [
        ("metadata.name", "triage-8"),
        ("metadata.name", "triage"),
        ("metadata.name", "triage-07"),
        ("spec.version", 8),
        ("spec.modelRef.name", "other"),
    ],
    f"ModelVersion spec: {IMMUTABLE}": [
        ("spec.artifact.uri", "s3://models/other"),
        ("spec.lineage", GONE),
    ],
    "Model spec.tests: give at least one test, or leave tests out": [
        ("spec.tests", {}),
        ("spec.tests", {"metrics": [], "behaviour": []}),
    ],
    "Model spec.tests.metrics[]: give min, max or both": [("spec.tests.metrics.0", {"name": "recall"})],
    f"ModelApproval spec: {IMMUTABLE}": [
        ("spec.decision", "Reject"),
        ("spec.by", "bob@example.org"),
        ("spec.reason", GONE),
    ],
    "ModelDeployment spec.model: give either name (and version), or uri and digest": [
        ("spec.model", {}),
        ("spec.model", {"name": "a", "uri": "s3://a/b", "digest": DIGEST}),
    ],
    "ModelDeployment spec.model: uri and digest go together": [("spec.model", {"uri": "s3://a/b"})],
    "ModelDeployment spec.model.version: version goes with name": [
        ("spec.model", {"uri": "s3://a/b", "digest": DIGEST, "version": 1}),
    ],
    "ModelDeployment spec.server.container.port: port must not be 8080, 8081 or 9090, where the server in front of it"
    " listens": [("spec.server.container.port", port) for port in (8080, 8081, 9090)],
    "ModelDeployment spec.capture: Modelmill's own server captures: with server.container leave capture out": [
        ("spec.capture", {"sample": "0.01"})
    ],
    "ModelDeployment spec.server.workers: workers are processes of Modelmill's own server: with container, say in its"
    " args how many it has": [("spec.server.workers", 2)],
    "ModelDeployment spec.monitoring.drift.window: a season is compared hour by hour: window must be at most 1h": [
        ("spec.monitoring.drift", {"window": "61m", "seasonality": "Daily"}),
        ("spec.monitoring.drift", {"window": "3601s", "seasonality": "Daily"}),
        ("spec.monitoring.drift", {"window": "24h", "seasonality": "Daily"}),
    ],
    "ModelDeployment spec.monitoring.quality.min: accuracy and roc_auc have a min, which is required, and other metrics"
    " have none": [
        ("spec.monitoring.quality", {"metric": "roc_auc"}),
        ("spec.monitoring.quality", {"metric": "log_loss", "min": "0.5", "max": "0.3"}),
    ],
    "ModelDeployment spec.monitoring.quality.max: log_loss, mae and rmse have a max,"
    " which is required, and others none": [
        ("spec.monitoring.quality", {"metric": "mae"}),
        ("spec.monitoring.quality", {"metric": "accuracy", "min": "0.5", "max": "0.3"}),
    ],
    "ModelDeployment spec.rollout.steps[]: give either shadow or weight": [
        ("spec.rollout.steps.0", {"shadow": "1m", "weight": 1}),
    ],
    "ModelDeployment spec.rollout.steps[].hold: hold goes with weight": [
        ("spec.rollout.steps.0", {"shadow": "1m", "hold": "1m"}),
    ],
    "ModelDeployment spec.rollout: steps, analysis and stickyBy do not go with RollingUpdate: name another strategy": [
        ("spec.rollout", {"steps": [{"shadow": "1m"}]}),
        ("spec.rollout", {"strategy": "RollingUpdate", "analysis": {}}),
    ],
    "ModelDeployment spec.rollout.steps: steps with a weight go with Canary alone": [
        ("spec.rollout", {"strategy": "BlueGreen", "steps": [{"weight": 5}]}),
        ("spec.rollout", {"strategy": "Shadow", "steps": [{"shadow": "1m"}, {"weight": 5}]}),
    ],
    "ModelDeployment spec.rollout.steps: weights must rise, and copies come before weights": [
        ("spec.rollout.steps.2.weight", 4),
        ("spec.rollout.steps.3", {"shadow": "1m"}),
    ],
    "ModelDeployment spec.rollout.analysis.prometheus[]: give min, max or both": [
        ("spec.rollout.analysis.prometheus.0", {"name": "revenue", "query": "up"}),
    ],
    "ModelDeployment spec.rollout.analysis.prometheus[]: min must not be above max": [
        ("spec.rollout.analysis.prometheus.0.min", "90.5"),
        ("spec.rollout.analysis.prometheus.0.max", "-2"),
    ],
    "ModelDeployment spec.rollout.steps: no two steps may have the same weight": [("spec.rollout.steps.2.weight", 5)],
    "ModelDeployment spec.rollout.analysis: agreement is found by copies: it takes a step with shadow": [
        ("spec.rollout.steps", GONE),
        ("spec.rollout.steps", [{"weight": 5}]),
    ],
    "ModelDeployment spec.rollout.stickyBy: stickyBy goes with Canary: with the others all requests go to one"
    " revision": [("spec.rollout", {"strategy": "BlueGreen", "stickyBy": {"header": "X-User-Id"}})],
    "ModelDeployment spec.autoscaling: give either cpuPercent or requestsPerSecond": [
        ("spec.autoscaling.requestsPerSecond", 200),
        ("spec.autoscaling", {"max": 2}),
    ],
    "ModelDeployment spec.autoscaling.min: min must not be more than max": [
        ("spec.autoscaling", {"min": 3, "max": 2, "cpuPercent": 70}),
    ],
    **{
        f"{kind} {path}: keys must be among cpu, memory": [(path, {"nvidia.com/gpu": "1"}), (path, {"CPU": "1"})]
        for kind, resources in (
            ("Dataset", "spec.resources"),
            ("TrainingJob", "spec.resources"),
            ("Model", "spec.tests.resources"),
            ("ModelDeployment", "spec.server.resources"),
        )
        for path in (f"{resources}.requests", f"{resources}.limits")
        if path != "spec.resources.limits" or kind != "TrainingJob"
    },
    f"Experiment spec.objective: {IMMUTABLE}": [("spec.objective.goal", GONE), ("spec.objective.metric", "f1")],
    f"Experiment spec.search: {IMMUTABLE}": [("spec.search.seed", 2)],
    f"Experiment spec.parameters: {IMMUTABLE}": [("spec.parameters.0.categorical", ["gini"])],
    f"Experiment spec.template: {IMMUTABLE}": [("spec.template.spec.seed", 8)],
    f"Experiment spec.trials.parallel: {IMMUTABLE}": [("spec.trials.parallel", 5)],
    "Experiment spec.parameters: param goes with an estimator, env with a container": [
        ("spec.parameters.0", {"env": "CRITERION", "categorical": ["gini"]}),
    ],
    "Experiment spec.parameters: with the algorithm Grid, float needs step, and integer has no log": [
        ("spec", {**SEARCH, "search": {"algorithm": "Grid"}, "parameters": [{"param": "f__a", **wrong}]})
        for wrong in ({"float": {"min": "0", "max": "1"}}, {"integer": {"min": 1, "max": 2, "log": True}})
    ],
    "Experiment spec.parameters: the algorithm CMAES needs a parameter with integer or float": [
        ("spec", {**SEARCH, "search": {"algorithm": "CMAES"}, "parameters": SEARCH["parameters"][:1]}),
    ],
    "Experiment spec.search: trials are stopped by what they have after some folds: give"
    " template.spec.evaluation.crossValidation": [
        ("spec.template.spec.evaluation.crossValidation", GONE),
    ],
    "Experiment spec.search.earlyStopping: SuccessiveHalving stops trials by itself: leave earlyStopping out": [
        ("spec.search.algorithm", "SuccessiveHalving"),
    ],
    "Experiment spec.promote: promote: Best needs template.spec.modelRef, the Model that the best trial becomes a"
    " version of": [("spec.template.spec.modelRef", GONE)],
    "Experiment spec.template: suspend the Experiment, not its template": [("spec.template.spec.suspend", True)],
    "Experiment spec.parameters[]: give exactly one of param, env": [
        ("spec.parameters.0.env", "CRITERION"),
    ],
    "Experiment spec.parameters[]: give exactly one of integer, float, categorical": [
        ("spec.parameters.0.categorical", GONE),
        ("spec.parameters.0.integer", {"min": 1, "max": 2}),
    ],
    "Experiment spec.parameters[].integer.max: min must not be greater than max": [
        ("spec.parameters.1.integer", {"min": 2, "max": 1}),
    ],
    "Experiment spec.parameters[].integer.min: with log, min must be greater than 0": [
        ("spec.parameters.1.integer", {"min": 0, "max": 1, "log": True}),
    ],
    "Experiment spec.parameters[].integer.step: give log or step": [
        ("spec.parameters.1.integer", {"min": 1, "max": 9, "log": True, "step": 2}),
    ],
    "Experiment spec.parameters[].float.max: min must be less than max": [
        ("spec.parameters.2.float", {"min": "0.5", "max": "0.25"}),
        ("spec.parameters.2.float", {"min": "10", "max": "9"}),
        ("spec.parameters.2.float", {"min": "1", "max": "1.0"}),
    ],
    "Experiment spec.parameters[].float.min: with log, min must be greater than 0": [
        ("spec.parameters.2.float", {"min": "0", "max": "1", "log": True}),
    ],
    "Experiment spec.parameters[].float.step: give log or step": [
        ("spec.parameters.2.float", {"min": "1", "max": "9", "log": True, "step": "2"}),
    ],
}
RULES["TrainingJob spec.evaluation: stopping goes with crossValidation, and with neither modelRef nor reproduce"] = [
    ("spec.evaluation.stopping", {"metric": "roc_auc"}),
]
RULES |= {
    name.replace("TrainingJob spec", "Experiment spec.template.spec"): [_of_a_template(*change) for change in changes]
    for name, changes in RULES.items()
    if name.startswith("TrainingJob ") and "immutable" not in name
}
# Without both there is no telling whether param or env is meant.
RULES["Experiment spec.template.spec: give exactly one of estimator, container"] = [
    (
        "spec",
        {
            **SEARCH_ALONE,
            "template": {"spec": {**OWN_TRAINING, "estimator": SEARCH_ALONE["template"]["spec"]["estimator"]}},
        },
    ),
]

RULES |= {
    "Pipeline spec.triggers[]: give exactly one of schedule, newVersionOf, onCondition, onSpecChange: true": [
        ("spec.triggers.0", {"name": "nightly"}),
        ("spec.triggers.1.onSpecChange", True),
        ("spec.triggers.2.newVersionOf", {"datasetRef": {"name": "tumours"}}),
        ("spec.triggers.3.onSpecChange", False),
    ],
    "Pipeline spec.stages[]: give exactly one of refresh, trainingJob, experiment, approve, rollout": [
        ("spec.stages.0", {"name": "data"}),
        ("spec.stages.0.approve", "Manual"),
        ("spec.stages.2.rollout", {"deploymentRef": {"name": "triage"}}),
    ],
    f"PipelineRun spec.pipelineRef: {IMMUTABLE}": [("spec.pipelineRef.name", "other")],
    f"PipelineRun spec.cause: {IMMUTABLE}": [("spec.cause", GONE), ("spec.cause.key", "other")],
    f"PipelineRun spec.retryOf: {IMMUTABLE}": [("spec.retryOf", GONE), ("spec.retryOf.name", "other")],
    # What was cancelled is not so in the living object: it has a test of its own.
    "PipelineRun spec.cancel: what was cancelled stays cancelled: create another PipelineRun with retryOf": [],
    # What a stage makes is held to the rules of its kind, but for those about changes.
    **{
        name.replace(f"{kind} spec", f"Pipeline spec.stages[].{field}.spec", 1): [
            (path.replace("spec", f"spec.stages.{stage}.{field}.spec", 1), value) for path, value in broken
        ]
        for kind, field, stage in (("TrainingJob", "trainingJob", 1), ("Experiment", "experiment", 4))
        for name, broken in RULES.items()
        if name.startswith(f"{kind} spec") and "immutable" not in name
    },
}

# What the rules are not to forbid.
ALLOWED: list[tuple[str, str, Any]] = [
    ("Dataset", "spec.columns.0.min", "10.5"),
    ("Dataset", "spec.columns.3.type", "Integer"),
    ("Dataset", "spec.source", {"deployment": {"name": "a"}}),
    ("Dataset", "spec.source", {"deployment": {"name": "a", "target": "was_captured_"}}),
    ("Dataset", "spec.source", {"uri": "pvc://lake/a.b/C_d.parquet"}),
    ("Dataset", "spec.source", {"uri": "s3://lake/a.csv", "region": "eu-central-1"}),
    ("Dataset", "spec.source", {"uri": "https://example.org/@ana/a.csv?to=b@c#d@e"}),
    ("Dataset", "spec.source", {"uri": "https://example.org/.well-known/a.csv"}),
    ("Workspace", "spec.store", {"uri": "s3://models/.a"}),
    ("Workspace", "spec.store", {"uri": "pvc://models/a.b"}),
    ("TrainingJob", "spec.reproduce", {}),
    ("TrainingJob", "spec", {**OWN_TRAINING, "container": {"image": "a", "env": [{"name": "RANK", "value": "1"}]}}),
    (
        "TrainingJob",
        "spec",
        {
            **OWN_TRAINING,
            "workers": 2,
            "container": {"image": "a", "env": [{"name": "PET_NPROC_PER_NODE", "value": "2"}]},
        },
    ),
    ("TrainingJob", "spec.resources.limits", {"gpu.intel.com/i915": "2", "memory": "1Gi"}),
    ("TrainingJob", "spec", {**OWN_TRAINING, "evaluation": {"metrics": ["rmse"], "slices": ["age_group"]}}),
    ("TrainingJob", "spec.data.split", {"stratify": True}),
    ("TrainingJob", "spec.data.split", {"method": "Random"}),
    ("TrainingJob", "spec.data.split", {"method": "Stratified"}),
    ("TrainingJob", "spec.data.split", {"method": "Time", "by": "taken_at", "stratify": False}),
    ("TrainingJob", "spec.estimator.steps.0.params", {"a": 1.5, "b": None, "c": [{"d": [True]}], "e": {"f": "g"}}),
    ("ModelDeployment", "spec.model", {"name": "triage"}),
    ("ModelDeployment", "spec.server.container", {"image": "own", "port": 9000}),
    ("ModelDeployment", "spec.server", {"workers": 64}),
    ("ModelDeployment", "spec", {"model": {"name": "triage"}, "capture": {"retention": "1h"}}),
    ("ModelDeployment", "spec", {"model": {"name": "triage"}, "capture": {"sample": "1", "retention": "87600h"}}),
    ("ModelDeployment", "spec.rollout", {}),
    ("ModelDeployment", "spec.rollout", {"onFailure": "Pause"}),
    ("ModelDeployment", "spec.rollout", {"strategy": "Canary"}),
    ("ModelDeployment", "spec.rollout", {"strategy": "Canary", "steps": [{"shadow": "1m"}, {"shadow": "1h"}]}),
    ("ModelDeployment", "spec.rollout", {"strategy": "BlueGreen", "analysis": {"agreement": {"min": "0.9"}}}),
    ("ModelDeployment", "spec.rollout", {"strategy": "Shadow", "steps": [{"shadow": "1h"}]}),
    (
        "ModelDeployment",
        "spec.rollout.analysis.prometheus.0",
        {"name": "up", "query": "up", "min": "90", "max": "90.0"},
    ),
    ("ModelDeployment", "spec.autoscaling", {"max": 1, "requestsPerSecond": 1}),
    ("ModelDeployment", "spec.expose.gateway", {"name": "public"}),
]
ALLOWED += [
    ("Experiment", "spec.parameters.1.integer", {"min": 1, "max": 1}),
    ("Experiment", "spec.parameters.1.integer", {"min": 1, "max": 9, "log": True}),
    ("Experiment", "spec.parameters.2.float", {"min": "9", "max": "10.5"}),
    ("Experiment", "spec.parameters.0.categorical", ["None", "1", "1.5", "true"]),
    ("Experiment", "spec.search", {"algorithm": "Grid"}),
]
ALLOWED_CHANGES: list[tuple[str, str, Any]] = [
    ("Experiment", "spec.trials", {"max": 60, "parallel": 4, "maxFailed": 9, "timeout": "1h"}),
    ("Experiment", "spec.suspend", True),
    ("Experiment", "spec.promote", "None"),
    ("TrainingJob", "spec.suspend", True),
    ("TrainingJob", "metadata.labels", {"team": "a"}),
    ("Dataset", "spec.expectations.minRows", 20),
    ("Dataset", "spec.source", {"configMapRef": {"name": "a", "key": "b"}}),
    ("Model", "spec.description", "other"),
    ("ModelVersion", "metadata.labels", {"team": "a"}),
    ("ModelApproval", "metadata.labels", {"team": "a"}),
    ("Model", "spec.approval", GONE),
    ("Model", "spec.tests", GONE),
    ("Model", "spec.tests", {"latency": {"quantile": "0.5", "max": "1s"}}),
    ("ModelDeployment", "spec.model", {"uri": "s3://models/x", "digest": DIGEST}),
    ("Dataset", "spec.source", {"derive": {"from": [{"name": "visits"}], "sql": "select 1"}}),
    ("Dataset", "spec.refresh", GONE),
    ("Workspace", "spec.store.uri", "s3://others"),
    ("Workspace", "spec.training.maxParallel", 1),
    ("Pipeline", "spec.stages.1.trainingJob.spec.seed", 8),
    ("PipelineRun", "spec.cancel", True),
    ("Workspace", "spec.training.maxParallel", GONE),
    ("UseCase", "spec.priority", GONE),
    ("UseCase", "spec.requirements", []),
    ("UseCase", "spec.requirements.0.metric.min", "1"),
    ("Model", "spec.useCaseRef", GONE),
    ("ModelDeployment", "spec.monitoring", GONE),
    ("ModelDeployment", "spec.monitoring.serviceLevels.availability", GONE),
]


class Cause(NamedTuple):
    """One thing that the API server has against an object."""

    field: str
    reason: str
    message: str


class Server:
    """The API server.  Whether an object may be created is asked in a namespace where there is none."""

    def __init__(self, config: str, empty: str, lived_in: str) -> None:
        self.empty, self.lived_in = empty, lived_in
        self.api = client.CustomObjectsApi(configuration.new_client_from_config(config))
        self._living: dict[str, Node] = {}

    def living(self, kind: str) -> Node:
        """An object made of the kind's first example, without a status."""
        if kind not in self._living:
            create = self.api.create_namespaced_custom_object
            document = manifest(kind)
            with self._signed(document):
                self._living[kind] = create(*_where(kind, self.lived_in), body=document)
        return self._living[kind]

    def answer(self, kind: str, document: Node, part: str = "spec") -> list[Cause]:
        """What the API server has against creating this object, or, where `part` is status, against its status."""
        if part == "status":
            return self.change(kind, {**self.living(kind), "status": document["status"]}, part)
        create = self.api.create_namespaced_custom_object
        with self._signed(document):
            return _causes(create, *_where(kind, self.empty), body=document, dry_run="All", field_validation="Strict")

    @contextmanager
    def _signed(self, document: Node) -> Iterator[None]:
        """Where the policies are installed, a ModelApproval is created by who it says, and by nobody else."""
        spec = document.get("spec")
        by = spec.get("by") if isinstance(spec, dict) else None
        headers = self.api.api_client.default_headers
        if document["kind"] == "ModelApproval" and isinstance(by, str) and by:
            headers["Impersonate-User"], headers["Impersonate-Group"] = by, "system:masters"
        try:
            yield
        finally:
            for header in ("Impersonate-User", "Impersonate-Group"):
                headers.pop(header, None)

    def change(self, kind: str, document: Node, part: str = "spec") -> list[Cause]:
        """What the API server has against putting this in the place of the living object."""
        replace = self.api.replace_namespaced_custom_object
        if part == "status":
            replace = self.api.replace_namespaced_custom_object_status
        name = document["metadata"]["name"]
        where = _where(kind, self.lived_in)
        return _causes(replace, *where, name, body=document, dry_run="All", field_validation="Strict")

    def write_status(self, kind: str, status: Node) -> Node:
        """The living object with this status, which is written as the operator does it: by server-side apply."""
        name = self.living(kind)["metadata"]["name"]
        document = complete(kind, {"metadata": {"name": name}, "status": status})
        written: Node = self.api.patch_namespaced_custom_object_status(
            *_where(kind, self.lived_in),
            name,
            body=document,
            field_manager="modelmill",
            _content_type="application/apply-patch+yaml",
        )
        return written


def _where(kind: str, namespace: str) -> tuple[str, str, str, str]:
    return GROUP, VERSION, namespace, crds()[kind]["spec"]["names"]["plural"]


def _causes(ask: Callable[..., Any], *where: str, **more: Any) -> list[Cause]:
    try:
        ask(*where, **more)
    except client.ApiException as error:
        if error.status != 422:
            raise
        said = json.loads(error.body)
        causes = [Cause(c["field"], c["reason"], c["message"]) for c in said["details"]["causes"]]
        # Where the types are wrong it adds that it did not look at the rules.
        return [cause for cause in causes if cause.field != "<nil>"]
    return []


@pytest.fixture(scope="module")
def server(config: str) -> Iterator[Server]:
    names = [f"test-{os.getpid()}-schema-{part}" for part in ("empty", "lived-in")]
    kubectl = Kubectl(config)
    for name in names:
        kubectl.run("create", "namespace", name)
    yield Server(config, *names)
    kubectl.run("delete", "namespace", *names, "--wait=false")


def manifest(kind: str, number: int = 0) -> Node:
    return complete(kind, OBJECTS[kind][number])


def complete(kind: str, document: Node) -> Node:
    return {"apiVersion": API_VERSION, "kind": kind, **document}


def changed(kind: str, path: str, value: Any, document: Node) -> Node:
    """The document with `value` at a path such as spec.columns.0.min."""
    location = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    return complete(kind, Change(kind, 0, location, value).document(document))


EXAMPLES = [(kind, number) for kind, examples in OBJECTS.items() for number in range(len(examples))]


def shown(value: Any) -> str:
    text = "nothing" if value is GONE else repr(value)
    return text if len(text) < 40 else f"{type(value).__name__} of {len(value)}"


def test_the_examples_reach_every_field_of_every_kind() -> None:
    paths = {(kind, path) for kind in crds() for path, _ in nodes(schema(kind)) if path.startswith(("spec", "status"))}
    assert not sorted((kind, path) for kind, path in paths if next(reached(kind, path), None) is None)


def test_the_texts_are_of_every_pattern_and_of_no_other() -> None:
    patterns = {bound.limit for bound in BOUNDS if bound.keyword in ("pattern", "format") and bound.limit != "int64"}
    assert not patterns - set(TEXTS), "no texts are known that they let in and keep out"
    assert not set(TEXTS) - patterns, "there are no such patterns"


@pytest.mark.parametrize(("kind", "number"), EXAMPLES)
def test_a_good_object_is_taken_with_its_status(server: Server, kind: str, number: int) -> None:
    document = manifest(kind, number)
    assert server.answer(kind, document) == []
    if "status" in document:
        assert server.answer(kind, document, "status") == []


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_what_breaks_a_bound_is_refused_by_name(server: Server, bound: Bound) -> None:
    refusals = outside(bound)
    assert refusals, "no value is known that breaks it: does it bound anything?"
    for change, field, words in refusals:
        said = server.answer(bound.kind, complete(bound.kind, change.document()), bound.part)
        assert any(c.field == field and words in c.message for c in said), (shown(change.value), said or "was taken")
        rest = [c for c in said if not c.field.lstrip(".").startswith(field) and not is_of_a_rule(bound.kind, c)]
        assert not rest, (shown(change.value), rest)


@pytest.mark.parametrize("bound", [b for b in BOUNDS if b.keyword not in WITHOUT_BOUNDARY], ids=str)
def test_what_is_just_inside_of_a_bound_is_taken(server: Server, bound: Bound) -> None:
    values = inside(bound)
    assert values, "no value is known that lies just inside of it: can it be reached?"
    asked = 0
    for changes in values:
        documents = [document for change in changes if (document := change.settled()) is not None]
        answers = [server.answer(bound.kind, complete(bound.kind, document), bound.part) for document in documents]
        assert [] in answers or not answers, (shown(changes[0].value), answers)
        asked += len(answers)
    assert asked, "nothing could be asked"


class Rule(NamedTuple):
    """A CEL rule where it stands in a schema."""

    kind: str
    path: str
    written: Node

    def __str__(self) -> str:
        field = (self.path + self.written.get("fieldPath", "")).removeprefix(".")
        return f"{self.kind} {field}: {self.written['message']}"

    def field(self, path: str) -> str:
        """The field that the answer has to name, where the object was changed at that path."""
        field = (self.path + self.written.get("fieldPath", "")).removeprefix(".")
        for index in filter(str.isdigit, path.split(".")):
            field = field.replace("[]", f"[{index}]", 1)
        return field


DECLARED = [
    Rule(kind, path, written)
    for kind in crds()
    for path, node in nodes(schema(kind))
    for written in node.get("x-kubernetes-validations", ())
]


def is_of_a_rule(kind: str, cause: Cause) -> bool:
    """Where only a bound is broken, and no type is wrong, the rules are looked at too."""
    return any(rule.kind == kind and rule.written["message"] in cause.message for rule in DECLARED)


def test_the_table_has_every_rule_and_no_other() -> None:
    names = [str(rule) for rule in DECLARED]
    assert not set(names) - set(RULES), "no example breaks them"
    assert not set(RULES) - set(names), "there are no such rules"
    assert len(set(names)) == len(names), "an answer could not be told from another rule's"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [(name, path, value) for name, broken in RULES.items() for path, value in broken],
    ids=lambda value: value if isinstance(value, str) else shown(value),
)
def test_what_breaks_a_rule_is_refused_with_its_words(server: Server, name: str, path: str, value: Any) -> None:
    (rule,) = [rule for rule in DECLARED if str(rule) == name]
    if "oldSelf" in rule.written["rule"]:
        said = server.change(rule.kind, changed(rule.kind, path, value, server.living(rule.kind)))
    else:
        said = server.answer(rule.kind, changed(rule.kind, path, value, manifest(rule.kind)))
    assert [(cause.field, cause.reason) for cause in said] == [(rule.field(path), rule.written["reason"])], said
    assert rule.written["message"] in said[0].message
    assert (": found " in said[0].message) == ("messageExpression" in rule.written)


@pytest.mark.parametrize(
    ("kind", "path", "value"), ALLOWED, ids=lambda value: value if isinstance(value, str) else None
)
def test_what_no_rule_forbids_is_taken(server: Server, kind: str, path: str, value: Any) -> None:
    assert server.answer(kind, changed(kind, path, value, manifest(kind))) == []


@pytest.mark.parametrize(("kind", "path", "value"), ALLOWED_CHANGES, ids=lambda v: v if isinstance(v, str) else None)
def test_what_may_be_changed_later(server: Server, kind: str, path: str, value: Any) -> None:
    assert server.change(kind, changed(kind, path, value, server.living(kind))) == []


@pytest.mark.parametrize("kind", OBJECTS)
def test_the_largest_status_is_stored(config: str, kubectl: Kubectl, kind: str) -> None:
    status = largest(schema(kind)["properties"]["status"])
    written = Server(config, kubectl.namespace, kubectl.namespace).write_status(kind, status)
    assert written["status"] == status


def test_a_run_that_was_cancelled_stays_cancelled(kubectl: Kubectl) -> None:
    kubectl.apply(changed("PipelineRun", "spec.cancel", True, manifest("PipelineRun")))
    said = kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest("PipelineRun")), check=False).stderr
    assert "spec.cancel: Forbidden: what was cancelled stays cancelled" in said, said


def test_kubectl_apply_says_which_field_must_not_change(kubectl: Kubectl) -> None:
    document = manifest("TrainingJob")
    kubectl.run("apply", "-f", "-", stdin=json.dumps(document))
    other = changed("TrainingJob", "spec.data.target", "other", document)
    said = kubectl.run("apply", "-f", "-", stdin=json.dumps(other), check=False).stderr
    assert f'The TrainingJob "forest" is invalid: spec.data: Forbidden: {IMMUTABLE}' in said, said


def test_kubectl_explain_says_what_a_list_is_once(kubectl: Kubectl) -> None:
    def told() -> str:
        page = kubectl.output("explain", "dataset.spec.columns")
        return " ".join(page.partition("DESCRIPTION:")[2].partition("FIELDS:")[0].split())

    wanted = schema("Dataset")["properties"]["spec"]["properties"]["columns"]["description"]
    # What the API server publishes follows the CRDs after a moment.
    eventually(lambda: told() == wanted, wanted, 30, told)
    assert "<no description>" not in kubectl.output("explain", "dataset.spec.columns")


def test_the_scale_subresource_scales(kubectl: Kubectl) -> None:
    kubectl.apply(manifest("ModelDeployment"))
    kubectl.run("scale", "modeldeployment/triage", "--replicas=4")
    live = kubectl.get("mdep", "triage")
    assert live is not None
    assert live["spec"]["replicas"] == 4


def test_kubectl_get_modelmill_lists_every_kind(kubectl: Kubectl) -> None:
    documents = {kind: manifest(kind) for kind in OBJECTS}
    documents["ModelApproval"] = changed("ModelApproval", "spec.by", kubectl.user(), documents["ModelApproval"])
    kubectl.apply(*documents.values())
    listed = kubectl.output("get", "modelmill", "-o", "name")
    assert sorted(line.split(".")[0] for line in listed.splitlines()) == sorted(kind.lower() for kind in OBJECTS)
