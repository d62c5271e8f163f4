"""The signature: which features may be sent without a value."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from modelmill_contracts.artifact import Feature
from modelmill_trainer import conversion

_ROWS = 8  # of real data, with values taken out


def features(
    fitted: Pipeline, types: dict[str, str], rows: pd.DataFrame, session: Any, scale: float
) -> tuple[Feature, ...]:
    """The features in order; `missing` where both scikit-learn and what serves accept that, and agree.

    `session` is the onnxruntime session that will serve, None where scikit-learn itself does; `scale` is the
    unit of differences.
    """
    names, allowed = list(types), set()
    for group in _groups(fitted, names):
        if _accepts(fitted, types, rows.head(_ROWS), group, session, scale):
            allowed.update(group)
    return tuple(Feature(name, types[name], name in allowed) for name in names)


def _groups(fitted: Pipeline, names: Sequence[str]) -> list[list[str]]:
    """Features that take the same way through the pipeline, and so accept the same."""
    columns = fitted.steps[0][1]
    if not isinstance(columns, ColumnTransformer):
        return [list(names)]
    return [[names[position] for position in np.atleast_1d(positions)] for _, _, positions in columns.transformers_]


def _accepts(
    fitted: Pipeline, types: dict[str, str], rows: pd.DataFrame, group: Sequence[str], session: Any, scale: float
) -> bool:
    probe = rows.copy()
    probe[list(group)] = np.nan
    try:
        expected = conversion.expect(fitted, probe)
    except Exception:
        return False
    if session is None:
        return True
    try:
        found = session.run(conversion.methods(fitted), conversion.feed(types, probe))
        labels, distance = conversion.difference(fitted, found, expected, scale)
    except Exception:
        return False
    return not labels and distance <= conversion.TOLERANCE
