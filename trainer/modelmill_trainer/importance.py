"""Permutation importance: how much worse what is served predicts when one feature's values are shuffled.

A feature that others repeat looks less important than it is, and one that is important says nothing of causes
(Breiman, Random Forests, 2001; Fisher et al., All Models are Wrong, but Many are Useful, 2019).

The work is bounded by what is asked of the model, and not by a clock: the same training has to give the same bytes on
a busy machine too.  `_PREDICTED` rows are at most a few times as many as the conversion was compared on, wherever a
model has seen enough rows to be slow.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelmill_contracts.evaluation import Importance, Shuffled
from modelmill_trainer import evaluation
from modelmill_trainer.evaluation import Predicted, is_loss, known_metrics, measure_part
from modelmill_trainer.log import phase, say

MAX_ROWS = 1000
MAX_FEATURES = 200  # of more, the first in the model's order
_PREDICTED = 50_000  # rows in all
_REPEATS, _FEW_REPEATS = 5, 2
_PASSES = 100  # over the rows, if that leaves every feature its few repeats

Ask = Callable[[pd.DataFrame, Any], Predicted]  # rows, and their truth


def importance(ask: Ask, rows: pd.DataFrame, truth: Any, metrics: Sequence[str], seed: int) -> Importance | None:
    """Of each feature, by the first of the `metrics` that these rows define; None where none is, or the model fails.

    `rows` are some that the model has not seen; the columns are its features.
    """
    names = list(rows.columns)[:MAX_FEATURES]
    repeats = min(_REPEATS, max(_FEW_REPEATS, _PASSES // len(names)))
    count = min(len(rows), MAX_ROWS, max(1, _PREDICTED // (len(names) * repeats)))
    draw = np.random.default_rng(seed % 2**32)
    chosen = np.sort(draw.choice(len(rows), count, replace=False))
    part, known = rows.iloc[chosen].reset_index(drop=True), truth[chosen]
    with phase("importance", rows=count, features=len(names)):
        try:
            return _measured(ask, part, known, metrics, names, repeats, draw)
        except Exception as error:
            # A model may refuse rows that never occur together; what it is good for is known without this.
            say("no importance: the model does not predict shuffled rows", error=type(error).__name__)
            return None


def _measured(
    ask: Ask, part: pd.DataFrame, truth: Any, metrics: Sequence[str], names: Sequence[str], repeats: int, draw: Any
) -> Importance | None:
    whole = ask(part, truth)
    defaults = evaluation.DEFAULT_REGRESSOR if whole.classes is None else evaluation.DEFAULT_CLASSIFIER
    asked = [name for name in dict.fromkeys((*metrics, *defaults)) if name in known_metrics(whole)]
    defined = measure_part(whole, asked)
    metric = next((name for name in asked if name in defined), None)
    if metric is None:
        return None
    sign = -1.0 if is_loss(metric) else 1.0
    found = []
    for name in names:
        worse = []
        for _ in range(repeats):
            shuffled = part.copy()
            shuffled[name] = part[name].to_numpy()[draw.permutation(len(part))]
            value = measure_part(ask(shuffled, truth), (metric,))[metric]
            worse.append(sign * (defined[metric] - value))
        found.append(Shuffled(name, _short(statistics.fmean(worse)), _short(statistics.stdev(worse))))
    found.sort(key=lambda one: -one.worse)
    return Importance(metric, _short(defined[metric]), len(part), repeats, tuple(found))


def _short(value: float) -> float:
    """Six significant digits, as metrics have; no -0."""
    return float(f"{value:.6g}") + 0.0
