"""Evaluation: the asked metrics on the test rows, as decimals with six significant digits.

Names and definitions are scikit-learn's.  Of two classes the second (in sorted order, 1 of 0 and 1) is the
positive one; with more, precision, recall, f1, roc_auc (one against the rest) and average_precision are the
unweighted means over classes.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics
from sklearn.base import is_classifier
from sklearn.preprocessing import label_binarize

from modelmill_contracts.evaluation import LOSSES
from modelmill_contracts.report import Metric
from modelmill_trainer.failure import TaskError

DEFAULT_CLASSIFIER = ("accuracy",)
DEFAULT_REGRESSOR = ("r2",)


class Predicted(NamedTuple):
    """What a fitted estimator answers to rows of which the truth is known."""

    truth: Any  # [rows]
    labels: Any  # [rows]
    probabilities: Any  # [rows, classes] or None
    scores: Any  # probabilities, else decision_function's [rows] or [rows, classes], or None
    classes: Any  # of a classifier, else None

    def of(self, rows: Any) -> "Predicted":
        """The part of `rows` (positions among these rows)."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        scores = None if self.scores is None else self.scores[rows]
        return Predicted(self.truth[rows], self.labels[rows], probabilities, scores, self.classes)


def _averaged(score: Callable[..., float]) -> Callable[[Predicted], float]:
    def compute(p: Predicted) -> float:
        if len(p.classes) == 2:
            return score(p.truth, p.labels, pos_label=p.classes[1], zero_division=0)
        return score(p.truth, p.labels, labels=p.classes, average="macro", zero_division=0)

    return compute


def _positive(p: Predicted) -> Any:
    """The scores of the positive one of two classes."""
    return p.scores[:, 1] if np.ndim(p.scores) == 2 else p.scores


def _roc_auc(p: Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.roc_auc_score(p.truth == p.classes[1], _positive(p)))
    return float(metrics.roc_auc_score(label_binarize(p.truth, classes=p.classes), p.scores, average="macro"))


def _average_precision(p: Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.average_precision_score(p.truth == p.classes[1], _positive(p)))
    return float(metrics.average_precision_score(label_binarize(p.truth, classes=p.classes), p.scores))


def _brier(p: Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.brier_score_loss(p.truth == p.classes[1], p.probabilities[:, 1]))
    onehot = label_binarize(p.truth, classes=p.classes)
    return float(np.mean(np.sum((onehot - p.probabilities) ** 2, axis=1)))


_CLASSIFIER: dict[str, Callable[[Predicted], float]] = {
    "accuracy": lambda p: metrics.accuracy_score(p.truth, p.labels),
    "balanced_accuracy": lambda p: metrics.balanced_accuracy_score(p.truth, p.labels),
    "precision": _averaged(metrics.precision_score),
    "recall": _averaged(metrics.recall_score),
    "f1": _averaged(metrics.f1_score),
    "matthews_corrcoef": lambda p: metrics.matthews_corrcoef(p.truth, p.labels),
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": lambda p: metrics.log_loss(p.truth, p.probabilities, labels=p.classes),
    "brier": _brier,
}
_NEED_PROBABILITIES = ("log_loss", "brier")
_NEED_SCORES = ("roc_auc", "average_precision")
_NEED_ALL_CLASSES = ("roc_auc",)  # undefined where the test rows lack a class

_REGRESSOR: dict[str, Callable[[Predicted], float]] = {
    "r2": lambda p: metrics.r2_score(p.truth, p.labels),
    "explained_variance": lambda p: metrics.explained_variance_score(p.truth, p.labels),
    "mae": lambda p: metrics.mean_absolute_error(p.truth, p.labels),
    "mse": lambda p: metrics.mean_squared_error(p.truth, p.labels),
    "rmse": lambda p: metrics.root_mean_squared_error(p.truth, p.labels),
    "mape": lambda p: metrics.mean_absolute_percentage_error(p.truth, p.labels),
    "median_absolute_error": lambda p: metrics.median_absolute_error(p.truth, p.labels),
    "max_error": lambda p: metrics.max_error(p.truth, p.labels),
}

_OF_ANY_CLASSES = ("accuracy", "log_loss", "brier")  # defined on rows of one class too
_NEED_SPREAD = ("r2", "explained_variance")  # compare with the truth's own spread


def check(names: Sequence[str], estimator: Any) -> tuple[str, ...]:
    """The metrics to compute (the default where none is asked); TaskError before training where one cannot be."""
    known = _CLASSIFIER if is_classifier(estimator) else _REGRESSOR
    kind = "classifier" if is_classifier(estimator) else "regressor"
    for name in names:
        if name not in known:
            raise TaskError(
                "MetricUnknown",
                f"evaluation.metrics (of an Experiment: objective.metric): {name!r} is not a metric of a {kind};"
                f" use {', '.join(known)}",
            )
        if name in _NEED_PROBABILITIES and not hasattr(estimator, "predict_proba"):
            raise TaskError(
                "MetricNotApplicable",
                f"evaluation.metrics: {name} needs probabilities, which {_last(estimator)} does not give",
            )
        if name in _NEED_SCORES and not any(hasattr(estimator, way) for way in ("predict_proba", "decision_function")):
            raise TaskError(
                "MetricNotApplicable",
                f"evaluation.metrics: {name} needs scores, which {_last(estimator)} does not give",
            )
    return tuple(names) or (DEFAULT_CLASSIFIER if is_classifier(estimator) else DEFAULT_REGRESSOR)


def predict(estimator: Any, features: Any, truth: Any) -> Predicted:
    """What the fitted estimator answers to rows that it has not seen."""
    labels = estimator.predict(features)
    if not is_classifier(estimator):
        return Predicted(truth, labels, None, None, None)
    probabilities = estimator.predict_proba(features) if hasattr(estimator, "predict_proba") else None
    scores = probabilities
    if scores is None and hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(features)
    return Predicted(truth, labels, probabilities, scores, estimator.classes_)


def measure(predicted: Predicted, names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics of these rows; TaskError where they do not define one."""
    absent = _absent_classes(predicted)
    for name in names:
        if name in _NEED_ALL_CLASSES and absent:
            raise TaskError(
                "MetricUndefined",
                f"evaluation.metrics: {name} is undefined, because the test rows lack {absent} of"
                f" {len(predicted.classes)} classes; set split.stratify, or a larger split.test",
            )
    return tuple(Metric(name, _decimal_of(name, value_of(predicted, name))) for name in names)


def measure_part(predicted: Predicted, names: Sequence[str]) -> dict[str, float]:
    """The metrics of a slice of the test rows, those left out that it does not define.

    What compares classes says nothing of rows that lack one: a recall of no positive row would be 0.
    """
    one_class = bool(_absent_classes(predicted))
    constant = predicted.classes is None and len(np.unique(predicted.truth)) < 2
    found = {}
    for name in names:
        if (one_class and name not in _OF_ANY_CLASSES) or (constant and name in _NEED_SPREAD):
            continue
        value = value_of(predicted, name)
        if np.isfinite(value):
            found[name] = value
    return found


def value_of(predicted: Predicted, name: str) -> float:
    known = _REGRESSOR if predicted.classes is None else _CLASSIFIER
    return float(known[name](predicted))


def known_metrics(predicted: Predicted) -> tuple[str, ...]:
    """The metrics that these answers can have."""
    if predicted.classes is None:
        return tuple(_REGRESSOR)
    missing = set() if predicted.probabilities is not None else set(_NEED_PROBABILITIES)
    missing |= set() if predicted.scores is not None else set(_NEED_SCORES)
    return tuple(name for name in _CLASSIFIER if name not in missing)


def is_loss(name: str) -> bool:
    """Whether less of the metric is better."""
    return name in LOSSES


def _absent_classes(predicted: Predicted) -> int:
    return 0 if predicted.classes is None else len(predicted.classes) - len(np.unique(predicted.truth))


def decimal(value: float) -> str:
    """A decimal without exponent, of six significant digits."""
    return format(Decimal(f"{value:.6g}"), "f")


def _decimal_of(name: str, value: float) -> str:
    if not np.isfinite(value):
        raise TaskError(
            "MetricUndefined", f"evaluation.metrics: {name} is undefined on these test rows; use more of them"
        )
    return decimal(value)


def _last(estimator: Any) -> str:
    return type(estimator.steps[-1][1]).__name__
