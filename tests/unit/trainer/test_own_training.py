"""A container of the user's that trains: what it is given, what is made of what it writes, and what is refused."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet
import pytest
import skops.io
import yaml
from msgspec.structs import replace
from own_containers import NUMBERS, Place
from served_models import asked
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from trainer_tasks import run

from modelmill_contracts import artifact, digest, environment, evaluation, folder, task
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.progress import Progress
from modelmill_contracts.report import TrainingResult
from modelmill_contracts.store import Store
from modelmill_contracts.task import MetricTest, Split, StoreLocation, Tests
from modelmill_trainer import own_training
from modelmill_trainer.__main__ import carry_out
from modelmill_trainer.progress import METER

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(store: StoreLocation, tmp_path: Path) -> Place:
    return Place(store, tmp_path, features=NUMBERS)


def test_it_is_given_training_and_test_rows_and_what_they_are_for(place: Place) -> None:
    assert (place.brought.ok, place.brought.reason) == (True, "PartsWritten"), place.brought
    train, test = place.rows("train.parquet"), place.rows("test.parquet")
    assert (len(train), len(test)) == (240, 60)
    assert list(train.columns) == list(test.columns) == ["age", "size", "label"]
    declared = json.loads((place.data / "task.json").read_text())
    assert declared == {"target": "label", "features": ["age", "size"], "seed": 0, "metrics": []}


def test_the_split_is_as_for_any_other_training(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, split=Split(group="patient"), seed=3)
    train, test = place.rows("train.parquet"), place.rows("test.parquet")
    assert not set(train["patient"]) & set(test["patient"])
    assert json.loads((place.data / "task.json").read_text())["features"] == ["age", "size"]


def test_the_newest_test_rows_come_first(store: StoreLocation, tmp_path: Path) -> None:
    days = Place(store, tmp_path, split=Split(time="day")).rows("test.parquet")["day"]
    assert days.is_monotonic_decreasing


def test_what_it_wrote_is_an_artifact_like_any_other(store: StoreLocation, tmp_path: Path, place: Place) -> None:
    place.train(accuracy=0.93, roc_auc=0.99)
    answer = place.take()
    assert answer.ok, answer
    result = answer.result
    assert isinstance(result, TrainingResult)
    assert [(metric.name, metric.value) for metric in result.metrics] == [("accuracy", "0.93"), ("roc_auc", "0.99")]
    assert (result.runtime, result.train_rows, result.test_rows) == ("onnx", 240, 60)
    manifest = folder.fetch(Store(store), result.artifact, tmp_path / "got")
    names = {file.name for file in manifest.files}
    assert names == {artifact.ONNX, artifact.PROFILE, artifact.CARD, artifact.PAGE, *evaluation.FILES}
    assert [(f.name, f.type) for f in manifest.features] == [("age", "Integer"), ("size", "Float")]
    assert manifest.recipe["container"]["image"] == "registry.example.org/ml/train:1"
    assert result.recipe == digest.of_json(manifest.recipe)
    frozen = pyarrow.parquet.read_table(tmp_path / "got" / evaluation.ROWS)
    assert frozen.num_rows == 60
    session = onnxruntime.InferenceSession(tmp_path / "got" / artifact.ONNX)
    matrix = np.stack([frozen.column(f"feature.{name}").to_numpy() for name in NUMBERS], axis=1)
    labels = session.run(None, {session.get_inputs()[0].name: matrix})[0]
    assert (labels == frozen.column("target").to_numpy()).mean() > 0.8
    for name in (artifact.CARD, artifact.PAGE):
        assert "As the container measured it" in (tmp_path / "got" / name).read_text()


def test_what_its_model_confuses_and_uses_is_found_out_here(tmp_path: Path, place: Place) -> None:
    place.train()
    found = _evaluation(place, tmp_path)
    assert found.confusion is not None
    assert sum(map(sum, found.confusion.counts)) == found.rows == 60
    assert found.calibration is not None  # the operator that decides names the classes, and its answers agree
    assert found.calibration.of == "Positive"
    assert found.importance is not None
    assert found.importance.features[0].feature == "age"


def test_a_model_whose_answers_are_no_classes_of_the_target_is_published_without_that(
    tmp_path: Path, place: Place
) -> None:
    place.train()
    rows = place.rows("train.parquet")
    fitted = LogisticRegression().fit(rows[list(NUMBERS)].to_numpy(np.float32), rows["label"] + 10)
    model = to_onnx(fitted, np.zeros((1, 2), np.float32), options={"zipmap": False})
    (place.output / "model.onnx").write_bytes(model.SerializeToString())
    found = _evaluation(place, tmp_path)
    assert (found.confusion, found.calibration, found.importance) == (None, None, None)


def _evaluation(place: Place, tmp_path: Path) -> Evaluation:
    """Take what the container wrote, and open the artifact's evaluation."""
    answer = place.take()
    assert answer.ok, answer
    folder.fetch(Store(place.asked.store), answer.result.artifact, tmp_path / "found")
    return evaluation.decode((tmp_path / "found" / evaluation.RESULTS).read_bytes())


def test_who_asks_our_containers_is_told_that_they_bring_the_rows_and_take_the_model(place: Place) -> None:
    assert METER.now == Progress(0, "fetch")
    place.train()
    assert place.take().ok
    assert METER.now == Progress(99, "publish")


def test_a_skops_file_is_checked_and_converted(place: Place) -> None:
    place.train()
    (place.output / "model.onnx").unlink()
    rows = place.rows("train.parquet")
    skops.io.dump(LogisticRegression().fit(rows[list(NUMBERS)], rows["label"]), place.output / "model.skops")
    answer = place.take()
    assert answer.ok, answer
    assert answer.result.runtime == "onnx"


def test_a_model_of_numbers(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, features=NUMBERS, metrics=("rmse",))
    place.train(LinearRegression(), rmse=1e-12, mae=2)
    answer = place.take()
    assert answer.ok, answer
    assert [(m.name, m.value) for m in answer.result.metrics] == [("rmse", "0.000000000001"), ("mae", "2")]


def test_the_same_output_is_the_same_artifact_and_may_be_compared_without_publishing(place: Place) -> None:
    place.train()
    only_said = run(replace(place.asked, publish=False)).result
    elsewhere = Path(place.asked.store.uri.removeprefix("file://")) / "artifacts"
    assert not elsewhere.exists()
    published = place.take().result
    assert (only_said.artifact, only_said.files) == (published.artifact, published.files)
    assert [path.name for path in elsewhere.iterdir()] == [f"sha256-{published.artifact.removeprefix('sha256:')}"]


def _wrote(**files: Any) -> Callable[[Place], None]:
    """A container that wrote these over what a good one writes; None: not that file."""

    def write(place: Place) -> None:
        place.train()
        for key, content in files.items():
            path = place.output / key.replace("_", ".", 1)
            path.unlink(missing_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, str):
                path.write_text(content)

    return write


def _nothing(place: Place) -> None:
    del place


def _link(place: Place) -> None:
    place.train()
    (place.output / "model.onnx").rename(place.output / "elsewhere")
    (place.output / "model.onnx").symlink_to("/proc/self/environ")


def _folder(place: Place) -> None:
    place.train()
    (place.output / "metrics.json").unlink()
    (place.output / "metrics.json").mkdir()


BAD = [
    (_nothing, "OutputEmpty", "wrote nothing into $MILL_OUTPUT"),
    (_wrote(model_onnx=None), "OutputModelMissing", "wrote no model"),
    (_wrote(model_skops=b"x"), "OutputModelAmbiguous", "wrote two models"),
    (_wrote(model_pkl=pickle.dumps([1])), "OutputIsPickle", "a pickle (.pkl)"),
    (_wrote(model_onnx=None, model_joblib=b"x"), "OutputIsPickle", "write model.onnx or model.skops"),
    (_link, "OutputNotAFile", "model.onnx in $MILL_OUTPUT is a link"),
    (_folder, "OutputNotAFile", "metrics.json in $MILL_OUTPUT is a link or a folder"),
    (_wrote(metrics_json=None), "MetricsMissing", "wrote no metrics.json"),
    (_wrote(metrics_json='{"accuracy": NaN}'), "MetricUndefined", "accuracy is not finite"),
    (_wrote(metrics_json='{"accuracy": -Infinity}'), "MetricUndefined", "accuracy is not finite"),
    (_wrote(metrics_json=f'{{"accuracy": 1{"0" * 400}}}'), "MetricUndefined", "accuracy is not finite"),
    (_wrote(metrics_json='{"accuracy": "good"}'), "MetricsInvalid", "accuracy is no number"),
    (_wrote(metrics_json='{"accuracy": true}'), "MetricsInvalid", "accuracy is no number"),
    (_wrote(metrics_json='{"Accuracy": 1}'), "MetricsInvalid", "small letters"),
    (_wrote(metrics_json="{}"), "MetricsInvalid", "1 to 32 numbers"),
    (_wrote(metrics_json="[0.9]"), "MetricsInvalid", "1 to 32 numbers"),
    (_wrote(metrics_json="accuracy: 0.9"), "MetricsInvalid", "is not JSON"),
    (_wrote(metrics_json="[" * 60_000), "MetricsInvalid", "is not JSON"),
    (_wrote(metrics_json=" " * 70_000), "MetricsInvalid", "65536 are allowed"),
    (_wrote(model_onnx=b"not a model"), "ModelUnreadable", "is no ONNX file"),
    (_wrote(model_onnx=None, model_skops=b"not a model"), "ModelUnreadable", "cannot be opened"),
]


@pytest.mark.parametrize(("container", "reason", "text"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_refused_of_what_it_wrote(
    place: Place, container: Callable[[Place], None], reason: str, text: str
) -> None:
    container(place)
    answer = place.take()
    assert (answer.ok, answer.reason, answer.retryable) == (False, reason, False), answer
    assert text in answer.message
    assert not (Path(place.asked.store.uri.removeprefix("file://")) / "artifacts").exists()


def test_how_many_workers_there_were_is_part_of_its_recipe_and_one_is_not(place: Place, tmp_path: Path) -> None:
    place.train()
    recipes = []
    for workers in ({}, {environment.WORKERS: "1"}, {environment.WORKERS: "3", environment.INDEX: "0"}):
        said = carry_out({task.ENVIRONMENT: task.encode(place.asked), **workers})
        assert isinstance(said.result, TrainingResult)
        manifest = folder.fetch(Store(place.asked.store), said.result.artifact, tmp_path / f"got-{len(recipes)}")
        recipes.append(manifest.recipe)
    assert recipes[0] == recipes[1]
    assert "workers" not in recipes[0]
    assert recipes[2] == {**recipes[0], "workers": 3}


def test_a_model_that_is_too_large_is_not_opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_training, "_MODEL_BYTES", 100)
    place.train()
    answer = place.take()
    assert answer.reason == "OutputTooLarge"
    assert "100 are allowed" in answer.message


def test_a_model_of_other_columns_is_refused(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, features=("age",))
    rows = place.rows("train.parquet")
    fitted = LogisticRegression().fit(np.stack([rows["age"], rows["age"]], axis=1), rows["label"])
    model = to_onnx(fitted, np.zeros((1, 2), np.float32), options={"zipmap": False})
    (place.output / "model.onnx").write_bytes(model.SerializeToString())
    (place.output / "metrics.json").write_text('{"accuracy": 1}')
    answer = place.take()
    assert answer.reason == "RowsRefused"
    assert "takes 2 numbers, but the rows have 1 columns" in answer.message


def test_metrics_that_were_asked_for_have_to_be_written(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, features=NUMBERS, metrics=("recall",))
    place.train()
    answer = place.take()
    assert (answer.reason, "evaluation.metrics has recall" in answer.message) == ("MetricMissing", True)


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        ({"features": ("aga",)}, "FeatureMissing", "the nearest are age"),
        ({"features": ("label",)}, "FeatureInvalid", "is the target"),
        ({"features": ("day",)}, "FeatureNotNumeric", "is a Timestamp"),
        ({"split": Split(group="patiend")}, "SplitColumnMissing", "the nearest are patient"),
        ({"split": Split("0.999")}, "TooFewRows", "300 rows cannot be split"),
    ],
)
def test_a_wrong_declaration_is_found_before_the_container_starts(
    store: StoreLocation, tmp_path: Path, fields: dict[str, Any], reason: str, text: str
) -> None:
    answer = Place(store, tmp_path, **fields).brought
    assert (answer.ok, answer.reason) == (False, reason), answer
    assert text in answer.message


def test_the_example_trains(store: StoreLocation, tmp_path: Path) -> None:
    example = yaml.safe_load((ROOT / "examples" / "own-training" / "training.yaml").read_text())
    spec, container = example["spec"], example["spec"]["container"]
    place = Place(store, tmp_path, seed=spec["seed"], metrics=tuple(spec["evaluation"]["metrics"]), features=NUMBERS)
    folders = {"MILL_DATA": str(place.data), "MILL_OUTPUT": str(place.output)}
    variables = {**os.environ, **folders, **{entry["name"]: entry["value"] for entry in container["env"]}}
    subprocess.run([sys.executable, "-c", *container["args"]], env=variables, check=True)
    answer = place.take()
    assert answer.ok, answer
    assert float(answer.result.metrics[0].value) > 0.9
    folder.fetch(Store(store), answer.result.artifact, tmp_path / "got")
    declared = yaml.safe_load((ROOT / "examples" / "own-training" / "model.yaml").read_text())["spec"]["tests"]
    metrics = tuple(MetricTest(entry["name"], min=entry["min"]) for entry in declared["metrics"])
    assert all(outcome.passed for outcome in asked(store, tmp_path / "got", Tests(metrics)))
