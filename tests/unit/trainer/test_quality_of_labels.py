"""Metrics of labels, and their variances, against scikit-learn and against what they are by definition."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from modelmill_contracts.captured import Scalar
from modelmill_trainer.quality import METRICS, OTHER, Answer, Classes, Estimate

CLASSES = (0, 1)


def estimate(metric: str, rows: Sequence[tuple[Answer, Scalar]]) -> Estimate:
    """What the metric makes of rows of which each counts."""
    found = [METRICS[metric].of_row(answer, label) for answer, label in rows]
    assert None not in found
    numbers, positive = zip(*(entry for entry in found if entry is not None), strict=True) if found else ((), ())
    return METRICS[metric].estimate(np.array(numbers), np.array(positive, bool))


def answers(seed: int, count: int = 400, classes: tuple[Scalar, ...] = CLASSES) -> list[tuple[Answer, Scalar]]:
    """Rows of a classifier that knows something; its scores have ties."""
    rng = random.Random(seed)
    rows: list[tuple[Answer, Scalar]] = []
    for _ in range(count):
        weights = [rng.randrange(1, 20) for _ in classes]
        scores = [weight / sum(weights) for weight in weights]
        (label,) = rng.choices(classes, scores)
        rows.append((Answer(classes[scores.index(max(scores))], scores, classes), label))
    return rows


def numbers(seed: int, count: int = 300) -> list[tuple[Answer, Scalar]]:
    rng = random.Random(seed)
    return [(Answer(true + rng.gauss(0, 2), (), ()), true) for true in (rng.uniform(-9, 9) for _ in range(count))]


def parts(rows: Sequence[tuple[Answer, Scalar]]) -> tuple[list[Any], list[Any], Any]:
    """Labels, predictions, scores."""
    labels, predictions = [label for _, label in rows], [answer.prediction for answer, _ in rows]
    return labels, predictions, np.array([answer.scores for answer, _ in rows])


@pytest.mark.parametrize("classes", [(0, 1), ("a", "b", "c"), (False, True), (3, 1, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_of_classes_it_is_what_scikit_learn_says(seed: int, classes: tuple[Scalar, ...]) -> None:
    rows = answers(seed, classes=classes)
    labels, predictions, scores = parts(rows)
    assert estimate("accuracy", rows).value == pytest.approx(metrics.accuracy_score(labels, predictions))
    ordered = sorted(range(len(classes)), key=lambda place: str(classes[place]))  # scikit-learn sorts them
    expected = metrics.log_loss(labels, scores[:, ordered], labels=sorted(classes, key=str))
    assert estimate("log_loss", rows).value == pytest.approx(expected)
    if len(classes) == 2:
        truth = [label == classes[1] for label in labels]
        assert estimate("roc_auc", rows).value == pytest.approx(metrics.roc_auc_score(truth, scores[:, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_of_numbers_it_is_what_scikit_learn_says(seed: int) -> None:
    rows = numbers(seed)
    labels, predictions, _ = parts(rows)
    assert estimate("mae", rows).value == pytest.approx(metrics.mean_absolute_error(labels, predictions))
    # The mean of the squares: its root is the metric.
    expected = metrics.mean_squared_error(labels, predictions)
    assert estimate("rmse", rows).value == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "mae", "rmse"])
def test_a_mean_varies_as_the_means_of_many_windows_do(metric: str) -> None:
    make = answers if metric in ("accuracy", "log_loss") else numbers
    found = [estimate(metric, make(seed, 200)) for seed in range(400)]
    spread = np.var([entry.value for entry in found], ddof=1)
    assert np.mean([entry.variance for entry in found]) == pytest.approx(spread, rel=0.2)


def delong(scores: Sequence[float], positive: Sequence[bool]) -> tuple[float, float]:
    """By definition: of each positive the share of negatives below it, half of a tie, and the other way round."""
    ours = [score for score, is_ours in zip(scores, positive, strict=True) if is_ours]
    theirs = [score for score, is_ours in zip(scores, positive, strict=True) if not is_ours]

    def above(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    of_ours = [sum(above(x, y) for y in theirs) / len(theirs) for x in ours]
    of_theirs = [sum(above(x, y) for x in ours) / len(ours) for y in theirs]
    area = sum(of_ours) / len(ours)
    variance = sum((v - area) ** 2 for v in of_ours) / (len(ours) - 1) / len(ours)
    return area, variance + sum((v - area) ** 2 for v in of_theirs) / (len(theirs) - 1) / len(theirs)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=60).filter(
        lambda rows: 2 <= sum(positive for _, positive in rows) <= len(rows) - 2
    )
)
def test_an_area_and_its_variance_are_delongs(rows: list[tuple[int, bool]]) -> None:
    scores, positive = [score / 7 for score, _ in rows], [is_ours for _, is_ours in rows]
    found = METRICS["roc_auc"].estimate(np.array(scores), np.array(positive))
    assert (found.value, found.variance) == pytest.approx(delong(scores, positive))


def test_an_area_varies_as_the_areas_of_many_windows_do() -> None:
    found = [estimate("roc_auc", answers(seed, 300)) for seed in range(300)]
    spread = np.var([entry.value for entry in found], ddof=1)
    assert np.mean([entry.variance for entry in found]) == pytest.approx(spread, rel=0.2)


def test_an_area_of_a_million_rows_takes_no_square_of_them() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(1_000_000) < 0.3
    scores = rng.normal(size=1_000_000) + positive
    found = METRICS["roc_auc"].estimate(scores, positive)
    assert found.value == pytest.approx(0.5 * math.erfc(-0.5), abs=0.002)  # of normal scores one apart
    assert found.variance == pytest.approx(0.24 / 1_000_000, rel=1)


@pytest.mark.parametrize(
    ("labels", "value"), [((1, 1, 1), None), ((0, 0), None), ((0, 1), 1.0), ((0, 1, 1), 1.0), ((), None)]
)
def test_an_area_needs_both_classes_and_its_variance_two_of_each(labels: tuple[int, ...], value: float | None) -> None:
    rows: list[tuple[Answer, Scalar]] = [
        (Answer(1, (0.5 - label / 4, 0.5 + label / 4), CLASSES), label) for label in labels
    ]
    assert estimate("roc_auc", rows) == (value, None)


def test_a_mean_needs_a_row_and_its_variance_two() -> None:
    right: list[tuple[Answer, Scalar]] = [(Answer(1, (), ()), 1)]
    assert estimate("accuracy", []) == (None, None)
    assert estimate("accuracy", right) == (1.0, None)
    assert estimate("accuracy", right * 2) == (1.0, 0.0)


def test_no_row_outweighs_all_others_in_a_log_loss() -> None:
    sure = Answer(1, (0.0, 1.0), CLASSES)
    assert estimate("log_loss", [(sure, 0)]).value == pytest.approx(-math.log(1e-6))
    assert estimate("log_loss", [(sure, 1)]).value == pytest.approx(-math.log(1 - 1e-6))
    assert estimate("log_loss", [(sure, 7)]).value == pytest.approx(-math.log(1e-6))  # a class it does not know


# Labels, however they are written.

SAME: list[tuple[tuple[Scalar, ...], list[Scalar]]] = [  # classes, and what the second may be written as
    ((0, 1), [1, 1.0, True, "1", "1.0", "1e0"]),
    ((0.0, 1.0), [1, 1.0, True, "1"]),
    ((False, True), [1, 1.0, True, "1", "true", "True", "TRUE"]),
    (("0", "1"), ["1", 1, 1.0, True, "1.0"]),
    (("a", "b"), ["b"]),
    (("false", "true"), ["true"]),
    (("1", "1.0"), ["1.0"]),
]
NONE_OF_THEM = [  # a class that the model does not know
    ((0, 1), 2),
    ((0, 1), "2"),
    ((0, 1), 0.5),
    (("a", "b"), "c"),
    (("a", "b"), "B"),
    (("a", "b"), "1"),
    (("0", "1"), 2),
    (("0", "1"), "x"),
    (("1", "1.0"), 1),  # which of them?
    ((0, "a"), "b"),
]
NOT_COMPARABLE = [((0, 1), "b"), ((0, 1), "true"), ((0, 1), ""), (("a", "b"), 1), (("a", "b"), True), ((), 1)]


@pytest.mark.parametrize(
    ("classes", "label"), [(classes, label) for classes, labels in SAME for label in labels], ids=repr
)
def test_a_label_is_a_class_however_it_is_written(classes: tuple[Scalar, ...], label: Scalar) -> None:
    assert Classes(classes).place(label) == 1
    answer = Answer(classes[1], (0.25, 0.75), classes)
    assert METRICS["accuracy"].of_row(answer, label) == (1.0, False)
    assert METRICS["log_loss"].of_row(answer, label) == (pytest.approx(-math.log(0.75)), False)
    assert METRICS["roc_auc"].of_row(answer, label) == (0.75, True)


@pytest.mark.parametrize(("classes", "label"), NONE_OF_THEM, ids=repr)
def test_a_class_that_the_model_does_not_know_is_a_mistake_of_it(classes: tuple[Scalar, ...], label: Scalar) -> None:
    assert Classes(classes).place(label) == OTHER
    answer = Answer(classes[0], (0.25, 0.75), classes)
    assert METRICS["log_loss"].of_row(answer, label) == (pytest.approx(-math.log(1e-6)), False)
    assert METRICS["roc_auc"].of_row(answer, label) is None  # it is neither of the two


@pytest.mark.parametrize(("classes", "label"), NOT_COMPARABLE, ids=repr)
def test_what_cannot_be_compared_is_no_mistake(classes: tuple[Scalar, ...], label: Scalar) -> None:
    assert Classes(classes).place(label) is None
    answer = Answer(classes[0] if classes else None, (0.25, 0.75) if classes else (), classes)
    for metric in ("accuracy", "log_loss", "roc_auc"):
        assert METRICS[metric].of_row(answer, label) is None


@pytest.mark.parametrize("first", [1, True, 1.0])
def test_classes_that_python_takes_for_the_same_are_told_apart(first: Scalar) -> None:
    for classes in itertools.permutations([(0, 1), (False, True), (0.0, 1.0)]):
        for known in classes:
            truths = isinstance(known[1], bool)
            answer = Answer(known[1], (0.25, 0.75), known)
            assert (METRICS["log_loss"].of_row(answer, "true") is not None) == truths
            assert METRICS["log_loss"].of_row(answer, first) is not None


@pytest.mark.parametrize(
    ("prediction", "label", "error"),
    [
        (1.5, 2, 0.5),
        (1, "2.5", 1.5),
        ("1", 3, 2.0),
        (1.5, True, None),
        (False, 1.0, None),
        (1.5, "high", None),
        (None, 1.0, None),
        (1.0, 10**400, None),
        (1.0, "1e999", None),
    ],
)
def test_numbers_are_compared_with_numbers(prediction: Scalar, label: Scalar, error: float | None) -> None:
    answer = Answer(prediction, (), ())
    assert METRICS["mae"].of_row(answer, label) == (None if error is None else (error, False))
    squared = None if error is None else (error * error, False)
    assert METRICS["rmse"].of_row(answer, label) == squared


def test_without_scores_there_is_no_log_loss_and_no_area() -> None:
    answer = Answer(1, (), CLASSES)
    assert METRICS["log_loss"].of_row(answer, 1) is None
    assert METRICS["roc_auc"].of_row(answer, 1) is None
    assert METRICS["accuracy"].of_row(answer, 1) == (1.0, False)
    assert METRICS["roc_auc"].of_row(Answer("a", (0.2, 0.3, 0.5), ("a", "b", "c")), "a") is None
