"""Evidence: the gates of a rollout's analysis, as a status holds them, and what one more window makes of them."""

from collections.abc import Mapping
from decimal import ROUND_FLOOR
from decimal import Decimal as Number

import msgspec

from modelmill.api.rollout import Analysis, OpenEvidence
from modelmill.api.schema import parse_duration
from modelmill.core import requirement
from modelmill.stats import gates as stats_gates
from modelmill.stats.agreement import Agreement
from modelmill.stats.error_rate import ErrorRate
from modelmill.stats.gates import Finding
from modelmill.stats.latency import Latency
from modelmill.stats.latency_bound import LatencyBound
from modelmill.stats.record import RecordError
from modelmill.stats.window import Window

Gates = Mapping[str, stats_gates.Evidence]
States = tuple[tuple[str, str], ...]  # by gate, what a status keeps of its evidence
_SHOWN = Number("0.001")
LATENCY_BOUND = "latencyBound"  # and the quantile


def gates(analysis: Analysis, states: States = ()) -> Gates:
    """The gates that were declared, with the evidence that they had; a state that cannot be read begins anew."""
    made: dict[str, stats_gates.Evidence] = {"errorRate": ErrorRate(float(analysis.error_rate.max_increase))}
    if analysis.latency is not None:
        made["latency"] = Latency(float(analysis.latency.quantile), float(analysis.latency.max_ratio))
    for bound in requirement.strictest(*analysis.latency_bounds):
        seconds = parse_duration(bound.max).total_seconds()
        made[f"{LATENCY_BOUND}{bound.quantile}"] = LatencyBound(float(bound.quantile), seconds)
    if analysis.agreement is not None:
        made["agreement"] = Agreement(float(analysis.agreement.min))
    for gate, state in states:
        if gate in made:
            try:
                made[gate] = made[gate].restored(msgspec.json.decode(state, type=list[int | str]))
            except (RecordError, msgspec.DecodeError):
                continue
    return made


def after(before: Gates, window: Window) -> Gates:
    return {name: gate.update(window) for name, gate in before.items()}


def states(of: Gates) -> States:
    return tuple((name, msgspec.json.encode(gate.record()).decode()) for name, gate in of.items())


def findings(of: Gates, analysis: Analysis) -> tuple[Finding, ...]:
    """What each gate says at the declared confidence."""
    return stats_gates.findings(of, float(1 - Number(analysis.confidence)))


def status_of(finding: Finding, state: str) -> dict[str, str]:
    """One gate of a rollout that goes on."""
    return {**shown(finding), "state": state}


def shown(finding: Finding) -> dict[str, str]:
    """One gate as people see it; never more evidence than there is."""
    found = {
        "gate": finding.gate,
        "logE": _decimal(finding.against),
        "threshold": _decimal(finding.reject_at),
        "verdict": str(finding.verdict),
    }
    if finding.in_favour is not None:
        found |= {
            "logEPromotion": _decimal(finding.in_favour),
            "thresholdPromotion": _decimal(finding.promote_at),
        }
    return found


def _decimal(number: float) -> str:
    return str(Number(number).quantize(_SHOWN, ROUND_FLOOR))


def of_status(said: tuple[OpenEvidence, ...]) -> States:
    return tuple((evidence.gate, evidence.state) for evidence in said)
