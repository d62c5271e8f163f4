"""Networks: whom the pods of a namespace may talk to, and who may talk to them.

Callers come by the serving pods' HTTP and gRPC ports, from the namespaces that the ModelDeployment names; monitoring
and the operator come by their metrics port, and during a rollout they send requests to one another.  The operator alone
talks to a Job's pod, and asks it how far it is; where one training has several pods, they talk to each other.  Both
kinds reach the store, names, and, for its sources, a Job the world.  Addresses where clouds give out credentials are
only for pods that prove there who they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from modelmill.api.schema import GROUP
from modelmill.core import pods
from modelmill.core.plan import Apply, Create, Observed, Subject, Write, is_owned
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest, policy_digest
from modelmill_contracts import environment, metadata

MONITORING = {f"{GROUP}/monitoring": "true"}  # a namespace's label
OPERATOR = {"app.kubernetes.io/name": "modelmill-operator"}  # the labels of the operator's pods
NAMESPACE_NAME = "kubernetes.io/metadata.name"
_NAMES: dict[str, Any] = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy that an object should have, as it is."""

    state: str  # Current, Outdated, Absent, Taken (the name is somebody else's), Unknown (what it should be)
    uid: str = ""

    @classmethod
    def observe(cls, observed: Observed, wanted: Manifest) -> Self:
        """What is there of the policy that is wanted."""
        name = wanted["metadata"]["name"]
        for live in observed.find("NetworkPolicy", OWNER_LABEL, observed.uid):
            if live["metadata"]["name"] == name and is_owned(live, observed.uid):
                current = live["digest"] == policy_digest(wanted["spec"])
                return cls("Current" if current else "Outdated", live["metadata"]["uid"])
        return cls("Taken" if ("NetworkPolicy", name) in observed.foreign else "Absent")

    def writes(self, wanted: Manifest) -> tuple[Write, ...]:
        """What brings the policy about."""
        if self.state == "Absent":
            return (Create(wanted),)
        return (Apply(wanted, self.uid),) if self.state == "Outdated" else ()


def serving(subject: Subject, kind: str, name: str, namespaces: Iterable[str], store: StoreAccess) -> Manifest:
    """Who may talk to the pods that serve: their own namespace and these, and monitoring."""
    callers: list[dict[str, Any]] = [{"podSelector": {}}, *(_pods_of(namespace) for namespace in namespaces)]
    ingress: list[dict[str, Any]] = [
        {
            "from": callers,
            "ports": [{"protocol": "TCP", "port": port} for port in (environment.HTTP_PORT, environment.GRPC_PORT)],
        },
        {
            "from": [{"namespaceSelector": {"matchLabels": MONITORING}}, _operator(subject)],
            "ports": [{"protocol": "TCP", "port": environment.METRICS_PORT}],
        },
    ]
    selector = {"matchLabels": {f"{GROUP}/{kind.lower()}": subject.name}}
    candidate = {"to": [{"podSelector": selector}], "ports": [{"protocol": "TCP", "port": environment.HTTP_PORT}]}
    return _policy(subject, kind, name, selector, ingress, [_NAMES, {"to": _store(store)}, candidate])


def jobs(subject: Subject, kind: str, name: str, store: StoreAccess, tracking: str | None = None) -> Manifest:
    """What the pods of a namespace's Jobs may reach, `tracking`'s server included; the operator alone talks to them."""
    selector = {"matchLabels": MANAGED_BY, "matchExpressions": [{"key": "job-name", "operator": "Exists"}]}
    world = _world(store)
    near = [*_store(store), *(_where(tracking, world) if tracking is not None else [])]
    named = [peer for number, peer in enumerate(near) if peer not in world and peer not in near[:number]]
    egress = [_NAMES, {"to": [*named, *world]}]
    ports = [{"protocol": "TCP", "port": environment.METRICS_PORT}]
    return _policy(subject, kind, name, selector, [{"from": [_operator(subject)], "ports": ports}], egress)


def _operator(subject: Subject) -> dict[str, Any]:
    return {**_pods_of(subject.settings.namespace), "podSelector": {"matchLabels": OPERATOR}}


def workers(subject: Subject, kind: str, name: str, ports: Iterable[int]) -> Manifest:
    """The pods of one training may talk to each other, by these ports or, where there are none, by any."""
    selector = {"matchLabels": {OWNER_LABEL: subject.uid}}
    each_other: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    opened = {key: value for key, value in each_other.items() if value}
    peers = [{"podSelector": selector}]
    return _policy(subject, kind, name, selector, [{"from": peers, **opened}], [{"to": peers, **opened}])


def _pods_of(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}}}


def _store(store: StoreAccess) -> list[dict[str, Any]]:
    return _where(store.location.endpoint, _world(store))


def _where(endpoint: str | None, world: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where a server is: `host` and `host.namespace[.svc...]` are Services, everything else may be anywhere."""
    try:
        host = (urlsplit(endpoint).hostname or "") if endpoint else ""
    except ValueError:
        host = ""  # no URL: the preflight says so
    labels = host.split(".")
    if not host or ":" in host:
        return world  # the cloud's own, or an IPv6 address
    if len(labels) == 1:
        return [{"podSelector": {}}]
    if len(labels) > 2 and labels[2] == "svc":
        return [_pods_of(labels[1])]
    if len(labels) == 2:
        return [_pods_of(labels[1]), *world]  # host.namespace, or a name of two parts outside
    return world


def _world(store: StoreAccess) -> list[dict[str, Any]]:
    """Everywhere; metadata services only for pods that prove there who they are."""
    if store.by_identity:
        return [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    return [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(metadata.IPV4)}},
        {"ipBlock": {"cidr": "::/0", "except": list(metadata.IPV6)}},
    ]


def _policy(
    subject: Subject,
    kind: str,
    name: str,
    selector: dict[str, Any],
    ingress: list[dict[str, Any]],
    egress: list[dict[str, Any]],
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }
