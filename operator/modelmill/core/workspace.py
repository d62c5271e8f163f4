"""Workspace: tries its store once, and tells everybody in the namespace whether it works.

no Job of the store's settings -> Create it
the Job succeeded              -> PreflightPassed, until the settings change
the Job failed                 -> not passed, and why; try again, at first soon and then ever more seldom
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelmill.api.schema import ResourceRequirements
from modelmill.api.workspace import WorkspaceSpec
from modelmill.core import conditions, jobs, network, pods, retry
from modelmill.core.conditions import Waiting, false, true
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited, Write
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import OWNER_LABEL, Key, Manifest, dig
from modelmill_contracts import digest, task

NAME = "default"
KIND = "Workspace"


def store_access(spec: WorkspaceSpec) -> StoreAccess:
    """How the pods of the namespace reach the store that the Workspace declares."""
    store = spec.store
    return StoreAccess(
        task.StoreLocation(uri=store.uri, endpoint=store.endpoint, region=store.region),
        store.secret_ref.name if store.secret_ref else None,
    )


def asked_of(access: StoreAccess) -> str:
    """The digest of what a preflight tries: other settings are tried again."""
    return digest.of_json([task.encode(task.PreflightTask(access.location)), access.secret])


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
    return (*jobs.dependencies(namespace, uid, JOB), Key("NetworkPolicy", namespace, OWNER_LABEL, uid))


@dataclass(frozen=True)
class Facts:
    """What counts: the store, the Job that tries it, and what was found before."""

    subject: Subject
    declared: Unedited
    access: StoreAccess
    asked: str  # digest of what is tried: other settings are tried again
    policy: network.Policy
    run: jobs.Run
    passed: bool
    failing: retry.Failing | None


@dataclass(frozen=True)
class Decision:
    start: bool = False
    discard: bool = False
    waiting: Waiting | None = None  # None: passed
    requeue_after: timedelta | None = None


def observe(observed: Observed) -> Facts:
    access = store_access(WorkspaceSpec.model_validate(observed.object["spec"]))
    asked = asked_of(access)
    return Facts(
        subject=observed.subject,
        declared=Unedited.of(KIND, observed.object),
        access=access,
        asked=asked,
        policy=network.Policy.observe(observed, _policy(observed.subject, access)),
        run=jobs.observe(observed, JOB, asked),
        passed=observed.status.get("preflight") == asked,
        failing=retry.failing(observed, "PreflightPassed"),
    )


def _policy(subject: Subject, access: StoreAccess) -> Manifest:
    return network.jobs(subject, KIND, POLICY, access)


def decide(facts: Facts, now: datetime) -> Decision:
    run = facts.run
    if facts.passed or run.state == "Succeeded":
        return Decision()
    if run.state == "Foreign":
        return Decision(waiting=retry.name_taken("Job", JOB), requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        waiting, pause = retry.after_failure(run, now, facts.failing)
        return Decision(waiting=waiting, discard=not pause, requeue_after=pause)
    waiting = retry.under_way(run, facts.failing, Waiting("PreflightRunning", "the store is being tried"))
    return Decision(start=run.state == "Absent", discard=run.state == "Outdated", waiting=waiting)


def render(facts: Facts, decision: Decision) -> Outcome:
    writes: tuple[Write, ...] = facts.policy.writes(_policy(facts.subject, facts.access))
    if decision.start:
        work = task.PreflightTask(store=facts.access.location)
        limits = pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES)
        timeout = timedelta(minutes=2)
        job = jobs.render(
            facts.subject,
            KIND,
            JOB,
            facts.asked,
            work,
            facts.access,
            limits=limits,
            timeout=timeout,
            retries=0,
        )
        writes = (*writes, Create(job, (facts.declared,)))
    elif decision.discard:
        writes = (*writes, Delete("Job", JOB, facts.run.uid, (facts.declared,)))
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
    return Outcome(
        status={"preflight": facts.asked if decision.waiting is None else None},
        conditions=(ready, tried, *conditions.progress(ready, waiting)),
        headline=("Ready",),
        writes=writes,
        requeue_after=decision.requeue_after or (retry.MAX if facts.policy.state == "Taken" else None),
    )


CONTROLLER = Controller(KIND, depends, observe, decide, render)
