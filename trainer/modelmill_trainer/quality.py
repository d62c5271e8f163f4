"""Quality from labels: a metric of a window's rows, and the variance of that as an estimate.

A mean of numbers of each row has the variance s^2 / n.  The area under the ROC curve has DeLong's (DeLong, DeLong and
Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves, Biometrics
44, 1988), computed from midranks in O(n log n) (Sun and Xu, Fast Implementation of DeLong's Algorithm, IEEE Signal
Processing Letters 21, 2014).
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from modelmill_contracts.captured import Scalar

_CLIPPED = 1e-6  # no probability is nearer to 0 or 1 than that: one label must not outweigh a million
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TWO = 2
OTHER = -1  # the place of a class that the model does not know


class Answer(NamedTuple):
    """What a model answered for one row."""

    prediction: Scalar
    scores: Sequence[float]
    classes: tuple[Scalar, ...]


class Estimate(NamedTuple):
    value: float | None
    variance: float | None


class Metric(NamedTuple):
    """A metric of rows: what it takes of each, and what that comes to.

    `of_row` gives a number and whether the row is of the positive class, which only an area asks for; None: label and
    answer cannot be compared.
    """

    of_row: Callable[[Answer, Scalar], tuple[float, bool] | None]
    estimate: Callable[[Any, Any], Estimate]


# Labels and answers, however their senders wrote them.


class Classes:
    """Classes as labels name them.

    A label that is one of them counts as it is.  Else 1, 1.0, "1" and true are one number, and so is "true", in any
    case, where the classes are truths.  A number among texts, or a text among numbers, cannot be compared.
    """

    def __init__(self, classes: tuple[Scalar, ...]) -> None:
        self._truths = all(isinstance(value, bool) for value in classes)
        self._texts = any(isinstance(value, str) for value in classes)
        self._exact = {(isinstance(value, str), value): place for place, value in enumerate(classes)}
        alike: dict[Scalar, int] = {}
        for place, value in enumerate(classes):
            key = self._canonical(value)
            alike[key] = OTHER if key in alike else place  # two that are written alike are told apart exactly only
        self._alike = alike
        self._numbers = any(isinstance(key, int | float) for key in alike)

    def place(self, label: Scalar) -> int | None:
        """The label's place among the classes; OTHER: it is none of them, None: it cannot be."""
        found = self._exact.get((isinstance(label, str), label))
        if found is not None:
            return found
        key = self._canonical(label)
        if key in self._alike:
            return self._alike[key]
        if isinstance(label, str):
            return OTHER if self._texts or (self._numbers and not isinstance(key, str)) else None
        return OTHER if self._numbers else None

    def _canonical(self, value: Scalar) -> Scalar:
        if not isinstance(value, str):
            return value  # of which Python knows 1, 1.0 and True as one key
        if self._truths and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return _parsed(value)


def _parsed(text: str) -> float | str:
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("-").isdigit() else float(text)


@lru_cache(maxsize=1024)
def _classes(kinds: tuple[type, ...], classes: tuple[Scalar, ...]) -> Classes:  # noqa: ARG001 - 1 and True are one key
    return Classes(classes)


def _place(classes: tuple[Scalar, ...], label: Scalar) -> int | None:
    return _classes(tuple(map(type, classes)), classes).place(label)


def _number(value: Scalar) -> float | None:
    """A quantity; a truth is none."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, bool | str) or value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# What a metric takes of each row.


def _right(answer: Answer, label: Scalar) -> tuple[float, bool] | None:
    if answer.prediction is None:
        return None
    place = _place((answer.prediction,), label)
    return None if place is None else (float(place == 0), False)


def _surprise(answer: Answer, label: Scalar) -> tuple[float, bool] | None:
    """Minus the logarithm of the probability that the label's class was given."""
    place = _place(answer.classes, label)
    if place is None or not answer.scores:
        return None
    given = answer.scores[place] if place != OTHER else 0.0  # to what the model does not know it gave nothing
    return -math.log(min(max(given, _CLIPPED), 1 - _CLIPPED)), False


def _ranked(answer: Answer, label: Scalar) -> tuple[float, bool] | None:
    if len(answer.classes) != _TWO or len(answer.scores) != _TWO:
        return None
    place = _place(answer.classes, label)
    return (answer.scores[1], place == 1) if place in (0, 1) else None


def _error(answer: Answer, label: Scalar) -> tuple[float, bool] | None:
    predicted, true = _number(answer.prediction), _number(label)
    return None if predicted is None or true is None else (abs(predicted - true), False)


def _squared(answer: Answer, label: Scalar) -> tuple[float, bool] | None:
    error = _error(answer, label)
    return None if error is None else (error[0] * error[0], False)


# What the rows come to.


def _mean(numbers: Any, _: Any) -> Estimate:
    count = len(numbers)
    if not count:
        return Estimate(None, None)
    value = float(np.mean(numbers))
    return _finite(value, float(np.var(numbers, ddof=1)) / count if count > 1 else None)


def _area(scores: Any, positive: Any) -> Estimate:
    """The area under the ROC curve, and its variance by DeLong."""
    ours, theirs = scores[positive], scores[~positive]
    m, n = len(ours), len(theirs)
    if not m or not n:
        return Estimate(None, None)
    ranks = _midranks(scores)
    of_ours = (ranks[positive] - _midranks(ours)) / n  # for each positive the share of negatives below it
    of_theirs = 1 - (ranks[~positive] - _midranks(theirs)) / m
    variance = None
    if m > 1 and n > 1:
        variance = float(np.var(of_ours, ddof=1)) / m + float(np.var(of_theirs, ddof=1)) / n
    return _finite(float(np.mean(of_ours)), variance)


def _midranks(values: Any) -> Any:
    """The rank of each value from 1, the mean of their ranks for equal ones."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _finite(value: float, variance: float | None) -> Estimate:
    if not math.isfinite(value):
        return Estimate(None, None)
    return Estimate(value, variance if variance is not None and math.isfinite(variance) else None)


METRICS = {
    "accuracy": Metric(_right, _mean),
    "log_loss": Metric(_surprise, _mean),
    "mae": Metric(_error, _mean),
    "rmse": Metric(_squared, _mean),
    "roc_auc": Metric(_ranked, _area),
}
