"""The server's image by itself: `docker run IMAGE FOLDER` sets no command, no user, no address to listen on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import gone, namespace
from onnx import TensorProto, helper

from live import Kubectl

IMAGE = "modelmill/model-server:dev"
FOLDER = "/models/sums"


@pytest.fixture
def alone(system: Kubectl) -> Iterator[Kubectl]:
    kubectl = namespace(system, "image", store=False)
    yield kubectl
    gone(system, kubectl)


def sums(path: Path) -> Path:
    """A bare ONNX file: the sum of three numbers."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", n]) for name, n in (("input", 3), ("sum", 1))
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [helper.make_node("ReduceSum", ["input", "axes"], ["sum"], keepdims=1)]
    graph = helper.make_graph(nodes, "sums", ends[:1], ends[1:], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_it_serves_the_folder_that_it_is_given(alone: Kubectl, tmp_path: Path) -> None:
    alone.run("create", "configmap", "sums", f"--from-file={sums(tmp_path / 'model.onnx')}")
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "server",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [FOLDER],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        # A file alone, as a folder of Docker's holds it: a ConfigMap's folder is made of links.
        "volumeMounts": [{"name": "model", "mountPath": f"{FOLDER}/model.onnx", "subPath": "model.onnx"}],
        "securityContext": restricted,
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "model", "configMap": {"name": "sums"}}],
        "automountServiceAccountToken": False,
        # Kubernetes believes a number only: the image's own user must be one, and not root.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
    }
    alone.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sums"}, "spec": spec})
    alone.run("wait", "--for=condition=Ready", "pod/sums", "--timeout=180s")
    body = {"inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 4.0]}]}
    raw = f"/api/v1/namespaces/{alone.namespace}/pods/sums:8080/proxy/v2/models/sums/infer"
    answer = json.loads(alone.run("create", "--raw", raw, "-f", "-", stdin=json.dumps(body)).stdout)
    assert answer["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [1, 1], "data": [7.0]}]
