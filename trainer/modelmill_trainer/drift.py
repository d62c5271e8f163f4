"""Drift: how far a column moved since the previous version, beyond what sampling explains.

Both versions are counted in the bins of the previous one, missing values in one of their own.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from modelmill_contracts.effect import effect
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
