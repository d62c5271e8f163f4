"""Canary: a growing share of the requests, and all of them once the evidence speaks for the new revision."""

from datetime import timedelta

from modelmill.core import verdicts
from modelmill.core.strategies.strategy import Step, Strategy

_HOLD = timedelta(minutes=5)

STRATEGY = Strategy(
    steps=tuple(Step(weight, 0, _HOLD) for weight in (5, 25, 50)),
    policies=verdicts.BY_EVIDENCE,
)
