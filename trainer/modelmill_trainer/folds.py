"""Cross-validation: how much a metric varies with the rows that are trained on.

A model is trained for each fold and thrown away.  Folds are of the training rows only: what is chosen by their
metrics is still tested on rows that took no part in the choice.
"""

import statistics
from collections.abc import Callable, Sequence

from sklearn.pipeline import Pipeline

from modelmill_contracts import evaluation as contract
from modelmill_contracts.report import Metric
from modelmill_contracts.task import Stopping
from modelmill_trainer import evaluation, fitting
from modelmill_trainer.data import Data
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase
from modelmill_trainer.progress import METER
from modelmill_trainer.splitting import Fold
from modelmill_trainer.workers import Parallel


def validate(
    build: Callable[[], Pipeline],
    data: Data,
    folds: Sequence[Fold],
    metrics: Sequence[str],
    seed: int,
    parallel: Parallel,
    stopping: Stopping | None = None,
) -> tuple[contract.Fold, ...]:
    """Train and measure in each fold, until it is hopeless; TaskError names the fold that it fails in."""
    done: list[contract.Fold] = []
    for number, fold in enumerate(folds, 1):
        done.append(_turn(build(), data, fold, f"{number} of {len(folds)}", metrics, seed, parallel))
        METER.measured({name: statistics.fmean(_values(done, name)) for name in metrics})
        if stopping is not None and number < len(folds) and _is_hopeless(done, stopping):
            break
    return tuple(done)


def check(stopping: Stopping | None, metrics: Sequence[str]) -> None:
    """TaskError where it is to stop by a metric that is not measured."""
    if stopping is not None and stopping.metric not in metrics:
        raise TaskError(
            "MetricUnknown",
            f"evaluation.stopping.metric: {stopping.metric} is not among the metrics; use {', '.join(metrics)}",
        )


def of(folds: Sequence[contract.Fold], stopping: Stopping | None) -> tuple[str, ...]:
    """What each fold gave of the metric that stopping is about."""
    return tuple(fold.metrics[stopping.metric] for fold in folds) if stopping is not None else ()


def mean(folds: Sequence[contract.Fold], metric: str) -> str:
    """The mean of a metric over these folds, as it is compared with a bound."""
    return evaluation.decimal(statistics.fmean(_values(folds, metric)))


def _is_hopeless(done: Sequence[contract.Fold], stopping: Stopping) -> bool:
    bound = dict(stopping.bounds).get(len(done))
    if bound is None:
        return False
    so_far = float(mean(done, stopping.metric))
    return so_far < float(bound) if stopping.maximize else so_far > float(bound)


def summary(folds: Sequence[contract.Fold], metrics: Sequence[str]) -> tuple[Metric, ...]:
    """Mean and sample standard deviation (n - 1) of each metric over the folds; nothing where there are none."""
    found = []
    for name in metrics if folds else ():
        values = _values(folds, name)
        stddev = evaluation.decimal(statistics.stdev(values)) if len(values) > 1 else None
        found.append(Metric(name, mean(folds, name), stddev))
    return tuple(found)


def _values(folds: Sequence[contract.Fold], metric: str) -> list[float]:
    return [float(fold.metrics[metric]) for fold in folds]


def _turn(
    estimator: Pipeline,
    data: Data,
    fold: Fold,
    which: str,
    metrics: Sequence[str],
    seed: int,
    parallel: Parallel,
) -> contract.Fold:
    with phase("fold", which=which, rows=len(fold.train)):
        try:
            fitting.fit(estimator, data, fold.train, seed, parallel)
            with fitting.explained(estimator, data):
                rows = data.features.iloc[fold.test]
                measured = evaluation.measure(evaluation.predict(estimator, rows, data.target[fold.test]), metrics)
        except TaskError as error:
            message = f"evaluation.crossValidation: fold {which}: {error}"
            raise TaskError(error.reason, message, retryable=error.retryable, problems=error.problems) from error
    return contract.Fold(len(fold.train), len(fold.test), {metric.name: metric.value for metric in measured})
