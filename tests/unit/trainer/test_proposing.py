"""Proposals: within the space, the same from the same trials, and better than chance."""

import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest

from modelmill_contracts import space as spaces
from modelmill_contracts import task as contract
from modelmill_contracts.space import Dimension, Space
from modelmill_contracts.task import ProposalTask, TrialOutcome
from modelmill_trainer import proposing
from modelmill_trainer.failure import TaskError

MIXED: Space = (
    Dimension("x", low=-5, high=5),
    Dimension("n", whole=True, low=1, high=100, log=True),
    Dimension("kind", choices=('"a"', '"b"')),
    Dimension("only", low=0, high=1, step=0.25, when=("kind", '"b"')),
)
PARALLEL = 4


def rows(task: ProposalTask) -> tuple[tuple[str | None, ...], ...]:
    result = proposing.propose(task).result
    assert result is not None
    return result.trials  # type: ignore[union-attr]


def searched(
    algorithm: str, space: Space, loss: Callable[[dict[str, float]], float], seed: int, trials: int
) -> list[TrialOutcome]:
    """A whole search, in batches that know what ended before those beside them began, as the operator asks for it."""
    found: list[TrialOutcome] = []
    while len(found) < trials:
        first = len(found) + 1
        if algorithm == "Random" or (algorithm == "TPE" and first <= 10):
            drawn = dict(spaces.at_random(space, seed, first))
            batch: tuple[tuple[str | None, ...], ...] = (tuple(drawn.get(d.name) for d in space),)
        else:
            known = tuple(
                outcome if number <= first - PARALLEL else TrialOutcome(outcome.values, "Running")
                for number, outcome in enumerate(found, 1)
            )
            batch = rows(ProposalTask(algorithm, seed, False, space, first, PARALLEL, known))
        for row in batch:
            values = {
                d.name: float(text) for d, text in zip(space, row, strict=True) if text is not None and not d.choices
            }
            found.append(TrialOutcome(row, "Succeeded", loss(values)))
    return found[:trials]


def near(values: dict[str, float]) -> float:
    return (values["x"] - 1) ** 2 + abs(values["n"] - 30) / 30


@pytest.mark.parametrize("algorithm", ["TPE", "CMAES"])
def test_what_is_proposed_lies_in_the_space(algorithm: str) -> None:
    found = searched(algorithm, MIXED, near, 1, 40)
    for outcome in found:
        x, n, kind, only = outcome.values
        assert x is not None
        assert n is not None
        assert -5 <= float(x) <= 5
        assert 1 <= int(n) <= 100
        assert kind in ('"a"', '"b"')
        assert (only is not None) == (kind == '"b"')
        assert only is None or float(only) in (0, 0.25, 0.5, 0.75, 1)
        assert all(len(text) <= 14 for text in (x, n))  # a batch has to fit a report
    half = [o.value for o in found if o.value is not None]
    assert statistics.fmean(half[20:]) < statistics.fmean(half[:20])


def test_values_that_no_report_has_room_for_are_a_failure_that_says_so() -> None:
    texts = tuple(Dimension(f"t{n}", choices=(f'"{"é" * 64}"',)) for n in range(31))
    with pytest.raises(TaskError, match="the values of a trial have no room in a report of 4096 bytes") as failure:
        rows(ProposalTask("CMAES", 1, False, (Dimension("x", low=0, high=1), *texts), 1, 1, ()))
    assert (failure.value.reason, failure.value.retryable) == ("ProposalTooLarge", False)


@pytest.mark.parametrize("algorithm", ["TPE", "CMAES"])
def test_failed_and_stopped_trials_are_learned_of(algorithm: str) -> None:
    space = (Dimension("x", low=0, high=1), Dimension("y", low=0, high=1))
    failed = [TrialOutcome((f"0.{n}", f"0.{n}"), "Failed") for n in range(1, 5)]
    stopped = [TrialOutcome((f"0.{n}", "0.9"), "Stopped", 0.5, 1) for n in range(1, 5)]
    good = [TrialOutcome((f"0.{n}", f"0.{n}"), "Succeeded", n / 10) for n in range(5, 10)]
    proposed = rows(ProposalTask(algorithm, 1, True, space, 14, 2, (*failed, *stopped, *good)))
    assert len(proposed) == 2
    assert len(set(proposed)) == 2  # not beside each other


@pytest.mark.parametrize("algorithm", ["TPE", "CMAES"])
@pytest.mark.parametrize(
    "stepped",
    [Dimension("x", low=0.7, high=0.8, step=0.1), Dimension("x", low=0.05, high=2, step=0.0001234)],
    ids=["0.7 + 0.1 is less than 0.8", "more than six digits"],
)
def test_steps_that_floats_do_not_hit_are_steps(algorithm: str, stepped: Dimension) -> None:
    found = searched(algorithm, (stepped, Dimension("y", low=0, high=1)), lambda v: (v["x"] - 0.8) ** 2 + v["y"], 1, 30)
    assert {o.values[0] for o in found[14:]} <= {stepped.nth(index) for index in range(stepped.count or 0)}
    assert "0.8" in {o.values[0] for o in found} or stepped.count != 2


def test_only_failures_teach_nothing_and_break_nothing() -> None:
    failed = tuple(TrialOutcome(("0.5", "7", '"a"', None), "Failed") for _ in range(12))
    for algorithm in ("TPE", "CMAES"):
        assert len(rows(ProposalTask(algorithm, 1, True, MIXED, 13, 3, failed))) == 3


def test_one_number_is_enough_for_an_evolution_strategy() -> None:
    found = searched("CMAES", (Dimension("x", low=-5, high=5),), lambda v: (v["x"] - 2) ** 2, 1, 40)
    assert min(o.value for o in found if o.value is not None) < 0.1


def test_an_algorithm_of_another_release_is_named() -> None:
    with pytest.raises(TaskError, match="there is no algorithm Best"):
        proposing.propose(ProposalTask("Best", 1, True, MIXED, 1, 1))


@pytest.mark.parametrize("algorithm", ["TPE", "CMAES"])
def test_another_process_proposes_the_same(algorithm: str) -> None:
    known = tuple(searched("Random", MIXED, near, 3, 25))
    task = ProposalTask(algorithm, 3, False, MIXED, 26, 4, known)
    program = (
        "import sys; from modelmill_contracts import task; from modelmill_trainer import proposing;"
        "print(proposing.propose(task.decode(sys.stdin.read())).result.trials)"
    )
    asked = contract.encode(task)
    said = {
        subprocess.run(
            [sys.executable, "-c", program], input=asked, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert said == {str(rows(task))}


# Sphere and Rosenbrock in 3 numbers, and one with a whole number, a logarithm and categories that matter.


def sphere(v: dict[str, float]) -> float:
    return (v["x"] - 1) ** 2 + (v["y"] + 2) ** 2 + (v["z"] - 0.5) ** 2


def rosenbrock(v: dict[str, float]) -> float:
    x, y, z = v["x"] / 2.5, v["y"] / 2.5, v["z"] / 2.5
    return 100 * (y - x * x) ** 2 + (1 - x) ** 2 + 100 * (z - y * y) ** 2 + (1 - y) ** 2


def mixed(v: dict[str, float]) -> float:
    return near(v) + 2 * abs(v.get("only", 2.0) - 0.75)


CUBE: Space = tuple(Dimension(name, low=-5, high=5) for name in "xyz")
FUNCTIONS = {"sphere": (sphere, CUBE), "rosenbrock": (rosenbrock, CUBE), "mixed": (mixed, MIXED)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tpe_beats_random_search(name: str) -> None:
    """Over 30 seeds, of 60 trials each, four at a time: by median, and in two of three seeds."""
    loss, space = FUNCTIONS[name]
    best = {
        algorithm: [
            min(o.value for o in searched(algorithm, space, loss, seed, 60) if o.value is not None)
            for seed in range(30)
        ]
        for algorithm in ("TPE", "Random")
    }
    wins = sum(tpe < random for tpe, random in zip(best["TPE"], best["Random"], strict=True))
    medians = {algorithm: statistics.median(found) for algorithm, found in best.items()}
    print(f"{name}: median of the best TPE {medians['TPE']:.4g}, random {medians['Random']:.4g}; TPE wins {wins} of 30")
    assert medians["TPE"] < medians["Random"]
    assert wins >= 20
