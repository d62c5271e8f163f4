"""Training data: a snapshot from the store, verified, to features and target as scikit-learn takes them."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import captured
from modelmill_contracts.report import Problem
from modelmill_contracts.store import Store
from modelmill_contracts.task import PartsTask, TrainingTask
from modelmill_trainer import fetching, pipeline
from modelmill_trainer.failure import TaskError
from modelmill_trainer.version import types_of, version_of

_NUMERIC = ("Float", "Integer", "Boolean")


class Data(NamedTuple):
    features: pd.DataFrame  # [rows, features]: float64 of 32 bits' precision, or object of str; missing: NaN
    target: Any  # [rows]: int64 or str labels of a classifier, float64 of a regressor
    types: dict[str, str]  # of the features, in order: Float | Integer | Boolean | String
    name: str  # of the target


def load(task: TrainingTask | PartsTask, folder: Path) -> pa.Table:
    """The snapshot's table; TaskError where the stored file is not the one that was written."""
    path = folder / "snapshot.parquet"
    fetching.download(Store(task.store), task.file, path, f"version {task.version}")
    table = pyarrow.parquet.read_table(path, use_threads=False, partitioning=None)
    version = version_of(table)
    if version != task.version:
        raise fetching.changed(f"the snapshot's content has digest {version}, but {task.version} is asked for")
    return table


def prepare(table: pa.Table, task: TrainingTask, *, classifier: bool) -> Data:
    """Features and target; TaskError names the column that is missing or cannot be used."""
    types = types_of(table.schema)
    check_target(task.target, types)
    names = _feature_names(task, types)
    frame = features_of(table, {name: types[name] for name in names})
    target = target_of(table, task.target, classifier=classifier)
    return Data(frame, target, {name: types[name] for name in names}, task.target)


def check_target(name: str, types: dict[str, str]) -> None:
    """TaskError where the data has no such column."""
    if name not in types:
        raise TaskError("TargetMissing", f"data.target: {absent(name, list(types))}")


def target_of(table: pa.Table, name: str, *, classifier: bool) -> Any:
    """The labels or numbers to predict, as `Data.target`; TaskError where rows have none, or none that can be."""
    return _target(table.column(name), types_of(table.schema)[name], name, classifier=classifier)


def features_of(table: pa.Table, types: dict[str, str]) -> pd.DataFrame:
    """The columns that `types` names, in that order, as `Data.features`."""
    columns: dict[str, Any] = {}
    for name, kind in types.items():
        column = table.column(name)
        if kind in _NUMERIC:
            columns[name] = _as_served(column.cast(pa.float64(), safe=False).to_numpy())
        else:
            columns[name] = np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=object)
    return pd.DataFrame(columns, columns=list(types))


def _as_served(values: Any) -> Any:
    """The numbers as a server will see them: rounded to float32.

    A model is trained on nothing finer than what it will be asked about.  Otherwise a value that lies on a tree's
    threshold in float64 falls to its other side when it is served.
    """
    with np.errstate(over="ignore"):  # too large becomes infinite, which is reported
        return values.astype(np.float32).astype(np.float64)


def _feature_names(task: TrainingTask, types: dict[str, str]) -> list[str]:
    names = list(task.features) or pipeline.selected(task.estimator)
    field = "data.features" if task.features else "estimator.columns"
    if not names:
        names = undeclared(task, types)
    check_features(names, field, task.target, types)
    if not task.estimator.columns:
        text = [name for name in names if types[name] == "String"]
        if text:
            raise not_numeric(text)
    return names


def undeclared(task: TrainingTask | PartsTask, types: dict[str, str]) -> list[str]:
    """The columns that can be features where none are declared."""
    # What rows are kept together or ordered by, such as a patient's number, is no property to learn from; nor is what
    # a model answered.
    others = (task.target, task.split.group, task.split.time, *captured.NOT_FEATURES)
    return [name for name in types if name not in others]


def check_features(names: Sequence[str], field: str, target: str, types: dict[str, str]) -> None:
    """TaskError names one that is missing or cannot be one; `field` is where they are declared."""
    for name in names:
        if name not in types:
            raise TaskError("FeatureMissing", f"{field}: {absent(name, list(types))}")
        if names.count(name) > 1:
            raise TaskError("FeatureInvalid", f"{field}: {name!r} occurs twice; name each feature once")
        if name == target:
            raise TaskError("FeatureInvalid", f"{field}: {name!r} is the target; a model must not see what it predicts")
        if types[name] == "Timestamp":
            raise TaskError(
                "FeatureNotNumeric",
                f"feature {name!r} is a Timestamp, which no estimator takes; leave it out of data.features, or derive"
                " numbers from it",
            )
    if not names:
        raise TaskError("FeatureMissing", "the data has no column but the target: there is nothing to learn from")


def not_numeric(names: Sequence[str]) -> TaskError:
    """The failure of text features that no encoder takes."""
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    problems = tuple(
        Problem(rule="FeatureNotNumeric", message="a String feature without an encoder", column=name) for name in names
    )
    return TaskError(
        "FeatureNotNumeric",
        f"features {shown} are text (String), which the estimator cannot use: encode them in estimator.columns (for"
        " example sklearn.preprocessing.OneHotEncoder), or leave them out of data.features",
        problems=problems,
    )


def _target(column: pa.ChunkedArray, kind: str, name: str, *, classifier: bool) -> Any:
    values = column.to_numpy() if kind in ("Float", "Integer") else column
    missing = int(np.isnan(values).sum()) if kind == "Float" else column.null_count
    if missing:
        raise TaskError(
            "TargetMissingValues",
            f"data.target: {missing} rows have no value in {name!r}; remove them, or declare the column nullable: false"
            " so that the Dataset says so",
        )
    if kind == "Timestamp" or (kind == "String" and not classifier):
        raise TaskError(
            "TargetNotNumeric", f"data.target: {name!r} is of type {kind}, which this estimator cannot predict"
        )
    if kind == "String":
        return np.array(column.to_pylist(), dtype=str)
    numbers = column.cast(pa.float64(), safe=False).to_numpy()
    if not np.isfinite(numbers).all():
        raise TaskError(
            "TargetNotFinite", f"data.target: {int((~np.isfinite(numbers)).sum())} rows of {name!r} are infinite"
        )
    if not classifier:
        return numbers
    if kind == "Float":
        if (numbers != np.floor(numbers)).any() or (np.abs(numbers) > 2**53).any():
            raise TaskError(
                "TargetNotDiscrete",
                f"data.target: {name!r} holds fractions, but a classifier predicts classes; use a regressor, or whole"
                " numbers or text",
            )
        return numbers.astype(np.int64)
    return column.cast(pa.int64()).to_numpy().astype(np.int64)


def absent(name: str, found: Sequence[str]) -> str:
    """That the data has no such column, and which it has."""
    near = difflib.get_close_matches(name, found, n=3)
    hint = (
        f"the nearest are {', '.join(near)}"
        if near
        else f"it has {', '.join(found[:10])}{', ...' if len(found) > 10 else ''}"
    )
    return f"the data has no column {name!r}; {hint}"
