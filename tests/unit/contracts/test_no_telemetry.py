"""Nothing that our programs use reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_USE = """
import importlib, sys, time
importlib.import_module(sys.argv[1])
import numpy, onnxruntime
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": numpy.ones(1, "float32")})
time.sleep(0.5)
"""


@pytest.mark.parametrize("package", ["modelmill_server", "modelmill_trainer"])
def test_onnxruntime_keeps_nothing_to_be_reported(tmp_path: Path, package: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run(
        [sys.executable, "-c", _USE, package], check=True, timeout=60, env={**environment, "HOME": str(tmp_path)}
    )
    assert not list(tmp_path.rglob("*"))
