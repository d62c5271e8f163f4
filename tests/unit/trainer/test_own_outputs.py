"""A Model's tests, asked of ONNX models that a container made: outputs of any name, classes as far as known."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper
from own_containers import NUMBERS, Place
from served_models import asked
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from modelmill_contracts import artifact, evaluation, folder
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.store import Store
from modelmill_contracts.task import (
    BaselineTest,
    BehaviourTest,
    LatencyTest,
    MetricTest,
    Perturbation,
    StoreLocation,
    Tests,
)
from modelmill_trainer.outputs import UnclearError, answered, are_of

AGE_RISES = BehaviourTest("older", (Perturbation("age", "+5"),), "NotDecrease")


def published(place: Place, root: Path) -> tuple[Path, Manifest]:
    """What came of what the container wrote."""
    answer = place.take()
    assert answer.ok, answer
    return root / "got", folder.fetch(Store(place.asked.store), answer.result.artifact, root / "got")


def labelled(place: Place) -> tuple[Any, Any]:
    rows = place.rows("train.parquet")
    return rows[list(NUMBERS)].to_numpy(np.float32), rows["label"]


def wrote(place: Place, model: Any) -> None:
    (place.output / "model.onnx").write_bytes(model.SerializeToString())
    (place.output / "metrics.json").write_text('{"accuracy": 0.9, "loss": 0.3}')


def network(place: Place, last: str, columns: int, classes: str | None = None) -> Any:
    """What a framework of networks exports: a matrix of any size in, one output of fractions, no labels, no classes."""
    matrix, labels = labelled(place)
    fitted = LogisticRegression().fit(matrix, labels)
    weights = np.stack([-fitted.coef_[0], fitted.coef_[0]], axis=1) / 2 if columns == 2 else fitted.coef_.T
    bias = np.array([-fitted.intercept_[0], fitted.intercept_[0]]) / 2 if columns == 2 else fitted.intercept_
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "weights", "bias"], ["logits"]),
            helper.make_node(last, ["logits"], ["said"], **({"axis": 1} if last == "Softmax" else {})),
        ],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "columns"])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["rows", columns])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if classes is not None:
        helper.set_model_props(model, {"classes": classes})
    return model


@pytest.fixture
def place(store: StoreLocation, tmp_path: Path) -> Place:
    return Place(store, tmp_path, features=NUMBERS)


def test_a_classifier_passes_every_kind_of_test(store: StoreLocation, tmp_path: Path, place: Place) -> None:
    matrix, labels = labelled(place)
    fitted = RandomForestClassifier(10, random_state=0).fit(matrix, labels)
    wrote(place, to_onnx(fitted, matrix[:1], options={"zipmap": False}))
    made, manifest = published(place, tmp_path)
    assert "predict" not in [output.name for output in manifest.outputs]
    assert manifest.classes == ("0", "1")
    metrics = (MetricTest("accuracy", min="0.5"), MetricTest("roc_auc", min="0.5"), MetricTest("log_loss", max="9"))
    baseline = BaselineTest("triage", "roc_auc", "0.02")
    accuracy, roc_auc, *others = asked(
        store, made, Tests(metrics, baseline, (AGE_RISES,), LatencyTest("0.5", 60_000)), made
    )
    test = place.rows("test.parquet")
    rows = test[list(NUMBERS)].to_numpy(np.float32)
    expected = (
        accuracy_score(test["label"], fitted.predict(rows)),
        roc_auc_score(test["label"], fitted.predict_proba(rows)[:, 1]),
    )
    assert (float(accuracy.observed or "nan"), float(roc_auc.observed or "nan")) == pytest.approx(expected, abs=1e-5)
    assert all(one.passed for one in (accuracy, roc_auc, *others)), others


def test_what_a_container_made_is_compared_with_what_another_did(
    store: StoreLocation, tmp_path: Path, place: Place
) -> None:
    place.train()
    good, _ = published(place, tmp_path / "good")
    wrote(place, network(place, "Softmax", 2))
    other, _ = published(place, tmp_path / "other")
    (compared,) = asked(store, other, Tests(baseline=BaselineTest("triage", "roc_auc", "0.05")), good)
    assert compared.passed, compared
    assert compared.observed is not None


@pytest.mark.parametrize(
    ("last", "columns", "named", "classes"),
    [
        ("Softmax", 2, None, ("0", "1")),  # a column for each value of the target, sorted
        ("Identity", 2, None, ("0", "1")),  # logits
        ("Softmax", 2, "[0, 1]", ("0", "1")),
        ("Sigmoid", 1, "[0, 1]", ("0", "1")),
        ("Sigmoid", 1, None, ("0", "1")),  # of 0 and 1 it is the probability of 1
    ],
)
def test_a_network_has_labels_where_its_classes_are_known(
    store: StoreLocation,
    tmp_path: Path,
    place: Place,
    last: str,
    columns: int,
    named: str | None,
    classes: Sequence[str],
) -> None:
    wrote(place, network(place, last, columns, named))
    made, manifest = published(place, tmp_path)
    assert manifest.classes == classes
    tests = Tests((MetricTest("accuracy", min="0.9"), MetricTest("roc_auc", min="0.95")), behaviour=(AGE_RISES,))
    found = asked(store, made, tests)
    assert [outcome.passed for outcome in found] == [True, True, True], found


def test_one_number_that_is_no_probability_is_a_number(store: StoreLocation, tmp_path: Path, place: Place) -> None:
    wrote(place, network(place, "Identity", 1))
    made, manifest = published(place, tmp_path)
    assert manifest.classes == ()
    number, label = asked(store, made, Tests((MetricTest("mae", max="1000"), MetricTest("accuracy", min="0"))))
    assert (number.passed, label.passed) == (True, False)
    assert "it is no metric of this model; use r2" in (label.message or "")


def test_a_model_that_serves_since_before_classes_were_known_is_compared(
    store: StoreLocation, tmp_path: Path, place: Place
) -> None:
    wrote(place, network(place, "Softmax", 2, "[0, 1]"))
    answer = place.take()
    assert answer.ok
    made, _ = published(place, tmp_path / "new")
    nameless = _nameless(place, made, tmp_path / "old")
    tests = Tests((MetricTest("roc_auc", min="0.9"),), BaselineTest("triage", "roc_auc", "0.02"))
    assert [outcome.passed for outcome in asked(store, nameless, tests, made)] == [True, True]


def _nameless(place: Place, made: Path, to: Path) -> Path:
    """The same artifact with a manifest without classes, as there were once."""
    shutil.copytree(made, to)
    manifest = replace(artifact.decode((made / artifact.MANIFEST).read_bytes()), classes=())
    (to / artifact.MANIFEST).write_bytes(artifact.encode(manifest))
    folder.publish(Store(place.asked.store), to, manifest)
    return to


def test_a_regressor(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, target="size", features=("age",))
    rows = place.rows("train.parquet")
    fitted = LinearRegression().fit(rows[["age"]].to_numpy(np.float32), rows["size"])
    wrote(place, to_onnx(fitted, np.zeros((1, 1), np.float32)))
    made, _ = published(place, tmp_path)
    tests = Tests((MetricTest("mae", max="100"), MetricTest("accuracy", min="0")))
    number, label = asked(store, made, tests)
    assert (number.passed, label.passed) == (True, False)


def test_slices_are_frozen_with_the_rows_and_measured_here(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, features=NUMBERS, slices=("label",))
    place.train(accuracy=0.9, loss=0.3)
    made, manifest = published(place, tmp_path)
    found = evaluation.decode((made / evaluation.RESULTS).read_bytes())
    assert [(one.column, one.value, list(one.metrics)) for one in found.slices] == [
        ("label", "0", ["accuracy"]),
        ("label", "1", ["accuracy"]),
    ]
    assert manifest.evaluation is not None
    assert (manifest.evaluation.slices, manifest.recipe["evaluation"]) == (("label",), {"slices": ["label"]})
    (outcome,) = asked(store, made, Tests((MetricTest("accuracy", min="0.5", every_slice="label"),)))
    assert outcome.passed, outcome
    assert outcome.slice in ("label=0", "label=1")


def test_a_slice_that_the_data_lacks_is_found_before_the_container_starts(store: StoreLocation, tmp_path: Path) -> None:
    brought = Place(store, tmp_path, features=NUMBERS, slices=("patiend",)).brought
    assert brought.reason == "SliceColumnMissing"
    assert "the nearest are patient" in brought.message


def test_columns_of_slices_are_with_the_rows_and_no_features(store: StoreLocation, tmp_path: Path) -> None:
    place = Place(store, tmp_path, features=NUMBERS, slices=("patient",))
    assert list(place.rows("test.parquet").columns) == ["age", "size", "patient", "label"]


def test_a_model_whose_labels_are_of_another_kind_says_so(place: Place, store: StoreLocation, tmp_path: Path) -> None:
    matrix, labels = labelled(place)
    fitted = LogisticRegression().fit(matrix, labels.map({0: "healthy", 1: "ill"}))
    wrote(place, to_onnx(fitted, matrix[:1], options={"zipmap": False}))
    answer = place.take()
    assert answer.ok
    assert "a Model's tests cannot be asked of it: its labels are text" in answer.message
    made = tmp_path / "got"
    folder.fetch(Store(store), answer.result.artifact, made)
    (outcome,) = asked(store, made, Tests((MetricTest("accuracy", min="0"),)))
    assert (outcome.name, outcome.passed) == ("serving", False)
    assert "its labels are text, and the target's are whole numbers" in (outcome.message or "")


def test_metadata_that_names_no_classes_is_refused(place: Place) -> None:
    wrote(place, network(place, "Softmax", 2, "benign, malignant"))
    answer = place.take()
    assert (answer.ok, answer.reason) == (False, "ModelUnreadable")
    assert "its metadata 'classes' is no JSON list" in answer.message


WORDS = np.array(["ill", "healthy", "ill"])
SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])  # of ill, then of healthy


def test_scores_are_those_of_the_classes_in_sorted_order() -> None:
    said = answered({"label": WORDS, "scores": SURE}, ("ill", "healthy"), WORDS)
    assert said.classes.tolist() == ["healthy", "ill"]
    assert said.probabilities[:, 1].tolist() == [0.9, 0.2, 0.6]


def test_places_of_named_classes_are_labels() -> None:
    said = answered({"place": np.array([0, 1, 0]), "scores": SURE}, ("ill", "healthy"), WORDS)
    assert said.labels.tolist() == WORDS.tolist()


def test_scores_of_unnamed_classes_count_only_where_labels_agree() -> None:
    agreeing = answered({"label": WORDS, "scores": SURE[:, ::-1]}, (), WORDS)
    assert agreeing.probabilities is not None
    assert answered({"label": WORDS, "scores": SURE}, (), WORDS).scores is None


def test_labels_behind_other_outputs_are_found() -> None:
    more = {"embedding": np.zeros((3, 8)), "scores": SURE[:, ::-1], "label": WORDS.reshape(-1, 1)}
    said = answered(more, (), WORDS)
    assert said.labels.tolist() == WORDS.tolist()
    assert said.probabilities[:, 1].tolist() == [0.9, 0.2, 0.6]


def test_one_number_tells_which_of_two_classes_only_if_they_are_0_and_1_or_named() -> None:
    sure = {"p": np.array([0.9, 0.2, 0.6])}
    assert are_of(("0", "1"), sure, np.array([1, 0, 1]))
    assert not are_of(("1", "2"), sure, np.array([2, 1, 2]))
    assert not are_of(("healthy", "ill"), sure, WORDS)
    assert answered(sure, ("healthy", "ill"), WORDS).labels.tolist() == WORDS.tolist()


def test_labels_of_a_target_with_fractions_are_whole_where_the_model_has_classes() -> None:
    said = answered({"label": np.array([0, 1, 1])}, ("0", "1"), np.array([0.0, 1.0, 0.0]))
    assert (said.truth.dtype.kind, said.labels.tolist()) == ("i", [0, 1, 1])


@pytest.mark.parametrize(
    ("found", "classes", "truth", "says"),
    [
        ({"a": SURE}, ("x", "y", "z"), WORDS, "one column for each of 3 classes"),
        ({"a": np.array([0.1, 7, 3])}, ("ill", "healthy"), WORDS, "no probability of the second class"),
        ({"a": np.array([0.1, np.nan, 3])}, (), np.array([1.5, 2, 3]), "output 'a' is not finite"),
        ({"a": np.array([[0.1, np.nan]] * 3)}, ("ill", "healthy"), WORDS, "output 'a' is not finite"),
        ({"a": SURE}, (), np.array([1.5, 2, 3]), "no output has one number for each row"),
        ({"a": np.array([0, 1, 2])}, ("ill", "healthy"), WORDS, "some are none of 0 to 1"),
        ({"a": WORDS}, ("ill", "healthy"), np.array([0, 1, 0]), "the classes that it names are text"),
        ({"a": WORDS}, ("ill", "ill"), WORDS, "two of the classes that it names are the same"),
    ],
)
def test_what_cannot_be_compared_says_why(found: Any, classes: Any, truth: Any, says: str) -> None:
    with pytest.raises(UnclearError, match=says):
        answered(found, classes, truth)
