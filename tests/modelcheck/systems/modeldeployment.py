"""A ModelDeployment between two versions, its revisions, its Service, and pods that come and go."""

from collections.abc import Iterator
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, NEW, Slot, uid
from modelcheck.systems import jobs, memory
from modelcheck.systems.workspace import edited, is_open, opened, working_workspace
from modelmill.core import conditions
from modelmill.core.plan import Apply, Create, Delete, Write, is_owned
from modelmill.core.resources import Manifest, dig
from modelmill.core.serving import REVISION_LABEL, VERSION_LABEL

KIND = "ModelDeployment"
NAME = "triage"


def digest_of(number: int) -> str:
    return f"sha256:{str(number) * 64}"


def version(number: int, *, ready: bool) -> Manifest:
    """A ModelVersion of the model."""
    name = f"{NAME}-{number}"
    status = "True" if ready else "False"
    condition = {"type": "Ready", "status": status, "reason": "Verified", "message": "", "observedGeneration": 1}
    artifact = {"uri": f"s3://models/{number}", "digest": digest_of(number)}
    return {
        "kind": "ModelVersion",
        "metadata": {"name": name, "uid": uid("ModelVersion", name), "generation": 1},
        "spec": {"modelRef": {"name": NAME}, "version": number, "artifact": artifact},
        "status": {"observedGeneration": 1, "conditions": [{**condition, "lastTransitionTime": LONG_AGO}]},
    }


def deployment_spec(replicas: int, pinned: int | None, limit: int) -> dict[str, Any]:
    model = {"name": NAME, **({"version": pinned} if pinned is not None else {})}
    return {"model": model, "replicas": replicas, "revisionHistoryLimit": limit}


def _available(deployment: Manifest | None) -> int:
    return int(dig(deployment, "status", "availableReplicas") or 0)


class ModelDeploymentSystem(System):
    """`edits` are the specs between which the user changes; `loss`: objects are deleted, too; `withdrawn`: versions
    that are Ready stop being so, and become so again."""

    slots = 20

    def __init__(
        self,
        name: str,
        edits: tuple[dict[str, Any], ...],
        life: tuple[str, ...],
        *,
        loss: bool,
        versions: int = 2,
        withdrawn: bool = False,
    ) -> None:
        self.name = name
        self.edits = edits
        self.life = life
        self.loss = loss
        self.versions = versions
        self.withdrawn = withdrawn

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        made = {"kind": KIND, "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}}
        return [working_workspace(), version(1, ready=True), {**made, "spec": self.edits[0]}]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from self._users(live)
        for deployment in live.all("Deployment"):
            yield from self._pods(deployment)
            yield from _left(deployment)
        yield from jobs.orphans(live, "Deployment", "Service", "NetworkPolicy")

    def _users(self, live: Live) -> Iterator[Move]:
        present = live.get(KIND, NAME)
        for spec in self.edits:
            if present is not None and present["spec"] != spec:
                yield move(f"the user changes the spec to {spec}", {"kind": KIND, **edited(present, spec)})
        for number in range(2, self.versions + 1):
            known = live.get("ModelVersion", f"{NAME}-{number}")
            if known is None:
                yield move(f"version {number} is made", version(number, ready=False))
            elif not conditions.is_true(known, "Ready"):
                known_since = [memory.with_(live, f"{number}")] if self.withdrawn else []
                yield move(f"version {number} becomes Ready", version(number, ready=True), *known_since)
            elif self.withdrawn:
                yield move(f"version {number} is withdrawn", version(number, ready=False))
        if self.loss:
            yield from self._losses(live)

    def _losses(self, live: Live) -> Iterator[Move]:
        present, service = live.get(KIND, NAME), live.get("Service", NAME)
        if present is not None:
            yield move("the user deletes the ModelDeployment", gone=[(KIND, NAME)])
        else:
            metadata = {"name": NAME, "uid": NEW, "generation": NEW}
            yield move("the user makes it again", {"kind": KIND, "metadata": metadata, "spec": self.edits[0]})
        if service is None:
            metadata = {"name": NAME, "uid": uid("Service", NAME, 9)}
            yield move("somebody else makes the Service", {"kind": "Service", "metadata": metadata, "spec": {}})
        else:
            yield move("somebody deletes the Service", gone=[("Service", NAME)])
            selector = dig(service, "spec", "selector")
            if selector and "app" not in selector:
                spec = {**service["spec"], "selector": {**selector, "app": "other"}}
                yield move("somebody edits the Service", {"kind": "Service", **service, "spec": spec})
        yield from opened(live)
        for kind in ("Deployment", "NetworkPolicy"):
            for child in live.all(kind):
                name = child["metadata"]["name"]
                yield move(f"somebody deletes {kind} {name}", gone=[(kind, name)])

    def _pods(self, deployment: Manifest) -> Iterator[Move]:
        name, status = deployment["metadata"]["name"], deployment["status"]
        wanted, pods, available = (
            deployment["spec"].get("replicas") or 0,
            status.get("replicas") or 0,
            status.get("availableReplicas") or 0,
        )
        if pods != wanted:
            yield move(f"{name} gets {wanted} pods", _with_pods(deployment, wanted, min(available, wanted)))
        if available < pods:
            yield move(f"a pod of {name} becomes ready", _with_pods(deployment, pods, available + 1))
        if available > 0:
            yield move(f"a pod of {name} is not ready any more", _with_pods(deployment, pods, available - 1))

    def help(self, live: Live) -> Iterator[Move]:
        yield from jobs.orphans(live, "Deployment", "Service", "NetworkPolicy")
        service = live.get("Service", NAME)
        if service is not None and "ownerReferences" not in service["metadata"]:
            yield move("the other Service is deleted", gone=[("Service", NAME)])
        for deployment in live.all("Deployment"):
            yield from _left(deployment)
            wanted = deployment["spec"].get("replicas") or 0
            status = deployment["status"]
            if (status.get("replicas") or 0, _available(deployment)) != (wanted, wanted):
                yield move("the pods become ready", _with_pods(deployment, wanted, wanted))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        service = before.get("Service", NAME)
        selected = dig(service, "spec", "selector", REVISION_LABEL)
        serving = next((d for d in before.all("Deployment") if _revision(d) == selected), None)
        match write:
            case Apply(manifest={"kind": "Service"}):
                if self.withdrawn and _selected_version(after) < _selected_version(before):
                    return "what serves is replaced by what is older"
                goal = dig(after.get("Service", NAME), "spec", "selector", REVISION_LABEL)
                coming = next((d for d in before.all("Deployment") if _revision(d) == goal), None)
                if _available(serving) > 0 and _available(coming) == 0:
                    return "the Service leaves ready pods for a revision that has none"
            case Apply(manifest={"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0}}):
                if serving is not None and serving["metadata"]["name"] == name:
                    return "the revision that the Service selects loses its pods"
            case Delete(kind="Deployment", name=name):
                if serving is not None and serving["metadata"]["name"] == name:
                    return "the revision that the Service selects is deleted"
            case Create(manifest={"kind": "Deployment"}):
                number = write.manifest["metadata"]["labels"][VERSION_LABEL]
                known = before.get("ModelVersion", f"{NAME}-{number}")
                # Of one that was withdrawn a moment ago the operator cannot know yet.
                was = self.withdrawn and (number == "1" or number in memory.of(before))
                if known is None or not (conditions.is_true(known, "Ready") or was):
                    return "a version that is not Ready gets pods"
        return None

    def untrue(self, live: Live) -> str | None:
        present, service = live.get(KIND, NAME), live.get("Service", NAME)
        if present is None:
            return None
        for type_ in ("Ready", "Available"):
            if conditions.is_true(present, type_) and not (service and is_owned(service, present["metadata"]["uid"])):
                return f"it is said to be {type_} without a Service of its own"
        return None

    def unreached(self, live: Live) -> str | None:
        present, service = live.get(KIND, NAME), live.get("Service", NAME)
        deployments = live.all("Deployment")
        if present is None:
            left = deployments or service or live.all("NetworkPolicy")
            return "a child is left behind" if left else None
        if not live.all("NetworkPolicy") or is_open(live):
            return "anybody may call it"
        ready = [v["spec"]["version"] for v in live.all("ModelVersion") if conditions.is_true(v, "Ready")]
        # What serves and is withdrawn stays until something newer is Ready.
        stays = [_selected_version(live)] if self.withdrawn else []
        target = present["spec"]["model"].get("version") or max([*ready, *stays])
        if target not in ready:
            return None if not conditions.is_true(present, "Ready") else "it is Ready with a version that is not"
        selected = dig(service, "spec", "selector", REVISION_LABEL)
        serving = next((d for d in deployments if _revision(d) == selected), None)
        if serving is None or "app" in service["spec"]["selector"]:
            return "the Service selects nothing"
        if serving["metadata"]["labels"][VERSION_LABEL] != str(target):
            return f"version {target} is declared, another one serves"
        if _available(serving) != present["spec"]["replicas"]:
            return f"{_available(serving)} of {present['spec']['replicas']} pods serve"
        former = [d for d in deployments if d is not serving]
        if any(d["spec"].get("replicas") for d in former):
            return "a former revision keeps its pods"
        if len(former) > present["spec"]["revisionHistoryLimit"]:
            return "former revisions are kept beyond the limit"
        if not conditions.is_true(present, "Ready") or not conditions.is_true(present, "Available"):
            return f"it serves, but does not say so: {present.get('status')}"
        return None


def _left(deployment: Manifest) -> Iterator[Move]:
    """What keeps a Deployment that was deleted lets it go."""
    if "deletionTimestamp" in deployment["metadata"]:
        name = deployment["metadata"]["name"]
        yield move(f"Deployment {name} goes at last", gone=[("Deployment", name)])


def _selected_version(live: Live) -> int:
    """The number of the version that the Service selects; 0 where it selects none."""
    selected = dig(live.get("Service", NAME), "spec", "selector", REVISION_LABEL)
    serving = next((d for d in live.all("Deployment") if _revision(d) == selected), None)
    return int(dig(serving, "metadata", "labels", VERSION_LABEL) or 0)


def _revision(deployment: Manifest) -> str:
    return str(deployment["metadata"]["labels"][REVISION_LABEL])


def _with_pods(deployment: Manifest, pods: int, available: int) -> Manifest:
    status = {**deployment["status"], "replicas": pods, "availableReplicas": available}
    return {"kind": "Deployment", **deployment, "status": status}


def rollout() -> ModelDeploymentSystem:
    """New versions and other replica counts, while pods come and go."""
    edits = (deployment_spec(1, None, 0), deployment_spec(2, None, 0), deployment_spec(1, 1, 0))
    change = "the user changes the spec to"
    life = (
        "version 2 is made", "version 2 becomes Ready", f"{change} {edits[2]}", f"{change} {edits[1]}",
    )  # fmt: skip
    return ModelDeploymentSystem("ModelDeployment: rollout", edits, life, loss=False)


def withdrawal() -> ModelDeploymentSystem:
    """The approval of what serves, and of what is coming up, is withdrawn and given again."""
    edits = (deployment_spec(1, None, 1), deployment_spec(2, None, 1))
    life = (
        "version 2 is made", "version 2 becomes Ready", "version 2 is withdrawn",
        f"the user changes the spec to {edits[1]}", "version 2 becomes Ready",
    )  # fmt: skip
    return ModelDeploymentSystem("ModelDeployment: withdrawal", edits, life, loss=False, withdrawn=True)


def loss() -> ModelDeploymentSystem:
    """Everything may be deleted, and somebody else may take the Service's name, while no former revision is kept."""
    life = ("version 2 is made", "version 2 becomes Ready", "the user deletes", "the user makes it again")
    return ModelDeploymentSystem("ModelDeployment: loss", (deployment_spec(1, None, 0),), life, loss=True)
