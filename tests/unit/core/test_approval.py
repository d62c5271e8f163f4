"""Approval: where a Model asks for it, nothing serves a version that nobody approved."""

import pytest
from world import World, digest_of, version_spec, with_approval, with_store, with_version

VERSION = ("ModelVersion", "triage-1")


def asking(approval: str = "Manual") -> World:
    """A Model that asks for approvals, and a version of it that is verified."""
    world = with_store(World())
    world.put("Model", "triage", spec={"approval": approval})
    return with_version(world, 1)


def says(world: World) -> list[tuple[str, str]]:
    """Ready, Approved and Stalled of the version."""
    world.settle()
    return [world.condition(*VERSION, type_) for type_ in ("Ready", "Approved", "Stalled")]


def test_a_version_waits_for_the_approval_that_its_model_asks_for() -> None:
    world = asking()
    waiting = "WaitingForApproval"
    assert says(world) == [("False", waiting), ("Unknown", waiting), ("False", waiting)]
    assert world.condition(*VERSION, "Reconciling") == ("True", waiting)
    with_approval(world, "triage-1", "1")
    assert says(world) == [("True", "Approved"), ("True", "Approved"), ("False", "Approved")]
    assert world.message(*VERSION, "Approved") == "ana approved it (ModelApproval triage-1-approve)"
    expected = {"name": "triage-1-approve", "decision": "Approve", "by": "ana", "at": "2026-01-01T00:00:00Z"}
    assert world.get(*VERSION)["status"]["approval"] == expected
    assert world.condition("ModelApproval", "triage-1-approve", "Ready") == ("True", "Counts")


def test_it_must_be_verified_too() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={"approval": "Manual"})
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    with_approval(world, "triage-1", "1")
    assert says(world)[:2] == [("False", "VerificationRunning"), ("True", "Approved")]


def test_what_it_waits_for_first_is_told_first() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={"approval": "Manual"})
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    assert says(world)[:2] == [("False", "VerificationRunning"), ("Unknown", "WaitingForApproval")]


@pytest.mark.parametrize("model", [None, {}, {"approval": "Automatic"}])
def test_a_model_that_does_not_ask_needs_none(model: dict[str, str] | None) -> None:
    world = with_store(World())
    if model is not None:
        world.put("Model", "triage", spec=model)
    assert says(with_version(world, 1)) == [("True", "Verified"), ("True", "NotRequired"), ("False", "Verified")]
    assert "approval" not in world.get(*VERSION)["status"]


def test_a_model_that_begins_to_ask_takes_ready_from_who_was_not_approved() -> None:
    world = asking("Automatic")
    assert says(world)[0] == ("True", "Verified")
    world.put("Model", "triage", spec={"approval": "Manual"})
    assert says(world)[0] == ("False", "WaitingForApproval")


def test_who_was_approved_before_anybody_asked_is_approved() -> None:
    world = with_approval(asking("Automatic"), "triage-1", "1")
    assert says(world)[1] == ("True", "NotRequired")
    assert world.get(*VERSION)["status"]["approval"]["by"] == "ana"
    world.put("Model", "triage", spec={"approval": "Manual"})
    assert says(world)[1] == ("True", "Approved")


def test_what_was_withdrawn_while_nobody_asked_is_told_when_somebody_does() -> None:
    world = with_approval(asking("Automatic"), "triage-1", "1")
    says(world)
    world.remove("ModelApproval", "triage-1-approve")
    assert says(world)[1] == ("True", "NotRequired")
    world.put("Model", "triage", spec={"approval": "Manual"})
    assert says(world)[1] == ("False", "ApprovalWithdrawn")


def test_an_approval_of_another_digest_does_not_count_and_is_told() -> None:
    world = with_approval(asking(), "triage-1", "2", name="wrong")
    assert says(world)[:2] == [("False", "WaitingForApproval"), ("Unknown", "WaitingForApproval")]
    asked = "the Model's spec.approval is Manual: it waits for a ModelApproval that names it and its digest"
    told = f"{asked}; ModelApproval wrong is of another digest and does not count"
    assert world.message(*VERSION, "Ready") == told
    assert world.condition("ModelApproval", "wrong", "Stalled") == ("True", "OtherDigest")
    message = world.message("ModelApproval", "wrong", "Ready")
    assert digest_of("2") in message
    assert digest_of("1") in message


def test_of_many_approvals_of_another_digest_three_are_named() -> None:
    world = asking()
    for name in ("a", "b", "c", "d"):
        with_approval(world, "triage-1", "2", name=name)
    says(world)
    assert "; ModelApproval a, b, c is of another digest" in world.message(*VERSION, "Ready")


def test_a_rejection_of_another_digest_does_not_count_either() -> None:
    world = with_approval(with_approval(asking(), "triage-1", "2", "Reject"), "triage-1", "1")
    assert says(world)[0] == ("True", "Approved")


def test_an_approval_of_another_version_does_not_count() -> None:
    world = with_approval(asking(), "triage-2", "1")
    assert says(world)[0] == ("False", "WaitingForApproval")
    assert world.condition("ModelApproval", "triage-2-approve", "Ready") == ("False", "ModelVersionNotFound")
    assert world.condition("ModelApproval", "triage-2-approve", "Reconciling")[0] == "True"


@pytest.mark.parametrize(("decision", "was"), [("Approve", "approved"), ("Reject", "rejected")])
def test_a_decision_that_counted_is_on_record_when_its_version_is_gone(decision: str, was: str) -> None:
    world, name = with_approval(asking(), "triage-1", "1", decision, name="said"), ("ModelApproval", "said")
    says(world)
    world.reconcile(*name)
    assert world.condition(*name, "Ready") == ("True", "Counts")
    world.remove("ModelVersion", "triage-1")
    world.reconcile(*name)
    assert world.told(*name) == [
        f"Ready True VersionGone: ModelVersion triage-1 was {was}, and is gone; this is on record only",
        "Reconciling False VersionGone",
        "Stalled False VersionGone",
    ]
    world.put("ModelVersion", "triage-1", spec=version_spec(1, "2"))
    world.reconcile(*name)
    assert world.condition(*name, "Ready") == ("False", "OtherDigest")


@pytest.mark.parametrize("asked", ["Manual", "Automatic"])
def test_a_rejection_is_final_whoever_approves_and_also_when_it_is_deleted(asked: str) -> None:
    world = with_approval(asking(asked), "triage-1", "1", "Reject", by="bob")
    rejected = [("False", "Rejected"), ("False", "Rejected"), ("True", "Rejected")]
    assert says(world) == rejected
    assert world.condition("ModelApproval", "triage-1-reject", "Ready") == ("True", "Counts")
    with_approval(world, "triage-1", "1")
    assert says(world) == rejected
    assert world.condition("ModelApproval", "triage-1-approve", "Stalled") == ("True", "VersionRejected")
    world.remove("ModelApproval", "triage-1-reject")
    assert says(world) == rejected
    world.put("Model", "triage", spec={"approval": "Automatic"})
    assert says(world) == rejected
    assert world.message(*VERSION, "Ready").startswith("bob rejected it (ModelApproval triage-1-reject)")


def test_who_rejects_what_was_approved_has_the_last_word() -> None:
    world = with_approval(asking(), "triage-1", "1")
    assert says(world)[0] == ("True", "Approved")
    with_approval(world, "triage-1", "1", "Reject")
    assert says(world)[0] == ("False", "Rejected")


def test_what_was_rejected_is_told_before_what_is_wrong_otherwise() -> None:
    world = with_store(World())
    world.put("ModelVersion", "triage-1", spec=version_spec(1))
    with_approval(world, "triage-1", "1", "Reject")
    assert says(world)[0] == ("False", "Rejected")


def test_an_approval_that_is_withdrawn_is_told_and_can_be_given_again() -> None:
    world = with_approval(asking(), "triage-1", "1")
    assert says(world)[0] == ("True", "Approved")
    world.remove("ModelApproval", "triage-1-approve")
    withdrawn = "ApprovalWithdrawn"
    assert says(world) == [("False", withdrawn), ("False", withdrawn), ("True", withdrawn)]
    assert "what serves it goes on" in world.message(*VERSION, "Ready")
    expected = {"name": "triage-1-approve", "decision": "Approve", "by": "ana", "at": "2026-01-01T00:00:00Z"}
    assert world.get(*VERSION)["status"]["approval"] == expected
    with_approval(world, "triage-1", "1", by="eve", name="again")
    assert says(world)[0] == ("True", "Approved")
    assert world.get(*VERSION)["status"]["approval"]["by"] == "eve"


def test_one_of_two_approvals_is_enough_and_the_first_is_who_approved() -> None:
    world = with_approval(asking(), "triage-1", "1", name="b")
    says(world)
    with_approval(world, "triage-1", "1", by="eve", name="a")
    says(world)
    assert world.get(*VERSION)["status"]["approval"]["name"] == "b"
    world.remove("ModelApproval", "b")
    assert says(world)[0] == ("True", "Approved")
    assert world.get(*VERSION)["status"]["approval"]["name"] == "a"


def test_of_two_that_are_seen_at_once_the_older_is_who_approved() -> None:
    world = with_approval(asking(), "triage-1", "1", name="b")
    world.wait(1)
    with_approval(world, "triage-1", "1", name="a")
    says(world)
    assert world.get(*VERSION)["status"]["approval"]["name"] == "b"


def test_other_bytes_under_the_same_name_are_approved_anew() -> None:
    world = with_approval(asking(), "triage-1", "1")
    assert says(world)[0] == ("True", "Approved")
    world.remove("ModelVersion", "triage-1")
    world.put("ModelVersion", "triage-1", spec=version_spec(1, "2"))
    assert says(world)[1] == ("Unknown", "WaitingForApproval")
    assert "is of another digest" in world.message(*VERSION, "Approved")
