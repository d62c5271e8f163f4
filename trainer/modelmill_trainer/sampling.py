"""A uniform sample of rows that pass by, the same for the same rows in whatever batches they come.

Each row draws a number, and the rows with the lowest numbers stay.  The numbers are the raw stream of a generator
with a fixed seed, which numpy promises never to change.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 1 << 16
_LEAST_ROWS = 1 << 10
_CELLS = 1 << 23  # of all rows together: wide data is sampled less
_TEXT = 64  # characters of a text that are kept
_TEXT_CELLS = 9  # of 8 bytes: the characters, most often of one byte, and where they begin


def cells_of(types: Iterable[str]) -> int:
    """The cells of a row whose columns have these types."""
    return sum(_TEXT_CELLS if kind == "String" else 1 for kind in types)


class Sample:
    """Up to `size` rows, every one of which was as likely to be in it."""

    def __init__(self, cells: int) -> None:
        """`cells` of a row, see `cells_of`."""
        self.size = max(_LEAST_ROWS, min(ROWS, _CELLS // max(cells, 1)))
        self._draw: Any = np.random.PCG64(0)
        self._bound = np.uint64(2**64 - 1)  # no row with a higher number can stay
        self._numbers: list[Any] = []
        self._parts: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        numbers = self._draw.random_raw(batch.num_rows)
        low = np.flatnonzero(numbers <= self._bound)
        if len(low):
            self._numbers.append(numbers[low])
            self._parts.append(_short(batch.take(pa.array(low))))
        if sum(map(len, self._numbers)) > 2 * self.size:
            self._prune()

    def rows(self) -> pa.RecordBatch | None:
        """The sample, in the order of the rows; None: no row came."""
        if not self._parts:
            return None
        self._prune()
        return self._parts[0]

    def _prune(self) -> None:
        numbers = np.concatenate(self._numbers)
        if len(numbers) > self.size:
            self._bound = np.partition(numbers, self.size - 1)[self.size - 1]
            # Part by part, so that what goes and what stays are not held twice.
            for place, found in enumerate(self._numbers):
                low = np.flatnonzero(found <= self._bound)
                self._numbers[place], self._parts[place] = found[low], self._parts[place].take(pa.array(low))
        self._numbers, self._parts = [np.concatenate(self._numbers)], [pa.concat_batches(self._parts)]


def _short(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        pc.utf8_slice_codeunits(column, 0, _TEXT) if pa.types.is_string(column.type) else column
        for column in batch.columns
    ]
    return pa.record_batch(columns, schema=batch.schema)
