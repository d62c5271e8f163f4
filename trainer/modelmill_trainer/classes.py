"""Classes: the name in a manifest to an estimator class, from allowed packages only.

Nothing but the import of a public module of an allowed package is executed to find out what a name means.
"""

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import cast

from sklearn.base import BaseEstimator

from modelmill_trainer.failure import TaskError

_DENIED_PARTS = ("tests", "externals", "conftest", "datasets")  # public by name, but not for estimators


def resolve(name: str, packages: Sequence[str], field: str) -> type[BaseEstimator]:
    """The public estimator class called `name`; TaskError with `field` (where it stands) and the nearest names."""
    module_name, _, class_name = name.rpartition(".")
    parts = name.split(".")
    if not module_name or not all(part.isidentifier() for part in parts):
        raise TaskError(
            "EstimatorUnknown",
            f"{field}: {name!r} is not a class's full name; write it like sklearn.linear_model.LogisticRegression",
        )
    if parts[0] not in packages:
        raise TaskError(
            "EstimatorNotAllowed",
            f"{field}: {name!r} is of package {parts[0]!r}; allowed are {', '.join(packages)}: use one of them, or ask"
            " who runs the platform to add it to the Workspace's allow.estimatorPackages",
        )
    if any(part.startswith("_") or part in _DENIED_PARTS for part in parts):
        raise TaskError("EstimatorUnknown", f"{field}: {name!r} is not public; use the documented name")
    module = _module(module_name, name, field)
    found = getattr(module, class_name, None)
    if found is None or not _is_estimator(found, packages):
        near = difflib.get_close_matches(class_name, _estimators_of(module, packages), n=3, cutoff=0.5)
        hint = (
            f"the nearest are {', '.join(f'{module_name}.{n}' for n in near)}"
            if near
            else "see the package's documentation"
        )
        raise TaskError("EstimatorUnknown", f"{field}: {name!r} is not an estimator class; {hint}")
    return cast("type[BaseEstimator]", found)


def _module(module_name: str, name: str, field: str) -> ModuleType:
    parent, _, last = module_name.rpartition(".")
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        hint = "see the package's documentation"
        try:
            known = getattr(importlib.import_module(parent), "__all__", ()) if parent else ()
        except ImportError:
            known = ()
        near = difflib.get_close_matches(last, [str(entry) for entry in known], n=3, cutoff=0.5)
        if near:
            hint = f"the nearest modules are {', '.join(f'{parent}.{n}' for n in near)}"
        raise TaskError("EstimatorUnknown", f"{field}: {name!r}: there is no module {module_name}; {hint}") from error


def _is_estimator(found: object, packages: Sequence[str]) -> bool:
    return (
        inspect.isclass(found)
        and issubclass(found, BaseEstimator)
        and callable(getattr(found, "fit", None))
        and not inspect.isabstract(found)
        # A module of an allowed package may hold a class that it imported from another one.
        and found.__module__.partition(".")[0] in packages
    )


def _estimators_of(module: ModuleType, packages: Sequence[str]) -> list[str]:
    return [
        name
        for name in dir(module)
        if not name.startswith("_") and _is_estimator(getattr(module, name, None), packages)
    ]
