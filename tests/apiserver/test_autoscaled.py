"""ModelDeployments that are scaled by Kubernetes' own HorizontalPodAutoscaler, by the scale subresource."""

from collections.abc import Callable
from typing import Any

from conftest import Operator
from test_operator import deployment, with_store

from live import Kubectl, eventually

Start = Callable[..., Operator]
BY_CPU = {"min": 1, "max": 5, "cpuPercent": 70}
AUTOSCALER = "horizontalpodautoscaler"


def revision(kubectl: Kubectl) -> dict[str, Any]:
    (found,) = kubectl.list("deployments")
    return found


def replicas(kubectl: Kubectl) -> int:
    """What spec.replicas says, which autoscalers write."""
    return int((kubectl.get("mdep", "triage") or {})["spec"]["replicas"])


def least(kubectl: Kubectl) -> int:
    return int((kubectl.get(AUTOSCALER, "triage") or {})["spec"]["minReplicas"])


def test_an_autoscaler_takes_over_and_goes_again_without_a_pod_less(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(deployment(replicas=3))
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    before = revision(kubectl)
    assert before["spec"]["replicas"] == 3

    # replicas is taken out of the manifest in the same edit: 1 by default, until the autoscaler has written it.
    kubectl.apply(deployment(autoscaling=BY_CPU))
    assert replicas(kubectl) == 1
    eventually(lambda: replicas(kubectl) == 3, "the autoscaler has written what there is", 90)
    eventually(lambda: least(kubectl) == 1, "it may go lower now")
    assert revision(kubectl)["metadata"]["generation"] == before["metadata"]["generation"]  # never scaled
    shown = kubectl.output("get", AUTOSCALER, "triage", "--no-headers").split()
    assert shown[1] == "ModelDeployment/triage"
    assert "/70%" in " ".join(shown)
    # There is no metrics-server here: what it cannot do, it says, and the ModelDeployment says it, too.
    condition = kubectl.wait_for("mdep", "triage", "ScalingActive", "False", reason="FailedGetResourceMetric")
    assert "cpu" in condition["message"]

    kubectl.apply(deployment(autoscaling={**BY_CPU, "max": 2}))
    eventually(lambda: revision(kubectl)["spec"]["replicas"] == 2, "the most acts at once", 5)
    eventually(lambda: replicas(kubectl) == 2, "the autoscaler has written it, too", 60)

    kubectl.apply(deployment())
    eventually(lambda: kubectl.get(AUTOSCALER, "triage") is None, "it is deleted")
    eventually(lambda: not kubectl.condition("mdep", "triage", "ScalingActive"), "nothing is said of it any more")
    assert replicas(kubectl) == revision(kubectl)["spec"]["replicas"] == 2


def test_by_requests_the_scale_subresource_decides_nothing_but_zero(kubectl: Kubectl, operator: Start) -> None:
    operator().active()
    with_store(kubectl)
    kubectl.apply(deployment(replicas=3))
    eventually(lambda: kubectl.list("deployments"), "a revision")
    kubectl.apply(deployment(autoscaling={"min": 1, "max": 5, "requestsPerSecond": 100}))
    kubectl.wait_for("mdep", "triage", "ScalingActive", "Unknown", reason="NotCountedYet")
    assert kubectl.get(AUTOSCALER, "triage") is None
    found = kubectl.get("mdep", "triage") or {}
    assert found["status"]["autoscaling"]["replicas"] == 3
    kubectl.run("scale", "mdep/triage", "--replicas=5")
    eventually(lambda: _observed(kubectl), "it is seen")
    assert revision(kubectl)["spec"]["replicas"] == 3
    kubectl.run("scale", "mdep/triage", "--replicas=0")
    kubectl.wait_for("mdep", "triage", "Ready", reason="ScaledToZero")
    assert revision(kubectl)["spec"]["replicas"] == 0


def _observed(kubectl: Kubectl) -> bool:
    found = kubectl.get("mdep", "triage") or {}
    return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])
