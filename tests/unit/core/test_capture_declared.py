"""spec.capture: a sidecar with access to the store, a server without, and revisions that change with what pods know."""

from typing import Any

import pytest
from world import World, digest_of, with_store, with_version

from modelmill_contracts import report


def declared(capture: dict[str, Any] | None, world: World | None = None, **more: Any) -> World:
    world = with_version(with_store(World()), 1) if world is None else world
    change(world, capture, **more)
    return world


def change(world: World, capture: dict[str, Any] | None, **more: Any) -> None:
    spec = {"model": {"name": "triage"}, **({} if capture is None else {"capture": capture}), **more}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")


def pod(world: World) -> dict[str, Any]:
    (name,) = world.deployments()
    spec: dict[str, Any] = world.get("Deployment", name)["spec"]["template"]["spec"]
    return spec


def names(container: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in container["env"]}


def test_only_the_sidecar_and_the_fetching_have_access_to_the_store() -> None:
    world = with_version(with_store(World()), 1)
    store = {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}
    world.put("Workspace", "default", spec={"store": store})
    spec = pod(declared({}, world))
    (fetch, sidecar), (server,) = spec["initContainers"], spec["containers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("capture", "Always")
    uid = world.get("ModelDeployment", "triage")["metadata"]["uid"]
    assert sidecar["args"] == ["capture", uid]
    assert sidecar["image"] == server["image"]
    assert names(sidecar) == names(fetch) == {"MILL_STORE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert server["env"] == []
    # What parses requests cannot put another socket in its place.
    mounts = {c["name"]: {m["name"]: m for m in c["volumeMounts"]} for c in (sidecar, server)}
    assert mounts["server"]["capture"]["readOnly"]
    assert "readOnly" not in mounts["capture"]["capture"]
    assert mounts["server"]["capture"]["mountPath"] == mounts["capture"]["capture"]["mountPath"]
    assert {"name": "capture", "emptyDir": {}} in spec["volumes"]


def test_a_volume_is_writable_for_the_sidecar_alone() -> None:
    world = World()
    world.put("PersistentVolumeClaim", "models", spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Bound"})
    world.put("Workspace", "default", spec={"store": {"uri": "pvc://models/team"}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    artifact = {"uri": "file:///mnt/store/team/artifacts/sha256-1", "digest": digest_of("1")}
    world.put("ModelDeployment", "triage", spec={"model": artifact, "capture": {}})
    world.reconcile("ModelDeployment", "triage")
    spec = pod(world)
    fetch, sidecar = spec["initContainers"]
    modes = [
        [mount.get("readOnly", False) for mount in container["volumeMounts"] if mount["name"] == "store"]
        for container in (fetch, sidecar, *spec["containers"])
    ]
    assert modes == [[True], [False], []]


def test_what_is_left_is_written_within_the_grace_period() -> None:
    without, with_one = pod(declared(None)), pod(declared({}))
    assert with_one["terminationGracePeriodSeconds"] > without["terminationGracePeriodSeconds"]


def test_the_server_is_told_what_to_keep() -> None:
    assert "--capture=0.01" in pod(declared({}))["containers"][0]["args"]
    args = pod(declared({"sample": "1", "columns": ["b", "a$$"]}))["containers"][0]["args"]
    assert {"--capture=1", '--capture-columns=["a$$$$","b"]'} < set(args)
    assert not [arg for arg in pod(declared(None))["containers"][0]["args"] if "capture" in arg]


@pytest.mark.parametrize(
    ("capture", "same"),
    [
        ({"sample": "0.01"}, True),  # the default
        ({"retention": "1h"}, True),  # which pods need not know
        ({"sample": "0.02"}, False),
        ({"columns": ["age"]}, False),
        (None, False),
    ],
)
def test_what_pods_know_makes_a_revision(capture: dict[str, Any] | None, same: bool) -> None:
    world = declared({})
    before = world.deployments()
    change(world, capture)
    assert (world.deployments() == before) is same


def test_the_order_of_columns_makes_no_revision() -> None:
    world = declared({"columns": ["a", "b"]})
    before = world.deployments()
    change(world, {"columns": ["b", "a"]})
    assert world.deployments() == before
