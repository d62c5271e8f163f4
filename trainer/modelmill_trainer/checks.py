"""Checks: rows as they were read against what the Dataset declares, batch by batch, giving typed rows or problems.

A problem says which column, which rule, how many rows, and up to three row numbers: never a value.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts.report import Problem
from modelmill_contracts.task import Column, SnapshotTask
from modelmill_trainer import casting, inference
from modelmill_trainer.failure import TaskError
from modelmill_trainer.reading import NO_HEADER, Source, are_values

_SHOWN_ROWS = 3
_HINTS = 20  # missing columns for which similar names are looked for


def plan(source: Source, task: SnapshotTask) -> "Checks":
    """The checks for this source; its undeclared text columns are read once for their types."""
    declared = {column.name: column for column in task.columns}
    kept = not declared or task.extra_columns == "Keep"
    found = inference.types_of(source, [name for name in source.schema.names if name not in declared and kept])
    return Checks(source, declared, found, task)


class Checks:
    """What is asked of each column, and what was found so far."""

    def __init__(
        self, source: Source, declared: Mapping[str, Column], found: Mapping[str, str | None], task: SnapshotTask
    ) -> None:
        """`found`: the types of the columns that are kept without being declared."""
        self.rows = 0
        self._expected = task.expectations
        names = self._names = source.schema.names
        known = set(names)
        absent = [name for name in declared if name not in known]
        # A file without a header line has values where names should be: the declaration knows none of them.
        unheard = source.text and len(absent) == len(declared)
        self._hidden = unheard and are_values(names)
        if unheard:
            advice = NO_HEADER if self._hidden else None
            self._before = [_missing_of_all(name, names, advice, hint=n < _HINTS) for n, name in enumerate(absent)]
        else:
            self._before = [_missing(name, names, hint=place < _HINTS) for place, name in enumerate(absent)]
        self._columns: dict[str, _ColumnChecks] = {}
        self._wrong: dict[str, Problem] = {}
        for name in names:
            kind = declared[name].type if name in declared else found.get(name)
            if kind is not None:
                self._columns[name] = _ColumnChecks(name, kind, declared.get(name))
            elif name in found:
                self._wrong[name] = _unsupported(source.schema.field(name))
            elif task.extra_columns == "Reject" and not unheard:  # what is missing says it all
                self._wrong[name] = _unwanted(name)

    def shown(self, name: str) -> tuple[str, str | None]:
        """How a message names a column, and what it is found by; by its place where its name may be a value."""
        return (f"column {self._names.index(name) + 1}", None) if self._hidden else (f"column {name!r}", name)

    @property
    def types(self) -> dict[str, str]:
        """The type of each column that is kept, in the source's order."""
        return {name: column.type for name, column in self._columns.items()}

    @property
    def nulls(self) -> dict[str, int]:
        """The missing values of each column so far."""
        return {name: column.nulls for name, column in self._columns.items()}

    def typed(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows, typed and counted; what is wrong with them is in `raise_problems` afterwards."""
        for batch in batches:
            columns = [check(batch.column(name), self.rows) for name, check in self._columns.items()]
            self.rows += batch.num_rows
            yield pa.record_batch(columns, names=list(self._columns))

    def raise_problems(self, more: Sequence[Problem] = ()) -> None:
        """TaskError `DataInvalid` with every problem, the worst first, where a rule is broken.

        Columns that are missing or should not be there come first, then what is wrong with the whole, `more` included,
        and then the columns by how many of their values are wrong: a report has not always room for all.
        """
        problems = [*self._before, *(self._wrong[name] for name in self._names if name in self._wrong)]
        problems.extend(self._of_the_whole())
        problems.extend(more)
        of_columns = [found for column in self._columns.values() for found in column.problems()]
        problems.extend(sorted(of_columns, key=lambda problem: -problem.count))
        if problems:
            rest = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
            raise TaskError("DataInvalid", problems[0].message + rest, problems=tuple(problems))

    def _of_the_whole(self) -> Iterator[Problem]:
        least = self._expected.min_rows
        if self.rows < least:
            message = f"the data has {self.rows} rows, but at least {least} are expected"
            yield Problem(rule="TooFewRows", message=message, count=self.rows)
        if self._expected.max_null_fraction is None or not self.rows:
            return
        most = Decimal(self._expected.max_null_fraction)
        for name, nulls in self.nulls.items():
            if Decimal(nulls) > most * self.rows:
                words, column = self.shown(name)
                message = (
                    f"{words}: {nulls} of {self.rows} values are missing, but at most a fraction of"
                    f" {self._expected.max_null_fraction} may be (expectations.maxNullFraction)"
                )
                yield Problem(rule="TooManyNulls", message=message, column=column, count=nulls)


class _Rule:
    """One rule of one column: how many rows broke it, and the first of them."""

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words
        self.count = 0
        self.rows: list[int] = []

    def mark(self, mask: pa.Array | None, before: int) -> None:
        """Count the rows that `mask` marks, of a batch that `before` rows come before."""
        if mask is None:
            return
        count = pc.sum(mask).as_py() or 0
        if not count:
            return
        self.count += count
        missing = _SHOWN_ROWS - len(self.rows)
        if missing:
            self.rows.extend(before + row + 1 for row in pc.indices_nonzero(mask)[:missing].to_pylist())


class _ColumnChecks:
    """The checks of one column; called with each batch's values, it answers them typed."""

    def __init__(self, name: str, kind: str, declared: Column | None) -> None:
        self.name, self.type = name, kind
        self.nulls = 0
        rule, words = casting.RULES[kind]
        self._cast = _Rule(rule, f"{words}: mend the data, or the declared type {kind}" if declared else words)
        self._rules = [self._cast]
        self._finite = self._absent = None
        if declared is not None and kind == "Float":
            self._finite = self._rule("NotFinite", "are NaN or infinite: leave a missing value's field empty")
        if declared is not None and not declared.nullable:
            self._absent = self._rule("MissingValue", "are empty, but the column is declared nullable: false")
        self._low, self._high = (
            self._bound(declared, "min", "BelowMinimum", "are below the declared min"),
            self._bound(declared, "max", "AboveMaximum", "are above the declared max"),
        )
        self._allowed = _allowed(declared) if declared and declared.values else None
        if declared and self._allowed is not None:
            words = f"hold none of the {len(declared.values)} declared values"
            self._other = self._rule("ValueNotAllowed", words)

    def __call__(self, column: pa.Array, before: int) -> pa.Array:
        values, bad = casting.cast(column, self.type)
        self.nulls += values.null_count
        self._cast.mark(bad, before)
        if self._absent is not None and values.null_count:
            absent = pc.is_null(values)
            self._absent.mark(absent if bad is None else pc.and_(absent, pc.invert(bad)), before)
        if not self._is_inside(values):
            self._mark_outside(values, before)
        if self._allowed is not None:
            # is_valid: of a missing value, nullable decides.
            other = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, value_set=self._allowed)))
            self._other.mark(other, before)
        return values

    def problems(self) -> Iterator[Problem]:
        for rule in self._rules:
            if rule.count:
                noun = "value" if rule.count == 1 else "values"
                where = ", ".join(map(str, rule.rows)) + (", ..." if rule.count > len(rule.rows) else "")
                message = f"column {self.name!r}: {rule.count} {noun} (rows {where}) {rule.words}"
                yield Problem(
                    rule=rule.name, message=message, column=self.name, count=rule.count, rows=tuple(rule.rows)
                )

    def _rule(self, name: str, words: str) -> _Rule:
        self._rules.append(_Rule(name, words))
        return self._rules[-1]

    def _bound(self, declared: Column | None, side: str, rule: str, words: str) -> "tuple[pa.Scalar, _Rule] | None":
        text = getattr(declared, side, None)
        if declared is None or text is None:
            return None
        bound = pa.scalar(_bound_of(declared, text), casting.ARROW_TYPES[declared.type])
        return bound, self._rule(rule, f"{words} of {text}")

    def _is_inside(self, values: pa.Array) -> bool:
        """Whether every number is finite and within the bounds, where that is asked for.

        The extremes are found many times faster than the rows that hold them, and tell whether to look for rows.
        """
        if self._finite is None and self._low is None and self._high is None:
            return True
        numbers = pc.cast(values, pa.int64()) if self.type == "Timestamp" else values
        # What lies under missing values is most often 0, and then they need not be taken out first.
        under = pa.Array.from_buffers(numbers.type, len(numbers), [None, numbers.buffers()[1]], offset=numbers.offset)
        return self._are_inside(under) or (numbers.null_count > 0 and self._are_inside(numbers.drop_null()))

    def _are_inside(self, numbers: pa.Array) -> bool:
        if not len(numbers):
            return True
        values = numbers.to_numpy()
        low, high = values.min(), values.max()  # NaN where there is one
        return bool(
            (self._finite is None or (np.isfinite(low) and np.isfinite(high)))
            and (self._low is None or low >= self._low[0].cast(numbers.type).as_py())
            and (self._high is None or high <= self._high[0].cast(numbers.type).as_py())
        )

    def _mark_outside(self, values: pa.Array, before: int) -> None:
        if self._finite is not None:
            self._finite.mark(pc.fill_null(pc.invert(pc.is_finite(values)), False), before)
        sides: tuple[tuple[Any, Callable[..., Any]], ...] = ((self._low, pc.less), (self._high, pc.greater))
        for side, beyond in sides:
            if side is not None:
                side[1].mark(pc.fill_null(beyond(values, side[0]), False), before)


def _allowed(declared: Column) -> pa.Array:
    allowed, bad = casting.cast(pa.array(declared.values, pa.string()), declared.type)
    if bad is not None and pc.any(bad).as_py():
        raise TaskError(
            "DeclarationInvalid",
            f"columns[{declared.name}].values: not all of them are of type {declared.type}; mend them",
        )
    return allowed


def _bound_of(declared: Column, text: str) -> Any:
    """A bound as a value of the column's type; whole numbers stay exact."""
    try:
        if declared.type == "Integer":
            number = Decimal(text)
            if number == number.to_integral_value() and -(2**63) <= number < 2**63:
                return int(number)
        elif declared.type == "Float":
            return float(Decimal(text))
        elif declared.type == "Timestamp":
            value, bad = casting.cast(pa.array([text], pa.string()), "Timestamp")
            if bad is None or not pc.any(bad).as_py():
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


def _unsupported(field: pa.Field) -> Problem:
    message = (
        f"column {field.name!r} has type {str(field.type)[:80]}, which is none of {', '.join(casting.ARROW_TYPES)}:"
        " convert it, or leave it out (extraColumns: Drop)"
    )
    return Problem(rule="UnsupportedType", message=message, column=field.name)


def _missing_of_all(name: str, found: Sequence[str], advice: str | None, *, hint: bool) -> Problem:
    """None of the declared columns is in a CSV file: what its first line holds is said to nobody."""
    if advice is None and hint and difflib.get_close_matches(name, found, n=1):
        advice = "one has a similar name: look at its spelling and capitals"
    message = (
        f"column {name!r} is declared, but not in the data, which has {len(found)} columns, none of them declared;"
        f" {advice or 'look whether there is a header line'}"
    )
    return Problem(rule="MissingColumn", message=message, column=name)


def _missing(name: str, found: Sequence[str], *, hint: bool) -> Problem:
    near = difflib.get_close_matches(name, found, n=3) if hint else []
    words = (
        f"the nearest are {', '.join(near)}" if near else f"the data has {len(found)} columns, none of a similar name"
    )
    return Problem(
        rule="MissingColumn", message=f"column {name!r} is declared, but not in the data; {words}", column=name
    )
