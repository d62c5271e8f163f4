"""What is predicted and labelled on a cluster is in the store, whatever happens to the pods meanwhile."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import deployment
from test_first_light import infer

from forwarding import forwarded, store_outside
from live import Kubectl, eventually
from modelmill_contracts import captured
from modelmill_contracts.captured import LABELS, ROWS
from modelmill_contracts.store import Store
from modelmill_contracts.task import StoreLocation

NAME = "triage-captured"
OF_IT = f"modelmill.dev/modeldeployment={NAME}"
TENSOR = {"name": "input", "shape": [2, 30], "datatype": "FP32", "data": [1.5] * 60}
COLUMNS = ["mean_radius", "mean_texture"]


@pytest.fixture(scope="module")
def kept(team: Kubectl) -> Iterator[Kubectl]:
    """Two pods that capture every prediction."""
    capture = {"sample": "1", "columns": COLUMNS}
    team.apply(deployment(NAME, {"name": "triage", "version": 1}, replicas=2, capture=capture))
    team.wait_for("mdep", NAME, "Ready", seconds=120)
    yield team
    team.run("delete", "mdep", NAME)


def label(kubectl: Kubectl, labels: list[dict[str, Any]]) -> bool:
    """Whether they are acknowledged."""
    raw = f"/api/v1/namespaces/{kubectl.namespace}/services/{NAME}:http/proxy/v2/models/{NAME}/labels"
    result = kubectl.run("create", "--raw", raw, "-f", "-", stdin=json.dumps({"labels": labels}), check=False)
    if result.returncode:
        return False
    assert json.loads(result.stdout) == {"written": len(labels), "not_sampled": 0}
    return True


def in_store(kubectl: Kubectl, kind: str) -> list[tuple[Any, list[Any]]]:
    """Header and records of each segment."""
    uid = (kubectl.get("mdep", NAME) or {})["metadata"]["uid"]
    with store_outside(kubectl) as (endpoint, keys):
        store = Store(StoreLocation("s3://models", endpoint), keys)
        found = store.keys(captured.folder(uid, kind))
        return [captured.unpack(store.get(key, captured.MAX_BYTES)) for key in found]


def delete_one(kubectl: Kubectl) -> None:
    pod, *_ = kubectl.list("pods", OF_IT)
    kubectl.run("delete", "pod", pod["metadata"]["name"], "--wait=false")


def test_the_server_has_no_access_to_the_store(kept: Kubectl) -> None:
    for pod in kept.list("pods", OF_IT):
        assert "secretKeyRef" not in json.dumps(pod["spec"]["containers"])
        (sidecar,) = (c for c in pod["spec"]["initContainers"] if c["name"] == "capture")
        assert sidecar["restartPolicy"] == "Always"
        assert "secretKeyRef" in json.dumps(sidecar["env"])


def predict(kubectl: Kubectl, number: int) -> str:
    """The id of a prediction: every second one brings its own."""
    body = {"inputs": [TENSOR], **({"id": f"caller-{number}"} if number % 2 else {})}

    def ask() -> Any:
        try:
            return infer(kubectl, body, NAME)["id"]
        except AssertionError:  # the proxy met a pod that had just gone
            return None

    return str(eventually(ask, "an answer"))


def test_every_prediction_and_each_label_once_with_pods_deleted_meanwhile(kept: Kubectl) -> None:
    ids = []
    for number in range(30):
        if number == 10:
            delete_one(kept)
        ids.append(predict(kept, number))
    assert len(set(ids)) == 30
    expected = {(id_, row): place % 2 for place, id_ in enumerate(ids) for row in range(2)}
    for place, id_ in enumerate(ids):
        if place in (10, 20):
            delete_one(kept)
        labels = [{"id": id_, "row": row, "label": place % 2} for row in range(2)]
        eventually(lambda labels=labels: label(kept, labels), "an acknowledgement")

    def rows() -> bool:
        return {(row.id, row.row) for _, records in in_store(kept, ROWS) for row in records} >= set(expected)

    eventually(rows, "all rows are written", 60)
    for header, records in in_store(kept, ROWS):
        assert (header.version, sorted(header.features)) == ("1", COLUMNS)
        assert all(row.values == (1.5, 1.5) for row in records)
    found: dict[tuple[str, int], Any] = {}
    for _, records in in_store(kept, LABELS):
        for one in sorted(records, key=lambda record: record.at):
            found.setdefault((one.id, one.row), one.label)
    assert found == expected


def test_who_captures_nothing_takes_no_labels(team: Kubectl) -> None:
    with forwarded(team, "service/triage", 80) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v2/models/triage/labels", b'{"labels": []}')
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 404
    assert "spec.capture" in refused.value.read().decode()
