"""Claims: who waits for a volume is told of which claim and StorageClass, not that nodes are missing."""

from typing import Any

import pytest
from world import World, with_store

from modelmill_contracts import report

UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims"
GONE = 'persistentvolumeclaim "lake" not found'
SAYS_MORE = "(kubectl describe pvc {} says more)"


def _claim(world: World, name: str, phase: str = "Pending", **spec: Any) -> None:
    world.put("PersistentVolumeClaim", name, spec={"accessModes": ["ReadWriteMany"], **spec}, status={"phase": phase})


def _unscheduled(world: World, job: str, message: str) -> None:
    world.pod_of_job(job, conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


def _store(**spec: Any) -> World:
    """A Workspace whose store is the volume of a claim, and is being tried."""
    world = World()
    _claim(world, "models", **spec)
    world.put("Workspace", "default", spec={"store": {"uri": "pvc://models/a"}})
    world.reconcile("Workspace", "default")
    return world


def _said(world: World, kind: str, name: str) -> tuple[str, str]:
    world.reconcile(kind, name)
    return world.condition(kind, name, "Ready")[1], world.message(kind, name, "Ready")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"storageClassName": "fast"},
            "StorageClass fast gives it no volume; see that this StorageClass exists and its provisioner runs",
        ),
        (
            {},
            (
                "it names no StorageClass, and the cluster has no default one; make one the default, or a claim with"
                " spec.storageClassName"
            ),
        ),
        (
            {"storageClassName": ""},
            'its storageClassName is "", and no PersistentVolume fits it; create one, or a claim with a StorageClass',
        ),
    ],
    ids=["named", "default", "none"],
)
def test_a_store_s_claim_without_a_volume_names_its_storage_class(spec: dict[str, Any], words: str) -> None:
    world = _store(**spec)
    _unscheduled(world, "default-preflight", UNBOUND)
    full = f"PersistentVolumeClaim models is Pending: {words} {SAYS_MORE.format('models')}"
    assert _said(world, "Workspace", "default") == ("ClaimPending", full)
    assert world.condition("Workspace", "default", "Stalled") == ("True", "ClaimPending")
    _claim(world, "models", "Bound", **spec)
    world.remove("Pod", "default-preflight-x")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    assert world.condition("Workspace", "default", "Ready") == ("True", "PreflightPassed")


def test_a_source_s_claim_is_named_too() -> None:
    world = with_store(World())
    world.put("Dataset", "sales", spec={"source": {"uri": "pvc://lake/a.csv"}})
    world.reconcile("Dataset", "sales")
    _unscheduled(world, "sales-data", GONE)
    said = "there is no PersistentVolumeClaim lake in this namespace; create it, or name another claim"
    assert _said(world, "Dataset", "sales") == ("ClaimNotFound", said)
    _claim(world, "lake", storageClassName="fast")
    _unscheduled(world, "sales-data", UNBOUND)
    reason, message = _said(world, "Dataset", "sales")
    assert reason == "ClaimPending"
    assert message.startswith("PersistentVolumeClaim lake is Pending: StorageClass fast gives it no volume;")


def test_a_claim_that_waits_for_its_first_pod_is_named_when_the_time_is_over() -> None:
    # The scheduler has chosen a node, and waits for a volume there that nobody makes.
    world = _store(storageClassName="local")
    world.end_job("default-preflight", None, reason="DeadlineExceeded")
    assert _said(world, "Workspace", "default")[0] == "ClaimPending"
    # Its pod is gone by then, and why it failed is not forgotten.
    world.remove("Pod", "default-preflight-x")
    assert _said(world, "Workspace", "default")[0] == "ClaimPending"


@pytest.mark.parametrize(
    ("phase", "message"),
    [("Bound", UNBOUND), ("Pending", "0/3 nodes are available: 3 Insufficient cpu")],
    ids=["it has its volume", "it waits for something else"],
)
def test_who_waits_for_something_else_is_not_told_of_the_claim(phase: str, message: str) -> None:
    world = _store()
    _claim(world, "models", phase)
    _unscheduled(world, "default-preflight", message)
    full = f"no node takes the pod: {message}; ask for less in resources, or add nodes"
    assert _said(world, "Workspace", "default") == ("Unschedulable", full)


def _reading_a_volume() -> World:
    """A Dataset whose source is the volume of a claim that nobody sees, and which is being read."""
    world = with_store(World())
    world.put("Dataset", "sales", spec={"source": {"uri": "pvc://lake/a.csv"}})
    world.reconcile("Dataset", "sales")
    return world


def test_a_claim_that_only_the_scheduler_knows_is_not_said_to_be_missing() -> None:
    world = _reading_a_volume()
    _unscheduled(world, "sales-data", UNBOUND)
    assert _said(world, "Dataset", "sales")[0] == "Unschedulable"


def test_a_claim_that_is_gone_when_the_time_is_over_is_no_reason_by_itself() -> None:
    world = _reading_a_volume()
    world.end_job("sales-data", None, reason="DeadlineExceeded")
    assert _said(world, "Dataset", "sales")[0] == "TimedOut"
