"""Fitting: scikit-learn at work, and its errors in the words of the manifest, without values of the data."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from modelmill_contracts.report import Problem
from modelmill_trainer import pipeline as pipelines
from modelmill_trainer.data import Data, not_numeric
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import redacted
from modelmill_trainer.workers import Parallel


def fit(pipeline: Pipeline, data: Data, rows: Any, seed: int, parallel: Parallel) -> tuple[str, ...]:
    """Fit the pipeline on the rows; notes on what scikit-learn warned of.  TaskError names the feature at fault."""
    _check_text(pipeline, data)
    # For estimators that draw from the global generators although they have a random_state.
    np.random.seed(seed % 2**32)
    random.seed(seed)
    with explained(pipeline, data), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with parallel():
            pipeline.fit(data.features.iloc[rows], data.target[rows])
    pipelines.set_jobs(pipeline)
    if any(issubclass(entry.category, ConvergenceWarning) for entry in caught):
        return ("the solver stopped before it converged: raise max_iter, or scale the features first",)
    return ()


@contextmanager
def explained(pipeline: Pipeline, data: Data) -> Iterator[None]:
    """Turn the errors of scikit-learn into TaskError."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise _explain(error, pipeline, data) from error


def _explain(error: Exception, pipeline: Pipeline, data: Data) -> TaskError:
    text = " ".join(str(error).split())
    if "contains NaN" in text:
        return _unusable(
            data,
            np.isnan,
            "FeatureMissingValues",
            f"are missing, which {_last(pipeline)} does not accept: add a sklearn.impute.SimpleImputer step, or remove"
            " the rows",
        )
    if "contains infinity" in text:
        return _unusable(
            data,
            np.isinf,
            "FeatureNotFinite",
            "are infinite or too large for 32 bits: mend the data, or declare the column as Float with min and max",
        )
    if "could not convert string to float" in text:
        return not_numeric([name for name, kind in data.types.items() if kind == "String"])
    if "unknown categories" in text:
        return TaskError(
            "UnknownCategory",
            "the test rows hold categories that the training rows lack: set handle_unknown: ignore in the params of"
            " OneHotEncoder",
        )
    shown = redacted(text, known_numbers(pipeline, data.features))[:300]
    return TaskError(
        "TrainingFailed", f"scikit-learn could not fit {_last(pipeline)} ({type(error).__name__}): {shown}"
    )


def known_numbers(model: BaseEstimator, rows: pd.DataFrame) -> frozenset[float]:
    """What a message may say although it is a number: the estimator's parameters, and how many rows and columns."""
    declared = (value for value in model.get_params().values() if isinstance(value, int | float))
    return frozenset(map(float, (*declared, *rows.shape)))


def _unusable(data: Data, wrong: Any, rule: str, text: str) -> TaskError:
    problems = []
    for name, kind in data.types.items():
        values = data.features[name].to_numpy()
        marked = np.flatnonzero(data.features[name].isna() if kind == "String" else wrong(values))
        if len(marked):
            rows = tuple(int(row) + 1 for row in marked[:3])
            where = ", ".join(map(str, rows)) + (", ..." if len(marked) > len(rows) else "")
            message = f"feature {name!r}: {len(marked)} values (rows {where}) {text}"
            problems.append(Problem(rule=rule, message=message, column=name, count=len(marked), rows=rows))
    more = f" (and {len(problems) - 1} more features)" if len(problems) > 1 else ""
    first = problems[0].message if problems else f"values that a step computes {text}"
    return TaskError(rule, first + more, problems=tuple(problems))


def _check_text(pipeline: Pipeline, data: Data) -> None:
    columns = dict(pipeline.steps).get(pipelines.COLUMNS_STEP)
    if columns is None:
        return
    names = list(data.types)
    for _, transformer, positions in columns.transformers:
        chosen = [names[position] for position in np.atleast_1d(positions)]
        text = [name for name in chosen if data.types[name] == "String"]
        if text and not pipelines.encodes_text(transformer):
            raise not_numeric(text)


def _last(pipeline: Pipeline) -> str:
    return type(pipeline.steps[-1][1]).__name__
