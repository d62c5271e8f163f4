"""What labels say of what a ModelDeployment answered, and the end of what it captured too long ago.

A label counts once, in the window in which the first label of its row came, and if that was soon enough after the
prediction.  What is held in memory is the window's labels, and one number of each: segments pass by.
"""

from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from modelmill_contracts import captured
from modelmill_contracts.captured import Label, Row, RowsHeader, Scalar, SegmentError
from modelmill_contracts.report import CapturedResult, MeasuredQuality, Report
from modelmill_contracts.store import Store, StoreError
from modelmill_contracts.task import CapturedTask, QualityMeasure
from modelmill_trainer import segments
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase, say
from modelmill_trainer.quality import METRICS, Answer

MAX_DELETED = 200_000  # in one run, minutes of work: what is left is the next one's
_AT_ONCE = 8
_BETWEEN = 64  # are tried before it is looked whether the store still answers
_CLOCKS = 1000 * captured.SETTLED_SECONDS  # how much later than its label a row may seem to be answered
_OUTAGE = 5  # failures in a row that may heal: it is the store, not a segment
_UNKNOWN, _LATE, _OF_OTHERS, _MISTYPED, _COUNTED, _REPEATED = range(6)


def measure(task: CapturedTask) -> Report:
    """Measure, then delete; StoreError, or TaskError where the metric is none.

    What was measured is told although something could not be deleted.
    """
    store = Store(task.store)
    reader = _Reader(store, task.of)
    quality = None
    if task.quality is not None:
        with phase("measure", metric=task.quality.metric):
            quality = _Measurement(reader, task.quality).quality()
    with phase("delete"):
        deleted, failures = _delete(store, task)
    if failures and quality is None:
        raise failures[0]
    message = [f"{deleted} segments deleted that are older than the retention"]
    if failures:
        message.append(f"{len(failures)} could not be deleted: {failures[0]}")
    if reader.damaged:
        message.insert(0, f"{len(reader.damaged)} segments are damaged, the first is {min(reader.damaged)}")
    if quality is not None:
        said = "no value" if quality.value is None else f"{quality.value:.6g}"
        message.insert(0, f"{said} of {quality.rows} labels")
    return Report(
        True,
        "Measured" if quality is not None else "RetentionKept",
        "; ".join(message),
        result=CapturedResult(deleted, len(reader.damaged), quality),
    )


# What is read.


class _Reader:
    """The records of a ModelDeployment, without those of segments that are damaged."""

    def __init__(self, store: Store, of: str) -> None:
        self._store = store
        self._of = of
        self.damaged: set[str] = set()

    def keys(self, kind: str, start: datetime, end: datetime) -> list[str]:
        return segments.keys(self._store, self._of, kind, start, end)

    def labels(self, keys: list[str]) -> Iterator[Label]:
        for key, content in segments.fetched(self._store, keys):
            try:
                if (found := segments.labels(content)) is not None:
                    yield from found.records
            except SegmentError as error:
                self._skip(key, error)

    def rows(self, keys: list[str]) -> Iterator[tuple[RowsHeader, Row]]:
        for key, content in segments.fetched(self._store, keys):
            try:
                if (found := segments.rows(content)) is not None:
                    header = found.header
                    for row in found.records:
                        yield header, row
            except SegmentError as error:
                self._skip(key, error)

    def _skip(self, key: str, error: SegmentError) -> None:
        say("damaged", key=key, error=str(error))
        self.damaged.add(key)


class _Times(NamedTuple):
    start: datetime
    end: datetime
    within: timedelta


def _name(record: Row | Label) -> bytes:
    """What a row is known by, in 16 bytes: ids may be long."""
    return blake2b(f"{record.row}:{record.id}".encode(errors="surrogatepass"), digest_size=16).digest()


class _Measurement:
    """The labels of a window, and what becomes of each."""

    def __init__(self, reader: _Reader, asked: QualityMeasure) -> None:
        if asked.metric not in METRICS:
            known = ", ".join(METRICS)
            raise TaskError("MetricUnknown", f"quality cannot be measured by {asked.metric}; use one of {known}")
        self._reader = reader
        self._asked = asked
        self._metric = METRICS[asked.metric]
        self._times = _Times(
            datetime.fromisoformat(asked.start),
            datetime.fromisoformat(asked.end),
            timedelta(seconds=asked.labels_within),
        )
        self._places: dict[bytes, int] = {}
        self._labels: list[Scalar] = []
        self._came = array("q")  # when each label came
        self._again: set[tuple[bytes, int]] = set()  # (row, time) of further labels
        self._states = bytearray()
        self._answered = array("q")  # when the first record of the row was answered
        self._numbers = array("d")
        self._positive = bytearray()

    def quality(self) -> MeasuredQuality:
        self._read_labels()
        self._read_rows()
        states = np.frombuffer(self._states, np.uint8)
        counted = states == _COUNTED
        numbers, positive = np.frombuffer(self._numbers), np.frombuffer(self._positive, bool)
        value, variance = self._metric.estimate(numbers[counted], positive[counted])
        counts = np.bincount(states, minlength=_REPEATED + 1).tolist()
        return MeasuredQuality(
            counts[_COUNTED],
            value,
            variance,
            unknown=counts[_UNKNOWN],
            late=counts[_LATE],
            repeated=counts[_REPEATED] + len(self._again),
            of_others=counts[_OF_OTHERS],
            mistyped=counts[_MISTYPED],
        )

    def _read_labels(self) -> None:
        start, end, within = self._times
        first, last = segments.milliseconds(start), segments.milliseconds(end)
        earliest = segments.milliseconds(start - within)
        keys = self._reader.keys(captured.LABELS, start, end)
        before: list[bytes] = []  # rows with a label that came before the window, and was written in it
        for label in self._reader.labels(keys):
            if first <= label.at < last:
                self._add(_name(label), label)
            elif earliest <= label.at < first:
                before.append(_name(label))
        known = set(keys)
        others = [key for key in self._reader.keys(captured.LABELS, start - within, start) if key not in known]
        before.extend(
            name
            for label in self._reader.labels(others)
            if earliest <= label.at < first and (name := _name(label)) in self._places
        )
        for name in before:
            if (place := self._places.get(name)) is not None:
                self._states[place] = _REPEATED

    def _add(self, name: bytes, label: Label) -> None:
        place = self._places.setdefault(name, len(self._labels))
        if place == len(self._labels):
            self._labels.append(label.label)
            self._came.append(label.at)
            self._states.append(_UNKNOWN)
            self._answered.append(-1)
            self._numbers.append(0.0)
            self._positive.append(False)
        elif label.at < self._came[place]:
            self._again.add((name, self._came[place]))
            self._labels[place], self._came[place] = label.label, label.at
        elif label.at > self._came[place]:  # else it is the same one, in another segment
            self._again.add((name, label.at))

    def _read_rows(self) -> None:
        start, end, within = self._times
        # Twice as far back as a label counts, to tell those that came late from those of rows that nobody has.
        for header, row in self._reader.rows(self._reader.keys(captured.ROWS, start - 2 * within, end)):
            place = self._places.get(_name(row))
            if place is None or self._states[place] == _REPEATED or row.at > self._came[place] + _CLOCKS:
                continue
            if 0 <= self._answered[place] <= row.at:
                continue
            self._answered[place] = row.at
            self._states[place] = self._judge(place, header, row)

    def _judge(self, place: int, header: RowsHeader, row: Row) -> int:
        if self._came[place] - row.at > self._asked.labels_within * 1000:
            return _LATE
        if header.artifact != self._asked.artifact:
            return _OF_OTHERS
        found = self._metric.of_row(Answer(row.prediction, row.scores, header.classes), self._labels[place])
        if found is None:
            return _MISTYPED
        self._numbers[place], self._positive[place] = found
        return _COUNTED


# What is deleted.


def _delete(store: Store, task: CapturedTask) -> tuple[int, list[StoreError]]:
    """Delete the oldest of the segments that are older than the retention; how many, and what went wrong."""
    oldest = datetime.fromisoformat(task.now) - timedelta(seconds=task.retention)
    found = [
        key
        for kind in (captured.ROWS, captured.LABELS)
        for key in store.keys(captured.folder(task.of, kind), before=captured.start_key(task.of, kind, oldest))
        if captured.parse_key(key) is not None
    ]
    found.sort(key=lambda key: key.rpartition("/")[2])  # by time, of both kinds
    found = found[:MAX_DELETED]
    deleted, in_a_row = 0, 0
    failures: list[StoreError] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(found), _BETWEEN):
            for failure in pool.map(lambda key: _failure(store, key), found[start : start + _BETWEEN]):
                if failure is None:
                    deleted, in_a_row = deleted + 1, 0
                else:
                    failures.append(failure)
                    in_a_row += failure.retryable
            if in_a_row >= _OUTAGE:
                break
    return deleted, failures


def _failure(store: Store, key: str) -> StoreError | None:
    """Delete it; why that could not be."""
    try:
        store.delete(key)
    except StoreError as error:
        say("left where it is", key=key, reason=error.reason)
        return error
    return None
