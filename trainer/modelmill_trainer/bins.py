"""Bins of about equal shares of the rows, and how many values lie in each.

With k edges, edge i is the i/(k+1) quantile, which is a value of the data.  Only above a value that many rows
share, and that is the largest, is there an empty bin: it will show larger values.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class Top(NamedTuple):
    """The most frequent texts, and how many rows hold each, the most frequent first."""

    values: tuple[str, ...]
    counts: tuple[int, ...]


def edges_of(known: Any, count: int) -> Any:
    """At most `count` edges, fewer where values repeat, of values of which none is NaN."""
    if not len(known):
        return np.array([], dtype=known.dtype)
    return np.unique(np.quantile(known, np.arange(1, count + 1) / (count + 1), method="inverted_cdf"))


def counted(edges: Any, known: Any) -> tuple[int, ...]:
    """Counts of [below, (edge, edge], ..., above]: len(edges) + 1 of them."""
    # side="left": a value that equals an edge belongs below it.
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return tuple(map(int, counts))


def top_of(values: Iterable[str], most: int, least_rows: int = 1) -> Top:
    """At most `most` texts that `least_rows` rows or more hold."""
    counts = Counter(values)
    frequent = [value for value in counts if counts[value] >= least_rows]
    top = sorted(frequent, key=lambda value: (-counts[value], value))[:most]
    return Top(tuple(top), tuple(counts[value] for value in top))
