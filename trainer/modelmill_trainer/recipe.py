"""The recipe: everything that decides a model's bytes, and nothing else (so not where the store is)."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from modelmill_contracts import __version__
from modelmill_contracts.task import AnyTraining, Evaluation, OwnTrainingTask, Split, TrainingTask
from modelmill_trainer import pins

_FORMAT = "modelmill.dev/recipe/v1"
_LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "pyarrow", "skl2onnx", "onnx", "onnxruntime", "skops")


def libraries(packages: Sequence[str]) -> dict[str, str]:
    """Versions of what takes part in a training, the packages that classes may come from included."""
    found = {"modelmill": __version__, "python": platform.python_version()}
    for name in (*_LIBRARIES, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # sklearn is the module of the distribution scikit-learn
    return dict(sorted(found.items()))


def recipe(
    task: TrainingTask, features: Sequence[str], metrics: Sequence[str], pinned: Mapping[str, str]
) -> dict[str, Any]:
    """The recipe of a task whose defaults are resolved.  The snapshot is named by content, not by file."""
    evaluation = {"evaluation": msgspec.to_builtins(task.evaluation)} if task.evaluation != Evaluation() else {}
    trains = {"estimator": msgspec.to_builtins(task.estimator)}
    return _recipe(task, trains, evaluation, features, metrics, pinned, task.packages)


def own_recipe(
    task: OwnTrainingTask,
    features: Sequence[str],
    metrics: Sequence[str],
    pinned: Mapping[str, str],
    workers: int = 1,
) -> dict[str, Any]:
    """The recipe of a container's training in so many pods; `pinned` is of what converts and compares here.

    What software the container has is its image's matter.  What it is told of the others is not: each may train on its
    share of the rows.
    """
    trains = {"container": msgspec.to_builtins(task.container), **({"workers": workers} if workers > 1 else {})}
    sliced = {"evaluation": {"slices": list(task.slices)}} if task.slices else {}
    return _recipe(task, trains, sliced, features, metrics, pinned, ())


def _recipe(
    task: AnyTraining,
    trains: dict[str, Any],
    evaluation: dict[str, Any],
    features: Sequence[str],
    metrics: Sequence[str],
    pinned: Mapping[str, str],
    packages: Sequence[str],
) -> dict[str, Any]:
    """What both kinds say, in this order: manifests have it as it is."""
    return {
        "format": _FORMAT,
        "data": _data(task, features),
        **trains,
        "seed": task.seed,
        "metrics": list(metrics),
        **evaluation,
        "image": task.image,
        "libraries": libraries(packages),
        "architecture": pins.architecture(),
        "pins": dict(pinned),
    }


def _data(task: AnyTraining, features: Sequence[str]) -> dict[str, Any]:
    return {
        "version": task.version,
        "target": task.target,
        "features": list(features),
        "split": _split(task.split),
    }


def _split(split: Split) -> dict[str, Any]:
    """What a recipe says of the split: only what is declared, so that recipes stay as they were."""
    by = {"group": split.group, "time": split.time}
    return {"test": split.test, "stratify": split.stratify, **{way: column for way, column in by.items() if column}}
