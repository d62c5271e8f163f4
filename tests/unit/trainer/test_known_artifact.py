"""A pod whose recipe is known answers with what it made before, and fits nothing."""

import logging
from pathlib import Path

import pytest
from msgspec.structs import replace
from trainer_tasks import BREAST_CANCER, LOGISTIC, MIXED_HEADER, SCALER, csv, mixed_estimator, mixed_rows, run, steps
from trainer_tasks import training as task_of

from modelmill_contracts import artifact, evaluation
from modelmill_contracts.report import Report, TrainingResult
from modelmill_contracts.task import Evaluation, Known, StoreLocation, TrainingTask

FOREST = "sklearn.ensemble.RandomForestClassifier"


@pytest.fixture
def asked(store: StoreLocation) -> TrainingTask:
    return task_of(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), seed=3)


def result(report: Report) -> TrainingResult:
    assert report.ok, report
    assert isinstance(report.result, TrainingResult)
    return report.result


def known(made: TrainingResult, asked: TrainingTask) -> TrainingTask:
    """The same task, by an operator that has seen what it made."""
    other = Known("sha256:" + "0" * 64, made.artifact)
    return replace(asked, known=(other, Known(made.recipe, made.artifact)))


def fits(caplog: pytest.LogCaptureFixture) -> int:
    """How many models were fitted since the log was cleared."""
    return sum(getattr(line, "facts", {}).get("phase") in ("fit", "fold") for line in caplog.records)


def files(made: TrainingResult) -> dict[str, float]:
    """When each file of the artifact was written."""
    return {path.name: path.stat().st_mtime for path in Path(made.uri.removeprefix("file://")).iterdir()}


@pytest.mark.parametrize("folds", [0, 3])
def test_the_answer_is_what_the_training_said_and_nothing_is_fitted(
    store: StoreLocation, tmp_path: Path, folds: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelmill.trainer")
    rows = csv(tmp_path / "rows.csv", MIXED_HEADER, mixed_rows(300))
    asked = task_of(
        store,
        rows,
        "label",
        mixed_estimator(FOREST, n_estimators=20),
        metrics=("roc_auc", "recall"),
        evaluation=Evaluation(folds, ("city",)),
    )
    made = result(run(asked))
    assert fits(caplog) == 1 + folds
    written = files(made)
    caplog.clear()
    report = run(known(made, asked))
    assert (report.reason, fits(caplog)) == ("RecipeKnown", 0)
    assert report.message == f"nothing was trained: artifact {made.artifact} was made by this very recipe"
    found = result(report)
    assert found.known
    assert not made.known
    assert replace(found, known=False, train_rows=made.train_rows, cpu_seconds=made.cpu_seconds) == made
    assert files(made) == written


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"metrics": ("recall",)},
        {"features": ("mean_radius",)},
        {"image": "trainer:2"},
        {"evaluation": Evaluation(3)},
        {"packages": ("sklearn", "msgspec")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_recipe_is_trained(asked: TrainingTask, changes: dict[str, object]) -> None:
    made = result(run(asked))
    other = result(run(known(made, replace(asked, **changes))))
    assert not other.known
    assert other.recipe != made.recipe


def test_the_same_recipe_on_another_architecture_is_trained(
    asked: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = result(run(asked))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    other = result(run(known(made, asked)))
    assert not other.known
    assert other.recipe != made.recipe


def _without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def _changed(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content.replace(b"9", b"8", 1))


@pytest.mark.parametrize("name", [artifact.MANIFEST, evaluation.RESULTS])
@pytest.mark.parametrize("spoil", [_without, _changed])
def test_an_artifact_that_is_not_what_it_was_answers_nothing(
    asked: TrainingTask, name: str, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelmill.trainer")
    made = result(run(asked))
    assert callable(spoil)
    spoil(name, Path(made.uri.removeprefix("file://")))
    caplog.clear()
    again = result(run(known(made, asked)))
    assert (again.known, again.artifact, fits(caplog)) == (False, made.artifact, 1)
    assert "what this recipe made before cannot be used" in caplog.messages


def test_a_version_that_names_a_recipe_which_its_artifact_has_not_answers_nothing(asked: TrainingTask) -> None:
    made, other = result(run(asked)), result(run(replace(asked, seed=4)))
    lie = replace(asked, known=(Known(made.recipe, other.artifact),))
    again = result(run(lie))
    assert (again.known, again.artifact) == (False, made.artifact)
