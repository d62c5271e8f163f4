"""How little traffic is enough: the requests a day with which a gate decides within a day.

`python -m tests.bench.traffic`.  Simulated, with the shipped gates.  A window is committed after 15 s, or later, once
it has ten requests of the candidate.  Found is the least number of requests a day, on a grid of steps of a tenth, with
which four of five runs decide.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from tests.bench import document
from tests.simulated_rollouts import ALPHA, Truth

from modelmill.stats.agreement import Agreement
from modelmill.stats.e_values import threshold
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.gates import Evidence
from modelmill.stats.latency import Latency

GUIDE = document.PATH.with_name("rollouts.md")
WEIGHTS = (0.05, 0.1, 0.5)
GATES = 3  # that share alpha where they reject: errorRate, latency and agreement
PER_WINDOW = 10  # requests of the candidate
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


def smallest(row: Row, weight: float, runs: int) -> int | None:
    """Requests a day; None where `MOST` are too few.  More requests decide more often, so it is found by halving."""
    low, high = 0, math.ceil(math.log(1 / weight, STEP))
    while share(row, weight, round(STEP**high), runs) < DECIDED:
        if STEP**high > MOST:
            return None
        low, high = high, high + math.ceil(math.log(2, STEP))
    while high - low > 1:
        middle = (low + high) // 2
        if share(row, weight, round(STEP**middle), runs) >= DECIDED:
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
    runs = parser.parse_args().runs
    lines = [
        f"| gate | what is true | decision | {' | '.join(f'weight {weight:.0%}' for weight in WEIGHTS)} |",
        f"|---|---|---|{'---|' * len(WEIGHTS)}",
    ]
    for row in rows():
        found = [rounded(smallest(row, weight, runs)) for weight in WEIGHTS]
        lines.append(
            f"| {row.gate} | {row.what} | {'promote' if row.promotes else 'roll back'} | {' | '.join(found)} |"
        )
        print(lines[-1], flush=True)
    document.update("traffic", "\n".join(lines), GUIDE)


if __name__ == "__main__":
    main()
