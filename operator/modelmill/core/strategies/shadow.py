"""Shadow: copies of the requests for as long as somebody wants to look; only a person promotes."""

from datetime import timedelta

from modelmill.core import verdicts
from modelmill.core.strategies.strategy import COPIES, Step, Strategy

STRATEGY = Strategy(
    steps=(Step(0, COPIES, timedelta(minutes=10)),),
    policies=(
        verdicts.rejected,
        verdicts.paused,
        verdicts.too_few_requests,
        verdicts.held,
        verdicts.unbounded,
        verdicts.left_to_somebody,
        verdicts.passed,
    ),
)
