"""What is kept of a prediction: the values that the model saw and what it answered, row by row.

A request's arrays are copied at once, since the next one may overwrite them; rows are made of them later, some at a
time, so that a request of many rows holds up no other.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from modelmill_contracts import captured
from modelmill_contracts.artifact import Manifest, Tensor
from modelmill_contracts.captured import Row, RowsHeader, Scalar
from modelmill_server import log
from modelmill_server.signature import Signature
from modelmill_server.tensors import Array
from modelmill_server.v2 import PREDICT, Call

_PROBABILITIES = "predict_proba"
_OVERHEAD = 1 << 10  # bytes, besides its arrays', of what is kept of a request


class Kept(msgspec.Struct, gc=False):
    """One request, of `rows`, that was answered; `done` of them are records already."""

    id: str
    at: int  # milliseconds since 1970
    rows: int
    inputs: list[Array]  # the matrix, or an array for each column
    predictions: Array | None
    scores: Array | None
    size: int  # bytes
    done: int = 0


class Recorder:
    """Makes records of one model version's predictions, with the features in `columns`; None: with all."""

    def __init__(self, manifest: Manifest, signature: Signature, columns: Sequence[str] | None) -> None:
        known = list(signature.columns) or [str(index) for index in range(signature.width)]
        if columns is not None and (unknown := [name for name in columns if name not in known]):
            log.warning("the model has no such features, and they are not captured", features=unknown)
        self.features = tuple(name for name in known if columns is None or name in columns)
        self._matrix = signature.matrix
        self._places = [known.index(name) for name in self.features]
        self._all = len(self.features) == len(known)
        self._missing = [signature.matrix is None and signature.columns[name].missing for name in self.features]
        names = [tensor.name for tensor in manifest.outputs]
        self.predicted = _predicted(manifest.outputs)
        self._predictions = None if self.predicted is None else names.index(self.predicted.name)
        self._scores = names.index(_PROBABILITIES) if _PROBABILITIES in names and manifest.classes else None
        if self._scores is not None and manifest.outputs[self._scores].shape[1:] != (len(manifest.classes),):
            self._scores = None
        kind = "BYTES" if self.predicted is None else self.predicted.datatype
        self.classes = () if self._scores is None else tuple(_typed(text, kind) for text in manifest.classes)

    @property
    def width(self) -> int:
        """Values of a row: features, prediction and scores."""
        return len(self.features) + 1 + len(self.classes)

    def header(self, artifact: str, version: str) -> RowsHeader:
        return RowsHeader(artifact, version, self.features, self.classes)

    def keep(self, call: Call, arrays: Sequence[Array]) -> Kept:
        """A copy of what is to be kept of a request and its answers."""
        if self._matrix is not None:
            matrix = call.feeds[self._matrix]
            inputs = [matrix.copy() if self._all else matrix[:, self._places]]
        else:
            inputs = [call.feeds[name].ravel().copy() for name in self.features]
        predictions = None if self._predictions is None else arrays[self._predictions].copy()
        scores = None if self._scores is None else arrays[self._scores].copy()
        size = _OVERHEAD + sum([_size(array) for array in (*inputs, predictions, scores) if array is not None])
        return Kept(call.id or "", time.time_ns() // 1_000_000, call.rows, inputs, predictions, scores, size)

    def lines(self, kept: Kept, most: int) -> tuple[int, bytes]:
        """The next rows of a request, `most` at once: how many, and their records."""
        first, last = kept.done, min(kept.rows, kept.done + most)
        kept.done = last
        some = slice(first, last)
        values = self._values(kept.inputs, some, last - first)
        predictions: list[Any] = [None] * (last - first)
        if kept.predictions is not None:
            predictions = kept.predictions.reshape(kept.rows)[some].tolist()
        scores: list[Any] = [()] * (last - first) if kept.scores is None else _finite(kept.scores[some].tolist())
        numbers = range(first, last)
        return last - first, captured.lines(
            [
                Row(kept.id, number, kept.at, tuple(row), prediction, tuple(score))
                for number, row, prediction, score in zip(numbers, values, predictions, scores, strict=True)
            ]
        )

    def _values(self, inputs: list[Array], some: slice, count: int) -> Sequence[Sequence[Scalar]]:
        if self._matrix is not None:
            rows: list[list[Scalar]] = inputs[0][some].tolist()  # NaN is null in JSON
            return rows
        columns: list[list[Scalar]] = [array[some].tolist() for array in inputs]
        for index, missing in enumerate(self._missing):
            if missing:
                columns[index] = [None if value == "" else value for value in columns[index]]
        return list(zip(*columns, strict=True)) if columns else [()] * count


def _finite(scores: list[list[float]]) -> list[Sequence[float]]:
    """The scores of each row; none where one of them is no number that JSON has."""
    return [row if all(map(math.isfinite, row)) else () for row in scores]


def _size(array: Array) -> int:
    """Bytes, about: a text takes up to four for each character."""
    return array.nbytes if array.dtype != object else 64 * array.size + 4 * sum(map(len, array.ravel().tolist()))


def _predicted(outputs: Sequence[Tensor]) -> Tensor | None:
    """The output with one prediction for each row; None where there is none."""
    one = outputs[0] if len(outputs) == 1 else next((tensor for tensor in outputs if tensor.name == PREDICT), None)
    return one if one is not None and one.shape in ((-1,), (-1, 1)) else None


def _typed(text: str, datatype: str) -> Scalar:
    """A class, which the manifest has as text, as predictions have it."""
    if datatype == "BYTES":
        return text
    if datatype == "BOOL":
        return text == "True"
    try:
        return float(text) if datatype.startswith("FP") else int(float(text))
    except ValueError:
        return text
