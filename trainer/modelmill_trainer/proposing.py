"""Proposals: the parameters of an Experiment's next trials, by what came of those before, by Optuna.

Nothing is remembered between two pods: the task has every trial, and the seed of a batch is that of the search and the
number of its first trial.  So the same trials give the same proposals, whoever asks.
"""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from modelmill_contracts import report, space
from modelmill_contracts.report import Report
from modelmill_contracts.space import Dimension
from modelmill_contracts.task import ProposalTask, TrialOutcome
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase

_SIGMA = 0.3  # of CMA-ES at first, in units of a range


def propose(task: ProposalTask) -> Report:
    """Choose the batch; TaskError where the algorithm is not known."""
    algorithms = {"TPE": _tpe, "CMAES": _cma}
    if task.algorithm not in algorithms:
        raise TaskError("AlgorithmUnknown", f"there is no algorithm {task.algorithm}; do the images fit together?")
    with phase("propose", algorithm=task.algorithm, first=task.first, count=task.count):
        chosen = algorithms[task.algorithm](task)
    rows = tuple(tuple(one.get(dimension.name) for dimension in task.space) for one in chosen)
    said = f"{len(rows)} trials from {task.first} on, by {task.algorithm}"
    answer = Report(True, "Proposed", said, result=report.ProposalResult(task.first, rows))
    try:
        report.encode(answer)
    except ValueError as error:
        raise TaskError("ProposalTooLarge", _too_large(len(rows))) from error
    return answer


def _too_large(trials: int) -> str:
    return (
        f"the values of {'a trial' if trials == 1 else f'{trials} trials'} have no room in a report of {report.LIMIT}"
        " bytes: give spec.parameters[].categorical shorter texts, or use spec.search.algorithm Random, Grid or"
        " SuccessiveHalving"
    )


def _seed(task: ProposalTask) -> int:
    return int(space.chance(task.seed, task.first, task.algorithm) * 2**32)


def _tpe(task: ProposalTask) -> list[dict[str, str]]:
    """Trials that run beside each other count as bad ones, so that the next is not put beside them (constant liar)."""
    import optuna  # noqa: PLC0415 - of all tasks only this one needs it
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415

    optuna.logging.set_verbosity(logging.ERROR)
    states = {
        "Succeeded": TrialState.COMPLETE,
        "Stopped": TrialState.PRUNED,
        # What fails is to be kept away from, and a failed trial would be as if it had never been.
        "Failed": TrialState.PRUNED,
        "Running": TrialState.RUNNING,
    }
    distributions = {dimension.name: _distribution(dimension) for dimension in task.space}

    def known(outcome: TrialOutcome) -> Any:
        values = {d.name: _known(d, t, distributions[d.name]) for d, t in _chosen(task, outcome)}
        so_far = {outcome.folds: outcome.value} if outcome.state == "Stopped" and outcome.value is not None else {}
        return create_trial(
            state=states[outcome.state],
            params=values,
            distributions={name: distributions[name] for name in values},
            value=outcome.value if outcome.state == "Succeeded" else None,
            intermediate_values=so_far,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these options are called experimental
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=0, multivariate=True, group=True, constant_liar=True, seed=_seed(task)
        )
        study = optuna.create_study(direction="maximize" if task.maximize else "minimize", sampler=sampler)
        study.add_trials([known(outcome) for outcome in task.trials])
        return [_asked(study.ask(), task, distributions) for _ in range(task.count)]


def _asked(trial: Any, task: ProposalTask, distributions: Mapping[str, Any]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for dimension in task.space:
        if space.active(dimension, chosen):
            value = _suggest(trial, dimension, distributions[dimension.name])
            chosen[dimension.name] = value if dimension.choices else dimension.text(value)
    return chosen


def _suggest(trial: Any, dimension: Dimension, distribution: Any) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(dimension.name, distribution.choices)
    suggest = trial.suggest_int if dimension.whole else trial.suggest_float
    step = {} if distribution.step is None else {"step": distribution.step}
    return suggest(dimension.name, distribution.low, distribution.high, log=distribution.log, **step)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions  # noqa: PLC0415

    if dimension.choices:
        return distributions.CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is not None:  # Optuna warns of a range that its steps do not fill; in decimals, as it counts them
        high = float(Decimal(str(low)) + Decimal(str(step)) * ((dimension.count or 1) - 1))
    if dimension.whole:
        return distributions.IntDistribution(int(low), int(high), dimension.log, int(step or 1))
    return distributions.FloatDistribution(low, high, dimension.log, step)


def _known(dimension: Dimension, text: str, distribution: Any) -> Any:
    """A value as Optuna has it: six digits may lie beside the steps of a range, and Optuna takes nothing else."""
    if dimension.choices:
        return text
    value = json.loads(text)
    if dimension.whole or distribution.step is None:
        return value
    low, step = distribution.low, distribution.step
    return min(low + step * round((value - low) / step), distribution.high)


def _chosen(task: ProposalTask, outcome: TrialOutcome) -> list[tuple[Dimension, str]]:
    return [(d, text) for d, text in zip(task.space, outcome.values, strict=True) if text is not None]


def _cma(task: ProposalTask) -> list[dict[str, str]]:
    """CMA-ES over the numbers, each range scaled to 0..1; what else there is, is at random.

    A generation is told when all its trials have a result, in their order.  One that failed or stopped is as bad as the
    worst of its generation.
    """
    from cmaes import CMA  # noqa: PLC0415

    numbers = [dimension for dimension in task.space if not dimension.choices]
    if len(numbers) == 1:  # the covariance of one number is none: it is done beside one that has no meaning
        numbers = [*numbers, Dimension("", low=0.0, high=1.0)]
    bounds = np.array([[0.0, 1.0]] * len(numbers))
    optimizer = CMA(mean=np.full(len(numbers), 0.5), sigma=_SIGMA, bounds=bounds, seed=_seed(task))
    ended = [outcome for outcome in task.trials if outcome.state != "Running"]
    size = optimizer.population_size
    for start in range(0, len(ended) - size + 1, size):
        _tell(optimizer, task, numbers, ended[start : start + size])
    optimizer.reseed_rng(_seed(task))
    found = []
    for index in range(task.count):
        point = dict(zip((d.name for d in numbers), optimizer.ask(), strict=True))
        drawn = dict(space.at_random(task.space, task.seed, task.first + index))
        chosen: dict[str, str] = {}
        for dimension in task.space:
            if space.active(dimension, chosen):
                choice = drawn.get(dimension.name, dimension.choices[0] if dimension.choices else "")
                chosen[dimension.name] = (
                    choice if dimension.choices else dimension.at(_below_one(point[dimension.name]))
                )
        found.append(chosen)
    return found


def _tell(optimizer: Any, task: ProposalTask, numbers: Sequence[Dimension], generation: list[TrialOutcome]) -> None:
    sign = -1.0 if task.maximize else 1.0
    losses = [sign * o.value if o.state == "Succeeded" and o.value is not None else None for o in generation]
    known = [loss for loss in losses if loss is not None]
    if not known:
        return  # nothing is learned of it
    told = []
    for outcome, loss in zip(generation, losses, strict=True):
        values = {dimension.name: text for dimension, text in _chosen(task, outcome)}
        point = np.array([_share(d, json.loads(values[d.name])) if d.name in values else 0.5 for d in numbers])
        told.append((point, max(known) if loss is None else loss))
    optimizer.tell(told)


def _share(dimension: Dimension, value: float) -> float:
    """Where in its range the value lies, from 0 to 1: what `Dimension.at` makes of it is the value."""
    room = 0.5 if dimension.whole and dimension.log else 0.0
    low, high = dimension.low - room, dimension.high + room
    if dimension.log:
        return float(np.log(value / low) / np.log(high / low))
    if dimension.count is None:
        return float((value - low) / (high - low)) if high > low else 0.5
    step = 1.0 if dimension.step is None else dimension.step
    return float(((value - low) / step + 0.5) / dimension.count)


def _below_one(share: float) -> float:
    return float(min(max(share, 0.0), 1.0 - 1e-12))
