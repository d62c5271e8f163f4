"""Datasets of what a ModelDeployment captured: each row once, with its first label, in the order of time."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from captured_store import ARTIFACT, HEADER, HOUR, OF, UNTIL, Segments, label, ms, row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3_server import S3Server
from trainer_tasks import BREAST_CANCER, run, snapshot, steps, taken

from modelmill_contracts.captured import SETTLED_SECONDS, Label, Row, RowsHeader
from modelmill_contracts.report import Report, SnapshotResult, TrainingResult
from modelmill_contracts.store import Store, blob_key
from modelmill_contracts.task import (
    CapturedRows,
    Column,
    Derivation,
    Estimator,
    Expectations,
    SnapshotInput,
    SnapshotTask,
    StoreLocation,
    TrainingTask,
)
from modelmill_trainer import segments
from modelmill_trainer.data import undeclared

EXAMPLE = BREAST_CANCER.parents[1] / "captured"
SINCE = 24 * 3600
TIMES = st.integers(1, 60 * 23).map(lambda minutes: timedelta(minutes=minutes))


def asked(location: StoreLocation, **more: Any) -> SnapshotTask:
    fields = {key: more.pop(key) for key in ("since", "until", "labelled", "target", "of") if key in more}
    wanted = CapturedRows(**{"of": OF, "since": SINCE, "until": UNTIL.isoformat(), **fields})
    return SnapshotTask(location, captured=wanted, **more)


def table(location: StoreLocation, result: SnapshotResult, folder: Path) -> pa.Table:
    path = folder / result.file[-8:]
    if not path.exists():
        Store(location).download(blob_key(result.file), path)
    return pyarrow.parquet.read_table(path)


def rows_of(location: StoreLocation, folder: Path, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table(location, taken(asked(location, **more)), folder).to_pylist()
    return found


def problem(report: Report) -> tuple[str, str]:
    assert not report.ok
    return report.problems[0].rule, report.message


def test_a_row_has_what_it_was_asked_what_it_answered_and_what_was_true(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    location = StoreLocation(f"{s3.bucket('captured').uri}/{tmp_path.name}", s3.endpoint)
    written = Segments(location)
    written.rows(row("x"), row("y", 2 * HOUR, 3, (None, "yes")))
    written.labels(label("x", 0), label("y", 1, number=3))
    report = run(asked(location))
    assert isinstance(report.result, SnapshotResult), report
    assert report.result.modified_at == "2026-11-29T11:30:00Z"  # when the newest label came
    assert table(location, report.result, tmp_path).to_pylist() == [
        {
            "captured_id": "y:3",
            "captured_at": UNTIL - 2 * HOUR,
            "captured_version": "7",
            "radius": None,
            "smoker": "yes",
            "captured_prediction": 1,
            "captured_score": 0.75,
            "label": 1,
        },
        {
            "captured_id": "x:0",
            "captured_at": UNTIL - HOUR,
            "captured_version": "7",
            "radius": 1.5,
            "smoker": "no",
            "captured_prediction": 1,
            "captured_score": 0.75,
            "label": 0,
        },
    ]


def test_only_what_was_answered_and_came_back_in_time_counts(store: StoreLocation, tmp_path: Path) -> None:
    written = Segments(store)
    day, moment = timedelta(seconds=SINCE), timedelta(milliseconds=1)
    written.rows(row("too-old", day + moment), row("oldest", day), row("newest", moment), row("too-new", timedelta()))
    written.rows(row("not-labelled", 5 * HOUR), row("labelled-too-late", 4 * HOUR))
    names = ("too-old", "oldest", "newest", "too-new")
    written.labels(*(label(name, before=moment) for name in names), label("nobody", before=moment))
    written.labels(label("labelled-too-late", before=timedelta()))
    assert [found["captured_id"] for found in rows_of(store, tmp_path)] == ["oldest:0", "newest:0"]
    everything = rows_of(store, tmp_path, labelled=False)
    assert [(found["captured_id"], found["label"]) for found in everything] == [
        ("oldest:0", 1),
        ("not-labelled:0", None),
        ("labelled-too-late:0", None),
        ("newest:0", 1),
    ]


def test_a_segment_counts_whose_writing_began_a_little_later(store: StoreLocation, tmp_path: Path) -> None:
    written = Segments(store)
    settled = timedelta(seconds=SETTLED_SECONDS)
    written.rows(row("x", timedelta(seconds=1)), late=settled)
    written.labels(label("x", before=timedelta(seconds=1)), late=settled)
    written.rows(row("y", timedelta(seconds=1)), late=settled + timedelta(seconds=1))
    assert [found["captured_id"] for found in rows_of(store, tmp_path, labelled=False)] == ["x:0"]


def test_the_first_record_of_a_row_and_the_first_label_count(store: StoreLocation, tmp_path: Path) -> None:
    written = Segments(store)
    written.labels(label("x", "second", HOUR / 4), label("x", "first", HOUR / 3))
    written.rows(row("x", HOUR / 2, values=(2.0, "second")), late=HOUR / 4)
    written.rows(row("x", HOUR, values=(1.0, "first")), late=HOUR / 2)
    (found,) = rows_of(store, tmp_path)
    assert (found["radius"], found["smoker"], found["label"]) == (1.0, "first", "first")


def test_another_deployment_has_its_own(store: StoreLocation, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written = Segments(store, name)
        written.rows(row(name))
        written.labels(label(name))
    assert [found["captured_id"] for found in rows_of(store, tmp_path, of="two")] == ["two:0"]


def test_columns_that_were_chosen_later_are_missing_before(store: StoreLocation, tmp_path: Path) -> None:
    written = Segments(store)
    later = RowsHeader(ARTIFACT, "8", ("texture", "smoker"), ())
    written.rows(Row("new", 0, ms(HOUR / 2), (7, "yes"), 0), header=later)
    written.rows(row("old"))
    written.labels(label("old"), label("new", before=HOUR / 4))
    first, second = rows_of(store, tmp_path)
    assert list(first) == [
        *("captured_id", "captured_at", "captured_version", "radius", "smoker", "texture"),
        *("captured_prediction", "captured_score", "label"),
    ]
    assert (first["radius"], first["smoker"], first["texture"], first["captured_score"]) == (1.5, "no", None, 0.75)
    assert (second["radius"], second["smoker"], second["texture"], second["captured_score"]) == (None, "yes", 7, None)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([1, True, None], pa.int64(), [1, 1, None]),
        ([True, False], pa.bool_(), [True, False]),
        ([1, 0.5], pa.float64(), [1.0, 0.5]),
        ([True, 0.5], pa.float64(), [1.0, 0.5]),
        ([2**70, 1], pa.float64(), [2.0**70, 1.0]),
        (["a", 1, 2.0, 0.5, False, None], pa.string(), ["a", "1", "2", "0.5", "false", None]),
        ([None], pa.string(), [None]),
    ],
)
def test_a_column_is_what_all_of_its_values_are(
    store: StoreLocation, tmp_path: Path, values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    written = Segments(store)
    written.rows(*(row(f"{n}", 2 * HOUR - timedelta(seconds=n), values=(v, "")) for n, v in enumerate(values)))
    written.labels(*(label(f"{n}") for n, _ in enumerate(values)))
    found = table(store, taken(asked(store)), tmp_path).column("radius")
    assert found.type == kind
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("classes", "scores", "expected"),
    [((0, 1), (0.9, 0.1), 0.1), (("a", "b", "c"), (0.2, 0.7, 0.1), 0.7), ((), (), None), (("a",), (1.0,), 1.0)],
)
def test_the_score_is_that_of_the_second_of_two_classes_else_the_highest(
    store: StoreLocation, tmp_path: Path, classes: tuple[Any, ...], scores: tuple[float, ...], expected: float | None
) -> None:
    written = Segments(store)
    header = RowsHeader(ARTIFACT, "7", ("radius",), classes)
    written.rows(Row("x", 0, ms(HOUR), (1.0,), 1, scores), header=header)
    written.labels(label("x"))
    (found,) = rows_of(store, tmp_path)
    assert found.get("captured_score") == expected
    assert ("captured_score" in found) == bool(scores)  # of a regressor there is no such column


def test_what_a_dataset_declares_holds_for_what_was_captured_too(store: StoreLocation, tmp_path: Path) -> None:
    written = Segments(store)
    written.rows(row("x"), row("y", values=(-1, "no")))
    written.labels(label("x", "1"), label("y", 0))
    columns = (Column("radius", "Float", min="0"), Column("benign", "Integer", nullable=False))
    rule, message = problem(run(asked(store, target="benign", columns=columns)))
    assert (rule, message) == ("BelowMinimum", "column 'radius': 1 value (rows 2) are below the declared min of 0")
    found = rows_of(store, tmp_path, target="benign", columns=columns[1:])
    assert [entry["benign"] for entry in found] == [1, 0]
    rule, message = problem(run(asked(store, expectations=Expectations(min_rows=3))))
    assert (rule, message) == ("TooFewRows", "the data has 2 rows, but at least 3 are expected")
    assert run(asked(store, expectations=Expectations(unique_key=("captured_id",)))).ok


def test_where_nothing_was_captured_it_is_said_what_to_do(store: StoreLocation) -> None:
    rule, message = problem(run(asked(store)))
    assert rule == "TooFewRows"
    assert message.startswith(
        "the ModelDeployment captured no row within spec.source.deployment.since: send it requests"
    )
    written = Segments(store)
    written.rows(row("x"), row("y"))
    written.labels(label("z"))
    rule, message = problem(run(asked(store)))
    assert rule == "TooFewRows"
    assert message.startswith("none of the 2 rows that were captured has a label yet, and 1 labels came")
    assert "/v2/models/NAME/labels" in message


def test_a_damaged_segment_is_named_and_nothing_is_made_of_the_others(store: StoreLocation) -> None:
    written = Segments(store)
    written.rows(row("x"))
    written.labels(label("x"))
    key = written.damaged("labels")
    rule, message = problem(run(asked(store)))
    assert rule == "SegmentDamaged"
    assert message.startswith(f"the segment {key} in the store cannot be used: it cannot be unpacked")
    written.store.delete(key)
    assert run(asked(store)).ok


def test_labels_where_rows_should_be_are_no_segment(store: StoreLocation) -> None:
    written = Segments(store)
    key = written.labels(label("x"))
    written.store.put_once(key.replace("/labels/", "/rows/"), written.store.get(key, 1000))
    assert "it has labels where rows should be" in problem(run(asked(store)))[1]


def test_a_segment_that_got_too_old_while_others_were_read_is_none(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Segments(store)
    gone = written.rows(row("old", 20 * HOUR))
    written.rows(row("x"))
    written.labels(label("x"), label("old"))
    found = segments.keys

    def keys(*asked: Any) -> list[str]:
        known = found(*asked)
        if gone in known:
            written.store.delete(gone)
        return known

    monkeypatch.setattr(segments, "keys", keys)
    assert [entry["captured_id"] for entry in rows_of(store, tmp_path)] == ["x:0"]


@pytest.mark.parametrize(
    ("features", "target", "said"),
    [
        (("radius", "label"), "label", "a feature has the name of the labels, 'label'; give the labels another name"),
        (("radius", "captured_at"), "label", "a feature has the name 'captured_at', which is not its own"),
        (("radius", "smoker"), "captured_id", "the column name 'captured_id' occurs 2 times"),
    ],
)
def test_names_that_are_taken_are_refused(
    store: StoreLocation, features: tuple[str, ...], target: str, said: str
) -> None:
    written = Segments(store)
    written.rows(row("x"), header=RowsHeader(ARTIFACT, "7", features, (0, 1)))
    written.labels(label("x"))
    rule, message = problem(run(asked(store, target=target)))
    assert rule == "DuplicateColumn"
    assert message.startswith(said)


# However the records are spread over segments.


@st.composite
def records(draw: st.DrawFn) -> tuple[list[tuple[RowsHeader, Row]], list[Label]]:
    """Rows, some with labels, some recorded twice."""
    headers = [HEADER, RowsHeader(ARTIFACT, "8", ("smoker", "texture"), (0, 1))]
    ids = draw(st.lists(st.sampled_from(["a", "b", "c", "d", "é", "a:1"]), min_size=1, max_size=6, unique=True))
    rows, labels = [], []
    for id_ in ids:
        for number in range(draw(st.integers(1, 2))):
            for at in draw(st.lists(TIMES, min_size=1, max_size=2, unique=True)):
                value = draw(st.sampled_from([1, 0.5, "text", None, True]))
                rows.append((draw(st.sampled_from(headers)), row(id_, at, number, (value, "no"))))
            came = draw(st.lists(TIMES, max_size=2, unique=True))
            labels.extend(label(id_, draw(st.sampled_from([0, 1, "1", 1.5])), at, number) for at in came)
    return rows, labels


def write(folder: Path, rows: list[tuple[RowsHeader, Row]], labels: list[Label], seed: int) -> StoreLocation:
    """Each record in one segment or two, with others of its header, in any order."""
    location = StoreLocation(f"file://{folder}/{seed}")
    written, rng = Segments(location), random.Random(seed)

    def late() -> timedelta:
        return timedelta(seconds=rng.uniform(0, 50))

    for header in dict.fromkeys(header for header, _ in rows):
        for _ in range(2):  # each attempt has a part of the rows; what neither has gets a segment of its own
            part = [found for known, found in rows if known == header and rng.random() < 0.6]
            rng.shuffle(part)
            if part:
                written.rows(*part, header=header, late=late(), writer=f"{rng.randrange(16):x}")
        for known, found in rows:
            if known == header:
                written.rows(found, header=header, late=late(), writer=f"{rng.randrange(16):x}")
    for found_label in labels:
        for _ in range(rng.choice((1, 2))):
            written.labels(found_label, late=late(), writer=f"{rng.randrange(16):x}")
    part_of_labels = [found_label for found_label in labels if rng.random() < 0.5]
    rng.shuffle(part_of_labels)
    if part_of_labels:
        written.labels(*part_of_labels, late=late())
    return location


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=records())
def test_the_version_depends_on_the_records_alone(
    tmp_path_factory: pytest.TempPathFactory, found: tuple[list[tuple[RowsHeader, Row]], list[Label]]
) -> None:
    folder = tmp_path_factory.mktemp("spread")
    results = [run(asked(write(folder, *found, seed), labelled=False, target="truth")).result for seed in range(3)]
    assert len({(result.version, result.file, result.rows) for result in results}) == 1
    first_rows = {(record.id, record.row) for _, record in found[0]}
    assert results[0].rows == len(first_rows)


# What is trained on it.


def test_what_was_answered_is_no_feature_by_default() -> None:
    names = (
        "captured_id",
        "captured_at",
        "captured_version",
        "radius",
        "captured_prediction",
        "captured_score",
        "label",
    )
    task = TrainingTask(StoreLocation(""), "", "", "label", Estimator(()))
    assert undeclared(task, dict.fromkeys(names, "Float")) == ["radius"]


def test_the_example_puts_it_below_what_was_there_before(store: StoreLocation, tmp_path: Path) -> None:
    source = yaml.safe_load((EXAMPLE / "cohort.yaml").read_text())["spec"]["source"]
    declared = yaml.safe_load((EXAMPLE / "seen.yaml").read_text())["spec"]
    written = Segments(store)
    header = RowsHeader(ARTIFACT, "7", ("mean_radius", "mean_texture"), (0, 1))
    written.rows(row("x", values=(12.5, 17)), header=header)
    written.labels(label("x", "1"))
    columns = tuple(Column(c["name"], c["type"], c.get("nullable", True)) for c in declared["columns"])
    seen = taken(asked(store, target=declared["source"]["deployment"]["target"], columns=columns))
    tumours = snapshot(store, BREAST_CANCER)
    inputs = (
        SnapshotInput("tumours", tumours.version, tumours.file),
        SnapshotInput("triage-seen", seen.version, seen.file),
    )
    derived = taken(SnapshotTask(store, derive=Derivation(inputs, source["derive"]["sql"])))
    assert (derived.rows, derived.columns) == (tumours.rows + 1, tumours.columns)
    last = table(store, derived, tmp_path).to_pylist()[-1]
    assert (last["mean_radius"], last["mean_texture"], last["mean_area"], last["benign"]) == (12.5, 17.0, None, 1)


def test_a_model_is_trained_on_what_was_captured(store: StoreLocation) -> None:
    written, rng = Segments(store), random.Random(3)
    rows, labels = [], []
    for number in range(200):
        size = rng.random()
        rows.append(row(f"id-{number}", 2 * HOUR - timedelta(seconds=number), values=(size, 2 * size)))
        labels.append(label(f"id-{number}", int(size + rng.gauss(0, 0.1) > 0.5)))
    written.rows(*rows, header=RowsHeader(ARTIFACT, "7", ("radius", "texture"), (0, 1)))
    written.labels(*labels)
    found = taken(asked(store))
    logistic = steps("sklearn.linear_model.LogisticRegression")
    report = run(TrainingTask(store, found.file, found.version, "label", logistic))
    assert isinstance(report.result, TrainingResult), report
    text = Store(store).get(report.result.uri.removeprefix(f"{store.uri}/") + "/manifest.json", 1 << 20).decode()
    assert "captured_" not in text
    declared = ("radius", "captured_score")
    report = run(TrainingTask(store, found.file, found.version, "label", logistic, features=declared))
    assert report.ok  # who names them knows why
