"""ModelDeployment: what serves goes on serving until what is new can take over."""

from collections.abc import Callable
from typing import Any

import pytest
from world import World, with_store, with_version

from modelmill.core import serving as serving_module
from modelmill.core.plan import Apply, Create, Settings
from modelmill.core.resources import dig
from modelmill_contracts import report


def selected(world: World) -> str:
    return str(dig(world.get("Service", "triage"), "spec", "selector", "modelmill.dev/revision"))


def revision_of(name: str) -> str:
    return name.removeprefix("triage-")


def deployment_of_version(world: World, version: int) -> str:
    (name,) = [
        n
        for n in world.deployments()
        if world.get("Deployment", n)["metadata"]["labels"]["modelmill.dev/version"] == str(version)
    ]
    return name


def serving(version: int = 1, replicas: int = 2, **settings: Any) -> World:
    """A ModelDeployment that serves the version with all its replicas."""
    world = with_version(with_store(World(**settings)), version)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": replicas})
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, version), replicas)
    world.reconcile("ModelDeployment", "triage")
    return world


def test_the_newest_ready_version_serves() -> None:
    world = serving()
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "Serving")
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"
    status = world.get("ModelDeployment", "triage")["status"]
    assert status["stable"]["version"] == 1
    assert status["stable"]["ready"] == 2
    assert "candidate" not in status
    assert status["url"] == "http://triage.team-a.svc"
    assert selected(world) == revision_of(deployment_of_version(world, 1))


def test_it_waits_for_a_model_that_does_not_exist_and_starts_when_it_appears() -> None:
    world = with_store(World())
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("False", "ModelNotFound")
    assert world.condition("ModelDeployment", "triage", "Reconciling")[0] == "True"
    assert world.condition("ModelDeployment", "triage", "Stalled")[0] == "False"
    with_version(world, 1)
    world.reconcile("ModelDeployment", "triage")
    assert len(world.deployments()) == 1


def test_a_new_version_comes_up_beside_the_old_one_and_takes_over_when_all_its_pods_are_ready() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    assert selected(world) == revision_of(old)
    assert world.get("ModelDeployment", "triage")["status"]["candidate"]["version"] == 2

    world.pods_of(new, 1)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(old)
    assert world.condition("ModelDeployment", "triage", "Ready") == ("False", "WaitingForPods")
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"

    world.pods_of(new, 2)
    plan = world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(new)
    assert world.get("Deployment", old)["spec"]["replicas"] == 2  # until every proxy knows
    assert plan.requeue_after is not None
    world.wait(plan.requeue_after.total_seconds())
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", old)["spec"]["replicas"] == 0
    status = world.get("ModelDeployment", "triage")["status"]
    assert [h["version"] for h in status["history"]] == [2, 1]


def test_traffic_moves_only_if_the_pods_are_still_ready_when_asked_fresh() -> None:
    world = serving()
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    world.pods_of(new, 2)
    (move,) = [w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Apply)]
    (guard,) = move.guards
    live = world.get("Deployment", new)
    assert guard.holds(live)
    assert not guard.holds({**live, "status": {"availableReplicas": 1}})
    assert not guard.holds({**live, "metadata": {**live["metadata"], "uid": "another"}})
    assert not guard.holds(None)


def test_an_old_revision_loses_its_pods_only_if_the_service_is_seen_to_have_left_it() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    (scale,) = [w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Apply)]
    (guard,) = scale.guards
    service = world.get("Service", "triage")
    assert guard.holds(service)
    stale = {**service, "spec": {"selector": {"modelmill.dev/revision": revision_of(old)}}}
    assert not guard.holds(stale)


def test_a_bad_version_stalls_and_costs_nothing() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    said = report.Report(False, "DigestMismatch", "model.onnx was changed; train again")
    world.put(
        "Pod",
        f"{new}-x",
        metadata={"labels": world.get("Deployment", new)["spec"]["template"]["metadata"]["labels"]},
        status={
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": report.encode(said).decode()}},
                }
            ]
        },
    )
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "DigestMismatch")
    assert world.message("ModelDeployment", "triage", "Ready") == "model.onnx was changed; train again"
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"
    assert selected(world) == revision_of(old)
    assert world.get("Deployment", old)["spec"]["replicas"] == 2


def test_another_operator_with_other_defaults_touches_no_serving_pod() -> None:
    world = serving()
    world.settings = Settings("trainer:2", "server:2")
    before = dict(world.objects)
    assert world.plan("ModelDeployment", "triage").writes == ()
    assert world.objects == before


def test_a_users_change_of_resources_makes_a_new_revision() -> None:
    world = serving()
    spec = {"model": {"name": "triage"}, "replicas": 2, "server": {"resources": {"limits": {"memory": "1Gi"}}}}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")
    assert len(world.deployments()) == 2


def test_more_replicas_are_a_scale_and_no_new_revision() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 5})
    world.reconcile("ModelDeployment", "triage")
    (name,) = world.deployments()
    assert world.get("Deployment", name)["spec"]["replicas"] == 5


def test_what_serves_stays_when_its_version_or_the_workspace_goes() -> None:
    world = serving()
    name = deployment_of_version(world, 1)
    world.remove("ModelVersion", "triage-1")
    world.remove("Workspace", "default")
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", name)["spec"]["replicas"] == 2
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"
    assert world.condition("ModelDeployment", "triage", "Ready")[0] == "False"


def test_going_back_to_a_former_version_uses_its_revision_again() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(old, 0)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage", "version": 1}, "replicas": 2})
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", old)["spec"]["replicas"] == 2
    world.pods_of(old, 2)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(old)
    assert len(world.deployments()) == 2


def test_former_revisions_beyond_the_limit_are_deleted_when_they_have_no_pods() -> None:
    world = serving()
    spec = {"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 0}
    world.put("ModelDeployment", "triage", spec=spec)
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    world.reconcile("ModelDeployment", "triage")
    assert world.has("Deployment", old)  # its pods still drain
    world.pods_of(old, 0, replicas=0)
    world.reconcile("ModelDeployment", "triage")
    assert not world.has("Deployment", old)


@pytest.mark.parametrize("kind", ["Service", "Deployment", "NetworkPolicy"])
def test_a_name_that_somebody_else_has_is_left_alone(kind: str) -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    children = [w.manifest for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Create)]
    name = next(child["metadata"]["name"] for child in children if child["kind"] == kind)
    theirs = world.put(kind, name, spec={"theirs": True}, status={})
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "NameConflict")
    assert f"{kind} {name}" in world.message("ModelDeployment", "triage", "Ready")
    assert world.get(kind, name) == theirs


def test_a_quota_that_refuses_pods_is_said() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.reconcile("ModelDeployment", "triage")
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: s"}
    world.pods_of(world.deployments()[0], 0, conditions=[refused])
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "PodCreationRefused")
    assert "exceeded quota: s" in world.message("ModelDeployment", "triage", "Ready")


def test_an_artifact_can_be_served_without_a_model() -> None:
    world = with_store(World())
    artifact = {"uri": "s3://models/artifacts/sha256-1", "digest": "sha256:" + "1" * 64}
    world.put("ModelDeployment", "triage", spec={"model": artifact})
    world.reconcile("ModelDeployment", "triage")
    (name,) = world.deployments()
    world.pods_of(name, 1)
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "Serving")
    assert "version" not in world.get("ModelDeployment", "triage")["status"]["stable"]


def test_zero_replicas_are_ready_and_not_available() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 0})
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(world.deployments()[0], 0)
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "ScaledToZero")
    assert world.condition("ModelDeployment", "triage", "Available") == ("False", "ScaledToZero")


def test_only_the_container_that_fetches_has_credentials() -> None:
    world = with_store(World())
    store = {"uri": "s3://models", "secretRef": {"name": "store"}}
    world.put("Workspace", "default", spec={"store": store})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    with_version(world, 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.reconcile("ModelDeployment", "triage")
    pod = world.get("Deployment", world.deployments()[0])["spec"]["template"]["spec"]
    assert "secretKeyRef" in str(pod["initContainers"])
    assert "secretKeyRef" not in str(pod["containers"])


@pytest.mark.parametrize("lost", ["deleted", "selector edited"])
def test_a_service_that_is_lost_during_a_rollout_goes_back_to_who_served(lost: str) -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    world.wait(3600)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    if lost == "deleted":
        world.remove("Service", "triage")
    else:
        world.objects["Service", "triage"]["spec"]["selector"] = {"app": "mine"}
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(old)
    assert world.get("Deployment", old)["spec"]["replicas"] == 2


def test_a_selector_with_one_label_more_selects_no_pod_and_is_mended() -> None:
    world = serving()
    world.objects["Service", "triage"]["spec"]["selector"] |= {"app": "mine"}
    (write,) = world.plan("ModelDeployment", "triage").writes
    assert isinstance(write, Apply)
    assert write.manifest["spec"]["selector"].keys() == {"modelmill.dev/modeldeployment", "modelmill.dev/revision"}


@pytest.mark.parametrize(
    ("ports", "mended"),
    [
        (lambda port: [port, {"name": "mine", "port": 9000, "protocol": "TCP", "targetPort": 9000}], False),
        (lambda port: [{**port, "nodePort": 30080}], False),
        (lambda port: [{**port, "targetPort": 1234}], True),
        (lambda _: [], True),
    ],
    ids=["one more", "a node port", "another target", "none"],
)
def test_only_ports_that_are_wanted_are_mended(ports: Callable[[Any], Any], mended: bool) -> None:
    world = serving()
    spec = world.objects["Service", "triage"]["spec"]
    first, *others = spec["ports"]
    spec["ports"] = [*ports(first), *others]
    assert bool(world.plan("ModelDeployment", "triage").writes) == mended


def test_labels_that_somebody_took_off_a_deployment_stop_nothing() -> None:
    world = serving()
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["metadata"]["labels"]
    del labels["modelmill.dev/revision"]
    labels["modelmill.dev/version"] = "mine"
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", name)["spec"]["replicas"] == 3


def test_a_lost_service_comes_back_also_when_there_is_nothing_new_to_serve() -> None:
    world = serving()
    world.remove("ModelVersion", "triage-1")
    world.remove("Service", "triage")
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(world.deployments()[0])


def test_scaling_during_a_rollout_does_not_move_traffic_to_few_pods() -> None:
    world = serving(replicas=10)
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    world.pods_of(new, 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 11})
    world.reconcile("ModelDeployment", "triage")  # both Deployments have a generation that nobody counted for yet
    assert selected(world) == revision_of(old)
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"


def test_other_default_resources_make_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    world = serving()
    monkeypatch.setitem(serving_module.RESOURCES, "requests", {"cpu": "1", "memory": "1Gi"})
    assert world.plan("ModelDeployment", "triage").writes == ()


def test_what_a_pod_survived_is_no_trouble_today() -> None:
    world = serving()
    (name,) = world.deployments()
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    status = {"name": "server", "ready": True, "state": {"running": {}}, "lastState": {"terminated": ended}}
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    world.put("Pod", f"{name}-x", metadata={"labels": labels}, status={"containerStatuses": [status]})
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("False", "WaitingForPods")


def test_a_child_that_the_api_server_refuses_is_said() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.refused["Service", "triage"] = "exceeded quota: small"
    plan = world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "ChildRefused")
    assert "Service triage is refused: exceeded quota: small" in world.message("ModelDeployment", "triage", "Ready")
    assert plan.requeue_after is not None
    world.refused.clear()
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled")[0] == "False"


def test_a_name_that_is_no_longer_wanted_blocks_nothing() -> None:
    world = serving()
    world.foreign.add(("Deployment", "triage-00000000"))
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready")[0] == "True"
