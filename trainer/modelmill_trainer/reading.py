"""Reading: CSV, JSON lines and Parquet files as one stream of record batches, with clear errors for bad files.

CSV columns come as text (an unquoted empty field is null), because only the checks know which rows cannot be
what the Dataset declares.  Parquet and JSON columns come as they are typed.  Nothing here grows with the data:
a batch is what a few megabytes of a file hold.
"""

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from modelmill_trainer import json_lines, parquet_bounds
from modelmill_trainer.failure import TaskError, malformed

MAX_COLUMNS = 20_000
BATCH_ROWS = 1 << 17
BATCH_BYTES = 32 << 20  # of a Parquet batch, by the file's own account of its uncompressed size, and its longest texts
BLOCK_BYTES = 8 << 20  # of CSV; no row can be longer
_BUFFER_BYTES = 64 << 20  # of all columns of a Parquet file together
_PARQUET_MAGIC = b"PAR1"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16
# Numbers, times and truths: no names of columns, but where somebody numbers them.
_VALUE = re.compile(
    r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)(e[+-]?[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}([t ].*)?|true|false|nan",
    re.IGNORECASE,
)
NO_HEADER = "the first line looks like a row of data: write a header line, if there is none"
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Source(NamedTuple):
    """Rows that can be read batch by batch, from the first each time."""

    schema: pa.Schema
    text: bool  # whether the columns are text whose types nobody told (CSV)
    batches: Callable[[], Iterator[pa.RecordBatch]]


def read(paths: Sequence[Path]) -> Source:
    """The rows of all files, one after the other; TaskError says which file, by its number, where there are many."""
    wheres = [f"file {number} of {len(paths)}: " if len(paths) > 1 else "" for number in range(1, len(paths) + 1)]
    formats = [_format_of(path, where) for path, where in zip(paths, wheres, strict=True)]
    if formats[0] == "JSON" and set(formats) == {"JSON"}:
        schema = json_lines.schema_of(paths, wheres)
        check_names(schema.names, "")
        return Source(schema, False, lambda: json_lines.batches(paths, wheres, schema))
    schemas = []
    for number, (path, where, kind) in enumerate(zip(paths, wheres, formats, strict=True), 1):
        schemas.append(_schema_of(path, where, kind))
        if schemas[-1].names != schemas[0].names or kind != formats[0]:
            message = f"file {number} of {len(paths)} has other columns, or another format, than the first"
            raise malformed("ColumnsDiffer", message)
    read_one = _read_csv if formats[0] == "CSV" else _read_parquet

    def batches() -> Iterator[pa.RecordBatch]:
        for path, where in zip(paths, wheres, strict=True):
            for batch in read_one(path, where):
                yield batch if batch.schema.equals(schemas[0]) else _alike(batch, schemas[0])

    return Source(schemas[0], formats[0] == "CSV", batches)


def are_values(names: Sequence[str]) -> bool:
    """Whether the first line of a CSV file looks like a row: then its fields are values, which are shown to nobody."""
    return any(_VALUE.fullmatch(name.strip()) for name in names)


def check_names(names: Sequence[str], where: str, *, header: bool = False) -> None:
    """TaskError where columns cannot be told apart by their names, or are too many.

    `header`: the names are the first line of a CSV file, which may be a row of data.
    """
    if not names:
        raise malformed("NoColumns", f"{where}the source has no columns; write the data")
    if len(names) > MAX_COLUMNS:
        raise malformed("TooManyColumns", f"{where}{len(names)} columns; {MAX_COLUMNS} are allowed: leave some out")
    if len(set(names)) < len(names):
        doubled = min(name for name in set(names) if names.count(name) > 1)
        if header and are_values(names):
            places = [place for place, name in enumerate(names, 1) if name == doubled]
            raise malformed(
                "DuplicateColumn",
                f"{where}columns {places[0]} and {places[1]} have the same name; {NO_HEADER}",
            )
        raise malformed(
            "DuplicateColumn",
            f"{where}the column name {doubled!r} occurs {names.count(doubled)} times; rename",
            doubled,
        )
    if "" in names:
        raise malformed(
            "UnnamedColumn",
            f"{where}column {names.index('') + 1} has no name; name it (pandas: to_csv(..., index=False))",
        )


def _alike(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    try:
        return batch.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = "the files have columns of different types; write all of them alike"
        raise malformed("ColumnsDiffer", message) from error


def _format_of(path: Path, where: str) -> str:
    """CSV, JSON or Parquet, by the first bytes."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise malformed("EmptyFile", f"{where}the source is empty; write the data, with a header line")
    if head.startswith(_PARQUET_MAGIC):
        return "Parquet"
    if head.startswith(_WIDE_MARKS) or b"\0" in head:
        raise malformed("EncodingInvalid", f"{where}the source is neither Parquet nor text in UTF-8; write one of them")
    if text.lstrip().startswith(b"{"):
        return "JSON"
    if text.lstrip().startswith((b"[{", b"[\n", b"[ ")):
        raise malformed("FileUnreadable", f"{where}the source is one JSON array; write JSON lines: an object per line")
    _check_delimiter(text, where)
    return "CSV"


def _check_delimiter(text: bytes, where: str) -> None:
    """TaskError where header and first row agree on a delimiter that is not ours, and do not agree on ours."""
    head = text.decode(errors="replace")
    if _are_alike(head, ","):
        return
    for mark, name in _DELIMITERS.items():
        if _are_alike(head, mark):
            raise malformed(
                "DelimiterUnexpected",
                f"{where}the source looks like CSV with {name} between the fields; write commas, and decimal points",
            )


def _are_alike(text: str, delimiter: str) -> bool:
    """Whether header and first row have equally many fields, and several; what is in quotes is one field."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    written = (line for line in lines if "".join(line).strip())
    try:
        widths = [len(line) for line in itertools.islice(written, 2)]
    except csv.Error:
        return False
    return bool(widths) and widths[0] == widths[-1] > 1


def _schema_of(path: Path, where: str, kind: str) -> pa.Schema:
    if kind == "Parquet":
        opened = _open_parquet(path, where)
        parquet_bounds.check(path, opened.metadata, where)
        found = opened.schema_arrow
    else:
        found = _open_csv(path, where, []).schema
    try:
        names = found.names
    except UnicodeDecodeError as error:
        raise malformed("EncodingInvalid", f"{where}the header is not UTF-8; convert the file to UTF-8") from error
    check_names(names, where, header=kind == "CSV")
    return found.remove_metadata() if kind == "Parquet" else pa.schema([(name, pa.string()) for name in names])


def _open_parquet(path: Path, where: str, texts: Sequence[int] = ()) -> pyarrow.parquet.ParquetFile:
    """`texts`: places of columns that are read as dictionaries."""
    try:
        columns = pyarrow.parquet.read_metadata(path).num_columns
        # Buffered: a row group, which may hold everything, is not read at once.
        buffer = max(1 << 14, min(1 << 20, _BUFFER_BYTES // max(columns, 1)))
        return pyarrow.parquet.ParquetFile(path, read_dictionary=texts, buffer_size=buffer, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _not_parquet(where) from error


def _read_parquet(path: Path, where: str) -> Iterator[pa.RecordBatch]:
    file = _open_parquet(path, where)
    metadata = file.metadata
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    per_row = max(1, size // max(1, metadata.num_rows), metadata.num_columns)
    try:
        per_row += _longest_texts(path, where, metadata)
        for batch in file.iter_batches(max(1, min(BATCH_ROWS, BATCH_BYTES // per_row)), use_threads=False):
            yield batch.replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _not_parquet(where) from error


def _longest_texts(path: Path, where: str, metadata: pyarrow.parquet.FileMetaData) -> int:
    """Bytes of a row whose texts are the longest of their dictionaries, of which a file repeats each in a few bits."""
    schema = metadata.schema
    places = [place for place in range(metadata.num_columns) if schema.column(place).physical_type == "BYTE_ARRAY"]
    if not places:
        return 0
    file, most = _open_parquet(path, where, places), 0
    for number in range(metadata.num_row_groups):
        chunks = map(metadata.row_group(number).column, places)
        names = [chunk.path_in_schema for chunk in chunks if any("DICTIONARY" in name for name in chunk.encodings)]
        most = max(most, sum(_longest_text(file, number, name) for name in names))
    return most


def _longest_text(file: pyarrow.parquet.ParquetFile, group: int, column: str) -> int:
    """Bytes of the longest text in the dictionary of a column, which its first row brings with it as a whole."""
    first = next(file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False), None)
    found = [part.dictionary for part in first.columns if isinstance(part, pa.DictionaryArray)] if first else []
    return max((pc.max(pc.binary_length(texts)).as_py() or 0 for texts in found), default=0)


def _not_parquet(where: str) -> TaskError:
    return malformed("FileUnreadable", f"{where}the source starts like Parquet, but cannot be read; write it again")


def _open_csv(path: Path, where: str, ragged: list[int]) -> pyarrow.csv.CSVStreamingReader:
    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.number - 1)  # the header is pyarrow's row 1
        return "skip"

    try:
        return pyarrow.csv.open_csv(
            path,
            # Row numbers are known only without threads.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=note, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                default_column_type=pa.binary(),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _not_csv(error, where) from error


def _read_csv(path: Path, where: str) -> Iterator[pa.RecordBatch]:
    ragged: list[int] = []
    reader = _open_csv(path, where, ragged)
    first = 0
    for batch in _csv_batches(reader, where):
        columns = [_text(batch, position, reader, where, first) for position in range(batch.num_columns)]
        first += batch.num_rows
        yield pa.record_batch(columns, names=reader.schema.names)
    if ragged:
        raise malformed(
            "RaggedRows",
            f"{where}{len(ragged)} rows do not have the header's {len(reader.schema)} fields; quote fields that hold"
            " commas",
            count=len(ragged),
            rows=tuple(ragged[:3]),
        )


def _csv_batches(reader: pyarrow.csv.CSVStreamingReader, where: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _not_csv(error, where) from error


def _not_csv(error: Exception, where: str) -> TaskError:
    if "straddling object" in str(error):
        return malformed(
            "RowTooLong",
            f"{where}a row has more than {BLOCK_BYTES >> 20} MiB; look for a quote that is opened and never closed",
        )
    return malformed(
        "FileUnreadable", f"{where}the source cannot be read as CSV; write UTF-8, commas, and one header line"
    )


def _text(
    batch: pa.RecordBatch, position: int, rest: pyarrow.csv.CSVStreamingReader, where: str, first: int
) -> pa.Array:
    """The column of bytes as text; the rest of the file is read only to count what is not UTF-8."""
    try:
        return pc.cast(batch.column(position), pa.string())
    except pa.ArrowInvalid as error:
        count, rows = 0, list[int]()
        while True:
            bad = [row for row, value in enumerate(batch.column(position).to_pylist(), 1) if not _is_utf8(value)]
            count += len(bad)
            rows.extend(first + row for row in bad[: 3 - len(rows)])
            first += batch.num_rows
            try:
                batch = rest.read_next_batch()
            except (StopIteration, pa.ArrowException):
                break
        hidden = are_values(rest.schema.names)
        name = None if hidden else rest.schema.names[position]
        raise malformed(
            "EncodingInvalid",
            f"{where}column {position + 1 if hidden else repr(name)} has {count} fields that are not UTF-8; convert the"
            " file to UTF-8",
            name,
            count,
            tuple(rows),
        ) from error


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
