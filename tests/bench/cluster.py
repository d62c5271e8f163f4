"""What a user waits for, on the local cluster with warm images: `python -m tests.bench.cluster`."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tests.bench import document
from tests.live import API_VERSION, ROOT, Kubectl, eventually, kubeconfig

CLUSTER = "modelmill"
NAMESPACE = "bench-cluster"
ROUNDS = 3
STARTS = 12
BODY = {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}]}
# Everything that the image adds to its base is in this folder.
SIZE = (
    "import os; print(sum(os.lstat(os.path.join(d, f)).st_size for d, _, fs in os.walk('/opt/modelmill') for f in fs))"
)


def training(name: str) -> dict[str, Any]:
    steps = [
        {"name": "scale", "class": "sklearn.preprocessing.StandardScaler"},
        {"name": "logistic", "class": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}},
    ]
    data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
    spec = {"modelRef": {"name": name}, "data": data, "estimator": {"steps": steps}}
    return {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def deployment(name: str) -> dict[str, Any]:
    spec = {"model": {"name": name}}
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec}


def to_prediction(kubectl: Kubectl, name: str) -> float:
    """Seconds from kubectl apply of the TrainingJob to the first prediction, the deployment already waiting."""
    kubectl.apply(deployment(name))
    kubectl.wait_for("mdep", name, "Ready", "False", reason="ModelNotFound")
    raw = f"/api/v1/namespaces/{NAMESPACE}/services/{name}:http/proxy/v2/models/{name}/infer"
    begun = time.monotonic()
    kubectl.apply(training(name))
    eventually(
        lambda: kubectl.run("create", "--raw", raw, "-f", "-", stdin=json.dumps(BODY), check=False).returncode == 0,
        "a prediction",
        120,
    )
    return time.monotonic() - begun


def to_ready(kubectl: Kubectl, name: str) -> float:
    """Seconds from a new server container's start to its pod's Ready; Kubernetes' times are whole seconds."""
    selector = f"modelmill.dev/modeldeployment={name}"
    kubectl.run("delete", "pod", "-l", selector, "--wait=false")
    former = {
        pod["metadata"]["uid"] for pod in kubectl.list("pods", selector) if "deletionTimestamp" in pod["metadata"]
    }

    def fresh() -> dict[str, Any] | None:
        for pod in kubectl.list("pods", selector):
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            if ready and pod["metadata"]["uid"] not in former:
                return pod
        return None

    pod = eventually(fresh, "a new pod is ready")
    (status,) = [s for s in pod["status"]["containerStatuses"] if s["name"] == "server"]
    started = datetime.fromisoformat(status["state"]["running"]["startedAt"])
    (ready,) = [c for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return (datetime.fromisoformat(ready["lastTransitionTime"]) - started).total_seconds()


@contextmanager
def place(name: str) -> Iterator[tuple[Kubectl, Kubectl]]:
    """kubectl in the operator's namespace and in a new one with a store; images and operator are of this checkout."""
    for verb in ("up", "images"):
        subprocess.run([ROOT / "hack/cluster", verb], check=True)
    system = Kubectl(kubeconfig(CLUSTER), "modelmill-system")
    system.apply_folder("manifests")
    system.run("rollout", "restart", "deployment/modelmill-operator")
    system.run("rollout", "status", "deployment/modelmill-operator", "--timeout=120s")
    system.run("create", "namespace", name)
    kubectl = Kubectl(system.config, name)
    try:
        kubectl.apply_folder("manifests/store")
        kubectl.run("wait", "--for=condition=Ready", "workspace/default", "--timeout=120s")
        yield system, kubectl
    finally:
        system.run("delete", "namespace", name)


def main() -> None:
    with place(NAMESPACE) as (system, kubectl):
        kubectl.apply_folder("examples/breast-cancer")
        kubectl.run("wait", "--for=condition=Ready", "mdep/triage", "--timeout=180s")
        predictions = [to_prediction(kubectl, f"round-{number}") for number in range(ROUNDS)]
        readies = [to_ready(kubectl, "round-0") for _ in range(STARTS)]
        size = int(system.output("exec", "deployment/modelmill-operator", "--", "python3", "-c", SIZE))
    document.update(
        "cluster",
        f"""{document.machine()}  {ROUNDS} rounds, min / median / max.

| what | measured | target |
|---|---|---|
| from `kubectl apply` of the TrainingJob to the first prediction | {spread(predictions)} s | < 30 s |
| server pod Ready after its container's start: mean of {STARTS} differences of whole seconds, at least / at most | \
{statistics.mean(readies):.2f} s, {min(readies):.0f} / {max(readies):.0f} s | < 2 s |
| what the operator image adds to its base | {size / 1e6:.0f} MB | < 150 MB |""",
    )


def spread(values: list[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f}"


if __name__ == "__main__":
    main()
