"""Pipelines: a declared estimator to a scikit-learn Pipeline, checked before it sees data.

`steps` become a Pipeline; `columns` become a ColumnTransformer in front of it, whose groups select columns by
their position among the features.  Positions, because a server sends numbers without names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from modelmill_contracts.task import ColumnGroup, Estimator, Step
from modelmill_trainer import classes, parameters
from modelmill_trainer.failure import TaskError

COLUMNS_STEP = "columns"


def build(declared: Estimator, features: Sequence[str], seed: int, packages: Sequence[str]) -> Pipeline:
    """The unfitted pipeline over `features`, every random_state set; TaskError where the declaration is wrong."""
    if not declared.steps:
        raise TaskError("EstimatorInvalid", "estimator.steps is empty: its last step must be a classifier or regressor")
    _check_names([step.name for step in declared.steps], "estimator.steps", bool(declared.columns))
    made = [
        (step.name, _make(step, f"estimator.steps[{step.name}]", packages, last=step is declared.steps[-1]))
        for step in declared.steps
    ]
    if declared.columns:
        made.insert(0, (COLUMNS_STEP, _columns(declared, features, packages, made[-1][1])))
    pipeline = Pipeline(made)
    parameters.seed(pipeline, seed, "")
    return pipeline


def selected(declared: Estimator) -> list[str]:
    """The columns that the groups select, each once, in their order."""
    return list(dict.fromkeys(name for group in declared.columns for name in group.select))


def set_jobs(pipeline: Pipeline) -> None:
    """One thread for what follows: with more, forests sum their votes in whatever order the threads end."""
    jobs = [name for name in pipeline.get_params(deep=True) if name == "n_jobs" or name.endswith("__n_jobs")]
    pipeline.set_params(**dict.fromkeys(jobs, 1))


def use_integer_labels(pipeline: Pipeline) -> None:
    """JSON has only text as keys: class_weight {"0": 1} means the label 0 where labels are integers."""
    last = pipeline.steps[-1][1]
    weights = last.get_params(deep=False).get("class_weight")
    if isinstance(weights, Mapping):
        last.set_params(class_weight={_integer(key): value for key, value in weights.items()})


def encodes_text(declared_group: Any) -> bool:
    """Whether a group's fitted or unfitted transformer has a step that takes text."""
    steps = [step for _, step in declared_group.steps] if isinstance(declared_group, Pipeline) else [declared_group]
    return any(
        isinstance(step, BaseEstimator)
        and (step.__sklearn_tags__().input_tags.categorical or step.__sklearn_tags__().input_tags.string)
        for step in steps
    )


def _integer(key: Any) -> Any:
    try:
        return int(key)
    except (TypeError, ValueError):
        return key


def _make(step: Step, field: str, packages: Sequence[str], *, last: bool) -> BaseEstimator:
    cls = classes.resolve(step.class_, packages, f"{field}.class")
    estimator = parameters.make(cls, step.params, field)
    if last and not (is_classifier(estimator) or is_regressor(estimator)):
        raise TaskError(
            "EstimatorInvalid", f"{field}: {step.class_} is the last step, and must be a classifier or a regressor"
        )
    if not last and not hasattr(estimator, "transform"):
        raise TaskError("EstimatorInvalid", f"{field}: {step.class_} is not the last step, and must be a transformer")
    return estimator


def _columns(
    declared: Estimator, features: Sequence[str], packages: Sequence[str], predictor: BaseEstimator
) -> ColumnTransformer:
    _check_names([group.name for group in declared.columns], "estimator.columns", False)
    unused = [name for name in features if name not in selected(declared)]
    if unused:
        raise TaskError(
            "FeatureUnused",
            f"data.features has {unused[0]!r}, which no group of estimator.columns selects: add it to a group, or take"
            " it out of data.features",
        )
    groups = [_group(group, features, packages) for group in declared.columns]
    # scikit-learn gives a sparse matrix where few values are not zero; not every predictor takes one.
    density = 0.3 if predictor.__sklearn_tags__().input_tags.sparse else 0.0
    return ColumnTransformer(groups, sparse_threshold=density)


def _group(group: ColumnGroup, features: Sequence[str], packages: Sequence[str]) -> tuple[str, Any, Any]:
    field = f"estimator.columns[{group.name}]"
    missing = [name for name in group.select if name not in features]
    if missing:
        raise TaskError(
            "FeatureMissing",
            f"{field}.select has {missing[0]!r}, which is not among the features; add it to data.features",
        )
    _check_names([step.name for step in group.steps], f"{field}.steps", False)
    steps = [(step.name, _make(step, f"{field}.steps[{step.name}]", packages, last=False)) for step in group.steps]
    positions = [features.index(name) for name in group.select]
    if not steps:
        return group.name, "passthrough", positions
    transformer = steps[0][1] if len(steps) == 1 else Pipeline(steps)
    tags = steps[0][1].__sklearn_tags__().input_tags
    if tags.string and not tags.two_d_array:  # text vectorizers take one column, as a list
        if len(positions) != 1:
            raise TaskError("EstimatorInvalid", f"{field}: {group.steps[0].class_} takes one column; select one")
        return group.name, transformer, positions[0]
    return group.name, transformer, positions


def _check_names(names: Sequence[str], field: str, columns: bool) -> None:
    for name in names:
        if not name or "__" in name:
            raise TaskError("EstimatorInvalid", f"{field}: the name {name!r} must not be empty or hold two underscores")
        if names.count(name) > 1:
            raise TaskError("EstimatorInvalid", f"{field}: the name {name!r} occurs twice; names must differ")
        if columns and name == COLUMNS_STEP:
            raise TaskError(
                "EstimatorInvalid", f"{field}: the name {name!r} is taken by estimator.columns; use another"
            )
