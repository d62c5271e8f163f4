"""Progress through a whole operator process: a training's pod is asked, and what it answers is in the status."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Operator
from test_operator import DIGEST, end_job, with_store

from live import API_VERSION, Kubectl, eventually
from modelmill_contracts import environment, progress, report

ADDRESS = "127.0.90.1"  # on this machine's loopback, where the operator runs too


class Pod(ThreadingHTTPServer):
    """What a training's pod answers."""

    def __init__(self) -> None:
        super().__init__((ADDRESS, environment.METRICS_PORT), _Handler)
        self.says: dict[str, Any] = {}
        self.asked = 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Pod)
        self.server.asked += 1
        found = self.path == progress.PATH and "Authorization" not in self.headers
        body = json.dumps(self.server.says).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Pod() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def starts(kubectl: Kubectl, job: str) -> None:
    """Play the kubelet: the Job's pod runs at that address."""
    selector = f"batch.kubernetes.io/job-name={job}"

    def seen_by_the_scheduler() -> dict[str, Any] | None:
        """Before it has written that there is no node, it would write over what is written here."""
        return next((p for p in kubectl.list("pods", selector) if p["status"].get("conditions")), None)

    found = eventually(seen_by_the_scheduler, f"a pod of {job}")
    container = {"name": "trainer", "ready": True, "restartCount": 0, "image": "i", "imageID": "i"}
    running = {**container, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    status = {"phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "containerStatuses": [running]}
    kubectl.patch_status("pod", found["metadata"]["name"], status)


def test_what_a_pod_says_of_its_training_is_shown_while_it_runs(
    kubectl: Kubectl, operator: Callable[..., Operator], pod: Pod
) -> None:
    operator().active()
    with_store(kubectl)
    source = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}
    kubectl.apply({"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "tumours"}, "spec": source})
    snapshot = report.SnapshotResult("sha256:" + "a" * 64, "sha256:" + "b" * 64, 569, 31)
    end_job(kubectl, "tumours-data", report.Report(True, "SnapshotTaken", result=snapshot))
    spec = {
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
        "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
    }
    kubectl.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "lr"}, "spec": spec})

    def says() -> dict[str, Any]:
        found: dict[str, Any] = (kubectl.get("tjob", "lr") or {}).get("status", {}).get("progress", {})
        return found

    pod.says = {"percent": 40.5, "phase": "fold", "metrics": {"roc_auc": 0.98765432, "loss": 1e300}}
    starts(kubectl, "lr-train")
    eventually(lambda: says().get("percent") == 40, "it is at 40 %", 90, lambda: kubectl.describe("tjob", "lr"))
    assert says() == {
        "percent": 40,
        "phase": "fold",
        "metrics": [{"name": "roc_auc", "value": "0.987654"}],
        "at": says()["at"],
    }
    assert "40" in kubectl.output("get", "tjob", "lr", "--no-headers").split()
    pod.says = {"percent": 70}
    asked = pod.asked
    eventually(lambda: says().get("percent") == 70, "it is at 70 %", 90, lambda: kubectl.describe("tjob", "lr"))
    assert pod.asked <= asked + 2
    pod.says = {"percent": "all"}
    training = report.TrainingResult(
        "sha256:" + "c" * 64, DIGEST, "s3://models/artifacts/x", "onnx", (report.Metric("roc_auc", "0.99"),)
    )
    end_job(kubectl, "lr-train", report.Report(True, "TrainingSucceeded", result=training))
    kubectl.run("wait", "--for=condition=Succeeded", "tjob/lr", "--timeout=30s")
    assert says() == {}
