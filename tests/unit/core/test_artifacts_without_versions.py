"""A Workspace may ask that what is served by uri and digest is a version that has earned it."""

import pytest
from world import World, allowing_images, digest_of, with_approval, with_version

DEPLOYMENT = ("ModelDeployment", "triage")
ARTIFACT = {"uri": f"s3://models/artifacts/sha256-{'1' * 64}", "digest": digest_of("1")}


def asking(artifacts: str = "ReadyVersions") -> World:
    """A ModelDeployment of an artifact, in a namespace whose Workspace says what it may be."""
    world = allowing_images(allow={"artifacts": artifacts})
    world.put(*DEPLOYMENT, spec={"model": ARTIFACT})
    return world


def says(world: World) -> tuple[str, str]:
    """Why it does not serve yet, and whether a person is needed."""
    world.settle()
    return world.condition(*DEPLOYMENT, "Ready")[1], world.condition(*DEPLOYMENT, "Stalled")[0]


def serves(world: World) -> None:
    world.settle()
    (name,) = world.deployments()
    world.pods_of(name, 1)
    assert says(world) == ("Serving", "False")


def test_by_default_any_artifact_is_served() -> None:
    serves(asking("Any"))


def test_an_artifact_that_no_version_has_is_refused_where_that_is_asked() -> None:
    world = asking()
    assert says(world) == ("ArtifactNotAllowed", "True")
    assert world.deployments() == []
    words = world.message(*DEPLOYMENT, "Ready")
    assert words.startswith(f"spec.model.digest is {digest_of('1')}, which no ModelVersion in this namespace has;")
    assert "Workspace default asks for a version that is Ready (spec.allow.artifacts)" in words


def test_it_is_served_once_a_version_of_it_is_ready() -> None:
    world = asking()
    assert says(world)[0] == "ArtifactNotAllowed"
    world.put("Model", "triage", spec={"approval": "Manual"})
    with_version(world, 1)
    assert says(world) == ("ModelVersionNotReady", "False")
    words = world.message(*DEPLOYMENT, "Ready")
    assert words.startswith("spec.model.digest: ModelVersion triage-1 is not Ready: ")
    with_approval(world, "triage-1", "1")
    serves(world)


@pytest.mark.parametrize("decision", ["Reject", "Approve"])
def test_a_version_that_was_rejected_or_whose_approval_is_withdrawn_is_served_under_no_other_name(
    decision: str,
) -> None:
    world = asking()
    world.put("Model", "triage", spec={"approval": "Manual"})
    with_version(world, 1)
    with_approval(world, "triage-1", "1", decision)
    if decision == "Approve":
        world.reconcile("ModelVersion", "triage-1")
        world.remove("ModelApproval", "triage-1-approve")
        world.reconcile("ModelVersion", "triage-1")
    assert says(world) == ("ModelVersionNotReady", "True")
    assert world.deployments() == []


def test_what_serves_goes_on_when_its_version_is_gone() -> None:
    world = asking()
    with_version(world, 1)
    serves(world)
    world.remove("ModelVersion", "triage-1")
    assert says(world) == ("ArtifactNotAllowed", "True")
    assert world.condition(*DEPLOYMENT, "Available")[0] == "True"
    assert len(world.deployments()) == 1


def test_a_digest_that_another_model_has_ready_is_enough() -> None:
    world = asking()
    world.put("Model", "triage", spec={"approval": "Manual"})
    with_version(world, 1)
    assert says(world)[0] == "ModelVersionNotReady"
    with_version(world, 1, model="other")
    serves(world)


def test_versions_are_served_by_name_as_ever() -> None:
    world = asking()
    with_version(world, 1)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}})
    serves(world)
