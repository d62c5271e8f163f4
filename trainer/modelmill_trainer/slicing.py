"""Slices: how good the model is for the test rows that have one value in a column.

A slice is one of the most frequent values of its column that enough test rows have.  What is left out is said, with
how many rows it is: a mean can hide that a model is bad for a few.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill_contracts.evaluation import MAX_SLICE_VALUES, MIN_SLICE_ROWS, LeftOut, Slice
from modelmill_contracts.report import WorstSlice
from modelmill_trainer.data import absent
from modelmill_trainer.evaluation import Predicted, decimal, is_loss, measure_part
from modelmill_trainer.failure import TaskError
from modelmill_trainer.version import types_of

_SLICED = ("String", "Integer", "Boolean")
_SHOWN = 48  # characters of a value in a report

Texts = list[str | None]  # a column's values; missing: None


def columns(table: pa.Table, names: Sequence[str]) -> dict[str, Texts]:
    """The columns as text; TaskError where one is missing or has no values that make slices."""
    types, found = types_of(table.schema), {}
    for name in names:
        if name not in types:
            raise TaskError("SliceColumnMissing", f"evaluation.slices: {absent(name, list(types))}")
        if types[name] not in _SLICED:
            raise TaskError(
                "SliceColumnInvalid",
                f"evaluation.slices: {name!r} is of type {types[name]}, which has too many values to make slices of;"
                f" use a column of type {', '.join(_SLICED)}, such as groups that a derived Dataset makes of it",
            )
        found[name] = pc.cast(table.column(name), pa.string()).to_pylist()
    return found


def measured(
    predicted: Predicted, metrics: Sequence[str], texts: Mapping[str, Texts]
) -> tuple[tuple[Slice, ...], tuple[LeftOut, ...]]:
    """Every slice, the most frequent first, and what is none; `texts` are those of the predicted rows."""
    slices, left = list[Slice](), list[LeftOut]()
    for column, values in texts.items():
        counts = Counter(values)
        # Equally frequent values stand in the order of their text; a missing one is the last of them.
        ranked = sorted(counts, key=lambda value: (-counts[value], value is None, value or ""))
        chosen = [value for value in ranked[:MAX_SLICE_VALUES] if counts[value] >= MIN_SLICE_ROWS]
        other = [value for value in ranked if value not in set(chosen)]
        if other:
            left.append(LeftOut(column, len(other), sum(counts[value] for value in other)))
        for value in chosen:
            rows = np.array([row for row, found in enumerate(values) if found == value])
            numbers = measure_part(predicted.of(rows), metrics)
            undefined = tuple(name for name in metrics if name not in numbers)
            slices.append(Slice(column, value, len(rows), {name: decimal(v) for name, v in numbers.items()}, undefined))
    return tuple(slices), tuple(left)


def notes(
    slices: Sequence[Slice], left: Sequence[LeftOut], trained_on: Mapping[str, Texts], tested_on: Mapping[str, Texts]
) -> tuple[str, ...]:
    """What people have to know of the slices: what is left out, and what no test row has."""
    found = []
    for column in tested_on:
        unseen = len(set(trained_on[column]) - set(tested_on[column]))
        if unseen:
            found.append(f"slices of {column!r}: {unseen} values of training rows are in no test row")
    found.extend(
        f"slices of {entry.column!r}: {entry.values} values in {entry.rows} test rows are no slices, as fewer than"
        f" {MIN_SLICE_ROWS} rows have them or {MAX_SLICE_VALUES} others are more frequent"
        for entry in left
    )
    found.extend(
        f"slices of {column!r}: there is none; use more test rows, or a column with fewer values"
        for column in tested_on
        if not any(entry.column == column for entry in slices)
    )
    return tuple(found)


def worst(slices: Sequence[Slice], metrics: Sequence[str]) -> tuple[WorstSlice, ...]:
    """Of each metric the slice where it is worst, in the metrics' order; the first where several are equally bad."""
    found = []
    for name in metrics:
        defined = [entry for entry in slices if name in entry.metrics]
        if not defined:
            continue
        sign = -1 if is_loss(name) else 1
        entry = min(defined, key=lambda one: sign * float(one.metrics[name]))
        found.append(WorstSlice(name, entry.column, entry.rows, entry.metrics[name], _shown(entry.value)))
    return tuple(found)


def _shown(value: str | None) -> str | None:
    return value if value is None or len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
