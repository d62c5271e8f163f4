"""A verified ModelVersion, a Model that asks for approvals or does not, and people who change their minds."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, NEW, Slot, uid
from modelcheck.systems import memory
from modelcheck.systems.modelversion import DIGEST, KIND, NAME, version
from modelcheck.systems.workspace import working_workspace
from modelmill.core import conditions
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest, dig

APPROVAL = "ModelApproval"
MODEL = "triage"
OTHER = f"sha256:{'2' * 64}"
DECISIONS = {"yes": ("Approve", DIGEST), "no": ("Reject", DIGEST), "other": ("Approve", OTHER)}
FREE, APPROVED = "nobody asks for an approval", "somebody approved it"  # what is remembered


def model(approval: str) -> Manifest:
    metadata = {"name": MODEL, "uid": uid("Model", MODEL), "generation": 1}
    return {"kind": "Model", "metadata": metadata, "spec": {"approval": approval}}


def decision(name: str) -> Manifest:
    said, digest = DECISIONS[name]
    spec = {"modelVersionRef": {"name": NAME}, "digest": digest, "decision": said, "by": name}
    return {"kind": APPROVAL, "metadata": {"name": name, "uid": NEW, "generation": 1}, "spec": spec}


def verified_version() -> Manifest:
    """The version after its verification, which has its own system."""
    verified = {"type": "Verified", "status": "True", "reason": "DigestsMatch", "message": ""}
    status = {
        "observedGeneration": 1,
        "schema": {"inputs": [], "outputs": []},
        "size": 1000,
        "conditions": [{**verified, "observedGeneration": 1, "lastTransitionTime": LONG_AGO}],
    }
    return {**version(uid=uid(KIND, NAME), generation=1), "status": status}


class ApprovalSystem(System):
    name = "ModelVersion: approval"
    slots = 7
    life = ("ana says yes", "yes is withdrawn", "ana says no")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME), (APPROVAL, "yes")]

    def start(self) -> list[Manifest]:
        return [working_workspace(), model("Manual"), verified_version()]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get("Model", MODEL)
        if present is None or present["spec"]["approval"] == "Manual":
            yield move("the Model asks for no approval any more", model("Automatic"), memory.with_(live, FREE))
        if present is None or present["spec"]["approval"] != "Manual":
            yield move("the Model asks for approvals", model("Manual"))
        if present is not None:
            yield move("somebody deletes the Model", memory.with_(live, FREE), gone=[("Model", MODEL)])
        for name in DECISIONS:
            if live.get(APPROVAL, name) is not None:
                yield move(f"{name} is withdrawn", gone=[(APPROVAL, name)])
            elif name == "yes":
                yield move(f"ana says {name}", decision(name), memory.with_(live, APPROVED))
            else:
                yield move(f"ana says {name}", decision(name))

    def help(self, live: Live) -> Iterator[Move]:
        # It has to come to rest without any.
        yield from ()

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None or present == then:
            return None
        ready = conditions.is_true(then, "Ready")
        if ready and not memory.of(before) & {FREE, APPROVED}:
            return "a version is Ready that nobody ever approved"
        if _rejected(present) and (ready or not _rejected(then)):
            return "a rejection is forgotten"
        if dig(present, "status", "approval") and not dig(then, "status", "approval"):
            return "it is forgotten that there was an approval"
        return None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        assert present is not None
        asked = dig(live.get("Model", MODEL), "spec", "approval") == "Manual"
        approved, rejected = live.get(APPROVAL, "yes") is not None, _rejected(present)
        if live.get(APPROVAL, "no") is not None and not rejected:
            return "a rejection is not seen"
        expected = not rejected and (approved or not asked)
        if conditions.is_true(present, "Ready") != expected:
            return f"Ready should be {expected}: {present['status']['conditions']}"
        decided = live.get(APPROVAL, "yes")
        if decided is not None and conditions.is_true(decided, "Ready") == rejected:
            return f"whether the approval counts is not said: {decided.get('status')}"
        return None


def _rejected(version: Manifest) -> bool:
    return bool(dig(version, "status", "approval", "decision") == "Reject")
