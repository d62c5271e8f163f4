"""Frozen rows: the test rows of an artifact as a server takes them, for whoever tests a model later.

The layout is that of `modelmill_contracts.evaluation`: the same rows are the same bytes (with the same pyarrow).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import evaluation
from modelmill_contracts.evaluation import FrozenRows
from modelmill_trainer.data import Data
from modelmill_trainer.slicing import Texts


class Frozen(NamedTuple):
    content: bytes  # Parquet
    described: FrozenRows
    rows: Any  # their positions in the data, ascending


def freeze(data: Data, order: Any, texts: Mapping[str, Texts]) -> Frozen:
    """The first of the test rows, `order` in the split's order, as many as the bounds let in.

    `texts` are the slices' columns of all rows of the data.
    """
    chosen = order[: evaluation.MAX_ROWS]
    room = np.flatnonzero(np.cumsum(_sizes(data, chosen, texts)) > evaluation.MAX_BYTES)
    rows = np.sort(chosen[: max(1, int(room[0]))] if len(room) else chosen)
    columns: dict[str, Any] = {}
    for name, kind in data.types.items():
        values = data.features[name].iloc[rows]
        if kind == "String":
            columns[evaluation.FEATURE + name] = pa.array(values.fillna("").tolist(), pa.string())
        else:
            with np.errstate(over="ignore"):
                columns[evaluation.FEATURE + name] = pa.array(values.to_numpy(np.float32))
    target = data.target[rows]
    columns[evaluation.TARGET] = (
        pa.array(target.tolist(), pa.string()) if target.dtype.kind == "U" else pa.array(target)
    )
    for name, text in texts.items():
        columns[evaluation.SLICE + name] = pa.array([text[row] for row in rows], pa.string())
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pyarrow.parquet.write_table(
        table, sink, compression="zstd", version="2.6", store_schema=False, use_dictionary=strings
    )
    described = FrozenRows(len(rows), len(order), data.name, tuple(texts))
    return Frozen(sink.getvalue().to_pybytes(), described, rows)


def _sizes(data: Data, rows: Any, texts: Mapping[str, Texts]) -> Any:
    """Bytes of each row's values."""
    text = [name for name, kind in data.types.items() if kind == "String"]
    sizes = np.full(len(rows), 4 * (len(data.types) - len(text)) + 8)
    for name in text:
        sizes += [_bytes(value) for value in data.features[name].iloc[rows]]
    for values in texts.values():
        sizes += [_bytes(values[row]) for row in rows]
    return sizes


def _bytes(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else 0
