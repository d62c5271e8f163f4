"""ModelVersion: verifies that the artifact is what its digest says, once, before anybody may serve it; then people may
have to approve it (`core/approval.py`).  Between the two, its Model's tests are run (`core/testing.py`).

the store does not work   -> wait for the Workspace
not verified yet          -> a Job fetches the artifact and checks every digest
the Job failed            -> say why; try again only where time may heal it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.modelversion import ModelVersionSpec
from modelmill.api.schema import ResourceRequirements
from modelmill.core import approval, conditions, jobs, pods, retry, testing, workspace
from modelmill.core.conditions import Waiting, false, true
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Observed, Outcome, Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Key, Manifest
from modelmill_contracts import digest, report, signature, task

KIND = "ModelVersion"
TIMEOUT = timedelta(minutes=30)
# Reasons that are about the artifact's bytes.  Everything else, a store that refused the key included, may heal.
FINAL = ("DigestMismatch", "ManifestInvalid", "ArtifactTooLarge", "FileMissing", "NotARegularFile", "FileUnexpected")


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    keys: tuple[task.SigningKey, ...]  # whose signatures count
    signed: bool  # one of them must have signed it
    uri: str
    artifact: str
    store: StoreAccess | Waiting
    job: str
    asked: str
    run: jobs.Run
    verified: report.VerificationResult | None  # what the status says
    failing: retry.Failing | None
    number: int
    tests: testing.Facts
    approval: approval.Facts


@dataclass(frozen=True)
class Verification:
    """What is to be done with the verification's Job, and what came of it: a result, or why there is none yet."""

    found: report.VerificationResult | None = None
    waiting: Waiting | None = None
    start: bool = False
    discard: bool = False
    requeue_after: timedelta | None = None


@dataclass(frozen=True)
class Decision:
    verification: Verification
    tests: testing.Verdict
    approval: approval.Verdict


def job_name(name: str) -> str:
    return f"{name}-verify"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata = manifest["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    return (
        workspace.dependency(namespace),
        *jobs.dependencies(namespace, metadata["uid"], job_name(name)),
        *testing.dependencies(namespace, metadata["uid"], name, manifest["spec"]["modelRef"]["name"]),
        *approval.dependencies(namespace, name),
    )


def observe(observed: Observed) -> Facts:
    spec = ModelVersionSpec.model_validate(observed.object["spec"])
    job = job_name(observed.subject.name)
    store = workspace.working_store(observed)
    where = workspace.asked_of(store) if isinstance(store, StoreAccess) else ""
    keys, signed = _signing(observed)
    # What nobody asks for is no part of it, so that a Job without it is asked what it always was.
    more = [[keys, signed]] if keys else []
    asked = digest.of_json([spec.artifact.uri, spec.artifact.digest, where, *more])
    known = observed.status.get("schema")
    known_signature = _signature(observed.status)
    verified = None
    if known is not None and conditions.is_true(observed.object, "Verified") and _counts(known_signature, keys, signed):
        verified = report.VerificationResult(
            spec.artifact.digest,
            tuple(_tensor(t) for t in known.get("inputs", ())),
            tuple(_tensor(t) for t in known.get("outputs", ())),
            observed.status.get("size", 0),
            known_signature,
        )
    return Facts(
        subject=observed.subject,
        declared=workspace.declared(observed, KIND),
        keys=keys,
        signed=signed,
        uri=spec.artifact.uri,
        artifact=spec.artifact.digest,
        store=store,
        job=job,
        asked=asked,
        run=jobs.observe(observed, job, asked),
        verified=verified,
        failing=retry.failing(observed, "Verified"),
        number=spec.version,
        tests=testing.observe(observed, spec, store),
        approval=approval.observe(observed, spec),
    )


def _signing(observed: Observed) -> tuple[tuple[task.SigningKey, ...], bool]:
    """The keys whose signatures count, and whether there must be one."""
    settings = workspace.settings(observed)
    if settings is None or settings.signing is None:
        return (), False
    keys = tuple(task.SigningKey(key.name, key.public_key) for key in settings.signing.keys)
    return keys, settings.signing.required


def _signature(status: Mapping[str, Any]) -> report.Signed | None:
    said = status.get("signature")
    return None if said is None else report.Signed(said["key"], said["fingerprint"])


def _counts(known: report.Signed | None, keys: tuple[task.SigningKey, ...], signed: bool) -> bool:
    """Whether what is known of signatures is enough still: a key may have been taken away, or be asked for by now."""
    if known is None:
        return not signed
    return known.fingerprint in {signature.fingerprint(key.public_key) for key in keys} or not signed


def _tensor(manifest: Manifest) -> report.TensorSummary:
    return report.TensorSummary(manifest["name"], manifest["datatype"], tuple(manifest.get("shape", ())))


def decide(facts: Facts, now: datetime) -> Decision:
    verification = _verification(facts, now)
    tests = testing.decide(facts.tests, facts.store, now, verified=verification.found is not None)
    return Decision(verification, tests, approval.decide(facts.approval))


def _verification(facts: Facts, now: datetime) -> Verification:
    run = facts.run
    if facts.verified is not None:
        return Verification(facts.verified)
    if run.state == "Succeeded" and run.report is not None:
        if isinstance(run.report.result, report.VerificationResult):
            return Verification(run.report.result)
        return Verification(waiting=Waiting("ReportInvalid", "the Job's report is not that of a verification", True))
    if isinstance(facts.store, Waiting):
        return Verification(waiting=facts.store)
    if run.state == "Foreign":
        taken = retry.name_taken("Job", facts.job)
        return Verification(waiting=taken, requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        if run.report is not None and run.report.reason in FINAL:
            # An artifact never changes: what is wrong stays wrong.
            return Verification(waiting=Waiting(run.report.reason, run.report.message, stalled=True, failed=True))
        waiting, pause = retry.after_failure(run, now, facts.failing)
        return Verification(waiting=waiting, discard=pause is None, requeue_after=pause)
    running = Waiting("VerificationRunning", "the artifact is being fetched and verified")
    waiting = retry.under_way(run, facts.failing, running)
    return Verification(start=run.state == "Absent", discard=run.state == "Outdated", waiting=waiting)


def _waiting(decision: Decision) -> Waiting | None:
    """Why it may not be served: what is final, else what comes first."""
    if decision.approval.rejected:
        return decision.approval.waiting
    return decision.verification.waiting or decision.tests.waiting or decision.approval.waiting


def render(facts: Facts, decision: Decision) -> Outcome:
    verification, waiting = decision.verification, _waiting(decision)
    if verification.waiting is None:
        signed = verification.found.signed if verification.found is not None else None
        said = "every file has the digest that the manifest says"
        if signed is not None:
            verified = true("Verified", "SignatureMatches", f"{said}, and {signed.key} signed it")
        else:
            verified = true("Verified", "DigestsMatch", said)
    else:
        verified = verification.waiting.condition("Verified")
    if waiting is not None:
        ready = false("Ready", waiting.reason, waiting.message)
    elif decision.approval.condition.reason == "Approved":
        ready = true("Ready", "Approved", "the artifact is verified and approved; this version may be served")
    elif decision.tests.condition.reason == "Passed":
        ready = true("Ready", "Tested", "the artifact is verified and tested; this version may be served")
    else:
        ready = true("Ready", "Verified", "the artifact is verified; this version may be served")
    return Outcome(
        status={
            **_status(verification.found),
            **testing.status(facts.tests, decision.tests),
            "approval": approval.status(decision.approval),
        },
        conditions=(
            ready,
            verified,
            decision.tests.condition,
            decision.approval.condition,
            *conditions.progress(ready, waiting),
        ),
        headline=("Ready",),
        writes=(*_writes(facts, verification), *_test_writes(facts, decision.tests)),
        requeue_after=min(
            (t for t in (verification.requeue_after, decision.tests.requeue_after) if t is not None), default=None
        ),
    )


def _writes(facts: Facts, verification: Verification) -> tuple[Create | Delete, ...]:
    if verification.discard:
        return (Delete("Job", facts.job, facts.run.uid, facts.declared),)
    if not verification.start or not isinstance(facts.store, StoreAccess):
        return ()
    work = task.VerificationTask(facts.store.location, facts.uri, facts.artifact, facts.keys, facts.signed)
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
    return (Create(job, facts.declared),)


def _test_writes(facts: Facts, tests: testing.Verdict) -> tuple[Create | Delete, ...]:
    candidate = testing.Candidate(facts.number, facts.uri, facts.artifact)
    return testing.writes(facts.subject, KIND, facts.tests, tests, candidate, facts.store, facts.declared)


def _status(verified: report.VerificationResult | None) -> dict[str, Any]:
    if verified is None:
        return {}

    def tensors(found: tuple[report.TensorSummary, ...]) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in found]

    return {
        "schema": {"inputs": tensors(verified.inputs), "outputs": tensors(verified.outputs)},
        "size": verified.size,
        "signature": None
        if verified.signed is None
        else {"key": verified.signed.key, "fingerprint": verified.signed.fingerprint},
    }


CONTROLLER = Controller(KIND, depends, observe, decide, render)
