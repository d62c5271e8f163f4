"""Rows in the profile's bins: what drift is told from.

A row that the model has seen is appended to a block, and 256 rows at a time are binned: alone, a row would take
30 searches.  The block is in the worker's shared memory too, so a reader bins what waits in it, and totals are exact
whenever they are read, even those of a worker that was killed.

That takes two areas, each with counts and a block.  What an area counts is its counts and the first rows of its block.
A full block goes, with its area's counts, into the counts of the other area, and then one write of a word makes that
one the current one.  So a worker may be killed at any moment, and the next one goes on with what it finds.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from modelmill_contracts import counters, profile
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_contracts.profile import Categorical, Numeric, Profile
from modelmill_server import row as rows
from modelmill_server.row import Row
from modelmill_server.signature import Signature
from modelmill_server.tensors import Array

BLOCK = 256  # rows
_LARGEST_EDGES = 1 << 20  # bytes
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
        # [edges, rows, columns]: compared with a whole block at once, which is twice as fast as row by row, where
        # that does not take too much memory.
        self.edges = np.repeat(edges[:, np.newaxis], BLOCK if edges.nbytes * BLOCK <= _LARGEST_EDGES else 1, axis=1)

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
        self.prediction_codes = _codes(self.predictions) if isinstance(self.predictions, Categorical) else {}
        self.label_codes = _LabelCodes(self.prediction_codes)
        self.prediction_edges = _array(self.predictions)
        self.score_edges = _array(self.scores)

        plain = rows.dtype(manifest) if self.matrix is not None and signature.datatype == "FP32" else None
        self.plain = plain is not None  # whether the block holds rows as they are, see `Bins.copy_from`
        self.record = plain or np.dtype([("0", "f4", self.width), ("1", "f4"), ("2", "f4", self.classes)])
        self.bins = most + 2  # of a column: the last one for missing values
        counts = self.width * self.bins + len(self.prediction_edges) + 2 + len(self.score_edges) + 2
        self.block = BLOCK * self.record.itemsize
        self.size = -(-(_HEAD + 2 * (8 * counts + self.block)) // 64) * 64
        self.counts = counts
        self.offsets = np.arange(self.width) * self.bins  # of a column's bins in a slab


_HEAD = 16  # bytes


class Bins:
    """The bins of one worker: `memory` is its part of the shared memory, zeros at first."""

    def __init__(self, layout: Layout, memory: memoryview) -> None:
        self._layout = layout
        self._memory = memory[: layout.size]
        # [how often counts were changed, place of the next row].  Places below BLOCK are in the first area.
        self._head = memory[:_HEAD].cast("Q")
        self._counts, self._rows, self._labels, self._probabilities = _views(layout, memory)
        self._block = memory[_HEAD + 16 * layout.counts :][: 2 * layout.block]
        # Count `rows` that the model has seen as `feeds` and answered with `outputs`; both are copied.
        self.add: Callable[[int, dict[str, Array], Sequence[Array]], None] = self._add

    def copy_from(self, row: Row) -> None:
        """Count single rows, whose answers are in `row`, by a copy of its memory, as most requests need it."""
        if not self._layout.plain:
            return
        head, flush, add_any, block, size = (
            self._head,
            self._flush,
            self._add,
            self._block,
            self._layout.record.itemsize,
        )
        memory, answers = row.memory, row.outputs
        last, very_last = BLOCK - 1, 2 * BLOCK - 1  # places in the areas

        def add(rows: int, feeds: dict[str, Array], outputs: Sequence[Array]) -> None:
            if outputs is not answers:
                add_any(rows, feeds, outputs)
                return
            index = head[1]
            start = index * size
            block[start : start + size] = memory
            if index == last or index == very_last:  # noqa: SIM109 - twice as fast as `in`
                flush()
            else:
                head[1] = index + 1

        self.add = add

    def _add(self, rows: int, feeds: dict[str, Array], outputs: Sequence[Array]) -> None:
        first = 0
        while first < rows:
            index = self._head[1]
            room = BLOCK - index % BLOCK
            last = min(rows, first + room)
            if last - first == BLOCK and self._layout.matrix is not None:
                self._count(_binned(self._layout, *self._answered(first, last, feeds, outputs)))
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
        area, rows = divmod(end, BLOCK)
        counts, *blocks = _views(self._layout, copy)
        block = (part[area * BLOCK : area * BLOCK + rows] for part in blocks)
        return Totals(self._layout, counts[area] + _binned(self._layout, *block))

    def _put(
        self, start: int, end: int, first: int, last: int, feeds: dict[str, Array], outputs: Sequence[Array]
    ) -> None:
        """Rows first to last of a request go to the places start to end."""
        layout = self._layout
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
        labels, probabilities = self._labels[:BLOCK], self._probabilities[:BLOCK]
        if layout.labels is not None:
            labels = outputs[layout.labels].ravel()[first:last]
            if layout.prediction_codes and not layout.plain:
                labels = layout.label_codes.of(labels)
        if layout.probabilities is not None:
            probabilities = outputs[layout.probabilities][first:last]
        return feeds[matrix][first:last], labels, probabilities

    def _flush(self) -> None:
        """Count the rows of the current area's block, which is full."""
        area = self._head[1] // BLOCK
        block = slice(area * BLOCK, (area + 1) * BLOCK)
        try:
            found = _binned(self._layout, self._rows[block], self._labels[block], self._probabilities[block])
        except Exception:
            self._head[0] += 1
            self._head[1] = area * BLOCK  # else no row would find a place any more
            raise
        self._count(found)

    def _count(self, found: Array) -> None:
        """Add to the counts; the current area's block holds no row that is not among them."""
        area = self._head[1] // BLOCK
        other = 1 - area
        self._head[0] += 1  # who still reads the other area reads again
        np.add(self._counts[area], found, out=self._counts[other])
        self._head[1] = other * BLOCK  # from here on they are counted


class Totals:
    """Bins of one worker, or with `+` of several."""

    def __init__(self, layout: Layout, counts: Array) -> None:
        self._layout = layout
        self._counts = counts

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self._layout, self._counts + other._counts)

    def features(self) -> tuple[counters.Bins, ...]:
        table = self._counts[: self._layout.width * self._layout.bins].reshape(self._layout.width, -1)
        return tuple(_named(part, table[index]) for index, part in self._layout.features)

    def predictions(self) -> counters.Bins | None:
        layout = self._layout
        start = layout.width * layout.bins
        part = layout.predictions
        return None if part is None else _named(part, self._counts[start : start + len(layout.prediction_edges) + 2])

    def scores(self) -> counters.Bins | None:
        layout = self._layout
        part = layout.scores
        return None if part is None else _named(part, self._counts[-(len(layout.score_edges) + 2) :])


def _are_binned(known: Numeric | Categorical, answers: Tensor) -> bool:
    """Whether there is one answer a row, and numbers where the bins are of numbers."""
    one = answers.shape[1:] in ((), (1,))
    return one and (answers.datatype != "BYTES" if isinstance(known, Numeric) else bool(known.values))


def _named(part: Numeric | Categorical, found: Array) -> counters.Bins:
    values = found.tolist()
    if isinstance(part, Numeric):
        return counters.Bins(part.name, tuple(values[: len(part.edges) + 1]), 0, values[-1])
    return counters.Bins(part.name, tuple(values[: len(part.values)]), values[len(part.values)], values[-1])


def _views(layout: Layout, memory: memoryview) -> tuple[Array, Array, Array, Array]:
    """The counts, [2, counts], and the blocks' rows, predictions and probabilities, [2 * BLOCK, ...], of both areas."""
    end = _HEAD + 16 * layout.counts
    counts = np.frombuffer(memory[_HEAD:end], np.uint64).reshape(2, -1)
    block = np.frombuffer(memory[end : end + 2 * layout.block], layout.record)
    labels, probabilities = layout.labels, layout.probabilities
    if not layout.plain:
        labels, probabilities = 0, 1
    return (
        counts,
        block["0"],
        np.zeros(2 * BLOCK) if labels is None else block[str(1 + labels)].reshape(2 * BLOCK),
        np.zeros((2 * BLOCK, 0)) if probabilities is None else block[str(1 + probabilities)],
    )


def _binned(layout: Layout, rows: Array, labels: Array, probabilities: Array) -> Array:
    """How many rows are in each bin, in the order of a slab's counts."""
    rows = np.ascontiguousarray(rows)
    small = np.zeros(rows.shape, np.uint8 if layout.bins <= 256 else np.uint16)
    above = np.empty(rows.shape, np.bool_)
    for edges in layout.edges:  # the bin's index is how many edges are less; NaN is above none
        np.greater(rows, edges[: len(rows)], out=above)
        np.add(small, above.view(np.uint8), out=small)
    missing = np.isnan(rows)
    if missing.any():
        small[missing] = layout.bins - 1
    indices = np.add(small, layout.offsets, dtype=np.intp)
    features = np.bincount(indices.ravel(), minlength=layout.width * layout.bins)
    if layout.plain and layout.prediction_codes:
        labels = layout.label_codes.of(labels)
    labels, probabilities = labels.astype(np.float32), probabilities.astype(np.float32, copy=False)
    scores = probabilities.max(axis=1, initial=-np.inf) if layout.classes else labels
    answers = _searched(layout.prediction_edges, labels if layout.predictions is not None else labels[:0])
    return np.concatenate(
        (features, answers, _searched(layout.score_edges, scores if layout.scores is not None else scores[:0]))
    ).astype(np.uint64)


def _searched(edges: Array, values: Array) -> Array:
    found = edges.searchsorted(values)  # "left": a value that equals an edge belongs below it
    found[np.isnan(values)] = len(edges) + 1
    return np.bincount(found, minlength=len(edges) + 2)


def _edges(part: Numeric | Categorical) -> list[float]:
    if isinstance(part, Numeric):
        return list(part.edges)
    return [index + 0.5 for index in range(len(part.values))]


def _array(part: Numeric | Categorical | None) -> Array:
    return np.array([] if part is None else _edges(part), np.float32)


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
