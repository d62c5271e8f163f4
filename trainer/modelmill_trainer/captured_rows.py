"""What a ModelDeployment captured, as the rows of a Dataset: each row once, with the label that came back first.

Records are written to scratch files as they are read.  DuckDB finds the first record of each row and of each label,
joins them and sorts the result, out of core.  So the rows and their order depend on the records alone, however these
were spread over segments, and what is held in memory does not grow with them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import captured
from modelmill_contracts.captured import SegmentError
from modelmill_contracts.report import Problem
from modelmill_contracts.store import Store
from modelmill_contracts.task import CapturedRows, StoreLocation
from modelmill_trainer import captured_columns, duck, segments
from modelmill_trainer.failure import TaskError, malformed, too_large
from modelmill_trainer.log import say
from modelmill_trainer.reading import Source
from modelmill_trainer.segments import Content
from modelmill_trainer.sources import MAX_BYTES

_SPILLED_ROWS = 1 << 13
_SPILLED_BYTES = 8 << 20
_RECORD = [("id", pa.string()), ("number", pa.int64()), ("moment", pa.int64()), ("segment", pa.int64())]
_SCHEMAS = {
    captured.ROWS: pa.schema(
        [
            *_RECORD,
            ("header", pa.int64()),
            ("version", pa.string()),
            ("content", pa.string()),
            ("prediction", pa.string()),
            ("score", pa.float64()),
        ]
    ),
    captured.LABELS: pa.schema([*_RECORD, ("label", pa.string())]),
}
# Few are repeated, and only these are compared with each other.
_REPEATED = "CREATE TABLE repeated_{0} AS SELECT id, number FROM {0} GROUP BY id, number HAVING count(*) > 1"
_FIRST = """
CREATE VIEW first_{0} AS
SELECT * FROM {0} ANTI JOIN repeated_{0} USING (id, number)
UNION ALL
SELECT * FROM {0} SEMI JOIN repeated_{0} USING (id, number)
QUALIFY row_number() OVER (PARTITION BY id, number ORDER BY moment, segment, file_row_number) = 1
"""
_JOINED = """
COPY (
    SELECT r.id, r.number, r.moment, r.header, r.version, r.content, r.prediction, r.score, l.label, l.moment AS came
    FROM first_rows r {0} JOIN first_labels l USING (id, number) ORDER BY r.moment, r.id, r.number
) TO '{1}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)
"""


class Found(NamedTuple):
    source: Source
    newest: datetime  # when the newest of the rows was answered, or of the labels came


class _Read(NamedTuple):
    """The records of the time that is asked for, in scratch files."""

    headers: Sequence[tuple[str, ...]]
    rows: int
    labels: int


@contextmanager
def rows(asked: CapturedRows, location: StoreLocation, folder: Path) -> Iterator[Found]:
    """The rows that are asked for, each with its label; TaskError where there are none, or a segment is damaged."""
    scratch = folder / "captured"
    scratch.mkdir()
    read = _spill(asked, Store(location), scratch)
    path = scratch / "joined.parquet"
    _join(scratch, path, labelled=asked.labelled)
    found = captured_columns.columns(path, read.headers, asked.target)
    if found is None:
        raise _none(read)
    yield Found(found.source, datetime.fromtimestamp(found.newest / 1000, UTC))


def _none(read: _Read) -> TaskError:
    if not read.rows:
        message = (
            "the ModelDeployment captured no row within spec.source.deployment.since: send it requests, raise"
            " spec.capture.sample where only few are kept, or wait"
        )
    else:
        message = (
            f"none of the {read.rows} rows that were captured has a label yet, and {read.labels} labels came: send"
            " what turned out to be true, with the predictions' ids, to /v2/models/NAME/labels of the ModelDeployment;"
            " labels: Optional takes rows without one"
        )
    return TaskError("DataInvalid", message, problems=(Problem(rule="TooFewRows", message=message),))


def _spill(asked: CapturedRows, store: Store, scratch: Path) -> _Read:
    end = datetime.fromisoformat(asked.until)
    start = end - timedelta(seconds=asked.since)
    first, last = segments.milliseconds(start), segments.milliseconds(end)
    headers: dict[tuple[str, ...], int] = {}
    counts = []
    for kind, schema in _SCHEMAS.items():
        keys = segments.keys(store, asked.of, kind, start, end)
        with _Spill(scratch / f"{kind}.parquet", schema) as spill:
            for number, (key, content) in enumerate(segments.fetched(store, keys)):
                with _named(key):
                    found = _rows(content, number, headers) if kind == captured.ROWS else _labels(content, number)
                    for record in found:
                        if first <= record[2] < last:
                            spill.add(record)
        counts.append(spill.count)
        say("read", of=kind, segments=len(keys), records=spill.count)
    return _Read(list(headers), *counts)


def _rows(content: Content, segment: int, headers: dict[tuple[str, ...], int]) -> Iterator[tuple[Any, ...]]:
    found = segments.rows(content)
    if found is None:
        return
    header, version = headers.setdefault(found.header.features, len(headers)), found.header.version
    for row in found.records:
        values = (_json(row.values), _json(row.prediction), _score(row.scores))
        yield row.id, row.row, row.at, segment, header, version, *values


def _labels(content: Content, segment: int) -> Iterator[tuple[Any, ...]]:
    found = segments.labels(content)
    for label in found.records if found is not None else ():
        yield label.id, label.row, label.at, segment, _json(label.label)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _score(scores: Sequence[float]) -> float | None:
    """Of two classes the probability of the second, of more that of the likeliest."""
    if not scores:
        return None
    return scores[1] if len(scores) == 2 else max(scores)


@contextmanager
def _named(key: str) -> Iterator[None]:
    try:
        yield
    except SegmentError as error:
        message = (
            f"the segment {key} in the store cannot be used: {error}. Bring it back from a copy of the store, or delete"
            " it to go on without what was in it"
        )
        raise malformed("SegmentDamaged", message) from error


class _Spill:
    """A scratch file that records are added to one by one."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.count = 0
        self._path, self._schema = path, schema
        self._writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False)
        self._texts = [place for place, field in enumerate(schema) if pa.types.is_string(field.type)]
        self._held: list[tuple[Any, ...]] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, record: tuple[Any, ...]) -> None:
        self.count += 1
        self._held.append(record)
        self._bytes += sum(len(record[place]) for place in self._texts)
        if len(self._held) == _SPILLED_ROWS or self._bytes > _SPILLED_BYTES:
            self._flush()
            if self._path.stat().st_size > MAX_BYTES:
                raise too_large("what was captured", MAX_BYTES)

    def _flush(self) -> None:
        if self._held:
            columns = zip(*self._held, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._held, self._bytes = [], 0


def _join(scratch: Path, path: Path, *, labelled: bool) -> None:
    """The first record of each row with the first label of it, in the order of time."""
    try:
        with duck.connected(scratch) as connection:
            for kind in _SCHEMAS:
                connection.read_parquet(str(scratch / f"{kind}.parquet"), file_row_number=True).create_view(kind)
                connection.execute(_REPEATED.format(kind))
                connection.execute(_FIRST.format(kind))
            connection.execute(_JOINED.format("INNER" if labelled else "LEFT", str(path).replace("'", "''")))
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        message = (
            "to join rows and labels takes more memory and scratch space than there is; give spec.resources more"
            " memory, or ask for a shorter time: spec.source.deployment.since"
        )
        raise TaskError("ScratchFull", message) from error
