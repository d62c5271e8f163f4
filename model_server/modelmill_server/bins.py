"""Rows in the profile's bins: what drift is told from.

A row that the model has seen is appended to a block, and up to 1,024 rows at a time are binned: alone, a row would take
30 searches, and whatever is called seldom finds nothing of itself in the caches.  A request of one row leaves its times
there, too, for the same reason.  The block is in the worker's shared memory too, so a reader bins what waits in it, and
totals are exact whenever they are read, even those of a worker that was killed.

That takes two areas, each with counts and a block.  What an area counts is its counts and the first rows of its block.
A full block goes, with its area's counts, into the counts of the other area, and then one write of a word makes that
one the current one.  So a worker may be killed at any moment, and the next one goes on with what it finds.
"""

import math
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

from modelmill_contracts import counters, profile
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_contracts.profile import Categorical, Numeric, Profile
from modelmill_server import row as rows
from modelmill_server.row import Row
from modelmill_server.signature import Signature
from modelmill_server.tensors import Array

_TILE = 256  # rows that are compared with all edges at once; a multiple of the 8 bytes of a word
_ROWS = 256  # of the smallest block
_MOST_ROWS, _LARGEST_BLOCK = 1024, 1 << 18  # of a block; bytes, if it has more rows than the smallest one
_LARGEST_EDGES = 1 << 20  # bytes
_COMPARED = 1 << 17  # bytes of what comparing a tile gives, which stay in a cache
_LABELS, _PROBABILITIES = "predict", "predict_proba"
_MOST_CLASSES = 1024  # of which probabilities are kept; a model with more gets no score bins


class Layout:
    """Where the columns, outputs and bins of one model version are.  `size` is in bytes, for one worker.

    Bins of a column are told apart by edges alone.  Categories become their index in the profile, others the
    number of categories, and the edges are between them.
    """

    def __init__(self, manifest: Manifest, signature: Signature, known: Profile) -> None:
        self.digest = profile.edges_digest(known)
        self.width = signature.width
        self.matrix = signature.matrix
        self.columns = [(column.name, column.index, column.missing) for column in signature.columns.values()]
        # A feature that the model does not read has no column; a text in a matrix cannot be.
        self.features = [
            (signature.columns[part.name].index, part)
            for part in known.features
            if part.name in signature.columns and (isinstance(part, Numeric) or signature.matrix is None)
        ]
        self.categories = {index: _codes(part) for index, part in self.features if isinstance(part, Categorical)}
        most = max((len(_edges(part)) for _, part in self.features), default=0)
        edges = np.full((most, self.width), np.inf, np.float32)
        for index, part in self.features:
            own = _edges(part)
            edges[: len(own), index] = own
        # [edges, columns, rows]: once for each row of a tile, which is three times as fast, where that does not take
        # too much memory.
        tiled = _TILE if edges.nbytes * _TILE <= _LARGEST_EDGES else 1
        self.edges = np.repeat(edges[:, :, np.newaxis], tiled, axis=2)
        self.together = max(1, _COMPARED // (max(1, most) * _TILE))  # columns that are compared at once

        names = [tensor.name for tensor in manifest.outputs]
        classes = manifest.outputs[names.index(_PROBABILITIES)].shape[-1] if _PROBABILITIES in names else 0
        self.labels = names.index(_LABELS) if _LABELS in names else None
        if self.labels is not None and not _are_binned(known.predictions, manifest.outputs[self.labels]):
            self.labels = None
        self.predictions = known.predictions if self.labels is not None else None
        self.probabilities = names.index(_PROBABILITIES) if 0 < classes <= _MOST_CLASSES else None
        self.classes = classes if self.probabilities is not None else 0
        scored = self.probabilities is not None or isinstance(self.predictions, Numeric)
        self.scores = known.scores if scored else None
        self.reference = counters.Reference(
            tuple(_trained(part) for _, part in self.features),
            None if self.predictions is None else _trained(self.predictions),
            None if self.scores is None else msgspec.structs.replace(_trained(self.scores), edges=self.scores.edges),
        )
        self.prediction_codes = _codes(self.predictions) if isinstance(self.predictions, Categorical) else {}
        self.label_codes = _LabelCodes(self.prediction_codes)
        self.prediction_edges = _array(self.predictions)
        self.score_edges = _array(self.scores)

        plain = rows.dtype(manifest) if self.matrix is not None and signature.datatype == "FP32" else None
        self.plain = plain is not None  # whether the block holds rows as they are, see `Bins.copy_from`
        row = plain or np.dtype([("0", "f4", self.width), ("1", "f4"), ("2", "f4", self.classes)])
        self.row = row.itemsize
        # Seconds of the model and of the whole request; NaN where they are counted elsewhere.
        self.record = np.dtype([("row", row), ("seconds", "f8", 2)])
        self.bins = most + 2  # of a column: the last one for missing values
        # Where a slab's counts of features, predictions, scores and times end.
        sizes = (self.width * self.bins, len(self.prediction_edges) + 1, len(self.score_edges) + 1, 2 * _TIMES)
        self.ends = list(accumulate(sizes))
        most_rows = min(_MOST_ROWS, _LARGEST_BLOCK // self.record.itemsize)
        self.rows = max(_ROWS, most_rows // _ROWS * _ROWS)  # of a block
        self.block = self.rows * self.record.itemsize
        self.size = -(-(_HEAD + 2 * (8 * self.ends[-1] + self.block)) // 64) * 64


_HEAD = 16  # bytes
_EDGES = np.array([*counters.LATENCY_EDGES, math.inf])
_TIMES = len(_EDGES) + 1  # counts of a histogram of times: its bins, and the sum in nanoseconds
_NO_TIMES = np.zeros(2 * _TIMES, np.uint64)


class Bins:
    """The bins of one worker: `memory` is its part of the shared memory, zeros at first."""

    def __init__(self, layout: Layout, memory: memoryview) -> None:
        self._layout = layout
        self._memory = memory[: layout.size]
        # [how often counts were changed, place of the next row].  Places below layout.rows are in the first area.
        self._head = memory[:_HEAD].cast("Q")
        self._counts, *self._blocks = _views(layout, memory)
        self._rows, self._labels, self._probabilities, self._seconds = self._blocks
        self.answers: Sequence[Array] = ()  # those of the requests that `add_row` counts; no request's at first
        self.add_row: Callable[[float, float], None] = self._no_row

    def copy_from(self, row: Row) -> None:
        """Count requests of one row, whose answers are in `row`, with one copy of its memory, as most of them are."""
        if not self._layout.plain:
            return
        layout, head, flush = self._layout, self._head, self._flush
        block = self._memory[_HEAD + 16 * layout.ends[-1] :]
        record = struct.Struct(f"={layout.row}s2d")
        size, put, memory = record.size, record.pack_into, row.memory
        last, very_last = layout.rows - 1, 2 * layout.rows - 1  # places in the areas

        def add_row(compute: float, request: float) -> None:
            """Count a request with the row's answers: `request` seconds, `compute` of them the model's."""
            index = head[1]
            put(block, index * size, memory, compute, request)
            if index == last or index == very_last:  # noqa: SIM109 - twice as fast as `in`
                flush()
            else:
                head[1] = index + 1

        self.answers, self.add_row = row.outputs, add_row

    def _no_row(self, compute: float, request: float) -> None:  # noqa: ARG002
        raise AssertionError("a row is counted that nobody has said where it is")

    def add(self, rows: int, feeds: dict[str, Array], outputs: Sequence[Array]) -> None:
        """Count `rows` that the model has seen as `feeds` and answered with `outputs`; both are copied."""
        first, block = 0, self._layout.rows
        while first < rows:
            index = self._head[1]
            room = block - index % block
            last = min(rows, first + room)
            if last - first == block and self._layout.matrix is not None:
                answered = self._answered(first, last, feeds, outputs)
                self._count(np.concatenate((_binned(self._layout, *answered), _NO_TIMES)))
            else:
                self._put(index, index + last - first, first, last, feeds, outputs)
                if last - first == room:
                    self._flush()
                else:
                    self._head[1] = index + last - first
            first = last

    def read(self) -> "Totals":
        """The exact totals, whatever the worker does meanwhile."""
        while True:
            changes, end = self._head
            copy = memoryview(bytearray(self._memory))
            if changes == self._head[0]:
                break
        area, rows = divmod(end, self._layout.rows)
        counts, *blocks = _views(self._layout, copy)
        *block, seconds = (part[end - rows : end] for part in blocks)
        waiting = np.concatenate((_binned(self._layout, *block), _timed(seconds)))
        return Totals(self._layout, counts[area] + waiting)

    def _put(
        self, start: int, end: int, first: int, last: int, feeds: dict[str, Array], outputs: Sequence[Array]
    ) -> None:
        """Rows first to last of a request go to the places start to end."""
        layout = self._layout
        self._seconds[start:end] = np.nan
        if layout.matrix is not None:
            self._rows[start:end] = feeds[layout.matrix][first:last]
        else:
            for name, index, missing in layout.columns:
                column = feeds[name].ravel()[first:last]
                codes = layout.categories.get(index)
                self._rows[start:end, index] = column if codes is None else _coded(column, codes, missing)
        if layout.labels is not None:
            labels = outputs[layout.labels].ravel()[first:last]
            coded = bool(layout.prediction_codes) and not layout.plain
            self._labels[start:end] = layout.label_codes.of(labels) if coded else labels
        if layout.probabilities is not None:
            self._probabilities[start:end] = outputs[layout.probabilities][first:last]

    def _answered(
        self, first: int, last: int, feeds: dict[str, Array], outputs: Sequence[Array]
    ) -> tuple[Array, Array, Array]:
        """A block's worth of a request for a matrix, where it lies: rows, predictions, probabilities."""
        layout, matrix = self._layout, self._layout.matrix
        assert matrix is not None  # noqa: S101 - who calls has looked
        labels, probabilities = self._labels[: layout.rows], self._probabilities[: layout.rows]
        if layout.labels is not None:
            labels = outputs[layout.labels].ravel()[first:last]
            if layout.prediction_codes and not layout.plain:
                labels = layout.label_codes.of(labels)
        if layout.probabilities is not None:
            probabilities = outputs[layout.probabilities][first:last]
        return feeds[matrix][first:last], labels, probabilities

    def _flush(self) -> None:
        """Count the rows of the current area's block, which is full."""
        size = self._layout.rows
        start = self._head[1] // size * size
        *block, seconds = (part[start : start + size] for part in self._blocks)
        times = _timed(seconds)
        try:
            found = _binned(self._layout, *block)
        except Exception:
            # Without the rows, for which else no place would be left: the requests were answered all the same.
            self._count(np.concatenate((np.zeros(self._layout.ends[-2], np.uint64), times)))
            raise
        self._count(np.concatenate((found, times)))

    def _count(self, found: Array) -> None:
        """Add to the counts; the current area's block holds no row that is not among them."""
        area = self._head[1] // self._layout.rows
        other = 1 - area
        self._head[0] += 1  # who still reads the other area reads again
        np.add(self._counts[area], found, out=self._counts[other])
        self._head[1] = other * self._layout.rows  # from here on they are counted


class Totals:
    """Bins of one worker, or with `+` of several."""

    def __init__(self, layout: Layout, counts: Array) -> None:
        self._layout = layout
        self._counts = counts

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self._layout, self._counts + other._counts)

    def features(self) -> tuple[counters.Bins, ...]:
        table = self._part(0).reshape(self._layout.width, -1)
        return tuple(_named(part, table[index]) for index, part in self._layout.features)

    def predictions(self) -> counters.Bins | None:
        part = self._layout.predictions
        return None if part is None else _named(part, self._part(1))

    def scores(self) -> counters.Bins | None:
        part = self._layout.scores
        return None if part is None else _named(part, self._part(2))

    def times(self) -> tuple[counters.Latency, counters.Latency]:
        """Of the requests that left them here: the model's, and the whole request's."""
        compute, request = (
            counters.Latency(tuple(counts[:-1].tolist()), float(counts[-1]) / 1e9)
            for counts in self._part(3).reshape(2, _TIMES)
        )
        return compute, request

    def _part(self, index: int) -> Array:
        ends = self._layout.ends
        return self._counts[ends[index - 1] if index else 0 : ends[index]]


def _are_binned(known: Numeric | Categorical, answers: Tensor) -> bool:
    """Whether there is one answer a row, and numbers where the bins are of numbers."""
    one = answers.shape[1:] in ((), (1,))
    return one and (answers.datatype != "BYTES" if isinstance(known, Numeric) else bool(known.values))


def _named(part: Numeric | Categorical, found: Array) -> counters.Bins:
    values = found.tolist()
    if isinstance(part, Numeric):
        return counters.Bins(part.name, tuple(values[: len(part.edges) + 1]), 0, values[-1])
    return counters.Bins(part.name, tuple(values[: len(part.values)]), values[len(part.values)], values[-1])


def _trained(part: Numeric | Categorical) -> counters.Trained:
    other = part.other if isinstance(part, Categorical) else None
    return counters.Trained(part.name, part.counts, part.missing, other)


def _views(layout: Layout, memory: memoryview) -> tuple[Array, Array, Array, Array, Array]:
    """Of both areas the counts, [2, counts], and [2 * rows, ...] of rows, predictions, probabilities and times."""
    end = _HEAD + 16 * layout.ends[-1]
    counts = np.frombuffer(memory[_HEAD:end], np.uint64).reshape(2, -1)
    records = np.frombuffer(memory[end : end + 2 * layout.block], layout.record)
    block, seconds = records["row"], records["seconds"]
    labels, probabilities = layout.labels, layout.probabilities
    if not layout.plain:
        labels, probabilities = 0, 1
    return (
        counts,
        block["0"],
        np.zeros(2 * layout.rows) if labels is None else block[str(1 + labels)].reshape(2 * layout.rows),
        np.zeros((2 * layout.rows, 0)) if probabilities is None else block[str(1 + probabilities)],
        seconds,
    )


def _binned(layout: Layout, rows: Array, labels: Array, probabilities: Array) -> Array:
    """How many rows are in each bin of features, predictions and scores, in the order of a slab's counts."""
    if layout.plain and layout.prediction_codes:
        labels = layout.label_codes.of(labels)
    labels = labels.astype(np.float32)
    # Class by class, in C order: row by row, numpy takes ten times as long for a few classes.
    scores = np.array(probabilities.T, np.float32, order="C").max(axis=0) if layout.classes else labels
    answers = _searched(layout.prediction_edges, labels if layout.predictions is not None else labels[:0])
    scored = _searched(layout.score_edges, scores if layout.scores is not None else scores[:0])
    return np.concatenate((_by_column(layout, rows), answers, scored)).astype(np.uint64)


def _by_column(layout: Layout, rows: Array) -> Array:
    """How many of a block's rows are in each bin of each column, [columns * bins].

    Those above an edge and not above the next one are in the bin between them; NaN is above none.
    """
    count, width = rows.shape
    parts = -(-count // _TILE)
    if count < parts * _TILE:
        padded = np.full((parts * _TILE, width), -np.inf, np.float32)  # above none, too
        padded[:count] = rows
        rows = padded
    tiles = np.ascontiguousarray(rows.reshape(parts, _TILE, width).swapaxes(1, 2))  # [tiles, columns, rows]
    is_missing = np.isnan(tiles)
    found = np.zeros((layout.bins, width), np.int64)
    if is_missing.any():
        found[-1] = is_missing.sum(axis=(0, 2))
    found[0] = count - found[-1]
    for first in range(0, width, layout.together):
        some = slice(first, first + layout.together)
        above = _above(layout.edges[:, some], tiles[:, some])
        found[1:-1, some] = above
        found[:-2, some] -= above
    return found.T.ravel()


def _above(edges: Array, tiles: Array) -> Array:
    """[edges, columns]: of rows in [tiles, columns, rows], how many are above each edge.

    A row is a byte, and eight of them are added at once, as a word: of a block's 1,024 rows, none of its bytes gets
    more than 128.
    """
    above = np.empty((len(edges), *tiles.shape[1:]), np.bool_)
    found = np.zeros(above.shape, np.uint8)
    for tile in tiles:
        np.greater(tile, edges, out=above)
        np.add(found, above.view(np.uint8), out=found)
    words = np.add.reduce(found.view(np.uint64), axis=-1)
    rows: Array = words[..., np.newaxis].view(np.uint8).sum(axis=-1, dtype=np.int64)
    return rows


def _timed(seconds: Array) -> Array:
    """The histograms of the model's and the requests' times, [n, 2], as in a slab's counts."""
    seconds = np.ascontiguousarray(seconds.T)
    bins = _EDGES.searchsorted(seconds)  # NaN: behind infinity
    bins[1] += _TIMES
    found = np.bincount(bins.ravel(), minlength=2 * _TIMES)
    sums = np.nansum(seconds, axis=1) if found[_TIMES - 1] else seconds.sum(axis=1)
    found[_TIMES - 1 :: _TIMES] = np.rint(sums * 1e9)
    return found.astype(np.uint64)


def _searched(edges: Array, values: Array) -> Array:
    """How many values are in each bin; NaN is behind infinity, the last edge."""
    return np.bincount(edges.searchsorted(values), minlength=len(edges) + 1)  # "left": an edge belongs to what is below


def _edges(part: Numeric | Categorical) -> list[float]:
    if isinstance(part, Numeric):
        return list(part.edges)
    return [index + 0.5 for index in range(len(part.values))]


def _array(part: Numeric | Categorical | None) -> Array:
    """The edges, and infinity."""
    return np.array([*([] if part is None else _edges(part)), np.inf], np.float32)


def _codes(part: Categorical) -> dict[Any, int]:
    """The index of each category, by its text and by the number or truth value that it is the text of."""
    codes: dict[Any, int] = {}
    for index, text in enumerate(part.values):
        codes[text] = index
        if text in ("True", "False"):
            codes[text == "True"] = index
        with suppress(ValueError):
            codes[float(text)] = index  # equal to the integer, too
    return codes


class _LabelCodes:
    """Labels as their codes: numbers by a search, texts one by one."""

    def __init__(self, codes: dict[Any, int]) -> None:
        self._codes = codes
        numbers = sorted(key for key in codes if type(key) is float)
        self._numbers = np.array(numbers)
        self._of_numbers = np.array([*(codes[number] for number in numbers), _other(codes)], np.float32)

    def of(self, labels: Array) -> Array:
        """[rows] of float32; what is no category has the code behind the last."""
        if labels.dtype.kind not in "iuf" or not len(self._numbers):
            return np.array(_coded(labels, self._codes, missing=False), np.float32)
        found = self._numbers.searchsorted(labels)
        found[found == len(self._numbers)] = 0  # compared with any, it is not equal
        found[self._numbers[found] != labels] = len(self._numbers)
        return self._of_numbers[found]


def _other(codes: dict[Any, int]) -> float:
    return float(max(codes.values(), default=-1) + 1)


def _coded(values: Array, codes: dict[Any, int], missing: bool) -> list[float]:
    """Texts or labels as codes.  An empty text is a missing one where the feature allows that."""
    other = _other(codes)
    known: dict[Any, float] = {"": math.nan, **codes} if missing else dict(codes)
    return [known.get(value, other) for value in values.tolist()]
