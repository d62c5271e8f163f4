"""A TrainingJob whose container trains: who runs what with which rights, and what keeps it from running."""

from typing import Any

import pytest
from world import World, allowing_images, digest_of, trained, training_spec, with_dataset

from modelmill_contracts import report, task

IMAGE = "registry.example.org/ml/train:1"
CONTAINER = {"image": IMAGE, "command": ["train"], "args": ["--fast"], "env": [{"name": "DEPTH", "value": "5"}]}


def own_training(**more: Any) -> dict[str, Any]:
    spec = training_spec(container=CONTAINER, **more)
    del spec["estimator"]
    return spec


def with_images(*patterns: str, **more: Any) -> World:
    return with_dataset(allowing_images(*patterns, **more))


def test_it_has_no_credentials_and_its_work_is_taken_by_ours() -> None:
    world = with_images("registry.example.org/ml/*")
    data = {"datasetRef": {"name": "tumours"}, "target": "benign", "split": {"method": "Group", "by": "patient"}}
    world.put(
        "TrainingJob",
        "own",
        spec=own_training(data=data, seed=7, evaluation={"metrics": ["recall"], "slices": ["site"]}),
    )
    world.settle()
    pod = world.get("Job", "own-train")["spec"]["template"]["spec"]
    fetch, users = pod["initContainers"]
    (ours,) = pod["containers"]
    assert (users["image"], users["command"], users["args"]) == (IMAGE, ["train"], ["--fast"])
    assert [(v["name"], v["value"]) for v in users["env"]] == [
        ("MILL_DATA", "/mnt/data"),
        ("MILL_OUTPUT", "/mnt/output"),
        ("DEPTH", "5"),
    ]
    writable = {m["mountPath"] for m in users["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", "/mnt/output"}
    work = task.decode(ours["env"][0]["value"])
    assert isinstance(work, task.OwnTrainingTask)
    assert (work.version, work.seed, work.metrics, work.slices) == (digest_of("a"), 7, ("recall",), ("site",))
    assert work.container == task.OwnContainer(IMAGE, ("train",), ("--fast",), (("DEPTH", "5"),))
    brought = task.decode(fetch["env"][0]["value"])
    assert brought == task.parts_of(work, digest_of("f"))
    assert (brought.split, brought.slices) == (task.Split(group="patient"), ("site",))
    assert {(m["mountPath"], m.get("readOnly", False)) for m in ours["volumeMounts"]} == {
        ("/tmp", False),
        ("/mnt/data", True),
        ("/mnt/output", True),
    }
    assert {m["mountPath"] for m in fetch["volumeMounts"]} == {"/tmp", "/mnt/data"}


def test_its_model_becomes_a_version() -> None:
    world = with_images("*")
    world.put("TrainingJob", "own", spec=own_training())
    world.settle()
    world.end_job("own-train", trained())
    world.settle()
    assert world.get("TrainingJob", "own")["status"]["modelVersion"] == "triage-1"


def test_it_is_reproduced_by_another_pod_of_the_same_container() -> None:
    world = with_images("*")
    world.put("TrainingJob", "own", spec=own_training(reproduce={"runs": 2}))
    world.settle()
    world.end_job("own-train", trained())
    world.settle()
    pod = world.get("Job", "own-again")["spec"]["template"]["spec"]
    work = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.OwnTrainingTask)
    assert not work.publish
    assert pod["initContainers"][1]["image"] == IMAGE


@pytest.mark.parametrize(
    ("patterns", "more", "reason", "text"),
    [
        ((), {}, "ImageNotAllowed", f"spec.container.image is {IMAGE}; Workspace default allows no images"),
        (("other/*",), {}, "ImageNotAllowed", "allows other/*"),
        (("*",), {"identity": {"serviceAccountName": "cloud"}}, "IdentityExposed", "spec.container would run as"),
    ],
)
def test_the_workspace_says_whether_it_may_run(
    patterns: tuple[str, ...], more: dict[str, Any], reason: str, text: str
) -> None:
    world = with_images(*patterns, **more)
    world.put("TrainingJob", "own", spec=own_training())
    world.settle()
    assert not world.has("Job", "own-train")
    assert world.condition("TrainingJob", "own", "PreflightPassed") == ("False", reason)
    assert world.condition("TrainingJob", "own", "Stalled") == ("True", reason)
    assert text in world.message("TrainingJob", "own", "Stalled")


def test_what_the_container_says_in_our_name_is_nothing() -> None:
    world = with_images("*")
    world.put("TrainingJob", "own", spec=own_training())
    world.settle()
    ended = {"exitCode": 1, "reason": "Error", "message": report.encode(trained()).decode()}
    world.pod_of_job("own-train", initContainerStatuses=[{"name": "transform", "state": {"terminated": ended}}])
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}
    conditions = [{**failed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    world.store("Job", "own-train", {**world.get("Job", "own-train"), "status": {"conditions": conditions}})
    world.settle()
    assert world.condition("TrainingJob", "own", "Failed") == ("True", "ContainerFailed")
    assert "kubectl logs POD -c transform" in world.message("TrainingJob", "own", "Failed")
    assert "artifact" not in world.get("TrainingJob", "own")["status"]


def test_an_image_that_needs_to_be_root_is_told_what_it_has_instead() -> None:
    world = with_images("*")
    world.put("TrainingJob", "own", spec=own_training())
    world.settle()
    pod = world.get("Job", "own-train")["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 65532)
    ended = {"exitCode": 128, "reason": "StartError", "message": "exec: permission denied"}
    world.pod_of_job("own-train", initContainerStatuses=[{"name": "transform", "state": {"terminated": ended}}])
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}
    conditions = [{**failed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    world.store("Job", "own-train", {**world.get("Job", "own-train"), "status": {"conditions": conditions}})
    world.settle()
    assert world.condition("TrainingJob", "own", "Failed") == ("True", "ContainerFailed")
    said = world.message("TrainingJob", "own", "Failed")
    assert "It runs as user 65532 and not as root, and can write to $MILL_OUTPUT and /tmp only" in said


def test_without_a_command_it_is_the_image_s_own() -> None:
    world = with_images("*")
    spec = own_training()
    world.put("TrainingJob", "own", spec={**spec, "container": {"image": IMAGE}})
    world.settle()
    (_, users) = world.get("Job", "own-train")["spec"]["template"]["spec"]["initContainers"]
    assert "command" not in users


def test_it_waits_for_a_store_as_any_other_training() -> None:
    world = World()
    store = {"uri": "s3://models", "secretRef": {"name": "store"}}
    world.put("Workspace", "default", spec={"store": store, "allow": {"images": ["*"]}})
    world.put("TrainingJob", "own", spec=own_training())
    world.reconcile("TrainingJob", "own")
    assert world.condition("TrainingJob", "own", "PreflightPassed") == ("Unknown", "PreflightRunning")
