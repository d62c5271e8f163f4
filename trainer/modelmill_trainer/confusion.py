"""Confusion: of the test rows, how many of each class were predicted as each class."""

from collections import Counter

import numpy as np

from modelmill_contracts.evaluation import MAX_CLASSES, Confusion
from modelmill_trainer.evaluation import Predicted


def confusion(predicted: Predicted) -> Confusion | None:
    """The matrix; None of a regressor.  Of many classes the most frequent are named, all others counted together."""
    if predicted.classes is None:
        return None
    names = list(map(str, predicted.classes.tolist()))
    truth, labels = (list(map(str, np.asarray(side).tolist())) for side in (predicted.truth, predicted.labels))
    frequency = Counter(truth)
    ranked = sorted(names, key=lambda name: (-frequency[name], name))
    named = set(ranked[:MAX_CLASSES])
    shown = [name for name in names if name in named]
    # What a model of somebody's own may say besides its classes is one of the others.
    others = not {*names, *truth, *labels} <= named
    places = {name: place for place, name in enumerate(shown)}
    pairs = Counter(zip(*([places.get(name, len(shown)) for name in side] for side in (truth, labels)), strict=True))
    size = range(len(shown) + others)
    return Confusion(tuple(shown), tuple(tuple(pairs[row, column] for column in size) for row in size), others)
