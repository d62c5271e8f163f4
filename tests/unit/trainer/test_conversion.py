"""What is served is what scikit-learn says: the artifact's file in onnxruntime against the estimator."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io
from msgspec.structs import replace
from trainer_tasks import (
    BREAST_CANCER,
    LOGISTIC,
    MIXED_HEADER,
    SCALER,
    Artifact,
    csv,
    mixed_estimator,
    mixed_rows,
    run,
    steps,
    trained,
    training,
)

from modelmill_contracts import artifact, evaluation
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.task import Estimator, Step, StoreLocation

FOREST = "sklearn.ensemble.RandomForestClassifier"


def _served(made: Artifact, feed: dict[str, Any]) -> list[Any]:
    names = [output.name for output in made.manifest.outputs]
    return onnxruntime.InferenceSession(made.folder / artifact.ONNX).run(names, feed)


def _estimator(made: Artifact) -> Any:
    return skops.io.load(made.folder / artifact.SKOPS, trusted=list(artifact.SKOPS_TRUSTED))


def _numbers(target: str = "benign") -> pd.DataFrame:
    return pd.read_csv(BREAST_CANCER).drop(columns=target).astype(np.float32)


@pytest.mark.parametrize(
    "estimator",
    [
        steps(SCALER, LOGISTIC),
        steps((FOREST, {"n_estimators": 20})),  # an even number of votes: ties
        steps(SCALER, (FOREST, {"n_estimators": 50})),  # a scaler before thresholds
        steps(SCALER, "sklearn.ensemble.GradientBoostingClassifier"),
        steps("sklearn.tree.DecisionTreeClassifier"),
        steps(SCALER, ("sklearn.svm.SVC", {"probability": True})),
        steps("sklearn.naive_bayes.GaussianNB"),
    ],
    ids=lambda estimator: "-".join(step.class_.rpartition(".")[2] for step in estimator.steps),
)
def test_a_classifier_of_numbers(store: StoreLocation, estimator: Estimator) -> None:
    made = trained(store, BREAST_CANCER, "benign", estimator)
    manifest = made.manifest
    assert (manifest.runtime, manifest.notes) == ("onnx", ())
    assert manifest.inputs == (Tensor("input", "FP32", (-1, 30)),)
    assert manifest.outputs == (Tensor("predict", "INT64", (-1,)), Tensor("predict_proba", "FP32", (-1, 2)))
    assert manifest.classes == ("0", "1")
    assert manifest.conversion.rows == 569
    rows = _numbers()
    labels, probabilities = _served(made, {"input": rows.to_numpy()})
    expected = _estimator(made)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected.predict(rows.astype(np.float64)))
    np.testing.assert_allclose(probabilities, expected.predict_proba(rows.astype(np.float64)), atol=1e-4)


def test_a_tie_of_votes_goes_to_the_class_that_scikit_learn_takes(store: StoreLocation, tmp_path: Path) -> None:
    # Two trees that disagree on many rows: every such row is a tie.
    rows = [f"{x},{(x * 7919) % 13},{(x * 31) % 2}" for x in range(200)]
    made = trained(store, csv(tmp_path / "data.csv", "a,b,label", rows), "label", steps((FOREST, {"n_estimators": 2})))
    grid = pd.DataFrame({"a": np.arange(200.0), "b": np.arange(200.0) % 13})
    expected = _estimator(made)
    ties = np.isclose(expected.predict_proba(grid)[:, 0], 0.5)
    assert ties.sum() > 10
    labels = _served(made, {"input": grid.to_numpy(np.float32)})[0]
    np.testing.assert_array_equal(labels, expected.predict(grid))


def test_a_classifier_without_probabilities_has_labels_only(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, "sklearn.svm.LinearSVC"))
    assert made.manifest.runtime == "onnx"
    assert made.manifest.outputs == (Tensor("predict", "INT64", (-1,)),)
    assert made.profile.scores is None


@pytest.mark.parametrize("last", ["linear_model.LinearRegression", "ensemble.RandomForestRegressor", "svm.SVR"])
def test_a_regressor(store: StoreLocation, last: str) -> None:
    made = trained(store, BREAST_CANCER, "mean_area", steps(SCALER, f"sklearn.{last}"))
    assert made.manifest.runtime == "onnx"
    assert made.manifest.outputs == (Tensor("predict", "FP32", (-1,)),)
    assert made.manifest.classes == ()
    rows = _numbers("mean_area")
    found = _served(made, {"input": rows.to_numpy()})[0]
    assert found.shape == (569,)
    expected = _estimator(made).predict(rows.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4 * pd.read_csv(BREAST_CANCER)["mean_area"].std() * 2)


def _mixed(
    store: StoreLocation, tmp_path: Path, estimator: Estimator, header: str = MIXED_HEADER, **fields: Any
) -> Artifact:
    source = csv(tmp_path / "mixed.csv", header, mixed_rows(400))
    return trained(store, source, "label", estimator, **fields)


@pytest.mark.parametrize("last", [LOGISTIC, FOREST])
def test_text_and_numbers_are_one_input_a_column(store: StoreLocation, tmp_path: Path, last: str) -> None:
    made = _mixed(store, tmp_path, mixed_estimator(last))
    assert made.manifest.runtime == "onnx", made.manifest.notes
    kinds = {tensor.name: tensor.datatype for tensor in made.manifest.inputs}
    assert kinds == {"age": "FP32", "income": "FP32", "member": "FP32", "city": "BYTES"}
    assert made.manifest.outputs[0] == Tensor("predict", "BYTES", (-1,))
    assert made.manifest.classes == ("no", "yes")
    frame = pd.DataFrame({"age": [30, 71], "income": [41000.5, np.nan], "member": [1, 0], "city": ["Oslo", "Rome"]})
    feed = {name: frame[[name]].to_numpy(np.float32) for name in ("age", "income", "member")}
    labels, probabilities = _served(made, {**feed, "city": frame[["city"]].to_numpy(object)})
    expected = _estimator(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Rome was not among the cities: on purpose
        assert labels.tolist() == expected.predict(frame).tolist()
        np.testing.assert_allclose(probabilities, expected.predict_proba(frame), atol=1e-4)


def test_names_that_onnx_tools_would_rename(store: StoreLocation, tmp_path: Path) -> None:
    header = "age in years,variable,city:name,v7,label"
    base = mixed_estimator()
    renamed = dict(zip(MIXED_HEADER.split(","), header.split(","), strict=True))
    groups = tuple(replace(group, select=tuple(renamed[name] for name in group.select)) for group in base.columns)
    made = _mixed(store, tmp_path, replace(base, columns=groups), header)
    assert made.manifest.runtime == "onnx", made.manifest.notes
    session = onnxruntime.InferenceSession(made.folder / artifact.ONNX)
    assert {entry.name for entry in session.get_inputs()} == {"age in years", "variable", "city:name", "v7"}
    assert [entry.name for entry in session.get_outputs()] == ["predict", "predict_proba"]


def test_missing_values_may_be_sent_where_the_pipeline_imputes_them(store: StoreLocation, tmp_path: Path) -> None:
    made = _mixed(store, tmp_path, mixed_estimator())
    assert {feature.name: feature.missing for feature in made.manifest.features} == {
        "age": True,
        "income": True,
        "member": True,
        "city": False,
    }
    assert {feature.name: feature.type for feature in made.manifest.features} == {
        "age": "Integer",
        "income": "Float",
        "member": "Boolean",
        "city": "String",
    }
    plain = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    assert not any(feature.missing for feature in plain.manifest.features)


def test_what_onnx_cannot_do_is_served_by_scikit_learn_and_says_so(store: StoreLocation) -> None:
    answer = run(training(store, BREAST_CANCER, "benign", steps("sklearn.dummy.DummyClassifier")))
    assert answer.ok
    assert answer.result.runtime == "skops"
    assert "DummyClassifier cannot be converted to ONNX" in answer.message
    made = trained(store, BREAST_CANCER, "benign", steps("sklearn.dummy.DummyClassifier"))
    assert made.manifest.conversion is None
    assert "DummyClassifier" in made.manifest.notes[0]
    assert {file.name for file in made.manifest.files} - set(evaluation.FILES) == {
        "model.skops",
        "profile.json",
        "card.md",
        "report.html",
    }
    assert all(feature.missing for feature in made.manifest.features)  # it takes NaN by itself
    assert _estimator(made).predict(_numbers()).shape == (569,)


@pytest.mark.parametrize("last", ["HistGradientBoostingClassifier", "HistGradientBoostingRegressor"])
def test_histogram_gradient_boosting_is_onnx_and_takes_missing_values(store: StoreLocation, last: str) -> None:
    target = "benign" if last.endswith("Classifier") else "mean_area"
    made = trained(store, BREAST_CANCER, target, steps((f"sklearn.ensemble.{last}", {"max_iter": 20})))
    assert (made.manifest.runtime, made.manifest.notes) == ("onnx", ())
    assert all(feature.missing for feature in made.manifest.features)
    rows = _numbers(target)
    rows.iloc[::3, ::4] = np.nan
    expected = _estimator(made).predict(rows.astype(np.float64))
    found = _served(made, {"input": rows.to_numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_splits_by_category_are_not_mistaken_for_thresholds(store: StoreLocation, tmp_path: Path) -> None:
    rows = [f"{x % 7},{x},{(x % 7) in (1, 4)}" for x in range(300)]
    last = ("sklearn.ensemble.HistGradientBoostingClassifier", {"categorical_features": [0]})
    source = csv(tmp_path / "data.csv", "code,size,label", rows)
    answer = run(training(store, source, "label", steps(last)))
    assert answer.reason == "ModelNotPortable"  # skops does not hold such a model
    assert "cannot be converted to ONNX" in answer.message


def test_missing_text_is_imputed_as_in_training(store: StoreLocation, tmp_path: Path) -> None:
    base = mixed_estimator()
    impute = Step("fill", "sklearn.impute.SimpleImputer", {"strategy": "most_frequent"})
    groups = tuple(
        replace(group, steps=(impute, *group.steps)) if group.name == "text" else group for group in base.columns
    )
    rows = [row.replace("Oslo", "") if index % 9 == 0 else row for index, row in enumerate(mixed_rows(300))]
    source = csv(tmp_path / "mixed.csv", MIXED_HEADER, rows)
    made = trained(store, source, "label", replace(base, columns=groups))
    assert made.manifest.runtime == "onnx", made.manifest.notes
    assert {feature.name: feature.missing for feature in made.manifest.features}["city"]


def test_a_feature_called_like_an_output(store: StoreLocation, tmp_path: Path) -> None:
    base = mixed_estimator()
    groups = tuple(
        replace(group, select=tuple("predict" if name == "age" else name for name in group.select))
        for group in base.columns
    )
    made = _mixed(store, tmp_path, replace(base, columns=groups), MIXED_HEADER.replace("age", "predict"))
    assert made.manifest.runtime == "skops"
    assert "rename it" in made.manifest.notes[0]


def test_a_model_that_differs_from_scikit_learn_is_not_believed(
    store: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tolerance of a model that is exact to 1e-7 is set to what it cannot meet.
    monkeypatch.setattr("modelmill_trainer.conversion.TOLERANCE", 1e-12)
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    assert made.manifest.runtime == "skops"
    assert "differs from scikit-learn on 569 rows" in made.manifest.notes[0]


def test_the_card_tells_people_what_the_model_is(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), metrics=("roc_auc",))
    card = (made.folder / artifact.CARD).read_text()
    for text in (
        "`benign`",
        "455 rows for training",
        "114 rows",
        "| roc_auc |",
        "StandardScaler -> LogisticRegression",
    ):
        assert text in card
