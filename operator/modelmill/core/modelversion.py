"""ModelVersion: verifies that the artifact is what its digest says, once, before anybody may serve it.

the store does not work   -> wait for the Workspace
not verified yet          -> a Job fetches the artifact and checks every digest
the Job failed            -> say why; try again only where time may heal it
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.modelversion import ModelVersionSpec
from modelmill.api.schema import ResourceRequirements
from modelmill.core import conditions, jobs, pods, retry, workspace
from modelmill.core.conditions import Waiting, false, true
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Key, Manifest
from modelmill_contracts import digest, report, task

KIND = "ModelVersion"
TIMEOUT = timedelta(minutes=30)
# Reasons that are about the artifact's bytes.  Everything else, a store that refused the key included, may heal.
FINAL = ("DigestMismatch", "ManifestInvalid", "ArtifactTooLarge", "FileMissing", "NotARegularFile", "FileUnexpected")


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    uri: str
    artifact: str
    store: StoreAccess | Waiting
    job: str
    asked: str
    run: jobs.Run
    verified: report.VerificationResult | None  # what the status says
    failing: retry.Failing | None


@dataclass(frozen=True)
class Decision:
    start: bool = False
    discard: bool = False
    verified: report.VerificationResult | None = None
    waiting: Waiting | None = None
    requeue_after: timedelta | None = None


def job_name(name: str) -> str:
    return f"{name}-verify"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    return (workspace.dependency(namespace), *jobs.dependencies(namespace, metadata["uid"], job_name(name)))


def observe(observed: Observed) -> Facts:
    spec = ModelVersionSpec.model_validate(observed.object["spec"])
    job = job_name(observed.subject.name)
    store = workspace.working_store(observed)
    where = workspace.asked_of(store) if isinstance(store, StoreAccess) else ""
    asked = digest.of_json([spec.artifact.uri, spec.artifact.digest, where])
    known = observed.status.get("schema")
    verified = None
    if known is not None and conditions.is_true(observed.object, "Verified"):
        verified = report.VerificationResult(
            spec.artifact.digest,
            tuple(_tensor(t) for t in known.get("inputs", ())),
            tuple(_tensor(t) for t in known.get("outputs", ())),
            observed.status.get("size", 0),
        )
    return Facts(
        subject=observed.subject,
        declared=workspace.declared(observed, KIND),
        uri=spec.artifact.uri,
        artifact=spec.artifact.digest,
        store=store,
        job=job,
        asked=asked,
        run=jobs.observe(observed, job, asked),
        verified=verified,
        failing=retry.failing(observed, "Verified"),
    )


def _tensor(manifest: Manifest) -> report.TensorSummary:
    return report.TensorSummary(manifest["name"], manifest["datatype"], tuple(manifest.get("shape", ())))


def decide(facts: Facts, now: datetime) -> Decision:
    run = facts.run
    if facts.verified is not None:
        return Decision(verified=facts.verified)
    if run.state == "Succeeded" and run.report is not None:
        if isinstance(run.report.result, report.VerificationResult):
            return Decision(verified=run.report.result)
        return Decision(waiting=Waiting("ReportInvalid", "the Job's report is not that of a verification", True))
    if isinstance(facts.store, Waiting):
        return Decision(waiting=facts.store)
    if run.state == "Foreign":
        taken = retry.name_taken("Job", facts.job)
        return Decision(waiting=taken, requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        if run.report is not None and run.report.reason in FINAL:
            # An artifact never changes: what is wrong stays wrong.
            return Decision(waiting=Waiting(run.report.reason, run.report.message, stalled=True, failed=True))
        waiting, pause = retry.after_failure(run, now, facts.failing)
        return Decision(waiting=waiting, discard=pause is None, requeue_after=pause)
    running = Waiting("VerificationRunning", "the artifact is being fetched and verified")
    waiting = retry.under_way(run, facts.failing, running)
    return Decision(start=run.state == "Absent", discard=run.state == "Outdated", waiting=waiting)


def render(facts: Facts, decision: Decision) -> Outcome:
    writes: tuple[Create | Delete, ...] = ()
    if decision.discard:
        writes = (Delete("Job", facts.job, facts.run.uid, facts.declared),)
    elif decision.start and isinstance(facts.store, StoreAccess):
        work = task.VerificationTask(facts.store.location, facts.uri, facts.artifact)
        limits = pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES)
        job = jobs.render(
            facts.subject,
            KIND,
            facts.job,
            facts.asked,
            work,
            facts.store,
            limits=limits,
            timeout=TIMEOUT,
            retries=1,
        )
        writes = (Create(job, facts.declared),)
    waiting, status = decision.waiting, _status(decision.verified)
    if waiting is None:
        verified = true("Verified", "DigestsMatch", "every file has the digest that the manifest says")
        ready = true("Ready", "Verified", "the artifact is verified; this version may be served")
    else:
        verified = waiting.condition("Verified")
        ready = false("Ready", waiting.reason, waiting.message)
    return Outcome(
        status=status,
        conditions=(ready, verified, *conditions.progress(ready, waiting)),
        headline=("Ready",),
        writes=writes,
        requeue_after=decision.requeue_after,
    )


def _status(verified: report.VerificationResult | None) -> dict[str, Any]:
    if verified is None:
        return {}

    def tensors(found: tuple[report.TensorSummary, ...]) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in found]

    return {
        "schema": {"inputs": tensors(verified.inputs), "outputs": tensors(verified.outputs)},
        "size": verified.size,
    }


CONTROLLER = Controller(KIND, depends, observe, decide, render)
