"""Search: what a trial's parameters are and when it is hopeless, from the seed and the results of other trials alone.

    Grid, Random, SuccessiveHalving, the first trials of TPE   chosen here
    TPE, CMAES                                                 chosen by a pod, a batch at a time (proposing.py)

A batch that begins with trial s is chosen by the results of trials 1 to s - parallel, and so is when each of its trials
stops.  Whatever else has ended by then has no part in it: who does it again, or elsewhere, gets the same trials.
"""

import copy
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any

from modelmill.api.experiment import MAX_TRIALS, ExperimentSpec, Objective, Parameter
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report
from modelmill_contracts import space as spaces
from modelmill_contracts.evaluation import CLASSIFIER_METRICS, LOSSES, REGRESSOR_METRICS
from modelmill_contracts.space import Dimension, Space, Values

STARTUP = 10  # of TPE: so many trials are at random before it looks at any
_MODELS = ("TPE", "CMAES")
_ROOM = 3000  # characters of a report, for a batch
_VALUE = 14  # characters of a value in it, about
_AT_MOST = report.LIMIT - 256  # bytes that a batch may take where its values are the longest; the rest is around it
_DIGITS = 12  # of a number, at most, but for the ends of its range: -1.23457e-05
_HALVING = 3  # the best of so many go on
_RUNGS = (1, 3, 9)  # folds
_ENOUGH = 5  # trials, for a median
_COLUMNS = "columns"  # as a scikit-learn Pipeline of ours calls the groups of columns
_WORDS = {"None": None, "true": True, "True": True, "false": False, "False": False}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def space_of(spec: ExperimentSpec) -> Space:
    """The declared parameters."""
    return tuple(map(_dimension, spec.parameters))


def _dimension(declared: Parameter) -> Dimension:
    name = str(declared.param or declared.env)
    when = (declared.when.param, json.dumps(declared.when.equals)) if declared.when is not None else None
    if declared.integer is not None:
        whole = declared.integer
        step = None if whole.log else float(whole.step)
        return Dimension(name, True, whole.min, whole.max, step, whole.log, when=when)
    if declared.float_ is not None:
        real = declared.float_
        step = float(real.step) if real.step is not None else None
        return Dimension(name, False, float(real.min), float(real.max), step, real.log, when=when)
    return Dimension(name, choices=tuple(json.dumps(choice) for choice in declared.categorical or ()), when=when)


def wrong(spec: ExperimentSpec) -> tuple[str, str] | None:
    """What is wrong that the schema cannot see, reason and message; None: nothing, as far as the spec tells."""
    # What a container of the user's calls so is its own.
    objective = _wrong_objective(spec.objective) if spec.template.spec.estimator is not None else None
    if objective is not None:
        return "ObjectiveInvalid", objective
    parameters = _wrong_parameters(spec)
    if parameters is None:
        return None
    return "ParameterInvalid", f"{parameters}; parameters cannot be edited: make another Experiment"


def _wrong_objective(objective: Objective) -> str | None:
    metric, known = objective.metric, (*CLASSIFIER_METRICS, *REGRESSOR_METRICS)
    if metric not in known:
        return (
            f"spec.objective.metric: {metric} is not measured of an estimator; make another Experiment with one of"
            f" {', '.join(known)}"
        )
    better, less = ("Minimize", "less") if metric in LOSSES else ("Maximize", "more")
    if objective.direction == better:
        return None
    by_default = ", as it is where it is left out" if objective.direction == "Maximize" else ""
    return (
        f"spec.objective: {less} of {metric} is better, and direction is {objective.direction}{by_default}: the search"
        f" would end with its worst trial; make another Experiment with direction: {better}"
    )


def _wrong_parameters(spec: ExperimentSpec) -> str | None:
    before: dict[str, tuple[str, ...]] = {}
    names: set[str] = set()
    template = spec.template.spec.model_dump(by_alias=True)
    for number, declared in enumerate(spec.parameters):
        field, name = f"spec.parameters[{number}]", str(declared.param or declared.env)
        if name in names:
            return f"{field}: {name} is named twice"
        names.add(name)
        if declared.when is not None:
            known = before.get(declared.when.param)
            if known is None or json.dumps(declared.when.equals) not in known:
                return (
                    f"{field} ({name}): when must name a parameter that stands before it and has categorical, and one"
                    f" of its values; {declared.when.param} has {', '.join(map(plain, known or ())) or 'none'} there"
                )
        if declared.categorical is not None:
            before[name] = tuple(json.dumps(choice) for choice in declared.categorical)
        if declared.param is not None and _step(template, declared.param) is None:
            return f"{field}: {name} names no step of the template; {_known_steps(spec)}"
    return None


def _known_steps(spec: ExperimentSpec) -> str:
    declared = spec.template.spec.estimator
    if declared is None:
        return "it has a container"
    steps = [f"{step.name}__" for step in declared.steps]
    steps += [f"{_COLUMNS}__{group.name}__{step.name}__" for group in declared.columns for step in group.steps]
    return f"names begin with {' or '.join(steps)}, and the class's own parameter follows"


def _step(template: Manifest, param: str) -> tuple[dict[str, Any], str] | None:
    """The step that a parameter is of, and its own name there."""
    parts = param.split("__")
    steps = dig(template, "estimator", "steps") or ()
    if parts[0] == _COLUMNS and len(parts) >= 4:
        groups = dig(template, "estimator", "columns") or ()
        steps = next((group["steps"] for group in groups if group["name"] == parts[1]), ())
        parts = parts[2:]
    step = next((step for step in steps if step["name"] == parts[0]), None)
    if step is None or len(parts) < 2:
        return None
    return step, "__".join(parts[1:])


def values_of(space: Space, trial: Manifest) -> Values:
    """The parameters that stand in a trial's spec."""
    spec = trial["spec"]
    chosen: dict[str, str] = {}
    if "container" in spec:
        env = {variable["name"]: variable["value"] for variable in dig(spec, "container", "env") or ()}
        for dimension in space:
            if spaces.active(dimension, chosen) and dimension.name in env:
                chosen[dimension.name] = _of_variable(dimension, env[dimension.name])
        return tuple(chosen.items())
    for dimension in space:
        found = _step(spec, dimension.name) if spaces.active(dimension, chosen) else None
        if found is not None and found[1] in found[0].get("params", {}):
            chosen[dimension.name] = _of_param(dimension, found[0]["params"][found[1]])
    return tuple(chosen.items())


def _of_param(dimension: Dimension, value: Any) -> str:
    if not dimension.choices:
        return dimension.text(float(value))  # the API server writes 2.0 as 2
    return next((choice for choice in dimension.choices if _is(_declared(choice), value)), json.dumps(str(value)))


def _is(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _of_variable(dimension: Dimension, value: str) -> str:
    if dimension.choices:
        return next((choice for choice in dimension.choices if plain(choice) == value), json.dumps(value))
    return dimension.text(float(value))


def with_values(template: Manifest, values: Values) -> dict[str, Any]:
    """The template's spec with these parameters."""
    spec: dict[str, Any] = copy.deepcopy(dict(template))
    if "container" in spec:
        env = {variable["name"]: variable for variable in spec["container"].get("env", ())}
        env |= {name: {"name": name, "value": plain(text)} for name, text in values}
        spec["container"]["env"] = list(env.values())
        return spec
    for name, text in values:
        found = _step(spec, name)
        if found is not None:
            found[0].setdefault("params", {})[found[1]] = _declared(text)
    return spec


def _declared(text: str) -> Any:
    """A value as a parameter is declared: 1.0 in quotes, as the API server would write 1: another thing, maybe."""
    value = _meant(text)
    return str(value) if isinstance(value, float) and value.is_integer() else value


def _meant(text: str) -> Any:
    """A value as a parameter has it: what is written as None, true, false or a number in a choice means that."""
    value = json.loads(text)
    if not isinstance(value, str):
        return value
    if value in _WORDS:
        return _WORDS[value]
    number = json.loads(value) if _NUMBER.fullmatch(value) else value
    return value if number in (math.inf, -math.inf) else number  # JSON has no such number


def plain(text: str) -> str:
    """A value as people write it: text without its quotes."""
    value = json.loads(text)
    return value if isinstance(value, str) else text


def short(values: Values) -> str:
    """All parameters in one line, in 512 characters at most; a step's name is left out where there is but one."""
    steps = {name.rpartition("__")[0] for name, _ in values}
    shown = ((name.rpartition("__")[2] if len(steps) == 1 else name, plain(text)) for name, text in values)
    line = ", ".join(f"{name}={text}" for name, text in shown)
    return line if len(line) <= 512 else f"{line[:508]} ..."


def batch_size(space: Space, parallel: int) -> int:
    """How many trials a pod chooses at once: as many as run beside each other, if a report has room for them."""
    return max(1, min(parallel, _ROOM // (_VALUE * len(space)), _AT_MOST // _longest_row(space)))


@lru_cache(maxsize=1024)
def _longest_row(space: Space) -> int:
    """Bytes of the longest trial in a report, of the brackets and commas, too."""
    return 3 + sum(map(_longest_value, space))


def _longest_value(dimension: Dimension) -> int:
    ends = (dimension.text(dimension.low), dimension.text(dimension.high))
    texts = dimension.choices or (*ends, "" if dimension.whole else "-" * _DIGITS)
    found = max(len(json.dumps(text)) for text in texts)  # a JSON text in JSON: with each quote escaped
    return 1 + max(found, len("null") if dimension.when is not None else 0)


def batch_of(number: int, algorithm: str, size: int) -> int:
    """The first trial of the batch that trial `number` is chosen with."""
    first = STARTUP if algorithm == "TPE" else 0
    if algorithm not in _MODELS or number <= first:
        return number
    return first + (number - first - 1) // size * size + 1


def by_a_pod(number: int, algorithm: str) -> bool:
    """Whether a pod chooses that trial."""
    return algorithm == "CMAES" or (algorithm == "TPE" and number > STARTUP)


def chosen_here(space: Space, algorithm: str, seed: int, number: int) -> Values | None:
    """The parameters of a trial that no pod chooses; None: the grid has no such trial."""
    if algorithm != "Grid":
        return spaces.at_random(space, seed, number)
    points = _grid(space)
    return points[number - 1] if number <= len(points) else None


@lru_cache(maxsize=8)  # of 2 MB each, at most
def _grid(space: Space) -> tuple[Values, ...]:
    return tuple(islice(spaces.grid(space), MAX_TRIALS))


@lru_cache(maxsize=1024)
def points(space: Space, algorithm: str) -> int:
    """How many trials there can be."""
    return len(_grid(space)) if algorithm == "Grid" else MAX_TRIALS


def stops(spec_algorithm: str, early_stopping: str) -> bool:
    """Whether trials are stopped by the results of others."""
    return spec_algorithm == "SuccessiveHalving" or early_stopping == "Median"


def bounds(algorithm: str, others: Sequence[tuple[float, ...]], folds: int, *, maximize: bool) -> dict[int, float]:
    """What a trial must have after so many folds to go on, given the values per fold of others.

    Successive halving (Li et al. 2020, asynchronous): it is in the best third of those that came as far.  The median
    rule (Golovin et al. 2017): it is no worse than the median of their means.
    """
    found = {}
    halving = algorithm == "SuccessiveHalving"
    for after in _RUNGS if halving else range(1, folds):
        means = sorted((statistics.fmean(o[:after]) for o in others if len(o) >= after), reverse=maximize)
        if after >= folds or len(means) < (_HALVING if halving else _ENOUGH):
            continue
        found[after] = means[math.ceil(len(means) / _HALVING) - 1] if halving else statistics.median(means)
    return found


def decimal(value: float) -> str:
    """A decimal without exponent, of six significant digits."""
    return format(Decimal(f"{value:.6g}"), "f")


def repeated(values: Values, before: Mapping[Values, str]) -> str | None:
    """The earlier trial with the same parameters: what it made need not be made again."""
    return before.get(values)
