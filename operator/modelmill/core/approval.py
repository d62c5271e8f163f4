"""Approval: what people decided on a version, and what follows from it.

A decision counts if it names the version and has the digest of its artifact.  What counted is written down in the
version's status: a rejection is final, also when its ModelApproval is deleted; an approval holds while its
ModelApproval is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from modelmill.api.modelversion import ModelVersionSpec
from modelmill.core.conditions import Condition, Waiting, true
from modelmill.core.plan import Observed
from modelmill.core.resources import APPROVAL_FIELD, Key, Manifest, dig

MANUAL = "Manual"
REJECTED = "Rejected"


@dataclass(frozen=True)
class Said:
    """One decision on this very digest."""

    at: str  # RFC 3339: equal lengths, so that texts sort as times do
    name: str
    decision: Literal["Approve", "Reject"]
    by: str


@dataclass(frozen=True)
class Facts:
    manual: bool  # the Model asks for an approval
    remembered: Said | None  # what the version's status says
    said: tuple[Said, ...]  # oldest first
    others: tuple[str, ...]  # names of ModelApprovals of this version that are of another digest


@dataclass(frozen=True)
class Verdict:
    """What is to be remembered, and either what the condition says or why the version may not be served."""

    remembered: Said | None
    approved: Condition | Waiting

    @property
    def waiting(self) -> Waiting | None:
        return self.approved if isinstance(self.approved, Waiting) else None

    @property
    def condition(self) -> Condition:
        return self.approved.condition("Approved") if isinstance(self.approved, Waiting) else self.approved

    @property
    def rejected(self) -> bool:
        return isinstance(self.approved, Waiting) and self.approved.reason == REJECTED


def dependencies(namespace: str, version: str) -> tuple[Key, ...]:
    """What the approval of a ModelVersion depends on, besides its Model."""
    return (Key("ModelApproval", namespace, APPROVAL_FIELD, version),)


def observe(observed: Observed, spec: ModelVersionSpec) -> Facts:
    approvals = observed.find("ModelApproval", APPROVAL_FIELD, observed.subject.name)
    fits = [a for a in approvals if a["spec"]["digest"] == spec.artifact.digest]
    return Facts(
        # Without a Model, or with one that is silent, nobody asks for an approval.
        manual=dig(observed.get("Model", spec.model_ref.name), "spec", "approval") == MANUAL,
        remembered=remembered(observed.object),
        said=tuple(sorted((_said(a) for a in fits), key=lambda said: (said.at, said.name))),
        others=tuple(sorted(a["metadata"]["name"] for a in approvals if a not in fits)),
    )


def remembered(version: Manifest) -> Said | None:
    """The decision that counts, or counted, as a ModelVersion's status has it."""
    known = dig(version, "status", "approval")
    return None if known is None else Said(known["at"], known["name"], known["decision"], known["by"])


def _said(approval: Manifest) -> Said:
    spec, metadata = approval["spec"], approval["metadata"]
    return Said(metadata["creationTimestamp"], metadata["name"], spec["decision"], spec["by"])


def decide(facts: Facts) -> Verdict:
    """The first policy that has something to say."""
    return next(verdict for policy in _POLICIES if (verdict := policy(facts)) is not None)


def _rejection_is_final(facts: Facts) -> Verdict | None:
    # It counts whatever the Model asks for: who may approve has a veto.
    known = facts.remembered if facts.remembered is not None and facts.remembered.decision == "Reject" else None
    said = known or next((s for s in facts.said if s.decision == "Reject"), None)
    if said is None:
        return None
    message = (
        f"{said.by} rejected it (ModelApproval {said.name}); a rejection is final: make another version, what serves"
        " this one goes on until it is told otherwise"
    )
    return Verdict(said, Waiting(REJECTED, message, stalled=True, failed=True))


def _approval_counts(facts: Facts) -> Verdict | None:
    # The one that is remembered, while it is there: the next one does not change who approved.
    known = facts.remembered.name if facts.remembered is not None else None
    said = next((s for s in facts.said if s.name == known), None) or next(iter(facts.said), None)
    if said is None:
        return None
    if not facts.manual:
        return Verdict(said, _not_required())
    return Verdict(said, true("Approved", "Approved", f"{said.by} approved it (ModelApproval {said.name})"))


def _nobody_asks(facts: Facts) -> Verdict | None:
    # What was withdrawn stays remembered: the Model may ask again.
    return None if facts.manual else Verdict(facts.remembered, _not_required())


def _not_required() -> Condition:
    return true("Approved", "NotRequired", "the Model asks for no approval (spec.approval is Automatic)")


def _approval_was_withdrawn(facts: Facts) -> Verdict | None:
    # It is told apart from one that never was: something may serve this version.
    if facts.remembered is None:
        return None
    known = facts.remembered
    message = (
        f"ModelApproval {known.name} of {known.by} was withdrawn: nothing new serves this version, and what serves it"
        " goes on; create another ModelApproval to change that"
    )
    return Verdict(known, Waiting("ApprovalWithdrawn", message, stalled=True, failed=True))


def _nobody_approved_yet(facts: Facts) -> Verdict:
    # Who decided on other bytes is told so: a version may have been made again under the same name.
    message = "the Model's spec.approval is Manual: it waits for a ModelApproval that names it and its digest"
    if facts.others:
        message += f"; ModelApproval {', '.join(facts.others[:3])} is of another digest and does not count"
    return Verdict(None, Waiting("WaitingForApproval", message))


# The order is the precedence.
_POLICIES: tuple[Callable[[Facts], Verdict | None], ...] = (
    _rejection_is_final,
    _approval_counts,
    _nobody_asks,
    _approval_was_withdrawn,
    _nobody_approved_yet,
)


def status(verdict: Verdict) -> dict[str, Any] | None:
    """What the ModelVersion's status remembers."""
    said = verdict.remembered
    return None if said is None else {"name": said.name, "decision": said.decision, "by": said.by, "at": said.at}
