"""The profile of a dataset's version: how each column is distributed, which the next version is compared with.

Missing values, extremes and means are of all rows.  Medians, bins, categories and histograms are counted in a
uniform sample (see sampling.py), which is all rows where there are no more than 65,536.  Of text nothing is kept but
the names of frequent values: those that `FREQUENT` rows or more of the sample hold, `TOP_VALUES` at most.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts import digest
from modelmill_trainer import bins, casting
from modelmill_trainer.sampling import Sample, cells_of

VERSION = 1
EDGES = 10
TOP_VALUES = 20
FREQUENT = 5
HISTOGRAM_BINS = 30


class Histogram(msgspec.Struct, frozen=True):
    """Counts of equal bins between two values; what lies outside, at most a hundredth on each side, is left out."""

    low: float
    high: float
    counts: tuple[int, ...]


class Numbers(msgspec.Struct, frozen=True, tag="Numbers", tag_field="kind"):
    """A column of Float, Integer or Timestamp (in microseconds since 1970, UTC); NaN counts as missing.

    `counts` are those of [below, (edges[0], edges[1]], ..., above] in the sample.  Where many rows share the smallest
    value, the first edge is just below it, and nothing lies below that: it will show smaller values.
    """

    name: str
    type: str
    missing: int  # of all rows
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sample_missing: int
    min: float | None = None  # of all rows; None: there is no value, or it is infinite
    max: float | None = None
    mean: float | None = None
    median: float | None = None  # of the sample
    histogram: Histogram | None = None


class Categories(msgspec.Struct, frozen=True, tag="Categories", tag_field="kind"):
    """A column of String or Boolean: the frequent values and their counts in the sample, all others, and none."""

    name: str
    type: str
    missing: int  # of all rows
    values: tuple[str, ...]
    counts: tuple[int, ...]
    other: int
    sample_missing: int


class DataProfile(msgspec.Struct, frozen=True):
    rows: int
    sample: int  # rows that bins and categories were counted in
    columns: tuple[Numbers | Categories, ...]
    version: int = VERSION


class Profiler:
    """Sees every row group of a dataset once."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types
        self._rows = 0
        self._columns = {name: _Column(kind) for name, kind in types.items()}
        self._sample = Sample(cells_of(types.values()))

    def add(self, batch: pa.RecordBatch) -> None:
        self._rows += batch.num_rows
        for column, state in zip(batch.columns, self._columns.values(), strict=True):
            state.add(column)
        self._sample.add(batch)

    def profile(self) -> tuple[DataProfile, pa.RecordBatch]:
        """The profile, and the sample that it was made of."""
        sample = self._sample.rows()
        if sample is None:
            schema = pa.schema([(name, casting.ARROW_TYPES[kind]) for name, kind in self._types.items()])
            sample = pa.RecordBatch.from_pylist([], schema)
        columns = tuple(
            _numbers(name, kind, self._columns[name], sample.column(name))
            if is_number(kind)
            else _categories(name, kind, self._columns[name].missing, sample.column(name))
            for name, kind in self._types.items()
        )
        return DataProfile(self._rows, sample.num_rows, columns), sample


def of_rows(table: pa.Table, types: Mapping[str, str], rows: Any) -> tuple[DataProfile, pa.RecordBatch]:
    """The profile of some rows of a typed table, in the columns that `types` names, and the sample it was made of."""
    profiler, chosen, start = Profiler(types), np.zeros(table.num_rows, bool), 0
    chosen[rows] = True
    for batch in table.select(list(types)).to_batches():
        profiler.add(batch.filter(pa.array(chosen[start : start + batch.num_rows])))
        start += batch.num_rows
    return profiler.profile()


class _Column:
    """What is known of all rows: how many are missing and, of numbers, extremes and sum, with NaN as missing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.missing = self.values = 0
        self.low, self.high, self.sum = math.inf, -math.inf, 0.0

    def add(self, column: pa.Array) -> None:
        total = 0.0
        if self._kind == "Float":
            total = pc.sum(column).as_py() or 0.0
            if math.isnan(total):
                column = pc.if_else(pc.is_nan(column), None, column)
                total = pc.sum(column).as_py() or 0.0
        elif is_number(self._kind):
            column = pc.cast(column, pa.int64())
            total = pc.sum(pc.cast(column, pa.float64(), safe=False)).as_py() or 0.0
        self.missing += column.null_count
        values = len(column) - column.null_count
        if not values or not is_number(self._kind):
            return
        extremes = pc.min_max(column).as_py()
        self.low, self.high = min(self.low, extremes["min"]), max(self.high, extremes["max"])
        self.sum += total
        self.values += values


def is_number(kind: str) -> bool:
    return kind in ("Float", "Integer", "Timestamp")


def numbers_of(column: pa.Array) -> Any:
    """The values of a numeric column that are there, as float64."""
    if pa.types.is_timestamp(column.type):
        column = pc.cast(column, pa.int64())
    values = pc.cast(column.drop_null(), pa.float64(), safe=False).to_numpy()
    return values[~np.isnan(values)]


def texts_of(column: pa.Array) -> list[str]:
    """The values of a column of text or truth that are there, as text."""
    found: list[str] = pc.cast(column.drop_null(), pa.string()).to_pylist()
    return found


def _numbers(name: str, kind: str, state: _Column, column: pa.Array) -> Numbers:
    values = numbers_of(column)
    edges = bins.edges_of(values, EDGES)
    if len(edges) and edges[0] == values.min():
        edges = np.concatenate([[np.nextafter(edges[0], -np.inf)], edges])
    edges = edges[np.isfinite(edges)]  # JSON has no infinity
    return Numbers(
        name,
        kind,
        state.missing,
        tuple(map(float, edges)),
        bins.counted(edges, values),
        len(column) - len(values),
        _finite(state.low),
        _finite(state.high),
        _finite(state.sum / state.values) if state.values else None,
        _finite(np.quantile(values, 0.5, method="inverted_cdf")) if len(values) else None,
        _histogram(values[np.isfinite(values)], whole=kind == "Integer"),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _histogram(values: Any, *, whole: bool) -> Histogram | None:
    """`whole`: each bin holds equally many whole numbers, or there would be gaps and peaks that the data has not."""
    if not len(values):
        return None
    low, high = map(float, np.quantile(values, (0.01, 0.99), method="inverted_cdf"))
    inside = values[(values >= low) & (values <= high)]
    if low == high:
        return Histogram(low, high, (len(inside),))
    count = HISTOGRAM_BINS
    if whole:
        step = math.ceil((high - low + 1) / HISTOGRAM_BINS)
        count = math.ceil((high - low + 1) / step)
        low, high = low - 0.5, low - 0.5 + step * count
    counts = np.histogram(inside, count, (low, high))[0]
    return Histogram(low, high, tuple(map(int, counts)))


def _categories(name: str, kind: str, missing: int, column: pa.Array) -> Categories:
    values = texts_of(column)
    top = bins.top_of(values, TOP_VALUES, 1 if kind == "Boolean" else FREQUENT)
    return Categories(
        name,
        kind,
        missing,
        top.values,
        top.counts,
        len(values) - sum(top.counts),
        len(column) - len(values),
    )


def encode(profile: DataProfile) -> bytes:
    return digest.canonical_json(profile)


def decode(data: bytes) -> DataProfile | None:
    """The profile, or None where an earlier or later release wrote it otherwise."""
    try:
        found = msgspec.json.decode(data, type=DataProfile)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return found if found.version == VERSION else None
