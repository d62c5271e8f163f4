"""ModelDeployment: one version serves, the next comes up beside it, takes over, and the old one drains.

A revision is frozen: its name is a hash of what the user chose (artifact, server, store), its Deployment is
created once and afterwards only scaled.  A newer operator, with other defaults, restarts no serving pod.

    target revision has no Deployment   -> create it, beside the one that serves
    target is as available as wanted    -> move the Service's selector to it (readiness is read fresh first)
    a former revision, a moment later   -> scale to zero: its pods drain; beyond the history limit: delete
    no target (no model, not Ready ...) -> say so; what serves goes on
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.core import conditions, network, pods, retry, serving, workspace
from modelmill.core.conditions import Condition, Waiting, false, moment, timestamp, true
from modelmill.core.controller import Controller
from modelmill.core.plan import (
    Apply,
    Create,
    Delete,
    Guard,
    Observed,
    Outcome,
    Subject,
    Write,
    is_owned,
)
from modelmill.core.pods import StoreAccess, Trouble
from modelmill.core.resources import MODEL_FIELD, OWNER_LABEL, Key, Manifest, dig, model_dependencies
from modelmill.core.serving import Revision, deployment_name

KIND = "ModelDeployment"
# The old revision stays as it is until every node's proxy knows the new one.
SETTLE = timedelta(seconds=5)
_FOR_PODS = "WaitingForPods"


@dataclass(frozen=True)
class Running:
    """A revision that has a Deployment."""

    id: str
    name: str
    uid: str
    version: int | None
    wanted: int  # replicas that its Deployment asks for
    available: int  # ready and settled pods
    pods: int
    created: str
    trouble: Trouble | None
    leaving: bool = False  # it is deleted already, and a finalizer or its pods keep it for a while


@dataclass(frozen=True)
class Routing:
    """The Service: which revision it selects, and whether its ports are as they should be."""

    uid: str
    revision: str | None
    current: bool


@dataclass(frozen=True)
class Promotion:
    revision: str
    version: int | None
    at: str
    model: str | None = None  # that it is a version of, where the status says so
    artifact: tuple[str, str] | None = None  # uri and digest


@dataclass(frozen=True)
class Facts:
    subject: Subject
    replicas: int
    history_limit: int
    target: Revision | Waiting
    running: tuple[Running, ...]  # oldest first
    routing: Routing | None
    policy: network.Policy
    callers: tuple[str, ...]  # namespaces
    store: StoreAccess | None  # the namespace's, where it has one
    foreign: tuple[tuple[str, str], ...]
    history: tuple[Promotion, ...]  # newest first
    waiting_since: datetime | None  # for pods to become ready, as the status says


@dataclass(frozen=True)
class Decision:
    create: bool = False
    create_service: str | None = None  # the revision that it selects at first
    route: str | None = None  # the revision that the Service is moved, or mended, to
    scale: tuple[tuple[Running, int], ...] = ()
    delete: tuple[Running, ...] = ()
    serving: str | None = None  # the revision that the Service selects, these writes done
    history: tuple[Promotion, ...] = ()
    waiting: Waiting | None = None
    requeue_after: timedelta | None = None


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, uid = metadata["namespace"], metadata["uid"]
    return (
        workspace.dependency(namespace),
        *(Key(kind, namespace, OWNER_LABEL, uid) for kind in ("Deployment", "Pod", "Service", "NetworkPolicy")),
        *model_dependencies(namespace, dig(manifest, "spec", "model", "name")),
    )


def observe(observed: Observed) -> Facts:
    spec = ModelDeploymentSpec.model_validate(observed.object["spec"])
    uid = observed.uid
    owned = [d for d in observed.find("Deployment", OWNER_LABEL, uid) if is_owned(d, uid)]
    all_pods = observed.find("Pod", OWNER_LABEL, uid)
    settings = workspace.settings(observed)
    callers = tuple(sorted(spec.access.namespaces))
    running = tuple(sorted((_running(d, all_pods) for d in owned), key=lambda r: (r.created, r.name)))
    routing = _routing(observed)
    history = tuple(
        Promotion(h["revision"], h.get("version"), h["promotedAt"], h.get("model"), _promoted_artifact(h))
        for h in observed.status.get("history", ())
    )
    before = retry.failing(observed, "Ready")
    # Without a Workspace the policy stays as it is: what serves goes on.
    policy, store = network.Policy("Unknown"), None
    if settings is not None:
        store = workspace.store_access(settings)
        policy = network.Policy.observe(observed, _policy(observed.subject, callers, store))
    return Facts(
        subject=observed.subject,
        replicas=spec.replicas,
        history_limit=spec.revision_history_limit,
        target=_target(observed, spec, _served(routing, running, history, spec.model.name)),
        running=running,
        routing=routing,
        policy=policy,
        callers=callers,
        store=store,
        foreign=tuple(sorted(observed.foreign)),
        history=history,
        waiting_since=before.since if before is not None and before.waiting.reason == _FOR_PODS else None,
    )


def _promoted_artifact(promoted: Manifest) -> tuple[str, str] | None:
    artifact = promoted.get("artifact")
    return None if artifact is None else (artifact["uri"], artifact["digest"])


def policy_name(subject: Subject) -> str:
    return f"{subject.name}-access"


def _policy(subject: Subject, callers: tuple[str, ...], store: StoreAccess) -> Manifest:
    return network.serving(subject, KIND, policy_name(subject), callers, store)


def _target(observed: Observed, spec: ModelDeploymentSpec, served: int | None) -> Revision | Waiting:
    """The revision that the spec asks for, or why there is none yet; `served` is the number of what serves."""
    chosen = _artifact(observed, spec, served)
    if isinstance(chosen, Waiting):
        return chosen
    store, settings = workspace.working_store(observed), workspace.settings(observed)
    if settings is None:
        assert isinstance(store, Waiting)  # noqa: S101 - without a Workspace there is no store
        return store
    if isinstance(store, Waiting):
        # A store that fails now does not change which revision is asked for: what serves goes on.
        store = workspace.store_access(settings)
    if spec.server.container is not None:
        forbidden = workspace.forbidden_image(settings, store, spec.server.container.image, "spec.server.container")
        if forbidden is not None:
            return forbidden
    uri, digest, version = chosen
    resources = pods.declared(spec.server.resources)
    return Revision(
        uri=uri,
        digest=digest,
        version=version,
        store=store,
        resources=resources,
        container=spec.server.container,
        model=spec.model.name,
    )


def _artifact(
    observed: Observed, spec: ModelDeploymentSpec, served: int | None
) -> tuple[str, str, int | None] | Waiting:
    model = spec.model
    if model.uri is not None and model.digest is not None:
        return model.uri, model.digest, None
    name = str(model.name)
    versions = observed.find("ModelVersion", MODEL_FIELD, name)
    if model.version is not None:
        chosen = next((v for v in versions if v["spec"]["version"] == model.version), None)
        if chosen is None:
            return Waiting(
                "ModelVersionNotFound",
                f"there is no ModelVersion {name}-{model.version} yet; train it, or name another",
            )
        if not conditions.is_true(chosen, "Ready"):
            return _not_ready(chosen)
        return _of(chosen)
    newest = max((v for v in versions if conditions.is_true(v, "Ready")), key=_number, default=None)
    serves = next((v for v in versions if _number(v) == served), None)
    if serves is not None and not conditions.is_true(serves, "Ready") and _number(newest) < _number(serves):
        # An approval that is withdrawn stops what is new: what serves is not replaced by what is older.
        return _not_ready(serves)
    if newest is not None:
        return _of(newest)
    if versions:
        return _not_ready(max(versions, key=_number))
    if observed.get("Model", name) is None:
        advice = f"a TrainingJob with modelRef {name} makes it (kubectl get tjob)"
        return Waiting("ModelNotFound", f"there is no Model {name} yet; {advice}")
    return Waiting("NoReadyVersion", f"Model {name} has no version yet; a TrainingJob with modelRef {name} makes one")


def _number(version: Manifest | None) -> int:
    """A ModelVersion's number; 0 for none."""
    return int(dig(version, "spec", "version") or 0)


def _served(
    routing: Routing | None, running: tuple[Running, ...], history: tuple[Promotion, ...], model: str | None
) -> int | None:
    """The number of the version of this model that serves; None where none does."""
    serves = _find(running, _serving(routing, running, history))
    if serves is None:
        return None
    promoted = next((p for p in history if p.revision == serves.id), None)
    if promoted is None:
        return serves.version  # it has taken over, and that is not written down yet
    # A history that an older operator wrote has no names.
    return promoted.version if promoted.model in (model, None) else None


def _not_ready(version: Manifest) -> Waiting:
    condition = conditions.find(version, "Ready")
    said = f": {condition['message']}" if condition else ""
    stalled = conditions.is_true(version, "Stalled")
    return Waiting("ModelVersionNotReady", f"ModelVersion {version['metadata']['name']} is not Ready{said}", stalled)


def _of(version: Manifest) -> tuple[str, str, int | None]:
    artifact = version["spec"]["artifact"]
    return artifact["uri"], artifact["digest"], version["spec"]["version"]


def _running(deployment: Manifest, all_pods: tuple[Manifest, ...]) -> Running:
    metadata, status = deployment["metadata"], deployment["status"]
    id_ = serving.revision_of(metadata["name"])
    version = dig(metadata, "labels", serving.VERSION_LABEL)
    mine = [p for p in all_pods if dig(p, "metadata", "labels", serving.REVISION_LABEL) == id_]
    troubles = [found for p in mine if not p["metadata"].get("deletionTimestamp") and (found := pods.trouble(p))]
    refused = next((c for c in status.get("conditions", ()) if c["status"] == "True"), None)
    if refused is not None:
        troubles.append(
            Trouble(
                "PodCreationRefused",
                f"the namespace does not let the pods be made: {refused.get('message')}; raise the quota, or ask for"
                " less in spec.server.resources",
            )
        )
    return Running(
        id=id_,
        name=metadata["name"],
        uid=metadata["uid"],
        version=int(version) if version and version.isdecimal() else None,  # labels are anybody's to change
        wanted=dig(deployment, "spec", "replicas") or 0,
        # The template never changes, so that this is true whatever generation it was counted for.
        available=status.get("availableReplicas") or 0,
        # Pods are seen sooner than counted: what is said of a new one and of its trouble is one write.
        pods=max(status.get("replicas") or 0, sum(pods.exists(p) for p in mine)),
        created=metadata.get("creationTimestamp", ""),
        trouble=troubles[0] if troubles else None,
        leaving=bool(metadata.get("deletionTimestamp")),
    )


def _routing(observed: Observed) -> Routing | None:
    for service in observed.find("Service", OWNER_LABEL, observed.uid):
        if is_owned(service, observed.uid) and service["metadata"]["name"] == observed.subject.name:
            selected = dig(service, "spec", "selector", serving.REVISION_LABEL)
            wanted = serving.service(observed.subject, KIND, selected or "")
            current = selected is not None and _routes_as(service["spec"], wanted["spec"])
            return Routing(service["metadata"]["uid"], selected, current)
    return None


def _routes_as(live: Manifest, wanted: Manifest) -> bool:
    """Whether a Service selects exactly what is wanted, by the ports that are wanted; it may have more ports."""
    ports = live.get("ports") or ()
    return live.get("selector") == wanted["selector"] and all(
        any(port.items() >= wanted_port.items() for port in ports) for wanted_port in wanted["ports"]
    )


def decide(facts: Facts, now: datetime) -> Decision:
    """Who serves, who comes up, who goes."""
    serving_id = _serving(facts.routing, facts.running, facts.history)
    target = facts.target
    if isinstance(target, Waiting):
        return _hold(facts, serving_id, target)
    wanted = target.id(facts.subject)
    candidate = _find(facts.running, wanted)
    stable = _find(facts.running, serving_id)
    promoted = _takes_over(facts, candidate, stable)
    makes_service = _may_create_service(facts)
    # A Service that is made now selects what serves, or else what is wanted: nothing served before.
    serving = wanted if promoted or (makes_service and serving_id is None) else serving_id
    history = _promoted(facts, serving, now)
    scale, delete, again = _others(facts, keep={wanted, serving}, history=history, now=now)
    if candidate is not None and candidate.wanted != facts.replicas:
        scale = ((candidate, facts.replicas), *scale)
    if stable is not None and stable.id != wanted and not promoted and stable.wanted != facts.replicas:
        scale = ((stable, facts.replicas), *scale)
    waiting, look = _unfinished(facts, candidate, serving == wanted, now)
    return Decision(
        create=candidate is None and _name_free(facts, "Deployment", deployment_name(facts.subject, wanted)),
        create_service=serving if makes_service else None,
        route=_route(facts, serving or wanted),
        scale=scale,
        delete=delete,
        serving=serving,
        history=history,
        waiting=waiting,
        requeue_after=min((t for t in (again, look) if t is not None), default=None),
    )


def _serving(routing: Routing | None, running: tuple[Running, ...], history: tuple[Promotion, ...]) -> str | None:
    """The revision that serves: what the Service selects, or, where that is lost, what it selected last."""
    selected = routing.revision if routing else None
    if _find(running, selected) is None and history and _find(running, history[0].revision) is not None:
        return history[0].revision
    return selected


def _may_create_service(facts: Facts) -> bool:
    return facts.routing is None and _name_free(facts, "Service", facts.subject.name)


def _route(facts: Facts, goal: str) -> str | None:
    """The revision that an existing Service has to be moved or mended to, if any."""
    routing = facts.routing
    if routing is None:
        return None
    coming = _find(facts.running, goal)
    if routing.revision is not None and facts.replicas > 0 and (coming is None or coming.available == 0):
        goal = routing.revision  # there is nothing yet to move it to
    return None if routing.revision == goal and routing.current else goal


def _find(running: tuple[Running, ...], revision: str | None) -> Running | None:
    return next((r for r in running if r.id == revision), None)


def _name_free(facts: Facts, kind: str, name: str) -> bool:
    return (kind, name) not in facts.foreign


def _hold(facts: Facts, serving_id: str | None, waiting: Waiting) -> Decision:
    """Nothing new to serve: what serves keeps its replicas, and nothing is taken away."""
    stable = _find(facts.running, serving_id)
    scale = ((stable, facts.replicas),) if stable is not None and stable.wanted != facts.replicas else ()
    return Decision(
        create_service=serving_id if _may_create_service(facts) else None,
        route=_route(facts, serving_id) if serving_id is not None else None,
        scale=scale,
        serving=serving_id,
        history=facts.history,
        waiting=waiting,
    )


def _takes_over(facts: Facts, candidate: Running | None, stable: Running | None) -> bool:
    """Whether the Service may select the candidate: never while that would take ready pods away."""
    if candidate is None:
        return False
    if facts.replicas == 0:
        return True
    if stable is None or stable.available == 0:
        return candidate.available > 0
    return candidate.id == stable.id or (candidate.available >= facts.replicas and candidate.wanted >= facts.replicas)


def _promoted(facts: Facts, serving: str | None, now: datetime) -> tuple[Promotion, ...]:
    """The history, with what serves now first."""
    if serving is None or (facts.history and facts.history[0].revision == serving):
        return facts.history
    if facts.routing is None and facts.history:
        return facts.history  # a Service that is not seen may select what it selected last
    running, target = _find(facts.running, serving), facts.target
    # A Service may select a revision that never got its Deployment: only that of the target is known then.
    chosen = target if isinstance(target, Revision) and target.id(facts.subject) == serving else None
    version = running.version if running is not None else chosen.version if chosen is not None else None
    newest = Promotion(serving, version, timestamp(now))
    if chosen is not None:
        newest = replace(newest, model=chosen.model, artifact=(chosen.uri, chosen.digest))
    return (newest, *facts.history)[: facts.history_limit + 1]


def _others(
    facts: Facts, *, keep: set[str | None], history: tuple[Promotion, ...], now: datetime
) -> tuple[tuple[tuple[Running, int], ...], tuple[Running, ...], timedelta | None]:
    """Former revisions: to be scaled to zero once the new one has settled, and deleted beyond the limit."""
    former = [r for r in facts.running if r.id not in keep and not r.leaving]
    unsettled = SETTLE - max(now - moment(history[0].at), timedelta()) if history else timedelta()
    # Where the Service is lost, nobody loses pods until it is back, and nothing is deleted: the fresh look at the
    # Service would refuse it every time, and what the status has to say of the Service would never be written.
    routed = facts.routing is not None and facts.routing.revision in keep
    busy = [r for r in former if r.wanted > 0] if routed else []
    again = unsettled if busy and unsettled > timedelta() else None
    scale = tuple((r, 0) for r in busy) if again is None else ()
    idle = [r for r in former if r.wanted == 0 and r.pods == 0] if routed else []
    excess = max(0, len(former) - facts.history_limit)
    return scale, tuple(idle[:excess]), again


def _unfinished(
    facts: Facts, candidate: Running | None, takes_traffic: bool, now: datetime
) -> tuple[Waiting | None, timedelta | None]:
    """What is still to come until the declared state is reached, and when to look again though nothing happens."""
    target = facts.target
    target_id = "" if isinstance(target, Waiting) else target.id(facts.subject)
    for kind, name in facts.foreign:
        if name in (facts.subject.name, policy_name(facts.subject), deployment_name(facts.subject, target_id)):
            return retry.name_taken(kind, name), retry.MAX
    available = candidate.available if candidate is not None else 0
    if candidate is not None and candidate.trouble is not None and available < facts.replicas:
        return Waiting(candidate.trouble.reason, candidate.trouble.message, stalled=True), None
    if available < facts.replicas:
        # What is said here before the Deployment exists is said in the same words once it does: one write less.
        message = f"{available} of {facts.replicas} pods of revision {target_id} are ready"
        left = _patience(facts, candidate, now)
        if left > timedelta():
            return Waiting(_FOR_PODS, message), left
        minutes = retry.PATIENCE // timedelta(minutes=1)
        logs = f"kubectl logs -n {facts.subject.namespace} -l {serving.REVISION_LABEL}={target_id}"
        return Waiting(
            _FOR_PODS, f"{message}, after {minutes} minutes and more; {logs} may say why", stalled=True
        ), None
    if candidate is None or facts.routing is None:
        return Waiting("CreatingRevision", f"revision {target_id} is being created"), None
    if not takes_traffic:
        return Waiting("TakingOver", f"revision {candidate.id} is taking over"), None
    return None, None


def _patience(facts: Facts, candidate: Running | None, now: datetime) -> timedelta:
    """For how long the pods may still take before a person is asked to look: since they are waited for and exist."""
    if candidate is None or facts.waiting_since is None:
        return retry.PATIENCE
    since = max(facts.waiting_since, moment(candidate.created)) if candidate.created else facts.waiting_since
    # A clock that was set back makes the start lie ahead: then it has only just begun.
    return retry.PATIENCE - max(now - since, timedelta())


def render(facts: Facts, decision: Decision) -> Outcome:
    subject, target = facts.subject, facts.target
    stable, coming = _find(facts.running, decision.serving), None
    if isinstance(target, Revision):
        wanted = target.id(subject)
        newest = _find(facts.running, wanted)
        if newest is None and decision.create:
            newest = _to_be(subject, target, wanted)
        if wanted == decision.serving:
            stable = newest
        else:
            coming = newest
    status: dict[str, Any] = {
        "url": f"http://{subject.name}.{subject.namespace}.svc"
        if facts.routing is not None or decision.create_service is not None
        else None,
        "replicas": sum(r.pods for r in facts.running),
        "selector": f"{serving.NAME_LABEL}={subject.name}",
        "stable": _revision(stable),
        "candidate": _revision(coming),
        "history": [_promotion(p) for p in decision.history] or None,
    }
    ready, available = _conditions(facts, decision, stable)
    return Outcome(
        status=status,
        conditions=(ready, available, *conditions.progress(ready, decision.waiting)),
        headline=("Ready", "Available"),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _to_be(subject: Subject, target: Revision, id_: str) -> Running:
    """A revision whose Deployment is made by this very plan."""
    name = deployment_name(subject, id_)
    return Running(id_, name, "", target.version, wanted=0, available=0, pods=0, created="", trouble=None)


def _conditions(facts: Facts, decision: Decision, stable: Running | None) -> tuple[Condition, Condition]:
    waiting = decision.waiting
    if stable is not None and stable.available > 0 and facts.routing is not None:
        message = f"{stable.available} pod(s) of revision {stable.id} serve"
        available = true("Available", "PodsReady", message)
    elif facts.replicas == 0:
        available = false("Available", "ScaledToZero", "spec.replicas is 0")
    else:
        available = false("Available", "NoPodReady", waiting.message if waiting else "no pod is ready")
    if waiting is not None:
        return false("Ready", waiting.reason, waiting.message), available
    if stable is None or facts.replicas == 0:
        return true("Ready", "ScaledToZero", "spec.replicas is 0"), available
    name = f"version {stable.version}" if stable.version is not None else f"revision {stable.id}"
    return true("Ready", "Serving", f"{name} serves with {stable.available} pod(s)"), available


def _revision(running: Running | None) -> dict[str, Any] | None:
    if running is None:
        return None
    version = {} if running.version is None else {"version": running.version}
    return {"revision": running.id, **version, "ready": running.available}


def _promotion(promotion: Promotion) -> dict[str, Any]:
    version = {} if promotion.version is None else {"version": promotion.version}
    model = {} if promotion.model is None else {"model": promotion.model}
    artifact = {}
    if promotion.artifact is not None:
        artifact = {"artifact": dict(zip(("uri", "digest"), promotion.artifact, strict=True))}
    return {"revision": promotion.revision, **version, **model, **artifact, "promotedAt": promotion.at}


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    subject, target = facts.subject, facts.target
    writes: list[Write] = []
    if facts.store is not None:
        writes += facts.policy.writes(_policy(subject, facts.callers, facts.store))
    if isinstance(target, Revision) and decision.create:
        writes.append(Create(serving.deployment(subject, KIND, target, facts.replicas)))
    if decision.create_service is not None:
        writes.append(Create(serving.service(subject, KIND, decision.create_service)))
    routing = facts.routing
    if routing is not None and decision.route is not None:
        running = _find(facts.running, decision.route)
        guards = _still_ready(facts, running) if running is not None else ()
        writes.append(Apply(serving.service(subject, KIND, decision.route), routing.uid, guards, unchanged=True))
    for running, replicas in decision.scale:
        guards = (_not_selected(subject, running),) if replicas == 0 and running.id != decision.serving else ()
        writes.append(Apply(serving.scaled(subject, running.name, replicas), running.uid, guards))
    writes += [Delete("Deployment", r.name, r.uid, (_not_selected(subject, r),)) for r in decision.delete]
    return tuple(writes)


def _still_ready(facts: Facts, running: Running) -> tuple[Guard, ...]:
    """Traffic goes only to pods that are ready now, whatever the cache says."""
    if facts.replicas == 0:
        return ()
    least = min(running.available, facts.replicas)

    def holds(deployment: Manifest | None) -> bool:
        return (
            deployment is not None
            and deployment["metadata"]["uid"] == running.uid
            and (dig(deployment, "status", "availableReplicas") or 0) >= least
        )

    return (Guard("Deployment", running.name, holds, f"Deployment {running.name} has {least} available pods"),)


def _not_selected(subject: Subject, running: Running) -> Guard:
    """A revision loses its pods only when the Service is seen to have left it."""

    def holds(service: Manifest | None) -> bool:
        selected = dig(service, "spec", "selector", serving.REVISION_LABEL)
        return selected is not None and selected != running.id

    return Guard("Service", subject.name, holds, f"Service {subject.name} does not select revision {running.id}")


CONTROLLER = Controller(KIND, depends, observe, decide, render)
