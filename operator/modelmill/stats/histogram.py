"""Counts of compute times on the edges that all arms and replicas share: quantiles, and how many were slower."""

import math
from bisect import bisect_left
from itertools import accumulate

from modelmill.stats.block_gro import Counts
from modelmill_contracts.counters import LATENCY_EDGES

BINS = len(LATENCY_EDGES) + 1
"""Of a histogram: bin i counts times in (edge[i-1], edge[i]], the last one those above all edges."""


def cumulated(counts: tuple[int, ...]) -> tuple[int, ...]:
    """How many times are at most each edge and, last, how many there are.  ValueError where the edges are others."""
    if counts and len(counts) != BINS:
        raise ValueError(f"latency counts have {len(counts)} bins, not the {BINS} of LATENCY_EDGES")
    return tuple(accumulate(counts)) or (0,) * BINS


def quantile_edge(times: tuple[int, ...], quantile: float) -> int | None:
    """Index of the first edge that at least this share of the cumulated times does not exceed; None where none is."""
    wanted = math.ceil(quantile * times[-1] * (1 - 1e-12))  # 0.9 of 10 are 9, whatever 0.9 * 10 is in floats
    if wanted == 0:
        return None
    edge = bisect_left(times, wanted)
    return edge if edge < len(LATENCY_EDGES) else None


def edge_times(edge: int, ratio: float) -> int | None:
    """Index of the first edge that is at least `ratio` times this one; None where it lies above all."""
    found = bisect_left(LATENCY_EDGES, LATENCY_EDGES[edge] * ratio * (1 - 1e-9))  # edges are exact to 1e-16 only
    return found if found < len(LATENCY_EDGES) else None


def slower(times: tuple[int, ...], edge: int) -> Counts:
    """How many of the cumulated times there are, and how many of them are slower than the edge."""
    return Counts(times[-1], times[-1] - times[edge])


def to_text(counts: tuple[int, ...]) -> str:
    """The bins from the first to the last that is not empty: `index of the first:count,count,...`; "" for none."""
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return ""
    return f"{filled[0]}:{','.join(map(str, counts[filled[0] : filled[-1] + 1]))}"


def from_text(text: str) -> tuple[int, ...]:
    """What `to_text` wrote; () for "".  ValueError where it is something else."""
    if not text:
        return ()
    first, _, rest = text.partition(":")
    counts = [0] * int(first) + [int(count) for count in rest.split(",")]
    if len(counts) > BINS or min(counts) < 0:
        raise ValueError("more bins than there are, or a negative count")
    return tuple(counts + [0] * (BINS - len(counts)))
