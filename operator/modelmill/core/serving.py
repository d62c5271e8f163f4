"""Serving: how a revision's Deployment and the Service in front of it look."""

import re
from dataclasses import dataclass
from typing import Any

from modelmill.api.modeldeployment import Container
from modelmill.api.schema import GROUP
from modelmill.core import capture, pods
from modelmill.core.capture import Chosen
from modelmill.core.plan import Subject
from modelmill.core.pods import Resources, StoreAccess
from modelmill.core.resources import Manifest
from modelmill_contracts import digest, environment
from modelmill_contracts import routes as routes_file

NAME_LABEL = f"{GROUP}/modeldeployment"
REVISION_LABEL = f"{GROUP}/revision"
VERSION_LABEL = f"{GROUP}/version"

RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}  # for each worker
# Of the server in front of a user's own: it has no model, only requests and answers on their way.
FRONT_RESOURCES: Resources = (
    ("limits", (("memory", "512Mi"),)),
    ("requests", (("cpu", "100m"), ("memory", "64Mi"))),
)
_PORTS = {"http": environment.HTTP_PORT, "grpc": environment.GRPC_PORT, "metrics": environment.METRICS_PORT}
_PORTS_OF_A_FRONT = {"http": environment.HTTP_PORT, "metrics": environment.METRICS_PORT}
SERVICE_PORT = 80  # of the one that callers know, for HTTP
CANDIDATE_PORT = 80  # of the Service that leads to a rollout's candidate
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
    container: Container | None  # the user's own server
    workers: int = 1
    capture: Chosen | None = None
    model: str | None = None  # that it is a version of; which files are served does not depend on it

    def id(self, subject: Subject) -> str:
        """Eight hex digits: equal choices of one ModelDeployment are one revision."""
        location = self.store.location
        account = [location.account] if location.account else []  # revisions of stores without one stay what they are
        chosen: dict[str, Any] = {
            "of": subject.uid,
            "uri": self.uri,
            "digest": self.digest,
            "version": self.version,
            "store": [location.uri, location.endpoint, location.region, self.store.secret, *account, *self.store.more],
            "resources": self.resources,
        }
        if self.workers != 1:  # what had one before there was a choice is the same revision
            chosen["workers"] = self.workers
        if self.capture is not None:
            chosen["capture"] = [self.capture.sample, self.capture.columns]
        if self.container is not None:
            # What a later version of the kind may add, with a default, must not change what is declared today.
            chosen["container"] = self.container.model_dump(exclude_defaults=True)
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
    limits = pods.with_defaults(revision.resources, _resources(revision.workers))
    fetch = fetching(subject, revision.uri, revision.digest, revision.store, limits)
    model = {"model": (environment.MODEL_FOLDER, True)}
    grace = GRACE_SECONDS
    if revision.container is None:
        first, volumes = [fetch], ["model"]
        command = ["serve", environment.MODEL_FOLDER]
        command += [f"--workers={revision.workers}"] if revision.workers > 1 else []
        if revision.capture is not None:
            first, volumes = [fetch, capture.sidecar(subject, revision.store)], ["model", capture.VOLUME]
            command, model, grace = (
                command + revision.capture.arguments,
                model | capture.MOUNT,
                grace + capture.GRACE_SECONDS,
            )
        server = _server(subject, revision, command, model, limits, _PORTS)
    else:
        # Beside the server in front of it, and not among it: so kubelet stops it only when that one has drained.
        own = {**_own(subject, revision, revision.container, limits), "restartPolicy": "Always"}
        first, volumes = [fetch, own], ["model", "own-tmp"]
        upstream = f"--upstream=http://127.0.0.1:{revision.container.port}"
        front = ["front", upstream, f"--protocol={revision.container.protocol}"]
        server = _server(subject, revision, front, {}, FRONT_RESOURCES, _PORTS_OF_A_FRONT)
    routes = {"name": routes_name(subject), "optional": True}
    return pods.pod_spec(
        [server],
        # The routes are mounted from the start, so that a rollout later needs no new pods.
        [
            *revision.store.volumes,
            *({"name": name, "emptyDir": {}} for name in volumes),
            {"name": "routes", "configMap": routes},
        ],
        initContainers=first,
        terminationGracePeriodSeconds=grace,
        **revision.store.pod,
    )


def _resources(workers: int) -> dict[str, dict[str, str]]:
    """What a pod gets where nothing is declared: each worker has the model in its own memory."""
    return {
        key: {name: re.sub(r"^\d+", lambda number: str(workers * int(number[0])), value) for name, value in one.items()}
        for key, one in RESOURCES.items()
    }


def fetching(
    subject: Subject,
    uri: str,
    expected: str,
    store: StoreAccess,
    limits: Resources,
    *,
    name: str = "fetch",
    volume: str = "model",
    folder: str = environment.MODEL_FOLDER,
) -> dict[str, Any]:
    """The init container that brings the artifact with the digest `expected` to a volume."""
    return pods.container(
        name,
        subject.settings.server_image,
        ["fetch", uri, expected, folder],
        # Only this container, and the one that writes what is captured, have the store's credentials: what parses
        # requests has none.
        variables=pods.store_variables(store),
        mounts={
            "tmp": (environment.WORK_FOLDER, False),
            **store.mounts(read_only=True),
            volume: (folder, False),
        },
        limits=limits,
    )


def told(name: str, version: str, expected: str, drain: int = DRAIN_SECONDS) -> list[str]:
    """What a server is told of the model that it serves, and for how long it goes on when it is to end."""
    return [f"--name={name}", f"--version={version}", f"--digest={expected}", f"--drain-seconds={drain}"]


def _server(
    subject: Subject,
    revision: Revision,
    command: list[str],
    mounts: dict[str, tuple[str, bool]],
    limits: Resources,
    ports: dict[str, int],
) -> dict[str, Any]:
    """The container that callers talk to."""
    return pods.container(
        "server",
        subject.settings.server_image,
        [
            *command,
            *told(subject.name, _version(revision), revision.digest),
            "--host=",  # every address of the pod
        ],
        variables=[],
        mounts={
            "tmp": (environment.WORK_FOLDER, False),
            **mounts,
            "routes": (environment.ROUTES_FOLDER, True),
        },
        limits=limits,
        ports=[{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        # The server is alive before its model is loaded, so that a slow load needs no probe of its own.
        readinessProbe=_probe("/v2/health/ready", "http", period=1, failures=3),
        # Not on the callers' port: a server that is full of them is alive.
        livenessProbe=_probe("/healthz", "metrics", period=10, failures=3),
    )


def _own(subject: Subject, revision: Revision, container: Container, limits: Resources) -> dict[str, Any]:
    """The user's server: the model's files, a /tmp that nothing of ours shares, and what to serve them as."""
    told = {
        environment.OWN_MODEL: environment.MODEL_FOLDER,
        environment.OWN_NAME: subject.name,
        environment.OWN_VERSION: _version(revision),
        environment.OWN_PORT: str(container.port),
    }
    return pods.container(
        "upstream",
        container.image,
        list(container.args),
        variables=[pods.variable(name, value) for name, value in told.items()],
        mounts={"own-tmp": (environment.WORK_FOLDER, False), "model": (environment.MODEL_FOLDER, True)},
        limits=limits,
        **({"command": list(container.command)} if container.command else {}),
    )


def _version(revision: Revision) -> str:
    return str(revision.version) if revision.version is not None else digest.label_of(revision.digest)


def _probe(path: str, port: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
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
                {"name": "http", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": "http"},
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


def candidate_service(subject: Subject, kind: str, revision: str, annotations: dict[str, str]) -> Manifest:
    """The Service by which pods that serve reach the revision that is rolled out."""
    whole = service(subject, kind, revision)
    http, *_ = whole["spec"]["ports"]
    metadata = {**whole["metadata"], "name": candidate_name(subject), "annotations": annotations}
    return {**whole, "metadata": metadata, "spec": {**whole["spec"], "ports": [{**http, "port": CANDIDATE_PORT}]}}


def candidate_name(subject: Subject) -> str:
    """The name of the Service that leads to the revision that is rolled out."""
    return f"{subject.name}-candidate"


def routes_name(subject: Subject) -> str:
    """The name of the ConfigMap that tells pods of a rollout."""
    return f"{subject.name}-routes"


def routes(subject: Subject, kind: str, text: str, annotations: dict[str, str]) -> Manifest:
    """The ConfigMap with this routes file."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": routes_name(subject),
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "annotations": annotations,
            "ownerReferences": [subject.reference(kind)],
        },
        "data": {routes_file.FILE: text},
    }


def scaled(subject: Subject, name: str, replicas: int) -> Manifest:
    """The one field of a revision's Deployment that changes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": subject.namespace},
        "spec": {"replicas": replicas},
    }
