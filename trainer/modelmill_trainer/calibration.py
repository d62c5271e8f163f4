"""Calibration: does what is predicted come true as often, or as much, as the model says?

Of two classes it is asked of the probability of the second one, of more of the highest probability of each row, in
ten bins of equal width.  `error` is the expected calibration error: the distance of the mean probability and the
share that came true, averaged over the bins by their rows (Guo et al., On Calibration of Modern Neural Networks,
2017).  Of a regressor the bins hold about equal shares of the rows, and the mean target is compared.
"""

from typing import Any

import numpy as np

from modelmill_contracts.evaluation import Bin, Calibration
from modelmill_trainer import bins
from modelmill_trainer.evaluation import Predicted

BINS = 10


def calibration(predicted: Predicted) -> Calibration | None:
    """What comes true of the predictions; None where there are no probabilities, or they are none."""
    if predicted.classes is None:
        numbers = np.asarray(predicted.labels, float).ravel()
        if not np.isfinite(numbers).all():
            return None
        edges = bins.edges_of(numbers, BINS - 1)
        places = np.searchsorted(edges, numbers, side="left")
        return Calibration("Number", _binned(places, numbers, np.asarray(predicted.truth, float)))
    if predicted.probabilities is None or not np.isfinite(predicted.probabilities).all():
        return None
    if len(predicted.classes) == 2:
        of, said = "Positive", predicted.probabilities[:, 1]
        true = predicted.truth == predicted.classes[1]
    else:
        of, said = "Confidence", predicted.probabilities.max(axis=1)
        true = predicted.truth == predicted.labels
    said, true = np.asarray(said, float), np.asarray(true, float)
    places = np.clip((said * BINS).astype(int), 0, BINS - 1)
    found = _binned(places, said, true)
    error = sum(one.rows * abs(one.predicted - one.observed) for one in found) / len(said)
    return Calibration(of, found, _short(error))


def _binned(places: Any, said: Any, true: Any) -> tuple[Bin, ...]:
    found = []
    for place in np.unique(places):
        rows = places == place
        found.append(Bin(int(rows.sum()), _short(said[rows].mean()), _short(true[rows].mean())))
    return tuple(found)


def _short(value: float) -> float:
    """Six significant digits, as metrics have."""
    return float(f"{value:.6g}")
