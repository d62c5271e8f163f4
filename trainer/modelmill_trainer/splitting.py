"""Splitting: which rows are trained on and which are tested on, and the folds of a cross-validation.

    random   any row may be in either part; stratified, both parts have the classes' shares
    group    all rows that have the same value in a column are in the same part
    time     the rows are ordered by a column: the older ones are trained on, the newest are tested on

The same rows and the same seed give the same parts.
"""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, train_test_split

from modelmill_contracts.task import Split
from modelmill_trainer.data import absent
from modelmill_trainer.failure import TaskError
from modelmill_trainer.version import types_of

_ORDERED = ("Timestamp", "Integer", "Float")


class Parts(NamedTuple):
    train: Any  # row positions, ascending
    test: Any  # row positions, ascending
    order: Any  # the test rows in the split's order: as they were drawn, or the newest first


class Fold(NamedTuple):
    train: Any  # row positions, ascending
    test: Any


class Splitter:
    """The split that is asked for, of this table; TaskError where it cannot be split so.

    `target` are its labels or numbers, in the column `name`; of a classifier both parts must have every class that
    can be asked for.
    """

    def __init__(self, table: pa.Table, target: Any, name: str, asked: Split, seed: int, *, classifier: bool) -> None:
        self._target, self._name, self._classifier = target, name, classifier
        self._asked, self._seed = asked, seed % 2**32
        self._groups = None if asked.group is None else _groups(table, asked.group)
        self._times = None if asked.time is None else _times(table, asked.time)

    def parts(self) -> Parts:
        """Training and test rows."""
        rows, asked = len(self._target), self._asked
        fraction = _fraction(asked.test)
        if self._classifier:
            _check_classes(self._target, self._name, fraction, stratify=asked.stratify)
        elif asked.stratify:
            raise TaskError(
                "SplitInvalid", "data.split.stratify: true is for classifiers; a regressor's target has no classes"
            )
        test_rows = int(np.ceil(rows * fraction))
        if test_rows < 1 or rows - test_rows < 2:
            raise TaskError(
                "TooFewRows",
                f"{rows} rows cannot be split into training and test rows at data.split.test {asked.test}; add rows",
            )
        if self._times is not None:
            train, test = self._newest(self._times, test_rows)
        elif self._groups is not None:
            train, test = self._whole_groups(self._groups, test_rows)
        else:
            labels = self._target if asked.stratify else None
            train, test = train_test_split(
                np.arange(rows), test_size=fraction, random_state=self._seed, stratify=labels
            )
        if self._classifier and self._lacks_a_class(train, np.arange(rows)):
            raise TaskError("TooFewRows", f"the training rows lack a class of the target, {self._advice()}")
        return Parts(np.sort(train), np.sort(test), test)

    def folds(self, train: Any, count: int) -> list[Fold]:
        """The training rows in `count` turns, made in the way of the split; no test row is in any of them.

        Every row is tested on once, but for a split by time: there each turn tests on rows that are newer than those
        that it trains on, so that the oldest rows are only trained on.
        """
        field = f"evaluation.crossValidation: {count}"
        if len(train) < 2 * count:
            raise TaskError("TooFewRows", f"{field}: {len(train)} training rows are too few; use fewer folds")
        found = [
            Fold(np.sort(train[older]), np.sort(train[newer])) for older, newer in self._turns(train, count, field)
        ]
        for number, fold in enumerate(found, 1):
            if self._classifier and self._lacks_a_class(fold.train, train):
                raise TaskError(
                    "TooFewRows",
                    f"{field}: fold {number} has no training row of a class of the target, {self._advice()}, or use"
                    " fewer folds",
                )
        return found

    def _turns(self, train: Any, count: int, field: str) -> Iterator[tuple[Any, Any]]:
        """Positions among `train`, to train on and to test on."""
        if self._times is not None:
            yield from _ever_newer(self._times[train], count, field, str(self._asked.time))
        elif self._groups is not None:
            groups = self._groups[train]
            found = len(np.unique(groups))
            if found < count:
                raise TaskError(
                    "TooFewGroups",
                    f"{field}: the training rows have {found} groups in {self._asked.group!r} (data.split.by), fewer"
                    " than folds; use fewer folds",
                )
            yield from GroupKFold(count).split(train, groups=groups)
        elif self._asked.stratify:
            labels = self._target[train]
            rarest = np.unique(labels, return_counts=True)[1].min()
            if rarest < count:
                raise TaskError(
                    "TooFewRows",
                    f"{field}: the rarest class has {rarest} training rows, fewer than folds; use fewer folds",
                )
            yield from StratifiedKFold(count, shuffle=True, random_state=self._seed).split(train, labels)
        else:
            yield from KFold(count, shuffle=True, random_state=self._seed).split(train)

    def _newest(self, times: Any, test_rows: int) -> tuple[Any, Any]:
        """The newest rows are tested on; rows of one moment are never divided, so that they may be a few more."""
        order = np.argsort(times, kind="stable")
        ordered = times[order]
        cut = int(np.searchsorted(ordered, ordered[len(ordered) - test_rows], side="left"))
        if cut < 2:
            raise TaskError(
                "TooFewTimes",
                f"data.split.by: {len(np.unique(times))} different values in {self._asked.time!r} leave {cut} rows that"
                " are older than those to test on; use a finer time, or a smaller data.split.test",
            )
        return order[:cut], order[cut:][::-1]

    def _whole_groups(self, groups: Any, test_rows: int) -> tuple[Any, Any]:
        """Groups, in an order that the seed decides, are tested on as long as that brings it nearer to `test_rows`."""
        sizes = np.bincount(groups)
        if len(sizes) < 2:
            raise TaskError(
                "TooFewGroups",
                f"data.split.by: all {len(groups)} rows have the same value in {self._asked.group!r}, so that they"
                " cannot be in two parts; use a column with more groups",
            )
        chosen, rows = list[int](), 0
        for group in np.random.default_rng(self._seed).permutation(len(sizes)).tolist():
            nearer = abs(rows + sizes[group] - test_rows) < abs(rows - test_rows)
            if nearer and len(chosen) < len(sizes) - 1:
                chosen.append(group)
                rows += int(sizes[group])
        chosen = chosen or [int(np.argmin(sizes))]  # each is far too large
        tested = np.isin(groups, chosen)
        test = np.concatenate([np.flatnonzero(groups == group) for group in chosen])
        train = np.flatnonzero(~tested)
        if len(train) < 2:
            raise TaskError(
                "TooFewGroups",
                f"data.split.by: the groups of {self._asked.group!r} leave {len(train)} rows to train on; use a smaller"
                " data.split.test, or a column with more groups",
            )
        return train, test

    def _lacks_a_class(self, rows: Any, among: Any) -> bool:
        return len(np.unique(self._target[rows])) < len(np.unique(self._target[among]))

    def _advice(self) -> str:
        if self._asked.time is not None:
            return "because only newer rows have it; add older rows of it"
        if self._asked.group is not None:
            return "because few groups have it; use another seed, or add groups that have it"
        return "because few rows have it; set data.split.stratify: true"


def _fraction(text: str) -> float:
    try:
        fraction = float(Decimal(text))
    except InvalidOperation as error:
        raise TaskError("SplitInvalid", f"data.split.test: {text!r} is not a decimal") from error
    if not 0 < fraction < 1:
        raise TaskError("SplitInvalid", f"data.split.test: {text} is not between 0 and 1; use for example 0.2")
    return fraction


def _column(table: pa.Table, name: str) -> tuple[pa.ChunkedArray, str]:
    types = types_of(table.schema)
    if name not in types:
        raise TaskError("SplitColumnMissing", f"data.split.by: {absent(name, list(types))}")
    return table.column(name), types[name]


def _check_present(missing: int, name: str) -> None:
    if missing:
        raise TaskError(
            "SplitMissingValues",
            f"data.split.by: {missing} rows have no value in {name!r}, so that it is unknown where they belong; remove"
            " them, or declare the column nullable: false so that the Dataset says so",
        )


def _groups(table: pa.Table, name: str) -> Any:
    """The number of each row's group, counted in the order in which groups occur."""
    column, _ = _column(table, name)
    numbers, _ = pd.factorize(column.to_numpy())
    _check_present(int((numbers == -1).sum()), name)
    return numbers


def _times(table: pa.Table, name: str) -> Any:
    """Each row's time, as numbers that can be ordered."""
    column, kind = _column(table, name)
    if kind not in _ORDERED:
        raise TaskError(
            "SplitNotOrdered",
            f"data.split.by: {name!r} is of type {kind}, which has no order in time; use a Timestamp (declared in the"
            " Dataset's columns where it is read as text), or a number",
        )
    missing = column.null_count
    if kind == "Float":
        missing = int(np.isnan(column.to_numpy()).sum())
    _check_present(missing, name)
    return (column.cast(pa.int64()) if kind == "Timestamp" else column).to_numpy()


def _ever_newer(times: Any, count: int, field: str, name: str) -> Iterator[tuple[Any, Any]]:
    """`count` + 1 spans of time, about as many rows in each: one is tested on, those before it are trained on."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    equal = [len(ordered) * number // (count + 1) for number in range(1, count + 1)]
    cuts = [*(int(np.searchsorted(ordered, ordered[cut], side="left")) for cut in equal), len(ordered)]
    if cuts[0] < 1 or any(first >= second for first, second in pairwise(cuts)):
        raise TaskError(
            "TooFewTimes",
            f"{field}: the training rows have too few different values in {name!r} (data.split.by); use fewer folds",
        )
    for first, second in pairwise(cuts):
        yield order[:first], order[first:second]


def _check_classes(target: Any, name: str, fraction: float, *, stratify: bool) -> None:
    counts = np.unique(target, return_counts=True)[1]
    if len(counts) < 2:
        raise TaskError(
            "TargetOneClass",
            f"data.target: all {len(target)} rows of {name!r} have the same class, so there is nothing to tell"
            " apart; use data with at least two",
        )
    if not stratify:
        return
    test_rows = int(np.ceil(len(target) * fraction))
    if counts.min() < 2 or min(test_rows, len(target) - test_rows) < len(counts):
        raise TaskError(
            "TooFewRows",
            f"data.split.stratify: {len(target)} rows with {len(counts)} classes, the rarest with {counts.min()} rows,"
            " cannot be split so that both parts have each class; add rows, or set stratify: false",
        )
