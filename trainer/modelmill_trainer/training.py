"""Training: a task to an artifact in the store, the same bytes for the same recipe."""

import os
import tempfile
from pathlib import Path

from sklearn.base import is_classifier

from modelmill_contracts import digest
from modelmill_contracts.report import Metric, Report, TrainingResult
from modelmill_contracts.store import artifact_key
from modelmill_contracts.task import TrainingTask
from modelmill_trainer import artifact, data, evaluation, fitting, pins, pipeline, profiling
from modelmill_trainer.conversion import expect
from modelmill_trainer.log import phase, say
from modelmill_trainer.recipe import recipe


def train(task: TrainingTask) -> Report:
    """Fetch the snapshot, train, evaluate, convert, publish; TaskError, StoreError."""
    # Before any data is fetched: the declaration alone can be wrong.  The names of features are not known yet.
    draft = pipeline.build(task.estimator, pipeline.selected(task.estimator), task.seed, task.packages)
    classifier = is_classifier(draft)
    metrics = evaluation.check(task.metrics, draft)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with phase("fetch"):
            table = data.load(task, folder)
        prepared = data.prepare(table, task, classifier=classifier)
        parts = data.split(prepared, task.split, task.seed, classifier=classifier)
        estimator = pipeline.build(task.estimator, list(prepared.types), task.seed, task.packages)
        if prepared.target.dtype.kind == "i":
            pipeline.use_integer_labels(estimator)
        with phase("fit", rows=len(parts.train), features=len(prepared.types)):
            notes = fitting.fit(estimator, prepared, parts.train, task.seed)
        with phase("evaluate", rows=len(parts.test)), fitting.explained(estimator, prepared):
            test = prepared.features.iloc[parts.test]
            measured = evaluation.measure(evaluation.predict(estimator, test, prepared.target[parts.test]), metrics)
            train_rows = prepared.features.iloc[parts.train]
            profile = profiling.profile(estimator, train_rows, prepared.types, expect(estimator, test))
        made = recipe(task, list(prepared.types), metrics, pins.pinned(os.environ))
        trained = artifact.Trained(estimator, prepared, parts, made, measured, profile, notes)
        written = artifact.write(trained, task, folder)
    say("published", artifact=written.digest, runtime=written.runtime)
    return _report(task, trained, written)


def _report(task: TrainingTask, trained: artifact.Trained, written: artifact.Written) -> Report:
    times = os.times()
    result = TrainingResult(
        recipe=digest.of_json(trained.recipe),
        artifact=written.digest,
        uri=f"{task.store.uri.rstrip('/')}/{artifact_key(written.digest)}",
        runtime=written.runtime,
        metrics=trained.metrics,
        train_rows=len(trained.parts.train),
        test_rows=len(trained.parts.test),
        # Processes that a parallel fit started count too.
        cpu_seconds=round(times.user + times.system + times.children_user + times.children_system),
    )
    message = (
        f"trained on {result.train_rows} rows, tested on {result.test_rows}: {_listed(trained.metrics)}"
        f"{''.join(f'; {note}' for note in written.notes)}"
    )
    return Report(True, "Trained", message, result=result)


def _listed(metrics: tuple[Metric, ...]) -> str:
    return ", ".join(f"{metric.name} {metric.value}" for metric in metrics)
