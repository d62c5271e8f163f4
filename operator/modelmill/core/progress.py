"""Progress: how far a training is, as its pod tells it and as the status has it.

It is shown and decides nothing.  The status follows the percent and the phase; metrics come along, so that a pod whose
metrics change all the time costs no write each time.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from modelmill.core import jobs
from modelmill.core.conditions import timestamp
from modelmill.core.plan import Observed
from modelmill.core.resources import Manifest
from modelmill_contracts import progress

_LONGEST = 64  # characters of a metric's value, as in the API


@dataclass(frozen=True)
class Progress:
    """What `status.progress` holds."""

    percent: int
    phase: str | None
    metrics: tuple[tuple[str, str], ...]  # name, decimal
    at: str


def observe(observed: Observed, run: jobs.Run) -> Progress | None:
    """How far the newest pod of this run is: what it answered or, where that is not known (any more), what was said."""
    pod = jobs.newest_pod(observed, run.uid) if run.state == "Active" else None
    if pod is None:
        return None
    said = _said(observed.status)
    if said is not None and said.at < pod["metadata"]["creationTimestamp"]:
        said = None  # of a pod before this one
    measured = observed.measured.get(pod["metadata"]["uid"])
    if measured is None or not isinstance(measured.value, progress.Progress):
        return said
    answer = measured.value
    if said is not None and (said.percent, said.phase) == (int(answer.percent), answer.phase):
        return said
    return Progress(int(answer.percent), answer.phase, _decimals(answer.metrics), timestamp(measured.at))


def status_of(found: Progress | None) -> dict[str, Any] | None:
    """As the status has it."""
    if found is None:
        return None
    return {
        "percent": found.percent,
        **({"phase": found.phase} if found.phase is not None else {}),
        **({"metrics": [{"name": name, "value": value} for name, value in found.metrics]} if found.metrics else {}),
        "at": found.at,
    }


def _said(status: Manifest) -> Progress | None:
    said = status.get("progress")
    if said is None:
        return None
    metrics = tuple((metric["name"], metric["value"]) for metric in said.get("metrics", ()))
    return Progress(said["percent"], said.get("phase"), metrics, said["at"])


def _decimals(metrics: dict[str, float]) -> tuple[tuple[str, str], ...]:
    """Six significant digits; what is too large or too small to be written without an exponent is left out."""
    shown = ((name, format(Decimal(f"{value:.6g}"), "f")) for name, value in sorted(metrics.items()))
    return tuple((name, value) for name, value in shown if len(value) <= _LONGEST)
