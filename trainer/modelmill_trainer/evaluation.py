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

from modelmill_contracts.report import Metric
from modelmill_trainer.failure import TaskError

DEFAULT_CLASSIFIER = ("accuracy",)
DEFAULT_REGRESSOR = ("r2",)


class _Predicted(NamedTuple):
    truth: Any  # [rows]
    labels: Any  # [rows]
    probabilities: Any  # [rows, classes] or None
    scores: Any  # probabilities, else decision_function's [rows] or [rows, classes], or None
    classes: Any


def _averaged(score: Callable[..., float]) -> Callable[[_Predicted], float]:
    def compute(p: _Predicted) -> float:
        if len(p.classes) == 2:
            return score(p.truth, p.labels, pos_label=p.classes[1], zero_division=0)
        return score(p.truth, p.labels, labels=p.classes, average="macro", zero_division=0)

    return compute


def _positive(p: _Predicted) -> Any:
    """The scores of the positive one of two classes."""
    return p.scores[:, 1] if np.ndim(p.scores) == 2 else p.scores


def _roc_auc(p: _Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.roc_auc_score(p.truth == p.classes[1], _positive(p)))
    return float(metrics.roc_auc_score(label_binarize(p.truth, classes=p.classes), p.scores, average="macro"))


def _average_precision(p: _Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.average_precision_score(p.truth == p.classes[1], _positive(p)))
    return float(metrics.average_precision_score(label_binarize(p.truth, classes=p.classes), p.scores))


def _brier(p: _Predicted) -> float:
    if len(p.classes) == 2:
        return float(metrics.brier_score_loss(p.truth == p.classes[1], p.probabilities[:, 1]))
    onehot = label_binarize(p.truth, classes=p.classes)
    return float(np.mean(np.sum((onehot - p.probabilities) ** 2, axis=1)))


_CLASSIFIER: dict[str, Callable[[_Predicted], float]] = {
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

_REGRESSOR: dict[str, Callable[[_Predicted], float]] = {
    "r2": lambda p: metrics.r2_score(p.truth, p.labels),
    "explained_variance": lambda p: metrics.explained_variance_score(p.truth, p.labels),
    "mae": lambda p: metrics.mean_absolute_error(p.truth, p.labels),
    "mse": lambda p: metrics.mean_squared_error(p.truth, p.labels),
    "rmse": lambda p: metrics.root_mean_squared_error(p.truth, p.labels),
    "mape": lambda p: metrics.mean_absolute_percentage_error(p.truth, p.labels),
    "median_absolute_error": lambda p: metrics.median_absolute_error(p.truth, p.labels),
    "max_error": lambda p: metrics.max_error(p.truth, p.labels),
}


def check(names: Sequence[str], estimator: Any) -> tuple[str, ...]:
    """The metrics to compute (the default where none is asked); TaskError before training where one cannot be."""
    known = _CLASSIFIER if is_classifier(estimator) else _REGRESSOR
    kind = "classifier" if is_classifier(estimator) else "regressor"
    for name in names:
        if name not in known:
            raise TaskError(
                "MetricUnknown", f"evaluation.metrics: {name!r} is not a metric of a {kind}; use {', '.join(known)}"
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


def evaluate(estimator: Any, names: Sequence[str], features: Any, truth: Any) -> tuple[Metric, ...]:
    """The metrics of the fitted estimator on rows that it has not seen."""
    labels = estimator.predict(features)
    if not is_classifier(estimator):
        predicted = _Predicted(truth, labels, None, None, None)
        return tuple(_metric(name, _REGRESSOR[name](predicted)) for name in names)
    probabilities = estimator.predict_proba(features) if hasattr(estimator, "predict_proba") else None
    scores = probabilities
    if scores is None and hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(features)
    predicted = _Predicted(truth, labels, probabilities, scores, estimator.classes_)
    absent = len(estimator.classes_) - len(np.unique(truth))
    for name in names:
        if name in _NEED_ALL_CLASSES and absent:
            raise TaskError(
                "MetricUndefined",
                f"evaluation.metrics: {name} is undefined, because the test rows lack {absent} of"
                f" {len(estimator.classes_)} classes; set split.stratify, or a larger split.test",
            )
    return tuple(_metric(name, _CLASSIFIER[name](predicted)) for name in names)


def decimal(value: float) -> str:
    """A decimal without exponent, of six significant digits."""
    return format(Decimal(f"{value:.6g}"), "f")


def _metric(name: str, value: float) -> Metric:
    if not np.isfinite(value):
        raise TaskError(
            "MetricUndefined", f"evaluation.metrics: {name} is undefined on these test rows; use more of them"
        )
    return Metric(name, decimal(value))


def _last(estimator: Any) -> str:
    return type(estimator.steps[-1][1]).__name__
