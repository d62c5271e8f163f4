"""A training that is hopeless ends after a fold, without a model; one that is not gives the same bytes as ever."""

import logging

import pytest
from msgspec.structs import replace
from trainer_tasks import BREAST_CANCER, LOGISTIC, SCALER, run, steps
from trainer_tasks import training as task_of

from modelmill_contracts.report import Report, StoppedResult, TrainingResult
from modelmill_contracts.task import Evaluation, Known, Stopping, StoreLocation, TrainingTask
from modelmill_trainer.progress import METER


@pytest.fixture
def asked(store: StoreLocation) -> TrainingTask:
    return task_of(
        store,
        BREAST_CANCER,
        "benign",
        steps(SCALER, LOGISTIC),
        metrics=("roc_auc", "log_loss"),
        evaluation=Evaluation(folds=4),
    )


def phases(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        line.facts["phase"] for line in caplog.records if getattr(line, "facts", {}).get("phase") in ("fit", "fold")
    ]


def made(report: Report) -> TrainingResult:
    assert report.ok, report
    assert isinstance(report.result, TrainingResult)
    return report.result


def test_it_stops_after_the_fold_that_is_too_bad_and_fits_nothing_more(
    asked: TrainingTask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modelmill.trainer")
    said = run(replace(asked, stopping=Stopping("roc_auc", True, ((1, "0.5"), (2, "0.9999")))))
    assert (said.ok, said.reason) == (True, "StoppedEarly")
    assert isinstance(said.result, StoppedResult)
    assert phases(caplog) == ["fold", "fold"]
    assert len(said.result.folds) == 2
    assert [metric.name for metric in said.result.metrics] == ["roc_auc", "log_loss"]
    mean = sum(map(float, said.result.folds)) / 2
    assert float(said.result.metrics[0].value) == pytest.approx(mean, abs=1e-5)
    assert said.message == (
        f"after 2 of 4 folds roc_auc was {said.result.metrics[0].value}, less than 0.9999 (evaluation.stopping)"
    )
    assert set(METER.now.metrics) == {"roc_auc", "log_loss"}  # what /progress shows


def test_of_one_fold_there_is_no_deviation(asked: TrainingTask) -> None:
    said = run(replace(asked, stopping=Stopping("log_loss", False, ((1, "0.0001"),))))
    assert isinstance(said.result, StoppedResult)
    assert [metric.stddev for metric in said.result.metrics] == [None, None]


def test_one_that_goes_on_to_the_end_gives_the_same_bytes_and_its_folds(asked: TrainingTask) -> None:
    plain = made(run(asked))
    stopping = made(run(replace(asked, stopping=Stopping("roc_auc", True, ((1, "0.5"), (4, "1"))))))
    assert (stopping.artifact, stopping.recipe, stopping.metrics) == (plain.artifact, plain.recipe, plain.metrics)
    assert plain.folds == ()
    assert len(stopping.folds) == 4
    assert stopping.model_bytes == plain.model_bytes > 0
    known = replace(asked, known=(Known(plain.recipe, plain.artifact),))
    again = made(run(replace(known, stopping=Stopping("roc_auc", True))))
    assert (again.known, again.folds, again.model_bytes) == (True, stopping.folds, plain.model_bytes)


def test_a_metric_that_is_not_measured_is_named_before_anything_is_trained(asked: TrainingTask) -> None:
    said = run(replace(asked, stopping=Stopping("recall", True, ((1, "0.5"),))))
    assert (said.reason, said.message) == (
        "MetricUnknown",
        "evaluation.stopping.metric: recall is not among the metrics; use roc_auc, log_loss",
    )
