"""A Model's tests, asked of the real server over loopback on frozen rows."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import skops.io
from msgspec.structs import replace
from served_models import asked, outcomes
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
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
)

from modelmill_contracts import artifact, digest, evaluation, folder, report
from modelmill_contracts.evaluation import FrozenRows
from modelmill_contracts.report import Outcome
from modelmill_contracts.store import Store
from modelmill_contracts.task import (
    BaselineTest,
    BehaviourTest,
    LatencyTest,
    MetricTest,
    ModelTestTask,
    Perturbation,
    Served,
    StoreLocation,
    Tests,
)
from modelmill_trainer import model_tests, served
from modelmill_trainer.command import main
from modelmill_trainer.evaluation import Predicted, known_metrics

ROWS = pd.read_csv(BREAST_CANCER).iloc[::4].reset_index(drop=True)
SIZE = ["large" if radius > 14 else "small" for radius in ROWS["mean_radius"]]


def frozen(store: StoreLocation, made: Artifact, rows: pd.DataFrame, target: str, **slices: list[Any]) -> Path:
    """The artifact with these rows as its frozen ones, published; its folder."""
    columns: dict[str, Any] = {}
    for feature in made.manifest.features:
        values = rows[feature.name]
        text = feature.type == "String"
        columns[evaluation.FEATURE + feature.name] = (
            pa.array(values.fillna("").tolist(), pa.string()) if text else pa.array(values.to_numpy(np.float32))
        )
    columns[evaluation.TARGET] = pa.array(rows[target].tolist())
    columns |= {evaluation.SLICE + name: pa.array(values, pa.string()) for name, values in slices.items()}
    place = made.folder.parent / f"frozen-{made.folder.name[-8:]}"
    shutil.copytree(made.folder, place, dirs_exist_ok=True)
    path = place / evaluation.ROWS
    pyarrow.parquet.write_table(pa.table(columns), path)
    file = artifact.File(evaluation.ROWS, digest.of_file(path), path.stat().st_size)
    described = FrozenRows(len(rows), len(rows), target, tuple(slices))
    others = tuple(known for known in made.manifest.files if known.name != evaluation.ROWS)
    manifest = replace(made.manifest, files=(*others, file), evaluation=described)
    (place / artifact.MANIFEST).write_bytes(artifact.encode(manifest))
    folder.publish(Store(store), place, manifest)
    return place


@pytest.fixture
def logistic(store: StoreLocation) -> Path:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    return frozen(store, made, ROWS, "benign", size=SIZE)


@pytest.fixture
def poor(store: StoreLocation) -> Path:
    """A model that sees one column of little use."""
    made = trained(store, BREAST_CANCER, "benign", steps(LOGISTIC), features=("mean_fractal_dimension",))
    return frozen(store, made, ROWS, "benign")


def test_metrics_are_those_of_scikit_learn_on_the_frozen_rows(store: StoreLocation, logistic: Path) -> None:
    model = skops.io.load(logistic / artifact.SKOPS, trusted=list(artifact.SKOPS_TRUSTED))
    features = ROWS.drop(columns="benign").astype(np.float32)
    truth, labels, scores = ROWS["benign"], model.predict(features), model.predict_proba(features)
    expected = {
        "accuracy": metrics.accuracy_score(truth, labels),
        "recall": metrics.recall_score(truth, labels),
        "roc_auc": metrics.roc_auc_score(truth, scores[:, 1]),
        "log_loss": metrics.log_loss(truth, scores),
    }
    tests = Tests(tuple(MetricTest(name, min="0") for name in expected))
    for outcome, (name, value) in zip(asked(store, logistic, tests), expected.items(), strict=True):
        assert (outcome.name, outcome.passed, outcome.threshold) == (name, True, ">= 0")
        assert outcome.observed is not None
        assert float(outcome.observed) == pytest.approx(value, abs=1e-5), name


def test_what_is_out_of_bounds_is_not_passed_and_says_what_was_found(store: StoreLocation, logistic: Path) -> None:
    bounds = (("accuracy", "0.5", None), ("accuracy", "0.999", None), ("log_loss", None, "0.001"), ("f1", "0", "0.5"))
    found = asked(store, logistic, Tests(tuple(MetricTest(*bound) for bound in bounds)))
    assert [outcome.passed for outcome in found] == [True, False, False, False]
    assert [outcome.threshold for outcome in found] == [">= 0.5", ">= 0.999", "<= 0.001", ">= 0 and <= 0.5"]
    assert all(outcome.observed for outcome in found)


def test_every_slice_is_as_good_as_the_worst(store: StoreLocation, logistic: Path) -> None:
    tests = Tests(
        (
            MetricTest("accuracy", min="0.5", every_slice="size"),
            MetricTest("accuracy", min="0.9999", every_slice="size"),
            MetricTest("accuracy", min="0.5", every_slice="nowhere"),
        )
    )
    good, bad, nowhere = asked(store, logistic, tests)
    assert (good.name, good.passed, bad.passed) == ("accuracy of every size", True, False)
    assert good.slice in ("size=large", "size=small")
    assert (good.slice, good.observed) == (bad.slice, bad.observed)
    assert not nowhere.passed
    assert "no slices of nowhere" in (nowhere.message or "")


def test_slices_of_too_few_rows_are_none(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    place = frozen(store, made, ROWS, "benign", rare=[str(number // 5) for number in range(len(ROWS))])
    (outcome,) = asked(store, place, Tests((MetricTest("accuracy", min="0", every_slice="rare"),)))
    assert not outcome.passed
    assert "no value of rare has 10 rows" in (outcome.message or "")


def test_a_metric_that_the_model_does_not_have_is_not_passed(store: StoreLocation, logistic: Path) -> None:
    (outcome,) = asked(store, logistic, Tests((MetricTest("rmse", max="1"),)))
    assert not outcome.passed
    assert "use accuracy" in (outcome.message or "")


def test_text_and_missing_values_reach_the_server(store: StoreLocation, tmp_path: Path) -> None:
    lines = mixed_rows(200)
    made = trained(store, csv(tmp_path / "d.csv", MIXED_HEADER, lines), "label", mixed_estimator())
    rows = pd.read_csv(tmp_path / "d.csv").head(80)
    place = frozen(store, made, rows, "label")
    model = skops.io.load(place / artifact.SKOPS, trusted=list(artifact.SKOPS_TRUSTED))
    features = rows.drop(columns="label").assign(member=rows["member"].astype(float))
    expected = metrics.accuracy_score(rows["label"], model.predict(features))
    (outcome,) = asked(store, place, Tests((MetricTest("accuracy", min="0.5"),)))
    assert outcome.observed is not None
    assert float(outcome.observed) == pytest.approx(expected, abs=1e-5)


def test_a_regressor(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "mean_area", steps("sklearn.linear_model.LinearRegression"))
    place = frozen(store, made, ROWS, "mean_area")
    rise = BehaviourTest("bigger", (Perturbation("mean_radius", "+1"),), "NotDecrease")
    fall = replace(rise, name="smaller", expect="NotIncrease")
    metric, bigger, smaller = asked(store, place, Tests((MetricTest("r2", min="0.9"),), behaviour=(rise, fall)))
    assert metric.passed
    # A linear model either rises or falls with a column, for every row.
    assert sorted([(bigger.passed, bigger.observed), (smaller.passed, smaller.observed)]) == [(False, "0"), (True, "1")]


def test_behaviour(store: StoreLocation, logistic: Path) -> None:
    def test(name: str, column: str, by: str, expect: str) -> BehaviourTest:
        return BehaviourTest(name, (Perturbation(column, by),), expect)

    found = asked(
        store,
        logistic,
        Tests(
            behaviour=(
                test("up", "mean_area", "+10%", "NotDecrease"),
                test("down", "mean_area", "+10%", "NotIncrease"),
                test("same", "mean_area", "+0", "Unchanged"),
                test("much", "mean_area", "+100000", "Unchanged"),
                test("absent", "nowhere", "+1", "Unchanged"),
            )
        ),
    )
    up, down, same, much, absent = found
    assert {up.passed, down.passed} == {True, False}
    assert (same.passed, same.observed) == (True, "1")
    assert not much.passed
    assert "rows" in (much.message or "")
    assert (absent.passed, absent.observed, absent.message) == (
        False,
        None,
        "column nowhere is no feature of the model",
    )


@pytest.mark.parametrize(
    ("by", "expected"), [("+10%", [1.1, -2.2]), ("-50%", [0.5, -1]), ("+0.5", [1.5, -1.5]), ("-2", [-1, -4])]
)
def test_how_values_are_changed(by: str, expected: list[float]) -> None:
    assert model_tests.changed(np.array([1.0, -2.0]), by) == pytest.approx(expected)


def baseline(regression: str) -> Tests:
    return Tests(baseline=BaselineTest("triage", "roc_auc", regression))


def test_what_is_worse_than_what_serves_is_not_passed(store: StoreLocation, logistic: Path, poor: Path) -> None:
    (worse,) = asked(store, poor_with_all_columns(store), baseline("0.01"), logistic)
    assert not worse.passed
    assert worse.threshold == ">= -0.01"
    assert worse.observed is not None
    assert float(worse.observed) < -0.01
    (better,) = asked(store, logistic, baseline("0.01"), poor)
    assert better.passed


def poor_with_all_columns(store: StoreLocation) -> Path:
    """A poor model whose frozen rows have what the good one takes."""
    made = trained(store, BREAST_CANCER, "benign", steps(("sklearn.tree.DecisionTreeClassifier", {"max_depth": 1})))
    return frozen(store, made, ROWS, "benign")


def test_what_serves_is_asked_only_what_it_takes(store: StoreLocation, logistic: Path, poor: Path) -> None:
    (outcome,) = asked(store, poor, baseline("0.01"), logistic)
    assert not outcome.passed
    assert "which the frozen rows do not have" in (outcome.message or "")


def test_nothing_to_compare_with_is_passed(store: StoreLocation, logistic: Path) -> None:
    (nothing,) = asked(store, logistic, baseline("0.01"))
    assert (nothing.passed, nothing.message) == (True, "ModelDeployment triage serves nothing yet")
    (itself,) = asked(store, logistic, baseline("0.01"), logistic)
    assert itself.passed
    assert "this very artifact" in (itself.message or "")


def predicted(scores: Any, truth: Any) -> Predicted:
    both = np.stack([1 - scores, scores], axis=1)
    return Predicted(truth, (scores > 0.5).astype(int), both, both, np.array([0, 1]))


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equally good models: a one-sided 95 % bound is above the truth, 0, in about 5 % of trials."""
    monkeypatch.setattr(model_tests, "_RESAMPLES", 100)
    random, above, trials = np.random.default_rng(1), 0, 60
    for trial in range(trials):
        truth = random.integers(0, 2, 150)
        pair = [predicted(np.clip(truth * 0.4 + random.normal(0.3, 0.3, 150), 0, 1), truth) for _ in range(2)]
        above += model_tests.compared(*pair, "accuracy", trial)[1] > 0
    assert above <= 8  # more has a probability of 0.2 % at 5 %
    equal = model_tests.compared(pair[0], pair[0], "roc_auc", 1)
    assert equal == (0, 0)


def test_the_operator_knows_what_can_be_measured() -> None:
    truth = np.array([0, 1] * 50)
    scores = 0.2 + 0.6 * truth
    classes = predicted(scores, truth)
    assert known_metrics(classes) == evaluation.CLASSIFIER_METRICS
    assert known_metrics(Predicted(truth, truth, None, None, None)) == evaluation.REGRESSOR_METRICS


def test_less_of_a_loss_is_more() -> None:
    truth = np.array([0, 1] * 50)
    good, bad = predicted(0.2 + 0.6 * truth, truth), predicted(0.4 + 0.2 * truth, truth)
    difference, worst = model_tests.compared(good, bad, "log_loss", 1)
    assert difference > 0
    assert worst > 0


def test_latency(store: StoreLocation, logistic: Path) -> None:
    (slow,) = asked(store, logistic, Tests(latency=LatencyTest("0.99", 60_000)))
    assert slow.passed
    assert (slow.threshold, (slow.observed or "")[-2:]) == ("<= 60000ms", "ms")
    (never,) = asked(store, logistic, Tests(latency=LatencyTest("0.5", 0)))
    assert not never.passed


def test_what_a_use_case_requires_comes_after_the_rest_and_is_named_by_its_quantile(
    store: StoreLocation, logistic: Path
) -> None:
    required = (LatencyTest("0.5", 60_000, "usecase/triage"), LatencyTest("0.99", 0, "usecase/triage"))
    accuracy = MetricTest("accuracy", min="0.5", source="usecase/triage")
    tests = Tests((accuracy,), latency=LatencyTest("0.9", 60_000), required_latencies=required)
    found = asked(store, logistic, tests)
    assert [(one.name, one.passed) for one in found] == [
        ("accuracy", True),
        ("latency", True),
        ("latency 0.5", True),
        ("latency 0.99", False),
    ]
    assert [test.title for test in tests.in_order] == [one.name for one in found]
    assert [test.threshold for test in tests.in_order] == [one.threshold for one in found]


EVERYTHING = Tests(
    (MetricTest("accuracy", min="0.1"),),
    BaselineTest("triage", "accuracy", "0.1"),
    (BehaviourTest("same", (Perturbation("mean_area", "+0"),), "Unchanged"),),
    LatencyTest("0.9", 1000),
)


def test_without_frozen_rows_nothing_is_passed(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    others = tuple(file for file in made.manifest.files if file.name != evaluation.ROWS)
    packed = replace(made.manifest, files=others, evaluation=None)
    (made.folder / artifact.MANIFEST).write_bytes(artifact.encode(packed))
    folder.publish(Store(store), made.folder, packed)
    expected = digest.of_file(made.folder / artifact.MANIFEST)
    found = outcomes(run(ModelTestTask(store, "triage", EVERYTHING, Served(expected, "http://127.0.0.1:1"))))
    assert [outcome.name for outcome in found] == ["accuracy", "baseline accuracy", "same", "latency"]
    assert not any(outcome.passed for outcome in found)
    assert all("no frozen rows" in (outcome.message or "") for outcome in found)


def test_a_packed_model_with_rows_of_its_own_passes_the_same_tests(store: StoreLocation, tmp_path: Path) -> None:
    features = ROWS.drop(columns="benign")
    seen = pd.read_csv(BREAST_CANCER).drop(index=range(0, 569, 4))
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(seen.drop(columns="benign"), seen["benign"])
    skops.io.dump(fitted, tmp_path / "model.skops")
    seen.to_csv(tmp_path / "rows.csv", index=False)
    ROWS.assign(size=SIZE).to_csv(tmp_path / "kept.csv", index=False)
    place = tmp_path / "packed"
    files = ["--rows", tmp_path / "rows.csv", "--evaluation", tmp_path / "kept.csv", "--out", place]
    words = ["pack", tmp_path / "model.skops", *files, "--target", "benign", "--slice", "size"]
    assert main(list(map(str, words))) == 0
    folder.publish(Store(store), place, artifact.decode((place / artifact.MANIFEST).read_bytes()))
    sliced = MetricTest("accuracy", min="0.9", every_slice="size")
    found = asked(store, place, replace(EVERYTHING, metrics=(*EVERYTHING.metrics, sliced)))
    assert [(outcome.name, outcome.passed) for outcome in found] == [
        (name, True) for name in ("accuracy", "accuracy of every size", "baseline accuracy", "same", "latency")
    ]
    expected = metrics.accuracy_score(ROWS["benign"], fitted.predict(features))
    assert float(found[0].observed or 0) == pytest.approx(expected, abs=1e-5)


def test_a_server_that_does_not_come_is_tried_again(
    store: StoreLocation, logistic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.ServedModel.wait, "__defaults__", (0.2, lambda _: None))
    expected = digest.of_file(logistic / artifact.MANIFEST)
    said = run(ModelTestTask(store, "triage", EVERYTHING, Served(expected, "http://127.0.0.1:1")))
    assert (said.ok, said.reason, said.retryable) == (False, "ServerNotReady", True)


def test_rows_that_the_server_refuses_are_an_answer(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    place = frozen(store, made, ROWS.assign(mean_area=np.nan), "benign")  # this model takes no missing values
    (outcome,) = asked(store, place, EVERYTHING)
    assert (outcome.name, outcome.passed) == ("serving", False)
    assert "refuses the rows with 400" in (outcome.message or "")


def test_rows_that_are_too_wide_for_one_request_are_asked_in_parts(store: StoreLocation, tmp_path: Path) -> None:
    columns = [f"x{number}" for number in range(600)]
    random = np.random.default_rng(7)
    rows = pd.DataFrame(random.normal(size=(500, 600)), columns=columns).assign(y=[0, 1] * 250)
    source = tmp_path / "wide.csv"
    rows.head(100).to_csv(source, index=False)
    place = frozen(store, trained(store, source, "y", steps(LOGISTIC)), rows, "y")  # 1.2 MB as one batch
    (outcome,) = asked(store, place, Tests((MetricTest("accuracy", min="0"),)))
    assert outcome.passed, outcome


def test_the_most_tests_fit_a_report() -> None:
    texts = {"slice": "x" * 128, "message": "y" * 512}
    many = tuple(
        Outcome(f"balanced_accuracy of every {n:037}", False, f">= {'9' * 31}", "0.123456", **texts) for n in range(12)
    )
    more = tuple(Outcome("n" * 32, False, "NotDecrease", "0.5", **texts) for _ in range(10))
    said = model_tests._said((*many, *more))  # noqa: SLF001 - what a run of all of them would say
    assert len(report.encode(said)) <= report.LIMIT
    assert [outcome.observed for outcome in outcomes(said)] == ["0.123456"] * 12 + ["0.5"] * 10


def test_of_more_tests_than_that_only_the_numbers_are_told() -> None:
    many = tuple(
        Outcome(f"balanced_accuracy of every {n:037}", n % 2 == 0, f">= {'9' * 31} and <= {'9' * 31}", "0.123456")
        for n in range(32)
    )
    said = model_tests._said(many)  # noqa: SLF001 - what a run of all of them would say
    assert len(report.encode(said)) <= report.LIMIT
    assert [(one.name, one.passed, one.observed) for one in outcomes(said)] == [
        ("", number % 2 == 0, "0.123456") for number in range(32)
    ]
