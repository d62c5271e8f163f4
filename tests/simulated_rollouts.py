"""Rollouts whose truth is known: windows are drawn from given rates with a fixed seed, and the shipped gates read them.

The unit tests hold the gates to their bounds with it, the benches make tables: how much traffic a decision takes
(`tests.bench.traffic`), and what other rules decide on the same windows (`tests.bench.rules`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelmill.core import verdicts
from modelmill.stats.e_values import threshold
from modelmill.stats.gates import Evidence, findings
from modelmill.stats.window import ArmWindow, Window
from modelmill_contracts.counters import LATENCY_EDGES

ALPHA = 0.05
RUNS = 2_000  # a share of 5 % then has a standard error of 0.5 points
Series = float | Sequence[float]  # of all windows, or of each


@dataclass(frozen=True)
class Truth:
    """What is drawn: `requests` in each window, each given to the candidate with chance `weight`."""

    windows: int = 120
    requests: int = 1_000
    weight: Series = 0.1
    control: Series = 0.01  # rate of failures
    candidate: Series = 0.01
    control_seconds: Series | None = None  # median of a lognormal compute time
    candidate_seconds: Series | None = None
    agreement: Series | None = None  # of the labels, compared for as many requests as the candidate is given

    def rollouts(self, runs: int, seed: int) -> Iterator[list[Window]]:
        """The windows of each run."""
        rng = np.random.default_rng(seed)
        shape = (runs, self.windows)
        n_b = rng.binomial(self.requests, self._series(self.weight), shape)
        n_a = self.requests - n_b
        s_a = rng.binomial(n_a, self._series(self.control))
        s_b = rng.binomial(n_b, self._series(self.candidate))
        for run in range(runs):
            control = self._arm(rng, n_a[run], s_a[run], self.control_seconds)
            candidate = self._arm(rng, n_b[run], s_b[run], self.candidate_seconds)
            if self.agreement is None:
                yield [Window(a, b) for a, b in zip(control, candidate, strict=True)]
            else:
                agreed = rng.binomial(n_b[run], self._series(self.agreement)).tolist()
                yield [Window(a, b, b.requests, n) for a, b, n in zip(control, candidate, agreed, strict=True)]

    def _arm(
        self,
        rng: np.random.Generator,
        requests: NDArray[np.int64],
        failures: NDArray[np.int64],
        seconds: Series | None,
    ) -> list[ArmWindow]:
        times: list[tuple[int, ...]] = [()] * self.windows
        if seconds is not None:
            chances = np.stack([_chances(median) for median in self._series(seconds).tolist()])
            times = [tuple(counts) for counts in rng.multinomial(requests - failures, chances).tolist()]
        return list(map(ArmWindow, requests.tolist(), failures.tolist(), times))

    def _series(self, value: Series) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), self.windows)


_SIGMA = 0.5
_KNOWN: dict[float, NDArray[np.float64]] = {}


def _chances(median: float) -> NDArray[np.float64]:
    """Of the bins of LATENCY_EDGES, for lognormal times."""
    if median not in _KNOWN:
        below = [0.5 * math.erfc(-math.log(edge / median) / (_SIGMA * math.sqrt(2))) for edge in LATENCY_EDGES]
        _KNOWN[median] = np.diff([0.0, *below, 1.0])
    return _KNOWN[median]


def ruling(gates: Mapping[str, Evidence], requests: int, *, hold_left: timedelta = timedelta()) -> verdicts.Verdict:
    """What the shipped chain of policies makes of it in a rollout's last step."""
    found = verdicts.Input(
        name="", step=1, steps=1, paused=False, hold_left=hold_left, overdue=False, last_copies=False,
        requests=requests, min_requests=500, findings=findings(gates, ALPHA),
    )  # fmt: skip
    return verdicts.ruled(verdicts.BY_EVIDENCE, found).verdict


class Outcome(NamedTuple):
    """The windows (from 1) in which a threshold was first reached; None: never."""

    rejected: int | None
    promoted: int | None


class Outcomes(list[Outcome]):
    """Of all runs."""

    def rejected(self) -> float:
        """Share of the runs that would have been rolled back."""
        return sum(outcome.rejected is not None for outcome in self) / len(self)

    def promoted(self) -> float:
        """Share of the runs in which there was evidence for a promotion at any time."""
        return sum(outcome.promoted is not None for outcome in self) / len(self)

    def rejected_by(self, share: float) -> float:
        """The window in which this share of the runs was rolled back; inf where it never was."""
        return _by(share, [outcome.rejected for outcome in self])

    def promoted_by(self, share: float) -> float:
        return _by(share, [outcome.promoted for outcome in self])


def _by(share: float, windows: Sequence[int | None]) -> float:
    ordered = sorted(math.inf if window is None else window for window in windows)
    return ordered[math.ceil(share * len(ordered)) - 1]


def simulate(
    truth: Truth, start: Callable[[], Evidence], *, runs: int = RUNS, seed: int = 1, gates: int = 1
) -> Outcomes:
    """What one of `gates` gates finds in each run, looking after every window."""
    reject_at, promote_at = threshold(ALPHA, gates), threshold(ALPHA)
    outcomes = Outcomes()
    for windows in truth.rollouts(runs, seed):
        evidence, outcome = start(), Outcome(None, None)
        for number, window in enumerate(windows, 1):
            evidence = evidence.update(window)
            if outcome.rejected is None and evidence.against >= reject_at:
                outcome = outcome._replace(rejected=number)
            in_favour = evidence.in_favour
            if outcome.promoted is None and in_favour is not None and in_favour >= promote_at:
                outcome = outcome._replace(promoted=number)
            if outcome.rejected is not None and (outcome.promoted is not None or in_favour is None):
                break
        outcomes.append(outcome)
    return outcomes


def ramp(first: float, last: float, windows: int = 120) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, windows).tolist())


def steps(*values: float, windows: int = 120) -> tuple[float, ...]:
    """Each value for an equal part of the windows."""
    return tuple(value for value in values for _ in range(windows // len(values)))


def shifted(series: Sequence[float], by: float) -> tuple[float, ...]:
    return tuple(value + by for value in series)
