"""The NetworkPolicies that the operator makes: what must get through does, and what nobody needs does not."""

from datetime import timedelta
from typing import Any

import pytest
from world import NAMESPACE, World, training_spec, with_dataset, with_store, with_version

from modelmill.core.plan import Apply, Settings
from modelmill_contracts import metadata, report
from networkpolicy import Flow, Pod, allowed

MONITORED = {"modelmill.dev/monitoring": "true"}
SYSTEM = "modelmill-system"
NAMESPACES = {
    **{name: {} for name in (NAMESPACE, SYSTEM, "shop", "storage", "team-b", "kube-system")},
    "watch": MONITORED,
}
OPERATOR = {"app.kubernetes.io/name": "modelmill-operator"}
STORE = {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}
CLOUD, CREDENTIALS, NODE = "198.51.100.7", "169.254.169.254", "10.0.9.1"


def world(endpoint: str | None = "http://store:7070", *, callers: tuple[str, ...] = (), secret: bool = True) -> World:
    """A Workspace with its Job, and a model that is served."""
    made = with_dataset(with_version(with_store(World()), 1))
    store = {"uri": "s3://models", "endpoint": endpoint, "secretRef": {"name": "store"} if secret else None}
    made.put("Workspace", "default", spec={"store": {k: v for k, v in store.items() if v is not None}})
    served = {"model": {"uri": "s3://models/artifacts/x", "digest": f"sha256:{'1' * 64}"}}
    made.put("ModelDeployment", "triage", spec={**served, "access": {"namespaces": list(callers)}})
    made.reconcile("Workspace", "default")
    made.reconcile("ModelDeployment", "triage")
    return made


def pods(made: World) -> dict[str, Pod]:
    template = made.get("Deployment", made.deployments()[0])["spec"]["template"]
    metadata = {**template["metadata"], "namespace": NAMESPACE, "name": "server"}
    status = {"podIPs": [{"ip": "10.0.0.1"}], "hostIPs": [{"ip": NODE}]}
    server = Pod.of({"metadata": metadata, "spec": template["spec"], "status": status})
    # The last label is that of the Job's controller.
    job = {**made.get("Job", "tumours-data")["spec"]["template"]["metadata"]["labels"], "job-name": "tumours-data"}
    return {
        "server": server,
        "candidate": Pod(NAMESPACE, "candidate", ("10.0.0.9",), server.labels),
        "job": Pod(NAMESPACE, "job", ("10.0.0.2",), job),
        "store": Pod(NAMESPACE, "store", ("10.0.0.3",)),
        "neighbour": Pod(NAMESPACE, "neighbour", ("10.0.0.4",)),
        "shop": Pod("shop", "shop", ("10.0.1.1",)),
        "far store": Pod("storage", "minio", ("10.0.2.1",)),
        "stranger": Pod("team-b", "stranger", ("10.0.3.1",)),
        "dns": Pod("kube-system", "coredns", ("10.0.4.1",)),
        "monitoring": Pod("watch", "prometheus", ("10.0.5.1",)),
        "operator": Pod(SYSTEM, "operator", ("10.0.6.1",), OPERATOR),
        "beside the operator": Pod(SYSTEM, "other", ("10.0.6.2",)),
        "labelled as the operator": Pod("team-b", "operator", ("10.0.6.3",), OPERATOR),
    }


def passes(
    made: World,
    source: str,
    destination: str,
    port: int,
    protocol: str = "TCP",
    known: dict[str, Pod] | None = None,
) -> bool:
    known = known or pods(made)
    ends = [known[end].ips[0] if end in known else end for end in (source, destination)]
    version = "networking.k8s.io/v1"
    policies = [{**p, "apiVersion": version} for (kind, _), p in made.objects.items() if kind == "NetworkPolicy"]
    return bool(allowed(Flow(ends[0], ends[1], port, protocol), known.values(), NAMESPACES, policies))


@pytest.mark.parametrize(
    ("source", "destination", "port"),
    [
        ("neighbour", "server", 8080),
        ("neighbour", "server", 8081),
        (NODE, "server", 8080),  # the kubelet's probes
        ("monitoring", "server", 9090),
        ("server", "store", 7070),
        ("server", "dns", 53),
        ("job", "store", 7070),
        ("job", "dns", 53),
        ("job", CLOUD, 443),
        ("operator", "job", 9090),  # how far is it?
        ("operator", "server", 9090),  # what became of a rollout's requests?
        ("server", "candidate", 8080),
    ],
)
def test_what_is_needed_gets_through(source: str, destination: str, port: int) -> None:
    assert passes(world(), source, destination, port)


@pytest.mark.parametrize(
    ("source", "destination", "port"),
    [
        ("stranger", "server", 8080),
        ("stranger", "server", 8081),
        ("monitoring", "server", 8081),
        ("shop", "server", 8080),
        ("neighbour", "server", 9090),
        ("monitoring", "server", 8080),
        ("server", CLOUD, 443),
        ("server", "stranger", 80),
        ("server", CREDENTIALS, 80),
        ("job", CREDENTIALS, 80),
        ("neighbour", "job", 8080),
        ("monitoring", "job", 9090),
        ("operator", "job", 8080),
        ("operator", "server", 8080),
        ("beside the operator", "job", 9090),
        ("labelled as the operator", "job", 9090),
        ("neighbour", "job", 9090),
        ("server", "candidate", 9090),
        ("beside the operator", "server", 9090),
        ("labelled as the operator", "server", 9090),
    ],
)
def test_what_nobody_needs_does_not(source: str, destination: str, port: int) -> None:
    assert not passes(world(), source, destination, port)


def with_workers(*, container: bool) -> tuple[World, dict[str, Pod]]:
    """Two trainings with workers; each pod has the labels of its Job's template."""
    made = world()
    made.put("Workspace", "default", spec={"store": STORE, "allow": {"images": ["*"]}})
    made.reconcile("Workspace", "default")
    made.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    made.reconcile("Workspace", "default")
    for name in ("forest", "other"):
        spec = training_spec(workers=2)
        if container:
            spec["container"] = {"image": "train:1"}
            del spec["estimator"]
        made.put("TrainingJob", name, spec=spec)
        made.reconcile("TrainingJob", name)
    known = pods(made)
    for number, (name, index) in enumerate([("forest", 0), ("forest", 1), ("other", 0)]):
        labels = made.get("Job", f"{name}-train")["spec"]["template"]["metadata"]["labels"]
        pod = Pod(NAMESPACE, f"{name}-{index}", (f"10.0.7.{number}",), {**labels, "job-name": f"{name}-train"})
        known[pod.name] = pod
    return made, known


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize(
    ("source", "destination", "port", "passed"),
    [
        ("forest-0", "forest-1", 8787, True),
        ("forest-1", "forest-0", 8786, True),
        ("forest-1", "forest-0", 8787, True),
        ("operator", "forest-0", 9090, True),
        ("forest-1", "store", 7070, True),
        ("other-0", "forest-0", 8786, False),
        ("job", "forest-0", 8786, False),
        ("neighbour", "forest-0", 8786, False),
        ("stranger", "forest-0", 8786, False),
        ("forest-0", CREDENTIALS, 80, False),
    ],
)
def test_workers_of_one_training_talk_to_each_other_alone(
    container: bool, source: str, destination: str, port: int, passed: bool
) -> None:
    made, known = with_workers(container=container)
    assert passes(made, source, destination, port, known=known) == passed


def test_workers_of_an_estimator_have_two_ports_and_those_of_a_container_all() -> None:
    for container in (False, True):
        made, known = with_workers(container=container)
        assert passes(made, "forest-0", "forest-1", 45678, known=known) == container
        # The way out to each other does not hang on whether pods are part of the world.
        (rule,) = made.get("NetworkPolicy", "forest-workers")["spec"]["egress"]
        assert rule["to"] == [
            {"podSelector": {"matchLabels": made.get("Service", "forest-workers")["spec"]["selector"]}}
        ]


def test_the_operator_asks_from_the_namespace_in_which_it_is() -> None:
    made = world()
    made.settings = Settings("trainer:1", "server:1", "team-b")
    made.reconcile("Workspace", "default")
    assert passes(made, "labelled as the operator", "job", 9090)
    assert not passes(made, "operator", "job", 9090)


def test_a_namespace_that_is_named_may_call() -> None:
    assert passes(world(callers=("shop",)), "shop", "server", 8080)
    assert passes(world(callers=("shop",)), "shop", "server", 8081)
    assert not passes(world(callers=("shop",)), "stranger", "server", 8080)
    assert not passes(world(callers=("shop",)), "shop", "server", 9090)


@pytest.mark.parametrize(
    ("endpoint", "reached", "not_reached"),
    [
        ("http://store:7070", "store", "far store"),
        ("http://minio.storage.svc:9000", "far store", "store"),
        ("http://minio.storage.svc.cluster.local:9000", "far store", CLOUD),
        ("http://minio.storage:9000", "far store", CREDENTIALS),
        ("https://example.org", CLOUD, CREDENTIALS),
        ("https://s3.example.org", CLOUD, CREDENTIALS),
        ("http://10.0.9.1:9000", NODE, CREDENTIALS),
        ("http://[fd00::1]:9000", "fd00::1", "fe80::1"),
        ("http://:9000", CLOUD, CREDENTIALS),  # its host was forgotten, which the preflight will say
        ("http://[fd00::1", CLOUD, CREDENTIALS),
        (None, CLOUD, CREDENTIALS),
    ],
)
def test_pods_that_serve_reach_the_store_and_nothing_else(endpoint: str | None, reached: str, not_reached: str) -> None:
    made = world(endpoint)
    assert passes(made, "server", reached, 9000)
    assert not passes(made, "server", not_reached, 9000)
    assert passes(made, "job", reached, 9000)


@pytest.mark.parametrize("service", [*(n.partition("/")[0] for n in (*metadata.IPV4, *metadata.IPV6)), CREDENTIALS])
def test_pods_with_a_secret_do_not_reach_a_clouds_metadata_service(service: str) -> None:
    made = world("https://s3.example.org")
    assert not passes(made, "server", service, 80)
    assert not passes(made, "job", service, 80)


def test_pods_without_a_secret_may_ask_the_cloud_who_they_are() -> None:
    made = world("https://s3.example.org", secret=False)
    assert passes(made, "server", CREDENTIALS, 80)
    assert passes(made, "job", CREDENTIALS, 80)
    assert passes(made, "server", "fe80::1", 80)


def test_without_a_workspace_the_policies_of_what_serves_stay() -> None:
    made = world()
    made.remove("Workspace", "default")
    made.reconcile("ModelDeployment", "triage")
    assert passes(made, "server", "store", 7070)
    assert not passes(made, "server", CLOUD, 443)


def test_who_opens_the_pods_of_jobs_to_callers_finds_them_closed_again() -> None:
    made = world()
    closed = made.get("NetworkPolicy", "modelmill-jobs")
    opened = {**closed["spec"], "ingress": [{}]}
    made.put("NetworkPolicy", "modelmill-jobs", metadata=_kept(closed), spec=opened)
    assert passes(made, "stranger", "job", 8080)
    made.reconcile("Workspace", "default")
    assert not passes(made, "stranger", "job", 8080)
    assert passes(made, "operator", "job", 9090)


def test_a_policy_that_somebody_edited_is_mended_and_one_that_is_right_is_left() -> None:
    made = world()
    assert made.plan("ModelDeployment", "triage").writes == ()
    edited = made.get("NetworkPolicy", "triage-access")
    made.put("NetworkPolicy", "triage-access", metadata=_kept(edited), spec={"podSelector": {}, "ingress": [{}]})
    assert passes(made, "stranger", "server", 8080)
    (write,) = made.plan("ModelDeployment", "triage").writes
    assert isinstance(write, Apply)
    made.reconcile("ModelDeployment", "triage")
    assert made.get("NetworkPolicy", "triage-access")["spec"] == edited["spec"]


@pytest.mark.parametrize(
    ("endpoint", "namespaces"),
    [
        ("http://store:7070", []),
        ("http://minio.storage.svc:9000", ["storage"]),
        ("http://minio.storage:9000", ["storage"]),  # an address in no IP block that is routed may be a Service's
        ("https://s3.example.org", []),
    ],
)
def test_a_namespace_is_opened_for_a_store_that_may_be_there(endpoint: str, namespaces: list[str]) -> None:
    (_, store, _) = world(endpoint).get("NetworkPolicy", "triage-access")["spec"]["egress"]
    selectors = [peer["namespaceSelector"] for peer in store["to"] if "namespaceSelector" in peer]
    name = "kubernetes.io/metadata.name"
    assert selectors == [{"matchLabels": {name: namespace}} for namespace in namespaces]


def test_a_copy_of_a_policy_does_not_stand_in_for_it() -> None:
    made = world()
    policy = made.objects.pop(("NetworkPolicy", "triage-access"))
    made.put("NetworkPolicy", "copy", metadata=_kept(policy), spec=policy["spec"])
    made.reconcile("ModelDeployment", "triage")
    assert made.get("NetworkPolicy", "triage-access")["spec"] == policy["spec"]


def test_another_store_changes_the_policies() -> None:
    made = world()
    made.put(
        "Workspace", "default", spec={"store": {"uri": "s3://models", "endpoint": "http://minio.storage.svc:9000"}}
    )
    made.reconcile("Workspace", "default")
    made.reconcile("ModelDeployment", "triage")
    assert passes(made, "server", "far store", 9000)
    assert passes(made, "job", "far store", 9000)


def test_a_policy_s_name_that_somebody_else_has_is_left_alone_and_said() -> None:
    made = World()
    theirs = made.put("NetworkPolicy", "modelmill-jobs", spec={"podSelector": {}})
    with_store(made)
    assert made.get("NetworkPolicy", "modelmill-jobs") == theirs
    assert made.condition("Workspace", "default", "Stalled") == ("True", "NameConflict")
    assert made.condition("Workspace", "default", "PreflightPassed") == ("True", "StoreWorks")
    assert made.message("Workspace", "default", "Ready").startswith("NetworkPolicy modelmill-jobs exists")
    assert made.plan("Workspace", "default").requeue_after == timedelta(minutes=1)
    with_dataset(made)  # the store works all the same
    # A store that does not is what is told first.
    made.put("Workspace", "default", spec={"store": {"uri": "s3://others"}})
    made.reconcile("Workspace", "default")
    assert made.condition("Workspace", "default", "Ready") == ("False", "PreflightRunning")


def _kept(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest["metadata"][key] for key in ("labels", "ownerReferences")}


@pytest.mark.parametrize(
    ("uri", "reached"),
    [
        ("http://mlflow:5000", {"neighbour"}),
        ("http://mlflow.shop:5000", {"shop"}),
        ("http://mlflow.shop.svc.cluster.local:5000/base", {"shop"}),
        ("https://mlflow.example.org", set()),
        ("http://198.51.100.7:5000", set()),
    ],
)
def test_jobs_reach_an_mlflow_that_is_named_even_where_pods_are_not_the_world(uri: str, reached: set[str]) -> None:
    made = world()
    spec = {**made.get("Workspace", "default")["spec"], "tracking": {"mlflow": {"uri": uri}}}
    made.put("Workspace", "default", spec=spec)
    made.reconcile("Workspace", "default")
    policy = made.get("NetworkPolicy", "modelmill-jobs")
    # Where a network plugin holds no pod for a part of an ipBlock, only the named peers are reached.
    to = [peer for peer in policy["spec"]["egress"][1]["to"] if "ipBlock" not in peer]
    made.store("NetworkPolicy", "modelmill-jobs", {**policy, "spec": {**policy["spec"], "egress": [{"to": to}]}})
    ends = [end for end in ("neighbour", "shop", "stranger") if passes(made, "job", end, 5000)]
    assert set(ends) == reached | {"neighbour"}  # the store is a neighbour
    before = made.plan("Workspace", "default").writes
    assert [type(write) for write in before] == [Apply]
