"""Kueue, as its project installs it, decides when a training runs; so does `spec.suspend`."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import gone, namespace, training

from go_module import folder_of
from live import ROOT, Kubectl, eventually

pytestmark = pytest.mark.long  # Kueue is built for it

IMAGE = "modelmill/kueue:dev"
SYSTEM = "kueue-system"
API = "kueue.x-k8s.io/v1beta2"
CONFIGURATION = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "webhook": {"port": 9443},
    "integrations": {"frameworks": ["batch/job"]},
    "featureGates": {"VisibilityOnDemand": False},  # an API server of its own, which nobody asks here
}


@pytest.fixture(scope="module")
def kueue(system: Kubectl) -> Iterator[None]:
    kubectl = Kubectl(system.config, SYSTEM)
    subprocess.run([str(ROOT / "hack/cluster"), "images", "kueue"], check=True)
    documents = yaml.safe_dump_all(_published(kubectl))
    try:
        kubectl.run("apply", "--server-side", "-f", "-", stdin=documents)
        kubectl.run("rollout", "status", "deployment/kueue-controller-manager", "--timeout=120s")
        flavor = {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": "any"}}
        eventually(lambda: _applied(kubectl, flavor), "Kueue's webhooks answer", 60)
        yield
    finally:
        for kind in ("clusterqueue", "resourceflavor"):
            kubectl.run("delete", kind, "--all", "--timeout=60s", check=False)
        kubectl.run("delete", "--ignore-not-found", "--timeout=120s", "-f", "-", stdin=documents)


def _published(kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """Its manifests, without what would make the view of its queues part of the API."""
    folder = folder_of("kueue", "sigs.k8s.io/kueue") / "config/default"
    for manifest in yaml.safe_load_all(kubectl.output("kustomize", str(folder))):
        if manifest["kind"] == "APIService" or manifest["metadata"].get("namespace") == "kube-system":
            continue
        if manifest["kind"].endswith("WebhookConfiguration"):
            # Nothing else waits for Kueue's word, whatever becomes of this test.
            manifest["webhooks"] = [one for one in manifest["webhooks"] if _is_of_jobs(one)]
        if manifest["kind"] == "ConfigMap":
            manifest["data"] = {"controller_manager_config.yaml": json.dumps(CONFIGURATION)}
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container |= {"image": IMAGE, "imagePullPolicy": "IfNotPresent", "resources": {"requests": {"cpu": "50m"}}}
        yield manifest


def _is_of_jobs(webhook: dict[str, Any]) -> bool:
    return all({"batch", "kueue.x-k8s.io"}.issuperset(rule["apiGroups"]) for rule in webhook["rules"])


def _applied(kubectl: Kubectl, manifest: dict[str, Any]) -> bool:
    answer = kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest), check=False)
    return answer.returncode == 0


def _cluster_queue(cpu: str, **more: Any) -> dict[str, Any]:
    flavors: list[Any] = [{"name": "any", "resources": [{"name": "cpu", "nominalQuota": cpu}]}]
    flavors[0]["resources"].append({"name": "memory", "nominalQuota": "64Gi"})
    groups = [{"coveredResources": ["cpu", "memory"], "flavors": flavors}]
    spec = {"namespaceSelector": {}, "resourceGroups": groups, **more}
    return {"apiVersion": API, "kind": "ClusterQueue", "metadata": {"name": "e2e"}, "spec": spec}


def slow_training(name: str, **changes: Any) -> dict[str, Any]:
    """It trains for some ten seconds."""
    network = {"hidden_layer_sizes": [200], "max_iter": 1000, "tol": 0.0, "n_iter_no_change": 1000}
    steps = [{"name": "network", "class": "sklearn.neural_network.MLPClassifier", "params": network}]
    return training(name, estimator={"steps": steps}, **changes)


def _trains(team: Kubectl, name: str) -> None:
    def runs() -> bool:
        pods = team.list("pods", f"batch.kubernetes.io/job-name={name}-train")
        return [pod["status"]["phase"] for pod in pods if "deletionTimestamp" not in pod["metadata"]] == ["Running"]

    eventually(runs, f"the pod of {name} runs", 90, lambda: team.describe("tjob", name))


def _has_no_pod(team: Kubectl, name: str) -> None:
    selector = f"batch.kubernetes.io/job-name={name}-train"
    eventually(lambda: not team.list("pods", selector), f"the pod of {name} is gone", 90)


@pytest.fixture
def queueing(kueue: None, system: Kubectl) -> Iterator[Kubectl]:  # noqa: ARG001 - what is in it goes before Kueue does
    kubectl = namespace(system, "queues")
    data = ROOT / "examples/breast-cancer"
    kubectl.run("create", "configmap", "tumours", f"--from-file={data / 'breast-cancer.csv'}")
    kubectl.run("apply", "-f", str(data / "dataset.yaml"))
    yield kubectl
    gone(system, kubectl)


def test_a_training_waits_for_kueue_is_evicted_and_runs_again(queueing: Kubectl) -> None:
    queue = {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": "team"}, "spec": {"clusterQueue": "e2e"}}
    queueing.apply(_cluster_queue("0"), queue)
    queueing.apply(slow_training("queued", queueName="team", seed=31))
    queueing.wait_for("tjob", "queued", "Reconciling", "False", reason="Queued")
    told = queueing.condition("tjob", "queued", "Succeeded")["message"]
    assert told == "Job queued-train waits in queue team (spec.queueName) until Kueue admits it"
    assert queueing.list("pods", "batch.kubernetes.io/job-name=queued-train") == []

    queueing.apply(_cluster_queue("4"))
    _trains(queueing, "queued")
    assert queueing.condition("tjob", "queued", "Reconciling")["reason"] == "Training"
    queueing.apply(_cluster_queue("4", stopPolicy="HoldAndDrain"))
    queueing.wait_for("tjob", "queued", "Reconciling", "False", reason="Queued")
    _has_no_pod(queueing, "queued")

    queueing.apply(_cluster_queue("4", stopPolicy="None"))
    queueing.wait_for("tjob", "queued", "Succeeded", seconds=180)
    (usage,) = [(queueing.get("tjob", "queued") or {})["status"]["usage"]]
    assert usage["cpuSeconds"] > 0


def test_a_training_is_suspended_and_resumed_by_hand(team: Kubectl) -> None:
    team.apply(slow_training("paused", seed=32))
    _trains(team, "paused")
    team.run("patch", "tjob", "paused", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    team.wait_for("tjob", "paused", "Reconciling", "False", reason="Suspended")
    _has_no_pod(team, "paused")
    assert team.get("job", "paused-train") is None
    pinned = (team.get("tjob", "paused") or {})["status"]["datasetVersion"]
    team.run("patch", "tjob", "paused", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    team.wait_for("tjob", "paused", "Succeeded", seconds=180)
    assert (team.get("tjob", "paused") or {})["status"]["datasetVersion"] == pinned
