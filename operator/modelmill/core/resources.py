"""Which kinds the control plane reads and writes, where the API server has them, and what of them is read.

A projection keeps of an object only what the core reads.  The cache holds nothing else, and an event that
changes nothing else wakes nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelmill.api.crd import KINDS
from modelmill.api.schema import GROUP, VERSION
from modelmill.core import conditions
from modelmill_contracts import digest, routes

Manifest = Mapping[str, Any]

MANAGED_BY = {"app.kubernetes.io/managed-by": "modelmill"}
MANAGED_SELECTOR = "app.kubernetes.io/managed-by=modelmill"
ROUTES_ANNOTATION = f"{GROUP}/routes"  # of a pod: which routes it was told of
OWNER_LABEL = f"{GROUP}/owner-uid"  # on every child and on its pods: the UID of our object
EXPERIMENT_LABEL = f"{GROUP}/experiment"  # of a trial, and of what somebody wants to stand beside the trials
TRIAL_LABEL = f"{GROUP}/trial"  # its number


class Key(NamedTuple):
    """One entry of the cache's index: the objects of a kind in a namespace whose `field` has `value`."""

    kind: str
    namespace: str
    field: str
    value: str


@dataclass(frozen=True)
class ResourceType:
    """A kind as the API server knows it, and how the cache keeps it."""

    kind: str
    group: str  # "" is the core group
    version: str
    plural: str
    project: Callable[[Manifest], dict[str, Any]]
    fields: Mapping[
        str, Callable[[Manifest], str | tuple[str, ...] | None]
    ]  # what it can be found by, next to its name
    label_selector: str | None = None  # on the server: what is not ours never gets here
    field_selector: str | None = None
    owned: bool = False  # made by us for one of our objects, where we make it
    optional: bool = False  # watched only once an object of ours depends on it; its CRD may not be there

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(p for p in (f"{root}{scope}/{self.plural}", name, subresource) if p)


def dig(manifest: Any, *path: str) -> Any:
    """The value at a path of keys, or None where any part of it is missing."""
    for key in path:
        if not isinstance(manifest, Mapping):
            return None
        manifest = manifest.get(key)
    return manifest


def _metadata(manifest: Manifest) -> dict[str, Any]:
    kept = (
        "name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations",
        "creationTimestamp", "deletionTimestamp", "ownerReferences",
    )  # fmt: skip
    metadata = {key: manifest["metadata"][key] for key in kept if key in manifest["metadata"]}
    annotations = metadata.get("annotations")
    if annotations and "kubectl.kubernetes.io/last-applied-configuration" in annotations:
        metadata["annotations"] = {
            k: v for k, v in annotations.items() if k != "kubectl.kubernetes.io/last-applied-configuration"
        }
    return metadata


def _own(manifest: Manifest) -> dict[str, Any]:
    return {
        "metadata": _metadata(manifest),
        "spec": manifest.get("spec") or {},
        "status": manifest.get("status") or {},
    }


def _job(manifest: Manifest) -> dict[str, Any]:
    status = manifest.get("status") or {}
    return {
        "metadata": _metadata(manifest),
        "status": {
            "conditions": [
                {k: c.get(k) for k in ("type", "status", "reason", "message", "lastTransitionTime")}
                for c in status.get("conditions", ())
            ],
            "failed": status.get("failed"),  # how many pods it has had that did not end well
            # Of several workers those that are tried no more.
            **({"failedIndexes": status["failedIndexes"]} if "failedIndexes" in status else {}),
        },
    }


def _pod(manifest: Manifest) -> dict[str, Any]:
    status = manifest.get("status") or {}
    metadata = _metadata(manifest)
    mark = (metadata.pop("annotations", None) or {}).get(ROUTES_ANNOTATION)
    if mark is not None:
        metadata["annotations"] = {ROUTES_ANNOTATION: mark}
    return {
        "metadata": metadata,
        "status": {
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "message": status.get("message"),
            "podIP": status.get("podIP"),
            "conditions": [
                {k: c.get(k) for k in ("type", "status", "reason", "message")}
                for c in status.get("conditions", ())
                if c.get("type") == "PodScheduled"
            ],
            **{
                key: [
                    {k: c.get(k) for k in ("name", "state", "lastState", "restartCount", "ready")}
                    for c in status.get(key, ())
                ]
                for key in ("initContainerStatuses", "containerStatuses")
            },
        },
    }


def _deployment(manifest: Manifest) -> dict[str, Any]:
    status = manifest.get("status") or {}
    return {
        "metadata": _metadata(manifest),
        "spec": {"replicas": dig(manifest, "spec", "replicas")},
        "status": {
            **{k: status.get(k) for k in ("observedGeneration", "replicas", "availableReplicas")},
            "conditions": [
                {k: c.get(k) for k in ("type", "status", "reason", "message")}
                for c in status.get("conditions", ())
                if c.get("type") == "ReplicaFailure"
            ],
        },
    }


def _service(manifest: Manifest) -> dict[str, Any]:
    spec = manifest.get("spec") or {}
    return {
        "metadata": _metadata(manifest),
        "spec": {"selector": spec.get("selector"), "ports": spec.get("ports"), "clusterIP": spec.get("clusterIP")},
    }


def _config_map(manifest: Manifest) -> dict[str, Any]:
    return {"metadata": _metadata(manifest), "data": {routes.FILE: dig(manifest, "data", routes.FILE)}}


def _autoscaler(manifest: Manifest) -> dict[str, Any]:
    read = ("scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "behavior")
    said = dig(manifest, "status", "conditions") or ()
    return {
        "metadata": _metadata(manifest),
        "spec": {key: dig(manifest, "spec", key) for key in read},
        "status": {
            "conditions": [
                {key: c.get(key) for key in ("type", "status", "reason", "message")}
                for c in said
                if c.get("type") in ("AbleToScale", "ScalingActive")
            ]
        },
    }


def _route(manifest: Manifest) -> dict[str, Any]:
    known = ("type", "status", "reason", "message", "observedGeneration")
    return {
        "metadata": _metadata(manifest),
        "spec": {key: dig(manifest, "spec", key) for key in ("parentRefs", "hostnames", "rules")},
        "status": {
            "parents": [
                {
                    "parentRef": parent.get("parentRef"),
                    "conditions": [{key: c.get(key) for key in known} for c in parent.get("conditions", ())],
                }
                for parent in dig(manifest, "status", "parents") or ()
            ]
        },
    }


def policy_digest(spec: Manifest | None) -> str:
    """What two NetworkPolicies' specs are compared by: the API server drops what is empty."""
    return digest.of_json({key: value for key, value in (spec or {}).items() if value != []})


def _network_policy(manifest: Manifest) -> dict[str, Any]:
    # Long, and only ever compared as a whole.
    return {"metadata": _metadata(manifest), "digest": policy_digest(manifest.get("spec"))}


def _event(manifest: Manifest) -> dict[str, Any]:
    return {
        "metadata": _metadata(manifest),
        **{key: manifest.get(key) for key in ("reason", "message", "involvedObject", "lastTimestamp")},
    }


def _claim(manifest: Manifest) -> dict[str, Any]:
    spec = {key: dig(manifest, "spec", key) for key in ("accessModes", "storageClassName")}
    return {"metadata": _metadata(manifest), "spec": spec, "status": {"phase": dig(manifest, "status", "phase")}}


def _label(name: str) -> Callable[[Manifest], str | None]:
    return lambda manifest: dig(manifest, "metadata", "labels", name)


def _path(*path: str) -> Callable[[Manifest], str | None]:
    return lambda manifest: dig(manifest, *path)


def _involved(manifest: Manifest) -> str:
    involved = manifest["involvedObject"]
    return f"{involved.get('kind')}/{involved.get('name')}"


MODEL_FIELD = "spec.modelRef.name"
SERVES_FIELD = "spec.model.name"
MODELS_FIELD = "models"  # of a ModelDeployment: the Models that it is to serve, or whose versions its history has
ARTIFACT_FIELD = "spec.artifact.digest"
APPROVAL_FIELD = "spec.modelVersionRef.name"
INVOLVED_FIELD = "involvedObject"


def model_dependencies(namespace: str, model: str | None) -> tuple[Key, ...]:
    """What somebody depends on who refers to a model by name: the Model and all its versions; None: nothing."""
    if model is None:
        return ()
    return Key("Model", namespace, "metadata.name", model), Key("ModelVersion", namespace, MODEL_FIELD, model)


USE_CASE_FIELD = "spec.useCaseRef.name"
GOVERNED_FIELD = "governed"  # of a Model: whether it has a use case
TRAINS_FIELD = "trains"  # of a Pipeline: the Models that its stages train


def trained_by(pipeline: Manifest) -> tuple[str, ...]:
    """The Models that the stages of a Pipeline train, by themselves or by an Experiment."""
    found = {trained_by_stage(stage) for stage in dig(pipeline, "spec", "stages") or ()}
    return tuple(sorted(name for name in found if name is not None))


def trained_by_stage(stage: Manifest) -> str | None:
    """The Model that a stage of a Pipeline trains, whether or not a version comes of it."""
    job, template = dig(stage, "trainingJob", "spec"), dig(stage, "experiment", "spec", "template", "spec")
    name: str | None = dig(job, "modelRef", "name") or dig(template, "modelRef", "name")
    return name


DATASET_FIELD = "spec.data.datasetRef.name"
LINEAGE_FIELD = "spec.lineage.dataset.name"
INPUT_FIELD = "input"  # of a Dataset: the Datasets that it is derived from, or that a version of it was
DERIVED_FIELD = "derived"
EXPERIMENT_FIELD = "experiment"  # of a TrainingJob: the UID of the Experiment that it is a trial of
ALL_FIELD = "all"
YES = "True"


def inputs_of(dataset: Manifest) -> tuple[str, ...]:
    """The names of the Datasets that a Dataset is declared to be derived from."""
    return tuple(reference["name"] for reference in dig(dataset, "spec", "source", "derive", "from") or ())


def _ever_inputs(dataset: Manifest) -> tuple[str, ...]:
    history = dig(dataset, "status", "history") or ()
    former = {version["name"] for snapshot in history for version in snapshot.get("from", ())}
    return tuple(sorted({*inputs_of(dataset), *former}))


def _ever_models(deployment: Manifest) -> tuple[str, ...]:
    history = dig(deployment, "status", "history") or ()
    named = {dig(deployment, "spec", "model", "name"), *(promoted.get("model") for promoted in history)}
    return tuple(sorted(name for name in named if name is not None))


def _experiment(job: Manifest) -> str | None:
    owners = dig(job, "metadata", "ownerReferences") or ()
    return next((o["uid"] for o in owners if o.get("controller") and o.get("kind") == "Experiment"), None)


PIPELINE_FIELD = "spec.pipelineRef.name"
REFRESHES_FIELD = "refreshes"  # of a PipelineRun: the Dataset that it waits for now


def refreshing(run: Manifest) -> tuple[str, str] | None:
    """The Dataset that a PipelineRun wants to be looked at now, and the name of its stage; None: it is not there."""
    if "deletionTimestamp" in run["metadata"]:
        return None
    for stage in dig(run, "status", "stages") or ():
        if stage["state"] == "Running" and dig(stage, "made", "kind") == "Dataset":
            return stage["made"]["name"], stage["name"]
    return None


def _refreshes(run: Manifest) -> str | None:
    found = refreshing(run)
    return found[0] if found is not None else None


UNTRACKED_FIELD = "untracked"  # of a TrainingJob: it has ended, and its status says nothing of MLflow


def _untracked(job: Manifest) -> str | None:
    return YES if conditions.has_ended(job) and dig(job, "status", "mlflow") is None else None


def _all(_: Manifest) -> str:
    return YES


_OWN_FIELDS: dict[str, dict[str, Callable[[Manifest], str | tuple[str, ...] | None]]] = {
    "Dataset": {
        INPUT_FIELD: _ever_inputs,
        DERIVED_FIELD: lambda manifest: YES if inputs_of(manifest) else None,
        ALL_FIELD: _all,
    },
    "UseCase": {ALL_FIELD: _all},
    "Model": {
        USE_CASE_FIELD: _path("spec", "useCaseRef", "name"),
        GOVERNED_FIELD: lambda manifest: YES if dig(manifest, "spec", "useCaseRef") else None,
    },
    "Pipeline": {TRAINS_FIELD: trained_by},
    "TrainingJob": {
        MODEL_FIELD: _path("spec", "modelRef", "name"),
        DATASET_FIELD: _path("spec", "data", "datasetRef", "name"),
        EXPERIMENT_FIELD: _experiment,
        UNTRACKED_FIELD: _untracked,
        ALL_FIELD: _all,
    },
    "Experiment": {
        DATASET_FIELD: _path("spec", "template", "spec", "data", "datasetRef", "name"),
        ALL_FIELD: _all,
    },
    "ModelVersion": {
        MODEL_FIELD: _path("spec", "modelRef", "name"),
        LINEAGE_FIELD: _path("spec", "lineage", "dataset", "name"),
        ARTIFACT_FIELD: _path("spec", "artifact", "digest"),
        ALL_FIELD: _all,
    },
    "ModelDeployment": {
        SERVES_FIELD: _path("spec", "model", "name"),
        MODELS_FIELD: _ever_models,
        ALL_FIELD: _all,
    },
    "ModelApproval": {APPROVAL_FIELD: _path("spec", "modelVersionRef", "name")},
    "PipelineRun": {PIPELINE_FIELD: _path("spec", "pipelineRef", "name"), REFRESHES_FIELD: _refreshes},
}

_CHILDREN_TOO = ("TrainingJob",)  # which we make, too: an Experiment its trials

OWN: tuple[ResourceType, ...] = tuple(
    ResourceType(
        kind.__name__,
        GROUP,
        VERSION,
        kind.plural,
        _own,
        _OWN_FIELDS.get(kind.__name__, {}),
        owned=kind.__name__ in _CHILDREN_TOO,
    )
    for kind in KINDS
)

_BY_OWNER = {OWNER_LABEL: _label(OWNER_LABEL)}

CHILDREN: tuple[ResourceType, ...] = (
    ResourceType("Deployment", "apps", "v1", "deployments", _deployment, _BY_OWNER, MANAGED_SELECTOR, owned=True),
    ResourceType("Service", "", "v1", "services", _service, _BY_OWNER, MANAGED_SELECTOR, owned=True),
    ResourceType("ConfigMap", "", "v1", "configmaps", _config_map, _BY_OWNER, MANAGED_SELECTOR, owned=True),
    ResourceType(
        "NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", _network_policy, _BY_OWNER, MANAGED_SELECTOR,
        owned=True,
    ),
    ResourceType("Job", "batch", "v1", "jobs", _job, _BY_OWNER, MANAGED_SELECTOR, owned=True),
    # A pod's owner is a Job or a ReplicaSet, so it is found by the label alone.
    ResourceType("Pod", "", "v1", "pods", _pod, _BY_OWNER, MANAGED_SELECTOR),
    # A Job that may not create pods (quota, policy) says so nowhere else.
    ResourceType(
        "Event", "", "v1", "events", _event, {INVOLVED_FIELD: _involved},
        field_selector="reason=FailedCreate,involvedObject.kind=Job",
    ),
    # A store may be a volume of the user's.
    ResourceType("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", _claim, {}),
)  # fmt: skip

# Of those who ask for it: nobody else pays for a watch, and nobody at all where the API server does not know the kind.
OPTIONAL: tuple[ResourceType, ...] = (
    ResourceType(
        "HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", _autoscaler, _BY_OWNER,
        MANAGED_SELECTOR, owned=True, optional=True,
    ),
    ResourceType(
        "HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", _route, _BY_OWNER, MANAGED_SELECTOR,
        owned=True, optional=True,
    ),
)  # fmt: skip

TYPES: Mapping[str, ResourceType] = {resource.kind: resource for resource in (*OWN, *CHILDREN, *OPTIONAL)}


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there; who defaults or admits objects may have added more."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(key in live and covers(live[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return isinstance(live, list | tuple) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return bool(live == wanted)
