"""How good a model is: over folds, in slices, and on rows that stay with it."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from trainer_tasks import (
    BREAST_CANCER,
    LOGISTIC,
    MIXED_HEADER,
    SCALER,
    csv,
    evaluated,
    frozen_rows,
    mixed_estimator,
    mixed_rows,
    run,
    steps,
    trained,
    training,
)

from modelmill_contracts import artifact, digest, evaluation, folder, report, task
from modelmill_contracts.store import Store
from modelmill_contracts.task import Evaluation, Split, StoreLocation, TrainingTask
from modelmill_trainer.recipe import recipe

LINEAR = "sklearn.linear_model.LinearRegression"


def test_the_metrics_of_folds_are_those_of_scikit_learn_s_own_session(store: StoreLocation) -> None:
    made = trained(
        store,
        BREAST_CANCER,
        "benign",
        steps(SCALER, LOGISTIC),
        metrics=("roc_auc",),
        seed=3,
        evaluation=Evaluation(folds=5),
    )
    data = pd.read_csv(BREAST_CANCER)
    x, y = data.drop(columns="benign").to_numpy(), data["benign"].to_numpy()
    train = np.sort(train_test_split(np.arange(569), test_size=0.2, random_state=3)[0])
    scores = []
    for older, newer in KFold(5, shuffle=True, random_state=3).split(train):
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[train[older]], y[train[older]])
        scores.append(metrics.roc_auc_score(y[train[newer]], model.predict_proba(x[train[newer]])[:, 1]))
    found = made.result.metrics[0]
    assert float(found.value) == pytest.approx(statistics.fmean(scores), abs=2e-6)
    assert float(found.stddev) == pytest.approx(statistics.stdev(scores), abs=2e-6)
    assert [fold.test_rows for fold in evaluated(made).folds] == [91] * 5
    # The test rows took no part in it, and have a metric of their own.
    assert made.manifest.metrics["roc_auc"] != found.value


@pytest.mark.parametrize(
    "split", [Split(), Split(stratify=True), Split(group="patient"), Split(time="day")], ids=lambda s: s.group or s.time
)
def test_folds_are_made_in_the_way_of_the_split_and_always_the_same(
    store: StoreLocation, tmp_path: Path, split: Split
) -> None:
    lines = [f"{x * 37 % 100},{x % 25},{x},{x * 37 % 100 > 40}" for x in range(300)]
    source = csv(tmp_path / "d.csv", "x,patient,day,label", lines)
    fields: dict[str, Any] = {"features": ("x",), "split": split, "evaluation": Evaluation(folds=4)}
    made = trained(store, source, "label", steps(LOGISTIC), **fields)
    again = trained(store, source, "label", steps(LOGISTIC), **fields)
    assert replace(made.result, cpu_seconds=0) == replace(again.result, cpu_seconds=0)
    folds = evaluated(made).folds
    if split.time:  # what is tested on is always newer
        assert [(fold.train_rows, fold.test_rows) for fold in folds] == [(48, 48), (96, 48), (144, 48), (192, 48)]
    else:
        assert sum(fold.test_rows for fold in folds) == 240
        assert {fold.train_rows + fold.test_rows for fold in folds} == {240}


def test_the_model_is_the_same_with_folds_and_without(store: StoreLocation) -> None:
    forest = steps(("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5}))
    plain = trained(store, BREAST_CANCER, "benign", forest)
    folded = trained(store, BREAST_CANCER, "benign", forest, evaluation=Evaluation(folds=2))
    assert (plain.folder / artifact.ONNX).read_bytes() == (folded.folder / artifact.ONNX).read_bytes()


def test_a_fold_that_cannot_be_measured_is_named(store: StoreLocation, tmp_path: Path) -> None:
    # Of 40 training rows 4 are of the rare class: some of 20 folds have none to test on.
    source = csv(tmp_path / "d.csv", "x,label", [f"{x},{int(x % 10 == 0)}" for x in range(50)])
    answer = run(
        training(
            store,
            source,
            "label",
            steps(LOGISTIC),
            metrics=("roc_auc",),
            split=Split(stratify=True),
            evaluation=Evaluation(folds=4),
        )
    )
    assert answer.ok, answer  # one row of the class in each
    answer = run(
        training(store, source, "label", steps(LOGISTIC), metrics=("roc_auc",), evaluation=Evaluation(folds=20))
    )
    assert answer.reason in ("MetricUndefined", "TooFewRows")
    assert answer.message.startswith("evaluation.crossValidation: ")


def sliced(store: StoreLocation, tmp_path: Path, lines: list[str], *columns: str, **fields: Any) -> Any:
    source = csv(tmp_path / "sliced.csv", "x,group,code,label", lines)
    fields = {"features": ("x",), "split": Split("0.5"), **fields}
    return trained(store, source, "label", steps(LOGISTIC), evaluation=Evaluation(slices=columns), **fields)


def test_a_slice_has_the_metrics_of_its_rows(store: StoreLocation, tmp_path: Path) -> None:
    # Of group b the label is turned round: on the whole the model looks well.
    lines = [f"{x % 100},{'b' if x % 5 == 0 else 'a'},1,{int((x % 100 > 50) != (x % 5 == 0))}" for x in range(400)]
    made = sliced(store, tmp_path, lines, "group")
    assert float(made.manifest.metrics["accuracy"]) > 0.7
    by_value = {entry.value: entry for entry in evaluated(made).slices}
    assert float(by_value["a"].metrics["accuracy"]) > 0.9
    assert float(by_value["b"].metrics["accuracy"]) < 0.1
    assert by_value["a"].rows + by_value["b"].rows == 200
    (worst,) = made.result.slices
    assert (worst.metric, worst.column, worst.slice) == ("accuracy", "group", "b")
    assert worst.value == by_value["b"].metrics["accuracy"]


def test_of_a_loss_the_largest_is_the_worst(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{x % 100},{'b' if x % 5 == 0 else 'a'},1,{int((x % 100 > 50) != (x % 5 == 0))}" for x in range(400)]
    made = sliced(store, tmp_path, lines, "group", metrics=("log_loss", "accuracy"))
    assert [(worst.metric, worst.slice) for worst in made.result.slices] == [("log_loss", "b"), ("accuracy", "b")]


def test_rare_values_and_missing_ones(store: StoreLocation, tmp_path: Path) -> None:
    names = ["", *(f"v{x:02}" for x in range(40))]
    # 41 values with 20 rows each, and 5 of which no test part has enough rows.
    lines = [f"{x % 90},{names[x % 41]},{x},{x % 2}" for x in range(820)]
    lines += [f"{x},rare{x},{x},{x % 2}" for x in range(5)]
    made = sliced(store, tmp_path, lines, "group", split=Split("0.9"))
    found = evaluated(made)
    assert len(found.slices) == evaluation.MAX_SLICE_VALUES
    assert all(entry.rows >= evaluation.MIN_SLICE_ROWS for entry in found.slices)
    (left,) = found.left_out
    assert left.rows + sum(entry.rows for entry in found.slices) == found.rows
    assert any(f"{left.values} values in {left.rows} test rows are no slices" in note for note in made.manifest.notes)
    assert "rare1" not in str(made.manifest.notes)


def test_a_missing_value_is_a_slice_of_its_own(store: StoreLocation, tmp_path: Path) -> None:
    made = sliced(store, tmp_path, [f"{x},{'' if x % 2 else 'a'},,{x // 2 % 2}" for x in range(80)], "group")
    assert {entry.value for entry in evaluated(made).slices} == {"a", None}
    assert set(frozen_rows(made).column("slice.group").to_pylist()) == {"a", None}


def test_what_a_slice_of_one_class_does_not_define(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{x % 50},{'sick' if x % 2 else 'mixed'},1,{1 if x % 2 else x // 2 % 2}" for x in range(200)]
    made = sliced(store, tmp_path, lines, "group", metrics=("recall", "roc_auc", "accuracy"))
    by_value = {entry.value: entry for entry in evaluated(made).slices}
    assert by_value["sick"].undefined == ("recall", "roc_auc")
    assert by_value["mixed"].undefined == ()
    assert "| group | sick |" in (made.folder / artifact.CARD).read_text()
    assert "undefined" in (made.folder / artifact.CARD).read_text()


def test_a_slice_without_test_rows_is_said(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{x},{'old' if x < 30 else 'new'},{x},{x % 2}" for x in range(100)]
    made = sliced(store, tmp_path, lines, "group", split=Split("0.3", time="code"))
    assert [entry.value for entry in evaluated(made).slices] == ["new"]
    assert "slices of 'group': 1 values of training rows are in no test row" in made.manifest.notes


def test_a_column_of_which_no_slice_can_be_made_is_said(store: StoreLocation, tmp_path: Path) -> None:
    made = sliced(store, tmp_path, [f"{x},a,{x},{x % 2}" for x in range(60)], "code")
    assert evaluated(made).slices == ()
    assert any("there is none; use more test rows" in note for note in made.manifest.notes)


@pytest.mark.parametrize(
    ("column", "reason", "text"),
    [
        ("citi", "SliceColumnMissing", "the nearest are city"),
        ("income", "SliceColumnInvalid", "'income' is of type Float"),
    ],
)
def test_a_column_that_cannot_be_sliced_by(
    store: StoreLocation, tmp_path: Path, column: str, reason: str, text: str
) -> None:
    source = csv(tmp_path / "d.csv", MIXED_HEADER, mixed_rows(100))
    answer = run(training(store, source, "label", mixed_estimator(), evaluation=Evaluation(slices=(column,))))
    assert answer.reason == reason
    assert answer.message.startswith("evaluation.slices: ")
    assert text in answer.message


def test_frozen_rows_are_what_a_server_takes(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", MIXED_HEADER, mixed_rows(100))
    made = trained(store, source, "label", mixed_estimator(), evaluation=Evaluation(slices=("city", "member")))
    found, described = frozen_rows(made), made.manifest.evaluation
    names = [f"feature.{feature.name}" for feature in made.manifest.features]
    assert found.column_names == [*names, "target", "slice.city", "slice.member"]
    types = ["float", "float", "float", "string"]
    assert [str(field.type) for field in found.schema] == [*types, "string", "string", "string"]
    assert sum(found.column(name).null_count for name in (*names, "target")) == 0
    assert np.isnan(found.column("feature.income").to_numpy()).any()
    assert (described.rows, described.of, described.target) == (20, 20, "label")
    assert described.slices == ("city", "member")
    assert set(found.column("slice.member").to_pylist()) == {"true", "false"}
    listed = {file.name: file.digest for file in made.manifest.files}
    for name in evaluation.FILES:
        assert listed[name] == digest.of_file(made.folder / name)


def test_more_rows_than_fit_are_drawn_and_not_the_first_of_the_data(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_ROWS", 30)
    source = csv(tmp_path / "d.csv", "x,label", [f"{x},{x % 2}" for x in range(400)])
    made = trained(store, source, "label", steps(LOGISTIC), split=Split("0.5"))
    rows = frozen_rows(made).column("feature.x").to_pylist()
    assert (made.manifest.evaluation.rows, made.manifest.evaluation.of) == (30, 200)
    assert rows == sorted(rows)
    assert rows[-1] > 300
    made = trained(store, source, "label", steps(LOGISTIC), split=Split("0.5", time="x"), features=("x",))
    assert frozen_rows(made).column("feature.x").to_pylist() == list(range(370, 400))


def test_wide_or_long_rows_are_bounded_by_their_bytes(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_BYTES", 10 * (4 + 8))
    source = csv(tmp_path / "d.csv", "x,label", [f"{x},{x % 2}" for x in range(100)])
    assert trained(store, source, "label", steps(LOGISTIC)).manifest.evaluation.rows == 10
    monkeypatch.setattr(evaluation, "MAX_BYTES", 1)
    assert trained(store, source, "label", steps(LOGISTIC)).manifest.evaluation.rows == 1


def test_a_regressor_has_frozen_rows_and_slices_too(store: StoreLocation, tmp_path: Path) -> None:
    lines = [f"{x},{'ab'[x % 2]},1,{x * 0.5 if x % 2 else 3}" for x in range(100)]
    source = csv(tmp_path / "d.csv", "x,group,code,label", lines)
    fields: dict[str, Any] = {"features": ("x",), "metrics": ("r2", "mae"), "evaluation": Evaluation(3, ("group",))}
    made = trained(store, source, "label", steps(LINEAR), **fields)
    assert str(frozen_rows(made).schema.field("target").type) == "double"
    by_value = {entry.value: entry for entry in evaluated(made).slices}
    assert by_value["a"].undefined == ("r2",)  # the truth does not vary
    assert [metric.stddev is not None for metric in made.result.metrics] == [True, True]


def test_the_report_has_room_for_what_people_call_their_values(store: StoreLocation, tmp_path: Path) -> None:
    name, value = "\u4e2d" * 128, "\u00e9" * 500
    lines = [f"{x % 60},{value}{x % 2},{x // 2 % 2}" for x in range(200)]
    source = csv(tmp_path / "d.csv", f"x,{name},label", lines)
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "matthews_corrcoef", "roc_auc")
    fields: dict[str, Any] = {"features": ("x",), "evaluation": Evaluation(2, (name,))}
    answer = run(training(store, source, "label", steps(LOGISTIC), metrics=names, **fields))
    assert answer.ok
    assert 0 < len(answer.result.slices) < len(names)
    again = report.decode(report.encode(answer).decode())
    assert again is not None
    assert again.result == answer.result


def test_who_serves_a_model_needs_no_frozen_rows_and_no_page(store: StoreLocation, tmp_path: Path) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    got = tmp_path / "got"
    folder.fetch(Store(store), made.result.artifact, got, without=artifact.NOT_SERVED)
    assert not {path.name for path in got.iterdir()} & set(artifact.NOT_SERVED)
    folder.verify(got, made.result.artifact)
    (got / evaluation.ROWS).write_bytes(b"others")
    with pytest.raises(folder.ArtifactError, match=r"evaluation\.parquet has digest"):
        folder.verify(got, made.result.artifact)


def test_an_artifact_from_before_there_were_frozen_rows_is_valid() -> None:
    tensor = artifact.Tensor("input", "FP32", (-1, 2))
    old = artifact.Manifest("onnx", (), (tensor,), (tensor,))
    assert artifact.decode(artifact.encode(old)).evaluation is None
    assert b"evaluation" not in artifact.encode(old)


def test_a_recipe_without_the_newer_fields_is_named_as_it_always_was() -> None:
    asked = TrainingTask(
        StoreLocation("s3://models"),
        file=f"sha256:{'f' * 64}",
        version=f"sha256:{'a' * 64}",
        target="benign",
        estimator=task.Estimator((task.Step("lr", LOGISTIC),)),
        seed=7,
        metrics=("roc_auc",),
        image="trainer:1",
    )
    made = recipe(asked, ["mean_area"], ["roc_auc"], {})
    fixed = {**made, "libraries": {}, "architecture": "x86_64", "pins": {}}
    assert digest.of_json(fixed) == "sha256:2cbcdb50623b8be54e287473a24bb277ef0703469cd5a820a36bf0870e61094c"


@pytest.mark.parametrize(
    "fields",
    [
        {"split": Split(group="a")},
        {"split": Split(time="a")},
        {"evaluation": Evaluation(folds=3)},
        {"evaluation": Evaluation(slices=("a",))},
    ],
)
def test_each_newer_field_is_part_of_the_recipe(fields: dict[str, Any]) -> None:
    plain = TrainingTask(StoreLocation("s3://models"), "f", "v", "y", steps(LOGISTIC))
    asked = TrainingTask(StoreLocation("s3://models"), "f", "v", "y", steps(LOGISTIC), **fields)
    assert recipe(asked, ["x"], ["f1"], {}) != recipe(plain, ["x"], ["f1"], {})
