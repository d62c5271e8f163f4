"""Whether rows repeat a key: asked of the written file, out of core."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from modelmill_contracts.report import Problem
from modelmill_trainer import duck
from modelmill_trainer.failure import TaskError

_SHOWN_ROWS = 3


def repeated(path: Path, key: Sequence[str]) -> list[Problem]:
    """The problem of rows that have the same values in all columns of `key` as an earlier row; [] where none has."""
    with duck.connected(path.parent) as connection:
        file = connection.read_parquet(str(path), file_row_number=True)
        absent = [name for name in key if name not in file.columns]
        if absent:
            message = f"column {absent[0]!r} of uniqueKey is not in the data; name columns that are"
            return [Problem(rule="MissingColumn", message=message, column=absent[0])]
        columns = ", ".join(map(duck.quoted, key))
        file.create_view("rows")
        columns = ", ".join(map(duck.quoted, key))
        absent_values = " OR ".join(f"{duck.quoted(name)} IS NULL" for name in key)
        missing = _rows(connection, f"SELECT file_row_number FROM rows WHERE {absent_values}")  # noqa: S608 - the names are quoted
        # Two steps: row numbers are kept for repeated keys only, of which there are few or none.
        twice = f"SELECT {columns} FROM rows GROUP BY ALL HAVING count(*) > 1"  # noqa: S608
        again = _rows(
            connection,
            f"SELECT file_row_number FROM (SELECT file_row_number, row_number() OVER (PARTITION BY {columns}"  # noqa: S608
            f" ORDER BY file_row_number) AS place FROM rows SEMI JOIN ({twice}) USING ({columns})) WHERE place > 1",
        )
    names = ", ".join(map(repr, key))
    return [
        *_problem("MissingValue", key, missing, f"no value in a column of uniqueKey {names}: fill it, or mend the key"),
        *_problem("NotUnique", key, again, f"the uniqueKey {names} of an earlier row: remove them, or mend the key"),
    ]


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, tuple[int, ...]]:
    """How many rows a query of row numbers finds, and the first of them; the first row is 1."""
    try:
        found = connection.execute(
            f"SELECT count(*), list_sort(min(file_row_number, {_SHOWN_ROWS})) FROM ({query})"  # noqa: S608 - ours
        ).fetchone()
    except duckdb.OutOfMemoryException:
        message = (
            "expectations.uniqueKey: to look for rows that repeat it takes more memory and scratch space than there is;"
            " give spec.resources more memory, or name fewer columns"
        )
        raise TaskError("ScratchFull", message) from None
    count, first = found or (0, None)
    return count, tuple(row + 1 for row in first or ())


def _problem(rule: str, key: Sequence[str], found: tuple[int, tuple[int, ...]], words: str) -> list[Problem]:
    count, rows = found
    if not count:
        return []
    verb = {"MissingValue": ("has", "have"), "NotUnique": ("repeats", "repeat")}[rule][count > 1]
    where = ", ".join(map(str, rows)) + (", ..." if count > len(rows) else "")
    message = f"{count} {'rows' if count > 1 else 'row'} (rows {where}) {verb} {words}"
    return [Problem(rule=rule, message=message, column=key[0], count=count, rows=rows)]
