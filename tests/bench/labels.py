"""Labels while pods and the store go, on the local cluster: `python -m tests.bench.labels [--least N]`.

Two pods capture every prediction.  Clients in a pod of their own (examples/loop/callers.py) say of each what was true,
and say it again until it is acknowledged.  Meanwhile the pods are deleted in turn, and for a minute there is no store.
In the end the store has each acknowledged label once, and a Dataset each of them with its row.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.bench import document
from tests.bench.cluster import place
from tests.live import API_VERSION, ROOT, Kubectl, eventually

sys.path.append(str(ROOT / "tests"))  # where the end-to-end tests have it from
from forwarding import store_outside
from modelmill_contracts import captured
from modelmill_contracts.store import Store
from modelmill_contracts.task import StoreLocation

NAMESPACE = "bench-labels"
NAME = "clinic"
OF_IT = f"modelmill.dev/modeldeployment={NAME}"
LEAST = 100_000
CLIENTS = 8
_BETWEEN = 40.0  # seconds from one deleted pod to the next
_STORE_AWAY = 60.0  # seconds
_ROWS_SECONDS = 90  # in which pods have written what they hold


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def prepare(kubectl: Kubectl) -> None:
    csv = ROOT / "examples/breast-cancer/breast-cancer.csv"
    kubectl.run("create", "configmap", "tumours", f"--from-file={csv}")
    kubectl.run("create", "configmap", "callers", f"--from-file={ROOT / 'examples/loop/callers.py'}")
    kubectl.apply_file("examples/breast-cancer/dataset.yaml")
    kubectl.apply_file("examples/loop/first.yaml")
    spec = {"model": {"name": NAME}, "replicas": 2, "capture": {"sample": "1", "retention": "24h"}}
    kubectl.apply(_object("ModelDeployment", NAME, spec))
    kubectl.run("wait", "--for=condition=Ready", f"mdep/{NAME}", "--timeout=240s")


def ask(kubectl: Kubectl) -> None:
    """The clients begin."""
    text = (ROOT / "examples/loop/callers.yaml").read_text()
    assert '"4"]' in text, "examples/loop/callers.yaml says otherwise how many clients there are"
    kubectl.run("apply", "-f", "-", stdin=text.replace('"4"]', f'"{CLIENTS}"]'))
    kubectl.run("wait", "--for=condition=Ready", "pod/callers", "--timeout=90s")


def disturb(kubectl: Kubectl, seconds: float) -> Iterator[str]:
    """What happens to the others for so long: what was done, one by one."""
    ends = time.monotonic() + seconds
    for number in range(1, sys.maxsize):
        time.sleep(_BETWEEN)
        if time.monotonic() > ends:
            return
        if number == 3:
            kubectl.run("scale", "deployment/store", "--replicas=0")
            time.sleep(_STORE_AWAY)
            kubectl.run("scale", "deployment/store", "--replicas=1")
            yield "store"
        else:
            pods = sorted(kubectl.list("pods", OF_IT), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
            kubectl.run("delete", "pod", pods[0]["metadata"]["name"], "--wait=false")
            yield "pod"


def stored(kubectl: Kubectl) -> tuple[int, int]:
    """Labels in the store, and different ones."""
    uid = (kubectl.get("mdep", NAME) or {})["metadata"]["uid"]
    with store_outside(kubectl) as (endpoint, keys):
        store = Store(StoreLocation("s3://models", endpoint), keys)
        folder = captured.folder(uid, captured.LABELS)
        segments = [captured.unpack(store.get(key, captured.MAX_BYTES))[1] for key in store.keys(folder)]
    every = [(label.id, label.row) for segment in segments for label in segment]
    return len(every), len(set(every))


def read(kubectl: Kubectl) -> int:
    """The rows of a Dataset of what was predicted and labelled."""
    source = {"deployment": {"name": NAME, "labels": "Required", "since": "12h", "target": "benign"}}
    kubectl.apply(_object("Dataset", "seen", {"source": source}))
    kubectl.run("wait", "--for=condition=Ready", "dset/seen", "--timeout=300s")
    return int((kubectl.get("dset", "seen") or {})["status"]["rows"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=int, default=LEAST, help="labels (%(default)s)")
    parser.add_argument("--seconds", type=float, default=400, help="of disturbances (%(default)s)")
    options = parser.parse_args([] if arguments is None else arguments)
    with place(NAMESPACE) as (_, kubectl):
        prepare(kubectl)
        ask(kubectl)
        done = []
        for what in disturb(kubectl, options.seconds):
            done.append(what)
            print(f"{len(done)}: the {what} went, and came back", flush=True)
        eventually(lambda: stored(kubectl)[1] >= options.least, f"{options.least:,} labels", 900)
        kubectl.run("exec", "callers", "--", "touch", "/tmp/stop")
        eventually(
            lambda: (kubectl.get("pod", "callers") or {}).get("status", {}).get("phase") == "Succeeded",
            "the clients end", 120, lambda: kubectl.output("logs", "callers"),
        )  # fmt: skip
        said = json.loads(kubectl.output("logs", "callers").splitlines()[-1])
        time.sleep(_ROWS_SECONDS)
        every, different = stored(kubectl)
        rows = read(kubectl)
    acknowledged, others = said["labels"].pop("acknowledged"), said["labels"]
    lines = (
        ("predictions, lost ones", f"{said['requests']:,}, {said['lost']}", "", ""),
        ("pods deleted, minutes without the store", f"{done.count('pod')}, {done.count('store')}", "", ""),
        ("labels that were acknowledged", f"{acknowledged:,}", f">= {options.least:,}", acknowledged >= options.least),
        ("requests with labels that were not, and were made again", json.dumps(others), "", ""),
        (
            "different labels in the store",
            f"{different:,} of {every:,}",
            f"{acknowledged:,}",
            different == acknowledged,
        ),
        ("rows with labels in a Dataset of them", f"{rows:,}", f"{acknowledged:,}", rows == acknowledged),
    )
    cells = ((*rest, {True: "yes", False: "**no**"}.get(reached, "")) for *rest, reached in lines)
    table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in cells)
    document.update(
        "labels", f"{document.machine()}\n\n| what | measured | wanted | reached |\n|---|---|---|---|\n{table}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
