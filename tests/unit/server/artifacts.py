"""Artifacts for the tests, made with skl2onnx and the contracts only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelmill_contracts import artifact, digest, profile
from modelmill_contracts.artifact import Feature, File, Manifest, Tensor

_ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@dataclass(frozen=True)
class Made:
    """An artifact folder, its digest, the estimator it came from, and rows that it was trained on."""

    folder: Path
    digest: str
    estimator: Any
    rows: Any


def write(folder: Path, manifest: Manifest) -> str:
    """Complete `manifest` with the files in `folder`, write it there, and give the artifact's digest."""
    files = tuple(
        File(path.name, digest.of_file(path), path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != artifact.MANIFEST
    )
    data = artifact.encode(msgspec.structs.replace(manifest, files=files))
    (folder / artifact.MANIFEST).write_bytes(data)
    return digest.of_bytes(data)


def cancer(folder: Path, *, missing: bool = False) -> Made:
    """A logistic regression over 30 numeric features with int labels."""
    data = load_breast_cancer()
    rows, labels = data.data, data.target
    steps = [SimpleImputer(strategy="median")] if missing else []
    estimator = make_pipeline(*steps, StandardScaler(), LogisticRegression()).fit(rows, labels)
    folder.mkdir(parents=True)
    _write_onnx(folder, estimator, [("input", FloatTensorType([None, 30]))], ["predict", "predict_proba"])
    names = [str(name) for name in data.feature_names]
    _write_profile(folder, names, rows)
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=(Tensor("input", "FP32", (-1, 30)),),
        outputs=(Tensor("predict", "INT64", (-1,)), Tensor("predict_proba", "FP32", (-1, 2))),
        features=tuple(Feature(name, "Float", missing) for name in names),
        classes=("0", "1"),
    )
    return Made(folder, write(folder, manifest), estimator, rows)


def cancer_with_gaps(folder: Path) -> Made:
    """The same, where each feature may be missing."""
    return cancer(folder, missing=True)


def mixed(folder: Path) -> Made:
    """A classifier with string labels over two numeric columns, one of which may be missing, and a string one."""
    import pandas as pd

    rows = pd.DataFrame(
        {
            "age": np.array([20, 30, 40, 50, 60, 70] * 20, np.float32),
            "income": np.array([1.5, 2.5, np.nan, 4.5, 5.5, 6.5] * 20, np.float32),
            "city": ["Bern", "Basel", "Chur", "Bern", "Basel", "Bern"] * 20,
        }
    )
    labels = np.array(["no", "no", "no", "yes", "yes", "yes"] * 20)
    transform = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    estimator = make_pipeline(transform, LogisticRegression()).fit(rows, labels)
    folder.mkdir(parents=True)
    one = [None, 1]
    inputs = [("age", FloatTensorType(one)), ("income", FloatTensorType(one)), ("city", StringTensorType(one))]
    _write_onnx(folder, estimator, inputs, ["predict", "predict_proba"])
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=(
            Tensor("age", "FP32", (-1, 1)),
            Tensor("income", "FP32", (-1, 1)),
            Tensor("city", "BYTES", (-1, 1)),
        ),
        outputs=(Tensor("predict", "BYTES", (-1,)), Tensor("predict_proba", "FP32", (-1, 2))),
        features=(Feature("age", "Float"), Feature("income", "Float", True), Feature("city", "String")),
        classes=("no", "yes"),
    )
    return Made(folder, write(folder, manifest), estimator, rows)


def regression(folder: Path) -> Made:
    """A linear regression over three features; its only output is `predict`, [rows, 1] as skl2onnx makes it."""
    rows = np.arange(30, dtype=np.float64).reshape(10, 3) ** 1.5
    estimator = LinearRegression().fit(rows, rows @ [1.0, -2.0, 0.5] + 3)
    folder.mkdir(parents=True)
    _write_onnx(folder, estimator, [("input", FloatTensorType([None, 3]))], ["predict"])
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=(Tensor("input", "FP32", (-1, 3)),),
        outputs=(Tensor("predict", "FP32", (-1, 1)),),
        features=tuple(Feature(name, "Float") for name in ("a", "b", "c")),
    )
    return Made(folder, write(folder, manifest), estimator, rows)


def boosted(folder: Path) -> Made:
    """A gradient boosting that is served by skops."""
    from skops import io

    data = load_breast_cancer()
    estimator = HistGradientBoostingClassifier(max_iter=5, early_stopping=False).fit(data.data, data.target)
    folder.mkdir(parents=True)
    io.dump(estimator, folder / artifact.SKOPS)
    manifest = Manifest(
        runtime="skops",
        files=(),
        inputs=(Tensor("input", "FP32", (-1, 30)),),
        outputs=(Tensor("predict", "INT64", (-1,)), Tensor("predict_proba", "FP32", (-1, 2))),
        features=tuple(Feature(str(name), "Float", True) for name in data.feature_names),
        classes=("0", "1"),
    )
    return Made(folder, write(folder, manifest), estimator, data.data)


def every_datatype(folder: Path) -> Made:
    """A model that gives each of its inputs back, [-1, 2], one for each datatype; its estimator is None."""
    folder.mkdir(parents=True)
    names = [datatype.lower() for datatype in _ONNX_TYPES]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    ends = [
        [
            helper.make_tensor_value_info(f"{name}{suffix}", kind, [None, 2])
            for name, kind in zip(names, _ONNX_TYPES.values(), strict=True)
        ]
        for suffix in ("", "_out")
    ]
    _write_graph(folder, nodes, *ends)
    tensors = [(name, datatype, (-1, 2)) for name, datatype in zip(names, _ONNX_TYPES, strict=True)]
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=tuple(Tensor(*tensor) for tensor in tensors),
        outputs=tuple(Tensor(f"{name}_out", datatype, shape) for name, datatype, shape in tensors),
    )
    return Made(folder, write(folder, manifest), None, None)


def one_column(folder: Path) -> Made:
    """A model of one whole number that may be missing, with an output that does not belong to rows."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Identity", ["n"], ["same"]),
        helper.make_node("ReduceSum", ["n"], ["total"], keepdims=0),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in ("n", "same")]
    total = helper.make_tensor_value_info("total", TensorProto.INT64, [])
    _write_graph(folder, nodes, ends[:1], [ends[1], total])
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=(Tensor("n", "INT64", (-1,)),),
        outputs=(Tensor("same", "INT64", (-1,)), Tensor("total", "INT64", ())),
        features=(Feature("n", "Integer", True),),
    )
    return Made(folder, write(folder, manifest), None, None)


def nameless(folder: Path) -> Made:
    """A model of three float64 without names, as somebody may bring it: it gives them back as float16."""
    folder.mkdir(parents=True)
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)]
    ends = [
        [helper.make_tensor_value_info(name, kind, [None, 3])]
        for name, kind in (("x", TensorProto.DOUBLE), ("y", TensorProto.FLOAT16))
    ]
    _write_graph(folder, nodes, *ends)
    manifest = Manifest(
        runtime="onnx",
        files=(),
        inputs=(Tensor("x", "FP64", (-1, 3)),),
        outputs=(Tensor("y", "FP16", (-1, 3)),),
    )
    return Made(folder, write(folder, manifest), None, None)


def _write_graph(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / artifact.ONNX).write_bytes(model.SerializeToString())


def _write_onnx(folder: Path, estimator: Any, inputs: list[Any], outputs: list[str]) -> None:

    classifier = hasattr(estimator, "predict_proba")
    options = {"zipmap": False} if classifier else None
    model = to_onnx(estimator, initial_types=inputs, options=options)
    for node_output, name in zip(model.graph.output, outputs, strict=True):
        for node in model.graph.node:
            for index, output in enumerate(node.output):
                if output == node_output.name:
                    node.output[index] = name
            for index, value in enumerate(node.input):
                if value == node_output.name:
                    node.input[index] = name
        node_output.name = name
    (folder / artifact.ONNX).write_bytes(model.SerializeToString())


def _write_profile(folder: Path, names: list[str], rows: Any) -> None:
    features = []
    for name, values in zip(names, rows.T, strict=True):
        edges = np.quantile(values, [0.25, 0.5, 0.75]).astype(np.float32)
        counts = np.bincount(np.searchsorted(edges, values.astype(np.float32)), minlength=4)
        features.append(profile.Numeric(name, tuple(float(e) for e in edges), tuple(int(c) for c in counts)))
    known = profile.Profile(len(rows), tuple(features), profile.Categorical("predict", ("0", "1"), (212, 357)))
    (folder / artifact.PROFILE).write_bytes(msgspec.json.encode(known))
