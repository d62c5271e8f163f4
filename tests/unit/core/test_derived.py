"""Derivation: data that is made of other Datasets, by a query or by a container of the user's."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, allowing_images, digest_of, moved_to, with_store

from modelmill_contracts import report, task

QUERY = "select * from visits join patients using (id)"
PLAIN = {"source": {"configMapRef": {"name": "files", "key": "data.csv"}}}


def derived(*names: str, **more: Any) -> dict[str, Any]:
    how = more.pop("how", {"sql": QUERY})
    return {"source": {"derive": {"from": [{"name": name} for name in names], **how}}, **more}


def answer(world: World, name: str, letter: str, **more: Any) -> None:
    world.reconcile("Dataset", name)
    result = report.SnapshotResult(digest_of(letter), digest_of(letter), 10, 2, **more)
    world.end_job(f"{name}-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", name)


def dataset(world: World, name: str, letter: str, **more: Any) -> None:
    world.put("Dataset", name, spec=PLAIN)
    answer(world, name, letter, **more)


def looked_anew(world: World, name: str, letter: str, value: str, **more: Any) -> None:
    """Somebody asks for a look, which finds this."""
    live = world.get("Dataset", name)
    metadata = {**live["metadata"], "annotations": {"modelmill.dev/refresh": value}}
    world.store("Dataset", name, {**live, "metadata": metadata})
    answer(world, name, letter, **more)


def inputs_of_the_job(world: World, name: str) -> list[tuple[str, str, str]]:
    work = task.decode(world.get("Job", f"{name}-data")["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.SnapshotTask)
    assert work.derive is not None
    assert work.derive.sql == QUERY
    return [(i.name, i.version, i.file) for i in work.derive.inputs]


def told(world: World, name: str) -> tuple[str, str]:
    """Reason and message of Ready."""
    world.reconcile("Dataset", name)
    return world.condition("Dataset", name, "Ready")[1], world.message("Dataset", name, "Ready")


def test_a_query_starts_when_all_its_inputs_are_there_and_its_version_says_what_it_is_made_of() -> None:
    world = with_store(World())
    world.put("Dataset", "joined", spec=derived("visits", "patients"))
    assert told(world, "joined") == ("InputNotFound", "there is no Dataset visits in this namespace yet; create it")
    assert world.condition("Dataset", "joined", "Reconciling")[0] == "True"
    dataset(world, "visits", "a")
    world.put("Dataset", "patients", spec=PLAIN)
    world.reconcile("Dataset", "patients")
    reason, message = told(world, "joined")
    assert reason == "InputNotReady"
    assert message.startswith("Dataset patients has no valid version (SnapshotRunning")
    answer(world, "patients", "b")
    world.reconcile("Dataset", "joined")
    assert inputs_of_the_job(world, "joined") == [
        ("visits", digest_of("a"), digest_of("a")),
        ("patients", digest_of("b"), digest_of("b")),
    ]
    answer(world, "joined", "c")
    assert world.get("Dataset", "joined")["status"]["history"][0]["from"] == [
        {"name": "visits", "version": digest_of("a")},
        {"name": "patients", "version": digest_of("b")},
    ]


def test_an_input_that_is_in_another_store_is_waited_for() -> None:
    world = with_store(World())
    dataset(world, "visits", "a")
    moved_to(world, "s3://others")
    world.put("Dataset", "joined", spec=derived("visits"))
    assert told(world, "joined")[0] == "InputNotReady"
    answer(world, "visits", "a")
    world.reconcile("Dataset", "joined")
    assert inputs_of_the_job(world, "joined") == [("visits", digest_of("a"), digest_of("a"))]


def test_an_input_that_needs_a_person_says_so_of_what_is_made_of_it() -> None:
    world = with_store(World())
    world.put("Dataset", "visits", spec=PLAIN)
    world.reconcile("Dataset", "visits")
    world.end_job("visits-data", report.Report(False, "SourceNotFound", "there is no key data.csv"))
    world.reconcile("Dataset", "visits")
    world.put("Dataset", "joined", spec=derived("visits"))
    reason, message = told(world, "joined")
    assert (reason, "SourceNotFound: there is no key data.csv" in message) == ("InputNotReady", True)
    assert world.condition("Dataset", "joined", "Stalled")[0] == "True"
    assert world.condition("Dataset", "joined", "PreflightPassed")[0] == "False"


def test_a_new_version_of_an_input_makes_a_new_snapshot_by_itself_and_an_old_one_none() -> None:
    world = with_store(World())
    dataset(world, "visits", "a")
    world.put("Dataset", "joined", spec=derived("visits"))
    answer(world, "joined", "c")
    assert world.plan("Dataset", "joined").writes == ()
    looked_anew(world, "visits", "b", "1")
    world.reconcile("Dataset", "joined")
    assert inputs_of_the_job(world, "joined") == [("visits", digest_of("b"), digest_of("b"))]
    assert world.condition("Dataset", "joined", "Ready")[0] == "True"  # until there is more to say
    answer(world, "joined", "c")  # the query gives the same
    (version,) = world.get("Dataset", "joined")["status"]["history"]
    assert version["from"] == [{"name": "visits", "version": digest_of("b")}]
    assert world.plan("Dataset", "joined").writes == ()


def test_an_input_that_fails_keeps_its_last_version_for_what_is_made_of_it() -> None:
    world = with_store(World())
    dataset(world, "visits", "a")
    world.put("Dataset", "visits", spec={**PLAIN, "expectations": {"minRows": 100}})
    world.reconcile("Dataset", "visits")
    world.end_job("visits-data", report.Report(False, "DataInvalid", "bad", problems=(report.Problem("R", "m"),)))
    world.reconcile("Dataset", "visits")
    world.put("Dataset", "joined", spec=derived("visits"))
    answer(world, "joined", "c")
    assert world.condition("Dataset", "joined", "Ready")[0] == "True"


def test_another_query_and_other_inputs_are_another_snapshot() -> None:
    world = with_store(World())
    dataset(world, "visits", "a")
    dataset(world, "patients", "b")
    digests = set()
    for spec in (derived("visits"), derived("visits", how={"sql": "select 1"}), derived("visits", "patients")):
        world.put("Dataset", "joined", spec=spec)
        answer(world, "joined", "c")
        digests.add(world.get("Dataset", "joined")["status"]["snapshot"])
    assert len(digests) == 3


def test_derived_data_is_as_old_as_the_oldest_of_what_it_is_made_of() -> None:
    world = with_store(World())
    dataset(world, "visits", "a", modified_at="2025-12-30T00:00:00Z")
    dataset(world, "patients", "b", modified_at="2025-12-31T00:00:00Z")
    world.put("Dataset", "joined", spec=derived("visits", "patients", expectations={"maxAge": "72h"}))
    answer(world, "joined", "c", modified_at="2026-01-01T00:00:00Z")
    assert world.get("Dataset", "joined")["status"]["modifiedAt"] == "2025-12-30T00:00:00Z"
    assert world.reconcile("Dataset", "joined").requeue_after == timedelta(hours=24)
    looked_anew(world, "visits", "a", "1", modified_at="2026-01-01T00:00:00Z")  # the same content, written anew
    world.reconcile("Dataset", "joined")
    assert world.get("Dataset", "joined")["status"]["modifiedAt"] == "2025-12-31T00:00:00Z"
    assert world.plan("Dataset", "joined").writes == ()


def test_data_that_is_made_of_itself_says_by_which_way() -> None:
    world = with_store(World())
    dataset(world, "plain", "a")
    world.put("Dataset", "a", spec=derived("plain", "b"))
    world.put("Dataset", "b", spec=derived("c", "plain"))
    world.put("Dataset", "c", spec=derived("a"))
    world.put("Dataset", "outside", spec=derived("a"))
    expected = "spec.source.derive.from leads back to itself: b -> c -> a -> b; take one of them out"
    assert told(world, "b") == ("DerivationCycle", expected)
    assert world.condition("Dataset", "b", "Stalled")[0] == "True"
    assert "a -> b -> c -> a" in told(world, "a")[1]
    assert told(world, "outside")[0] == "InputNotReady"
    assert not world.has("Job", "a-data")
    world.put("Dataset", "c", spec=PLAIN)
    for name, letter in (("c", "c"), ("b", "b"), ("a", "a")):
        answer(world, name, letter)
        assert told(world, name)[0] == "SnapshotTaken"


def test_a_dataset_that_names_itself_says_so() -> None:
    world = with_store(World())
    world.put("Dataset", "a", spec=derived("a"))
    assert "a -> a" in told(world, "a")[1]


def test_a_cycle_that_somebody_closes_elsewhere_is_told_of_what_was_good() -> None:
    world = with_store(World())
    dataset(world, "a", "a")
    world.put("Dataset", "b", spec=derived("a"))
    answer(world, "b", "b")
    world.put("Dataset", "a", spec=derived("b"))
    assert told(world, "b")[0] == "DerivationCycle"
    assert world.get("Dataset", "b")["status"]["version"] == digest_of("b")


CONTAINER = {"container": {"image": "registry.example.org/ml/clean:1", "command": ["clean"], "args": ["--fast"]}}


def with_images(*patterns: str, **more: Any) -> World:
    made = allowing_images(*patterns, **more)
    dataset(made, "visits", "a")
    return made


def test_a_users_container_has_no_credentials_and_says_nothing_in_our_name() -> None:
    world = with_images("registry.example.org/ml/*")
    world.put("Dataset", "clean", spec=derived("visits", how=CONTAINER))
    world.reconcile("Dataset", "clean")
    job = world.get("Job", "clean-data")["spec"]
    pod = job["template"]["spec"]
    fetch, users = pod["initContainers"]
    (ours,) = pod["containers"]
    assert (users["image"], users["command"], users["args"]) == (
        "registry.example.org/ml/clean:1",
        ["clean"],
        ["--fast"],
    )
    assert [(v["name"], v["value"]) for v in users["env"]] == [
        ("MILL_DATA", "/mnt/data"),
        ("MILL_OUTPUT", "/mnt/output"),
    ]
    mounted = {m["mountPath"]: (m["name"], m.get("readOnly", False)) for m in users["volumeMounts"]}
    assert mounted == {"/tmp": ("scratch", False), "/mnt/data": ("data", True), "/mnt/output": ("output", False)}
    assert users["securityContext"] == ours["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    brought = task.decode(fetch["env"][0]["value"])
    assert brought == task.FetchTask(
        task.StoreLocation("s3://models"),
        (task.SnapshotInput("visits", digest_of("a"), digest_of("a")),),
        "/mnt/data",
    )
    read = task.decode(ours["env"][0]["value"])
    assert isinstance(read, task.SnapshotTask)
    assert (read.source, read.derive) == ("/mnt/output", None)
    assert {"name": "output", "mountPath": "/mnt/output", "readOnly": True} in ours["volumeMounts"]
    assert "scratch" not in {m["name"] for m in (*ours["volumeMounts"], *fetch["volumeMounts"])}
    failing = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert {rule["containerName"] for rule in failing} == {"trainer", "fetch", "transform"}


def test_what_a_users_container_writes_as_a_report_is_none() -> None:
    world = with_images("*")
    world.put("Dataset", "clean", spec=derived("visits", how=CONTAINER))
    world.reconcile("Dataset", "clean")
    forged = report.Report(True, "SnapshotTaken", result=report.SnapshotResult(digest_of("9"), digest_of("9"), 1, 1))
    ended = {"exitCode": 1, "reason": "Error", "message": report.encode(forged).decode()}
    world.pod_of_job("clean-data", initContainerStatuses=[{"name": "transform", "state": {"terminated": ended}}])
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}
    job = {
        **world.get("Job", "clean-data"),
        "status": {"conditions": [{**failed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }
    world.store("Job", "clean-data", job)
    reason, message = told(world, "clean")
    assert reason == "ContainerFailed"
    assert message.startswith(
        "container transform ended with exit code 1; its log says why (kubectl logs POD -c transform)"
    )
    assert world.condition("Dataset", "clean", "Available")[0] == "False"
    ended["reason"] = "OOMKilled"
    world.pod_of_job("clean-data", initContainerStatuses=[{"name": "transform", "state": {"terminated": ended}}])
    reason, message = told(world, "clean")
    assert reason == "OutOfMemory"
    assert "container transform used more memory than its limit; raise spec.resources.limits.memory" in message


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("registry.example.org/ml/*", "registry.example.org/ml/clean:1", True),
        ("registry.example.org/ml/*", "registry.example.org/ml/a/b@sha256:00", True),
        ("registry.example.org/ml/*", "registry.example.org/other/clean", False),
        ("registry.example.org/ml/*", "evil.example.org/registry.example.org/ml/clean", False),
        ("registry.example.org/*:1", "registry.example.org/clean:1", True),
        ("registry.example.org/*:1", "registry.example.org/clean:11", False),
        ("python", "python:3", False),
        ("a.b/c", "aXb/c", False),
        ("*", "anything", True),
    ],
)
def test_the_workspace_says_which_images_may_run(pattern: str, image: str, allowed: bool) -> None:
    world = with_images(pattern)
    world.put("Dataset", "clean", spec=derived("visits", how={"container": {"image": image}}))
    reason, message = told(world, "clean")
    assert reason == ("SnapshotRunning" if allowed else "ImageNotAllowed")
    assert world.has("Job", "clean-data") is allowed
    if not allowed:
        said = f"spec.source.derive.container.image is {image}; Workspace default allows {pattern}"
        assert message == f"{said}: add it to spec.allow.images, or use another"
        assert world.condition("Dataset", "clean", "Stalled")[0] == "True"


def test_a_workspace_that_allows_no_images_says_so() -> None:
    world = with_images()
    world.put("Dataset", "clean", spec=derived("visits", how=CONTAINER))
    assert told(world, "clean")[1].endswith(
        "Workspace default allows no images: add it to spec.allow.images, or use another"
    )


@pytest.mark.parametrize(
    "workspace",
    [
        {"store": {"uri": "s3://models"}},
        {"identity": {"serviceAccountName": "cloud"}},
    ],
    ids=["no Secret", "an identity"],
)
def test_a_users_container_does_not_run_as_who_may_read_the_store(workspace: dict[str, Any]) -> None:
    world = with_images("*", **workspace)
    world.put("Dataset", "clean", spec=derived("visits", how=CONTAINER))
    assert told(world, "clean")[0] == "IdentityExposed"
    world.put("Dataset", "clean", spec=derived("visits"))
    assert told(world, "clean")[0] == "SnapshotRunning"


@pytest.mark.parametrize("reason", ["ImageNotAllowed", "IdentityExposed", "InputNotFound"])
def test_what_cannot_be_made_any_more_is_not_ready_and_keeps_its_versions(reason: str) -> None:
    world = with_images("registry.example.org/ml/*")
    world.put("Dataset", "clean", spec=derived("visits", how=CONTAINER))
    answer(world, "clean", "b")
    assert world.condition("Dataset", "clean", "Ready")[0] == "True"
    declared = world.get("Workspace", "default")["spec"]
    if reason == "ImageNotAllowed":
        world.put("Workspace", "default", spec={**declared, "allow": {"images": ["others/*"]}})
    elif reason == "IdentityExposed":
        world.put("Workspace", "default", spec={**declared, "identity": {"serviceAccountName": "cloud"}})
        world.reconcile("Workspace", "default")
        world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    else:
        world.remove("Dataset", "visits")
    if reason != "InputNotFound":
        world.reconcile("Workspace", "default")
    assert told(world, "clean")[0] == reason
    assert world.get("Dataset", "clean")["status"]["version"] == digest_of("b")
