"""Dataset: a checked snapshot, its history, and what is said of data that is not good."""

from datetime import timedelta
from typing import Any

import pytest
from world import World, digest_of, version_spec, with_dataset, with_store

from modelmill.core.plan import Create, Delete, Unedited
from modelmill.core.pods import StoreAccess
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
    assert world.condition("Dataset", "tumours", "PreflightPassed") == ("False", "SourceNotAllowed")
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


def test_problems_of_a_former_declaration_are_gone() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    world.end_job("tumours-data", report.Report(False, "DataInvalid", "bad", problems=(report.Problem("R", "m"),)))
    world.reconcile("Dataset", "tumours")
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 2}})
    world.reconcile("Dataset", "tumours")
    assert "problems" not in world.get("Dataset", "tumours")["status"]
    assert world.condition("Dataset", "tumours", "Valid") == ("Unknown", "SnapshotRunning")


RUNNING = "SnapshotRunning: the data is being read and checked"
NO_STORE = "WorkspaceNotFound: namespace team-a has no store; create the Workspace default, for example with"
NO_VERSION = "Fresh Unknown NoVersion: there is no valid version yet"
WORKS = "PreflightPassed True StoreWorks"
READ = "Available True SourceRead: the source was read"


def told(world: World, name: str = "tumours") -> list[str]:
    world.reconcile("Dataset", name)
    return world.told("Dataset", name)


def snapshot(world: World, letter: str = "a", rows: int = 569) -> None:
    result = report.SnapshotResult(digest_of(letter), digest_of("f"), rows, 31)
    world.end_job("tumours-data", report.Report(True, "SnapshotTaken", result=result))


def refused(world: World, *problems: report.Problem) -> None:
    world.end_job("tumours-data", report.Report(False, "DataInvalid", "fix the file", problems=problems))


def test_each_step_is_told_in_full() -> None:
    world = World()
    world.put("Dataset", "tumours", spec=SOURCE)
    missing = f"{NO_STORE} kubectl apply -n team-a -k manifests/store"
    assert told(world) == [
        f"Ready False {missing}",
        f"PreflightPassed False {missing}",
        "Available Unknown NotRead: the source was not read yet",
        "Valid Unknown NotChecked: the data was not checked yet",
        NO_VERSION,
        "Reconciling False WorkspaceNotFound",
        f"Stalled True {missing}",
    ]
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}})
    trying = "PreflightRunning: Workspace default is trying its store"
    assert told(world) == [
        f"Ready False {trying}",
        f"PreflightPassed Unknown {trying}",
        "Available Unknown NotRead: the source was not read yet",
        "Valid Unknown NotChecked: the data was not checked yet",
        NO_VERSION,
        f"Reconciling True {trying}",
        "Stalled False PreflightRunning",
    ]
    with_store(world)
    assert told(world) == [
        f"Ready False {RUNNING}",
        WORKS,
        f"Available Unknown {RUNNING}",
        f"Valid Unknown {RUNNING}",
        NO_VERSION,
        f"Reconciling True {RUNNING}",
        "Stalled False SnapshotRunning",
    ]
    world.pod_of_job("tumours-data", reason="Evicted", message="disk pressure")
    assert told(world)[0] == f"Ready False {RUNNING}"  # the Job makes another pod
    world.pod_of_job("tumours-data", conditions=[{"type": "PodScheduled", "status": "False", "message": "no node"}])
    full = "Unschedulable: no node takes the pod: no node; ask for less in resources, or add nodes"
    assert told(world) == [
        f"Ready False {full}",
        WORKS,
        f"Available Unknown {full}",  # a full cluster says nothing about the source
        f"Valid Unknown {full}",
        NO_VERSION,
        "Reconciling False Unschedulable",
        f"Stalled True {full}",
    ]
    refused(world, report.Problem("NotNumeric", "column age", "age", 1, (5,)))
    bad = "DataInvalid: fix the file (tried again within 10 min)"
    assert told(world) == [
        f"Ready False {bad}",
        WORKS,
        READ,
        f"Valid False {bad}",
        NO_VERSION,
        "Reconciling False DataInvalid",
        f"Stalled True {bad}",
    ]
    world.wait(5)
    world.reconcile("Dataset", "tumours")
    snapshot(world)
    assert told(world) == [
        f"Ready True SnapshotTaken: 569 rows as version {digest_of('a')}",
        WORKS,
        READ,
        "Valid True AllChecksPassed: every declared rule holds",
        "Fresh True NoMaxAge: expectations.maxAge is not declared: no data is too old",
        "Reconciling False SnapshotTaken",
        "Stalled False SnapshotTaken",
    ]


def test_what_kubectl_shows_of_a_snapshot() -> None:
    world = with_dataset(with_store(World()))
    status = dict(world.get("Dataset", "tumours")["status"])
    del status["conditions"]
    assert world.plan("Dataset", "tumours").requeue_after is None
    job = world.get("Job", "tumours-data")["metadata"]
    assert status == {
        "version": digest_of("a"),
        "shortVersion": "a" * 16,
        "rows": 569,
        "modifiedAt": "2026-01-01T00:00:00Z",
        "checkedAt": "2026-01-01T00:00:00Z",
        "lastRun": job["uid"],
        "history": [
            {
                "version": digest_of("a"),
                "file": digest_of("f"),
                "rows": 569,
                "observedAt": "2026-01-01T00:00:00Z",
                "store": StoreAccess(task.StoreLocation("s3://models", "http://store:7070")).place,
            }
        ],
        "snapshot": job["annotations"]["modelmill.dev/task"],
        "observedGeneration": 1,
    }


def test_what_was_taken_stays_ready_when_the_store_fails_later() -> None:
    world = with_dataset(with_store(World()))
    before = world.get("Dataset", "tumours")["status"]
    world.remove("Workspace", "default")
    world.reconcile("Dataset", "tumours")
    after = world.get("Dataset", "tumours")["status"]
    changed = [a["type"] for a, b in zip(after["conditions"], before["conditions"], strict=True) if a != b]
    assert changed == ["PreflightPassed"]
    assert world.condition("Dataset", "tumours", "PreflightPassed") == ("False", "WorkspaceNotFound")
    assert {**after, "conditions": 0} == {**before, "conditions": 0}


def test_a_declaration_that_changes_without_a_store_is_not_what_was_taken() -> None:
    world = with_dataset(with_store(World()))
    world.remove("Workspace", "default")
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 2}})
    world.reconcile("Dataset", "tumours")
    assert world.condition("Dataset", "tumours", "Ready") == ("False", "WorkspaceNotFound")
    assert world.get("Dataset", "tumours")["status"]["version"] == digest_of("a")  # TrainingJobs may go on with it


def test_another_declaration_stops_the_job_of_the_former_one() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    former = world.get("Job", "tumours-data")["metadata"]["uid"]
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 2}})
    assert world.deletes("Dataset", "tumours") == [("Job", "tumours-data", former)]
    world.reconcile("Dataset", "tumours")
    assert world.get("Job", "tumours-data")["metadata"]["uid"] != former


@pytest.mark.parametrize("seen", ["in the cache", "when it was created"])
def test_a_job_that_somebody_else_made_is_left_alone_and_costs_no_version(seen: str) -> None:
    world = with_dataset(with_store(World()))
    world.remove("Job", "tumours-data")
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 2}})
    if seen == "in the cache":
        world.put("Job", "tumours-data", spec={}, status={})
    else:
        world.foreign.add(("Job", "tumours-data"))  # its labels are not ours, so that no watch shows it
    plan = world.reconcile("Dataset", "tumours")
    expected = {
        "Ready": ("False", "NameConflict"),
        "PreflightPassed": ("True", "StoreWorks"),
        "Available": ("Unknown", "NameConflict"),  # it was not tried
        "Valid": ("Unknown", "NameConflict"),
        "Stalled": ("True", "NameConflict"),
    }
    assert {type_: world.condition("Dataset", "tumours", type_) for type_ in expected} == expected
    assert world.message("Dataset", "tumours", "Ready").startswith("Job tumours-data exists")
    assert world.get("Dataset", "tumours")["status"]["version"] == digest_of("a")
    assert plan.requeue_after == timedelta(minutes=1)


def test_a_report_of_another_task_stalls_it_and_costs_no_version() -> None:
    world = with_dataset(with_store(World()))
    world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": 2}})
    world.reconcile("Dataset", "tumours")
    other = report.Report(True, "StoreWorks", result=report.PreflightResult(()))
    world.end_job("tumours-data", other)
    said = "ReportInvalid: the Job's report is not that of a snapshot"
    assert told(world)[0] == f"Ready False {said}"
    assert world.told("Dataset", "tumours")[-1] == f"Stalled True {said}"
    assert world.get("Dataset", "tumours")["status"]["version"] == digest_of("a")


def test_bad_data_is_looked_at_ever_more_seldom() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    pauses = []
    for _ in range(18):
        world.reconcile("Dataset", "tumours")
        refused(world, report.Problem("TooFewRows", "there are 0"))
        plan = world.reconcile("Dataset", "tumours")
        assert plan.requeue_after is not None
        pauses.append(plan.requeue_after.total_seconds())
        world.wait(pauses[-1])
    assert pauses[0] == 5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 600


def test_a_source_that_fails_is_not_available_until_a_new_try_has_ended() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    world.end_job("tumours-data", report.Report(False, "SourceNotFound", "there is no key data.csv"))
    before = told(world)
    assert "Available False SourceNotFound: there is no key data.csv (tried again within 10 min)" in before
    assert "Valid Unknown NotChecked: the data was not checked yet" in before
    world.wait(5)
    assert told(world) == before
    snapshot(world)
    assert told(world)[0].startswith("Ready True")


def test_many_long_problems_fit_into_the_status() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec=SOURCE)
    world.reconcile("Dataset", "tumours")
    whole = report.Problem("TooFewRows", "there are 0", count=0)
    refused(world, whole, *(report.Problem(f"R{i}", "m" * 9, "c" * 9, i, (1, 2, 3, 4)) for i in range(2, 34)))
    world.reconcile("Dataset", "tumours")
    problems = world.get("Dataset", "tumours")["status"]["problems"]
    assert problems[0] == {"rule": "TooFewRows", "message": "there are 0", "count": 0}
    assert problems[1] == {"rule": "R2", "message": "m" * 9, "count": 2, "column": "c" * 9, "rows": [1, 2, 3]}
    assert len(problems) == 32
    world.wait(5)
    world.reconcile("Dataset", "tumours")  # a new try is no news
    assert world.get("Dataset", "tumours")["status"]["problems"] == problems
    known = world.objects["Dataset", "tumours"]["status"]["problems"]
    world.objects["Dataset", "tumours"]["status"]["problems"] = [
        {key: value for key, value in problem.items() if value != 0} for problem in known
    ]  # a client may drop what is empty
    world.reconcile("Dataset", "tumours")
    assert world.get("Dataset", "tumours")["status"]["problems"] == problems
    refused(world, report.Problem("R1", "m" * 513, "c" * 129))
    world.reconcile("Dataset", "tumours")
    (problem,) = world.get("Dataset", "tumours")["status"]["problems"]
    assert (len(problem["message"]), len(problem["column"])) == (512, 128)


def test_content_that_comes_back_is_the_newest_version_and_keeps_when_it_was_seen_first() -> None:
    world = with_dataset(with_store(World()))
    for rows, letter in ((2, "b"), (3, "a")):
        world.wait(60)
        world.put("Dataset", "tumours", spec={**SOURCE, "expectations": {"minRows": rows}})
        world.reconcile("Dataset", "tumours")
        snapshot(world, letter)
        world.wait(5)  # what counts is when the Job ended, not when that was seen
        world.reconcile("Dataset", "tumours")
    history = world.get("Dataset", "tumours")["status"]["history"]
    assert [(h["version"], h["observedAt"]) for h in history] == [
        (digest_of("a"), "2026-01-01T00:00:00Z"),
        (digest_of("b"), "2026-01-01T00:01:00Z"),
    ]


def test_a_source_that_is_not_allowed_says_what_is_and_waits_for_a_person() -> None:
    world = with_store(World())
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"sources": ["s3", "gs"]}})
    world.reconcile("Workspace", "default")
    world.put("Dataset", "tumours", spec={"source": {"uri": "https://example.org/data.csv"}})
    allows = "Workspace default allows s3, gs: add it to spec.allow.sources there, or use another"
    said = f"SourceNotAllowed: spec.source.uri has scheme https; {allows}"
    assert told(world)[0] == f"Ready False {said}"
    assert told(world)[-1] == f"Stalled True {said}"


def asked_of(source: dict[str, Any], store: dict[str, Any] | None = None) -> task.SnapshotTask:
    world = with_store(World())
    if store is not None:
        world.put("Workspace", "default", spec={"store": store})
        world.reconcile("Workspace", "default")
        world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
        world.reconcile("Workspace", "default")
    world.put("Dataset", "tumours", spec={"source": source})
    world.reconcile("Dataset", "tumours")
    pod = world.get("Job", "tumours-data")["spec"]["template"]["spec"]
    work = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.SnapshotTask)
    return work


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_bucket_elsewhere_is_not_asked_for_at_the_stores_endpoint(scheme: str) -> None:
    work = asked_of({"uri": f"{scheme}://lake/a/b.parquet"})
    assert work.source_store == task.StoreLocation(f"{scheme}://lake")


def test_an_address_in_the_query_of_an_address_is_no_scheme() -> None:
    work = asked_of({"uri": "https://example.org/get?from=s3://lake/a"})
    assert work.source == "https://example.org/get?from=s3://lake/a"
    assert work.source_store is None
    assert asked_of({"uri": "s3://lake/a://b"}).source_store == task.StoreLocation("s3://lake", "http://store:7070")


def test_a_bucket_is_reached_in_the_stores_region() -> None:
    store = {"uri": "s3://models", "region": "eu-central-1"}
    assert asked_of({"uri": "s3://lake/a.csv"}, store).source_store == task.StoreLocation(
        "s3://lake", None, "eu-central-1"
    )


def test_a_version_that_is_taken_is_an_event() -> None:
    world = with_dataset(with_store(World()))
    assert (world.events[-1].type, world.events[-1].reason) == ("Normal", "SnapshotTaken")


def edited(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "generation": manifest["metadata"]["generation"] + 1}}


def another(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "another"}}


@pytest.mark.parametrize(
    ("kind", "name", "spec"),
    [
        ("Dataset", "tumours", SOURCE),
        ("ModelVersion", "triage-1", version_spec(1)),
    ],
)
def test_a_job_is_made_and_thrown_away_only_for_what_is_declared_and_stored_as_it_was_read(
    kind: str, name: str, spec: dict[str, Any]
) -> None:
    world = with_store(World())
    world.put(kind, name, spec=spec)
    (create, *_) = world.plan(kind, name).writes
    assert isinstance(create, Create)
    world.reconcile(kind, name)
    workspace = world.get("Workspace", "default")
    store = {**workspace["spec"]["store"], "endpoint": "http://another:7070"}
    world.put("Workspace", "default", spec={**workspace["spec"], "store": store})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks"))
    world.reconcile("Workspace", "default")
    (delete, *_) = world.plan(kind, name).writes
    assert isinstance(delete, Delete)
    for write in (create, delete):
        own, settings = write.guards
        for guard, where in ((own, (kind, name)), (settings, ("Workspace", "default"))):
            assert isinstance(guard, Unedited)
            assert (guard.kind, guard.name) == where
            assert guard.meaning == f"{where[0]} {where[1]} is as it was read"
    for guard in delete.guards:
        assert isinstance(guard, Unedited)
        live = world.get(guard.kind, guard.name)
        assert guard.holds({**live, "status": {}})
        assert not guard.holds(edited(live))
        assert not guard.holds(another(live))
        assert not guard.holds(None)
    assert not create.guards[1].holds(world.get("Workspace", "default"))
