"""Reading: CSV and Parquet files to one Arrow table, with clear errors for files that are not well formed.

CSV columns come as text (an unquoted empty field is null), because only the checks know which rows cannot be
what the Dataset declares.  Parquet columns come as they are typed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from modelmill_contracts.report import Problem
from modelmill_trainer.failure import TaskError

_PARQUET_MAGIC = b"PAR1"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16


class Found(NamedTuple):
    """What the source holds."""

    table: pa.Table
    text: bool  # whether the columns are text whose types nobody told (CSV)


def read(paths: Sequence[Path]) -> Found:
    """The rows of all files, one after the other; TaskError says which file, by its number, where there are many."""
    found = []
    for number, path in enumerate(paths, 1):
        found.append(_read_one(path, f"file {number} of {len(paths)}: " if len(paths) > 1 else ""))
        if found[-1].table.column_names != found[0].table.column_names or found[-1].text != found[0].text:
            message = f"file {number} of {len(paths)} has other columns, or another format, than the first"
            raise _malformed("ColumnsDiffer", message)
    schema = found[0].table.schema.remove_metadata()
    try:
        return Found(pa.concat_tables([entry.table.cast(schema) for entry in found]), found[0].text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = "the files have columns of different types; write all of them alike"
        raise _malformed("ColumnsDiffer", message) from error


def _read_one(path: Path, where: str) -> Found:
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise _malformed("EmptyFile", f"{where}the source is empty; write the data, with a header line")
    text = not head.startswith(_PARQUET_MAGIC)
    table = _read_csv(path, head, where) if text else _read_parquet(path, where)
    names = table.column_names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise _malformed(
            "DuplicateColumn",
            f"{where}the column name {doubled[0]!r} occurs {names.count(doubled[0])} times; rename",
            doubled[0],
        )
    if "" in names:
        raise _malformed(
            "UnnamedColumn",
            f"{where}column {names.index('') + 1} has no name; name it (pandas: to_csv(..., index=False))",
        )
    return Found(table, text)


def _read_parquet(path: Path, where: str) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path, use_threads=False, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _malformed(
            "FileUnreadable", f"{where}the source starts like Parquet, but cannot be read; write it again"
        ) from error


def _read_csv(path: Path, head: bytes, where: str) -> pa.Table:
    if head.startswith(_WIDE_MARKS) or b"\0" in head:
        raise _malformed(
            "EncodingInvalid", f"{where}the source is neither Parquet nor text in UTF-8; write one of them"
        )
    ragged: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.number - 1)  # the header is pyarrow's row 1
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            path,
            # Row numbers are known only without threads.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=note, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                default_column_type=pa.binary(),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _malformed(
            "FileUnreadable", f"{where}the source cannot be read as CSV; write UTF-8, commas, and one header line"
        ) from error
    if ragged:
        raise _malformed(
            "RaggedRows",
            f"{where}{len(ragged)} rows do not have the header's {table.num_columns} fields; quote fields that hold"
            " commas",
            count=len(ragged),
            rows=tuple(ragged[:3]),
        )
    return pa.table(
        [_text(table.column(i), table.column_names[i], where) for i in range(table.num_columns)],
        names=table.column_names,
    )


def _text(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowInvalid as error:
        bad = [row for row, value in enumerate(column.to_pylist(), 1) if value is not None and not _is_utf8(value)]
        raise _malformed(
            "EncodingInvalid",
            f"{where}column {name!r} has {len(bad)} fields that are not UTF-8; convert the file to UTF-8",
            name,
            len(bad),
            tuple(bad[:3]),
        ) from error


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _malformed(
    reason: str, message: str, column: str | None = None, count: int = 0, rows: tuple[int, ...] = ()
) -> TaskError:
    problem = Problem(rule=reason, message=message, column=column, count=count, rows=rows)
    where = f" (first rows: {', '.join(map(str, rows))})" if rows else ""
    return TaskError(reason, message + where, problems=(problem,))
