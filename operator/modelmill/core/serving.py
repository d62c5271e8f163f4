"""Serving: how a revision's Deployment and the Service in front of it look."""

from dataclasses import dataclass
from typing import Any

from modelmill.api.schema import GROUP
from modelmill.core import pods
from modelmill.core.plan import Subject
from modelmill.core.pods import Resources, StoreAccess
from modelmill.core.resources import Manifest
from modelmill_contracts import digest, environment

NAME_LABEL = f"{GROUP}/modeldeployment"
REVISION_LABEL = f"{GROUP}/revision"
VERSION_LABEL = f"{GROUP}/version"

RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
DRAIN_SECONDS = 10  # a stopping pod still answers while every node's proxy learns that it goes
GRACE_SECONDS = DRAIN_SECONDS + 35


@dataclass(frozen=True)
class Revision:
    """What a user chose to serve.  The operator's own defaults are no part of it."""

    uri: str
    digest: str
    version: int | None
    store: StoreAccess
    resources: Resources  # as declared: defaults may change with the operator

    def id(self, subject: Subject) -> str:
        """Eight hex digits: equal choices of one ModelDeployment are one revision."""
        location = self.store.location
        chosen = {
            "of": subject.uid,
            "uri": self.uri,
            "digest": self.digest,
            "version": self.version,
            "store": [location.uri, location.endpoint, location.region, self.store.secret, *self.store.more],
            "resources": self.resources,
        }
        return digest.hex_of(digest.of_json(chosen))[:8]


def deployment_name(subject: Subject, revision: str) -> str:
    """The name of a revision's Deployment."""
    return f"{subject.name}-{revision}"


def revision_of(name: str) -> str:
    """The revision whose Deployment has this name."""
    return name.rpartition("-")[2]


def deployment(subject: Subject, kind: str, revision: Revision, replicas: int) -> Manifest:
    """The Deployment of a revision.  It is created once; later operators only scale it."""
    id_ = revision.id(subject)
    labels = {
        **pods.labels(subject, kind),
        "app.kubernetes.io/name": "modelmill-server",
        REVISION_LABEL: id_,
        **({VERSION_LABEL: str(revision.version)} if revision.version is not None else {}),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(subject, id_),
            "namespace": subject.namespace,
            "labels": labels,
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,  # its template never changes
            "selector": {"matchLabels": {NAME_LABEL: subject.name, REVISION_LABEL: id_}},
            "template": {
                "metadata": {
                    "labels": {**dict(revision.store.identity.labels), **labels},
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(environment.METRICS_PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": _pod_spec(subject, revision),
            },
        },
    }


def _pod_spec(subject: Subject, revision: Revision) -> dict[str, Any]:
    image = subject.settings.server_image
    location = {
        "name": environment.STORE_LOCATION,
        "value": digest.canonical_json(revision.store.location).decode(),
    }
    limits = pods.with_defaults(revision.resources, RESOURCES)
    fetch = pods.container(
        "fetch",
        image,
        ["fetch", revision.uri, revision.digest, environment.MODEL_FOLDER],
        # Only this container has the store's credentials: what parses requests has none.
        variables=[location, *pods.secret_variables(revision.store.secret, revision.store.location.uri)],
        mounts={
            "tmp": (environment.WORK_FOLDER, False),
            **revision.store.mounts(read_only=True),
            "model": (environment.MODEL_FOLDER, False),
        },
        limits=limits,
    )
    version = str(revision.version) if revision.version is not None else digest.label_of(revision.digest)
    server = pods.container(
        "server",
        image,
        [
            "serve",
            environment.MODEL_FOLDER,
            f"--name={subject.name}",
            f"--version={version}",
            f"--digest={revision.digest}",
            f"--drain-seconds={DRAIN_SECONDS}",
            "--host=",  # every address of the pod
        ],
        variables=[],
        mounts={
            "tmp": (environment.WORK_FOLDER, False),
            "model": (environment.MODEL_FOLDER, True),
            "routes": (environment.ROUTES_FOLDER, True),
        },
        limits=limits,
        ports=[
            {"name": "http", "containerPort": environment.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": environment.GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": environment.METRICS_PORT, "protocol": "TCP"},
        ],
        # The server is alive before its model is loaded, so that a slow load needs no probe of its own.
        readinessProbe=_probe("/v2/health/ready", period=1, failures=3),
        livenessProbe=_probe("/v2/health/live", period=10, failures=3),
    )
    routes = {"name": f"{subject.name}-routes", "optional": True}
    return pods.pod_spec(
        [server],
        # The routes are mounted from the start, so that a rollout later needs no new pods.
        [*revision.store.volumes, {"name": "model", "emptyDir": {}}, {"name": "routes", "configMap": routes}],
        initContainers=[fetch],
        terminationGracePeriodSeconds=GRACE_SECONDS,
        **revision.store.pod,
    )


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def service(subject: Subject, kind: str, revision: str) -> Manifest:
    """The Service that callers know; which revision serves is its selector."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": subject.name,
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            "selector": {NAME_LABEL: subject.name, REVISION_LABEL: revision},
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
                {
                    "name": "grpc",
                    "port": environment.GRPC_PORT,
                    "protocol": "TCP",
                    "targetPort": "grpc",
                    "appProtocol": "kubernetes.io/h2c",  # without it, a gateway speaks HTTP/1.1
                },
            ],
        },
    }


def scaled(subject: Subject, name: str, replicas: int) -> Manifest:
    """The one field of a revision's Deployment that changes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": subject.namespace},
        "spec": {"replicas": replicas},
    }
