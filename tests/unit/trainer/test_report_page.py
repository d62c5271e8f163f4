"""The report of a model: what it says is what was measured, it escapes what it shows, and a browser draws it."""

import html
import random
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pandas as pd
import pytest
import skops.io
from msgspec.structs import replace
from sklearn import metrics
from trainer_tasks import (
    LOGISTIC,
    MIXED_HEADER,
    SCALER,
    Artifact,
    csv,
    evaluated,
    frozen_rows,
    mixed_estimator,
    mixed_rows,
    steps,
    trained,
)

from modelmill_contracts import artifact, evaluation
from modelmill_contracts.task import Evaluation, StoreLocation
from modelmill_trainer.calibration import calibration
from modelmill_trainer.confusion import confusion
from modelmill_trainer.evaluation import Predicted
from modelmill_trainer.importance import importance
from modelmill_trainer.report_page import interval

FOREST = "sklearn.ensemble.RandomForestClassifier"
CITY, LABEL = "<b>city</b> & 'name' | x", "label</title><script>document.title=1</script>"
VALUE = "<script>document.title='run'</script>"


def _page(made: Artifact) -> str:
    return (made.folder / artifact.PAGE).read_text()


def _card(made: Artifact) -> str:
    return (made.folder / artifact.CARD).read_text()


@pytest.fixture
def hostile(store: StoreLocation, tmp_path: Path) -> Artifact:
    """A model of data whose names and values are HTML, with folds and slices."""
    base = mixed_estimator(FOREST, n_estimators=10)
    groups = tuple(
        replace(group, select=tuple(CITY if name == "city" else name for name in group.select))
        for group in base.columns
    )
    header = MIXED_HEADER.replace("city", CITY).replace("label", LABEL)
    rows = [row.replace("Oslo", VALUE) for row in mixed_rows(400)]
    return trained(
        store,
        csv(tmp_path / "hostile.csv", header, rows),
        LABEL,
        replace(base, columns=groups),
        metrics=("roc_auc", "accuracy"),
        evaluation=Evaluation(3, (CITY,)),
    )


def test_card_and_page_say_what_was_measured(hostile: Artifact) -> None:
    found, page, card = evaluated(hostile), _page(hostile), _card(hostile)
    for text in (page, card):
        assert "Measured on 80 rows that the training did not see." in text
        assert "320 rows for training" in text
        assert hostile.result.recipe in text
        for metric in hostile.result.metrics:
            assert f"{metric.value}" in text
            assert f"{metric.stddev}" in text
            assert hostile.manifest.metrics[metric.name] in text
        assert "RandomForestClassifier(n_estimators=10)" in text
        assert "OneHotEncoder(handle_unknown=" in text
        assert "kubectl get mver" in text
        assert hostile.manifest.recipe["architecture"] in text
        assert f"Expected calibration error: {found.calibration.error:g}" in text
        assert f"roc_auc ({found.importance.value:g}) gets on 80 frozen rows" in text
    assert all(value in page for entry in found.slices for value in entry.metrics.values())
    assert [one.feature for one in found.importance.features][-1] != CITY
    (left, right) = found.confusion.counts
    assert f"| no | {left[0]} | {left[1]} |" in card
    assert f"| yes | {right[0]} | {right[1]} |" in card


def test_what_comes_from_the_data_is_text(hostile: Artifact) -> None:
    page, card = _page(hostile), _card(hostile)
    for text in (page, card):
        assert "<script" not in text.replace(f"`{LABEL}`", "")  # in Markdown, what is code is text
        assert "<b>city" not in text
        assert "&lt;script" in text
    assert html.escape(CITY) in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_same_run_gives_the_same_page(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", MIXED_HEADER, mixed_rows(120))
    pages = [_page(trained(store, source, "label", mixed_estimator(), seed=3)) for _ in range(2)]
    assert pages[0] == pages[1]
    assert pages[0] != _page(trained(store, source, "label", mixed_estimator(), seed=4))


LOOK = """
    parts: [...all(".part > h2")].map(h => h.innerText), heading: one("h1").innerText,
    cells: [...all(".matrix td")].map(cell => +cell.innerText), worst: all("td.worst").length,
    points: boxes("circle").filter(box => box.width > 0).length,
    bars: boxes(".importance .track i").filter(box => box.width > 0).length,
    important: [...all(".importance .value > span")].map(name => name.innerText),
    columns: [...all(".cards h2")].map(h => h.innerText),
    square: boxes("svg.diagram").map(box => Math.abs(box.width / box.height - 264 / 248) < 0.05)[0],
"""


@pytest.mark.parametrize("width", [360, 1280])
def test_what_a_browser_shows(chromium: str, tmp_path: Path, hostile: Artifact, width: int) -> None:
    seen, found = browser.seen(chromium, tmp_path, _page(hostile), width, LOOK), evaluated(hostile)
    assert seen["title"] == seen["heading"] == f"A model of {LABEL}"
    assert seen["parts"] == ["Quality", "Data", "Training", "Features", "Serving", "Tests", "Limits"]
    assert seen["cells"] == [count for row in found.confusion.counts for count in row]
    assert seen["points"] == len(found.calibration.bins)
    assert seen["square"]
    assert seen["important"] == [one.feature for one in found.importance.features]
    assert seen["bars"] >= 1
    assert seen["columns"] == ["age", "income", "member", CITY]
    assert seen["worst"] >= 2  # of each metric
    assert VALUE in seen["text"]
    assert (seen["scripts"], seen["loaded"], seen["wide"], seen["inside"]) == (0, 0, 0, True)


def test_the_matrix_and_the_diagram_are_of_the_test_rows(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", MIXED_HEADER, mixed_rows(400))
    made = trained(store, source, "label", mixed_estimator())
    rows, found = frozen_rows(made), evaluated(made)
    features = pd.DataFrame(
        {name: rows.column(f"feature.{name}").to_numpy().astype(float) for name in ("age", "income", "member")}
    )
    features.insert(2, "city", rows.column("feature.city").to_pylist())
    fitted = skops.io.load(made.folder / artifact.SKOPS, trusted=list(artifact.SKOPS_TRUSTED))
    truth = np.array(rows.column("target").to_pylist())
    features = features[[feature.name for feature in made.manifest.features]]
    matrix = metrics.confusion_matrix(truth, fitted.predict(features))
    assert found.confusion == evaluation.Confusion(("no", "yes"), tuple(tuple(row) for row in matrix.tolist()))
    said, bins = fitted.predict_proba(features)[:, 1], found.calibration.bins
    assert sum(one.rows for one in bins) == 80
    assert sum(one.rows * one.predicted for one in bins) == pytest.approx(said.sum(), rel=1e-4)
    assert sum(one.rows * one.observed for one in bins) == pytest.approx((truth == "yes").sum(), rel=1e-4)
    assert found.calibration.error < 0.2


def test_a_regressor_has_a_diagram_and_no_matrix(store: StoreLocation, tmp_path: Path) -> None:
    draw = random.Random(1)
    source = csv(tmp_path / "d.csv", "x,y", [f"{x},{2 * x + draw.gauss(0, 3)}" for x in range(300)])
    made = trained(store, source, "y", steps(SCALER, "sklearn.linear_model.LinearRegression"))
    found = evaluated(made)
    assert found.confusion is None
    assert (found.calibration.of, found.calibration.error) == ("Number", None)
    assert [one.predicted for one in found.calibration.bins] == sorted(one.predicted for one in found.calibration.bins)
    assert all(one.observed == pytest.approx(one.predicted, abs=5) for one in found.calibration.bins)
    assert "reliability diagram" in _page(made)
    assert "matrix" not in _page(made).partition("</style>")[2]


def test_a_model_without_probabilities_has_no_diagram(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "d.csv", "x,label", [f"{x},{int(x > 50)}" for x in range(100)])
    made = trained(store, source, "label", steps(SCALER, "sklearn.svm.LinearSVC"), metrics=("roc_auc",))
    found = evaluated(made)
    assert found.calibration is None
    assert found.importance.metric == "accuracy"  # what is served gives no scores
    assert "reliability diagram" not in _page(made)


def _predicted(truth: list[Any], labels: list[Any], probabilities: Any = None) -> Predicted:
    classes = np.unique(np.array(truth))
    return Predicted(np.array(truth), np.array(labels), probabilities, probabilities, classes)


def test_of_many_classes_the_frequent_ones_are_named() -> None:
    truth = [f"c{row % 25:02}" for row in range(1000)] + ["c24"] * 10
    found = confusion(_predicted(truth, truth))
    assert found is not None
    assert len(found.classes) == evaluation.MAX_CLASSES
    assert "c24" in found.classes
    assert found.others
    assert [found.counts[place][place] for place in (-1, -2)] == [5 * 40, 50]
    assert sum(map(sum, found.counts)) == 1010


def test_of_more_than_two_classes_the_highest_probability_is_looked_at() -> None:
    probabilities = np.array([[0.05, 0.9, 0.05], [0.95, 0.03, 0.02], [0.25, 0.35, 0.4], [0.2, 0.25, 0.55]])
    found = calibration(_predicted(["a", "a", "b", "c"], ["b", "a", "c", "c"], probabilities))
    assert found is not None
    assert (found.of, [(one.rows, one.predicted, one.observed) for one in found.bins]) == (
        "Confidence",
        [(1, 0.4, 0.0), (1, 0.55, 1.0), (2, 0.925, 0.5)],
    )
    assert found.error == pytest.approx((0.4 + 0.45 + 2 * 0.425) / 4)


def _by_first(rows: pd.DataFrame, truth: Any) -> Predicted:
    """A model that looks at the first feature only."""
    return Predicted(truth, (rows.iloc[:, 0] > 0.5).to_numpy(np.int64), None, None, np.array([0, 1]))


def test_what_a_model_does_not_look_at_is_good_for_nothing() -> None:
    rows = pd.DataFrame(np.random.default_rng(1).random((500, 4)), columns=["noise", "used", "more", "self"])
    rows = rows[["used", "noise", "more", "self"]]
    truth = (rows["used"] > 0.5).to_numpy(np.int64)
    found = importance(_by_first, rows, truth, ("roc_auc", "recall"), seed=1)
    assert found is not None
    assert (found.metric, found.value, found.rows, found.repeats) == ("recall", 1.0, 500, 5)
    assert [one.feature for one in found.features] == ["used", "noise", "more", "self"]
    assert found.features[0].worse == pytest.approx(0.5, abs=0.1)
    assert [one.worse for one in found.features[1:]] == [0, 0, 0]
    assert importance(_by_first, rows, truth, ("roc_auc", "recall"), seed=1) == found


@pytest.mark.parametrize(("features", "rows", "repeats"), [(4, 1000, 5), (30, 555, 3), (100, 250, 2), (400, 125, 2)])
def test_the_work_is_bounded(features: int, rows: int, repeats: int) -> None:
    asked = 0

    def count(part: pd.DataFrame, truth: Any) -> Predicted:
        nonlocal asked
        asked += len(part)
        return _by_first(part, truth)

    data = pd.DataFrame(np.random.default_rng(1).random((5000, features))).rename(columns=str)
    found = importance(count, data, (data["0"] > 0.5).to_numpy(np.int64), ("accuracy",), seed=1)
    assert found is not None
    assert (found.rows, found.repeats, len(found.features)) == (rows, repeats, min(features, 200))
    assert asked <= 51_000


def test_a_model_that_refuses_shuffled_rows_is_no_failure() -> None:
    def refuse(*_: Any) -> Predicted:
        raise ValueError("no neighbours")

    assert importance(refuse, pd.DataFrame({"x": [1.0, 2.0]}), np.array([0, 1]), ("accuracy",), seed=0) is None


def test_of_a_loss_more_is_worse(store: StoreLocation, tmp_path: Path) -> None:
    draw = random.Random(1)
    source = csv(tmp_path / "d.csv", "x,noise,label", [f"{x},{draw.random()},{int(x > 150)}" for x in range(300)])
    made = trained(store, source, "label", steps(SCALER, LOGISTIC), metrics=("log_loss",))
    found = evaluated(made).importance
    assert found.metric == "log_loss"
    assert (found.features[0].feature, found.features[0].worse > 0.2) == ("x", True)


def test_an_interval_is_wilson_s() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998: 81 of 263.
    assert interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert interval(0.0, 5)[0] == 0.0
