"""Workers: the pods of one training that work together, how they find each other, and who may talk to them.

The Job is an Indexed one, whose first pod's end is the end of it.  A Service without an address of its own gives each
pod a name; a NetworkPolicy opens these pods to each other, and to nobody else.  Both are there before the Job is made.
"""

from dataclasses import dataclass
from typing import Any

from modelmill.core import network, pods
from modelmill.core.network import Policy
from modelmill.core.plan import Apply, Create, Observed, Subject, Write, is_owned
from modelmill.core.resources import OWNER_LABEL, Key, Manifest
from modelmill_contracts import environment

_JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"  # on the pods of a Job, by Kubernetes


@dataclass(frozen=True)
class Workers:
    """So many pods of the Job of that name, which are known by names of that Service."""

    count: int
    job: str
    service: str

    @property
    def first(self) -> str:
        """The host name of the first pod."""
        return f"{self.job}-0.{self.service}"

    @property
    def of_job(self) -> dict[str, Any]:
        """What the Job's spec says of it.  The others may go on: what is left to do is the first one's."""
        return {
            "completions": self.count,
            "parallelism": self.count,
            "completionMode": "Indexed",
            "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        }

    @property
    def variables(self) -> list[dict[str, Any]]:
        """What our own container is told; which of the pods it is, Kubernetes tells it."""
        return [
            pods.variable(environment.WORKERS, str(self.count)),
            pods.variable(environment.SCHEDULER, f"{self.first}:{environment.SCHEDULER_PORT}"),
            pods.label_variable(environment.JOB_UID, _JOB_UID_LABEL),
        ]

    @property
    def rendezvous(self) -> list[dict[str, Any]]:
        """What a user's container is told: as one process of many, and as a node of torchrun's (PET_).

        The ranks are those of the pods, so that the first pod has the process that usually writes the model.
        """
        host, port, count = self.first, str(environment.RENDEZVOUS_PORT), str(self.count)
        return [
            *(
                pods.variable(name, value)
                for name, value in (
                    ("MASTER_ADDR", host),
                    ("MASTER_PORT", port),
                    ("WORLD_SIZE", count),
                    ("PET_NNODES", count),
                    ("PET_MASTER_ADDR", host),
                    ("PET_MASTER_PORT", port),
                    ("PET_RDZV_BACKEND", "static"),
                    ("PET_RDZV_ENDPOINT", f"{host}:{port}"),
                    ("PET_RDZV_ID", self.job),
                )
            ),
            pods.label_variable("RANK", pods.INDEX_LABEL),
            pods.label_variable("PET_NODE_RANK", pods.INDEX_LABEL),
        ]


@dataclass(frozen=True)
class Between:
    """So many workers of an object, and what is there of their Service and their NetworkPolicy."""

    count: int
    service: str  # Current, Outdated, Absent, or Taken (the name is somebody else's)
    uid: str  # of the Service
    policy: Policy
    ports: tuple[int, ...]  # by which they talk to each other; none: by any

    @property
    def ready(self) -> bool:
        return self.service == self.policy.state == "Current"

    @property
    def taken(self) -> str | None:
        """The kind of which somebody else has the name, if so."""
        if self.service == "Taken":
            return "Service"
        return "NetworkPolicy" if self.policy.state == "Taken" else None

    def writes(self, subject: Subject, kind: str, name: str) -> tuple[Write, ...]:
        """What brings it about."""
        wanted = service(subject, kind, name)
        made: tuple[Write, ...] = ()
        if self.service == "Absent":
            made = (Create(wanted),)
        elif self.service == "Outdated":
            made = (Apply(wanted, self.uid),)
        return (*made, *self.policy.writes(network.workers(subject, kind, name, self.ports)))


def service_name(name: str) -> str:
    """The Service, and the NetworkPolicy, of the object of that name."""
    return f"{name}-workers"


def dependencies(namespace: str, uid: str) -> tuple[Key, ...]:
    """What `observe` depends on."""
    return Key("Service", namespace, OWNER_LABEL, uid), Key("NetworkPolicy", namespace, OWNER_LABEL, uid)


def observe(observed: Observed, kind: str, count: int, ports: tuple[int, ...]) -> Between:
    """What is there for so many workers of the observed object, who talk to each other by these ports."""
    subject = observed.subject
    name = service_name(subject.name)
    policy = Policy.observe(observed, network.workers(subject, kind, name, ports))
    for live in observed.find("Service", OWNER_LABEL, observed.uid):
        if live["metadata"]["name"] == name and is_owned(live, observed.uid):
            current = live["spec"].get("selector") == _selector(subject)
            return Between(count, "Current" if current else "Outdated", live["metadata"]["uid"], policy, ports)
    return Between(count, "Taken" if ("Service", name) in observed.foreign else "Absent", "", policy, ports)


def service(subject: Subject, kind: str, name: str) -> Manifest:
    """The Service by which each pod has a name, from its start on: pods wait for each other before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _selector(subject)},
    }


def _selector(subject: Subject) -> dict[str, str]:
    return {OWNER_LABEL: subject.uid}
