"""Row groups: the same rows are cut at the same places, however they came, so that they are stored as the same bytes.

A group ends at the first multiple of 8 rows at which it has 131,072 rows, or 64 MiB of values.  A value counts 8
bytes, a text the length of its UTF-8 besides: so a group of many columns, or of long texts, fits memory too.  8,
because the digest takes whole bytes of validity (see version.py).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 1 << 17
UNIT = 8
BYTES = 64 << 20
_VALUE = 8


def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of typed batches in groups, each in one piece."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        pending.append(batch)
        rows += batch.num_rows
        size += _size(batch)
        while rows >= ROWS or (size >= BYTES and rows >= UNIT):
            whole = _joined(pending)
            pending = [whole]  # what it was joined of is let go
            end = _end_of_group(whole)
            if end is None:
                break
            yield _joined([whole.slice(0, end)])
            rest = whole.slice(end)
            pending, rows, size = [rest], rest.num_rows, _size(rest)
    if rows:
        yield _joined(pending)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _size(batch: pa.RecordBatch) -> int:
    texts = (column for column in batch.columns if pa.types.is_string(column.type))
    size: int = batch.num_rows * batch.num_columns * _VALUE
    for text in texts:
        size += pc.sum(pc.binary_length(text)).as_py() or 0
    return size


def _end_of_group(batch: pa.RecordBatch) -> int | None:
    """The row before which the first group ends; None: it goes on."""
    units = min(batch.num_rows, ROWS) // UNIT
    sizes: Any = np.full(units, UNIT * batch.num_columns * _VALUE)
    for column in batch.columns:
        if pa.types.is_string(column.type):
            lengths = pc.fill_null(pc.binary_length(column.slice(0, units * UNIT)), 0).to_numpy().astype(np.int64)
            sizes += lengths.reshape(units, UNIT).sum(axis=1)
    full = np.flatnonzero(np.cumsum(sizes) >= BYTES)
    if len(full):
        return int(full[0] + 1) * UNIT
    return ROWS if units * UNIT == ROWS else None
