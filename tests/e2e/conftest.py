"""A real cluster with nodes, the operator in it as users install it, and a namespace with a store."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Recorder

import live
from live import API_VERSION, ROOT, Kubectl, eventually, kubeconfig

live.patience = 3

_LONG = ("test_loop.py", "test_drift.py")
SYSTEM = "modelmill-system"
OPERATOR = "deployment/modelmill-operator"
OPERATOR_PODS = "app.kubernetes.io/name=modelmill-operator"  # a label selector


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long by itself is first: else one process would wait for it while the others are through."""
    items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Kubectl:
    """kubectl in the operator's namespace; the operator was started anew from the images that are loaded."""
    kubectl = Kubectl(kubeconfig(os.environ.get("MODELMILL_CLUSTER", "modelmill")), SYSTEM)
    mine = tmp_path_factory.getbasetemp()
    # Several processes of tests have one operator: the first of them starts it.
    with (mine if worker_id == "master" else mine.parent).joinpath("operator-started").open("a") as started:
        fcntl.flock(started, fcntl.LOCK_EX)
        if not os.fstat(started.fileno()).st_size:
            kubectl.apply_folder("manifests")
            restart(kubectl)
            started.write("yes")
    return kubectl


@pytest.fixture(scope="session")
def this_machine(system: Kubectl) -> str:
    """An address of this machine that pods can reach: that from which it reaches the node."""
    found = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    route = ["ip", "-json", "route", "get", system.output("get", "nodes", "-o", found)]
    (way,) = json.loads(subprocess.run(route, check=True, capture_output=True, text=True).stdout)
    return str(way["prefsrc"])


@pytest.fixture(scope="session", autouse=True)
def recorder(system: Kubectl) -> Iterator[Recorder]:
    """What every pod sends and is sent during all tests: no policy may keep out what belongs there."""
    recorder = Recorder(system).start()
    yield recorder
    time.sleep(1)  # what belongs together arrives by three watches
    recorder.stop()
    against_policies = recorder.against_policies()
    assert not against_policies, "\n".join(f"{count} x {what}" for what, count in against_policies.most_common())


def restart(system: Kubectl) -> None:
    system.run("rollout", "restart", OPERATOR)
    settled(system)


def settled(system: Kubectl) -> None:
    """Wait until the operator's rollout is over, its old pods are gone, and those that are left are ready."""
    system.run("rollout", "status", OPERATOR, "--timeout=120s")

    def only_ready_ones() -> bool:
        pods = system.list("pod", OPERATOR_PODS)
        return bool(pods) and all(map(_is_ready, pods))

    eventually(only_ready_ones, "only ready pods of the operator")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def namespace(system: Kubectl, name: str, *, store: bool = True) -> Kubectl:
    """A fresh namespace that admits only restricted pods."""
    name = f"e2e-{os.getpid()}-{name}"
    system.run("create", "namespace", name)
    system.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl = Kubectl(system.config, name)
    if store:
        kubectl.apply_folder("manifests/store")
        kubectl.wait_for("workspace", "default", "Ready", seconds=120)
    return kubectl


def gone(system: Kubectl, kubectl: Kubectl) -> None:
    """Delete the namespace: nothing may hang in it.

    Its servers go first, and at once: Kubernetes would wait for half a minute before it looks again whether they have.
    """
    kubectl.run("delete", "modeldeployments,deployments", "--all")
    kubectl.run("delete", "pods", "--all", "--grace-period=1")
    system.run("delete", "namespace", kubectl.namespace, "--timeout=120s")


@pytest.fixture(scope="session")
def team(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store, the breast cancer example in it and served."""
    kubectl = namespace(system, "team")
    kubectl.apply_folder("examples/breast-cancer")
    kubectl.wait_for("modeldeployment", "triage", "Ready", seconds=180)
    yield kubectl
    gone(system, kubectl)


@pytest.fixture(autouse=True)
def operator_log(system: Kubectl) -> Iterator[None]:
    """No test may leave an error in the operator's log that nobody expected."""
    yield
    for line in _operator_lines(system):
        assert "Traceback (most recent call last)" not in line, line
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        assert entry["level"] not in ("error", "critical"), line
        assert "exception" not in entry, line


def _operator_lines(system: Kubectl) -> Iterator[str]:
    """What the operator's containers have written, those before a restart included."""
    for pod in system.list("pod", OPERATOR_PODS):
        restarted = any(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))
        for more in ((), ("--previous",)) if restarted else ((),):
            # A pod may be gone by now.
            words = ("logs", pod["metadata"]["name"], "--tail=-1", *more)
            yield from system.run(*words, check=False).stdout.splitlines()


def training(name: str, **changes: Any) -> dict[str, Any]:
    """A TrainingJob on the example's data; `changes` replace parts of its spec."""
    step = {"name": "lr", "class": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}}
    spec: dict[str, Any] = {
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
        "estimator": {"steps": [{"name": "scale", "class": "sklearn.preprocessing.StandardScaler"}, step]},
        **changes,
    }
    return {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def dataset(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": spec}


def deployment(name: str, model: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": metadata,
        "spec": {"model": model, **spec},
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def run_script(kubectl: Kubectl, pod: str, script: str) -> None:
    """Start one of the example's pods with its script."""
    folder = ROOT / "examples/breast-cancer"
    kubectl.run("create", "configmap", pod, f"--from-file={folder / script}")
    kubectl.run("apply", "-f", str(folder / f"{pod}.yaml"))


def last_line(kubectl: Kubectl, pod: str) -> Any:
    """What a pod that ended wrote last, as JSON."""
    eventually(
        lambda: (kubectl.get("pod", pod) or {}).get("status", {}).get("phase") == "Succeeded", f"pod {pod} ends", 90
    )
    return json.loads(kubectl.output("logs", pod).splitlines()[-1])
