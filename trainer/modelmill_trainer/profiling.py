"""The profile of a model: how its features are distributed in training, and its answers on unseen rows.

Bins hold about equal shares of the rows (see bins.py), their edges in float32, as servers compare.  Features are
counted over the training rows.  Predictions and scores are counted over the test rows: on rows that it has learned by
heart a forest is surer than it will ever be in production, and drift would be seen where there is none.
"""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from modelmill_contracts.profile import Categorical, Numeric, Profile
from modelmill_trainer import bins
from modelmill_trainer.conversion import is_labels

EDGES = 10  # of a feature or a regressor's prediction: 8 to 9 bins between them, below and above
SCORE_EDGES = 19  # 20 bins
TOP_VALUES = 20  # of a text feature


def profile(pipeline: Pipeline, train: pd.DataFrame, types: dict[str, str], expected: list[Any]) -> Profile:
    """`expected` is what scikit-learn answers on the test rows: labels or predictions, and probabilities if any."""
    features = features_of(train, types)
    answers: Numeric | Categorical
    scores: Numeric | None
    if is_classifier(pipeline):
        counts = Counter(map(str, expected[0].tolist()))
        classes = tuple(map(str, pipeline.classes_.tolist()))
        answers = Categorical("predict", classes, tuple(counts[name] for name in classes))
        scores = numeric("score", expected[1].max(axis=1), SCORE_EDGES) if len(expected) > 1 else None
    elif is_labels(pipeline):
        answers, scores = categorical("predict", list(map(str, expected[0].tolist()))), None
    else:
        predictions = expected[0].ravel()  # of several targets, all together
        answers = numeric("predict", predictions, EDGES)
        scores = numeric("score", predictions, SCORE_EDGES)
    return Profile(rows=len(train), features=features, predictions=answers, scores=scores)


def of_answers(rows: pd.DataFrame, types: dict[str, str], answers: list[Any], datatype: str) -> Profile:
    """The profile of a model of which only the first output is known: labels where they are whole numbers or text."""
    first = np.asarray(answers[0]).ravel()
    predictions: Numeric | Categorical
    if datatype.startswith("FP"):
        predictions = numeric("predict", first, EDGES)
    else:
        predictions = categorical("predict", list(map(str, first.tolist())))
    return Profile(rows=len(rows), features=features_of(rows, types), predictions=predictions)


def features_of(rows: pd.DataFrame, types: dict[str, str]) -> tuple[Numeric | Categorical, ...]:
    """How each feature is distributed in the rows."""
    return tuple(
        categorical(name, rows[name].tolist())
        if types[name] == "String"
        else numeric(name, rows[name].to_numpy(), EDGES)
        for name in types
    )


def numeric(name: str, values: Any, edges: int) -> Numeric:
    """Counts of [below, (edge, edge], ..., above], at most `edges` of them where values repeat."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(values).astype(np.float32)
    known = rounded[~np.isnan(rounded)]
    found = bins.edges_of(known, edges)
    return Numeric(name, tuple(map(float, found)), bins.counted(found, known), len(rounded) - len(known))


def categorical(name: str, values: list[Any]) -> Categorical:
    """Counts of the most frequent texts, of all others and of missing ones."""
    present = [value for value in values if isinstance(value, str)]
    top = bins.top_of(present, TOP_VALUES)
    other = len(present) - sum(top.counts)
    return Categorical(name, top.values, top.counts, other, len(values) - len(present))
