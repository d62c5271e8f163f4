"""Sources: what of a declaration a pod is given, and what the Workspace does not allow."""

from typing import Any

import pytest
from world import World, digest_of, with_store

from modelmill_contracts import report, task


def pod_of(source: dict[str, Any], world: World | None = None, **spec: Any) -> dict[str, Any]:
    world = world or with_store(World())
    world.put("Dataset", "sales", spec={"source": source, **spec})
    world.reconcile("Dataset", "sales")
    pod: dict[str, Any] = world.get("Job", "sales-data")["spec"]["template"]["spec"]
    return pod


def work_of(pod: dict[str, Any]) -> task.SnapshotTask:
    work = task.decode(pod["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.SnapshotTask)
    return work


def secrets_of(pod: dict[str, Any], container: int = 0) -> dict[str, tuple[str, str]]:
    """Variables that come from Secrets: name -> (Secret, key)."""
    references = {
        v["name"]: v["valueFrom"]["secretKeyRef"] for v in pod["containers"][container]["env"] if "valueFrom" in v
    }
    return {name: (r["name"], r["key"]) for name, r in references.items()}


SQL = {"sql": {"urlRef": {"name": "warehouse", "key": "url"}, "query": "select 1"}}


def test_a_database_is_asked_with_the_url_of_its_secret() -> None:
    pod = pod_of(SQL)
    assert work_of(pod).query == "select 1"
    assert work_of(pod).source == ""
    assert secrets_of(pod) == {"MILL_SOURCE_URL": ("warehouse", "url")}


def test_a_volume_is_mounted_to_be_read_only() -> None:
    pod = pod_of({"uri": "pvc://lake/a/b.parquet"})
    assert work_of(pod).source == "/mnt/source/a/b.parquet"
    assert work_of(pod).source_store is None
    volume = {"name": "source", "persistentVolumeClaim": {"claimName": "lake", "readOnly": True}}
    assert volume in pod["volumes"]
    assert {"name": "source", "mountPath": "/mnt/source", "readOnly": True} in pod["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://lake/a", {"AWS_ACCESS_KEY_ID": "accessKeyId", "AWS_SECRET_ACCESS_KEY": "secretAccessKey"}),
        ("gs://lake/a", {"GOOGLE_SERVICE_ACCOUNT_KEY": "serviceAccountKey"}),
        ("az://lake/a", {"AZURE_STORAGE_ACCOUNT_NAME": "accountName", "AZURE_STORAGE_ACCOUNT_KEY": "accountKey"}),
    ],
)
def test_each_kind_of_bucket_has_its_own_credentials(uri: str, expected: dict[str, str]) -> None:
    pod = pod_of({"uri": uri, "secretRef": {"name": "lake"}})
    assert secrets_of(pod) == {f"MILL_SOURCE_{name}": ("lake", key) for name, key in expected.items()}
    world = World()
    world.put("Workspace", "default", spec={"store": {"uri": uri, "secretRef": {"name": "store"}}})
    world.reconcile("Workspace", "default")
    trial = world.get("Job", "default-preflight")["spec"]["template"]["spec"]
    assert secrets_of(trial) == {name: ("store", key) for name, key in expected.items()}


@pytest.mark.parametrize(
    ("source", "endpoint", "region"),
    [
        ({}, "http://store:7070", "eu-north-1"),
        ({"region": "us-west-2"}, "http://store:7070", "us-west-2"),
        ({"endpoint": "http://lake:9000"}, "http://lake:9000", None),
        ({"endpoint": "http://lake:9000", "region": "us-west-2"}, "http://lake:9000", "us-west-2"),
        ({"endpoint": "http://store:7070"}, "http://store:7070", "eu-north-1"),
    ],
)
def test_a_source_is_where_it_says_or_else_where_the_store_is(
    source: dict[str, Any], endpoint: str, region: str | None
) -> None:
    world = World()
    store = {"uri": "s3://models", "endpoint": "http://store:7070", "region": "eu-north-1"}
    world.put("Workspace", "default", spec={"store": store})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    work = work_of(pod_of({"uri": "s3://lake/a", **source}, world))
    assert work.source_store == task.StoreLocation("s3://lake", endpoint, region)


IN_AZURE = {"uri": "az://models", "account": "ours"}


def in_azure(**more: Any) -> World:
    """A Workspace with a store in Azure, whose preflight passed."""
    world = World()
    world.put("Workspace", "default", spec={"store": {**IN_AZURE, **more}})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    return world


def test_a_store_in_azure_is_reached_by_identity_where_its_account_is_named() -> None:
    pod = pod_of({"uri": "az://lake/a"}, in_azure())
    assert work_of(pod).store == task.StoreLocation("az://models", account="ours")
    assert work_of(pod).source_store == task.StoreLocation("az://lake", account="ours")
    assert secrets_of(pod) == {}


@pytest.mark.parametrize(
    ("source", "account"),
    [
        ({"account": "theirs"}, "theirs"),
        ({"account": "theirs", "secretRef": {"name": "lake"}}, "theirs"),
        ({"secretRef": {"name": "lake"}}, None),  # the Secret says it, and may say another one than the store's
    ],
)
def test_a_source_in_azure_may_be_in_another_account(source: dict[str, Any], account: str | None) -> None:
    pod = pod_of({"uri": "az://lake/a", **source}, in_azure())
    assert work_of(pod).source_store == task.StoreLocation("az://lake", account=account)


def test_a_secret_need_not_name_an_account_that_is_declared() -> None:
    pod = pod_of({"uri": "az://lake/a", "secretRef": {"name": "lake"}}, in_azure(secretRef={"name": "store"}))
    references = [v["valueFrom"]["secretKeyRef"] for v in pod["containers"][0]["env"] if "valueFrom" in v]
    assert references == [
        {"name": "store", "key": "accountName", "optional": True},
        {"name": "store", "key": "accountKey"},
        {"name": "lake", "key": "accountName"},
        {"name": "lake", "key": "accountKey"},
    ]


def test_another_account_is_another_store() -> None:
    world = in_azure()
    pod_of({"uri": "https://example.org/a.csv"}, world)
    taken = report.Report(True, "SnapshotTaken", result=report.SnapshotResult(digest_of("a"), digest_of("f"), 1, 1))
    world.end_job("sales-data", taken)
    world.reconcile("Dataset", "sales")
    world.put("Workspace", "default", spec={"store": {**IN_AZURE, "account": "others"}})
    world.reconcile("Workspace", "default")
    assert "others" in str(world.get("Job", "default-preflight"))
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    world.reconcile("Dataset", "sales")
    assert world.condition("Dataset", "sales", "Ready") == ("False", "SnapshotRunning")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (SQL, "spec.source.sql reads from postgresql"),
        ({"uri": "pvc://lake/a"}, "spec.source.uri has scheme pvc"),
        ({"uri": "az://lake/a"}, "spec.source.uri has scheme az"),
    ],
)
def test_what_the_workspace_does_not_allow_is_not_read(source: dict[str, Any], what: str) -> None:
    world = with_store(World())
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"sources": ["s3", "https"]}})
    world.put("Dataset", "sales", spec={"source": source})
    world.reconcile("Dataset", "sales")
    assert not world.has("Job", "sales-data")
    assert world.condition("Dataset", "sales", "Ready") == ("False", "SourceNotAllowed")
    assert world.message("Dataset", "sales", "Ready") == (
        f"{what}; Workspace default allows s3, https: add it to spec.allow.sources there, or use another"
    )


def test_a_redirect_leads_only_to_what_the_workspace_allows() -> None:
    world = with_store(World())
    spec = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**spec, "allow": {"sources": ["https", "postgresql", "pvc"]}})
    assert work_of(pod_of({"uri": "https://example.org/a.csv"}, world)).schemes == ("https",)


def test_expectations_are_handed_on() -> None:
    expectations = {
        "minRows": 7,
        "maxAge": "24h",
        "uniqueKey": ["id", "day"],
        "maxNullFraction": "0.05",
        "drift": {"maxEffect": "0.2"},
    }
    work = work_of(pod_of({"uri": "s3://lake/a"}, expectations=expectations))
    assert work.expectations == task.Expectations(7, ("id", "day"), "0.05", "0.2")


def test_resources_are_the_pods_and_more_of_them_is_another_try() -> None:
    world = with_store(World())
    pod = pod_of({"uri": "s3://lake/a"}, world)
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "2Gi"}
    pod = pod_of({"uri": "s3://lake/a"}, world, resources={"limits": {"memory": "8Gi"}})
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "8Gi"}


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another database": (SQL, {"sql": {**SQL["sql"], "urlRef": {"name": "other", "key": "url"}}}),
    "another key": (SQL, {"sql": {**SQL["sql"], "urlRef": {"name": "warehouse", "key": "dsn"}}}),
    "another query": (SQL, {"sql": {**SQL["sql"], "query": "select 2"}}),
    "another claim": ({"uri": "pvc://a/x"}, {"uri": "pvc://b/x"}),
    "another path": ({"uri": "pvc://a/x"}, {"uri": "pvc://a/y"}),
    "another endpoint": ({"uri": "s3://a/x"}, {"uri": "s3://a/x", "endpoint": "http://lake:9000"}),
    "another region": ({"uri": "s3://a/x"}, {"uri": "s3://a/x", "region": "us-west-2"}),
    "another account": ({"uri": "az://a/x"}, {"uri": "az://a/x", "account": "theirs"}),
    "another Secret": ({"uri": "s3://a/x"}, {"uri": "s3://a/x", "secretRef": {"name": "s"}}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_of_a_source_is_another_snapshot(change: str) -> None:
    world = with_store(World())
    before, after = CHANGES[change]
    pod_of(before, world)
    former = world.get("Job", "sales-data")["metadata"]["uid"]
    pod_of(after, world)
    assert world.get("Job", "sales-data")["metadata"]["uid"] != former


# A store that is a volume, and pods that a cloud knows.


def workspace(**spec: Any) -> World:
    world = World()
    for name in ("models", "others"):
        world.put("PersistentVolumeClaim", name, spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Pending"})
    world.put("Workspace", "default", spec=spec)
    world.reconcile("Workspace", "default")
    return world


def passed(world: World) -> World:
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    return world


def test_a_store_that_is_a_volume_is_mounted_in_every_pod_that_reaches_it() -> None:
    world = workspace(store={"uri": "pvc://models/team/a"})
    trial = world.get("Job", "default-preflight")["spec"]["template"]["spec"]
    location = task.StoreLocation("file:///mnt/store/team/a")
    tried = task.decode(trial["containers"][0]["env"][0]["value"])
    assert isinstance(tried, task.PreflightTask)
    assert tried.store == location
    for pod in (trial, pod_of({"uri": "s3://lake/a"}, passed(world))):
        assert {"name": "store", "persistentVolumeClaim": {"claimName": "models"}} in pod["volumes"]
        assert {"name": "store", "mountPath": "/mnt/store"} in pod["containers"][0]["volumeMounts"]
        assert "serviceAccountName" not in pod


def test_another_claim_is_tried_anew() -> None:
    world = passed(workspace(store={"uri": "pvc://models/a"}))
    world.put("Workspace", "default", spec={"store": {"uri": "pvc://others/a"}})
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Ready") == ("False", "PreflightRunning")


@pytest.mark.parametrize(
    ("claim", "reason", "words"),
    [
        (None, "ClaimNotFound", "there is no PersistentVolumeClaim data in this namespace; create it"),
        ({"spec": {"accessModes": ["ReadWriteOnce"]}}, "ClaimNotShared", "has access mode ReadWriteOnce, and pods on"),
        ({"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Lost"}}, "ClaimLost", "is gone; restore it"),
    ],
)
def test_a_volume_that_cannot_be_shared_is_told_before_anything_runs(claim: Any, reason: str, words: str) -> None:
    world = workspace(store={"uri": "pvc://data"})
    if claim is not None:
        world.put("PersistentVolumeClaim", "data", **claim)
    world.reconcile("Workspace", "default")
    assert not world.has("Job", "default-preflight")
    for type_ in ("Ready", "PreflightPassed"):
        assert world.condition("Workspace", "default", type_) == ("False", reason)
    assert words in world.message("Workspace", "default", "Ready")
    assert world.condition("Workspace", "default", "Stalled")[0] == "True"
    world.put("PersistentVolumeClaim", "data", spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Bound"})
    world.reconcile("Workspace", "default")
    assert world.has("Job", "default-preflight")


def test_a_volume_that_goes_takes_the_store_with_it() -> None:
    world = passed(workspace(store={"uri": "pvc://models"}))
    world.remove("PersistentVolumeClaim", "models")
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Ready") == ("False", "ClaimNotFound")
    assert "preflight" not in world.get("Workspace", "default")["status"]


IDENTITY = {"serviceAccountName": "cloud", "podLabels": {"azure.workload.identity/use": "true"}}


def test_pods_that_reach_the_store_are_who_the_workspace_says() -> None:
    world = workspace(store={"uri": "az://models"}, identity=IDENTITY)
    trial = world.get("Job", "default-preflight")["spec"]["template"]
    pod_of({"uri": "az://lake/a"}, passed(world))
    for template in (trial, world.get("Job", "sales-data")["spec"]["template"]):
        assert template["spec"]["serviceAccountName"] == "cloud"
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
        assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelmill"


@pytest.mark.parametrize("change", [{"serviceAccountName": "other"}, {"podLabels": {"a": "b"}}])
def test_another_identity_is_tried_anew(change: dict[str, Any]) -> None:
    world = passed(workspace(store={"uri": "s3://models"}, identity=IDENTITY))
    former = world.get("Job", "default-preflight")["metadata"]["uid"]
    world.put("Workspace", "default", spec={"store": {"uri": "s3://models"}, "identity": {**IDENTITY, **change}})
    world.reconcile("Workspace", "default")
    assert world.get("Job", "default-preflight")["metadata"]["uid"] != former


def egress(world: World) -> Any:
    return world.get("NetworkPolicy", "modelmill-jobs")["spec"]["egress"]


@pytest.mark.parametrize(
    ("spec", "reached"),
    [
        ({"store": {"uri": "s3://models"}}, True),
        ({"store": {"uri": "s3://models", "secretRef": {"name": "s"}}}, False),
        ({"store": {"uri": "s3://models", "secretRef": {"name": "s"}}, "identity": IDENTITY}, True),
        ({"store": {"uri": "pvc://models"}}, False),
        ({"store": {"uri": "pvc://models"}, "identity": {"podLabels": {"a": "b"}}}, False),
    ],
)
def test_where_clouds_give_out_credentials_is_reached_only_by_who_has_an_identity(
    spec: dict[str, Any], reached: bool
) -> None:
    assert ("169.254.0.0/16" not in str(egress(workspace(**spec)))) is reached


def test_a_query_reaches_its_pod_as_it_is_written() -> None:
    # Kubelet makes $ of $$, which quotes text in SQL, and puts a variable in place of $(HOME).
    pod = pod_of({"sql": {**SQL["sql"], "query": "select $$a$$, '$(HOME)'"}})
    assert "select $$$$a$$$$, '$$(HOME)'" in pod["containers"][0]["env"][0]["value"]


def test_a_task_of_many_columns_is_told_in_many_variables() -> None:
    columns = [{"name": f"c{number}", "type": "Float", "min": "0", "max": "100"} for number in range(2000)]
    pod = pod_of({"configMapRef": {"name": "files", "key": "data.csv"}}, columns=columns)
    told = {v["name"]: v["value"] for v in pod["containers"][0]["env"] if "value" in v}
    work = task.decode(task.text_of(told))
    assert isinstance(work, task.SnapshotTask)
    assert (len(told) > 1, len(work.columns)) == (True, 2000)
