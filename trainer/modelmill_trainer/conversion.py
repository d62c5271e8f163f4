"""Conversion: a fitted pipeline to ONNX in float32, believed only after it agreed with scikit-learn on real rows.

A model whose features are all numbers has one input `input` of shape [-1, features]; otherwise each feature is
an input [-1, 1] with the column's name.  The rows are sent as a server gets them, in float32, and compared
with what scikit-learn, which computes in float64, says to them.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime
import pandas as pd
import skl2onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.base import is_classifier, is_clusterer, is_outlier_detector
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline

from modelmill_contracts.artifact import NUMERIC_INPUT, Conversion, Tensor
from modelmill_trainer import converters, graph, stitching

TOLERANCE = 1e-4  # of probabilities; of predictions in units of the target's standard deviation
MAX_TRAIN_ROWS = 10_000  # that are compared, next to all test rows
OPSETS = {"": 21, "ai.onnx.ml": 3}
_BATCH = 1000
_ALONE = 16  # rows that are also sent one by one, as most callers do
Way = Literal["float", "stitched", "double"]


class NotConvertibleError(Exception):
    """The model cannot be served as ONNX; the text says why, without values of the data."""


class DiffersError(NotConvertibleError):
    """It can, but its answers would not be those of scikit-learn."""


class Converted(NamedTuple):
    model: bytes
    session: Any  # onnxruntime.InferenceSession
    conversion: Conversion


def convert(pipeline: Pipeline, types: Mapping[str, str], rows: pd.DataFrame, spread: float) -> Converted:
    """The faithful ONNX model of the pipeline; NotConvertibleError where there is none.

    `rows` are the features to compare on, `spread` the standard deviation of a regressor's target.
    """
    failures = []
    expected = expect(pipeline, rows)
    for way in _ways(pipeline):
        try:
            return _convert(pipeline, types, rows, expected, spread, way)
        except NotConvertibleError as error:
            failures.append(error)
    # What differs says more than what could not be tried at all.
    raise next((error for error in failures if isinstance(error, DiffersError)), failures[0])


def _ways(pipeline: Pipeline) -> tuple[Way, ...]:
    """How to compute, the fastest first that may agree with scikit-learn.

    Where thresholds are compared, what is before them is computed in float64 (see `stitching`); a model that
    is not faithful in float32 may still be in float64.
    """
    if len(pipeline.steps) == 1:
        return ("float", "double")
    module = type(pipeline.steps[-1][1]).__module__
    compares = any(word in module for word in ("tree", "ensemble", "xgboost", "lightgbm"))
    return ("stitched", "float", "double") if compares else ("float", "stitched", "double")


def _convert(
    pipeline: Pipeline,
    types: Mapping[str, str],
    rows: pd.DataFrame,
    expected: list[Any],
    spread: float,
    way: Way,
) -> Converted:
    wanted = outputs(pipeline, expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converters' own upkeep
            model = _export(pipeline, types, rows, wanted, way)
    except NotConvertibleError:
        raise
    except Exception as error:
        # skl2onnx and onnx raise whatever comes; their texts may hold the model's numbers.
        reason = f"{name_of(pipeline)} cannot be converted to ONNX ({_kind(error)})"
        raise NotConvertibleError(reason) from error
    try:
        session = start(model)
        conversion = _compare(pipeline, session, types, rows, expected, spread)
    except NotConvertibleError:
        raise
    except Exception as error:
        raise NotConvertibleError(f"onnxruntime cannot run the converted model ({type(error).__name__})") from error
    if conversion.label_differences or not conversion.max_difference <= conversion.tolerance:
        raise DiffersError(
            f"the converted model differs from scikit-learn on {len(rows)} rows: {conversion.label_differences} other"
            f" labels, probabilities or predictions by up to {conversion.max_difference:.3g} (allowed"
            f" {conversion.tolerance:g})"
        )
    return Converted(model, session, conversion)


def _kind(error: Exception) -> str:
    return "no converter" if isinstance(error, MissingShapeCalculator | MissingConverter) else type(error).__name__


def without_search(pipeline: Pipeline) -> Pipeline:
    """The pipeline with what a search (GridSearchCV and its like) found in the place of the search."""
    *before, (name, last) = pipeline.steps
    return Pipeline([*before, (name, last.best_estimator_)]) if hasattr(last, "best_estimator_") else pipeline


def inputs(types: Mapping[str, str]) -> tuple[Tensor, ...]:
    """What the model takes, by its features' types."""
    if "String" not in types.values():
        return (Tensor(NUMERIC_INPUT, "FP32", (-1, len(types))),)
    return tuple(Tensor(name, "BYTES" if kind == "String" else "FP32", (-1, 1)) for name, kind in types.items())


def methods(pipeline: Pipeline) -> tuple[str, ...]:
    """What is asked of the estimator, which is what the model answers."""
    second = "predict_proba" if is_classifier(pipeline) else "decision_function"
    if (is_classifier(pipeline) or is_outlier_detector(pipeline)) and hasattr(pipeline, second):
        return ("predict", second)
    return ("predict",)


def outputs(pipeline: Pipeline, expected: list[Any]) -> tuple[Tensor, ...]:
    """What the model gives; `expected` is what scikit-learn answers to some rows."""
    found = []
    for name, answer in zip(methods(pipeline), expected, strict=True):
        datatype = "FP32"
        if name == "predict" and is_labels(pipeline):
            datatype = "BYTES" if answer.dtype.kind in "UO" else "INT64"
        found.append(Tensor(name, datatype, (-1, *answer.shape[1:])))
    return tuple(found)


def is_labels(pipeline: Pipeline) -> bool:
    """Whether the model predicts one of a few labels, and not a number."""
    return bool(is_classifier(pipeline) or is_clusterer(pipeline) or is_outlier_detector(pipeline))


def feed(types: Mapping[str, str], rows: pd.DataFrame) -> dict[str, Any]:
    """The rows as a server hands them to the model: float32, or text with "" for a missing one."""
    with np.errstate(over="ignore"):
        if "String" not in types.values():
            return {NUMERIC_INPUT: rows.to_numpy(np.float32)}
        return {
            name: rows[[name]].astype(object).fillna("").to_numpy(object)
            if kind == "String"
            else rows[[name]].to_numpy(np.float32)
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


def _export(
    pipeline: Pipeline, types: Mapping[str, str], rows: pd.DataFrame, wanted: tuple[Tensor, ...], way: Way
) -> bytes:
    columns: dict[str, str] = {}
    number = FloatTensorType if way == "float" else DoubleTensorType
    if "String" in types.values():
        taken = [tensor.name for tensor in wanted if tensor.name in types]
        if taken:
            raise NotConvertibleError(f"a feature is called {taken[0]}, as an output is; rename it")
        # Names that skl2onnx leaves alone; it would rename 'mean radius'.
        columns = {f"column{position}": name for position, name in enumerate(types)}
        kinds = [StringTensorType if kind == "String" else number for kind in types.values()]
        initial = [(name, kind([None, 1])) for name, kind in zip(columns, kinds, strict=True)]
    else:
        initial = [(NUMERIC_INPUT, number([None, len(types)]))]
    last = pipeline.steps[-1][1]
    converters.register()
    if way == "stitched":
        before = skl2onnx.convert_sklearn(pipeline[:-1], name="before", initial_types=initial, target_opset=OPSETS)
        width = pipeline[:-1].transform(rows.head(1)).shape[1]
        predictor = _predictor(last, last, [(stitching.FEATURES, FloatTensorType([None, width]))])
        model = stitching.stitch(before, predictor)
    else:
        model = _predictor(pipeline, last, initial)
    if way == "double":
        stitching.widen(model)
    return graph.finish(model, columns, wanted)


def _predictor(estimator: Any, last: Any, initial: list[tuple[str, Any]]) -> Any:
    """The ONNX model of an estimator (a pipeline, or only its `last` step)."""
    asked: dict[str, Any] = {"name": "model", "initial_types": initial, "target_opset": OPSETS}
    try:
        model = skl2onnx.convert_sklearn(estimator, **asked, options={"zipmap": False} if is_classifier(last) else None)
    except NameError:  # skl2onnx's word for an option that the estimator does not have
        model = skl2onnx.convert_sklearn(estimator, **asked, options={id(last): {}})
    if isinstance(last, RandomForestClassifier | ExtraTreesClassifier):
        values = [tree.tree_.value for tree in last.estimators_]
        shares = np.concatenate([(value / value.sum(axis=-1, keepdims=True)).ravel() for value in values])
        graph.count_votes_exactly(model, len(last.estimators_), shares)
    return model


def _compare(
    pipeline: Pipeline,
    session: Any,
    types: Mapping[str, str],
    rows: pd.DataFrame,
    expected: list[Any],
    spread: float,
) -> Conversion:
    names, sent = methods(pipeline), feed(types, rows)
    pieces = [slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH)]
    alone = [slice(row, row + 1) for row in range(min(_ALONE, len(rows)))]
    differences, worst = 0, 0.0
    scale = scale_of(pipeline, expected, spread)
    for piece in (*pieces, *alone):
        answer = session.run(names, {name: value[piece] for name, value in sent.items()})
        labels, distance = difference(pipeline, answer, [value[piece] for value in expected], scale)
        differences, worst = differences + labels, max(worst, distance)
    return Conversion(len(rows), TOLERANCE, float(f"{worst:.3g}"), differences)


def expect(pipeline: Pipeline, rows: pd.DataFrame) -> list[Any]:
    """What scikit-learn answers, in the order of `outputs`."""
    return [np.asarray(getattr(pipeline, name)(rows)) for name in methods(pipeline)]


def scale_of(pipeline: Pipeline, expected: list[Any], spread: float) -> float:
    """The unit of differences: 1 for probabilities, the spread for predictions, that of the scores for outliers."""
    if is_outlier_detector(pipeline):
        return float(np.std(expected[-1])) or 1.0
    return 1.0 if is_labels(pipeline) else spread or 1.0


def difference(pipeline: Pipeline, found: list[Any], expected: list[Any], scale: float) -> tuple[int, float]:
    """How many labels differ, and the largest distance of all else in units of `scale`."""
    for one, other in zip(found, expected, strict=True):
        if np.shape(one) != np.shape(other):
            raise NotConvertibleError(
                f"the converted model answers with shape {np.shape(one)} instead of {np.shape(other)}"
            )
    labels = 0
    if is_labels(pipeline):
        labels = int(np.sum(np.asarray(found[0]).astype(expected[0].dtype) != expected[0]))
        found, expected = found[1:], expected[1:]
    return labels, max((_largest(*pair) / scale for pair in zip(found, expected, strict=True)), default=0.0)


def _largest(one: Any, other: Any) -> float:
    if not np.isfinite(one).all():
        return float("inf")
    return float(np.max(np.abs(np.asarray(one, np.float64) - other), initial=0.0))
