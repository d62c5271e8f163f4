"""What other tools' rules decide on the same windows.  `python -m tests.bench.rules`

Flagger (pkg/controller/scheduler.go, `runBuiltinMetricChecks`): each check asks whether the candidate's success rate
is at least the metric's `thresholdRange.min`, and one that finds no requests fails, too; checks that fail are counted
over all weights, and once there are `threshold` of them the next check rolls back before it looks; each other check
adds `stepWeight`, and one at `maxWeight` promotes: 10 checks with 5 and 50.

Argo Rollouts (analysis/analysis.go, `assessMetricStatus`): a measurement fails where `successCondition` does not hold
(without requests it is an error, and four of those in a row are let pass), and more than `failureLimit` in all, not in
a row, fail the analysis; else it ends well with measurement number `count` or, from 1.8 on, with
`consecutiveSuccessLimit` successes in a row, for which no `count` is given here.  `inconclusiveLimit` is about
measurements for which neither `successCondition` nor `failureCondition` holds: with one condition there are none.

The minimum is what the tolerance allows here, 98 %: a failure rate of 1 % and one point more; an absolute one is all
that they have.

The z-test compares all requests so far after each window, one-sided at 5 %, and promotes after the last window.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.bench import document
from tests.bench.traffic import GUIDE
from tests.simulated_rollouts import ALPHA, RUNS, Truth, ramp, ruling

from modelmill.core.verdicts import Verdict
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.window import ArmWindow, Window

MINIMUM = 0.98
CHECKS = 10
CRITICAL = statistics.NormalDist().inv_cdf(1 - ALPHA)
Decided = tuple[Verdict, int]  # and the window, from 1
Rule = Callable[[Sequence[Window]], Decided]


def modelmill(windows: Sequence[Window]) -> Decided:
    evidence, requests = ErrorRate(0.01), 0
    for number, window in enumerate(windows, 1):
        evidence, requests = evidence.update(window), requests + window.candidate.requests
        verdict = ruling({"errorRate": evidence}, requests)
        if verdict is not Verdict.HOLD:
            return verdict, number
    return Verdict.HOLD, len(windows)


def flagger(windows: Sequence[Window], threshold: int = 5) -> Decided:
    failed = passed = 0
    for number, window in enumerate(windows, 1):
        if failed >= threshold:
            return Verdict.REJECT, number
        if window.candidate.requests and succeeds(window.candidate):
            passed += 1
        else:
            failed += 1
        if passed >= CHECKS:
            return Verdict.ADVANCE, number
    return Verdict.HOLD, len(windows)


def argo(windows: Sequence[Window], failure_limit: int = 3) -> Decided:
    failed = 0
    for number, window in enumerate(windows[:CHECKS], 1):
        failed += not succeeds(window.candidate)
        if failed > failure_limit:
            return Verdict.REJECT, number
    return Verdict.ADVANCE, CHECKS


def argo_consecutive(windows: Sequence[Window], failure_limit: int = 3, success_limit: int = 5) -> Decided:
    failed = consecutive = 0
    for number, window in enumerate(windows, 1):
        if succeeds(window.candidate):
            consecutive += 1
        else:
            failed, consecutive = failed + 1, 0
        if failed > failure_limit:
            return Verdict.REJECT, number
        if consecutive >= success_limit:
            return Verdict.ADVANCE, number
    return Verdict.HOLD, len(windows)


def z_test(windows: Sequence[Window]) -> Decided:
    control = candidate = ArmWindow()
    for number, window in enumerate(windows, 1):
        control, candidate = control + window.control, candidate + window.candidate
        if control.requests and candidate.requests and z(control, candidate) > CRITICAL:
            return Verdict.REJECT, number
    return Verdict.ADVANCE, len(windows)


def succeeds(arm: ArmWindow) -> bool:
    """Whether the rate is high enough; without requests there is none, and nothing fails."""
    return arm.failures <= (1 - MINIMUM) * arm.requests + 1e-9


def z(control: ArmWindow, candidate: ArmWindow) -> float:
    """Of two proportions, pooled; 0 where nothing or everything failed."""
    pooled = (control.failures + candidate.failures) / (control.requests + candidate.requests)
    error = math.sqrt(pooled * (1 - pooled) * (1 / control.requests + 1 / candidate.requests))
    return (candidate.failures / candidate.requests - control.failures / control.requests) / error if error else 0.0


RULES: dict[str, Rule] = {
    'Modelmill, `maxIncrease: "0.01"`': modelmill,
    f"Flagger, `min: 98`, `threshold: 5`, {CHECKS} checks": flagger,
    f"Argo Rollouts, `>= 0.98`, `failureLimit: 3`, `count: {CHECKS}`": argo,
    "Argo Rollouts, `consecutiveSuccessLimit: 5` in place of `count`": argo_consecutive,
    "z-test of all so far, after each window": z_test,
}


class Case(NamedTuple):
    what: str
    truth: Truth
    good: bool


def cases() -> Iterator[Case]:
    rates = ramp(0.002, 0.03)
    both = tuple(0.3 if window % 7 == 3 else 0.01 for window in range(120))
    late = (0.01,) * 5 + (0.05,) * 115
    yield Case("equal, 1 % fail", Truth(), good=True)
    yield Case("equal, 3 % fail", Truth(control=0.03, candidate=0.03), good=True)
    yield Case("equal, weight and rate rise", Truth(weight=ramp(0.05, 0.5), control=rates, candidate=rates), good=True)
    yield Case("equal, outages of both", Truth(control=both, candidate=both), good=True)
    yield Case("half a point more", Truth(candidate=0.015), good=True)
    yield Case("two points more", Truth(candidate=0.03), good=False)
    yield Case("two points more of 0.1 %", Truth(control=0.001, candidate=0.021), good=False)
    yield Case("four points more", Truth(candidate=0.05), good=False)
    yield Case("four points more from window 6 on", Truth(candidate=late), good=False)
    yield Case("all fail", Truth(candidate=1.0), good=False)


def cell(case: Case, decided: Sequence[Decided]) -> str:
    """Share that was decided wrongly, and not at all; the window of the median decision."""
    wrong = Verdict.REJECT if case.good else Verdict.ADVANCE
    ends = sorted(number for verdict, number in decided if verdict is not Verdict.HOLD)
    share = sum(verdict is wrong for verdict, _ in decided) / len(decided)
    open_ = 1 - len(ends) / len(decided)
    text = f"{share:.1%}"
    if open_:
        text += f", {open_:.1%} open"
    return f"{text} ({statistics.median_low(ends)})" if ends else f"{text} (-)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    known = list(cases())
    columns: dict[str, list[str]] = {name: [] for name in RULES}
    for case in known:
        rollouts = list(case.truth.rollouts(runs, seed=1))
        for name, rule in RULES.items():
            columns[name].append(cell(case, [rule(windows) for windows in rollouts]))
        print(case.what, *(column[-1] for column in columns.values()), sep=" | ", flush=True)
    lines = []
    for good, title in ((True, "false rollbacks"), (False, "misses: a bad candidate is promoted")):
        chosen = [index for index, case in enumerate(known) if case.good == good]
        lines += ["", f"| {title} | {' | '.join(known[index].what for index in chosen)} |"]
        lines.append(f"|---|{'---|' * len(chosen)}")
        lines += [f"| {name} | {' | '.join(cells[index] for index in chosen)} |" for name, cells in columns.items()]
    document.update("rules", "\n".join(lines[1:]), GUIDE)


if __name__ == "__main__":
    main()
