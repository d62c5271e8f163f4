"""Service levels of a ModelDeployment: what is promised of what serves, and what was measured of it."""

from typing import Annotated, ClassVar

from pydantic import Field

from modelmill.api.requirement import MAX_LATENCIES, AvailabilityBound, LatencyBound, Truth
from modelmill.api.schema import ATOMIC, INT64, Decimal, Duration, Fraction, Rule, Schema, Timestamp

MAX_SLOTS = 16


class ServiceLevels(Schema):
    """What is promised of what serves."""

    rules: ClassVar = (
        Rule(
            "has(self.availability) || (has(self.latency) && size(self.latency) > 0)",
            "give availability, latency or both",
            reason="FieldValueRequired",
        ),
    )

    availability: AvailabilityBound | None = None
    latency: Annotated[tuple[LatencyBound, ...], Field(max_length=MAX_LATENCIES, json_schema_extra=ATOMIC)] = ()
    """How long answers may take, from the end of a request's body to the beginning of its answer."""


class AvailabilityStatus(Schema):
    """How many requests were answered."""

    min: Fraction
    """The least share that is promised."""
    observed: Decimal | None = None
    """The share that did not fail. Absent: no requests came."""
    met: Truth
    """Whether that is enough. Unknown: no requests came."""
    burn: Decimal | None = None
    """How fast the error budget goes: 1.00 uses it up in exactly the window."""
    recent_burn: Decimal | None = None
    """The same of the newest twelfth of the window."""


class LatencyStatus(Schema):
    """How long answers took."""

    quantile: Fraction
    """The quantile."""
    max: Duration
    """The most that is promised."""
    observed: Annotated[str | None, Field(max_length=32)] = None
    """What it is in ms, rounded up by at most 9 %. Absent: no requests came."""
    met: Truth
    """Whether that is little enough. Unknown: no requests came."""


class ServedSlot(Schema):
    """What was counted in one step of the window."""

    at: Timestamp
    """When it ended."""
    requests: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many requests there were."""
    failures: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many of them failed."""
    times: Annotated[str, Field(max_length=4096)] = ""
    """How many took how long; for programs."""


class ServiceLevelStatus(Schema):
    """What was measured of what serves, in a window that goes on in twelve steps."""

    source: Annotated[str, Field(max_length=64)]
    """Who asks it: usecase/NAME, or spec.monitoring."""
    window: Duration
    """The time that is looked back at."""
    availability: AvailabilityStatus | None = None
    latency: Annotated[tuple[LatencyStatus, ...], Field(max_length=2 * MAX_LATENCIES, json_schema_extra=ATOMIC)] = ()
    """How long answers took."""
    requests: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many requests there were in the window."""
    failures: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many of them failed."""
    since: Timestamp
    """When the step began that is being counted; what is said here was known then."""
    slots: Annotated[tuple[ServedSlot, ...], Field(max_length=MAX_SLOTS, json_schema_extra=ATOMIC)] = ()
    """The steps of the window, the oldest first, those without requests left out."""
