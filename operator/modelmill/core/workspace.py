"""Workspace: tries its store now and then, and tells everybody in the namespace whether it works.

no Job of the store's settings -> Create it
the Job succeeded              -> PreflightPassed, until the settings change; the same Job again after an hour or so
such a Job finds that it fails -> no longer passed; what keeps it from trying says nothing about the store
the Job failed                 -> not passed, and why; try again, at first soon and then ever more seldom
collect is enabled             -> collect what nobody refers to, once a day (core/collection.py)
training.maxParallel is given  -> admit TrainingJobs in their order (core/admission.py)
tracking.mlflow is given       -> show runs that ended in MLflow, whatever the store does (core/mirror.py)
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.schema import ResourceRequirements
from modelmill.api.workspace import WorkspaceSpec
from modelmill.core import admission, claims, collection, conditions, jobs, mirror, network, pods, retry
from modelmill.core.conditions import Condition, Waiting, false, moment, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited, Write
from modelmill.core.pods import NOBODY, Identity, StoreAccess
from modelmill.core.resources import OWNER_LABEL, Key, Manifest, dig
from modelmill_contracts import addresses, digest, environment, report, task

NAME = "default"
SHARED = "StoreShared"
KIND = "Workspace"
_VOLUME = "pvc://"
REPEAT = timedelta(hours=1)  # a store that works is tried again after this, and
_SPREAD = timedelta(minutes=15)  # at most so much later, not all Workspaces at the same time
# How long a try may take, and how often it is repeated: for the first one somebody waits; later, a store that worked is
# not said to fail for a moment's trouble.
_FIRST, _AGAIN = (timedelta(minutes=2), 0), (timedelta(minutes=10), 3)
_SHARED = "ReadWriteMany"


def store_access(spec: WorkspaceSpec) -> StoreAccess:
    """How the pods of the namespace reach the store that the Workspace declares."""
    store = spec.store
    uri, claim = store.uri, None
    if uri.startswith(_VOLUME):
        claim, folder = _volume(uri)
        uri = f"file://{environment.STORE_FOLDER}{folder}"
    return StoreAccess(
        task.StoreLocation(uri, store.endpoint, store.region, store.account),
        store.secret_ref.name if store.secret_ref else None,
        claim,
        _identity(spec),
    )


def _volume(uri: str) -> tuple[str, str]:
    """The claim of a pvc:// uri, and the folder in its volume: empty, or with a slash in front."""
    claim, slash, folder = uri.removeprefix(_VOLUME).partition("/")
    return claim, slash + folder


def _identity(spec: WorkspaceSpec) -> Identity:
    if spec.identity is None:
        return NOBODY
    labels = tuple(sorted((spec.identity.pod_labels or {}).items()))
    return Identity(spec.identity.service_account_name, labels)


def asked_of(access: StoreAccess) -> str:
    """The digest of what a preflight tries: other settings are tried again."""
    return digest.of_json([task.encode(task.PreflightTask(access.location)), access.secret, *access.more])


def forbidden_image(settings: WorkspaceSpec, store: StoreAccess, image: str, where: str) -> Waiting | None:
    """Why a container of the user's own, declared at `where`, may not run in a pod that reaches the store."""
    allowed = settings.allow.images
    if not any(_matches(pattern, image) for pattern in allowed):
        allows = f"allows {', '.join(allowed)}" if allowed else "allows no images"
        said = f"{where}.image is {image}; {KIND} {NAME} {allows}: add it to spec.allow.images, or use another"
        return Waiting("ImageNotAllowed", said, stalled=True, failed=True)
    if store.by_identity:
        said = (
            f"{where} would run as the identity that reaches the store; give {KIND} {NAME} a store.secretRef and no"
            " identity, or do without the container"
        )
        return Waiting("IdentityExposed", said, stalled=True, failed=True)
    return None


def _matches(pattern: str, image: str) -> bool:
    """Whether the image is one of the pattern's, in which * stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), image) is not None


def dependency(namespace: str) -> Key:
    """Everything in a namespace that needs the store depends on this."""
    return Key(KIND, namespace, "metadata.name", NAME)


def declared(observed: Observed, kind: str) -> tuple[Unedited, ...]:
    """Guards: the object of that kind, and the namespace's Workspace, are declared as they were when they were read."""
    workspace = observed.get(KIND, NAME)
    guards = (Unedited.of(kind, observed.object),)
    return guards if workspace is None else (*guards, Unedited.of(KIND, workspace))


def settings(observed: Observed) -> WorkspaceSpec | None:
    """The namespace's Workspace, where there is one."""
    workspace = observed.get(KIND, NAME)
    return None if workspace is None else WorkspaceSpec.model_validate(workspace["spec"])


def working_store(observed: Observed) -> StoreAccess | Waiting:
    """The namespace's store if its preflight passed, or why not."""
    workspace = observed.get(KIND, NAME)
    if workspace is None:
        return Waiting(
            "WorkspaceNotFound",
            f"namespace {observed.namespace} has no store; create the Workspace {NAME}, for example with"
            f" kubectl apply -n {observed.namespace} -k manifests/store",
            stalled=True,
            failed=True,
        )
    access = store_access(WorkspaceSpec.model_validate(workspace["spec"]))
    if dig(workspace, "status", "preflight") == asked_of(access):
        return access  # what was tried is what is declared, whatever else of the Workspace changed
    condition = conditions.find(workspace, "PreflightPassed")
    if condition is not None and condition["status"] == "False":
        message = f"{KIND} {NAME}: {condition['message']}"
        return Waiting(condition["reason"], message, conditions.is_true(workspace, "Stalled"), failed=True)
    return Waiting("PreflightRunning", f"Workspace {NAME} is trying its store")


JOB = f"{NAME}-preflight"
POLICY = "modelmill-jobs"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, uid = metadata["namespace"], metadata["uid"]
    uri = dig(manifest, "spec", "store", "uri") or ""
    claim = _volume(uri)[0] if uri.startswith(_VOLUME) else None
    collect = dig(manifest, "spec", "store", "collect") or {}
    return (
        *((Key("PersistentVolumeClaim", namespace, "metadata.name", claim),) if claim is not None else ()),
        *jobs.dependencies(namespace, uid, JOB),
        Key("NetworkPolicy", namespace, OWNER_LABEL, uid),
        # Only who asks for it is woken by everything in the namespace.
        *(
            collection.dependencies(namespace, uid, artifacts=bool(collect.get("artifacts")))
            if collect.get("enabled")
            else ()
        ),
        *(admission.dependencies(namespace) if dig(manifest, "spec", "training", "maxParallel") is not None else ()),
        *(mirror.dependencies(namespace, uid) if dig(manifest, "spec", "tracking") is not None else ()),
    )


@dataclass(frozen=True)
class Facts:
    """What counts: the store, the Job that tries it, and what was found before."""

    subject: Subject
    declared: Unedited
    access: StoreAccess
    asked: str  # digest of what is tried: other settings are tried again
    policy: network.Policy
    unusable: Waiting | None  # what is wrong with the store's endpoint or claim
    run: jobs.Run
    passed: bool
    owned: bool
    shared: bool  # it was said that another Workspace uses it, too
    since: datetime | None  # it works since then
    failing: retry.Failing | None
    collecting: collection.Facts | None
    parallel: int | None
    candidates: tuple[admission.Candidate, ...]
    admitted: frozenset[str]  # UIDs
    mirroring: mirror.Facts | None


@dataclass(frozen=True)
class Decision:
    start: bool = False
    discard: bool = False
    waiting: Waiting | None = None  # None: passed
    owned: bool = False
    collected: collection.Decision | None = None
    admitted: tuple[admission.Candidate, ...] = ()
    mirrored: mirror.Decision | None = None
    requeue_after: timedelta | None = None


def observe(observed: Observed) -> Facts:
    spec = WorkspaceSpec.model_validate(observed.object["spec"])
    access = store_access(spec)
    asked, collect = asked_of(access), spec.store.collect
    parallel = spec.training.max_parallel if spec.training else None
    known = _said(observed, "PreflightPassed", "True")
    mirroring = mirror.observe(observed, spec.tracking.mlflow) if spec.tracking is not None else None
    tracking = mirroring.uri if mirroring is not None else None
    return Facts(
        subject=observed.subject,
        declared=Unedited.of(KIND, observed.object),
        access=access,
        asked=asked,
        policy=network.Policy.observe(observed, _policy(observed.subject, access, tracking)),
        unusable=_unusable(observed, access),
        run=claims.explained(observed, access.claim, jobs.observe(observed, JOB, asked)),
        passed=observed.status.get("preflight") == asked,
        owned=observed.status.get("owned") == asked,
        shared=_said(observed, "Collected", "False").get("reason") == SHARED,
        since=moment(known["lastTransitionTime"]) if known else None,
        failing=retry.failing(observed, "PreflightPassed"),
        collecting=collection.observe(observed, asked, artifacts=collect.artifacts) if collect.enabled else None,
        parallel=parallel,
        candidates=admission.candidates(observed) if parallel is not None else (),
        admitted=frozenset(a["uid"] for a in observed.status.get("admitted", ())),
        mirroring=mirroring,
    )


def _said(observed: Observed, type_: str, status: str) -> Mapping[str, Any]:
    """The condition of that type, where it has that status."""
    condition = conditions.find(observed.object, type_) or {}
    return condition if condition.get("status") == status else {}


def _unusable(observed: Observed, access: StoreAccess) -> Waiting | None:
    """Why the store need not be tried."""
    endpoint = access.location.endpoint
    if endpoint is not None and addresses.is_denied_as_written(endpoint):
        said = addresses.refusal(endpoint, "spec.store.endpoint")
        return Waiting("StoreAddressDenied", said, stalled=True, failed=True)
    return _without_volume(observed, access.claim) if access.claim is not None else None


def _without_volume(observed: Observed, claim: str) -> Waiting | None:
    """Why the pods of many nodes cannot have the volume."""
    found = observed.get("PersistentVolumeClaim", claim)
    what = f"PersistentVolumeClaim {claim}"
    if found is None:
        said = f"there is no {what} in this namespace; create it, with access mode {_SHARED}"
        return Waiting("ClaimNotFound", said, stalled=True, failed=True)
    modes = dig(found, "spec", "accessModes") or ()
    if _SHARED not in modes:
        said = f"{what} has access mode {', '.join(modes)}, and pods on many nodes need {_SHARED}; name another claim"
        return Waiting("ClaimNotShared", said, stalled=True, failed=True)
    if dig(found, "status", "phase") == "Lost":
        return Waiting(
            "ClaimLost", f"the volume of {what} is gone; restore it, or name another claim", True, failed=True
        )
    return None


def _policy(subject: Subject, access: StoreAccess, tracking: str | None) -> Manifest:
    return network.jobs(subject, KIND, POLICY, access, tracking)


def decide(facts: Facts, now: datetime) -> Decision:
    decision = _trial(facts, now)
    if facts.collecting is not None and decision.waiting is None and decision.owned:
        collected = collection.decide(facts.collecting, now)
        again = _sooner(decision.requeue_after, collected.requeue_after)
        decision = replace(decision, collected=collected, requeue_after=again)
    if facts.parallel is not None:
        admitted = admission.admitted(facts.candidates, facts.admitted, facts.parallel)
        decision = replace(decision, admitted=admitted)
    if facts.mirroring is not None:
        mirrored = mirror.decide(facts.mirroring, now)
        again = _sooner(decision.requeue_after, mirrored.requeue_after)
        decision = replace(decision, mirrored=mirrored, requeue_after=again)
    return decision


def _sooner(*pauses: timedelta | None) -> timedelta | None:
    return min((pause for pause in pauses if pause is not None), default=None)


def _trial(facts: Facts, now: datetime) -> Decision:
    """Whether the store works and, where that counts, whether it is this Workspace's alone."""
    run = facts.run
    if facts.unusable is not None:
        return Decision(waiting=facts.unusable)
    if facts.passed and not _finds_fault(run) and (run.state != "Foreign" or not _is_unknown_whose(facts)):
        return _passed(facts, now)
    if run.state == "Succeeded":
        result = run.report.result if run.report is not None else None
        return Decision(owned=isinstance(result, report.PreflightResult) and result.owned)
    if run.state == "Foreign":
        return Decision(waiting=retry.name_taken("Job", JOB), requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        waiting, pause = retry.after_failure(run, now, facts.failing)
        return Decision(waiting=waiting, discard=not pause, requeue_after=pause)
    waits = retry.under_way(run, facts.failing, Waiting("PreflightRunning", "the store is being tried"))
    return Decision(start=run.state == "Absent", discard=run.state == "Outdated", waiting=waits)


def _is_unknown_whose(facts: Facts) -> bool:
    """Whether it counts whose the store is, and it is not known to be this Workspace's alone."""
    return facts.collecting is not None and not facts.owned


def _finds_fault(run: jobs.Run) -> bool:
    """Whether a Job found that the store fails: a full cluster, or a node that goes away, says nothing about it."""
    said = run.report if run.state == "Failed" else None
    return said is not None and (said.store or not said.retryable)


def _number(uid: str) -> int:
    """A number of its own for each UID."""
    return int(digest.hex_of(digest.of_bytes(uid.encode()))[:8], 16)


def _passed(facts: Facts, now: datetime) -> Decision:
    """What is known to work goes on working while it is tried again, or asked whose it is."""
    run = facts.run
    result = run.report.result if run.report is not None else None
    owned = result.owned if isinstance(result, report.PreflightResult) else facts.owned
    if run.leaving or run.state in ("Active", "Foreign", "Leaving"):
        return Decision(owned=owned)
    if _is_unknown_whose(facts) and run.state in ("Absent", "Outdated", "Lost"):
        pause = timedelta()
    elif run.state == "Failed":
        pause = retry.MAX_UNCHANGED  # it was not tried
    else:
        pause = REPEAT + timedelta(seconds=_number(facts.subject.uid) % _SPREAD.total_seconds())
    # A clock that was set back makes the last try lie ahead: then it has only just ended.
    left = pause - max(now - (run.ended or facts.since or now), timedelta())
    if left > timedelta():
        return Decision(owned=owned, requeue_after=left)
    return Decision(owned=owned, start=run.state == "Absent", discard=run.state != "Absent")


def render(facts: Facts, decision: Decision) -> Outcome:
    waiting = decision.waiting
    if waiting is None:
        tried = true("PreflightPassed", "StoreWorks", "the store takes, gives and deletes objects")
        ready = true("Ready", "PreflightPassed", f"store {facts.access.location.uri} works")
    else:
        tried = waiting.condition("PreflightPassed")
    if waiting is None and facts.policy.state == "Taken":
        waiting = retry.name_taken("NetworkPolicy", POLICY)
    if waiting is not None:
        ready = false("Ready", waiting.reason, waiting.message)
    done = facts.collecting.done if facts.collecting is not None else None
    if decision.collected is not None:
        done = decision.collected.done
    status: dict[str, Any] = {
        "preflight": facts.asked if decision.waiting is None else None,
        "owned": facts.asked if decision.waiting is None and decision.owned else None,
        "collected": asdict(done) if done is not None else None,
        "admitted": [{"name": c.name, "uid": c.uid} for c in decision.admitted] or None,
        "mirrored": mirror.status_of(facts.mirroring),
    }
    return Outcome(
        status=status,
        conditions=(
            ready,
            tried,
            _collected(facts, decision),
            mirror.condition(facts.mirroring, decision.mirrored),
            *conditions.progress(ready, waiting),
        ),
        headline=("Ready",),
        writes=_writes(facts, decision),
        requeue_after=_sooner(retry.MAX, decision.requeue_after)
        if facts.policy.state == "Taken"
        else decision.requeue_after,
    )


def _collected(facts: Facts, decision: Decision) -> Condition:
    """What is said of the collection."""
    if facts.collecting is None:
        return unknown("Collected", "NotAsked", "spec.store.collect.enabled is false: nothing is deleted")
    if decision.collected is not None:
        return collection.condition(decision.collected)
    if decision.waiting is not None:
        return decision.waiting.condition("Collected")
    if facts.run.state != "Succeeded" and not facts.shared:
        return unknown("Collected", "PreflightRunning", "it is being asked whose the store is")
    said = (
        f"store {facts.access.location.uri} is not this Workspace's alone: another one uses it, or did; nothing is"
        " collected. Give this one a prefix of its own"
    )
    return false("Collected", SHARED, said)


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    tracking = facts.mirroring.uri if facts.mirroring is not None else None
    writes: tuple[Write, ...] = facts.policy.writes(_policy(facts.subject, facts.access, tracking))
    if decision.start:
        timeout, retries = _AGAIN if facts.passed else _FIRST
        job = jobs.render(
            facts.subject,
            KIND,
            JOB,
            facts.asked,
            task.PreflightTask(store=facts.access.location, owner=facts.subject.uid),
            facts.access,
            limits=pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES),
            timeout=timeout,
            retries=retries,
        )
        writes = (*writes, Create(job, (facts.declared,)))
    elif decision.discard:
        writes = (*writes, Delete("Job", JOB, facts.run.uid, (facts.declared,)))
    if facts.collecting is not None and decision.collected is not None:
        collected = (facts.subject, KIND, facts.collecting, decision.collected, facts.access, facts.declared)
        writes = (*writes, *collection.writes(*collected))
    if facts.mirroring is not None and decision.mirrored is not None:
        writes = (*writes, *mirror.writes(facts.subject, KIND, facts.mirroring, decision.mirrored, facts.declared))
    return writes


CONTROLLER = Controller(KIND, depends, observe, decide, render)
