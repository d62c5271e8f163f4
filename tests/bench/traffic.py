"""How little traffic is enough: the requests a day with which a gate, and a whole rollout, decides within a day.

`python -m tests.bench.traffic`.  Simulated, with the shipped gates and policies.  A window is committed after 15 s, or
later, once it has ten requests of the candidate.  Found is the least number of requests a day, on a grid of steps of a
tenth, with which four of five runs decide.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from tests.bench import document
from tests.simulated_rollouts import ALPHA, Truth

from modelmill.api.rollout import Analysis
from modelmill.core import evidence
from modelmill.core.strategies import STRATEGIES
from modelmill.core.strategies.strategy import Strategy
from modelmill.core.verdicts import Input, Verdict, ruled
from modelmill.stats.agreement import Agreement
from modelmill.stats.e_values import threshold
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.gates import Evidence
from modelmill.stats.latency import Latency
from modelmill.stats.window import ArmWindow, Window

GUIDE = document.PATH.with_name("rollouts.md")
WEIGHTS = (0.05, 0.1, 0.5)
GATES = 3  # that share alpha where they reject: errorRate, latency and agreement
PER_WINDOW = 10  # requests of the candidate
_DAY = 24 * 3600  # seconds
WINDOWS_A_DAY = 24 * 3600 // 15
DECIDED = 0.8
MOST = 1_000_000  # requests a day
STEP = 1.1


class Row(NamedTuple):
    gate: str
    what: str
    start: Callable[[], Evidence]
    truth: Truth
    promotes: bool  # the decision that is right; else it rolls back


def rows() -> Iterator[Row]:
    errors, latency, agreement = (
        '`errorRate.maxIncrease: "0.01"`',
        '`latency.maxRatio: "1.2"`',
        '`agreement.min: "0.90"`',
    )

    def error_rate() -> Evidence:
        return ErrorRate(0.01)

    for rate in (0.001, 0.01, 0.05):
        truth = Truth(control=rate, candidate=rate)
        yield Row(errors, f"both fail {rate:.1%} of requests", error_rate, truth, promotes=True)
    for more in (0.02, 0.04):
        truth = Truth(candidate=0.01 + more)
        yield Row(errors, f"1 % fail, of the candidate's {0.01 + more:.0%}", error_rate, truth, promotes=False)
    yield Row(errors, "every request of the candidate fails", error_rate, Truth(candidate=1.0), promotes=False)
    for ratio in (1.5, 2.0):
        truth = Truth(control_seconds=0.005, candidate_seconds=0.005 * ratio)
        yield Row(
            latency, f"the candidate takes {ratio:g} times as long", lambda: Latency(0.99, 1.2), truth, promotes=False
        )
    for rate in (0.93, 0.95, 0.99, 0.8):
        truth = Truth(agreement=rate)
        yield Row(agreement, f"the labels agree for {rate:.0%}", lambda: Agreement(0.9), truth, promotes=rate > 0.9)


def share(row: Row, weight: float, requests: int, runs: int) -> float:
    """Of the runs that decide rightly within a day of so many requests."""
    windows = min(WINDOWS_A_DAY, int(requests * weight / PER_WINDOW))
    if windows == 0:
        return 0.0
    truth = replace(row.truth, windows=windows, requests=requests // windows, weight=weight)
    at = threshold(ALPHA) if row.promotes else threshold(ALPHA, GATES)
    decided = 0
    for seen in truth.rollouts(runs, seed=1):
        evidence = row.start()
        for window in seen:
            evidence = evidence.update(window)
            found = evidence.in_favour if row.promotes else evidence.against
            if found is not None and found >= at:
                decided += 1
                break
    return decided / runs


class Default(NamedTuple):
    """A rollout of which nothing is declared but its strategy."""

    strategy: str
    what: str
    control: float  # share of requests that fail
    candidate: float
    decision: Verdict  # the right one

    def share(self, requests: int, runs: int) -> float:
        """Of the runs that end so within a day of so many requests."""
        chance = np.random.default_rng(1)
        return sum(self._ends(requests, chance) is self.decision for _ in range(runs)) / runs

    def _ends(self, requests: int, chance: np.random.Generator) -> Verdict:
        strategy, analysis, a_second = STRATEGIES[self.strategy], Analysis(), requests / _DAY
        gates, counted, now, step, since = evidence.gates(analysis), 0, 0, 0, 0
        while True:
            share = (strategy.steps[step].weight or strategy.steps[step].shadow) / 100
            length = max(15, math.ceil(PER_WINDOW / (a_second * share)))
            now += length
            if now > _DAY:
                return Verdict.HOLD
            window = self._window(round(a_second * length), share, chance, copies=strategy.steps[step].shadow > 0)
            gates, counted = evidence.after(gates, window), counted + window.candidate.requests
            ruling = ruled(strategy.policies, self._input(strategy, analysis, gates, counted, step, now - since))
            if ruling.verdict is Verdict.REJECT:
                return ruling.verdict
            if ruling.verdict is Verdict.ADVANCE:
                step, since = step + 1, now
                if step == len(strategy.steps):
                    return ruling.verdict

    def _window(self, requests: int, share: float, chance: np.random.Generator, *, copies: bool) -> Window:
        given = int(chance.binomial(requests, share))
        arms = ((given if copies else requests - given, self.control), (given, self.candidate))
        control, candidate = (ArmWindow(count, int(chance.binomial(count, rate))) for count, rate in arms)
        return Window(control, candidate)

    def _input(
        self, strategy: Strategy, analysis: Analysis, gates: evidence.Gates, counted: int, step: int, passed: int
    ) -> Input:
        hold = strategy.steps[step].hold
        assert hold is not None
        return Input(
            name="", step=step + 1, steps=len(strategy.steps), paused=False, hold_left=hold - timedelta(seconds=passed),
            overdue=False, last_copies=False, requests=counted, min_requests=analysis.min_requests,
            findings=evidence.findings(gates, analysis),
        )  # fmt: skip


def defaults() -> Iterator[Default]:
    for strategy in ("Canary", "BlueGreen"):
        for rate in (0.001, 0.01, 0.05):
            yield Default(strategy, f"both fail {rate:.1%} of requests", rate, rate, Verdict.ADVANCE)
        yield Default(strategy, "1 % fail, of the candidate's 5%", 0.01, 0.05, Verdict.REJECT)
        yield Default(strategy, "every request of the candidate fails", 0.01, 1.0, Verdict.REJECT)


def smallest(decided: Callable[[int], float], least: float) -> int | None:
    """Requests a day; None where `MOST` are too few.  More requests decide more often, so it is found by halving."""
    low, high = 0, math.ceil(math.log(least, STEP))
    while decided(round(STEP**high)) < DECIDED:
        if STEP**high > MOST:
            return None
        low, high = high, high + math.ceil(math.log(2, STEP))
    while high - low > 1:
        middle = (low + high) // 2
        if decided(round(STEP**middle)) >= DECIDED:
            high = middle
        else:
            low = middle
    return round(STEP**high)


def rounded(requests: int | None) -> str:
    """To two digits."""
    if requests is None:
        return "-"
    digits = max(len(str(requests)) - 2, 0)
    return f"{round(requests, -digits):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--defaults", action="store_true", help="whole rollouts only")
    options = parser.parse_args()
    runs = options.runs
    main_defaults(runs)
    if options.defaults:
        return
    lines = [
        f"| gate | what is true | decision | {' | '.join(f'weight {weight:.0%}' for weight in WEIGHTS)} |",
        f"|---|---|---|{'---|' * len(WEIGHTS)}",
    ]
    for row in rows():
        found = [rounded(smallest(lambda n, w=weight, r=row: share(r, w, n, runs), 1 / weight)) for weight in WEIGHTS]
        lines.append(
            f"| {row.gate} | {row.what} | {'promote' if row.promotes else 'roll back'} | {' | '.join(found)} |"
        )
        print(lines[-1], flush=True)
    document.update("traffic", "\n".join(lines), GUIDE)


def main_defaults(runs: int) -> None:
    lines = ["| `strategy`, all else by default | what is true | decision | requests a day |", "|---|---|---|---|"]
    for row in defaults():
        found = rounded(smallest(lambda n, r=row: r.share(n, runs), 20))
        decision = "promote" if row.decision is Verdict.ADVANCE else "roll back"
        lines.append(f"| `{row.strategy}` | {row.what} | {decision} | {found} |")
        print(lines[-1], flush=True)
    document.update("defaults", "\n".join(lines), GUIDE)


if __name__ == "__main__":
    main()
