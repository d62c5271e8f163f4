"""Snapshots: a source, checked, as one immutable Parquet file in the store, named by its content.

Two digests name it.  The *version* is of the logical content, whatever wrote the file: CSV or Parquet, in
how many files, row groups and chunks.  The *file* is of the stored bytes, which a reader verifies.

The version is the sha256 of

    "modelmill.dev/dataset/v1" LF
    canonical JSON of {"columns": [[name, type], ...], "rows": n} LF
    for each column in order: sha256 (32 bytes) of
        one byte per row: 1 where there is a value, 0 where it is missing
        the values in order, little-endian, 0 where missing:
            Float      float64; -0.0 as 0.0; every NaN as 0x7ff8000000000000
            Integer    int64
            Boolean    one byte
            Timestamp  int64, microseconds since 1970 in UTC
            String     the lengths of all rows in bytes of UTF-8 as int64, then all bytes
"""

import hashlib
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from modelmill_contracts import digest
from modelmill_contracts.report import Report, SnapshotResult
from modelmill_contracts.store import Store, blob_key
from modelmill_contracts.task import SnapshotTask
from modelmill_trainer import casting, sources
from modelmill_trainer.checks import check
from modelmill_trainer.log import phase, say
from modelmill_trainer.reading import read

_HEADER = b"modelmill.dev/dataset/v1\n"
_ROW_GROUP = 1 << 17  # rows


def snapshot(task: SnapshotTask) -> Report:
    """Fetch, read, check, name and store the source; TaskError or StoreError."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with phase("fetch"):
            paths = sources.fetch(task, folder)
        with phase("read"):
            found = read(paths)
        with phase("check", rows=found.table.num_rows, columns=found.table.num_columns):
            table = normalised(check(found, task))
        with phase("name"):
            version = version_of(table)
            path = folder / "snapshot.parquet"
            write(table, path)
            file = digest.of_file(path)
        with phase("store", bytes=path.stat().st_size):
            written = Store(task.store).put_once(blob_key(file), path)
    say("stored" if written else "was stored already", file=file, version=version)
    message = f"{table.num_rows} rows and {table.num_columns} columns, valid"
    result = SnapshotResult(version=version, file=file, rows=table.num_rows, columns=table.num_columns)
    return Report(True, "SnapshotTaken", message, result=result)


def normalised(table: pa.Table) -> pa.Table:
    """The table with 0.0 for -0.0 and one NaN for all: what has the same version is stored as the same bytes."""
    for position, field in enumerate(table.schema):
        if pa.types.is_float64(field.type):
            column = table.column(position)
            same = pc.if_else(pc.is_nan(column), pa.scalar(math.nan), pc.add(column, 0.0))
            table = table.set_column(position, field.name, same)
    return table


def write(table: pa.Table, path: Path) -> None:
    """Write a typed table so that the same content gives the same bytes (with the same pyarrow)."""
    pyarrow.parquet.write_table(
        table.combine_chunks(),
        path,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        version="2.6",
        store_schema=False,
    )


def types_of(table: pa.Table) -> dict[str, str]:
    """The type of each column of a typed table, by the column's name."""
    return {field.name: casting.type_of(table.column(field.name), text=False) or "" for field in table.schema}


def version_of(table: pa.Table) -> str:
    """The digest of a typed table's logical content (the module's docstring has the encoding)."""
    types, table = types_of(table), normalised(table)
    state = hashlib.sha256(_HEADER)
    state.update(digest.canonical_json({"columns": list(types.items()), "rows": table.num_rows}) + b"\n")
    for name, kind in types.items():
        state.update(_column_digest(table.column(name), kind))
    return f"{digest.ALGORITHM}:{state.hexdigest()}"


def _column_digest(column: pa.ChunkedArray, kind: str) -> bytes:
    state = hashlib.sha256()
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    for chunk in chunks:
        state.update(pc.is_valid(chunk).to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
    if kind == "String":
        filled = [pc.fill_null(chunk, "") for chunk in chunks]
        for chunk in filled:
            state.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        for chunk in filled:
            state.update("".join(chunk.to_pylist()).encode())
        return state.digest()
    for chunk in chunks:
        state.update(_values(chunk, kind).tobytes())
    return state.digest()


def _values(chunk: pa.Array, kind: str) -> Any:
    """The chunk's values as a numpy array, whose bytes are hashed."""
    if kind == "Float":
        return pc.fill_null(chunk, 0.0).to_numpy(zero_copy_only=False).astype("<f8")
    if kind == "Boolean":
        return pc.fill_null(chunk, False).to_numpy(zero_copy_only=False).astype(np.uint8)
    whole = pc.cast(chunk, pa.int64())
    return pc.fill_null(whole, 0).to_numpy(zero_copy_only=False).astype("<i8")
