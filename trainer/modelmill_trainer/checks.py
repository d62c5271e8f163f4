"""Checks: a table as it was read against what the Dataset declares, giving a typed table or problems.

A problem says which column, which rule, how many rows, and up to three row numbers: never a value.
"""

import difflib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts.report import Problem
from modelmill_contracts.task import Column, SnapshotTask
from modelmill_trainer import casting
from modelmill_trainer.failure import TaskError
from modelmill_trainer.reading import Found


def check(found: Found, task: SnapshotTask) -> pa.Table:
    """The typed table, in the source's order of columns.

    TaskError `DataInvalid` with every problem where a rule is broken.
    """
    table, problems = found.table, list[Problem]()
    declared = {column.name: column for column in task.columns}
    problems.extend(_missing(name, table.column_names) for name in declared if name not in table.column_names)
    typed: dict[str, pa.ChunkedArray | None] = {}
    for name in table.column_names:
        if name in declared:
            typed[name] = _declared(table.column(name), declared[name], problems)
        elif not declared or task.extra_columns == "Keep":
            typed[name] = _found(table.column(name), name, problems, text=found.text)
        elif task.extra_columns == "Reject":
            problems.append(_unwanted(name))
    if table.num_rows < task.expectations.min_rows:
        problems.append(
            Problem(
                rule="TooFewRows",
                message=f"the data has {table.num_rows} rows, but at least {task.expectations.min_rows} are expected",
                count=table.num_rows,
            )
        )
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise TaskError("DataInvalid", problems[0].message + more, problems=tuple(problems))
    return pa.table(list(typed.values()), names=list(typed))


def _declared(column: pa.ChunkedArray, declared: Column, problems: list[Problem]) -> pa.ChunkedArray:
    values, bad = casting.cast(column, declared.type)
    rule, text = casting.RULES[declared.type]
    _note(problems, rule, declared.name, bad, f"{text}: mend the data, or the declared type {declared.type}")
    if declared.type == "Float":
        infinite = pc.fill_null(pc.invert(pc.is_finite(values)), False)
        _note(
            problems, "NotFinite", declared.name, infinite, "are NaN or infinite: leave a missing value's field empty"
        )
    if not declared.nullable:
        absent = pc.and_(pc.is_null(values), pc.invert(bad))
        _note(problems, "MissingValue", declared.name, absent, "are empty, but the column is declared nullable: false")
    _check_bounds(values, declared, problems)
    _check_values(values, declared, problems)
    return values


def _check_bounds(values: pa.ChunkedArray, declared: Column, problems: list[Problem]) -> None:
    for text, rule, compare, words in (
        (declared.min, "BelowMinimum", pc.less, "are below the declared min"),
        (declared.max, "AboveMaximum", pc.greater, "are above the declared max"),
    ):
        if text is None:
            continue
        bound = _bound(declared, text)
        outside = pc.fill_null(compare(values, pa.scalar(bound, values.type)), False)
        _note(problems, rule, declared.name, outside, f"{words} of {text}")


def _check_values(values: pa.ChunkedArray, declared: Column, problems: list[Problem]) -> None:
    if not declared.values:
        return
    allowed, bad = casting.cast(pa.chunked_array([pa.array(declared.values, pa.string())]), declared.type)
    if pc.any(bad).as_py():
        raise TaskError(
            "DeclarationInvalid",
            f"columns[{declared.name}].values: not all of them are of type {declared.type}; mend them",
        )
    # fill_null: of a missing value, nullable decides.
    other = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, value_set=allowed.combine_chunks())))
    _note(problems, "ValueNotAllowed", declared.name, other, f"hold none of the {len(declared.values)} declared values")


def _bound(declared: Column, text: str) -> Any:
    """A bound as a value of the column's type; whole numbers stay exact."""
    try:
        if declared.type == "Integer":
            number = Decimal(text)
            if number == number.to_integral_value() and -(2**63) <= number < 2**63:
                return int(number)
        elif declared.type == "Float":
            return float(Decimal(text))
        elif declared.type == "Timestamp":
            value, bad = casting.cast(pa.chunked_array([[text]], pa.string()), "Timestamp")
            if not pc.any(bad).as_py():
                return value[0].as_py()
    except InvalidOperation:
        pass
    raise TaskError(
        "DeclarationInvalid",
        f"columns[{declared.name}]: min and max need a value of the column's type, and a type that is ordered"
        f" (Float, Integer, Timestamp); {declared.type} with {text!r} is not",
    )


def _unwanted(name: str) -> Problem:
    message = f"column {name!r} is not declared: declare it, or set extraColumns to Keep or Drop"
    return Problem(rule="ExtraColumn", message=message, column=name)


def _found(column: pa.ChunkedArray, name: str, problems: list[Problem], *, text: bool) -> pa.ChunkedArray | None:
    kind = casting.type_of(column, text=text)
    if kind is None:
        problems.append(
            Problem(
                rule="UnsupportedType",
                message=f"column {name!r} has type {str(column.type)[:80]}, which is none of"
                f" {', '.join(casting.ARROW_TYPES)}: convert it, or leave it out (extraColumns: Drop)",
                column=name,
            )
        )
        return None
    values, bad = casting.cast(column, kind)
    rule, words = casting.RULES[kind]
    _note(problems, rule, name, bad, words)
    return values


def _missing(name: str, found: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(name, found, n=3)
    hint = (
        f"the nearest are {', '.join(near)}" if near else f"the data has {len(found)} columns, none of a similar name"
    )
    return Problem(
        rule="MissingColumn", message=f"column {name!r} is declared, but not in the data; {hint}", column=name
    )


def _note(problems: list[Problem], rule: str, column: str, mask: pa.ChunkedArray, text: str) -> None:
    count, rows = casting.rows_of(mask)
    if count:
        noun = "value" if count == 1 else "values"
        where = ", ".join(map(str, rows)) + (", ..." if count > len(rows) else "")
        message = f"column {column!r}: {count} {noun} (rows {where}) {text}"
        problems.append(Problem(rule=rule, message=message, column=column, count=count, rows=tuple(rows)))
