"""Training: a task to an artifact in the store, the same bytes for the same recipe."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from modelmill_contracts import evaluation as contract
from modelmill_contracts import report
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.report import Metric, Report
from modelmill_contracts.task import Stopping, TrainingTask
from modelmill_trainer import (
    artifact,
    calibration,
    confusion,
    data,
    evaluation,
    facts,
    fitting,
    folds,
    frozen,
    known,
    pins,
    pipeline,
    profiling,
    slicing,
)
from modelmill_trainer.conversion import expect
from modelmill_trainer.data import Data
from modelmill_trainer.log import phase, say
from modelmill_trainer.progress import METER
from modelmill_trainer.recipe import recipe
from modelmill_trainer.splitting import Splitter
from modelmill_trainer.workers import Workers

_FIT = 10.0  # about how long one takes, where fetching and evaluating take 1


def train(task: TrainingTask, workers: Workers) -> Report:
    """Fetch the snapshot, train, evaluate, convert, publish, unless the recipe is known; TaskError, StoreError."""
    METER.plan(*_phases(task))
    # Before any data is fetched: the declaration alone can be wrong.  The names of features are not known yet.
    draft = pipeline.build(task.estimator, pipeline.selected(task.estimator), task.seed, task.packages)
    classifier = is_classifier(draft)
    metrics = evaluation.check(task.metrics, draft)
    folds.check(task.stopping, metrics)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with phase("fetch"):
            table = data.load(task, folder)
        prepared = data.prepare(table, task, classifier=classifier)
        made = recipe(task, list(prepared.types), metrics, pins.pinned(os.environ))
        answer = known.answer(task, made, metrics)
        if answer is not None:
            return answer
        texts = slicing.columns(table, task.evaluation.slices)
        splitter = Splitter(table, prepared.target, task.target, task.split, task.seed, classifier=classifier)
        parts = splitter.parts()
        turns = splitter.folds(parts.train, task.evaluation.folds) if task.evaluation.folds else []
        build = _builder(task, prepared)
        validated: tuple[contract.Fold, ...] = ()
        if task.stopping is not None:  # a hopeless one is not to be trained on all rows first
            validated = folds.validate(build, prepared, turns, metrics, task.seed, workers.parallel, task.stopping)
            if len(validated) < len(turns):
                return _stopped(task.stopping, validated, metrics, len(turns), workers)
        estimator = build()
        with phase("fit", rows=len(parts.train), features=len(prepared.types)):
            notes = fitting.fit(estimator, prepared, parts.train, task.seed, workers.parallel)
        with phase("evaluate", rows=len(parts.test)), fitting.explained(estimator, prepared):
            test = prepared.features.iloc[parts.test]
            predicted = evaluation.predict(estimator, test, prepared.target[parts.test])
            measured = evaluation.measure(predicted, metrics)
            if not turns:  # what is chosen by the folds is not to be chosen by the test rows
                METER.measured({metric.name: float(metric.value) for metric in measured})
            profile = profiling.profile(
                estimator, prepared.features.iloc[parts.train], prepared.types, expect(estimator, test)
            )
            tested = {column: [values[row] for row in parts.test] for column, values in texts.items()}
            slices, left_out = slicing.measured(predicted, metrics, tested)
        learned = {column: [values[row] for row in parts.train] for column, values in texts.items()}
        notes = (*notes, *slicing.notes(slices, left_out, learned, tested))
        if task.stopping is None:
            validated = folds.validate(build, prepared, turns, metrics, task.seed, workers.parallel)
        evaluated = Evaluation(
            rows=len(parts.test),
            metrics={metric.name: metric.value for metric in measured},
            folds=validated,
            slices=slices,
            left_out=left_out,
            confusion=confusion.confusion(predicted),
            calibration=calibration.calibration(predicted),
        )
        rows = frozen.freeze(prepared, parts.order, texts)
        described = facts.rows_of(table, prepared.types, parts.train, parts.test)
        trained = artifact.Trained(estimator, prepared, parts, made, evaluated, rows, profile, described, notes)
        written = artifact.write(trained, task, folder)
    say("published" if task.publish else "compared only", artifact=written.digest, runtime=written.runtime)
    return _report(task, trained, written, folds.summary(validated, metrics) or measured, workers)


def _phases(task: TrainingTask) -> list[tuple[str, float]]:
    """What will be done, and about how long each takes."""
    count = task.evaluation.folds
    turns = [("fold", _FIT * (count - 1) / count)] * count if count else []
    before, after = (turns, []) if task.stopping is not None else ([], turns)
    return [("fetch", 1), *before, ("fit", _FIT), ("evaluate", 1), *after, ("convert", 2), ("publish", 1)]


def _stopped(
    stopping: Stopping, validated: tuple[contract.Fold, ...], metrics: Sequence[str], of: int, workers: Workers
) -> Report:
    """A training that ended early: what its folds gave, and no model."""
    done = len(validated)
    result = report.StoppedResult(
        metrics=folds.summary(validated, metrics),
        folds=folds.of(validated, stopping),
        cpu_seconds=artifact.cpu_seconds() + round(workers.cpu_seconds()),
    )
    bound = dict(stopping.bounds)[done]
    worse = "less" if stopping.maximize else "more"
    message = f"after {done} of {of} folds {stopping.metric} was {folds.mean(validated, stopping.metric)}, {worse} than"
    return Report(True, "StoppedEarly", f"{message} {bound} (evaluation.stopping)", result=result)


def _builder(task: TrainingTask, prepared: Data) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        estimator = pipeline.build(task.estimator, list(prepared.types), task.seed, task.packages)
        if prepared.target.dtype.kind == "i":
            pipeline.use_integer_labels(estimator)
        return estimator

    return build


def _report(
    task: TrainingTask,
    trained: artifact.Trained,
    written: artifact.Written,
    metrics: tuple[Metric, ...],
    workers: Workers,
) -> Report:
    evaluated = trained.evaluation
    result = artifact.result(task, written, trained.recipe, metrics, trained.rows)
    result = msgspec.structs.replace(
        result,
        cpu_seconds=result.cpu_seconds + round(workers.cpu_seconds()),
        slices=slicing.worst(evaluated.slices, list(evaluated.metrics)),
        folds=folds.of(evaluated.folds, task.stopping),
    )
    message = (
        f"trained on {result.train_rows} rows, tested on {result.test_rows}: {_listed(evaluated.metrics)}"
        f"{_validated(metrics, len(evaluated.folds))}"
        f"{''.join(f'; {note}' for note in written.notes)}"
    )
    return Report(True, "Trained", message, result=report.fitting(result))


def _listed(metrics: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in metrics.items())


def _validated(metrics: Sequence[Metric], folds: int) -> str:
    if not folds:
        return ""
    shown = ", ".join(f"{metric.name} {metric.value} (stddev {metric.stddev})" for metric in metrics)
    return f"; in {folds} folds of the training rows: {shown}"
