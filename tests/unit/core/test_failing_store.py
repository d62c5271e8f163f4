"""A store that fails while a Dataset is written to it: what is there stays available, and the source is not blamed."""

from world import World, digest_of, with_dataset, with_store

from modelmill_contracts import report

WORKS = "PreflightPassed True StoreWorks"


def told(world: World) -> list[str]:
    world.reconcile("Dataset", "tumours")
    return world.told("Dataset", "tumours")


FULL = report.Report(False, "StoreFull", "it is full; free space", retryable=True, store=True)


def look_again(world: World, value: str) -> None:
    live = world.get("Dataset", "tumours")
    metadata = {**live["metadata"], "annotations": {"modelmill.dev/refresh": value}}
    world.store("Dataset", "tumours", {**live, "metadata": metadata})
    world.reconcile("Dataset", "tumours")


def test_a_store_that_fails_leaves_the_versions_that_are_there_available() -> None:
    world = with_dataset(with_store(World()))
    look_again(world, "now")
    full = "StoreFull: it is full; free space (tried again within 1 min)"
    kept = [
        f"Ready False {full}",
        f"PreflightPassed False {full}",
        "Available True SourceRead: the source was read before, and what was found is still there",
        "Valid Unknown NotChecked: the data was not checked yet",
    ]
    for _ in range(3):
        world.end_job("tumours-data", FULL)
        assert told(world)[:4] == kept
        world.wait(60)
        assert told(world)[:4] == kept  # while it is tried again
    assert world.get("Dataset", "tumours")["status"]["version"] == digest_of("a")
    no_node = {"type": "PodScheduled", "status": "False", "message": "no node"}
    world.pod_of_job("tumours-data", conditions=[no_node])
    assert [line.split(":")[0] for line in told(world)[:3]] == [
        "Ready False Unschedulable",
        "PreflightPassed False StoreFull",
        "Available True SourceRead",
    ]
    result = report.SnapshotResult(digest_of("a"), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    assert told(world)[1:3] == [WORKS, "Available True SourceRead: the source was read"]


def test_a_store_that_fails_at_first_says_nothing_of_the_source() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}})
    world.reconcile("Dataset", "tumours")
    world.end_job("tumours-data", FULL)
    assert [line.split(":")[0] for line in told(world)[:3]] == [
        "Ready False StoreFull",
        "PreflightPassed False StoreFull",
        "Available Unknown StoreFull",
    ]


def test_a_store_that_the_workspace_found_to_fail_is_no_failure_of_a_look() -> None:
    world = World()
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}})
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "PreflightPassed") == ("False", "WorkspaceNotFound")
    with_store(world)
    assert told(world)[1:3] == [WORKS, "Available Unknown SnapshotRunning: the data is being read and checked"]
