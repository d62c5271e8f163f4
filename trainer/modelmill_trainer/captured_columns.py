"""Columns of what was captured: JSON values of many requests, and of several models, as typed columns.

A column's type is what all of its values are: Boolean, Integer, Float where one of them has a fraction, and String as
soon as one is a text, with numbers as JSON writes them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import captured
from modelmill_contracts.captured import Scalar
from modelmill_trainer.casting import ARROW_TYPES
from modelmill_trainer.failure import malformed
from modelmill_trainer.reading import Source, check_names

_CELLS = 1 << 19  # Python objects that are held at a time
_INT64 = 2**63
_WHOLE = 2.0**53

Headers = Sequence[tuple[str, ...]]  # names of features, by the number that rows refer to


class Columns(NamedTuple):
    """The rows of a joined file as typed columns."""

    source: Source
    newest: int  # of its times, in milliseconds since 1970


def columns(path: Path, headers: Headers, target: str) -> Columns | None:
    """The rows of the file, whose labels are the column `target`; None: there are none.

    The file has `id`, `number` (of the row in its request), `moment` (milliseconds), `header`, `version`, `content`
    (the features' values as JSON), `prediction` (JSON), `score`, `label` (JSON) and `came` (when the label did).
    """
    features: dict[str, Kind] = {}
    prediction, label = Kind(), Kind()
    scored, newest = False, -1
    for batch in _read(path, headers):
        for header in dict.fromkeys(batch.numbers):  # the names are in the order in which rows have them
            for name in headers[header]:
                features.setdefault(name, Kind())
        for name, values in batch.features(tuple(features)):
            features[name].add(values)
        prediction.add(batch.decoded("prediction"))
        label.add(batch.decoded("label"))
        scored = scored or batch.has("score")
        newest = max(newest, batch.newest())
    if newest < 0:
        return None
    schema = _schema(features, prediction, label, target, scored=scored)
    names = tuple(features)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _read(path, headers):
            found = {
                captured.CAPTURED_ID: batch.ids(),
                captured.CAPTURED_AT: batch.times(),
                captured.CAPTURED_VERSION: batch.rows.column("version"),
                captured.CAPTURED_SCORE: batch.rows.column("score"),
                captured.CAPTURED_PREDICTION: _array(batch.decoded("prediction"), prediction.arrow),
                target: _array(batch.decoded("label"), label.arrow),
                **{name: _array(values, features[name].arrow) for name, values in batch.features(names)},
            }
            yield pa.record_batch([found[name] for name in schema.names], schema=schema)

    return Columns(Source(schema, False, batches), newest)


class Kind:
    """The type that all values of a column have."""

    def __init__(self) -> None:
        self._types: set[type] = set()

    def add(self, values: Sequence[Scalar]) -> None:
        self._types.update(map(type, values))
        if int in self._types and float not in self._types:
            whole = [value for value in values if type(value) is int]
            if whole and not -_INT64 <= min(whole) <= max(whole) < _INT64:
                self._types.add(float)

    @property
    def arrow(self) -> pa.DataType:
        types = self._types - {type(None)}
        if not types or str in types:
            return ARROW_TYPES["String"]
        if float in types:
            return ARROW_TYPES["Float"]
        return ARROW_TYPES["Integer" if int in types else "Boolean"]


def text_of(value: float | str) -> str:
    """A value as JSON writes it, whole numbers without a fraction; texts as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # of a whole number
        return float("inf") if value > 0 else float("-inf")


_PYTHON: dict[pa.DataType, Callable[[Any], Any]] = {
    ARROW_TYPES["String"]: text_of,
    ARROW_TYPES["Float"]: _float,
    ARROW_TYPES["Integer"]: int,
    ARROW_TYPES["Boolean"]: bool,
}


def _array(values: Sequence[Scalar], kind: pa.DataType) -> pa.Array:
    convert = _PYTHON[kind]
    return pa.array([None if value is None else convert(value) for value in values], kind)


def _schema(features: dict[str, Kind], prediction: Kind, label: Kind, target: str, *, scored: bool) -> pa.Schema:
    """The columns in their order; TaskError where two would have one name."""
    if target in features:
        advice = "give the labels another name: spec.source.deployment.target"
        raise malformed("DuplicateColumn", f"a feature has the name of the labels, {target!r}; {advice}", target)
    for name in captured.NOT_FEATURES:
        if name in features:
            advice = "leave it out of what is captured: spec.capture.columns of the ModelDeployment"
            raise malformed("DuplicateColumn", f"a feature has the name {name!r}, which is not its own; {advice}", name)
    fields = [
        (captured.CAPTURED_ID, ARROW_TYPES["String"]),
        (captured.CAPTURED_AT, ARROW_TYPES["Timestamp"]),
        (captured.CAPTURED_VERSION, ARROW_TYPES["String"]),
        *((name, kind.arrow) for name, kind in features.items()),
        (captured.CAPTURED_PREDICTION, prediction.arrow),
        *([(captured.CAPTURED_SCORE, ARROW_TYPES["Float"])] if scored else []),
        (target, label.arrow),
    ]
    check_names([name for name, _ in fields], "")
    return pa.schema(fields)


class _Batch:
    """Rows of a joined file."""

    def __init__(self, rows: pa.RecordBatch, headers: Headers) -> None:
        self.rows = rows
        self._headers = headers
        self.numbers: list[int] = rows.column("header").to_pylist()

    def decoded(self, name: str) -> list[Scalar]:
        """The values of a column of JSON."""
        decode = msgspec.json.Decoder(Scalar).decode
        return [None if text is None else decode(text) for text in self.rows.column(name).to_pylist()]

    def features(self, names: Sequence[str]) -> Iterator[tuple[str, Sequence[Scalar]]]:
        """The values of each feature, None where it was not kept."""
        decode = msgspec.json.Decoder(tuple[Scalar, ...]).decode
        values = [decode(text) for text in self.rows.column("content").to_pylist()]
        parts = {number: self._headers[number] for number in dict.fromkeys(self.numbers)}
        if list(parts.values()) == [tuple(names)]:
            yield from zip(names, zip(*values, strict=True), strict=True)
            return
        places = {number: {name: place for place, name in enumerate(part)} for number, part in parts.items()}
        for name in names:
            wanted = {number: found.get(name) for number, found in places.items()}
            yield (
                name,
                [
                    None if (place := wanted[number]) is None else row[place]
                    for number, row in zip(self.numbers, values, strict=True)
                ],
            )

    def has(self, name: str) -> bool:
        return bool(self.rows.column(name).null_count < self.rows.num_rows)

    def newest(self) -> int:
        times = (self.rows.column(name).drop_null() for name in ("moment", "came"))
        return max(int(found.to_numpy().max()) for found in times if len(found))

    def ids(self) -> pa.Array:
        pairs = zip(*(self.rows.column(name).to_pylist() for name in ("id", "number")), strict=True)
        return pa.array([f"{id_}:{number}" for id_, number in pairs], pa.string())

    def times(self) -> pa.Array:
        return self.rows.column("moment").cast(pa.timestamp("ms", tz="UTC")).cast(ARROW_TYPES["Timestamp"])


def _read(path: Path, headers: Headers) -> Iterator[_Batch]:
    widest = max(map(len, headers), default=0) + 1
    rows = max(1, min(1 << 14, _CELLS // widest))
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, use_threads=False):
            if batch.num_rows:
                yield _Batch(batch, headers)
