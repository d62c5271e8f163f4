"""Derivations: a query over other Datasets' versions, by DuckDB, out of core, with no way out.

The inputs' files are registered as views first.  Then access to anything but these files, extensions and changes of
the configuration are switched off for good, and only then is the query read.  It has to be one SELECT.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts.store import Store
from modelmill_contracts.task import Derivation, StoreLocation
from modelmill_trainer import duck, fetching
from modelmill_trainer.failure import TaskError, malformed
from modelmill_trainer.reading import BATCH_ROWS, Source, check_names

_BATCH_CELLS = 1 << 21
_OF_THE_QUERY = ("Parser Error", "Binder Error", "Catalog Error")
_TEXT = 300  # characters of an engine's words that are shown
_KIND = re.compile(r"[A-Z][A-Za-z ]* Error(?=:)")
# Said instead of the engine's words, which hold values, quoted or bare.
_ADVICE = {
    "Conversion Error": "a value is not of the type that it is cast to; TRY_CAST makes it NULL, which finds its row",
    "Out of Range Error": "a number does not fit its type; CAST to a larger one first",
    "Invalid Input Error": "a function or a subquery does not take the rows that it is given, or error() is called",
}


@contextmanager
def rows(asked: Derivation, store: StoreLocation, folder: Path) -> Iterator[Source]:
    """The query's rows, which can be read once; TaskError where it is refused or fails."""
    inputs = folder / "inputs"
    inputs.mkdir()
    opened = Store(store)
    paths = {entry.name: fetching.bring(opened, entry, inputs) for entry in asked.inputs}
    with duck.connected(folder) as connection:
        for name, path in paths.items():
            connection.read_parquet(str(path)).create_view(name)
        connection.execute("SET allowed_paths = $1", [[str(path) for path in paths.values()]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield _ask(connection, asked)


def _ask(connection: duckdb.DuckDBPyConnection, asked: Derivation) -> Source:
    try:
        statements = connection.extract_statements(asked.sql)
    except duckdb.Error as error:
        raise _invalid(error, asked) from error
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        found = ", ".join(kinds) or "nothing"
        raise TaskError(
            "QueryDenied",
            f"source.derive.sql has to be one SELECT, but is {found}; nothing else is run: no SET, COPY, ATTACH,"
            " INSTALL or LOAD",
        )
    try:
        relation = connection.sql(asked.sql)
        columns = max(1, len(relation.columns))
        reader = relation.to_arrow_reader(max(1 << 10, min(BATCH_ROWS, _BATCH_CELLS // columns)))
    except (duckdb.Error, OSError) as error:
        raise _invalid(error, asked) from error
    check_names(reader.schema.names, "")
    schema = pa.schema([pa.field(field.name, _kind_of(field.type)) for field in reader.schema])
    return Source(schema, False, lambda: _batches(reader, schema, asked))


def _kind_of(kind: pa.DataType) -> pa.DataType:
    # The sum of whole numbers has 128 bits, which are a decimal of Arrow.
    return pa.int64() if pa.types.is_decimal(kind) and kind.scale == 0 else kind


def _batches(reader: pa.RecordBatchReader, schema: pa.Schema, asked: Derivation) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            raise _invalid(error, asked) from error
        yield pa.record_batch([_whole(batch.column(field.name), field) for field in schema], schema=schema)


def _whole(column: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return pc.cast(column, field.type)
    except pa.ArrowInvalid as error:
        message = f"column {field.name!r} holds whole numbers of more than 64 bits; CAST it AS DOUBLE"
        raise malformed("NotInteger", message, field.name) from error


def _invalid(error: Exception, asked: Derivation) -> TaskError:
    text = str(error).partition("\n")[0]  # below it the engine shows the query
    if "disabled by configuration" in text or "disabled through configuration" in text:
        return TaskError(
            "QueryDenied",
            "source.derive.sql asks for files, the network or an extension, which a derivation may not; it has the"
            f" tables {_tables(asked)}",
        )
    if "the configuration has been locked" in text:
        return TaskError(
            "QueryDenied",
            "source.derive.sql calls a function that changes the configuration or writes a log or a profile, which a"
            f" derivation may not; it has the tables {_tables(asked)}",
        )
    if text.startswith("Out of Memory"):
        return TaskError(
            "QueryTooLarge",
            "source.derive.sql needs more memory than the pod has, although it spills to disk; give spec.resources more"
            " memory, or aggregate in steps",
        )
    if "No space left" in text or "max_temp_directory_size" in text:
        return TaskError("ScratchFull", "source.derive.sql needs more scratch space than there is; aggregate in steps")
    said = text[:_TEXT] if text.startswith(_OF_THE_QUERY) else _kind(text)
    return TaskError("QueryInvalid", f"source.derive.sql fails: {said}; it has the tables {_tables(asked)}")


def _kind(text: str) -> str:
    """What kind of error it is: what the engine says of a row may be the row."""
    found = _KIND.match(text)
    kind = found[0] if found else "Error"
    return f"{kind}: {_ADVICE.get(kind, 'what the engine says of it is not shown, as it may hold values of the data')}"


def _tables(asked: Derivation) -> str:
    return ", ".join(entry.name for entry in asked.inputs)
