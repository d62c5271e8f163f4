"""Dataset: a checked snapshot, its history, and what is said of data that is not good."""

import pytest
from world import World, digest_of, with_dataset, with_store

from modelmill_contracts import report, task

SOURCE = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}


def test_a_snapshot_becomes_the_version() -> None:
    world = with_dataset(with_store(World()))
    status = world.get("Dataset", "tumours")["status"]
    assert status["version"] == digest_of("a")
    assert status["rows"] == 569
    assert [h["version"] for h in status["history"]] == [digest_of("a")]
    for type_ in ("Ready", "Available", "Valid", "PreflightPassed"):
        assert world.condition("Dataset", "tumours", type_)[0] == "True"


def test_without_a_workspace_it_says_what_to_create_and_starts_when_it_is_there() -> None:
    world = World()
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "PreflightPassed") == ("False", "WorkspaceNotFound")
    assert "manifests/store" in world.message("Dataset", "tumours", "Ready")
    assert not world.has("Job", "tumours-data")
    with_store(world)
    world.reconcile("Dataset", "tumours")
    assert world.has("Job", "tumours-data")


def test_bad_data_is_available_but_not_valid_and_keeps_the_last_version() -> None:
    world = with_dataset(with_store(World()))
    world.put("Dataset", "tumours", spec={**SOURCE, "columns": [{"name": "age", "type": "Float"}]})
    world.reconcile("Dataset", "tumours")
    problem = report.Problem("MissingColumn", "column age is not in the data", "age")
    world.end_job("tumours-data", report.Report(False, "DataInvalid", "column age is missing", problems=(problem,)))
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Available")[0] == "True"
    assert world.condition("Dataset", "tumours", "Valid") == ("False", "DataInvalid")
    status = world.get("Dataset", "tumours")["status"]
    assert status["version"] == digest_of("a")
    assert status["problems"] == [
        {"rule": "MissingColumn", "column": "age", "message": "column age is not in the data", "count": 0}
    ]


def test_a_source_that_cannot_be_read_is_not_available_and_is_tried_again() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    world.end_job("tumours-data", report.Report(False, "SourceNotFound", "there is no key data.csv"))
    plan = world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Available") == ("False", "SourceNotFound")
    assert world.condition("Dataset", "tumours", "Stalled")[0] == "True"
    assert plan.requeue_after is not None
    world.wait(plan.requeue_after.total_seconds())
    uid = world.get("Job", "tumours-data")["metadata"]["uid"]
    world.reconcile("Dataset", "tumours")
    assert world.get("Job", "tumours-data")["metadata"]["uid"] != uid


def test_unchanged_content_makes_no_new_version() -> None:
    world = with_dataset(with_store(World()))
    first = world.get("Dataset", "tumours")["status"]["history"]
    world.wait(3600)
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 100}})
    world.reconcile("Dataset", "tumours")
    result = report.SnapshotResult(digest_of("a"), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", "tumours")
    assert world.get("Dataset", "tumours")["status"]["history"] == first


def test_the_history_is_bounded_and_newest_first() -> None:
    world = with_store(World())
    for letter, rows in (("a", 1), ("b", 2), ("c", 3)):
        world.put("Dataset", "tumours", spec={**SOURCE, "versionHistoryLimit": 2, "expectations": {"minRows": rows}})
        world.reconcile("Dataset", "tumours")
        result = report.SnapshotResult(digest_of(letter), digest_of("f"), rows, 31)
        world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
        world.reconcile("Dataset", "tumours")
    assert [h["version"] for h in world.get("Dataset", "tumours")["status"]["history"]] == [
        digest_of("c"),
        digest_of("b"),
    ]


def test_a_scheme_that_the_workspace_does_not_allow_is_refused_before_anything_runs() -> None:
    world = with_store(World())
    workspace = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**workspace, "allow": {"sources": ["s3"]}})
    world.reconcile("Workspace", "default")
    world.put("Dataset", "tumours", spec={"source": {"uri": "https://example.org/data.csv"}})
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Ready") == ("False", "SourceNotAllowed")
    assert not world.has("Job", "tumours-data")


def test_the_source_is_reached_with_the_stores_endpoint_only_where_it_may_be_the_same_server() -> None:
    world = with_store(World())
    world.put("Dataset", "lake", spec={"source": {"uri": "s3://lake/a/b.parquet", "secretRef": {"name": "lake"}}})
    world.reconcile("Dataset", "lake")
    container = world.get("Job", "lake-data")["spec"]["template"]["spec"]["containers"][0]
    variables = {v["name"]: v for v in container["env"]}
    work = task.decode(variables["MILL_TASK"]["value"])
    assert isinstance(work, task.SnapshotTask)
    assert work.source_store == task.StoreLocation("s3://lake", "http://store:7070")
    assert variables["MILL_SOURCE_AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]["name"] == "lake"


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImagePullFailed",
            "check its name",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "trainer",
                        "state": {
                            "waiting": {"reason": "CreateContainerConfigError", "message": 'secret "store" not found'}
                        },
                    }
                ]
            },
            "ContainerConfigInvalid",
            'secret "store" not found',
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]},
            "Unschedulable",
            "Insufficient cpu",
        ),
    ],
)
def test_what_holds_the_pod_up_is_said(status: dict[str, object], reason: str, words: str) -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    world.pod_of_job("tumours-data", **status)
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Stalled") == ("True", reason)
    assert words in world.message("Dataset", "tumours", "Ready")
    # A full cluster says nothing about the source.
    about_the_source = "Unknown" if reason == "Unschedulable" else "False"
    assert world.condition("Dataset", "tumours", "Available") == (about_the_source, reason)


def test_a_quota_that_refuses_the_pod_is_said() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    world.put(
        "Event",
        "tumours-data.1",
        reason="FailedCreate",
        message="exceeded quota: small",
        involvedObject={
            "kind": "Job",
            "name": "tumours-data",
            "uid": world.get("Job", "tumours-data")["metadata"]["uid"],
        },
    )
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Stalled") == ("True", "PodCreationRefused")
    assert "exceeded quota: small" in world.message("Dataset", "tumours", "Ready")


def test_a_report_that_is_seen_after_its_job_is_waited_for() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    result = report.SnapshotResult(digest_of("a"), digest_of("f"), 569, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))
    pod = world.objects.pop(("Pod", "tumours-data-x"))
    plan = world.reconcile("Dataset", "tumours")
    assert world.has("Job", "tumours-data")
    assert plan.requeue_after is not None
    world.objects["Pod", "tumours-data-x"] = pod
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Ready")[0] == "True"


def test_a_report_that_is_lost_for_good_is_asked_for_again() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    uid = world.get("Job", "tumours-data")["metadata"]["uid"]
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken"))
    world.remove("Pod", "tumours-data-x")
    world.wait(11)
    world.reconcile("Dataset", "tumours")
    assert world.get("Job", "tumours-data")["metadata"]["uid"] != uid


def test_what_is_allowed_may_change_without_a_new_snapshot_and_without_a_moment_of_doubt() -> None:
    world = with_dataset(with_store(World()))
    job = world.get("Job", "tumours-data")["metadata"]["uid"]
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"sources": ["s3", "https"]}})
    for _ in range(2):
        world.reconcile("Dataset", "tumours")
        assert world.condition("Dataset", "tumours", "Ready")[0] == "True"
        assert world.get("Job", "tumours-data")["metadata"]["uid"] == job
        world.reconcile("Workspace", "default")


def test_problems_stay_while_the_source_is_read_again() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    problem = report.Problem("NotNumeric", "column age", "age", 1, (5,))
    world.end_job("tumours-data", report.Report(False, "DataInvalid", "bad", problems=(problem,)))
    plan = world.reconcile("Dataset", "tumours")
    assert plan.requeue_after is not None
    world.wait(plan.requeue_after.total_seconds())
    world.reconcile("Dataset", "tumours")
    assert world.get("Dataset", "tumours")["status"]["problems"][0]["rows"] == [5]
    assert world.condition("Dataset", "tumours", "Valid") == ("False", "DataInvalid")
