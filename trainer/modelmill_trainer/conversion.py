"""Conversion: a fitted pipeline to ONNX in float32, believed only after it agreed with scikit-learn on real rows.

A model whose features are all numbers has one input `input` of shape [-1, features]; otherwise each feature is
an input [-1, 1] with the column's name.  The rows are sent as a server gets them, in float32, and compared
with what scikit-learn, which computes in float64, says to them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pandas as pd
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.base import is_classifier
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline

from modelmill_contracts.artifact import NUMERIC_INPUT, Conversion, Tensor
from modelmill_trainer import graph, stitching

TOLERANCE = 1e-4  # of probabilities; of predictions in units of the target's standard deviation
MAX_TRAIN_ROWS = 10_000  # that are compared, next to all test rows
OPSETS = {"": 21, "ai.onnx.ml": 3}
_BATCH = 1000
_ALONE = 16  # rows that are also sent one by one, as most callers do
_RESERVED = (graph.PREDICT, graph.PROBABILITIES)


class NotConvertibleError(Exception):
    """The model cannot be served as ONNX; the text says why, without values of the data."""


class Converted(NamedTuple):
    model: bytes
    session: Any  # onnxruntime.InferenceSession
    conversion: Conversion


def convert(pipeline: Pipeline, types: Mapping[str, str], rows: pd.DataFrame, spread: float) -> Converted:
    """The faithful ONNX model of the pipeline; NotConvertibleError where there is none.

    `rows` are the features to compare on, `spread` the standard deviation of a regressor's target.
    """
    failures = []
    for double in _ways(pipeline):
        try:
            return _convert(pipeline, types, rows, spread, double=double)
        except NotConvertibleError as error:
            failures.append(error)
    raise failures[0]


def _ways(pipeline: Pipeline) -> tuple[bool, ...]:
    """Whether to preprocess in float64: first where thresholds are compared, as a second try elsewhere."""
    if len(pipeline.steps) == 1:
        return (False,)
    compares = "tree" in type(pipeline.steps[-1][1]).__module__ or "ensemble" in type(pipeline.steps[-1][1]).__module__
    return (True, False) if compares else (False, True)


def _convert(
    pipeline: Pipeline, types: Mapping[str, str], rows: pd.DataFrame, spread: float, *, double: bool
) -> Converted:
    try:
        model = _export(pipeline, types, rows, double=double)
    except NotConvertibleError:
        raise
    except Exception as error:
        # skl2onnx and onnx raise whatever comes; their texts may hold the model's numbers.
        reason = f"{name_of(pipeline)} cannot be converted to ONNX ({type(error).__name__})"
        raise NotConvertibleError(reason) from error
    try:
        session = start(model)
        conversion = _compare(pipeline, session, types, rows, spread)
    except NotConvertibleError:
        raise
    except Exception as error:
        raise NotConvertibleError(f"onnxruntime cannot run the converted model ({type(error).__name__})") from error
    if conversion.label_differences or not conversion.max_difference <= conversion.tolerance:
        raise NotConvertibleError(
            f"the converted model differs from scikit-learn on {len(rows)} rows: {conversion.label_differences} other"
            f" labels, probabilities or predictions by up to {conversion.max_difference:.3g} (allowed"
            f" {conversion.tolerance:g})"
        )
    return Converted(model, session, conversion)


def inputs(types: Mapping[str, str]) -> tuple[Tensor, ...]:
    """What the model takes, by its features' types."""
    if "String" not in types.values():
        return (Tensor(NUMERIC_INPUT, "FP32", (-1, len(types))),)
    return tuple(Tensor(name, "BYTES" if kind == "String" else "FP32", (-1, 1)) for name, kind in types.items())


def outputs(pipeline: Pipeline) -> tuple[Tensor, ...]:
    """What the model gives."""
    if not is_classifier(pipeline):
        return (Tensor(graph.PREDICT, "FP32", (-1,)),)
    label = Tensor(graph.PREDICT, "BYTES" if pipeline.classes_.dtype.kind in "UO" else "INT64", (-1,))
    if not hasattr(pipeline, "predict_proba"):
        return (label,)
    return (label, Tensor(graph.PROBABILITIES, "FP32", (-1, len(pipeline.classes_))))


def feed(types: Mapping[str, str], rows: pd.DataFrame) -> dict[str, Any]:
    """The rows as a server hands them to the model: float32, or text with "" for a missing one."""
    with np.errstate(over="ignore"):
        if "String" not in types.values():
            return {NUMERIC_INPUT: rows.to_numpy(np.float32)}
        return {
            name: rows[[name]].fillna("").to_numpy(object) if kind == "String" else rows[[name]].to_numpy(np.float32)
            for name, kind in types.items()
        }


def start(model: bytes) -> Any:
    """A session on one thread, as the server makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def name_of(pipeline: Pipeline) -> str:
    return " -> ".join(type(step).__name__ for _, step in pipeline.steps)


def _export(pipeline: Pipeline, types: Mapping[str, str], rows: pd.DataFrame, *, double: bool) -> bytes:
    columns: dict[str, str] = {}
    number = DoubleTensorType if double else FloatTensorType
    if "String" in types.values():
        if any(name in _RESERVED for name in types):
            raise NotConvertibleError(
                f"a feature is called {graph.PREDICT} or {graph.PROBABILITIES}, as an output is; rename it"
            )
        # Names that skl2onnx leaves alone; it would rename 'mean radius'.
        columns = {f"column{position}": name for position, name in enumerate(types)}
        kinds = [StringTensorType if kind == "String" else number for kind in types.values()]
        initial = [(name, kind([None, 1])) for name, kind in zip(columns, kinds, strict=True)]
    else:
        initial = [(NUMERIC_INPUT, number([None, len(types)]))]
    last = pipeline.steps[-1][1]
    if double:
        before = skl2onnx.convert_sklearn(pipeline[:-1], name="before", initial_types=initial, target_opset=OPSETS)
        width = pipeline[:-1].transform(rows.head(1)).shape[1]
        predictor = _predictor(last, last, [(stitching.FEATURES, FloatTensorType([None, width]))])
        model = stitching.stitch(before, predictor)
    else:
        model = _predictor(pipeline, last, initial)
    labels = None
    if is_classifier(pipeline):
        labels = TensorProto.STRING if pipeline.classes_.dtype.kind in "UO" else TensorProto.INT64
    return graph.finish(model, columns, probabilities=len(outputs(pipeline)) > 1, labels=labels)


def _predictor(estimator: Any, last: Any, initial: list[tuple[str, Any]]) -> Any:
    """The ONNX model of an estimator (a pipeline, or only its `last` step)."""
    asked: dict[str, Any] = {"name": "model", "initial_types": initial, "target_opset": OPSETS}
    try:
        model = skl2onnx.convert_sklearn(estimator, **asked, options={"zipmap": False} if is_classifier(last) else None)
    except NameError:  # skl2onnx's word for an option that the estimator does not have
        model = skl2onnx.convert_sklearn(estimator, **asked)
    if isinstance(last, RandomForestClassifier | ExtraTreesClassifier):
        values = [tree.tree_.value for tree in last.estimators_]
        shares = np.concatenate([(value / value.sum(axis=-1, keepdims=True)).ravel() for value in values])
        graph.count_votes_exactly(model, len(last.estimators_), shares)
    return model


def _compare(
    pipeline: Pipeline, session: Any, types: Mapping[str, str], rows: pd.DataFrame, spread: float
) -> Conversion:
    names = [output.name for output in outputs(pipeline)]
    sent = feed(types, rows)
    pieces = [slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH)]
    alone = [slice(row, row + 1) for row in range(min(_ALONE, len(rows)))]
    differences, worst = 0, 0.0
    expected = expect(pipeline, rows)
    for piece in (*pieces, *alone):
        answer = session.run(names, {name: value[piece] for name, value in sent.items()})
        labels, distance = difference(pipeline, answer, [value[piece] for value in expected], spread)
        differences, worst = differences + labels, max(worst, distance)
    return Conversion(len(rows), TOLERANCE, float(f"{worst:.3g}"), differences)


def expect(pipeline: Pipeline, rows: pd.DataFrame) -> list[Any]:
    """What scikit-learn answers, in the order of `outputs`."""
    answers = [pipeline.predict(rows)]
    if len(outputs(pipeline)) > 1:
        answers.append(pipeline.predict_proba(rows))
    return answers


def difference(pipeline: Pipeline, found: list[Any], expected: list[Any], spread: float) -> tuple[int, float]:
    """How many labels differ, and the largest distance of probabilities, or of predictions over the spread."""
    for one, other in zip(found, expected, strict=True):
        if np.shape(one) != np.shape(other):
            raise NotConvertibleError(
                f"the converted model answers with shape {np.shape(one)} instead of {np.shape(other)}"
            )
    if not is_classifier(pipeline):
        return 0, _largest(found[0], expected[0]) / (spread or 1.0)
    labels = int(np.sum(np.asarray(found[0]).astype(expected[0].dtype) != expected[0]))
    return labels, _largest(found[1], expected[1]) if len(found) > 1 else 0.0


def _largest(one: Any, other: Any) -> float:
    if not np.isfinite(one).all():
        return float("inf")
    return float(np.max(np.abs(np.asarray(one, np.float64) - other), initial=0.0))
