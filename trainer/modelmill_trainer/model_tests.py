"""A Model's tests, asked of the server that serves the version, on the frozen rows of its artifact.

Metrics first, on all rows or each slice, then the comparison with what serves, behaviour, latency.  What cannot be
found out is not passed, and says why.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from modelmill_contracts import artifact, digest, evaluation, folder, report, task
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.report import ModelTestResult, Outcome, Report
from modelmill_contracts.store import Store, artifact_key
from modelmill_trainer.evaluation import Predicted, decimal, is_loss, known_metrics, measure_part
from modelmill_trainer.log import phase
from modelmill_trainer.served import RefusedError, ServedModel

_RESAMPLES = 1000
_BOUND = 0.05  # one-sided 95 %
_ROUNDS, _REQUESTS, _WARM_UP = 3, 200, 20
_TOLERANCE = 1e-6  # of scores: servers compute with 32 bits


class Frozen:
    """The frozen rows: features as the server takes them, the truth, and each slice's column as text."""

    def __init__(self, table: Any) -> None:
        columns = {name: table.column(name) for name in table.column_names}
        features = [name for name in columns if name.startswith(evaluation.FEATURE)]
        self.features = pd.DataFrame(
            {name.removeprefix(evaluation.FEATURE): columns[name].to_numpy() for name in features}
        )
        target = columns[evaluation.TARGET]
        self.truth = np.array(target.to_pylist())
        self.slices: dict[str, list[str | None]] = {
            name.removeprefix(evaluation.SLICE): columns[name].to_pylist()
            for name in columns
            if name.startswith(evaluation.SLICE)
        }


def run_tests(work: task.ModelTestTask) -> Report:
    """Ask every test; TaskError, StoreError, ArtifactError where they cannot be asked at all."""
    store = Store(work.store)
    with tempfile.TemporaryDirectory() as name, phase("fetch"):
        manifest = folder.fetch(store, work.candidate.digest, Path(name))
        rows = Path(name) / evaluation.ROWS
        frozen = Frozen(pyarrow.parquet.read_table(rows)) if manifest.evaluation is not None else None
    if frozen is None:
        return _said(tuple(_without_rows(work.tests)))
    candidate = ServedModel(work.candidate.url, work.model, manifest)
    candidate.wait()
    try:
        with phase("predict", rows=len(frozen.truth)):
            predicted = candidate.predict(frozen.features, frozen.truth)
    except RefusedError as error:
        return _said((_not_served(str(error)),))
    if predicted.classes is not None and not np.isin(predicted.labels, predicted.truth).any():
        return _said((_not_served("none of the model's labels is a value of the target"),))
    outcomes = [_metric(test, predicted, frozen) for test in work.tests.metrics]
    if work.tests.baseline is not None:
        with phase("baseline"):
            outcomes.append(_baseline(work, store, work.tests.baseline, manifest, frozen, predicted))
    outcomes += [_behaviour(test, candidate, frozen, predicted) for test in work.tests.behaviour]
    for latency in work.tests.latencies:
        with phase("latency"):
            outcomes.append(_latency(latency, candidate, frozen))
    return _said(tuple(outcomes))


def _not_served(why: str) -> Outcome:
    return Outcome("serving", False, "answers the frozen rows", message=why[:512])


def _said(outcomes: tuple[Outcome, ...]) -> Report:
    """The report; texts beside the numbers are left out, the last ones first, where they do not all fit.

    Where that is not enough, so is what each test is called and asks: whoever asked knows.
    """
    passed = sum(outcome.passed for outcome in outcomes)
    message = f"{passed} of {len(outcomes)} tests are passed"
    kept = list(outcomes)
    for number in range(len(kept) - 1, -2, -1):
        answer = Report(True, "TestsRun", message, result=ModelTestResult(tuple(kept)))
        if len(_encoded(answer)) <= report.LIMIT or number < 0:
            break
        one = kept[number]
        kept[number] = Outcome(one.name, one.passed, one.threshold, one.observed)
    if len(_encoded(answer)) > report.LIMIT:
        bare = tuple(Outcome("", one.passed, "", one.observed) for one in kept)
        answer = Report(True, "TestsRun", message, result=ModelTestResult(bare))
    return answer


def _encoded(answer: Report) -> bytes:
    try:
        return report.encode(answer)
    except ValueError:
        return b" " * (report.LIMIT + 1)


def _without_rows(tests: task.Tests) -> Iterator[Outcome]:
    why = "the artifact has no frozen rows: a TrainingJob of this version writes them, and modelmill pack --evaluation"
    for test in tests.in_order:
        yield Outcome(test.title, False, test.threshold, message=why)


# Metrics.


def _margin(test: task.MetricTest, value: float) -> float:
    """How far the value is inside of the bounds; negative: outside."""
    inside = [value - float(test.min)] if test.min is not None else []
    inside += [float(test.max) - value] if test.max is not None else []
    return min(inside)


def _metric(test: task.MetricTest, predicted: Predicted, frozen: Frozen) -> Outcome:
    name, asked = test.title, test.threshold
    unknown = _unknown(test.name, predicted)
    if unknown is not None:
        return Outcome(name, False, asked, message=unknown)
    if test.every_slice is not None:
        return _slices(test, test.every_slice, predicted, frozen)
    value = measure_part(predicted, (test.name,)).get(test.name)
    if value is None:
        return Outcome(name, False, asked, message="it is undefined on the frozen rows, such as those of one class")
    return Outcome(name, _margin(test, value) >= 0, asked, decimal(value))


def _unknown(name: str, predicted: Predicted) -> str | None:
    known = known_metrics(predicted)
    return None if name in known else f"it is no metric of this model; use {', '.join(known)}"


def _slices(test: task.MetricTest, column: str, predicted: Predicted, frozen: Frozen) -> Outcome:
    """The worst slice decides; a slice that does not define the metric says nothing, and how many do not is told."""
    name, asked = test.title, test.threshold
    values = frozen.slices.get(column)
    if values is None:
        why = f"the frozen rows have no slices of {column}: name it in evaluation.slices of the TrainingJob"
        return Outcome(name, False, asked, message=why[:512])
    counts = Counter(values)
    chosen = [value for value, rows in counts.items() if rows >= evaluation.MIN_SLICE_ROWS]
    found: list[tuple[float, float, str | None]] = []
    for value in sorted(chosen, key=lambda one: (one is None, one or "")):
        rows = np.array([row for row, one in enumerate(values) if one == value])
        number = measure_part(predicted.of(rows), (test.name,)).get(test.name)
        if number is not None:
            found.append((_margin(test, number), number, value))
    if not found:
        why = f"no value of {column} has {evaluation.MIN_SLICE_ROWS} rows that define it: freeze more rows"
        return Outcome(name, False, asked, message=why)
    margin, number, value = min(found, key=lambda one: one[0])
    silent = len(chosen) - len(found)
    message = f"{silent} of {len(chosen)} slices do not define it" if silent else None
    return Outcome(
        name, margin >= 0, asked, decimal(number), f"{column}={'' if value is None else value}"[:128], message
    )


# What serves.


def _baseline(
    work: task.ModelTestTask,
    store: Store,
    test: task.BaselineTest,
    manifest: Manifest,
    frozen: Frozen,
    predicted: Predicted,
) -> Outcome:
    name, asked = test.title, test.threshold
    if work.baseline is None:
        return Outcome(name, True, asked, message=f"ModelDeployment {test.deployment} serves nothing yet")
    if work.baseline.digest == work.candidate.digest:
        return Outcome(name, True, asked, message=f"ModelDeployment {test.deployment} serves this very artifact")
    unknown = _unknown(test.metric, predicted)
    if unknown is not None:
        return Outcome(name, False, asked, message=unknown)
    data = store.get(f"{artifact_key(work.baseline.digest)}/{artifact.MANIFEST}", artifact.MAX_MANIFEST)
    theirs = folder.read_manifest(data, work.baseline.digest)
    differs = _differs(theirs, manifest)
    if differs is not None:
        return Outcome(name, False, asked, message=f"what {test.deployment} serves cannot be compared with: {differs}")
    served = ServedModel(work.baseline.url, work.model, theirs)
    served.wait()
    try:
        before = served.predict(frozen.features, frozen.truth)
    except RefusedError as error:
        return Outcome(name, False, asked, message=f"what {test.deployment} serves: {error}"[:512])
    unknown = _unknown(test.metric, before)
    if unknown is not None:
        return Outcome(name, False, asked, message=f"what {test.deployment} serves: {unknown}")
    seed = int(digest.hex_of(work.candidate.digest)[:8], 16)
    difference, worst = compared(predicted, before, test.metric, seed)
    if not np.isfinite(worst):
        return Outcome(name, False, asked, message="it is undefined on too many samples of the frozen rows")
    message = f"with 95 % confidence not below {decimal(worst)}"
    return Outcome(name, worst >= -float(test.max_regression), asked, decimal(difference), message=message)


def _differs(theirs: Manifest, ours: Manifest) -> str | None:
    """Why the two cannot be asked the same rows, or compared; names of columns only."""
    if not theirs.features:
        return "which columns it takes is not known"
    types = {feature.name: feature.type == "String" for feature in ours.features}
    for feature in theirs.features:
        if types.get(feature.name) != (feature.type == "String"):
            return f"it takes column {feature.name[:80]}, which the frozen rows do not have like that"
    # A model of somebody's own may name none.
    known = theirs.classes and ours.classes
    return "it has other classes" if known and theirs.classes != ours.classes else None


def compared(candidate: Predicted, before: Predicted, metric: str, seed: int) -> tuple[float, float]:
    """The difference of the metric, more is better, and the lower end of its one-sided 95 % interval.

    A paired bootstrap (Efron 1979): rows are drawn with replacement, the same for both; the interval is the percentile.
    NaN where a tenth of the samples does not define the metric.
    """
    sign = -1.0 if is_loss(metric) else 1.0

    def difference(rows: Any) -> float:
        pair = [measure_part(one.of(rows), (metric,)).get(metric, np.nan) for one in (candidate, before)]
        return sign * (pair[0] - pair[1])

    count = len(candidate.truth)
    everything = difference(np.arange(count))
    random = np.random.default_rng(seed)
    samples = np.array([difference(random.integers(0, count, count)) for _ in range(_RESAMPLES)])
    defined = samples[np.isfinite(samples)]
    if not np.isfinite(everything) or len(defined) < 0.9 * _RESAMPLES:
        return everything, float("nan")
    return everything, float(np.quantile(defined, _BOUND))


# Behaviour.

_HOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "NotDecrease": lambda before, after: after >= before - _slack(before),
    "NotIncrease": lambda before, after: after <= before + _slack(before),
    "Unchanged": lambda before, after: np.abs(after - before) <= _slack(before),
}


def _slack(before: Any) -> Any:
    return _TOLERANCE * np.maximum(1, np.abs(before))


def _behaviour(test: task.BehaviourTest, candidate: ServedModel, frozen: Frozen, predicted: Predicted) -> Outcome:
    rows = frozen.features.copy()
    types = {feature.name: feature.type for feature in candidate.manifest.features}
    for change in test.perturb:
        kind = types.get(change.column)
        if kind not in ("Float", "Integer"):
            why = (
                "is no feature of the model" if kind is None else f"is of type {kind}, and only numbers can be changed"
            )
            return Outcome(test.name, False, test.expect, message=f"column {change.column} {why}")
        values = changed(rows[change.column].to_numpy(np.float64), change.by)
        rows[change.column] = np.rint(values) if kind == "Integer" else values
    try:
        after = candidate.predict(rows, frozen.truth)
    except RefusedError as error:
        return Outcome(test.name, False, test.expect, message=str(error))
    if predicted.classes is not None and test.expect == "Unchanged":
        holds = after.labels == predicted.labels
    else:
        pair = _score(predicted), _score(after)
        if pair[0] is None or pair[1] is None:
            why = "it needs a regressor, or a classifier of two classes with scores: for others, expect Unchanged"
            return Outcome(test.name, False, test.expect, message=why)
        holds = _HOLDS[test.expect](*pair)
    broken = int(np.sum(~holds))
    message = f"it does not hold for {broken} of {len(holds)} rows" if broken else None
    return Outcome(test.name, broken == 0, test.expect, decimal(1 - broken / len(holds)), message=message)


def changed(values: Any, by: str) -> Any:
    """The numbers, changed by +10% of each or by +0.5 in their own unit."""
    return values * (1 + float(by[:-1]) / 100) if by.endswith("%") else values + float(by)


def _score(predicted: Predicted) -> Any:
    """What rises and falls: the number of a regressor, the score of the second of two classes."""
    if predicted.classes is None:
        return predicted.labels
    if predicted.scores is None or len(predicted.classes) != 2:
        return None
    return predicted.scores[:, 1] if np.ndim(predicted.scores) == 2 else predicted.scores


# Latency.


def _latency(test: task.LatencyTest, candidate: ServedModel, frozen: Frozen) -> Outcome:
    name, asked = test.title, test.threshold
    try:
        candidate.latencies(frozen.features, _WARM_UP)
        rounds = [candidate.latencies(frozen.features, _REQUESTS) for _ in range(_ROUNDS)]
    except RefusedError as error:
        return Outcome(name, False, asked, message=str(error))
    # What else runs on the node only makes it slower.
    found = 1000 * min(float(np.quantile(taken, float(test.quantile))) for taken in rounds)
    message = f"quantile {test.quantile} of {_REQUESTS} requests, the best of {_ROUNDS} rounds"
    return Outcome(name, found <= test.max_ms, asked, f"{decimal(found)}ms", message=message)
