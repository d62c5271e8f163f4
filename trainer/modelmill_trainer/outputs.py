"""What a model's outputs say, whatever their names: labels, scores and numbers as scikit-learn gives them.

The outputs of a declared pipeline are named as scikit-learn's methods; a model of somebody's own may call them
anything.  Its labels are the first output of whole numbers, truths or text with one value for each row, and its scores
the first one of fractions with a column for each class.  Without labels, the class with the highest score is the label;
without classes, the first output of fractions is the number that it predicts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill_trainer.evaluation import Predicted

_LABELS = "predict"
_PROBABILITIES = "predict_proba"
_DECISION = "decision_function"
_SCORES = (_PROBABILITIES, _DECISION)
_TOLERANCE = 1e-4  # of what is computed in 32 bits: equally high scores, the sum of a row's probabilities


class UnclearError(Exception):
    """What the outputs say cannot be compared with the truth.  Its words name outputs, and nothing of the data."""


def answered(found: Mapping[str, Any], classes: Sequence[str], truth: Any) -> Predicted:
    """What the model says to rows of which the truth is known, its outputs by their names, in their order.

    `classes` are a manifest's, in the order of the scores' columns; where it names none, they are the truth's values,
    sorted, as label encoders number them.  UnclearError.
    """
    arrays = {name: np.asarray(values) for name, values in found.items()}
    rows = len(truth)
    if classes and truth.dtype.kind == "f" and np.array_equal(truth, np.floor(truth)):
        truth = truth.astype(np.int64)  # labels that the data has as fractions
    if truth.dtype.kind == "f":
        return Predicted(truth, _numbers(arrays, rows), None, None, None)
    known = _known(classes, truth)
    labels, scores = _labels(arrays, rows), _scores(arrays, rows, len(known))
    by_class = scores is not None and scores.shape == (rows, len(known))
    if labels is not None:
        labels = _named(labels, known)
        if not classes and by_class and not _agree(labels, scores, known):
            scores = None  # which class a column is of is not known
    elif by_class:
        labels = known[scores.argmax(axis=1)]
    elif len(classes) == 2:
        scores = _of_the_second(_numbers(arrays, rows))
        labels = known[(scores[:, 1] > 0.5).astype(int)]
    elif classes or truth.dtype.kind != "i":
        raise UnclearError(f"no output has labels, or one column for each of {len(known)} classes")
    else:
        return Predicted(truth.astype(float), _numbers(arrays, rows), None, None, None)
    # Metrics have the classes in sorted order, in which the second of two is the positive one.
    order = np.argsort(known)
    if scores is not None and scores.shape == (rows, len(known)):
        scores = scores[:, order]
    return Predicted(truth, labels, _probabilities(arrays, scores), scores, known[order])


def are_of(classes: Sequence[str], found: Mapping[str, Any], truth: Any) -> bool:
    """Whether what the model says to some rows agrees with its having these classes, in this order.

    One number for each row says so only of 0 and 1: then it is the probability of 1.
    """
    try:
        predicted = answered(found, classes, truth)
    except UnclearError:
        return False
    labels, scores, known = predicted.labels, predicted.scores, predicted.classes
    if known is None or not np.isin(labels, known).all():
        return False
    arrays = {name: np.asarray(values) for name, values in found.items()}
    by_class = any(values.shape == (len(truth), len(classes)) for values in arrays.values())
    if not by_class and _labels(arrays, len(truth)) is None and tuple(classes) != ("0", "1"):
        return False
    return scores is None or scores.shape != (len(labels), len(known)) or _agree(labels, scores, known)


def _numbers(arrays: Mapping[str, Any], rows: int) -> Any:
    """One number for each row: of `predict`, else the first output of fractions, else the first of whole numbers."""
    found = [name for name, values in arrays.items() if values.dtype.kind in "fiub" and values.size == rows]
    if not found:
        raise UnclearError("no output has one number for each row, as the target has")
    name = min(found, key=lambda name: (name != _LABELS, arrays[name].dtype.kind != "f"))
    return _finite(name, arrays[name].astype(float).reshape(rows))


def _labels(arrays: Mapping[str, Any], rows: int) -> Any:
    """One label for each row; None where no output has them."""
    for name in sorted(arrays, key=lambda name: name != _LABELS):
        if arrays[name].dtype.kind != "f" and arrays[name].size == rows:
            return arrays[name].reshape(rows)
    return None


def _scores(arrays: Mapping[str, Any], rows: int, classes: int) -> Any:
    """A score of each class [rows, classes], or what `decision_function` gives; None where no output has them."""
    ranked = sorted(arrays, key=lambda name: _SCORES.index(name) if name in _SCORES else len(_SCORES))
    for name in ranked:
        values = arrays[name]
        if values.dtype.kind == "f" and (values.shape == (rows, classes) or name == _DECISION):
            return _finite(name, values)
    return None


def _finite(name: str, values: Any) -> Any:
    if not np.isfinite(values).all():
        raise UnclearError(f"output {name[:80]!r} is not finite for some rows")
    return values


def _of_the_second(values: Any) -> Any:
    """Both columns of one probability, as a network with a single output has it."""
    if ((values < 0) | (values > 1)).any():
        raise UnclearError("its one score is no probability of the second class: let the graph end with a sigmoid")
    return np.stack([1 - values, values], axis=1)


def _known(classes: Sequence[str], truth: Any) -> Any:
    """The classes, as the truth has them."""
    if not classes:
        return np.unique(truth)
    known = np.array(classes)
    if truth.dtype.kind == "i":
        try:
            known = known.astype(np.int64)
        except ValueError as error:
            raise UnclearError("the classes that it names are text, and the target's are whole numbers") from error
    if len(np.unique(known)) < len(known):
        raise UnclearError("two of the classes that it names are the same")
    return known


def _named(labels: Any, known: Any) -> Any:
    """The labels as the truth has them; whole numbers are the places of classes that are none."""
    if known.dtype.kind == "i":
        try:
            return labels.astype(np.int64)
        except ValueError as error:
            raise UnclearError("its labels are text, and the target's are whole numbers") from error
    if labels.dtype.kind not in "iub" or any(name.lstrip("-").isdigit() for name in known.tolist()):
        return labels.astype(str)
    places = labels.astype(np.int64)
    if ((places < 0) | (places >= len(known))).any():
        raise UnclearError(f"its labels are whole numbers, and some are none of 0 to {len(known) - 1}")
    return known[places]


def _agree(labels: Any, scores: Any, known: Any) -> bool:
    """Whether the label of each row is that of its highest score."""
    order = np.argsort(known)
    places = order[np.clip(np.searchsorted(known, labels, sorter=order), 0, len(known) - 1)]
    said = np.take_along_axis(scores, places[:, np.newaxis], axis=1)[:, 0]
    return bool(np.isin(labels, known).all() and (said >= scores.max(axis=1) - _TOLERANCE).all())


def _probabilities(arrays: Mapping[str, Any], scores: Any) -> Any:
    """The scores as probabilities: by their name, and by their values only where no output has a name that tells."""
    if scores is None or _PROBABILITIES in arrays or _DECISION in arrays:
        return scores if _PROBABILITIES in arrays else None
    inside = ((scores > -_TOLERANCE) & (scores < 1 + _TOLERANCE)).all()
    return np.clip(scores, 0, 1) if inside and np.allclose(scores.sum(axis=1), 1, atol=_TOLERANCE) else None
