"""Quality of a window: each label counts once, in the window in which it came, and what is too old is deleted."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from captured_store import ARTIFACT, HEADER, HOUR, OF, UNTIL, Segments, label, ms, row
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_server import S3Server
from trainer_tasks import run

from modelmill_contracts import captured
from modelmill_contracts.captured import SETTLED_SECONDS, Label, Row, RowsHeader
from modelmill_contracts.report import CapturedResult, MeasuredQuality, Report
from modelmill_contracts.store import Store, StoreError
from modelmill_contracts.task import CapturedTask, QualityMeasure, StoreLocation
from modelmill_trainer import measuring

WITHIN = 24 * 3600
OTHERS = RowsHeader("sha256:" + "b" * 64, "6", HEADER.features, HEADER.classes)
MOMENT = timedelta(milliseconds=1)


def task(location: StoreLocation, metric: str = "accuracy", **more: Any) -> CapturedTask:
    """The quality of the hour before UNTIL."""
    fields = {"now": UNTIL.isoformat(), "retention": 720 * 3600, **more}
    start, end = (UNTIL - HOUR).isoformat(), UNTIL.isoformat()
    return CapturedTask(location, OF, quality=QualityMeasure(metric, ARTIFACT, start, end, WITHIN), **fields)


def result(report: Report) -> CapturedResult:
    assert report.ok, report
    assert isinstance(report.result, CapturedResult)
    return report.result


def quality(location: StoreLocation, metric: str = "accuracy") -> MeasuredQuality:
    found = result(run(task(location, metric))).quality
    assert found is not None
    return found


def test_labels_are_compared_with_what_was_answered(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    location = StoreLocation(f"{s3.bucket('captured').uri}/{tmp_path.name}", s3.endpoint)
    written = Segments(location)
    written.rows(*(row("x", 2 * HOUR, number) for number in range(4)))
    written.labels(label("x", 1), label("x", 1.0, number=1), label("x", 0, number=2), label("x", "1", number=3))
    report = run(task(location))
    assert result(report).quality == MeasuredQuality(4, 0.75, pytest.approx(0.0625))
    assert report.message == "0.75 of 4 labels; 0 segments deleted that are older than the retention"


def test_what_does_not_count_is_counted(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("right"), row("wrong"), row("text"), row("again"), row("before", 3 * HOUR))
    written.rows(row("theirs"), header=OTHERS)
    written.rows(row("late", timedelta(seconds=WITHIN) + 2 * HOUR))
    written.labels(label("before", 1, 2 * HOUR))
    written.labels(
        *(label("right"), label("wrong", 0), label("text", "malignant"), label("theirs"), label("late"), label("who")),
        *(label("again", 0, HOUR / 2), label("again", 1, HOUR / 3), label("before", 0)),
    )
    assert quality(store) == MeasuredQuality(
        3, pytest.approx(1 / 3), pytest.approx(1 / 9), unknown=1, late=1, repeated=2, of_others=1, mistyped=1
    )


def test_the_window_is_from_its_start_to_before_its_end(store: StoreLocation) -> None:
    written = Segments(store)
    names = {"before": HOUR + MOMENT, "first": HOUR, "last": MOMENT, "after": timedelta()}
    written.rows(*(row(name, 2 * HOUR) for name in names))
    written.labels(*(label(name, before=before) for name, before in names.items()))
    found = quality(store)
    assert (found.rows, found.repeated, found.unknown) == (2, 0, 0)


def test_a_label_that_takes_its_time_to_be_written_counts_in_its_window(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("x"), late=timedelta(seconds=SETTLED_SECONDS))
    written.labels(label("x", before=MOMENT), late=timedelta(seconds=SETTLED_SECONDS))
    assert quality(store).rows == 1


def test_a_label_counts_until_labels_within(store: StoreLocation) -> None:
    written = Segments(store)
    late = timedelta(seconds=WITHIN)
    written.rows(row("just", late + HOUR / 2), row("late", late + HOUR / 2 + MOMENT))
    written.rows(row("forgotten", 3 * late))
    written.labels(label("just"), label("late"), label("forgotten"))
    found = quality(store)
    assert (found.rows, found.late, found.unknown) == (1, 1, 1)


def test_the_first_record_of_a_row_and_its_first_label_count(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(Row("x", 0, ms(2 * HOUR), (1.0, ""), 0), late=HOUR)  # written after the other
    written.rows(Row("x", 0, ms(1.5 * HOUR), (1.0, ""), 1))
    written.labels(label("x", 0, HOUR / 2), late=HOUR / 4)
    written.labels(label("x", 1, HOUR / 3))
    assert quality(store) == MeasuredQuality(1, 1.0, repeated=1)


def test_one_record_in_two_segments_is_one(store: StoreLocation) -> None:
    written = Segments(store)
    for _ in range(2):
        written.rows(row("x"))
        written.labels(label("x"))
    assert quality(store) == MeasuredQuality(1, 1.0)


def test_a_label_that_came_before_the_window_and_was_written_in_it_is_the_first(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("x", 2 * HOUR))
    written.labels(label("x", 0, HOUR + MOMENT), late=2 * MOMENT)
    written.labels(label("x", 1))
    assert quality(store) == MeasuredQuality(0, repeated=1)


def test_what_was_answered_after_its_label_is_another_row(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("clocks", HOUR / 2 - timedelta(seconds=30)), row("reused", HOUR / 4))
    written.labels(label("clocks"), label("reused"))
    found = quality(store)
    assert (found.rows, found.unknown) == (1, 1)


def test_nothing_was_captured(store: StoreLocation) -> None:
    assert result(run(task(store))) == CapturedResult(0, 0, MeasuredQuality(0))


def test_segments_that_are_damaged_are_counted_and_left_out(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("x"))
    written.labels(label("x"))
    keys = [written.damaged(kind) for kind in ("labels", "rows")]
    report = run(task(store))
    assert result(report) == CapturedResult(0, 2, MeasuredQuality(1, 1.0))
    assert f"2 segments are damaged, the first is {min(keys)}" in report.message


def test_a_segment_that_is_too_large_is_damaged(store: StoreLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Segments(store)
    written.rows(*(row(f"{n}") for n in range(100)))
    written.labels(label("1"))
    monkeypatch.setattr(captured, "MAX_BYTES", 300)
    assert result(run(task(store))) == CapturedResult(0, 1, MeasuredQuality(0, unknown=1))


def test_a_metric_that_nobody_knows(store: StoreLocation) -> None:
    report = run(task(store, "beauty"))
    assert (report.ok, report.reason) == (False, "MetricUnknown")
    assert "use one of accuracy, log_loss, mae, rmse, roc_auc" in report.message


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", 0.5),
        ("roc_auc", 0.5),
        ("log_loss", 0.9497),
        ("mae", 0.5),
        ("rmse", 0.5),
    ],
)
def test_each_metric_is_measured(store: StoreLocation, metric: str, expected: float) -> None:
    written = Segments(store)
    answered = {"a": (0.9, 0), "b": (0.4, 1), "c": (0.3, 0), "d": (0.8, 1)}  # probability of 1, and what was true
    written.rows(*(Row(id_, 0, ms(HOUR), (1.0, ""), 1, (1 - p, p)) for id_, (p, _) in answered.items()))
    written.labels(*(label(id_, true) for id_, (_, true) in answered.items()))
    found = quality(store, metric)
    assert found.rows == 4
    assert found.value == pytest.approx(expected, abs=1e-4)


# However the records are spread over segments, and whoever is asked first.


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_each_label_counts_in_one_window_at_most(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    location = StoreLocation(f"file://{tmp_path_factory.mktemp('spread')}")
    written, rng = Segments(location), random.Random(data.draw(st.integers(0, 999)))
    minutes = st.integers(1, 40 * 60).map(lambda m: timedelta(minutes=m))
    rows: dict[str, Row] = {}
    labels: list[Label] = []
    for id_ in "abcde":
        for at in data.draw(st.lists(minutes, max_size=2, unique=True)):
            written.rows(found := row(id_, at), late=timedelta(seconds=rng.uniform(0, 50)))
            rows[id_] = min(found, rows.get(id_, found), key=lambda record: record.at)
        # No label comes before what it is about.
        before = ms(timedelta()) - rows[id_].at if id_ in rows else ms(timedelta())
        for at in data.draw(st.lists(minutes, max_size=3, unique=True)):
            if at > before * MOMENT:
                continue
            labels.append(label(id_, 1, at))
            for _ in range(rng.choice((1, 2))):
                written.labels(labels[-1], late=timedelta(seconds=rng.uniform(0, 50)))
    counted = 0
    for hours in range(48):  # one after the other
        end = UNTIL - timedelta(hours=hours)
        window = QualityMeasure("accuracy", ARTIFACT, (end - HOUR).isoformat(), end.isoformat(), WITHIN)
        found_quality = result(run(CapturedTask(location, OF, UNTIL.isoformat(), 10**8, window))).quality
        assert found_quality is not None
        counted += found_quality.rows
        inside = [x for x in labels if (end - HOUR).timestamp() * 1000 <= x.at < end.timestamp() * 1000]
        others = found_quality.unknown + found_quality.late + found_quality.repeated
        assert found_quality.rows + others == len(inside)
    in_time = 0
    for id_, answered in rows.items():
        came = [x.at for x in labels if x.id == id_]
        in_time += bool(came) and min(came) <= answered.at + 1000 * WITHIN
    assert counted == in_time


# What is too old.


def test_what_is_older_than_the_retention_is_deleted(store: StoreLocation) -> None:
    written = Segments(store)
    day = 24 * HOUR
    old = [written.rows(row("x", day + MOMENT)), written.labels(label("x", before=2 * day))]
    kept = [written.rows(row("y", day)), written.labels(label("y"))]
    others = Segments(store, "another").rows(row("x", 9 * day))
    written.store.put_once(blob := "blobs/sha256-0", b"1")
    written.store.put_once(stranger := f"captured/{OF}/rows/20200101T000000.000Z-note.txt", b"1")
    report = run(task(store, retention=24 * 3600))
    assert result(report).deleted == 2
    assert "2 segments deleted" in report.message
    assert written.store.keys("") == sorted([*kept, others, blob, stranger])
    assert not set(old) & set(written.store.keys(""))


def test_without_quality_only_the_retention_is_kept(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("x", 48 * HOUR))
    written.damaged("rows")  # which nobody reads
    report = run(CapturedTask(store, OF, UNTIL.isoformat(), 24 * 3600))
    assert result(report) == CapturedResult(1)
    assert report.reason == "RetentionKept"


def test_one_run_deletes_no_more_than_it_can_in_its_time_and_the_oldest_first(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MAX_DELETED", 3)
    written = Segments(store)
    newest = [written.rows(row("x", hours * HOUR)) for hours in (50, 49, 48, 47)][2:]
    written.labels(label("x", before=51 * HOUR))
    asked = CapturedTask(store, OF, UNTIL.isoformat(), 24 * 3600)
    assert result(run(asked)).deleted == 3
    assert written.keys() == newest
    assert result(run(asked)).deleted == 2
    assert result(run(asked)).deleted == 0


def test_what_cannot_be_deleted_holds_up_nothing_and_is_told(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Segments(store)
    stuck = written.rows(row("x", 50 * HOUR))
    written.rows(row("y", 49 * HOUR), row("z", 49 * HOUR))
    real = Store.delete

    def delete(self: Store, key: str) -> None:
        if key == stuck:
            raise StoreError("StoreRefused", "it refuses the key", retryable=False)
        real(self, key)

    monkeypatch.setattr(Store, "delete", delete)
    report = run(task(store, retention=24 * 3600))
    assert result(report).deleted == 1
    assert report.message.endswith("1 could not be deleted: it refuses the key")
    report = run(CapturedTask(store, OF, UNTIL.isoformat(), 24 * 3600))
    assert (report.ok, report.reason, report.store) == (False, "StoreRefused", True)


def test_a_store_that_is_away_is_not_asked_for_each_segment(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Segments(store)
    for hours in range(300):
        written.rows(row("x", (30 + hours) * HOUR))
    asked: list[str] = []

    def delete(_: Store, key: str) -> None:
        asked.append(key)
        raise StoreError("StoreUnreachable", "it does not answer", retryable=True)

    monkeypatch.setattr(Store, "delete", delete)
    report = run(CapturedTask(store, OF, UNTIL.isoformat(), 24 * 3600))
    assert (report.ok, report.retryable) == (False, True)
    assert len(asked) == 64
