"""ModelDeployment: one version serves, the next comes up beside it, takes over, and the old one drains.

A revision is frozen: its name is a hash of what the user chose (artifact, server, store), its Deployment is
created once and afterwards only scaled.  A newer operator, with other defaults, restarts no serving pod.

    target revision has no Deployment   -> create it, beside the one that serves
    target is as available as wanted    -> move the Service's selector to it (readiness is read fresh first)
    a former revision, a moment later   -> scale to zero: its pods drain; beyond the history limit: delete
    no target (no model, not Ready ...) -> say so; what serves goes on

Where a rollout has steps, `rollout` says when the target may take over, or that it must not; what was rolled back is
not the goal any more.  How many pods there are to be, `scaling` says where spec.replicas does not; how callers reach it
from outside of the cluster, `exposure`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api import rollout as api
from modelmill.api.model import Governance
from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.core import (
    actions,
    autoscaling,
    bounds,
    conditions,
    drift,
    ended,
    exposure,
    governance,
    network,
    quality,
    queries,
    retry,
    revisions,
    rollout,
    routing,
    scaling,
    selection,
    servicelevels,
    serving,
    windows,
    workspace,
)
from modelmill.core.conditions import Condition, Waiting, false, moment, timestamp, true
from modelmill.core.controller import Controller
from modelmill.core.exposure import Exposure
from modelmill.core.plan import Apply, Create, Delete, Guard, Guards, Observed, Outcome, Subject, Write, is_owned
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import OWNER_LABEL, Key, Manifest, dig, model_dependencies
from modelmill.core.revisions import Promotion, Running, find
from modelmill.core.rollout import Course
from modelmill.core.routing import Routing
from modelmill.core.scaling import Scaling
from modelmill.core.serving import Revision, deployment_name
from modelmill.core.windows import Counted
from modelmill.stats.window import Window

KIND = "ModelDeployment"
# The old revision stays as it is until every node's proxy knows the new one.
SETTLE = timedelta(seconds=5)
_FOR_PODS = "WaitingForPods"
_TAKING_OVER = "TakingOver"
_CHILDREN = ("Deployment", "Pod", "Service", "ConfigMap", "NetworkPolicy")


@dataclass(frozen=True)
class RolloutFacts:
    """What a rollout is decided from, besides what every deployment is."""

    settings: api.Rollout
    spec: str  # digits that stand for the spec without replicas; "" where nobody asks
    progress: rollout.Progress | None
    rolled_back: api.RolledBack | None
    annotation: str | None
    handled: str | None
    paths: routing.Paths
    window: Window | None
    counted: tuple[tuple[str, Counted], ...]  # what pods answered last, by UID
    last: api.LastRollout | None  # the one that ended before
    heard: tuple[queries.Heard, ...]  # of Prometheus


@dataclass(frozen=True)
class Facts:
    subject: Subject
    replicas: int
    history_limit: int
    target: Revision | Waiting
    running: tuple[Running, ...]  # oldest first
    routing: Routing | None
    serves: str | None  # the revision that does
    policy: network.Policy
    callers: tuple[str, ...]  # namespaces
    store: StoreAccess | None  # the namespace's, where it has one
    foreign: tuple[tuple[str, str], ...]
    history: tuple[Promotion, ...]  # newest first
    waiting_since: datetime | None  # for pods to become ready, as the status says
    rollout: RolloutFacts
    levels: servicelevels.Facts
    scaling: Scaling | None = None  # None: `replicas` says it
    exposure: Exposure | None = None
    drifting: drift.Facts | None = None  # None: nobody wants to know
    measuring: quality.Facts | None = None  # None: nothing is captured, and nobody wants to know


@dataclass(frozen=True)
class Decision:
    create: int | None = None  # the target's Deployment, with so many replicas
    create_service: str | None = None  # the revision that it selects at first
    route: str | None = None  # the revision that the Service is moved, or mended, to
    scale: tuple[tuple[Running, int], ...] = ()
    delete: tuple[Running, ...] = ()
    serving: str | None = None  # the revision that the Service selects, these writes done
    history: tuple[Promotion, ...] = ()
    waiting: Waiting | None = None
    requeue_after: timedelta | None = None
    course: Course | None = None  # None: there is nothing to be rolled out
    told: tuple[Write, ...] = ()  # what changes of what pods are told
    last: api.LastRollout | None = None  # the rollout that ends now
    scaled: autoscaling.Scaled | None = None  # where not spec.replicas says how many pods there are to be
    drifting: drift.Course | None = None
    measuring: quality.Course | None = None
    levels: servicelevels.Decision = servicelevels.NOTHING


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, uid = metadata["namespace"], metadata["uid"]
    return (
        workspace.dependency(namespace),
        *(Key(kind, namespace, OWNER_LABEL, uid) for kind in _CHILDREN),
        *model_dependencies(namespace, dig(manifest, "spec", "model", "name")),
        *selection.artifact_dependencies(namespace, dig(manifest, "spec", "model", "digest")),
        *scaling.depends(manifest),
        *exposure.depends(manifest),
        *quality.depends(manifest),
    )


def observe(observed: Observed) -> Facts:
    spec = ModelDeploymentSpec.model_validate(observed.object["spec"])
    uid = observed.uid
    owned = [d for d in observed.find("Deployment", OWNER_LABEL, uid) if is_owned(d, uid)]
    all_pods = observed.find("Pod", OWNER_LABEL, uid)
    settings = workspace.settings(observed)
    callers = _callers(spec)
    running = tuple(sorted((revisions.running(d, all_pods) for d in owned), key=lambda r: (r.created, r.name)))
    service = routing.routing(observed, KIND)
    history = revisions.history(observed.status)
    serves = revisions.that_serves(service.revision if service is not None else None, running, history)
    before = retry.failing(observed, "Ready")
    asks = governance.asked_of(observed.get("Model", spec.model.name)) if spec.model.name is not None else None
    answers = {pod: answer.value for pod, answer in observed.measured.items()}
    promise = servicelevels.promise(spec.monitoring, asks)
    # Without a Workspace the policy stays as it is: what serves goes on.
    policy, store = network.Policy("Unknown"), None
    if settings is not None:
        store = workspace.store_access(settings)
        policy = network.Policy.observe(observed, _policy(observed.subject, callers, store))
    return Facts(
        subject=observed.subject,
        replicas=spec.replicas,
        history_limit=spec.revision_history_limit,
        target=selection.target(observed, spec, revisions.served(serves, running, history, spec.model.name)),
        running=running,
        routing=service,
        serves=serves,
        policy=policy,
        callers=callers,
        store=store,
        foreign=tuple(sorted(observed.foreign)),
        history=history,
        waiting_since=before.since if before is not None and before.waiting.reason == _FOR_PODS else None,
        rollout=_rollout(observed, spec, serves, asks),
        levels=servicelevels.observe(observed.status, promise, answers, observed.levels),
        scaling=scaling.observe(observed, KIND, spec, serves),
        exposure=exposure.observe(observed, KIND, spec.expose),
        drifting=_drift(observed, spec, history),
        measuring=quality.observe(observed, spec.monitoring.quality),
    )


def _callers(spec: ModelDeploymentSpec) -> tuple[str, ...]:
    """The namespaces whose pods may call it: a Gateway's are in its own."""
    gateway = spec.expose.gateway.namespace if spec.expose is not None else None
    return tuple(sorted({*spec.access.namespaces, *([gateway] if gateway is not None else [])}))


def _rollout(
    observed: Observed, spec: ModelDeploymentSpec, serves: str | None, asks: Governance | None
) -> RolloutFacts:
    status = observed.status
    progress = rollout.progress_of(status.get("candidate"))
    back = api.RolledBack.model_validate(status["rolledBack"]) if "rolledBack" in status else None
    annotation = dig(observed.object, "metadata", "annotations", actions.ANNOTATION)
    asked = bool(rollout.steps(spec.rollout)) or back is not None or annotation is not None
    window, counted = None, {}
    heard: tuple[queries.Heard, ...] = ()
    if progress is not None:
        heard = queries.heard(observed, rollout.analysis(spec.rollout).prometheus)
        counted = {p: m.value for p, m in observed.measured.items() if isinstance(m.value, Counted)}
        copies = rollout.copies(spec.rollout, progress)
        window = windows.opened(progress.epoch, observed.baseline, counted, copies=copies)
    return RolloutFacts(
        settings=bounds.bounded(spec.rollout, asks),
        spec=rollout.digest_of(spec) if asked else "",
        progress=progress,
        rolled_back=back,
        annotation=annotation,
        handled=status.get("lastHandledAction"),
        paths=routing.observe(observed, KIND, serves),
        window=window,
        counted=tuple(sorted(counted.items(), key=lambda pod: pod[0])),
        last=api.LastRollout.model_validate(status["lastRollout"]) if "lastRollout" in status else None,
        heard=heard,
    )


def _drift(observed: Observed, spec: ModelDeploymentSpec, history: tuple[Promotion, ...]) -> drift.Facts | None:
    return drift.observe(
        spec.monitoring.drift,
        observed.status,
        _artifacts(history),
        observed.drift_baseline,
        {pod: measured.value for pod, measured in observed.measured.items()},
        timedelta(seconds=observed.drift_seconds),
    )


def _artifacts(history: tuple[Promotion, ...]) -> dict[str, str]:
    """Digests of artifacts by revision, where the history has them."""
    return {p.revision: p.artifact[1] for p in history if p.artifact is not None}


def policy_name(subject: Subject) -> str:
    return f"{subject.name}-access"


def _policy(subject: Subject, callers: tuple[str, ...], store: StoreAccess) -> Manifest:
    return network.serving(subject, KIND, policy_name(subject), callers, store)


def decide(facts: Facts, now: datetime) -> Decision:
    """Who serves, who comes up, who goes, and how many pods each has; and how well it was served."""
    scaled, levels = _scaled(facts, now), servicelevels.decide(facts.levels, now)
    decision = _decide(_at(facts, scaled), now)
    again = _soonest(decision.requeue_after, levels.requeue_after, scaled.look_again if scaled is not None else None)
    return replace(decision, scaled=scaled, levels=levels, requeue_after=again)


def _scaled(facts: Facts, now: datetime) -> autoscaling.Scaled | None:
    """How many pods what serves is to have, where not spec.replicas says it."""
    if facts.scaling is None:
        return None
    stable = find(facts.running, facts.serves)
    # A Service that was made a moment ago may not be seen yet, and what it selects serves.
    runs = stable.wanted if stable is not None else max((r.wanted for r in facts.running), default=0)
    return autoscaling.decide(facts.scaling.situation, runs, now)


def _at(facts: Facts, scaled: autoscaling.Scaled | None) -> Facts:
    """The facts, with the number of pods that was decided."""
    return facts if scaled is None else replace(facts, replicas=scaled.replicas)


def _decide(facts: Facts, now: datetime) -> Decision:
    target = facts.target
    if isinstance(target, Waiting):
        return _told(facts, _hold(facts, target), now)
    stable = find(facts.running, facts.serves)
    course = rollout.course(_situation(facts, target, stable, now), now)
    wanted = course.goal
    candidate = find(facts.running, wanted)
    promoted = _takes_over(facts, candidate, stable, course)
    makes_service = _may_create_service(facts)
    # A Service that is made now selects what serves, or else what is wanted: nothing served before.
    serves = wanted if promoted or (makes_service and facts.serves is None) else facts.serves
    history = _promoted(facts, serves, now)
    scale, delete, again = _others(facts, keep={wanted, serves}, history=history, now=now)
    arm = facts.replicas if serves == wanted else _arm(facts, course)
    if candidate is not None and candidate.wanted != arm:
        scale = ((candidate, arm), *scale)
    if stable is not None and stable.id != wanted and not promoted and stable.wanted != facts.replicas:
        scale = ((stable, facts.replicas), *scale)
    waiting, look = _unfinished(facts, wanted, candidate, arm, serves == wanted, now)
    if course.waiting is not None and (waiting is None or waiting.reason == _TAKING_OVER):
        waiting, look = course.waiting, course.look_again
    may_create = wanted == target.id(facts.subject) and _name_free(
        facts, "Deployment", deployment_name(facts.subject, wanted)
    )
    decision = Decision(
        create=arm if candidate is None and may_create else None,
        create_service=serves if makes_service else None,
        route=_route(facts, serves or wanted),
        scale=scale,
        delete=delete,
        serving=serves,
        history=history,
        waiting=waiting,
        requeue_after=_soonest(again, look, course.look_again),
        course=course,
    )
    return _told(facts, decision, now)


def _arm(facts: Facts, course: Course) -> int:
    """How many pods the revision that is coming up is to have: with an autoscaler, as many as its share takes."""
    if facts.scaling is None or not course.by_steps:
        return facts.replicas
    return rollout.pods_of_candidate(facts.rollout.settings, course.progress, facts.replicas)


def _situation(facts: Facts, target: Revision, stable: Running | None, now: datetime) -> rollout.Situation:
    known, wanted = facts.rollout, target.id(facts.subject)
    candidate, told = find(facts.running, wanted), facts.rollout.paths.told
    serves = stable.id if stable is not None else None
    former = (find(facts.running, p.revision) for p in facts.history if p.revision != serves)
    there = min(candidate.available, candidate.wanted) if candidate is not None else -1
    first = facts.replicas
    if facts.scaling is not None and rollout.steps(known.settings):
        first = rollout.pods_of_candidate(known.settings, None, facts.replicas)
    handed_over = (
        told is not None
        and known.progress is not None
        and (told.epoch, told.weight) == (known.progress.epoch, 100)
        and routing.settled(told, now)
    )
    return rollout.Situation(
        name=facts.subject.name,
        settings=known.settings,
        spec=known.spec,
        wanted=wanted,
        version=target.version,
        stable=serves,
        stable_ready=stable is not None and stable.available > 0,
        previous=next((r.id for r in former if r is not None and not r.leaving), None),
        ready=there >= facts.replicas,
        begins=there >= first,
        replicas=facts.replicas,
        handed_over=handed_over,
        progress=known.progress,
        rolled_back=known.rolled_back,
        annotation=known.annotation,
        handled=known.handled,
        window=known.window,
        heard=known.heard,
    )


def _told(facts: Facts, decision: Decision, now: datetime) -> Decision:
    """The decision, with what pods are to be told, and what is to be said of drift and quality."""
    known, course = facts.rollout, decision.course
    wanted = course.goal if course is not None else None
    told, again = routing.next_writes(
        facts.subject,
        KIND,
        known.paths,
        known.settings,
        known.progress,
        course.progress if course is not None else None,
        find(facts.running, wanted),
        _least(facts),
        facts.serves,
        all(r.pods == 0 for r in facts.running if r.id not in (facts.serves, wanted)),
        now,
    )
    told = tuple(write for write in told if not _is_foreign(facts, write))
    # The Service may have moved already, and the status not been written then.
    served = facts.history[0].revision if facts.history else facts.serves
    last = ended.last(known.settings, known.progress, course, facts.running, served, decision.serving, now)
    drifting, measuring, artifacts = None, None, _artifacts((*facts.history, *decision.history))
    if facts.drifting is not None:
        drifting = drift.course(facts.drifting, decision.serving, artifacts, now)
    if facts.measuring is not None:
        compared = facts.drifting.tally if facts.drifting is not None and drifting and drifting.compared else None
        measuring = quality.course(facts.measuring, decision.serving, artifacts, compared, now)
    looks = (found.look_again for found in (drifting, measuring) if found is not None)
    look = _soonest(decision.requeue_after, again, *looks)
    return replace(decision, last=last, told=told, drifting=drifting, measuring=measuring, requeue_after=look)


def _least(facts: Facts) -> int:
    """How many pods of the candidate must be there before it gets the share that the status says."""
    known = facts.rollout
    if facts.scaling is None or known.progress is None:
        return 1
    return rollout.pods_of_candidate(known.settings, known.progress, facts.replicas)


def _is_foreign(facts: Facts, write: Write) -> bool:
    manifest = write.manifest if isinstance(write, Create) else None
    return manifest is not None and not _name_free(facts, manifest["kind"], manifest["metadata"]["name"])


def _soonest(*times: timedelta | None) -> timedelta | None:
    return min((t for t in times if t is not None), default=None)


def _may_create_service(facts: Facts) -> bool:
    return facts.routing is None and _name_free(facts, "Service", facts.subject.name)


def _route(facts: Facts, goal: str) -> str | None:
    """The revision that an existing Service has to be moved or mended to, if any."""
    service = facts.routing
    if service is None:
        return None
    coming = find(facts.running, goal)
    if service.revision is not None and facts.replicas > 0 and (coming is None or coming.available == 0):
        goal = service.revision  # there is nothing yet to move it to
    return None if service.revision == goal and service.current else goal


def _name_free(facts: Facts, kind: str, name: str) -> bool:
    return (kind, name) not in facts.foreign


def _hold(facts: Facts, waiting: Waiting) -> Decision:
    """Nothing new to serve: what serves keeps its replicas, and nothing is taken away."""
    stable = find(facts.running, facts.serves)
    scale = ((stable, facts.replicas),) if stable is not None and stable.wanted != facts.replicas else ()
    return Decision(
        create_service=facts.serves if _may_create_service(facts) else None,
        route=_route(facts, facts.serves) if facts.serves is not None else None,
        scale=scale,
        serving=facts.serves,
        history=facts.history,
        waiting=waiting,
    )


def _takes_over(facts: Facts, candidate: Running | None, stable: Running | None, course: Course) -> bool:
    """Whether the Service may select the candidate: never while that would take ready pods away."""
    if candidate is None or (course.by_steps and not course.takes_over):
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
    running, target = find(facts.running, serving), facts.target
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
    paths = facts.rollout.paths
    former = [
        r for r in facts.running if r.id not in keep and not r.leaving and not routing.points_at(paths, r.id, now)
    ]
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
    facts: Facts, wanted: str, candidate: Running | None, arm: int, takes_traffic: bool, now: datetime
) -> tuple[Waiting | None, timedelta | None]:
    """What is still to come until the declared state is reached, and when to look again though nothing happens."""
    subject = facts.subject
    names = {subject.name, policy_name(subject), deployment_name(subject, wanted)}
    if rollout.steps(facts.rollout.settings):
        names |= {serving.candidate_name(subject), serving.routes_name(subject)}
    for kind, name in facts.foreign:
        if name in names and kind in _CHILDREN:  # of the others their own conditions tell
            return retry.name_taken(kind, name), retry.MAX
    available = candidate.available if candidate is not None else 0
    if candidate is not None and candidate.trouble is not None and available < arm:
        return Waiting(candidate.trouble.reason, candidate.trouble.message, stalled=True), None
    if available < arm:
        # What is said here before the Deployment exists is said in the same words once it does: one write less.
        message = f"{available} of {arm} pods of revision {wanted} are ready"
        left = _patience(facts, candidate, now)
        if left > timedelta():
            return Waiting(_FOR_PODS, message), left
        minutes = retry.PATIENCE // timedelta(minutes=1)
        logs = f"kubectl logs -n {facts.subject.namespace} -l {serving.REVISION_LABEL}={wanted}"
        return Waiting(
            _FOR_PODS, f"{message}, after {minutes} minutes and more; {logs} may say why", stalled=True
        ), None
    if candidate is None or facts.routing is None:
        return Waiting("CreatingRevision", f"revision {wanted} is being created"), None
    if not takes_traffic:
        return Waiting(_TAKING_OVER, f"revision {candidate.id} is taking over"), None
    return None, None


def _patience(facts: Facts, candidate: Running | None, now: datetime) -> timedelta:
    """For how long the pods may still take before a person is asked to look: since they are waited for and exist."""
    if candidate is None or facts.waiting_since is None:
        return retry.PATIENCE
    since = max(facts.waiting_since, moment(candidate.created)) if candidate.created else facts.waiting_since
    # A clock that was set back makes the start lie ahead: then it has only just begun.
    return retry.PATIENCE - max(now - since, timedelta())


def render(facts: Facts, decision: Decision) -> Outcome:
    facts = _at(facts, decision.scaled)
    subject, target, course = facts.subject, facts.target, decision.course
    stable, coming = find(facts.running, decision.serving), None
    if isinstance(target, Revision):
        wanted = target.id(subject)
        newest = find(facts.running, wanted)
        if newest is None and decision.create is not None:
            newest = revisions.to_be(subject, target, wanted)
        if wanted == decision.serving:
            stable = newest
        elif course is None or course.goal == wanted:
            coming = newest
    has_url = facts.routing is not None or decision.create_service is not None
    inside = f"http://{subject.name}.{subject.namespace}.svc" if has_url else None
    status: dict[str, Any] = {
        "url": (exposure.url(subject, facts.exposure) if has_url else None) or inside,
        "replicas": sum(r.pods for r in facts.running),
        "selector": f"{serving.NAME_LABEL}={subject.name}",
        "stable": revisions.status_of(stable),
        "candidate": _candidate(facts, decision, coming),
        **_said_of_rollout(facts, decision),
        "autoscaling": autoscaling.status_of(decision.scaled.scale) if decision.scaled is not None else None,
        "drift": drift.status_of(decision.drifting),
        "quality": quality.status_of(decision.measuring),
        "serviceLevels": servicelevels.status_of(decision.levels),
        "history": [revisions.promotion_status(p) for p in decision.history] or None,
    }
    ready, available = _conditions(facts, decision, stable)
    weighed = course is not None and course.weighed and course.progress is not None
    drifting, measuring = decision.drifting, decision.measuring
    compared = drifting is not None and drifting.compared
    said = (
        drifting.condition if drifting is not None else None,
        *((measuring.condition, measuring.kept) if measuring is not None else ()),
    )
    watched = [condition for condition in said if condition is not None]
    return Outcome(
        status=status,
        conditions=(
            ready,
            available,
            *conditions.progress(ready, decision.waiting),
            *_rolled_back(facts, status["rolledBack"]),
            *_told_of_surroundings(facts, decision),
            *watched,
        ),
        headline=("Ready", "Available"),
        writes=_writes(facts, decision),
        requeue_after=_soonest(decision.requeue_after, _looks_for_a_gateway(facts)),
        events=tuple(event for found in (course, drifting, measuring) if found is not None for event in found.events),
        baseline=dict(facts.rollout.counted) if weighed else None,
        drift_baseline=dict(facts.drifting.answers) if compared and facts.drifting is not None else None,
        levels=dict(facts.levels.answers) if decision.levels.ended else None,
        guards=_forgotten(facts),
    )


def _forgotten(facts: Facts) -> Guards:
    """What the status says no more of must be gone."""
    by_cpu = scaling.forgotten(facts.subject, facts.scaling) if facts.scaling is not None else ()
    routed = exposure.forgotten(facts.subject, facts.exposure) if facts.exposure is not None else ()
    return (*by_cpu, *routed)


def _candidate(facts: Facts, decision: Decision, coming: Running | None) -> dict[str, Any] | None:
    said, course = revisions.status_of(coming), decision.course
    if said is None or course is None or course.progress is None:
        return said
    return {**said, **rollout.status_of(facts.rollout.settings, course.progress, decision.waiting)}


def _said_of_rollout(facts: Facts, decision: Decision) -> dict[str, Any]:
    course = decision.course
    back = course.rolled_back if course is not None else facts.rollout.rolled_back
    return {
        "rolledBack": back.without_none() if back is not None else None,
        "lastRollout": ended.status_of(decision.last or facts.rollout.last),
        "lastHandledAction": course.handled if course is not None else facts.rollout.handled,
    }


def _rolled_back(facts: Facts, back: dict[str, Any] | None) -> tuple[Condition, ...]:
    """Whether what the spec asks for was rolled back; not asked where it never can be."""
    if back is not None:
        return (true("RolledBack", back["reason"], f"revision {back['revision']}: {back['message']}"),)
    if not rollout.steps(facts.rollout.settings):
        return ()
    return (false("RolledBack", "NothingRolledBack"),)


def _told_of_surroundings(facts: Facts, decision: Decision) -> tuple[Condition, ...]:
    """What an autoscaler and a Gateway say; of no use to anybody who has neither."""
    found: list[Condition | None] = []
    if facts.exposure is not None:
        found.append(exposure.condition(facts.subject, facts.exposure))
    if facts.scaling is not None and decision.scaled is not None:
        found.append(scaling.condition(facts.subject, facts.scaling, decision.scaled))
    return tuple(condition for condition in found if condition is not None)


def _looks_for_a_gateway(facts: Facts) -> timedelta | None:
    """The Gateway API may be there by now."""
    missing = facts.exposure is not None and facts.exposure.route.absent is not None
    return exposure.LOOK_AGAIN if missing else None


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


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    subject, target = facts.subject, facts.target
    writes: list[Write] = []
    if facts.store is not None:
        writes += facts.policy.writes(_policy(subject, facts.callers, facts.store))
    if isinstance(target, Revision) and decision.create is not None:
        writes.append(Create(serving.deployment(subject, KIND, target, decision.create)))
    if decision.create_service is not None:
        writes.append(Create(serving.service(subject, KIND, decision.create_service)))
    service = facts.routing
    if service is not None and decision.route is not None:
        running = find(facts.running, decision.route)
        guards = _still_ready(facts, running) if running is not None else ()
        writes.append(Apply(serving.service(subject, KIND, decision.route), service.uid, guards, unchanged=True))
    for running, replicas in decision.scale:
        guards = _may_end(facts, running) if replicas == 0 and running.id != decision.serving else ()
        if running.id == decision.serving and replicas < running.wanted:
            guards = _may_go_down(facts, decision)
        writes.append(Apply(serving.scaled(subject, running.name, replicas), running.uid, guards))
    if facts.scaling is not None and decision.scaled is not None:
        writes += scaling.writes(subject, KIND, facts.scaling, decision.scaled)
    if facts.exposure is not None:
        writes += exposure.writes(subject, KIND, facts.exposure)
    if facts.measuring is not None and decision.measuring is not None:
        writes += quality.writes(subject, facts.measuring, decision.measuring)
    writes += [Delete("Deployment", r.name, r.uid, _may_end(facts, r)) for r in decision.delete]
    return (*writes, *decision.told)


def _may_go_down(facts: Facts, decision: Decision) -> Guards:
    if facts.scaling is None or decision.scaled is None:
        return ()
    return scaling.may_go_down(facts.subject, KIND, facts.scaling, decision.scaled)


def _may_end(facts: Facts, running: Running) -> Guards:
    """Nobody is sent to a revision that loses its pods, by the Service or by what pods are told."""
    known, guard = facts.rollout, _not_selected(facts.subject, running)
    rolls = rollout.steps(known.settings) or known.progress is not None or known.paths != routing.Paths()
    return (guard, routing.not_pointing(facts.subject, running.id)) if rolls else (guard,)


def _still_ready(facts: Facts, running: Running) -> Guards:
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
