"""What a TrainingJob costs over the same `fit` in a bare pod, on the local cluster: `python -m tests.bench.training`.

Both read the same data, fit the same pipeline and compute the same metrics in the same image with the same resources;
they take turns.  The TrainingJob also fetches a verified snapshot, converts and compares, writes profile, card and
report, and publishes an artifact.  It names no model, so that nothing is counted of what a version goes through.
"""

import json
import os
import re
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.bench import document
from tests.bench.cluster import place
from tests.live import API_VERSION, ROOT, Kubectl

from modelmill.core import trainingjob

NAMESPACE = "bench-training"
ROUNDS = 7
IMAGE = "modelmill/trainer:dev"
METRICS = ("roc_auc", "accuracy")
SECONDS, CPU_SECONDS = 3.0, 4.0  # targets
WAIT = "--timeout=180s"
# What somebody writes who has no TrainingJob.
SCRIPT = """
import json, sys
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows = pd.read_csv(sys.argv[1])
target = rows.pop("benign")
train, test, train_target, truth = train_test_split(
    rows, target, test_size=0.2, stratify=target, random_state=int(sys.argv[2])
)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, train_target)
scores = roc_auc_score(truth, model.predict_proba(test)[:, 1]), accuracy_score(truth, model.predict(test))
print(json.dumps(dict(zip(("roc_auc", "accuracy"), map(float, scores)))))
"""


class Cost(NamedTuple):
    seconds: float  # from its creation to its end
    cpu: float  # seconds, of its pod
    metrics: dict[str, float]


class PodCpu:
    """CPU seconds of pods by their control groups, read all the time: a group goes away soon after its pod ended."""

    def __init__(self) -> None:
        self._second_version = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self._top = Path("/sys/fs/cgroup") if self._second_version else Path("/sys/fs/cgroup/cpuacct")
        self._seconds: dict[str, float] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def of(self, uid: str) -> float:
        if uid not in self._seconds:
            raise SystemExit(
                f"no control group of pod {uid} was seen below {self._top}: are its nodes on this machine?"
            )
        return self._seconds[uid]

    def _look(self) -> None:
        while not self._ends.wait(0.05):
            for folder, names, _ in os.walk(self._top):
                for name in list(names):
                    found = re.search(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})", name)
                    if found:
                        names.remove(name)  # its containers are counted in it
                        self._read(Path(folder) / name, found[1].replace("_", "-"))

    def _read(self, group: Path, uid: str) -> None:
        try:
            if self._second_version:
                usage = re.search(r"usage_usec (\d+)", (group / "cpu.stat").read_text())
                seconds = int(usage[1]) / 1e6 if usage else 0.0
            else:
                seconds = int((group / "cpuacct.usage").read_text()) / 1e9
        except OSError:
            return  # it has just gone
        self._seconds[uid] = max(seconds, self._seconds.get(uid, 0.0))


def training_job(name: str, seed: int) -> dict[str, Any]:
    steps = [
        {"name": "scale", "class": "sklearn.preprocessing.StandardScaler"},
        {"name": "logistic", "class": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}},
    ]
    data = {"datasetRef": {"name": "tumours"}, "target": "benign", "split": {"test": "0.2", "stratify": True}}
    spec = {"data": data, "estimator": {"steps": steps}, "seed": seed, "evaluation": {"metrics": list(METRICS)}}
    return {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}


def bare_pod(name: str, seed: int) -> dict[str, Any]:
    container = {
        "name": "fit",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/mnt/code/fit.py", "/mnt/data/breast-cancer.csv", str(seed)],
        "resources": trainingjob.RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "code", "mountPath": "/mnt/code"},
            {"name": "data", "mountPath": "/mnt/data"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "code", "configMap": {"name": "fit"}},
            {"name": "data", "configMap": {"name": "tumours"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def of_training_job(kubectl: Kubectl, cpu: PodCpu, name: str, seed: int) -> Cost:
    begun = time.monotonic()
    kubectl.apply(training_job(name, seed))
    kubectl.run("wait", "--for=condition=Succeeded", f"tjob/{name}", WAIT)
    seconds = time.monotonic() - begun
    status = (kubectl.get("tjob", name) or {})["status"]
    (pod,) = kubectl.list("pods", f"batch.kubernetes.io/job-name={name}-train")
    metrics = {metric["name"]: float(metric["value"]) for metric in status["metrics"]}
    return Cost(seconds, _settled(cpu, pod), metrics)


def of_bare_pod(kubectl: Kubectl, cpu: PodCpu, name: str, seed: int) -> Cost:
    begun = time.monotonic()
    kubectl.apply(bare_pod(name, seed))
    kubectl.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", WAIT)
    seconds = time.monotonic() - begun
    pod = kubectl.get("pod", name)
    assert pod is not None
    return Cost(seconds, _settled(cpu, pod), json.loads(kubectl.output("logs", name).splitlines()[-1]))


def _settled(cpu: PodCpu, pod: dict[str, Any]) -> float:
    """The pod's CPU seconds, after a moment in which its end is seen; nothing else runs when the next one starts."""
    time.sleep(1)
    return cpu.of(pod["metadata"]["uid"])


def measure(kubectl: Kubectl) -> list[tuple[Cost, Cost]]:
    """What a TrainingJob and a bare pod cost, in each round; the first round warms up, and is thrown away."""
    csv = ROOT / "examples/breast-cancer/breast-cancer.csv"
    kubectl.run("create", "configmap", "tumours", f"--from-file={csv}")
    kubectl.run("create", "configmap", "fit", f"--from-literal=fit.py={SCRIPT}")
    kubectl.apply_file("examples/breast-cancer/dataset.yaml")
    kubectl.run("wait", "--for=condition=Ready", "dset/tumours", WAIT)
    found = []
    with PodCpu() as cpu:
        for number in range(ROUNDS + 1):
            if number % 2:  # so that neither always finds what the other left in the node's caches
                bare = of_bare_pod(kubectl, cpu, f"bare-{number}", number)
                ours = of_training_job(kubectl, cpu, f"job-{number}", number)
            else:
                ours = of_training_job(kubectl, cpu, f"job-{number}", number)
                bare = of_bare_pod(kubectl, cpu, f"bare-{number}", number)
            differs = [name for name in METRICS if abs(ours.metrics[name] - bare.metrics[name]) > 0.01]
            if differs:
                raise SystemExit(f"round {number}: the two are not the same training: {ours.metrics}, {bare.metrics}")
            found.append((ours, bare))
    return found[1:]


def main() -> None:
    with place(NAMESPACE) as (_, kubectl):
        found = measure(kubectl)
    lines = (
        _line("from creation to its end", found, lambda cost: cost.seconds, SECONDS, "s"),
        _line("CPU of the pod", found, lambda cost: cost.cpu, CPU_SECONDS, "CPU s"),
    )
    document.update(
        "training",
        f"""{document.machine()}
{ROUNDS} rounds after one to warm up; ranges are min / median / max, and a target is reached by the median.

| what | TrainingJob | bare pod | more, of each round | target | reached |
|---|---|---|---|---|---|
{"".join(lines)}""".rstrip(),
    )


def _line(what: str, found: list[tuple[Cost, Cost]], of: Callable[[Cost], float], target: float, unit: str) -> str:
    ours, bare = [of(one) for one, _ in found], [of(other) for _, other in found]
    more = [one - other for one, other in zip(ours, bare, strict=True)]
    reached = "yes" if statistics.median(more) <= target else "**no**"
    cells = [what, *(f"{_spread(values)} {unit}" for values in (ours, bare, more)), f"<= {target:g} {unit}", reached]
    return f"| {' | '.join(cells)} |\n"


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} / {statistics.median(values):.2f} / {max(values):.2f}"


if __name__ == "__main__":
    main()
