"""What is wrong with a TrainingJob or its data ends in a report that names it, and never in a value of the data."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from msgspec.structs import replace
from trainer_tasks import (
    BREAST_CANCER,
    LOGISTIC,
    MIXED_HEADER,
    SCALER,
    csv,
    mixed_estimator,
    mixed_rows,
    run,
    steps,
    training,
)

from modelmill_contracts import report
from modelmill_contracts.store import blob_key
from modelmill_contracts.task import ColumnGroup, Estimator, Split, Step, StoreLocation, TrainingTask

FOREST = "sklearn.ensemble.RandomForestClassifier"
BAD_DECLARATIONS = [
    # (estimator, reason, what the message must say)
    (steps("sklearn.linear_model.LogisticRegresion"), "EstimatorUnknown", "sklearn.linear_model.LogisticRegression"),
    (steps("sklearn.linear_modl.LogisticRegression"), "EstimatorUnknown", "sklearn.linear_model"),
    (steps("LogisticRegression"), "EstimatorUnknown", "full name"),
    (steps("os.system"), "EstimatorNotAllowed", "allowed are sklearn"),
    (steps("sklearn.utils._testing.MinimalClassifier"), "EstimatorUnknown", "not public"),
    (steps("sklearn.datasets.load_iris"), "EstimatorUnknown", "not public"),
    (steps("sklearn.model_selection.train_test_split"), "EstimatorUnknown", "not an estimator"),
    (steps("sklearn.base.os"), "EstimatorUnknown", "not an estimator"),
    (steps("sklearn.base.BaseEstimator"), "EstimatorUnknown", "not an estimator"),
    (steps((FOREST, {"n_estimatrs": 5})), "ParameterUnknown", "n_estimators"),
    (steps((FOREST, {"n_estimators": 0})), "ParameterInvalid", "'n_estimators' parameter of RandomForestClassifier"),
    (steps((FOREST, {"n_estimators": "many"})), "ParameterInvalid", "must be an int"),
    (steps((LOGISTIC, {"class_weight": 3})), "ParameterInvalid", "class_weight"),
    (steps(SCALER), "EstimatorInvalid", "classifier or a regressor"),
    (steps("sklearn.cluster.KMeans"), "EstimatorInvalid", "classifier or a regressor"),
    (steps(LOGISTIC, LOGISTIC), "EstimatorInvalid", "must be a transformer"),
    (steps("sklearn.multioutput.ClassifierChain"), "EstimatorUnknown", "another estimator"),
    (Estimator(()), "EstimatorInvalid", "is empty"),
    (Estimator((Step("a", SCALER), Step("a", LOGISTIC))), "EstimatorInvalid", "twice"),
    (Estimator((Step("a__b", LOGISTIC),)), "EstimatorInvalid", "underscores"),
    (
        steps(("sklearn.feature_extraction.text.CountVectorizer", {"input": "filename"}), LOGISTIC),
        "ParameterInvalid",
        "not allowed",
    ),
]


@pytest.mark.parametrize(
    ("estimator", "reason", "text"), BAD_DECLARATIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_wrong_declaration_is_found_before_the_data_is_read(
    store: StoreLocation, estimator: Estimator, reason: str, text: str
) -> None:
    # No snapshot was ever taken: what is wrong must be known before the store is asked for it.
    digest = "sha256:" + "0" * 64
    answer = run(TrainingTask(store, digest, digest, "benign", estimator))
    assert (answer.ok, answer.reason, answer.retryable) == (False, reason, False), answer
    assert text in answer.message


def _fails(
    store: StoreLocation, source: Path, estimator: Estimator, target: str = "label", **fields: Any
) -> report.Report:
    answer = run(training(store, source, target, estimator, **fields))
    assert not answer.ok
    assert answer.result is None
    return answer


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        ({"target": "benine"}, "TargetMissing", "benign"),
        ({"features": ("mean_radios",)}, "FeatureMissing", "mean_radius"),
        ({"features": ("benign",)}, "FeatureInvalid", "is the target"),
        ({"features": ("mean_area", "mean_area")}, "FeatureInvalid", "twice"),
        ({"metrics": ("auc",)}, "MetricUnknown", "roc_auc"),
        ({"metrics": ("r2",)}, "MetricUnknown", "accuracy"),
        ({"split": Split("0")}, "SplitInvalid", "between 0 and 1"),
        ({"split": Split("a fifth")}, "SplitInvalid", "not a decimal"),
    ],
)
def test_a_wrong_reference_to_the_data_names_what_is_near(
    store: StoreLocation, fields: dict[str, Any], reason: str, text: str
) -> None:
    target = fields.pop("target", "benign")
    answer = _fails(store, BREAST_CANCER, steps(SCALER, LOGISTIC), target, **fields)
    assert answer.reason == reason, answer
    assert text in answer.message


def test_text_without_an_encoder_is_named(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", MIXED_HEADER, mixed_rows(60, missing=False))
    answer = _fails(store, source, steps(LOGISTIC))
    assert answer.reason == "FeatureNotNumeric"
    assert "'city'" in answer.message
    assert "Berlin" not in answer.message
    scaled = ColumnGroup("all", ("age", "city"), (Step("scale", SCALER),))
    answer = _fails(store, source, Estimator((Step("last", LOGISTIC),), (scaled,)))
    assert answer.reason == "FeatureNotNumeric"
    assert [problem.column for problem in answer.problems] == ["city"]


def test_text_that_looks_like_numbers_is_still_text(store: StoreLocation, tmp_path: Path) -> None:
    # scikit-learn would read the digits as numbers, and the server, which is told of text, would not.
    table = pa.table({"code": [str(x) for x in range(40)], "label": [x % 2 for x in range(40)]})
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    scaled = ColumnGroup("all", ("code",), (Step("scale", SCALER),))
    answer = _fails(store, tmp_path / "data.parquet", Estimator((Step("last", LOGISTIC),), (scaled,)))
    assert answer.reason == "FeatureNotNumeric"


def test_missing_values_name_the_feature_and_the_rows(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", MIXED_HEADER, mixed_rows(60))
    answer = _fails(store, source, steps(LOGISTIC), features=("age", "income"))
    assert answer.reason == "FeatureMissingValues"
    assert answer.problems[0].column == "income"
    assert answer.problems[0].rows == (4, 21, 38)
    assert answer.problems[0].count == 4
    assert "SimpleImputer" in answer.message


@pytest.mark.parametrize(("text", "reason"), [("nan", "FeatureMissingValues"), ("inf", "FeatureNotFinite")])
def test_nan_and_infinity_in_an_undeclared_column(store: StoreLocation, tmp_path: Path, text: str, reason: str) -> None:
    source = csv(tmp_path / "data.csv", "x,label", [f"{text if x in (2, 30) else x + 0.5},{x % 2}" for x in range(40)])
    answer = _fails(store, source, steps(LOGISTIC))
    assert answer.reason == reason
    assert (answer.problems[0].column, answer.problems[0].rows) == ("x", (3, 31))


def test_a_target_of_one_class(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,label", [f"{x},1" for x in range(20)])
    answer = _fails(store, source, steps(LOGISTIC))
    assert answer.reason == "TargetOneClass"
    assert "all 20 rows" in answer.message


def test_a_target_with_gaps_names_how_many(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,label", [f"{x},{'' if x < 3 else x % 2}" for x in range(20)])
    answer = _fails(store, source, steps(LOGISTIC))
    assert answer.reason == "TargetMissingValues"
    assert "3 rows" in answer.message


def test_too_few_rows_for_a_stratified_split(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,label", [f"{x},{int(x == 0)}" for x in range(20)])
    answer = _fails(store, source, steps(LOGISTIC), split=Split(stratify=True))
    assert answer.reason == "TooFewRows"
    assert "the rarest with 1 rows" in answer.message


def test_a_target_that_does_not_fit_the_estimator(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(
        tmp_path / "data.csv", "x,label,text,day", [f"{x},{x / 7},t{x % 2},2024-01-{x + 1:02}" for x in range(20)]
    )
    assert _fails(store, source, steps(LOGISTIC), features=("x",)).reason == "TargetNotDiscrete"
    linear = steps("sklearn.linear_model.LinearRegression")
    assert _fails(store, source, linear, "text", features=("x",)).reason == "TargetNotNumeric"
    assert _fails(store, source, linear, features=("day",)).reason == "FeatureNotNumeric"


def test_a_test_row_with_an_unknown_category(store: StoreLocation, tmp_path: Path) -> None:
    rows = [f"city{x},{x % 2}" for x in range(40)]
    source = csv(tmp_path / "data.csv", "city,label", rows)
    onehot = ColumnGroup("text", ("city",), (Step("onehot", "sklearn.preprocessing.OneHotEncoder"),))
    answer = _fails(store, source, Estimator((Step("last", LOGISTIC),), (onehot,)))
    assert answer.reason == "UnknownCategory"
    assert "handle_unknown" in answer.message
    assert "city1" not in answer.message


def test_a_feature_that_no_group_selects(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", MIXED_HEADER, mixed_rows(60))
    answer = _fails(store, source, mixed_estimator(), features=("age", "income", "city"))
    assert answer.reason == "FeatureMissing"
    assert "member" in answer.message
    one = ColumnGroup("n", ("age",), (Step("scale", SCALER),))
    answer = _fails(store, source, Estimator((Step("last", LOGISTIC),), (one,)), features=("age", "member"))
    assert answer.reason == "FeatureUnused"


def test_an_error_of_scikit_learn_is_passed_on_without_values(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,y,label", [f"{x},{x * 2},{x % 2}" for x in range(40)])
    answer = _fails(store, source, steps(("sklearn.decomposition.PCA", {"n_components": 9}), LOGISTIC))
    assert answer.reason == "TrainingFailed"
    assert "n_components=9" in answer.message


def test_a_snapshot_that_was_changed_in_the_store(store: StoreLocation, tmp_path: Path) -> None:
    asked = training(store, BREAST_CANCER, "benign", steps(LOGISTIC))
    path = tmp_path / "store" / blob_key(asked.file)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    answer = run(asked)
    assert answer.reason == "DigestMismatch"
    assert "take the snapshot again" in answer.message


def test_a_snapshot_with_other_content_than_the_version_says(store: StoreLocation) -> None:
    asked = training(store, BREAST_CANCER, "benign", steps(LOGISTIC))
    answer = run(replace(asked, version="sha256:" + "1" * 64))
    assert answer.reason == "DigestMismatch"
