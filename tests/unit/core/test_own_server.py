"""ModelDeployment with a container of the user's own: Modelmill's server stands in front of it."""

from dataclasses import replace
from typing import Any

import pytest
from world import World, with_store, with_version

from modelmill.api.modeldeployment import Container
from modelmill.core import modeldeployment
from modelmill.core.serving import Revision

IMAGE = "registry.example.org/ml/own:1"


def declared(container: dict[str, Any] | None, **server: Any) -> World:
    world = with_version(with_store(World()), 1)
    allow(world, "registry.example.org/*")
    change(world, container, **server)
    return world


def allow(world: World, *images: str, **more: Any) -> None:
    store = {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}
    world.put("Workspace", "default", spec={"store": store, "allow": {"images": list(images)}, **more})


def change(world: World, container: dict[str, Any] | None, **server: Any) -> None:
    spec = {"model": {"name": "triage"}, "server": {**({"container": container} if container else {}), **server}}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")


def pod(world: World) -> dict[str, Any]:
    (name,) = world.deployments()
    spec: dict[str, Any] = world.get("Deployment", name)["spec"]["template"]["spec"]
    return spec


def test_it_gets_the_model_and_no_credentials() -> None:
    (fetch, own) = pod(declared({"image": IMAGE, "port": 9000}))["initContainers"]
    assert (own["name"], own["image"], own["args"]) == ("upstream", IMAGE, [])
    assert "command" not in own  # the image's
    told = {variable["name"]: variable.get("value") for variable in own["env"]}
    assert told == {
        "MILL_MODEL": "/mnt/model",
        "MILL_MODEL_NAME": "triage",
        "MILL_MODEL_VERSION": "1",
        "MILL_PORT": "9000",
    }
    mounts = {mount["mountPath"]: mount for mount in own["volumeMounts"]}
    assert mounts["/mnt/model"]["readOnly"]
    assert mounts["/mnt/model"]["name"] in {mount["name"] for mount in fetch["volumeMounts"]}
    assert "readOnly" not in mounts["/tmp"]
    assert mounts["/tmp"]["name"] not in {mount["name"] for mount in fetch["volumeMounts"]}
    assert own["securityContext"] == fetch["securityContext"]


def test_kubelet_stops_it_after_the_server_in_front_of_it() -> None:
    spec = pod(declared({"image": IMAGE, "port": 9000}))
    # An init container that is restarted always: a sidecar, which outlives the containers.
    assert [container.get("restartPolicy") for container in spec["initContainers"]] == [None, "Always"]
    assert [container["name"] for container in spec["containers"]] == ["server"]


def test_the_server_in_front_of_it_is_what_callers_and_probes_find() -> None:
    with_one = pod(declared({"image": IMAGE, "port": 9000, "protocol": "V1"}))["containers"][0]
    without = pod(declared(None))["containers"][0]
    assert with_one["args"][:3] == ["front", "--upstream=http://127.0.0.1:9000", "--protocol=V1"]
    assert with_one["args"][3:] == without["args"][2:]
    for same in ("image", "readinessProbe", "livenessProbe", "securityContext"):
        assert with_one[same] == without[same]
    assert [port["name"] for port in with_one["ports"]] == ["http", "metrics"]


def test_the_resources_are_its_own_and_the_front_has_others() -> None:
    resources = {"limits": {"memory": "4Gi"}}
    spec = pod(declared({"image": IMAGE, "port": 9000}, resources=resources))
    fetch, own = spec["initContainers"]
    assert own["resources"] == fetch["resources"]
    assert own["resources"]["limits"] == {"memory": "4Gi"}
    assert spec["containers"][0]["resources"] == {
        "limits": {"memory": "512Mi"},
        "requests": {"cpu": "100m", "memory": "64Mi"},
    }


CONTAINER = {"image": IMAGE, "port": 9000}


@pytest.mark.parametrize(
    "other",
    [
        None,
        {**CONTAINER, "image": "registry.example.org/ml/own:2"},
        {**CONTAINER, "port": 9001},
        {**CONTAINER, "protocol": "V1"},
        {**CONTAINER, "command": ["a"]},
        {**CONTAINER, "args": ["a"]},
    ],
    ids=["none", "image", "port", "protocol", "command", "args"],
)
def test_another_container_is_another_revision(other: dict[str, Any] | None) -> None:
    world = declared(CONTAINER)
    change(world, other)
    assert len(world.deployments()) == 2
    change(world, CONTAINER)
    assert len(world.deployments()) == 2


def test_what_the_api_server_fills_in_makes_no_revision() -> None:
    world = declared(CONTAINER)
    change(world, {**CONTAINER, "protocol": "V2", "command": [], "args": []})
    assert len(world.deployments()) == 1


def test_a_field_that_is_added_to_the_kind_later_makes_no_revision() -> None:
    class Later(Container):
        shutdown: str = "Quick"

    world = declared(CONTAINER)
    facts = modeldeployment.observe(world.observed("ModelDeployment", "triage"))
    assert isinstance(facts.target, Revision)
    later = replace(facts.target, container=Later.model_validate(CONTAINER))
    assert later.id(facts.subject) == facts.target.id(facts.subject)
    again = modeldeployment.observe(world.observed("ModelDeployment", "triage"))
    assert (facts, hash(facts)) == (again, hash(again))


def test_an_image_that_cannot_be_pulled_is_said() -> None:
    world = declared(CONTAINER)
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [
            {"name": "fetch", "ready": True, "state": {"terminated": {"exitCode": 0}}},
            {"name": "upstream", "ready": False, "state": {"waiting": waiting}},
        ],
    }
    world.put("Pod", f"{name}-x", metadata={"labels": labels}, status=status)
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "ImagePullFailed")
    assert "the image of container upstream cannot be pulled" in world.message("ModelDeployment", "triage", "Ready")


def test_a_server_that_ends_is_said_with_its_last_words() -> None:
    world = declared(CONTAINER)
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    ended = {"exitCode": 1, "message": "no such model"}
    own = {
        "name": "upstream",
        "ready": False,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    world.put("Pod", f"{name}-x", metadata={"labels": labels}, status={"initContainerStatuses": [own]})
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "ContainerFailed")
    assert "upstream ended with exit code 1: no such model" in world.message("ModelDeployment", "triage", "Ready")


def test_an_image_that_the_workspace_does_not_allow_changes_nothing_of_what_serves() -> None:
    world = declared({"image": IMAGE, "port": 9000})
    before = world.deployments()
    change(world, {"image": "docker.io/somebody/else:1", "port": 9000})
    assert world.deployments() == before
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "ImageNotAllowed")
    said = "image is docker.io/somebody/else:1; Workspace default allows registry.example.org/*: add it to spec.allow."
    assert f"spec.server.container.{said}" in " ".join(world.told("ModelDeployment", "triage"))


def test_where_pods_reach_the_store_by_identity_no_server_of_ones_own_runs() -> None:
    world = with_version(with_store(World()), 1)
    allow(world, "*", identity={"serviceAccountName": "cloud"})
    change(world, {"image": IMAGE, "port": 9000})
    assert not world.deployments()
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "IdentityExposed")
