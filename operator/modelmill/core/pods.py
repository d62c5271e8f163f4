"""Pods: how ours are made, and what keeps one from running, in words that say what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelmill.api.schema import GROUP, AcceleratedResources, ResourceRequirements
from modelmill.core.conditions import moment
from modelmill.core.plan import Subject
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest
from modelmill_contracts import digest, environment, report, task

SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"  # Kubernetes', on the pods of a Job that has several
USERS = "transform"  # the container of a pod of ours that runs a user's image
OUT_OF_MEMORY = "OutOfMemory"

Resources = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # hashable: (("limits", (("memory", "1Gi"),)), ...)


@dataclass(frozen=True)
class Identity:
    """Who pods are for a cloud: their service account, and labels that it asks for."""

    account: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


NOBODY = Identity()


@dataclass(frozen=True)
class StoreAccess:
    """How pods of a namespace reach its store.

    That is the location, and the Secret with the credentials, or the claim whose volume it is, or who the pods are.
    """

    location: task.StoreLocation
    secret: str | None = None
    claim: str | None = None
    identity: Identity = NOBODY

    @property
    def by_identity(self) -> bool:
        """Whether pods prove who they are, which clouds answer at link-local addresses."""
        return self.identity.account is not None or (self.secret is None and self.claim is None)

    @property
    def place(self) -> str:
        """Digest of where it is, however it is reached: what is in one place is not in another."""
        account = [self.location.account] if self.location.account else []
        return digest.of_json([self.location.uri, self.location.endpoint, self.claim, *account])

    @property
    def more(self) -> list[Any]:
        """What says how it is reached besides location and Secret: nothing, where there is nothing more."""
        if self.claim is None and self.identity == NOBODY:
            return []
        return [{"claim": self.claim, "account": self.identity.account, "labels": dict(self.identity.labels)}]

    def mounts(self, *, read_only: bool = False) -> dict[str, tuple[str, bool]]:
        """Where a container has the store's volume, if it is one."""
        return {} if self.claim is None else {"store": (environment.STORE_FOLDER, read_only)}

    @property
    def volumes(self) -> list[dict[str, Any]]:
        """The volumes of a pod with such a container."""
        return [] if self.claim is None else [claim_volume("store", self.claim)]

    @property
    def pod(self) -> dict[str, Any]:
        """What the spec of a pod that reaches the store says of who it is."""
        return {} if self.identity.account is None else {"serviceAccountName": self.identity.account}


@dataclass(frozen=True)
class Trouble:
    """What keeps a pod from doing its work.

    `fatal`: it ended; else it may still come right by itself.  `declared`: it is about what somebody wrote (an image, a
    Secret), not about room in the cluster.
    """

    reason: str
    message: str
    fatal: bool = False
    declared: bool = False


def labels(subject: Subject, kind: str) -> dict[str, str]:
    """The labels of a child and of its pods: whose they are."""
    return {
        **MANAGED_BY,
        OWNER_LABEL: subject.uid,
        f"{GROUP}/{kind.lower()}": subject.name,
    }


def declared(spec: ResourceRequirements | AcceleratedResources) -> Resources:
    """What a user declared, and nothing else."""
    return (("limits", tuple(sorted(spec.limits.items()))), ("requests", tuple(sorted(spec.requests.items()))))


def with_defaults(said: Resources, default: Mapping[str, Mapping[str, str]]) -> Resources:
    """The declared requests and limits over the defaults.

    A declared limit without a request is the request too, as Kubernetes has it.
    """
    own_limits, own_requests = (dict(values) for _, values in said)
    limits = {**default["limits"], **own_limits}
    requests = {**default["requests"], **own_limits, **own_requests}
    if "memory" in own_requests and "memory" not in own_limits:
        limits["memory"] = own_requests["memory"]
    return (("limits", tuple(sorted(limits.items()))), ("requests", tuple(sorted(requests.items()))))


def resources(spec: ResourceRequirements | AcceleratedResources, default: Mapping[str, Mapping[str, str]]) -> Resources:
    """What a user declared, over the defaults."""
    return with_defaults(declared(spec), default)


def _is_accelerator(name: str) -> bool:
    return "/" in name


def accelerators(said: Resources) -> int:
    """How many accelerators there are in the limits."""
    return sum(int(number) for name, number in dict(said)["limits"] if _is_accelerator(name))


def without_accelerators(said: Resources) -> Resources:
    """The same for a container that computes nothing on them."""
    return tuple((key, tuple(v for v in values if not _is_accelerator(v[0]))) for key, values in said)


_KEYS = {
    "gs": ((environment.GOOGLE_KEY, environment.GOOGLE_KEY_FIELD),),
    "az": (
        (environment.AZURE_ACCOUNT, environment.AZURE_ACCOUNT_FIELD),
        (environment.AZURE_KEY, environment.AZURE_KEY_FIELD),
    ),
}
_S3_KEYS = (
    (environment.STORE_ACCESS_KEY, environment.SECRET_ACCESS_KEY_FIELD),
    (environment.STORE_SECRET_KEY, environment.SECRET_SECRET_KEY_FIELD),
)


def variable(name: str, value: str) -> dict[str, Any]:
    """An environment variable with this value as it is: kubelet takes $$ for $, and $(NAME) for another variable."""
    return {"name": name, "value": value.replace("$", "$$")}


def label_variable(name: str, label: str) -> dict[str, Any]:
    """An environment variable with the value of the pod's own label."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{label}']"}}}


def secret_variables(secret: str | None, location: task.StoreLocation | None, prefix: str = "") -> list[dict[str, Any]]:
    """The environment variables that carry the credentials for a store from its Secret."""
    if secret is None or location is None:
        return []
    pairs = _KEYS.get(location.uri.partition("://")[0], _S3_KEYS)
    # Where the account's name is declared, the Secret need not have it.
    spare = environment.AZURE_ACCOUNT if location.account else None
    return [secret_variable(prefix + name, secret, key, optional=name == spare) for name, key in pairs]


def store_variables(store: StoreAccess) -> list[dict[str, Any]]:
    """The environment variables of a container that reaches the store."""
    location = digest.canonical_json(store.location).decode()
    return [variable(environment.STORE_LOCATION, location), *secret_variables(store.secret, store.location)]


def secret_variable(name: str, secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    """An environment variable with the value of a Secret's key; an optional one is not there where the key is not."""
    return {
        "name": name,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **({"optional": True} if optional else {})}},
    }


def claim_volume(name: str, claim: str, *, read_only: bool = False) -> dict[str, Any]:
    """The volume of a PersistentVolumeClaim."""
    return {
        "name": name,
        "persistentVolumeClaim": {"claimName": claim, **({"readOnly": True} if read_only else {})},
    }


def container(
    name: str,
    image: str,
    args: list[str],
    *,
    variables: list[dict[str, Any]],
    mounts: dict[str, tuple[str, bool]],
    limits: Resources,
    **more: Any,
) -> dict[str, Any]:
    """A container that passes Pod Security "restricted".  `mounts`: volume -> (path, read only)."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": variables,
        "resources": {key: dict(values) for key, values in limits},
        "securityContext": CONTAINER_SECURITY,
        # A crash without a report leaves its last words.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": volume, "mountPath": path, **({"readOnly": True} if read_only else {})}
            for volume, (path, read_only) in mounts.items()
        ],
        **more,
    }


def pod_spec(containers: list[dict[str, Any]], volumes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A pod without a token, without service variables, and with a /tmp of its own."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": SECURITY,
        "containers": containers,
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
        **more,
    }


def index(pod: Manifest) -> int:
    """Which of its Job's pods it is: 0 for the one that reports."""
    return int((pod["metadata"].get("labels") or {}).get(INDEX_LABEL) or 0)


def last_report(pod: Manifest) -> report.Report | None:
    """The report of the pod's newest ended container, the init containers included; a user's says nothing to us."""
    for status in (*_statuses(pod, "containerStatuses"), *_statuses(pod, "initContainerStatuses")):
        if status["name"] == USERS:
            continue
        for state in ("state", "lastState"):
            ended = (status.get(state) or {}).get("terminated")
            if ended and ended.get("message"):
                found = report.decode(ended["message"])
                if found is not None:
                    return found
    return None


def exists(pod: Manifest) -> bool:
    """Whether the pod counts as a replica: it has not ended, and nobody deleted it."""
    return not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ("Succeeded", "Failed")


def address(pod: Manifest) -> str | None:
    """The IP address at which the pod can be asked something: one of its containers runs, and nobody deleted it."""
    statuses = (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses"))
    runs = any((status.get("state") or {}).get("running") is not None for status in statuses)
    return pod["status"].get("podIP") if runs and not pod["metadata"].get("deletionTimestamp") else None


def seconds(pod: Manifest) -> int:
    """How long the pod worked, from its first container's start to its last one's end; 0: that is not known."""
    statuses = (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses"))
    ended = [(status.get("state") or {}).get("terminated") or {} for status in statuses]
    spans = [
        (moment(e["startedAt"]), moment(e["finishedAt"])) for e in ended if e.get("startedAt") and e.get("finishedAt")
    ]
    if not spans:
        return 0
    return max(0, int((max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()))


def ended(pod: Manifest) -> str:
    """When the pod's last container ended, as a timestamp; "" where none is known."""
    statuses = (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses"))
    return max((((s.get("state") or {}).get("terminated") or {}).get("finishedAt") or "" for s in statuses), default="")


def ended_well(pod: Manifest) -> bool:
    """Whether the pod ended, and every container of it with exit code 0."""
    states = [(status.get("state") or {}).get("terminated") for status in _statuses(pod, "containerStatuses")]
    return bool(states) and all(state is not None and state.get("exitCode") == 0 for state in states)


def users_ended_well(pod: Manifest) -> bool:
    """Whether the pod has a user's container, and that ended with exit code 0."""
    ended = [(status.get("state") or {}).get("terminated") or {} for status in _users(pod)]
    return bool(ended) and all(state.get("exitCode") == 0 for state in ended)


def has_users(pod: Manifest) -> bool:
    """Whether a container of the pod, which some node has taken, is a user's."""
    return bool(_users(pod))


def _users(pod: Manifest) -> tuple[Mapping[str, Any], ...]:
    return tuple(status for status in _statuses(pod, "initContainerStatuses") if status["name"] == USERS)


def refused(what: str, message: str, resources: str) -> Trouble:
    """`what` is not let into the namespace, in the API server's words; `resources` is the field that asks for them."""
    words = message.lower()
    if "serviceaccount" in words or "service account" in words:
        advice = "create that service account, or name another in spec.identity.serviceAccountName of the Workspace"
    elif "quota" in words:
        advice = f"raise the quota, or ask for less in {resources}"
    elif "per container" in words or "per pod" in words:  # what a LimitRange's refusals say
        advice = f"ask for what the LimitRange allows in {resources}, or change that"
    elif "podsecurity" in words:
        advice = "label the namespace with a Pod Security level that lets it in: restricted does"
    else:
        advice = "ask who runs the platform which policy or webhook refuses it"
    said = f"the namespace does not let {what} be made: {message}; {advice}"
    return Trouble("PodCreationRefused", said)


def trouble(pod: Manifest) -> Trouble | None:
    """What keeps the pod from running or made it end, or None."""
    status = pod["status"]
    if status.get("reason") == "Evicted":
        return Trouble("Evicted", f"the node evicted the pod: {status.get('message')}", fatal=True)
    for scheduled in status.get("conditions", ()):
        if scheduled["type"] == "PodScheduled" and scheduled["status"] == "False":
            return Trouble(
                "Unschedulable",
                f"no node takes the pod: {scheduled.get('message')}; ask for less in resources, or add nodes",
            )
    for container_status in (*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses")):
        found = _container_trouble(container_status)
        if found is not None:
            return found
    return None


def _statuses(pod: Manifest, key: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(pod["status"].get(key) or ())


_IMAGE_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
)


def _container_trouble(status: Mapping[str, Any]) -> Trouble | None:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    if status.get("ready"):
        return None  # what was before is over
    waiting = state.get("waiting")
    if waiting:
        reason, text = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE_REASONS:
            return Trouble(
                "ImagePullFailed",
                f"the image of container {status['name']} cannot be pulled ({reason}: {text}); check its name, that"
                " the registry answers, and the pull secret",
                declared=True,
            )
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return Trouble(
                "ContainerConfigInvalid",
                f"container {status['name']} cannot be created: {text}; {_advice(reason, text.lower())}",
                declared=True,
            )
    ended = state.get("terminated") or last.get("terminated")
    if ended and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
        return _ended_trouble(status["name"], ended, fatal="terminated" in state)
    return None


def _advice(reason: str, text: str) -> str:
    """What to do about a container that is not made, for what kubelet says in small letters."""
    if "find key" in text:
        return "add that key to it"
    if "secret" in text:
        keys = f"{environment.SECRET_ACCESS_KEY_FIELD} and {environment.SECRET_SECRET_KEY_FIELD}"
        return f"create what is missing (a Secret for s3 has {keys})"
    if "not found" in text and reason == "CreateContainerConfigError":
        return "create what is missing"
    return "mend what it says: the image, its command, or what it is given"


def _ended_trouble(name: str, ended: Mapping[str, Any], *, fatal: bool) -> Trouble:
    if name == USERS:
        return _users_trouble(ended, fatal=fatal)
    if ended.get("reason") == "OOMKilled":
        return Trouble(
            OUT_OF_MEMORY,
            f"container {name} used more memory than its limit; raise resources.limits.memory",
            fatal,
        )
    said = report.decode(ended.get("message") or "")
    if said is not None:
        return Trouble(said.reason, said.message, fatal)
    last_words = " ".join((ended.get("message") or "").split())[-300:]
    return Trouble(
        "ContainerFailed",
        f"container {name} ended with exit code {ended.get('exitCode')}" + (f": {last_words}" if last_words else ""),
        fatal,
    )


def _users_trouble(ended: Mapping[str, Any], *, fatal: bool) -> Trouble:
    """What a user's program ended with.  Its words stay in its log: they may hold values of the data."""
    if ended.get("reason") == "OOMKilled":
        words = "used more memory than its limit; raise spec.resources.limits.memory"
        return Trouble("OutOfMemory", f"container {USERS} {words}", fatal)
    words = (
        f"ended with exit code {ended.get('exitCode')}; its log says why (kubectl logs POD -c {USERS}). It runs as user"
        f" {SECURITY['runAsUser']} and not as root, and can write to ${environment.OUTPUT} and"
        f" {environment.WORK_FOLDER} only: an image that needs more than that has to be changed"
    )
    return Trouble("ContainerFailed", f"container {USERS} {words}", fatal, declared=True)
