"""JSON lines: one object for each row; a field that a line lacks, or that is null, is missing.

Read twice: first to learn every field and its type, because a field may come late and 1 be followed by 1.5.
Strings stay text, also those that look like times or numbers.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from modelmill_trainer.failure import TaskError, malformed

BLOCK_BYTES = 8 << 20  # no line can be longer
_CHANGED = re.compile(r"Column\(/(.*)\) changed from (\w+) to (\w+) in row (\d+)")
_ROW = re.compile(r"in row (\d+)")


def schema_of(paths: Sequence[Path], wheres: Sequence[str]) -> pa.Schema:
    """Every field of any line, in the order in which they come first; TaskError where the lines disagree."""
    found: dict[str, pa.DataType] = {}
    for path, where in zip(paths, wheres, strict=True):
        first = 0
        for block in _blocks(path, where):
            table = _parse(block, None, where, first)
            for field in table.schema:
                found[field.name] = _united(found.get(field.name, pa.null()), table, field, where, first)
            first += table.num_rows
    return pa.schema(list(found.items()))


def batches(paths: Sequence[Path], wheres: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of all files, typed by `schema`."""
    for path, where in zip(paths, wheres, strict=True):
        first = 0
        for block in _blocks(path, where):
            table = _parse(block, schema, where, first)
            first += table.num_rows
            yield from table.combine_chunks().to_batches()


def _blocks(path: Path, where: str) -> Iterator[bytes]:
    """The file in pieces of whole lines, without its byte-order mark."""
    with path.open("rb") as file:
        file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)
        while block := file.read(BLOCK_BYTES):
            block += file.readline(BLOCK_BYTES)
            if len(block) >= 2 * BLOCK_BYTES:
                raise malformed("RowTooLong", f"{where}a line has more than {BLOCK_BYTES >> 20} MiB; split it")
            if block.strip():
                yield block


def _parse(block: bytes, schema: pa.Schema | None, where: str, first: int) -> pa.Table:
    """The block's rows, of which `first` lines went before."""
    try:
        block.decode()
        return pyarrow.json.read_json(
            io.BytesIO(block),
            # One block, without threads: only then is the error's row that of the block.
            pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
            ),
        )
    except UnicodeDecodeError as error:
        row = first + block[: error.start].count(b"\n") + 1
        message = f"{where}the source is not UTF-8; convert it to UTF-8"
        raise malformed("EncodingInvalid", message, count=1, rows=(row,)) from error
    except pa.ArrowException as error:
        changed, row_match = _CHANGED.search(str(error)), _ROW.search(str(error))
        if changed:
            raise _mixed(changed[1], changed[2], changed[3], where, first + int(changed[4]) + 1) from error
        rows = (first + int(row_match[1]) + 1,) if row_match else ()
        message = f"{where}the source cannot be read as JSON lines; write one object per line, in UTF-8"
        raise malformed("FileUnreadable", message, count=len(rows), rows=rows) from error


def _united(known: pa.DataType, table: pa.Table, field: pa.Field, where: str, first: int) -> pa.DataType:
    """The type that holds what was known and what this block has; pyarrow takes some texts for times."""
    kind = pa.string() if pa.types.is_timestamp(field.type) else field.type
    if pa.types.is_null(kind) or kind == known:
        return known
    if pa.types.is_null(known) or {known, kind} == {pa.int64(), pa.float64()}:
        return pa.float64() if known == pa.float64() else kind
    if pa.types.is_nested(known) and pa.types.is_nested(kind):
        return known  # no column of ours anyway
    row = first + pc.index(pc.is_valid(table.column(field.name)), True).as_py() + 1
    raise _mixed(field.name, _word(known), _word(kind), where, row)


def _word(kind: pa.DataType) -> str:
    if pa.types.is_nested(kind):
        return "array or object"
    return {pa.string(): "string", pa.bool_(): "boolean"}.get(kind, "number")


def _mixed(name: str, before: str, after: str, where: str, row: int) -> TaskError:
    message = f"{where}field {name!r} is a {before} in some lines and a {after} in others; write it alike in all"
    return malformed("MixedTypes", message, name, 1, (row,))
