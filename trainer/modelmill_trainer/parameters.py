"""Parameters: checked against the estimator's own constraints before anything is trained."""

import difflib
import hashlib
import re
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import InvalidParameterError, make_constraint

from modelmill_trainer.failure import TaskError

_SEED = "random_state"
# With these values text vectorizers read the files that the data names: a way to the pod's secrets.
_FILE_READING = ("file", "filename")
# What a package's estimators take besides the arguments that they name: not all, for some name files to read or write.
_UNNAMED = {"lightgbm": ("verbose",)}
# What they do where nothing is declared.  Else LightGBM tells its log of the data, and measures time to choose how it
# sums, which decides the last bits.
_SETTLED: dict[str, dict[str, Any]] = {"lightgbm": {"verbose": -1, "deterministic": True, "force_col_wise": True}}
_OWN = "sklearn"
_REAL = re.compile(r"-?[0-9]+(\.[0-9]+|(\.[0-9]+)?[eE][-+]?[0-9]+)")


def make(cls: type[BaseEstimator], params: dict[str, Any], field: str) -> BaseEstimator:
    """The estimator with `params`; TaskError that names the parameter, and the nearest or allowed ones."""
    try:
        valid = cls().get_params(deep=False)
    except TypeError as error:
        raise TaskError(
            "EstimatorUnknown",
            f"{field}: {cls.__name__} needs another estimator as an argument, which params cannot give",
        ) from error
    package = cls.__module__.partition(".")[0]
    for name in params:
        if name not in valid and name not in _UNNAMED.get(package, ()):
            near = difflib.get_close_matches(name, valid, n=3)
            known = f"the nearest it has: {', '.join(near)}" if near else f"it has {', '.join(sorted(valid))}"
            raise TaskError("ParameterUnknown", f"{field}.params.{name}: {cls.__name__} has no such parameter; {known}")
    if params.get("input") in _FILE_READING:
        raise TaskError(
            "ParameterInvalid", f"{field}.params.input: reading files by name is not allowed; use 'content'"
        )
    settled = _SETTLED.get(package, {})
    if package != _OWN and "n_jobs" in valid and valid["n_jobs"] is None:
        settled = {**settled, "n_jobs": 1}  # scikit-learn's default, and the same bytes; others' is every core
    estimator = cls(**settled | {name: _as_declared(cls, name, value) for name, value in params.items()})
    if not hasattr(cls, "_parameter_constraints"):
        return estimator  # of a package that checks when it fits
    try:
        estimator._validate_params()
    except InvalidParameterError as error:
        raise TaskError("ParameterInvalid", f"{field}.params: {error}") from error
    return estimator


def seed(estimator: BaseEstimator, base: int, path: str) -> None:
    """Give every random_state that the user left open a value derived from the seed and the step's path."""
    states = {
        name: _derived(base, f"{path}/{name}")
        for name, value in estimator.get_params(deep=True).items()
        if (name == _SEED or name.endswith(f"__{_SEED}")) and value is None
    }
    estimator.set_params(**states)


def _derived(base: int, path: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{base}/{path}".encode()).digest()[:4]) >> 1


def _as_declared(cls: type[BaseEstimator], name: str, value: Any) -> Any:
    """JSON has no tuples: a list becomes one where the estimator wants it (feature_range, ngram_range).

    Nor has a custom resource 1.0, which the API server writes as 1: "1.0" is that number where the estimator takes one.
    """
    constraints = getattr(cls, "_parameter_constraints", {}).get(name, ())
    if isinstance(value, str) and _REAL.fullmatch(value):
        return _number(constraints, value)
    if isinstance(value, list) and constraints != "no_validation" and tuple in constraints and list not in constraints:
        return tuple(value)
    return value


def _number(constraints: Any, text: str) -> Any:
    """The number that is meant by a text, where no text is: a real one, or a whole one where only these are taken."""
    if constraints == "no_validation":
        return text
    made = [make_constraint(constraint) for constraint in constraints]
    if not made:
        return float(text)  # of a package that does not tell
    numbers = (float(text), int(float(text))) if float(text).is_integer() else (float(text),)
    for meant in (text, *numbers):
        if any(constraint.is_satisfied_by(meant) for constraint in made):
            return meant
    return text
