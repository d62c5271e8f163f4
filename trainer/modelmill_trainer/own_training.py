"""A user's own training: what a container wrote is checked, run on the test rows, and published as any other artifact.

The container is trusted with nothing: it may have written links, a pickle, gigabytes, or nothing at all.  Its files are
opened only after they were seen to be plain files of a sane size, and a model is opened only as ONNX, or as skops with
the fixed list of trusted types.
"""

import json
import math
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from sklearn.base import is_classifier

from modelmill_contracts import artifact
from modelmill_contracts import task as contract
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.profile import Profile
from modelmill_contracts.report import Metric, Report, fitting
from modelmill_contracts.task import OwnTrainingTask
from modelmill_trainer import artifact as artifacts
from modelmill_trainer import conversion, data, facts, frozen, outputs, packing, pins, profiling, slicing
from modelmill_trainer.calibration import calibration
from modelmill_trainer.confusion import confusion
from modelmill_trainer.data import Data
from modelmill_trainer.evaluation import Predicted, decimal, known_metrics
from modelmill_trainer.facts import Facts
from modelmill_trainer.failure import TaskError
from modelmill_trainer.fitting import known_numbers
from modelmill_trainer.importance import Ask, importance
from modelmill_trainer.log import phase, redacted, say
from modelmill_trainer.own_onnx import decided, feeds, own_onnx
from modelmill_trainer.progress import METER
from modelmill_trainer.recipe import own_recipe
from modelmill_trainer.version import types_of

_METRICS_BYTES = 64 << 10
_MODEL_BYTES = 2 << 30  # what one ONNX file can hold
_MAX_METRICS = 32
_MAX_CLASSES = 1000  # a target of more values is a number
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MODELS = (artifact.ONNX, artifact.SKOPS)


class _Made(NamedTuple):
    files: dict[str, bytes]
    manifest: Manifest  # what is known from the model alone
    profile: Profile
    tested: pd.DataFrame  # the test rows, as the model takes them
    ask: Ask


def take(task: OwnTrainingTask, workers: int = 1) -> Report:
    """Check the model and metrics of the container, one of so many, and publish them.

    TaskError says what is wrong with what it wrote.
    """
    METER.plan(("container", 98), ("check", 1), ("publish", 1))
    METER.begin("check")
    output = Path(task.output)
    written = _written(output)
    metrics = _metrics(output, written, task)
    file = _model(output, written)
    train, test = (_table(Path(task.data) / name) for name in (contract.TRAIN_ROWS, contract.TEST_ROWS))
    types = types_of(test.schema)
    declared = msgspec.json.decode((Path(task.data) / contract.DECLARED).read_bytes())
    names = list(declared["features"])
    truth = _truth(test, task.target, types[task.target])
    with phase("check", model=file.name):
        if file.name == artifact.ONNX:
            made = _onnx(file, names, train, test, truth, _values(task.target, types[task.target], train, test))
        else:
            made = _skops(file, names, train, test)
    features = {feature.name: types[feature.name] for feature in made.manifest.features}
    recipe = own_recipe(task, list(features), [metric.name for metric in metrics], pins.pinned(os.environ), workers)
    tested = Data(made.tested, truth, features, task.target)
    learned, texts = (slicing.columns(table, task.slices) for table in (train, test))
    rows = frozen.freeze(tested, np.arange(test.num_rows), texts)
    predicted, notes = _predicted(made.ask, tested)
    found = _evaluation(predicted, texts, metrics, test.num_rows)
    if predicted is not None:
        asked = list(found.metrics)
        part = tested.features.iloc[rows.rows], tested.target[rows.rows]
        found = msgspec.structs.replace(found, importance=importance(made.ask, *part, asked, task.seed))
        notes = slicing.notes(found.slices, found.left_out, learned, texts)
    manifest = msgspec.structs.replace(
        made.manifest,
        libraries=recipe["libraries"],
        recipe=recipe,
        metrics=found.metrics,
        evaluation=rows.described,
        notes=(*made.manifest.notes, *notes),
    )
    both = pa.concat_tables([train, test])
    described = facts.rows_of(both, features, range(train.num_rows), range(train.num_rows, both.num_rows))
    files = {**made.files, **artifacts.told(Facts(manifest, found, described), rows)}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        manifest = artifacts.lay_out(manifest, files, made.profile, place)
        return _report(task, artifacts.finish(manifest, task, place), recipe, metrics, described, found)


def _evaluation(
    predicted: Predicted | None, texts: dict[str, slicing.Texts], metrics: tuple[Metric, ...], rows: int
) -> Evaluation:
    """The container's metrics, and what the model says to the test rows; a container measures no slices."""
    found = Evaluation(rows=rows, metrics={metric.name: metric.value for metric in metrics})
    if predicted is None:
        return found
    known = known_metrics(predicted)
    slices, left = slicing.measured(predicted, [name for name in found.metrics if name in known], texts)
    return msgspec.structs.replace(
        found,
        slices=slices,
        left_out=left,
        confusion=confusion(predicted),
        calibration=calibration(predicted),
    )


def _predicted(ask: Ask, tested: Data) -> tuple[Predicted | None, tuple[str, ...]]:
    """None, and why, where the model's answers cannot be compared with the target."""
    try:
        found = ask(tested.features, tested.target)
    except outputs.UnclearError as error:
        return None, (f"a Model's tests cannot be asked of it: {error}",)
    except Exception as error:
        say("the answers cannot be compared with the target", error=type(error).__name__)
        return None, ()
    if found.classes is not None and not np.isin(found.labels, found.truth).any():
        return None, ("a Model's tests cannot be asked of it: none of its labels is a value of the target",)
    return found, ()


def _report(
    task: OwnTrainingTask,
    written: artifacts.Written,
    recipe: dict[str, Any],
    metrics: tuple[Metric, ...],
    rows: facts.Rows,
    found: Evaluation,
) -> Report:
    result = artifacts.result(task, written, recipe, metrics, rows)
    result = msgspec.structs.replace(result, slices=slicing.worst(found.slices, list(found.metrics)))
    shown = ", ".join(f"{metric.name} {metric.value}" for metric in metrics)
    message = (
        f"the container was given {result.train_rows} rows to train on and {result.test_rows} to test on, and measured:"
        f" {shown}"
    )
    return Report(True, "Trained", message + "".join(f"; {note}" for note in written.notes), result=fitting(result))


def _written(output: Path) -> dict[str, os.stat_result]:
    """What the container wrote, by name; TaskError where it is nothing, or no plain files."""
    found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(output)}
    if not found:
        raise TaskError(
            "OutputEmpty",
            f"the container wrote nothing into $MILL_OUTPUT: it has to write {' or '.join(_MODELS)}, and"
            f" {contract.METRICS}",
        )
    for name in sorted(found):
        if name.lower().endswith(packing.PICKLES):
            raise TaskError(
                "OutputIsPickle",
                f"the container wrote a pickle ({Path(name).suffix}), which runs code wherever it is opened: it has to"
                f" write {' or '.join(_MODELS)}",
            )
    for name in (*_MODELS, contract.METRICS):
        if name in found and not stat.S_ISREG(found[name].st_mode):
            raise TaskError("OutputNotAFile", f"{name} in $MILL_OUTPUT is a link or a folder; write a file")
    return found


def _model(output: Path, written: dict[str, os.stat_result]) -> Path:
    found = [name for name in _MODELS if name in written]
    if len(found) != 1:
        what = "no model" if not found else "two models"
        raise TaskError(
            "OutputModelMissing" if not found else "OutputModelAmbiguous",
            f"the container wrote {what} into $MILL_OUTPUT: it has to write either {' or '.join(_MODELS)}",
        )
    size = written[found[0]].st_size
    if size > _MODEL_BYTES:
        raise TaskError("OutputTooLarge", f"{found[0]} has {size} bytes; {_MODEL_BYTES} are allowed")
    return output / found[0]


def _metrics(output: Path, written: dict[str, os.stat_result], task: OwnTrainingTask) -> tuple[Metric, ...]:
    name = contract.METRICS
    if name not in written:
        raise TaskError(
            "MetricsMissing",
            f'the container wrote no {name} into $MILL_OUTPUT: write {{"accuracy": 0.93}}, for example',
        )
    if written[name].st_size > _METRICS_BYTES:
        raise TaskError("MetricsInvalid", f"{name} has {written[name].st_size} bytes; {_METRICS_BYTES} are allowed")
    try:
        found = json.loads((output / name).read_bytes())
    except (ValueError, RecursionError) as error:
        raise TaskError("MetricsInvalid", f"{name} is not JSON: write an object of numbers") from error
    if not isinstance(found, dict) or not 0 < len(found) <= _MAX_METRICS:
        raise TaskError("MetricsInvalid", f"{name} has to hold an object of 1 to {_MAX_METRICS} numbers")
    for key, value in found.items():
        _check_metric(name, key, value)
    for key in task.metrics:
        if key not in found:
            raise TaskError("MetricMissing", f"evaluation.metrics has {key}, which {name} lacks: let it be written")
    wanted = [*task.metrics, *sorted(set(found) - set(task.metrics))]
    return tuple(Metric(key, decimal(float(found[key]))) for key in wanted)


def _check_metric(file: str, key: str, value: Any) -> None:
    if not _NAME.fullmatch(key):
        raise TaskError(
            "MetricsInvalid",
            f"{file}: a name is not of at most 64 small letters, digits and underscores, with a letter first",
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TaskError("MetricsInvalid", f"{file}: {key} is no number")
    if not _is_sane(value):
        raise TaskError("MetricUndefined", f"{file}: {key} is not finite: it says nothing of the model")


def _is_sane(value: float) -> bool:
    """Whether it is finite, and its decimal fits a status."""
    return abs(value) < 1e30 and math.isfinite(value)


def _table(path: Path) -> pa.Table:
    return pyarrow.parquet.read_table(path, use_threads=False, partitioning=None)


def _frames(names: list[str], *tables: pa.Table) -> tuple[dict[str, str], list[pd.DataFrame]]:
    types = types_of(tables[0].schema)
    kinds = {name: types[name] for name in names}
    return kinds, [data.features_of(table, kinds) for table in tables]


def _onnx(file: Path, names: list[str], train: pa.Table, test: pa.Table, truth: Any, values: tuple[str, ...]) -> _Made:
    types, (trained, tested) = _frames(names, train, test)
    model, manifest, answers = own_onnx(file, types, tested, missing=False)
    profile = profiling.of_answers(tested, types, answers, manifest.outputs[0].datatype)
    profile = msgspec.structs.replace(profile, rows=len(trained), features=profiling.features_of(trained, types))
    if not manifest.classes:
        found = dict(zip((output.name for output in manifest.outputs), answers, strict=True))
        classes = next((one for one in (decided(model), values) if one and outputs.are_of(one, found, truth)), ())
        manifest = msgspec.structs.replace(manifest, classes=classes)
    return _Made({artifact.ONNX: model}, manifest, profile, tested, _asking(model, types, manifest))


def _values(target: str, kind: str, *tables: pa.Table) -> tuple[str, ...]:
    """The target's values in all rows, sorted: its classes, unless the model names others; none where it is a number.

    Test rows alone may lack one that the model has learned.
    """
    found = pa.chunked_array([chunk for table in tables for chunk in table.column(target).chunks])
    values = found.unique().drop_null().to_pylist()
    if kind == "Float" or not 1 < len(values) <= _MAX_CLASSES:
        return ()
    return tuple(str(value if kind == "String" else int(value)) for value in sorted(values))


def _asking(model: bytes, types: dict[str, str], manifest: Manifest) -> Ask:
    """Asks an ONNX model, as a server that has this manifest does."""
    session = conversion.start(model)
    names = [output.name for output in manifest.outputs]

    def ask(rows: pd.DataFrame, truth: Any) -> Predicted:
        answers = session.run(None, feeds(manifest.inputs, types, rows))
        return outputs.answered(dict(zip(names, answers, strict=True)), manifest.classes, truth)

    return ask


def _skops(file: Path, names: list[str], train: pa.Table, test: pa.Table) -> _Made:
    wrapped, taken, notes = packing.opened_skops(file, names)
    types, (trained, tested) = _frames(taken, train, test)
    try:
        expected = conversion.expect(wrapped, tested)
        spread = 1.0 if is_classifier(wrapped) else float(np.std(expected[0]))
        rows = pd.concat([tested, trained.head(conversion.MAX_TRAIN_ROWS)])
        made = artifacts.served(wrapped, types, rows, spread)
    except artifacts.NotServableError as error:
        raise TaskError("ModelNotPortable", f"the model {error}") from error
    except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
        shown = redacted(" ".join(str(error).split()), known_numbers(wrapped, tested))[:200]
        raise TaskError(
            "ModelRefusesRows", f"{file.name} cannot predict the test rows ({type(error).__name__}): {shown}"
        ) from error
    profile = profiling.profile(wrapped, trained, types, expected)
    manifest = msgspec.structs.replace(made.manifest, notes=(*notes, *made.manifest.notes))
    return _Made(made.files, manifest, profile, tested, made.ask)


def _truth(test: pa.Table, target: str, kind: str) -> Any:
    """The target as the frozen rows have it: whole numbers and text are labels, other numbers are numbers."""
    return data.target_of(test, target, classifier=kind != "Float")
