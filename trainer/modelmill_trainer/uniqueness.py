"""Whether rows repeat a key: asked of the written file, out of core."""

from collections.abc import Sequence
from pathlib import Path

from modelmill_contracts.report import Problem
from modelmill_trainer import duck

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
        count = connection.execute(
            f"SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM rows GROUP BY {columns} HAVING n > 1)"  # noqa: S608 - the names are quoted
        ).fetchone()
        if not count or not count[0]:
            return []
        first = connection.execute(
            f"SELECT second FROM (SELECT min(file_row_number, 2)[2] AS second FROM rows GROUP BY {columns}"  # noqa: S608
            f" HAVING count(*) > 1) ORDER BY second LIMIT {_SHOWN_ROWS}"
        ).fetchall()
    numbers = tuple(row[0] + 1 for row in first)
    noun = "row repeats" if count[0] == 1 else "rows repeat"
    where = ", ".join(map(str, numbers)) + (", ..." if count[0] > len(numbers) else "")
    names = ", ".join(map(repr, key))
    message = f"{count[0]} {noun} the uniqueKey {names} of an earlier row (rows {where}): remove them, or mend the key"
    return [Problem(rule="NotUnique", message=message, column=key[0], count=int(count[0]), rows=numbers)]
