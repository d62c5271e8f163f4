"""ModelApproval: says whether its decision counts.  What follows from it is its ModelVersion's (`core/approval.py`).

there is no such ModelVersion         -> wait for it, unless it counted before: then that stays on record
its artifact has another digest       -> it does not count, and never will
it approves what somebody rejected    -> it does not count: a rejection is final
"""

from dataclasses import dataclass
from datetime import datetime

from modelmill.api.modelapproval import ModelApprovalSpec
from modelmill.core import approval, conditions
from modelmill.core.conditions import Waiting, true
from modelmill.core.controller import Controller
from modelmill.core.plan import Observed, Outcome, Subject
from modelmill.core.resources import Key, Manifest

KIND = "ModelApproval"


@dataclass(frozen=True)
class Facts:
    subject: Subject
    version: str
    digest: str  # as it is decided on
    decision: str
    artifact: str | None  # digest of the version's artifact; None: there is no such version
    rejected: approval.Said | None
    counted: bool  # as the status says


@dataclass(frozen=True)
class Decision:
    waiting: Waiting | None


def depends(manifest: Manifest) -> tuple[Key, ...]:
    namespace, version = manifest["metadata"]["namespace"], manifest["spec"]["modelVersionRef"]["name"]
    return (Key("ModelVersion", namespace, "metadata.name", version),)


def observe(observed: Observed) -> Facts:
    spec = ModelApprovalSpec.model_validate(observed.object["spec"])
    version = observed.get("ModelVersion", spec.model_version_ref.name)
    known = approval.remembered(version) if version is not None else None
    return Facts(
        subject=observed.subject,
        version=spec.model_version_ref.name,
        digest=spec.digest,
        decision=spec.decision,
        artifact=version["spec"]["artifact"]["digest"] if version is not None else None,
        rejected=known if known is not None and known.decision == "Reject" else None,
        counted=conditions.is_true(observed.object, "Ready"),
    )


def decide(facts: Facts, now: datetime) -> Decision:  # noqa: ARG001 - no decision here depends on time
    return Decision(_why_not(facts))


def _why_not(facts: Facts) -> Waiting | None:
    """Why the decision does not count; None: it does."""
    if facts.artifact is None and facts.counted:
        return None
    if facts.artifact is None:
        return Waiting("ModelVersionNotFound", f"there is no ModelVersion {facts.version} yet; it counts once there is")
    if facts.artifact != facts.digest:
        message = (
            f"spec.digest is {facts.digest}, and ModelVersion {facts.version} has {facts.artifact}: it does not count;"
            " look at that version, and create another ModelApproval"
        )
        return Waiting("OtherDigest", message, stalled=True, failed=True)
    if facts.decision == "Approve" and facts.rejected is not None:
        message = (
            f"{facts.rejected.by} rejected ModelVersion {facts.version} (ModelApproval {facts.rejected.name}), and a"
            " rejection is final: make another version"
        )
        return Waiting("VersionRejected", message, stalled=True, failed=True)
    return None


def render(facts: Facts, decision: Decision) -> Outcome:
    waiting = decision.waiting
    said = "approved" if facts.decision == "Approve" else "rejected"
    if waiting is None and facts.artifact is None:
        ready = true(
            "Ready", "VersionGone", f"ModelVersion {facts.version} was {said}, and is gone; this is on record only"
        )
    elif waiting is None:
        ready = true("Ready", "Counts", f"ModelVersion {facts.version} is {said}")
    else:
        ready = conditions.false("Ready", waiting.reason, waiting.message)
    return Outcome(status={}, conditions=(ready, *conditions.progress(ready, waiting)), headline=("Ready",))


CONTROLLER = Controller(KIND, depends, observe, decide, render)
