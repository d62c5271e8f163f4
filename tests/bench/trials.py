"""What a trial of an Experiment costs, on the local cluster: `python -m tests.bench.trials`.

A hundred trials, ten at a time, of a pipeline whose fit takes milliseconds: so what their pods use is what a trial
costs besides its training.  The pods in which Optuna proposes, and the page of the end, are counted with them.
"""

import argparse
import statistics
import sys
import time
from typing import Any

from tests.bench import document
from tests.bench.cluster import place
from tests.bench.training import PodCpu
from tests.live import API_VERSION, ROOT, Kubectl

NAMESPACE = "bench-trials"
NAME = "rates"
TRIALS, PARALLEL = 100, 10
MOST_CPU = 4.0  # CPU s of a trial


def experiment(trials: int) -> dict[str, Any]:
    steps = [
        {"name": "scale", "class": "sklearn.preprocessing.StandardScaler"},
        {"name": "logistic", "class": "sklearn.linear_model.LogisticRegression", "params": {"max_iter": 1000}},
    ]
    template = {
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign", "split": {"stratify": True}},
        "estimator": {"steps": steps},
        "evaluation": {"metrics": ["roc_auc"]},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    }
    spec = {
        "objective": {"metric": "roc_auc"},
        "search": {"algorithm": "TPE", "seed": 1},
        "parameters": [{"param": "logistic__C", "float": {"min": "0.001", "max": "100", "log": True}}],
        "trials": {"max": trials, "parallel": PARALLEL},
        "template": {"spec": template},
    }
    return {"apiVersion": API_VERSION, "kind": "Experiment", "metadata": {"name": NAME}, "spec": spec}


def measure(kubectl: Kubectl, trials: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Seconds from its creation to its end, and the CPU seconds of the pods of trials, and of all others, by name."""
    kubectl.run("create", "configmap", "tumours", f"--from-file={ROOT / 'examples/breast-cancer/breast-cancer.csv'}")
    kubectl.apply_file("examples/breast-cancer/dataset.yaml")
    kubectl.run("wait", "--for=condition=Ready", "dset/tumours", "--timeout=180s")
    before = {pod["metadata"]["uid"] for pod in kubectl.list("pods")}
    met: dict[str, str] = {}
    with PodCpu() as cpu:
        begun = time.monotonic()
        kubectl.apply(experiment(trials))
        ended = 0.0
        while not ended:
            time.sleep(1)
            done = kubectl.condition("mexp", NAME, "Succeeded").get("status")
            if done == "True":
                ended = time.monotonic() - begun
            elif kubectl.condition("mexp", NAME, "Failed").get("status") == "True":
                raise SystemExit(kubectl.describe("mexp", NAME))
            met |= {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in kubectl.list("pods")}
            count = ((kubectl.get("mexp", NAME) or {}).get("status", {}).get("trials") or {}).get("succeeded", 0)
            print(f"{time.monotonic() - begun:.0f} s: {count} of {trials} trials", flush=True)
        time.sleep(2)
        used = {name: cpu.of(uid) for uid, name in met.items() if uid not in before}
    of_trials = {name: seconds for name, seconds in used.items() if name.removeprefix(f"{NAME}-")[0].isdigit()}
    return ended, of_trials, {name: seconds for name, seconds in used.items() if name not in of_trials}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    trials = parser.parse_args([] if arguments is None else arguments).trials
    with place(NAMESPACE) as (_, kubectl):
        seconds, each, others = measure(kubectl, trials)
        status = (kubectl.get("mexp", NAME) or {})["status"]
    if len(each) != trials or status["trials"]["succeeded"] != trials:
        raise SystemExit(f"{len(each)} pods of trials were seen, and {status['trials']} said, not {trials}")
    values = sorted(each.values())
    per_trial = (sum(values) + sum(others.values())) / trials
    reached = "yes" if per_trial <= MOST_CPU else "**no**"
    spread = f"{values[0]:.2f} / {statistics.median(values):.2f} / {values[-1]:.2f}"
    whole = f"the same, with its share of the {len(others)} pods that propose and report"
    rows = (
        f"| CPU of a trial's pod, min / median / max | {spread} CPU s | | |",
        f"| {whole} | {per_trial:.2f} CPU s | <= {MOST_CPU:g} CPU s | {reached} |",
        f"| from the Experiment's creation to its end | {seconds:.0f} s | | |",
    )
    head = f"{document.machine()}  {trials} trials, {PARALLEL} at a time."
    table = "\n".join(("| what | measured | target | reached |", "|---|---|---|---|", *rows))
    document.update("trials", f"{head}\n\n{table}")


if __name__ == "__main__":
    main(sys.argv[1:])
