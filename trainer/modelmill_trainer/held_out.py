"""Rows that whoever brings a model kept out of its training: frozen and measured as the test rows of a training here.

A Model's tests are asked on frozen rows, so a packed model that has some goes through the same gates as any other.
That the model has not seen them is its maker's word.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from modelmill_contracts.artifact import NUMERIC_INPUT, Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_trainer import data, frozen, slicing
from modelmill_trainer.calibration import calibration
from modelmill_trainer.confusion import confusion
from modelmill_trainer.data import Data
from modelmill_trainer.evaluation import decimal, known_metrics, measure_part
from modelmill_trainer.failure import TaskError
from modelmill_trainer.frozen import Frozen
from modelmill_trainer.importance import Ask, importance
from modelmill_trainer.version import types_of

_PREDICT = "predict"


class HeldOut(NamedTuple):
    rows: Frozen
    evaluation: Evaluation


def measure(
    table: pa.Table, target: str, slices: Sequence[str], manifest: Manifest, types: Mapping[str, str], ask: Ask
) -> HeldOut:
    """Every metric that these rows define; `types` are those of the features.

    TaskError where the rows do not fit the model, or nobody could ask a server that has it.
    """
    _check_asked(manifest)
    known = types_of(table.schema)
    for name in (*types, target):
        if name not in known:
            raise TaskError("EvaluationColumnMissing", f"--evaluation: {data.absent(name, list(known))}")
    tested = _data(table, target, manifest, types)
    try:
        texts = slicing.columns(table, slices)
    except TaskError as error:
        raise TaskError(error.reason, str(error).replace("evaluation.slices", "--slice")) from error
    try:
        predicted = ask(tested.features, tested.target)
    except Exception as error:
        raise TaskError(
            "RowsRefused", f"--evaluation: the model cannot predict these rows ({type(error).__name__}: {error})"
        ) from error
    metrics = measure_part(predicted, known_metrics(predicted))
    found, left_out = slicing.measured(predicted, list(metrics), texts)
    rows = frozen.freeze(tested, np.arange(table.num_rows), texts)
    evaluated = Evaluation(
        rows=table.num_rows,
        metrics={name: decimal(value) for name, value in metrics.items()},
        slices=found,
        left_out=left_out,
        confusion=confusion(predicted),
        calibration=calibration(predicted),
        importance=importance(ask, tested.features.iloc[rows.rows], tested.target[rows.rows], list(metrics), 0),
    )
    return HeldOut(rows, evaluated)


def _data(table: pa.Table, target: str, manifest: Manifest, types: Mapping[str, str]) -> Data:
    if not table.num_rows:
        raise TaskError("RowsMissing", "--evaluation: the file has no rows")
    features = data.features_of(table, dict(types))
    for feature in manifest.features:
        missing = int(features[feature.name].isna().sum())
        if missing and not feature.missing and feature.type != "String":  # a text that is missing is sent as ""
            raise TaskError(
                "FeatureMissingValues",
                f"--evaluation: {missing} rows have no value in {feature.name!r}, which the model does not take; leave"
                " them out",
            )
    try:
        truth = data.target_of(table, target, classifier=bool(manifest.classes))
    except TaskError as error:
        raise TaskError(error.reason, str(error).replace("data.target", "--target")) from error
    if manifest.classes and not set(map(str, np.unique(truth))) <= set(manifest.classes):
        raise TaskError(
            "TargetUnknown",
            f"--target: {target!r} has labels in the evaluation rows that the model does not know; its classes are"
            f" {', '.join(manifest.classes[:10])} (numbers and truths that are text to the model: --text {target})",
        )
    return Data(features, truth, dict(types), target)


def _check_asked(manifest: Manifest) -> None:
    """Tests send all features as one matrix, or each by its name, and compare the output predict."""
    inputs = {tensor.name for tensor in manifest.inputs}
    columns = {feature.name for feature in manifest.features}
    matrix = inputs == {NUMERIC_INPUT} and manifest.inputs[0].shape[-1] == len(columns)
    if not matrix and inputs != columns:
        raise TaskError(
            "ModelNotTestable",
            f"--evaluation: the model's inputs are {', '.join(sorted(inputs)[:10])}; tests send one input"
            f" {NUMERIC_INPUT!r} of all {len(columns)} features, or one for each by its name: export it like that",
        )
    if _PREDICT not in {tensor.name for tensor in manifest.outputs}:
        raise TaskError(
            "ModelNotTestable",
            f"--evaluation: the model's outputs are {', '.join(tensor.name for tensor in manifest.outputs)}; tests"
            f" compare one that is called {_PREDICT!r}: export it with that name (and predict_proba, if it has"
            " probabilities)",
        )
