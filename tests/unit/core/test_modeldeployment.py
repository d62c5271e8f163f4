"""ModelDeployment: what serves goes on serving until what is new can take over."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from world import World, version_spec, with_store, with_version

from modelmill.core import serving as serving_module
from modelmill.core.plan import Apply, Create, Delete, SetStatus, Settings
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
    assert guard.meaning == f"Deployment {new} has 2 available pods"
    assert not guard.holds({**live, "status": {"availableReplicas": 1}})
    assert not guard.holds({**live, "status": {}})
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
    assert scale.manifest == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": old, "namespace": "team-a"},
        "spec": {"replicas": 0},
    }
    assert not scale.unchanged  # replicas are ours, whoever else changed the Deployment
    (guard,) = scale.guards
    service = world.get("Service", "triage")
    assert guard.meaning == f"Service triage does not select revision {revision_of(old)}"
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


def served_by(world: World, workers: int) -> None:
    spec = {"model": {"name": "triage"}, "replicas": 2, "server": {"workers": workers}}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")


def test_other_workers_are_a_new_revision_that_takes_over_when_its_pods_are_ready() -> None:
    world = serving()
    (old,) = world.deployments()
    served_by(world, 4)
    assert selected(world) == revision_of(old)
    (new,) = set(world.deployments()) - {old}
    (server,) = world.get("Deployment", new)["spec"]["template"]["spec"]["containers"]
    assert "--workers=4" in server["args"]
    world.pods_of(new, 2)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(new)


def test_one_worker_is_what_there_was_before_there_was_a_choice() -> None:
    world = serving()
    (name,) = world.deployments()
    served_by(world, 1)
    assert world.deployments() == [name]
    (server,) = world.get("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert not any("workers" in argument for argument in server["args"])


def test_what_is_declared_of_resources_is_the_pods_however_many_workers_it_has() -> None:
    world = with_version(with_store(World()), 1)
    limits = {"cpu": "4", "memory": "2Gi"}
    spec = {"model": {"name": "triage"}, "server": {"workers": 4, "resources": {"limits": limits}}}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")
    (name,) = world.deployments()
    (server,) = world.get("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert server["resources"] == {"limits": limits, "requests": limits}


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
    assert [h["version"] for h in world.get("ModelDeployment", "triage")["status"]["history"]] == [1]
    assert world.plan("ModelDeployment", "triage").requeue_after is None


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
    (delete, *_) = world.plan("ModelDeployment", "triage").writes
    assert isinstance(delete, Delete)
    (guard,) = delete.guards
    assert guard.holds(world.get("Service", "triage"))
    assert not guard.holds({"spec": {"selector": {"modelmill.dev/revision": revision_of(old)}}})
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
    status = world.get("ModelDeployment", "triage")["status"]
    assert ("url" in status, "stable" in status) == (kind != "Service", kind != "Deployment")


def test_without_a_service_nothing_is_promoted() -> None:
    world = with_version(with_store(World()), 1)
    world.foreign.add(("Service", "triage"))
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    plan = world.reconcile("ModelDeployment", "triage")
    assert plan.requeue_after == timedelta(minutes=1)
    assert len(world.deployments()) == 1
    assert "history" not in world.get("ModelDeployment", "triage")["status"]


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


def test_a_name_may_have_dashes() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage-eu-1", spec={"model": {"name": "triage"}})
    world.reconcile("ModelDeployment", "triage-eu-1")
    (name,) = world.deployments()
    world.pods_of(name, 1)
    world.reconcile("ModelDeployment", "triage-eu-1")
    assert world.condition("ModelDeployment", "triage-eu-1", "Ready") == ("True", "Serving")


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
    assert [world.get("Deployment", name)["spec"]["replicas"] for name in (old, new)] == [11, 11]


@pytest.mark.parametrize(
    ("counted", "seen", "replicas"),
    [
        (0, {"phase": "Pending"}, 1),  # the pod is there before its Deployment says so
        (3, {"phase": "Pending"}, 3),
        (0, {"phase": "Failed"}, 0),  # as an evicted pod does
        (0, {"phase": "Succeeded"}, 0),
        (0, None, 0),  # it is being deleted
    ],
)
def test_pods_are_counted_as_soon_as_they_are_seen(counted: int, seen: dict[str, str] | None, replicas: int) -> None:
    world = serving()
    (name,) = world.deployments()
    metadata = {"labels": world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]}
    if seen is None:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.put("Pod", f"{name}-x", metadata=metadata, status=seen or {"phase": "Running"})
    world.pods_of(name, 0, replicas=counted)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("ModelDeployment", "triage")["status"]["replicas"] == replicas


def test_a_service_that_is_somebody_elses_is_told_though_a_former_revision_waits_to_be_deleted() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 0})
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    world.reconcile("ModelDeployment", "triage")  # the former revision is scaled to zero
    world.remove("Service", "triage")
    world.put("Service", "triage", spec={})
    world.foreign = {("Service", "triage")}
    world.pods_of(deployment_of_version(world, 1), 0)  # and is idle now
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("False", "NameConflict")
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "False"
    assert len(world.deployments()) == 2

    world.remove("Service", "triage")
    world.foreign = set()
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "Serving")
    assert world.deployments() == [deployment_of_version(world, 2)]


def test_pods_that_do_not_get_ready_within_five_minutes_need_a_person() -> None:
    world = serving(replicas=1)
    with_version(world, 2)
    plan = world.reconcile("ModelDeployment", "triage")
    assert plan.requeue_after == timedelta(minutes=5)
    assert world.condition("ModelDeployment", "triage", "Reconciling") == ("True", "WaitingForPods")
    world.wait(299)
    assert world.reconcile("ModelDeployment", "triage").requeue_after == timedelta(seconds=1)
    assert world.condition("ModelDeployment", "triage", "Stalled")[0] == "False"
    world.wait(1)
    world.events.clear()
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Stalled") == ("True", "WaitingForPods")
    new = deployment_of_version(world, 2)
    logs = f"kubectl logs -n team-a -l modelmill.dev/revision={revision_of(new)}"
    told = f"0 of 1 pods of revision {revision_of(new)} are ready, after 5 minutes and more; {logs} may say why"
    assert world.message("ModelDeployment", "triage", "Stalled") == told
    assert [(event.type, event.message) for event in world.events] == [("Warning", told)]
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"
    world.pods_of(new, 1)
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "Serving")


def test_pods_have_their_five_minutes_however_long_the_model_was_waited_for() -> None:
    world = with_store(World())
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 1})
    world.reconcile("ModelDeployment", "triage")
    world.wait(3600)
    with_version(world, 1)
    world.reconcile("ModelDeployment", "triage")
    world.wait(200)
    assert world.reconcile("ModelDeployment", "triage").requeue_after == timedelta(seconds=100)
    assert world.condition("ModelDeployment", "triage", "Stalled")[0] == "False"
    world.wait(-7200)  # the clock is set back
    assert world.reconcile("ModelDeployment", "triage").requeue_after == timedelta(seconds=300)


def test_a_revision_that_a_finalizer_keeps_is_not_deleted_again() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 0})
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(old, 0)
    assert [name for _, name, _ in world.deletes("ModelDeployment", "triage")] == [old]
    world.get("Deployment", old)["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not world.deletes("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready") == ("True", "Serving")


def test_a_revision_is_not_deleted_while_a_pod_of_it_is_seen() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 0})
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(10)
    world.reconcile("ModelDeployment", "triage")
    labels = world.get("Deployment", old)["spec"]["template"]["metadata"]["labels"]
    world.put("Pod", f"{old}-x", metadata={"labels": labels}, status={"phase": "Running"})
    world.pods_of(old, 0, replicas=0)
    assert not world.deletes("ModelDeployment", "triage")
    world.remove("Pod", f"{old}-x")
    assert [name for _, name, _ in world.deletes("ModelDeployment", "triage")] == [old]


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


def told(world: World) -> list[str]:
    world.reconcile("ModelDeployment", "triage")
    return world.told("ModelDeployment", "triage")


def test_each_step_to_the_first_version_is_told_in_full() -> None:
    world = with_store(World())
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    absent = "there is no Model triage yet; a TrainingJob with modelRef triage makes it (kubectl get tjob)"
    assert told(world) == [
        f"Ready False ModelNotFound: {absent}",
        f"Available False NoPodReady: {absent}",
        f"Reconciling True ModelNotFound: {absent}",
        "Stalled False ModelNotFound",
    ]
    world.put("Model", "triage", spec={})
    empty = "NoReadyVersion: Model triage has no version yet; a TrainingJob with modelRef triage makes one"
    assert told(world)[0] == f"Ready False {empty}"
    world.put("ModelVersion", "triage-9", spec=version_spec(9))
    world.put("ModelVersion", "triage-10", spec=version_spec(10, "a"))
    assert told(world)[0] == "Ready False ModelVersionNotReady: ModelVersion triage-10 is not Ready"
    world.reconcile("ModelVersion", "triage-10")
    verifying = "ModelVersionNotReady: ModelVersion triage-10 is not Ready: the artifact is being fetched and verified"
    assert told(world)[0] == f"Ready False {verifying}"
    assert told(world)[2:] == [f"Reconciling True {verifying}", "Stalled False ModelVersionNotReady"]
    world.end_job("triage-10-verify", report.Report(False, "DigestMismatch", "train again"))
    world.reconcile("ModelVersion", "triage-10")
    bad = "ModelVersionNotReady: ModelVersion triage-10 is not Ready: train again"
    assert told(world)[2:] == ["Reconciling False ModelVersionNotReady", f"Stalled True {bad}"]

    with_version(world, 9)
    (create, *_) = world.plan("ModelDeployment", "triage").writes
    assert isinstance(create, Create)
    assert "url" not in world.get("ModelDeployment", "triage")["status"]
    name = create.manifest["metadata"]["name"]
    assert told(world) == [
        f"Ready False WaitingForPods: 0 of 1 pods of revision {revision_of(name)} are ready",
        f"Available False NoPodReady: 0 of 1 pods of revision {revision_of(name)} are ready",
        f"Reconciling True WaitingForPods: 0 of 1 pods of revision {revision_of(name)} are ready",
        "Stalled False WaitingForPods",
    ]
    world.pods_of(name, 1)
    assert told(world) == [
        "Ready True Serving: version 9 serves with 1 pod(s)",
        f"Available True PodsReady: 1 pod(s) of revision {revision_of(name)} serve",
        "Reconciling False Serving",
        "Stalled False Serving",
    ]


def promoted(revision: str) -> dict[str, Any]:
    """What the history says of version 1."""
    artifact = version_spec(1)["artifact"]
    return {
        "revision": revision,
        "version": 1,
        "model": "triage",
        "artifact": artifact,
        "promotedAt": "2026-01-01T00:00:00Z",
    }


def first_status(world: World) -> Any:
    """What the status says before anything is made."""
    return next(w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, SetStatus)).status


def test_a_new_deployment_says_at_once_what_it_says_when_everything_is_made() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 2})
    before = first_status(world)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("ModelDeployment", "triage")["status"] == before
    id_ = revision_of(world.deployments()[0])
    assert world.message("ModelDeployment", "triage", "Ready") == f"0 of 2 pods of revision {id_} are ready"
    assert before["url"] == "http://triage.team-a.svc"
    assert before["stable"] == {"revision": id_, "version": 1, "ready": 0}
    assert before["history"] == [promoted(id_)]
    assert "candidate" not in before


def test_a_deployment_of_nothing_says_that_it_is_being_made() -> None:
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 0})
    (ready, *_) = first_status(world)["conditions"]
    id_ = world.plan("ModelDeployment", "triage").writes[1].manifest["metadata"]["name"].removeprefix("triage-")
    assert (ready["reason"], ready["message"]) == ("CreatingRevision", f"revision {id_} is being created")


def test_what_kubectl_shows_during_a_rollout() -> None:
    world = serving()
    old = revision_of(deployment_of_version(world, 1))
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = revision_of(deployment_of_version(world, 2))
    world.pods_of(f"triage-{new}", 1)
    world.reconcile("ModelDeployment", "triage")
    status = dict(world.get("ModelDeployment", "triage")["status"])
    del status["conditions"]
    assert status == {
        "url": "http://triage.team-a.svc",
        "replicas": 4,
        "selector": "modelmill.dev/modeldeployment=triage",
        "stable": {"revision": old, "version": 1, "ready": 2},
        "candidate": {"revision": new, "version": 2, "ready": 1},
        "history": [promoted(old)],
        "observedGeneration": 1,
    }


def test_what_kubectl_shows_of_an_artifact_without_a_version() -> None:
    world = with_store(World())
    artifact = {"uri": "s3://models/artifacts/sha256-1", "digest": "sha256:" + "1" * 64}
    world.put("ModelDeployment", "triage", spec={"model": artifact})
    world.reconcile("ModelDeployment", "triage")
    (name,) = world.deployments()
    world.pods_of(name, 1)
    assert told(world)[0] == f"Ready True Serving: revision {revision_of(name)} serves with 1 pod(s)"
    status = world.get("ModelDeployment", "triage")["status"]
    assert status["stable"] == {"revision": revision_of(name), "ready": 1}
    promoted = {"revision": revision_of(name), "artifact": artifact, "promotedAt": "2026-01-01T00:00:00Z"}
    assert status["history"] == [promoted]
    assert world.plan("ModelDeployment", "triage").writes == ()


def test_a_version_that_is_named_and_does_not_exist_is_waited_for() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage", "version": 2}, "replicas": 2})
    said = "ModelVersionNotFound: there is no ModelVersion triage-2 yet; train it, or name another"
    assert told(world)[0] == f"Ready False {said}"
    assert told(world)[2] == f"Reconciling True {said}"
    assert told(world)[1].startswith("Available True")
    world.put("ModelVersion", "triage-2", spec=version_spec(2))
    assert told(world)[0] == "Ready False ModelVersionNotReady: ModelVersion triage-2 is not Ready"


def test_zero_replicas_are_told_as_that() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 0})
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(world.deployments()[0], 0, replicas=0)
    assert told(world) == [
        "Ready True ScaledToZero: spec.replicas is 0",
        "Available False ScaledToZero: spec.replicas is 0",
        "Reconciling False ScaledToZero",
        "Stalled False ScaledToZero",
    ]


def test_a_new_version_of_nothing_takes_over_at_once() -> None:
    world = serving()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 0})
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 1), 0, replicas=0)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(deployment_of_version(world, 2))


def test_the_news_are_told_as_events() -> None:
    world = serving()
    assert [(e.type, e.reason, e.message) for e in world.events if e.reason in ("Serving", "PodsReady")] == [
        ("Normal", "Serving", "version 1 serves with 2 pod(s)"),
        ("Normal", "PodsReady", f"2 pod(s) of revision {revision_of(world.deployments()[0])} serve"),
    ]
    seen = len(world.events)
    world.pods_of(world.deployments()[0], 0)
    world.reconcile("ModelDeployment", "triage")
    (unavailable,) = [e for e in world.events[seen:] if e.reason == "NoPodReady"]
    assert unavailable.message == f"0 of 2 pods of revision {revision_of(world.deployments()[0])} are ready"


def test_a_single_pod_is_enough_to_be_available_and_for_traffic_where_none_is_served() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    world.pods_of(old, 1)
    world.pods_of(new, 1)
    assert told(world)[1] == f"Available True PodsReady: 1 pod(s) of revision {revision_of(old)} serve"
    assert selected(world) == revision_of(old)
    world.pods_of(old, 0)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(new)


def test_pods_that_never_come_up_take_nothing_over_from_pods_that_are_gone() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(old, 0)
    world.pods_of(deployment_of_version(world, 2), 0)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(old)
    assert world.get("ModelDeployment", "triage")["status"]["stable"]["version"] == 1


def test_more_replicas_are_reached_also_while_there_is_nothing_new_to_serve() -> None:
    world = serving()
    name = deployment_of_version(world, 1)
    world.remove("ModelVersion", "triage-1")
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", name)["spec"]["replicas"] == 3


def test_a_service_that_somebody_edited_is_mended() -> None:
    world = serving()
    name = deployment_of_version(world, 1)
    ports = [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": "http"}]
    world.objects["Service", "triage"]["spec"]["ports"] = ports
    (mend,) = [w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Apply)]
    assert (mend.manifest["spec"]["ports"][0]["port"], mend.unchanged) == (80, True)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Service", "triage")["spec"]["ports"][0]["port"] == 80
    world.remove("ModelVersion", "triage-1")
    world.objects["Service", "triage"]["spec"]["selector"] = {"app": "mine"}
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(name)


def test_a_service_of_ours_with_another_name_is_not_the_one_that_callers_know() -> None:
    world = serving()
    service = world.get("Service", "triage")
    copy = {**service["metadata"], "name": "also"}
    world.put("Service", "also", spec={"selector": {}, "ports": []}, metadata=copy)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Service", "also")["spec"] == {"selector": {}, "ports": []}
    assert world.condition("ModelDeployment", "triage", "Ready")[0] == "True"


def test_the_history_keeps_one_more_than_the_limit_since_the_first_is_what_serves() -> None:
    world = serving()
    spec = {"model": {"name": "triage"}, "replicas": 2, "revisionHistoryLimit": 1}
    world.put("ModelDeployment", "triage", spec=spec)
    for version in (2, 3, 4):
        with_version(world, version)
        world.reconcile("ModelDeployment", "triage")
        world.pods_of(deployment_of_version(world, version), 2)
        world.reconcile("ModelDeployment", "triage")
        world.wait(5)
        world.reconcile("ModelDeployment", "triage")
        for name in world.deployments():
            if not world.get("Deployment", name)["spec"]["replicas"]:
                world.pods_of(name, 0)
        world.reconcile("ModelDeployment", "triage")
    assert [h["version"] for h in world.get("ModelDeployment", "triage")["status"]["history"]] == [4, 3]
    labels = (world.get("Deployment", name)["metadata"]["labels"] for name in world.deployments())
    assert sorted(found["modelmill.dev/version"] for found in labels) == ["3", "4"]


@pytest.mark.parametrize("versions", [(1, 2, 3), (2, 1, 3)])  # in one of the two their names are in another order
def test_the_revision_that_is_deleted_first_is_the_oldest(versions: tuple[int, ...]) -> None:
    world = with_store(World())
    for version in versions:
        with_version(world, version)
    for version in versions:
        world.wait(60)
        world.put("ModelDeployment", "triage", spec={"model": {"name": "triage", "version": version}})
        world.reconcile("ModelDeployment", "triage")
        world.pods_of(deployment_of_version(world, version), 1)
        world.reconcile("ModelDeployment", "triage")
        world.wait(5)
        world.reconcile("ModelDeployment", "triage")
        for former in world.deployments():
            if former != deployment_of_version(world, version):
                world.pods_of(former, 0)
    world.reconcile("ModelDeployment", "triage")
    assert len(world.deployments()) == 3
    oldest = deployment_of_version(world, versions[0])
    spec = {"model": {"name": "triage", "version": versions[-1]}, "revisionHistoryLimit": 1}
    world.put("ModelDeployment", "triage", spec=spec)
    world.reconcile("ModelDeployment", "triage")
    assert not world.has("Deployment", oldest)
    assert len(world.deployments()) == 2


def test_a_pod_that_is_being_deleted_is_no_trouble() -> None:
    world = serving()
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.put(
        "Pod",
        f"{name}-x",
        metadata={"labels": labels, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        status={"reason": "Evicted", "message": "disk pressure"},
    )
    assert told(world)[0].startswith("Ready False WaitingForPods")


def test_trouble_with_a_pod_too_many_is_none() -> None:
    world = serving()
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    world.put("Pod", f"{name}-x", metadata={"labels": labels}, status={"reason": "Evicted", "message": "full"})
    world.reconcile("ModelDeployment", "triage")
    assert world.condition("ModelDeployment", "triage", "Ready")[0] == "True"


def test_a_store_that_fails_later_changes_nothing_of_what_serves() -> None:
    world = serving()
    spec = world.get("Workspace", "default")["spec"]
    del world.objects["Workspace", "default"]["status"]
    assert world.plan("ModelDeployment", "triage").writes == ()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 3})
    world.reconcile("ModelDeployment", "triage")
    assert spec == world.get("Workspace", "default")["spec"]
    (name,) = world.deployments()
    assert world.get("Deployment", name)["spec"]["replicas"] == 3


def test_a_version_is_taking_over_until_the_service_selects_it() -> None:
    world = serving(replicas=1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 2})
    world.pods_of(new, 2)  # it has the pods that are wanted by now, and its Deployment is not scaled yet
    status = next(w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, SetStatus)).status
    (ready, *_) = status["conditions"]
    assert (ready["reason"], ready["message"]) == ("TakingOver", f"revision {revision_of(new)} is taking over")


def test_one_pod_is_replaced_by_one_pod() -> None:
    world = serving(replicas=1)
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    world.pods_of(new, 1)
    (move,) = [w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Apply)]
    (guard,) = move.guards
    assert not guard.holds({**world.get("Deployment", new), "status": {}})
    world.reconcile("ModelDeployment", "triage")
    world.wait(5)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", old)["spec"]["replicas"] == 0


def test_who_serves_is_what_the_service_selects_also_where_the_status_was_lost_or_not_written() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    new = deployment_of_version(world, 2)
    status = world.objects["ModelDeployment", "triage"].pop("status")
    world.reconcile("ModelDeployment", "triage")
    assert world.get("ModelDeployment", "triage")["status"]["stable"]["version"] == 1
    assert [h["version"] for h in world.get("ModelDeployment", "triage")["status"]["history"]] == [1]
    assert selected(world) == revision_of(old)
    world.pods_of(new, 2)
    world.reconcile("ModelDeployment", "triage")
    world.objects["ModelDeployment", "triage"]["status"] = status  # the operator ended before it was written
    world.pods_of(new, 1)
    world.reconcile("ModelDeployment", "triage")
    assert world.get("ModelDeployment", "triage")["status"]["stable"]["version"] == 2
    assert selected(world) == revision_of(new)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_service_that_was_led_astray_comes_back_when_there_is_a_pod_to_come_back_to(replicas: int) -> None:
    world = serving(replicas=replicas)
    name = deployment_of_version(world, 1)
    world.pods_of(name, 0)
    spec = world.objects["Service", "triage"]["spec"]
    spec["selector"] = {**spec["selector"], "modelmill.dev/revision": "00000000"}
    spec["ports"] = [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": "http"}]
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == "00000000"
    assert world.get("Service", "triage")["spec"]["ports"][0]["port"] == 80
    world.pods_of(name, 1)
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(name)


def test_a_service_without_a_revision_gets_one_at_once() -> None:
    world = serving()
    name = deployment_of_version(world, 1)
    world.pods_of(name, 0)
    world.objects["Service", "triage"]["spec"]["selector"] = {"app": "mine"}
    world.reconcile("ModelDeployment", "triage")
    assert selected(world) == revision_of(name)


def test_a_service_is_mended_also_while_its_deployment_is_gone() -> None:
    world = serving()
    name = deployment_of_version(world, 1)
    world.remove("Deployment", name)
    world.remove("ModelVersion", "triage-1")
    world.objects["Service", "triage"]["spec"]["ports"] = []
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Service", "triage")["spec"]["ports"][0]["port"] == 80
    assert selected(world) == revision_of(name)


def test_nobody_loses_pods_while_the_service_is_lost() -> None:
    world = serving()
    old = deployment_of_version(world, 1)
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    world.reconcile("ModelDeployment", "triage")
    world.wait(5)
    world.remove("Service", "triage")
    assert not [w for w in world.plan("ModelDeployment", "triage").writes if isinstance(w, Apply)]
    world.reconcile("ModelDeployment", "triage")
    assert world.get("Deployment", old)["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{"type": "PodScheduled", "status": "True"}]},
        {"containerStatuses": [{"name": "server", "state": {"running": {}}, "ready": False}]},
        {"containerStatuses": [{"name": "server", "state": {"waiting": {"reason": "PodInitializing"}}}]},
        {"initContainerStatuses": [{"name": "fetch", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]},
    ],
    ids=["scheduled", "running", "waiting for its init container", "fetched"],
)
def test_a_pod_that_is_on_its_way_is_no_trouble(status: dict[str, Any]) -> None:
    assert trouble_with(status) == "False WaitingForPods: 1 of 2 pods of revision X are ready"


def trouble_with(status: dict[str, Any]) -> str:
    """What a ModelDeployment says whose second pod has this status."""
    world = serving()
    (name,) = world.deployments()
    labels = world.get("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    world.put("Pod", f"{name}-x", metadata={"labels": labels}, status=status)
    world.pods_of(name, 1)
    return told(world)[0].removeprefix("Ready ").replace(revision_of(name), "X")


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"]
)
def test_an_image_that_is_not_there_is_told(reason: str) -> None:
    waiting = {"name": "server", "state": {"waiting": {"reason": reason}}}
    assert trouble_with({"containerStatuses": [waiting]}) == (
        f"False ImagePullFailed: the image of container server cannot be pulled ({reason}: ); check its name, that the"
        " registry answers, and the pull secret"
    )


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"])
def test_a_container_that_cannot_be_made_is_told(reason: str) -> None:
    waiting = {"name": "fetch", "state": {"waiting": {"reason": reason, "message": "no secret store"}}}
    assert trouble_with({"initContainerStatuses": [waiting]}) == (
        "False ContainerConfigInvalid: container fetch cannot be created: no secret store; create what is missing (a"
        " Secret for s3 has accessKeyId and secretAccessKey)"
    )


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_too_little_memory_is_told_whatever_it_ended_with(state: str) -> None:
    ended = {"terminated": {"exitCode": 0, "reason": "OOMKilled"}}
    status = {"name": "server", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, state: ended}
    assert trouble_with({"containerStatuses": [status]}) == (
        "False OutOfMemory: container server used more memory than its limit; raise resources.limits.memory"
    )


def test_a_revision_that_is_not_seen_to_be_routed_to_is_no_promotion() -> None:
    world = serving()
    known = world.get("ModelDeployment", "triage")["status"]["history"]
    with_version(world, 2)
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 2), 2)
    del world.objects["Service", "triage"]
    del world.objects["Deployment", deployment_of_version(world, 1)]
    plan = world.plan("ModelDeployment", "triage")  # they lost their labels, and still serve
    (status,) = (w.status for w in plan.writes if isinstance(w, SetStatus))
    assert status["history"] == known


def test_an_outage_is_a_warning_and_what_somebody_asked_for_is_none() -> None:
    world = serving()
    world.events.clear()
    world.pods_of(deployment_of_version(world, 1), 0)
    world.reconcile("ModelDeployment", "triage")
    assert ("Warning", "NoPodReady") in [(event.type, event.reason) for event in world.events]
    world.pods_of(deployment_of_version(world, 1), 2)
    world.reconcile("ModelDeployment", "triage")
    world.events.clear()
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}, "replicas": 0})
    world.reconcile("ModelDeployment", "triage")
    world.pods_of(deployment_of_version(world, 1), 0)
    world.reconcile("ModelDeployment", "triage")
    assert ("Normal", "ScaledToZero") in [(event.type, event.reason) for event in world.events]
    assert not [event for event in world.events if event.type == "Warning"]
