"""Bounds: what a use case requires of what serves, as bounds of a rollout's analysis.  They never allow more.

    availability A          -> the candidate's requests may fail more often than the stable's by at most 1 - A
    q of answers within T   -> they may take longer than T more often by at most 1 - q

What is within the requirement is within these bounds, whatever else happens to both arms (docs/use-cases.md): so
nothing that keeps the promise is rolled back for it, and an outage of both is no reason to.  The time is the model's:
an answer takes at least as much.  Where bounds change, a rollout begins anew, with evidence of its own.
"""

from decimal import Decimal as Number
from typing import Any

from modelmill.api.model import Governance
from modelmill.api.requirement import LatencyBound
from modelmill.api.rollout import Analysis, ErrorRate, Rollout
from modelmill.core import requirement, rollout


def bounded(settings: Rollout, asks: Governance | None) -> Rollout:
    """The settings of a rollout by evidence, with the requirements; others as they are."""
    if asks is None or not rollout.steps(settings) or (asks.availability is None and not asks.latency):
        return settings
    declared = settings.analysis or Analysis()
    changes: dict[str, Any] = {}
    if asks.availability is not None:
        tolerated = 1 - Number(asks.availability.min)
        if tolerated < Number(declared.error_rate.max_increase):
            changes["error_rate"] = ErrorRate(max_increase=format(tolerated.normalize(), "f"))
    required = (LatencyBound(quantile=bound.quantile, max=bound.max) for bound in asks.latency)
    bounds = requirement.strictest(*declared.latency_bounds, *required)
    if bounds != declared.latency_bounds:
        changes["latency_bounds"] = bounds
    return settings.model_copy(update={"analysis": declared.model_copy(update=changes)}) if changes else settings
