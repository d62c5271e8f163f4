"""A version that serves and is not Ready any more: it goes on, and nothing new serves it."""

from typing import Any

import pytest
from test_modeldeployment import deployment_of_version, revision_of, selected
from world import World, with_approval, with_store, with_version

DEPLOYMENT = ("ModelDeployment", "triage")


def approved(world: World, number: int) -> None:
    """A version that is verified and approved."""
    with_version(world, number)
    with_approval(world, f"triage-{number}", str(number))
    world.settle()


def serving(*versions: int, **model: Any) -> World:
    """These versions, approved, of which the newest serves with two pods; so did each before it."""
    world = with_store(World())
    world.put("Model", "triage", spec={"approval": "Manual"})
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage", **model}, "replicas": 2})
    for number in versions:
        approved(world, number)
        world.pods_of(deployment_of_version(world, number), 2)
        world.settle()
        world.wait(10)
        world.settle()
    return world


def withdraw(world: World, number: int) -> None:
    world.remove("ModelApproval", f"triage-{number}-approve")
    world.settle()


def serves(world: World, number: int) -> bool:
    return selected(world) == revision_of(deployment_of_version(world, number))


def test_a_version_that_nobody_approved_is_not_served() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={"approval": "Manual"})
    with_version(world, 1)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage", "version": 1}})
    world.put("ModelDeployment", "newest", spec={"model": {"name": "triage"}})
    world.settle()
    assert world.deployments() == []
    for name in ("triage", "newest"):
        assert world.condition("ModelDeployment", name, "Ready") == ("False", "ModelVersionNotReady")
        assert "waits for a ModelApproval" in world.message("ModelDeployment", name, "Ready")
    with_approval(world, "triage-1", "1")
    world.settle()
    assert len(world.deployments()) == 2


def test_what_serves_goes_on_when_its_approval_is_withdrawn_and_says_so() -> None:
    world = serving(1, 2)
    withdraw(world, 2)
    assert serves(world, 2)
    assert world.get("Deployment", deployment_of_version(world, 2))["spec"]["replicas"] == 2
    assert world.get("Deployment", deployment_of_version(world, 1))["spec"]["replicas"] == 0
    assert world.condition(*DEPLOYMENT, "Ready") == ("False", "ModelVersionNotReady")
    assert world.condition(*DEPLOYMENT, "Available")[0] == "True"
    assert world.condition(*DEPLOYMENT, "Stalled")[0] == "True"
    assert "ModelApproval triage-2-approve of ana was withdrawn" in world.message(*DEPLOYMENT, "Ready")


@pytest.mark.parametrize("change", ["memory", "replicas"])
def test_a_change_of_the_deployment_does_not_bring_an_older_version_back(change: str) -> None:
    world = serving(1, 2)
    withdraw(world, 2)
    spec = {"model": {"name": "triage"}, "replicas": 2}
    memory = {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    other = {"replicas": 3} if change == "replicas" else {"server": {"resources": memory}}
    world.put(*DEPLOYMENT, spec={**spec, **other})
    world.settle()
    assert serves(world, 2)
    assert world.get("Deployment", deployment_of_version(world, 2))["spec"]["replicas"] == other.get("replicas", 2)


def test_the_next_version_takes_over_from_one_that_was_withdrawn() -> None:
    world = serving(1, 2)
    withdraw(world, 2)
    approved(world, 3)
    world.pods_of(deployment_of_version(world, 3), 2)
    world.settle()
    assert serves(world, 3)


def test_a_rollout_of_a_version_that_is_withdrawn_meanwhile_ends() -> None:
    world = serving(1)
    approved(world, 2)
    coming = deployment_of_version(world, 2)
    assert world.get("Deployment", coming)["spec"]["replicas"] == 2
    withdraw(world, 2)
    world.wait(10)
    world.settle()
    assert serves(world, 1)
    assert world.get("Deployment", coming)["spec"]["replicas"] == 0
    assert world.condition(*DEPLOYMENT, "Ready") == ("True", "Serving")


def test_a_version_that_is_named_goes_on_too() -> None:
    world = serving(1, version=1)
    withdraw(world, 1)
    assert serves(world, 1)
    assert world.condition(*DEPLOYMENT, "Ready") == ("False", "ModelVersionNotReady")


def test_a_version_that_was_rejected_while_it_serves_goes_on_until_a_person_names_another() -> None:
    world = serving(1, 2)
    with_approval(world, "triage-2", "2", "Reject", by="bob")
    world.settle()
    assert serves(world, 2)
    assert "bob rejected it" in world.message(*DEPLOYMENT, "Ready")
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage", "version": 1}, "replicas": 2})
    world.settle()
    world.pods_of(deployment_of_version(world, 1), 2)
    world.settle()
    assert serves(world, 1)


def test_the_newest_version_of_another_model_is_another_matter() -> None:
    world = serving(1, 2)
    withdraw(world, 2)
    with_version(world, 1, model="other")
    world.put(*DEPLOYMENT, spec={"model": {"name": "other"}, "replicas": 2})
    world.settle()
    world.pods_of(deployment_of_version(world, 1), 2)  # it is the same artifact, and so the same revision
    world.settle()
    assert serves(world, 1)
    assert world.condition(*DEPLOYMENT, "Ready") == ("True", "Serving")


def test_a_version_whose_pods_somebody_deleted_is_not_served_again() -> None:
    world = serving(1, 2)
    withdraw(world, 2)
    world.remove("Deployment", deployment_of_version(world, 2))
    world.settle()
    world.pods_of(deployment_of_version(world, 1), 2)
    world.settle()
    assert serves(world, 1)


def test_what_an_older_operator_promoted_goes_on_too() -> None:
    world = serving(1, 2)
    for promoted in world.get(*DEPLOYMENT)["status"]["history"]:
        del promoted["model"]
    withdraw(world, 2)
    assert serves(world, 2)


def test_a_revision_without_a_deployment_is_not_taken_for_the_version_that_is_wanted() -> None:
    world = with_version(with_store(World()), 1)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}})
    world.settle()
    # The operator was killed before it wrote the status, and the Deployment never came to be.
    world.remove("Deployment", deployment_of_version(world, 1))
    del world.get(*DEPLOYMENT)["status"]
    with_version(world, 2)
    world.reconcile(*DEPLOYMENT)
    newest = world.get(*DEPLOYMENT)["status"]["history"][0]
    assert newest["revision"] == selected(world)
    assert "version" not in newest
