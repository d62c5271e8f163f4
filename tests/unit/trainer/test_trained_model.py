"""What a training records: metrics as scikit-learn computes them, the profile, the recipe, the seed's effect."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from msgspec.structs import replace
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
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
    trained,
    training,
)

from modelmill_contracts import artifact, digest
from modelmill_contracts.profile import Categorical
from modelmill_contracts.task import Split, StoreLocation

ALL = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "log_loss",
    "average_precision",
    "brier",
)


def test_metrics_are_those_of_scikit_learn_s_own_session(store: StoreLocation) -> None:
    found = trained(
        store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), metrics=ALL, seed=7, split=Split("0.25", stratify=True)
    ).manifest.metrics
    data = pd.read_csv(BREAST_CANCER)
    x, y = data.drop(columns="benign"), data["benign"]
    train, test = train_test_split(np.arange(569), test_size=0.25, random_state=7, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x.iloc[np.sort(train)], y[np.sort(train)])
    truth, labels, scores = y[test], model.predict(x.iloc[test]), model.predict_proba(x.iloc[test])
    expected = {
        "accuracy": metrics.accuracy_score(truth, labels),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, labels),
        "precision": metrics.precision_score(truth, labels),
        "recall": metrics.recall_score(truth, labels),
        "f1": metrics.f1_score(truth, labels),
        "roc_auc": metrics.roc_auc_score(truth, scores[:, 1]),
        "log_loss": metrics.log_loss(truth, scores),
        "average_precision": metrics.average_precision_score(truth, scores[:, 1]),
        "brier": metrics.brier_score_loss(truth, scores[:, 1]),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=2e-6), name


def test_metrics_of_a_regressor(store: StoreLocation) -> None:
    names = ("r2", "mae", "rmse", "mse", "mape", "median_absolute_error", "max_error", "explained_variance")
    found = trained(store, BREAST_CANCER, "mean_area", steps("sklearn.linear_model.LinearRegression"), metrics=names)
    values = {name: float(value) for name, value in found.manifest.metrics.items()}
    assert set(values) == set(names)
    assert 0.99 < values["r2"] <= 1
    assert values["rmse"] == pytest.approx(values["mse"] ** 0.5, rel=1e-5)
    assert all("e" not in value.lower() for value in found.manifest.metrics.values())


def test_metrics_of_more_than_two_classes(store: StoreLocation, tmp_path: Path) -> None:
    rows = [f"{x % 10},{x % 7},{'abc'[(x % 10) // 4]}" for x in range(200)]
    found = trained(
        store,
        csv(tmp_path / "d.csv", "x,y,label", rows),
        "label",
        steps("sklearn.tree.DecisionTreeClassifier"),
        metrics=ALL,
    )
    assert found.manifest.metrics["accuracy"] == "1"
    assert found.manifest.metrics["roc_auc"] == "1"
    assert found.manifest.metrics["brier"] == "0"
    assert found.manifest.classes == ("a", "b", "c")


def test_the_report_says_what_was_measured(store: StoreLocation) -> None:
    answer = run(training(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), metrics=("roc_auc",)))
    value = answer.result.metrics[0].value
    assert answer.reason == "Trained"
    assert answer.message == f"trained on 455 rows, tested on 114: roc_auc {value}"
    assert (answer.result.train_rows, answer.result.test_rows) == (455, 114)


def test_the_profile_counts_every_training_row(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "mixed.csv", MIXED_HEADER, mixed_rows(400))
    profile = trained(store, source, "label", mixed_estimator()).profile
    assert profile.rows == 320
    by_name = {feature.name: feature for feature in profile.features}
    for feature in profile.features:
        other = feature.other if isinstance(feature, Categorical) else 0
        assert sum(feature.counts) + other + feature.missing == 320
    assert by_name["income"].missing > 0
    assert len(by_name["income"].edges) == 10
    assert len(by_name["income"].counts) == 11
    assert min(by_name["income"].counts) > 20  # equal shares: about 27 rows each
    assert set(by_name["city"].values) == {"Berlin", "Paris", "Oslo"}
    assert profile.predictions.values == ("no", "yes")
    assert sum(profile.predictions.counts) == 80  # the test rows
    assert sum(profile.scores.counts) == 80


def test_edges_are_float32_values_and_a_value_on_an_edge_is_below_it(store: StoreLocation) -> None:
    profile = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC)).profile
    for feature in (*profile.features, profile.scores):
        edges = np.array(feature.edges)
        np.testing.assert_array_equal(edges, edges.astype(np.float32).astype(np.float64))
        assert (np.diff(edges) > 0).all()
    data = pd.read_csv(BREAST_CANCER)
    train = np.sort(train_test_split(np.arange(569), test_size=0.2, random_state=0)[0])
    first = profile.features[0]
    values = data[first.name].to_numpy(np.float32)[train]
    assert first.counts[0] == (values <= np.float32(first.edges[0])).sum()
    assert first.counts[3] == ((values > np.float32(first.edges[2])) & (values <= np.float32(first.edges[3]))).sum()


def test_the_recipe_is_what_the_report_s_digest_names_and_forgets_the_store(
    store: StoreLocation, tmp_path: Path
) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    assert made.result.recipe == digest.of_json(made.manifest.recipe)
    assert str(tmp_path) not in repr(made.manifest.recipe)
    elsewhere = replace(store, uri=store.uri + "-2")
    again = trained(elsewhere, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    assert (again.result.recipe, again.result.artifact) == (made.result.recipe, made.result.artifact)


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"image": "other"}, {"split": Split("0.3")}, {"features": ("mean_area",)}]
)
def test_whatever_changes_the_model_changes_the_recipe(store: StoreLocation, changed: dict[str, Any]) -> None:
    first = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    second = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), **changed)
    assert first.result.recipe != second.result.recipe
    assert first.result.artifact != second.result.artifact


def test_the_seed_is_what_an_open_random_state_comes_from(store: StoreLocation) -> None:
    forest = "sklearn.ensemble.RandomForestClassifier"

    def model(seed: int, **params: Any) -> str:
        made = trained(store, BREAST_CANCER, "benign", steps((forest, {"n_estimators": 5, **params})), seed=seed)
        return next(file.digest for file in made.manifest.files if file.name == "model.onnx")

    assert model(1) == model(1)
    assert model(1) != model(2)


def test_every_step_gets_a_seed_of_its_own_and_one_thread(store: StoreLocation) -> None:
    forest = ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5, "n_jobs": 2})
    pca = ("sklearn.decomposition.PCA", {"n_components": 5})
    estimator = steps(pca, forest)
    made = trained(store, BREAST_CANCER, "benign", estimator)
    first, last = (
        step for _, step in skops.io.load(made.folder / artifact.SKOPS, trusted=list(artifact.SKOPS_TRUSTED)).steps
    )
    assert isinstance(first.random_state, int)
    assert isinstance(last.random_state, int)
    assert first.random_state != last.random_state
    assert last.n_jobs == 1  # as it is served: threads would sum votes in any order
    chosen = trained(store, BREAST_CANCER, "benign", steps((forest[0], {"n_estimators": 5, "random_state": 3})))
    path = chosen.folder / artifact.SKOPS
    assert skops.io.load(path, trusted=list(artifact.SKOPS_TRUSTED)).steps[0][1].random_state == 3


def test_a_parameter_that_must_be_a_tuple_may_be_a_list(store: StoreLocation) -> None:
    scaler = ("sklearn.preprocessing.MinMaxScaler", {"feature_range": [0, 2]})
    assert trained(store, BREAST_CANCER, "benign", steps(scaler, LOGISTIC)).manifest.runtime == "onnx"


def test_weights_of_whole_number_classes(store: StoreLocation) -> None:
    weighted = trained(
        store,
        BREAST_CANCER,
        "benign",
        steps(SCALER, (LOGISTIC, {"class_weight": {"0": 50, "1": 1}})),
        metrics=("recall", "precision"),
    )
    plain = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), metrics=("recall", "precision"))
    assert float(weighted.manifest.metrics["recall"]) < float(plain.manifest.metrics["recall"])


def test_a_solver_that_did_not_converge_is_noted(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps((LOGISTIC, {"max_iter": 2})))
    assert "did not" in made.manifest.notes[0] or "before it converged" in made.manifest.notes[0]
