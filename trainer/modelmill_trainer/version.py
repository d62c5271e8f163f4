"""The version of a dataset: the digest of its logical content, whatever wrote it.

CSV, Parquet or SQL, in how many files, row groups and batches: the same typed rows have the same version, and it
is computed while they stream by.  It is the sha256 of

    "modelmill.dev/dataset/v2" LF
    canonical JSON of {"columns": [[name, type], ...], "rows": n} LF
    for each column in order, one after the other, the sha256 (32 bytes) of each of its streams:
        validity   one bit per row, the first row in the lowest bit of the first byte, padded with 0:
                   1 where there is a value, 0 where it is missing
        values     in order, little-endian, 0 where missing:
            Float      float64; -0.0 as 0.0; every NaN as 0x7ff8000000000000
            Integer    int64
            Boolean    one byte, 1 or 0
            Timestamp  int64, microseconds since 1970 in UTC
            String     the length in bytes of UTF-8 as uint32
        bytes      of a String only: the UTF-8 of all rows, one after the other
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts import digest
from modelmill_trainer import casting

_HEADER = b"modelmill.dev/dataset/v2\n"
_SLICE = 1 << 17  # rows of a table that are hashed at once; a multiple of 8


class ContentDigest:
    """The version of rows that come batch by batch; every batch but the last has a multiple of 8 rows."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types
        self._columns = {name: _ColumnDigest(kind) for name, kind in types.items()}
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """`batch`: typed and `normalised`, the columns in order."""
        if self._rows % 8:
            raise ValueError(f"a batch after {self._rows} rows, which fill no whole number of bytes of validity")
        self._rows += batch.num_rows
        for column, state in zip(batch.columns, self._columns.values(), strict=True):
            state.update(column)

    def version(self) -> str:
        """The digest of what came so far."""
        state = hashlib.sha256(_HEADER)
        state.update(digest.canonical_json({"columns": list(self._types.items()), "rows": self._rows}) + b"\n")
        for column in self._columns.values():
            state.update(column.digests())
        return f"{digest.ALGORITHM}:{state.hexdigest()}"


class _ColumnDigest:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._validity, self._values, self._bytes = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def update(self, column: pa.Array) -> None:
        rows = len(column)
        if not column.null_count:
            self._validity.update(b"\xff" * (rows // 8) + (bytes([(1 << rows % 8) - 1]) if rows % 8 else b""))
        else:
            self._validity.update(validity(column))
            column = pc.fill_null(column, _FILL[self._kind])
        if self._kind == "String":
            self._values.update(pc.binary_length(column).to_numpy().astype("<u4", copy=False))
            self._bytes.update(_bytes_of(column))
        elif self._kind == "Boolean":
            self._values.update(pc.cast(column, pa.uint8()).to_numpy())
        else:
            numbers = pc.cast(column, pa.int64()) if self._kind == "Timestamp" else column
            self._values.update(numbers.to_numpy().astype("<f8" if self._kind == "Float" else "<i8", copy=False))

    def digests(self) -> bytes:
        streams = [self._validity, self._values, *([self._bytes] if self._kind == "String" else [])]
        return b"".join(stream.digest() for stream in streams)


_FILL: dict[str, Any] = {
    "Float": 0.0,
    "Integer": 0,
    "Boolean": False,
    "Timestamp": pa.scalar(0, casting.ARROW_TYPES["Timestamp"]),
    "String": "",
}


def validity(column: pa.Array) -> Any:
    """One bit for each row, the first in the lowest bit of the first byte: uint8 [ceil(rows / 8)]."""
    return np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False), bitorder="little")


def _bytes_of(column: pa.StringArray) -> memoryview:
    """The bytes of all rows of an array without missing values."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    data = column.buffers()[2]
    return memoryview(data)[offsets[0] : offsets[-1]] if data is not None and len(offsets) else memoryview(b"")


def normalised(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with 0.0 for -0.0 and one NaN for all: what has the same version is stored as the same bytes."""
    columns = [_normal(column) if pa.types.is_float64(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, schema=batch.schema)


def _normal(column: pa.Array) -> pa.Array:
    filled = pc.fill_null(column, 0.0) if column.null_count else column
    values = filled.to_numpy() + 0.0
    if math.isnan(values.sum()):  # many times faster than a look at each value
        values[np.isnan(values)] = np.nan
    bits = pa.py_buffer(validity(column)) if column.null_count else None
    return pa.Array.from_buffers(pa.float64(), len(values), [bits, pa.py_buffer(values)])


def types_of(schema: pa.Schema) -> dict[str, str]:
    """The type of each column of typed rows, by the column's name."""
    return {field.name: casting.type_of(field.type) or "" for field in schema}


def version_of(table: pa.Table) -> str:
    """The version of a typed table."""
    state = ContentDigest(types_of(table.schema))
    for first in range(0, table.num_rows, _SLICE):
        part = table.slice(first, _SLICE).combine_chunks()
        columns = [
            pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0) for column in part.columns
        ]
        state.update(normalised(pa.record_batch(columns, schema=table.schema)))
    return state.version()
