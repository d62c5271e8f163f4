"""Facts: what is known of a trained model, in plain words.

card.md and report.html say the same of a model, each in its own form: what they say is here, and comes from the
manifest, the evaluation and the rows alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from modelmill_contracts import digest
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.evaluation import Calibration, Evaluation, Importance
from modelmill_trainer import data_profile, drift, folds
from modelmill_trainer.data_profile import DataProfile

_LISTED = 20  # names of columns in a sentence
_VALUE = 200  # characters of a parameter

LIMITS = (
    "The quality holds for data like the training's; profile.json has its distribution.",
    "Numbers are rounded to 32 bits, in training as in serving.",
)
TESTS = (
    "Where a Model takes it as a version, its tests run after this was written, in the server that serves it:"
    " status.tests of the ModelVersion has their answers (kubectl get mver NAME -o yaml), status.approval who approved"
    " it."
)


class Rows(NamedTuple):
    """How the features are distributed in the rows that were trained on, and in those that were tested on."""

    train: DataProfile
    test: DataProfile
    effects: dict[str, float]  # of each feature: how far it is distributed otherwise in the test rows


class Facts(NamedTuple):
    manifest: Manifest
    evaluation: Evaluation
    rows: Rows


class Quality(NamedTuple):
    """A metric: on the test rows, and over the folds of a cross-validation if there was one."""

    name: str
    value: str
    mean: str = ""
    stddev: str = ""


def rows_of(table: pa.Table, types: Mapping[str, str], train: Any, test: Any) -> Rows:
    """Of the columns that `types` names; `train` and `test` are row positions in the table."""
    trained, _ = data_profile.of_rows(table, types, train)
    tested, sample = data_profile.of_rows(table, types, test)
    return Rows(trained, tested, drift.effects(trained, sample))


def target(facts: Facts) -> str:
    name: str = facts.manifest.recipe["data"]["target"]
    return name


def kind(facts: Facts) -> str:
    """What is predicted."""
    found = facts.evaluation.confusion
    classes = len(facts.manifest.classes) or (len(found.classes) if found else 0)
    if classes:
        return f"one of {classes} classes"
    return "a number" if facts.manifest.outputs[0].datatype.startswith("FP") else "a label"


def measured(facts: Facts) -> str:
    """Who measured the quality, and on what."""
    if "container" in facts.manifest.recipe:
        return f"As the container measured it; it was given {facts.evaluation.rows} rows to test on."
    return f"Measured on {facts.evaluation.rows} rows that the training did not see."


def quality(facts: Facts) -> list[Quality]:
    names = list(facts.evaluation.metrics)
    spread = {metric.name: metric for metric in folds.summary(facts.evaluation.folds, names)}
    return [
        Quality(name, value, spread[name].value, spread[name].stddev or "") if spread else Quality(name, value)
        for name, value in facts.evaluation.metrics.items()
    ]


def training(facts: Facts) -> list[tuple[str, str]]:
    """How it was made: a word for each thing, and the thing."""
    recipe = facts.manifest.recipe
    data = recipe["data"]
    found = [
        ("data", f"version {data['version']}, {facts.rows.train.rows} rows for training"),
        ("split", f"test {data['split']['test']}{_way(data['split'])}"),
        ("seed", str(recipe["seed"])),
    ]
    if "container" in recipe:
        container = recipe["container"]
        command = (*container.get("command", ()), *container.get("args", ()))
        found += [("container", container["image"]), ("command", _cut(" ".join(command)) or "the image's own")]
    else:
        estimator = recipe["estimator"]
        for group in estimator.get("columns", ()):
            found.append((f"columns {group['name']}", f"{_chain(group['steps'])} on {listed(group['select'])}"))
        found.append(("estimator", _chain(estimator["steps"])))
    if recipe["image"]:
        found.append(("trainer", recipe["image"]))
    pins = "".join(f", {name}={value}" for name, value in recipe.get("pins", {}).items())
    return [
        *found,
        ("with", ", ".join(f"{name} {version}" for name, version in facts.manifest.libraries.items())),
        ("on", recipe["architecture"] + pins),
        ("recipe", digest.of_json(recipe)),
    ]


def serving(manifest: Manifest) -> list[str]:
    """How it is served, and what people have to know of it."""
    found, agrees = manifest.conversion, list[str]()
    if found is not None:
        agrees.append(
            f"the ONNX model agrees with scikit-learn on {found.rows} rows: {found.label_differences} labels differ,"
            f" the largest difference is {found.max_difference:g} (allowed {found.tolerance:g})"
        )
    return [f"runtime: {manifest.runtime}", *agrees, *manifest.notes]


def of_calibration(calibration: Calibration, classes: Sequence[str]) -> str:
    """What the diagram compares."""
    what = {
        "Positive": f"the predicted probability of class {''.join(classes[-1:])}, and the share of rows that are of it",
        "Confidence": "the highest predicted probability, and the share of rows that are of that class",
        "Number": "the predicted number, and the mean of the target",
    }[calibration.of]
    error = "" if calibration.error is None else f". Expected calibration error: {calibration.error:g}"
    return f"In bins of test rows: {what}{error}."


def of_importance(importance: Importance, features: int) -> str:
    """How it was measured, and what it does not say."""
    asked = len(importance.features)
    some = f" Of {features} features the first {asked} were asked." if features > asked else ""
    return (
        f"How much worse {importance.metric} ({importance.value:g}) gets on {importance.rows} frozen rows when the"
        f" feature's values are shuffled: mean and standard deviation of {importance.repeats} times. Features that tell"
        f" the same hide each other, and nothing is said of causes.{some}"
    )


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _way(split: Mapping[str, Any]) -> str:
    if "group" in split:
        return f", whole groups of {split['group']}"
    if "time" in split:
        return f", the newest by {split['time']}"
    return ", stratified" if split["stratify"] else ""


def _chain(steps: Sequence[Mapping[str, Any]]) -> str:
    """The classes of a pipeline with the parameters that were set."""
    return " -> ".join(f"{step['class'].rpartition('.')[2]}{_set(step.get('params', {}))}" for step in steps) or (
        "passed through"
    )


def _set(params: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name}={_cut(msgspec.json.encode(value).decode())}" for name, value in params.items())
    return f"({shown})" if shown else ""


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE else f"{text[:_VALUE]}..."
