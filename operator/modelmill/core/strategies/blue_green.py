"""BlueGreen: copies of the requests, and all requests at once when the evidence speaks for the new revision."""

from datetime import timedelta

from modelmill.core import verdicts
from modelmill.core.strategies.strategy import COPIES, Step, Strategy

STRATEGY = Strategy(
    steps=(Step(0, COPIES, timedelta(minutes=10)),),
    policies=verdicts.BY_EVIDENCE,
)
