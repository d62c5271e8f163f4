"""The types of columns that nobody declared: as they are stored or, for the text of CSV, what all values can be."""

from collections.abc import Collection

import pyarrow as pa

from modelmill_trainer import casting
from modelmill_trainer.reading import Source

_ORDER = ("Integer", "Float", "Boolean", "Timestamp")  # the first that all values can be; else String
_FIRST = 64  # values of a batch that are tried first: what a column is not shows at once


def types_of(source: Source, names: Collection[str]) -> dict[str, str | None]:
    """The type of each of the columns `names`; None: none that a column can have.

    Text is read to its end once: the last row may be the one that is no number.
    """
    if not source.text:
        return {name: casting.type_of(source.schema.field(name).type) for name in names}
    possible = {name: list(_ORDER) for name in names}
    empty = set(names)
    for batch in source.batches() if names else ():
        for name in names:
            column = batch.column(name)
            if column.null_count < len(column):
                empty.discard(name)
                _narrow(possible[name], column)
    return {name: possible[name][0] if possible[name] and name not in empty else "String" for name in names}


def _narrow(possible: list[str], column: pa.Array) -> None:
    first = column.drop_null().slice(0, _FIRST)
    likely = [name for name in possible if casting.can_be(first, name)]
    if "Integer" in likely and casting.can_be(column, "Integer"):
        # Every whole number is a Float too, and no truth or time.
        possible[:] = [name for name in likely if name in ("Integer", "Float")]
    else:
        possible[:] = [name for name in likely if name != "Integer" and casting.can_be(column, name)]
