"""Drift: how far a column moved since the previous version, beyond what sampling explains.

Both versions are counted in the bins of the previous one, missing values in one of their own.  The effect is

    PSI - (B - 1) (1/N + 1/M),    PSI = sum over the B bins of (p - q) ln(p / q)

with N and M the rows counted of the previous and the new version, and the shares p = (n + 1/2) / (N + B/2), q alike,
so that an empty bin is no infinity.  What is subtracted is what PSI is on average where nothing moved (PSI is twice
the symmetric divergence, whose N M / (N + M)-fold is asymptotically chi-square with B - 1 degrees of freedom:
Yurdakul, Statistical Properties of Population Stability Index, 2018).  Bins that both versions lack do not count.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from modelmill_trainer import bins
from modelmill_trainer.data_profile import Categories, DataProfile, Numbers, numbers_of, texts_of


def effects(previous: DataProfile, sample: pa.RecordBatch) -> dict[str, float]:
    """The effect of each column that both versions have with the same type; times are left out: they always move."""
    found = {}
    for before in previous.columns:
        if before.type == "Timestamp" or before.name not in sample.schema.names:
            continue
        column = sample.column(before.name)
        known = _counted_alike(before, column)
        if known is not None:
            found[before.name] = effect(*known)
    return found


def effect(before: Sequence[int], after: Sequence[int]) -> float:
    """The effect between counts in the same bins; 0 where one version has no rows."""
    pairs = [(n, m) for n, m in zip(before, after, strict=True) if n or m]
    rows, new_rows, count = sum(before), sum(after), len(pairs)
    if not rows or not new_rows:
        return 0.0
    psi = 0.0
    for n, m in pairs:
        p, q = (n + 0.5) / (rows + count / 2), (m + 0.5) / (new_rows + count / 2)
        psi += (p - q) * math.log(p / q)
    return psi - (count - 1) * (1 / rows + 1 / new_rows)


def _counted_alike(before: Numbers | Categories, column: pa.Array) -> tuple[list[int], list[int]] | None:
    if isinstance(before, Numbers):
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            return None
        values = numbers_of(column)
        after = [*bins.counted(np.array(before.edges), values), len(column) - len(values)]
        return [*before.counts, before.sample_missing], after
    if not (pa.types.is_string(column.type) or pa.types.is_boolean(column.type)):
        return None
    texts = texts_of(column)
    places = {value: place for place, value in enumerate(before.values)}
    counts = [0] * (len(places) + 1)
    for place in _places(texts, places):
        counts[place] += 1
    return [*before.counts, before.other, before.sample_missing], [*counts, len(column) - len(texts)]


def _places(texts: list[str], places: dict[str, int]) -> Iterator[int]:
    return (places.get(text, len(places)) for text in texts)
