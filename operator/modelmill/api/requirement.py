"""Requirements with numbers: what a use case promises, and what a Model's tests and a ModelDeployment's bounds ask."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import INT64, ColumnName, Decimal, Duration, Fraction, ObjectReference, Rule, Schema

MetricName = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z][a-z0-9_]*$")]
RequirementName = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]

Truth = Literal["True", "False", "Unknown"]

# With a Model's own tests they are as many as a ModelVersion's status holds.
MAX_REQUIREMENTS = 10
MAX_LATENCIES = 3

# Not longer than what a server's histogram tells apart.
ShortTime = Annotated[str, Field(max_length=6, pattern=r"^([1-9][0-9]{0,3}ms|([1-9]|1[0-6])s)$")]
Window = Annotated[str, Field(max_length=4, pattern=r"^(([5-9]|[1-9][0-9]{1,2})m|([1-9]|1[0-9]|2[0-4])h)$")]


class MetricTest(Schema):
    """A bound of one metric on the artifact's frozen rows, which its training never saw."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.min) || has(self.max)", "give min, max or both", reason="FieldValueRequired"),
    )

    name: MetricName
    """The metric, by its name as in a TrainingJob's evaluation.metrics, such as roc_auc or rmse."""
    min: Decimal | None = None
    """The least that it may be."""
    max: Decimal | None = None
    """The most that it may be."""
    every_slice: ColumnName | None = None
    """A column of the TrainingJob's evaluation.slices: the bound holds for the rows of each of its values, and not for
    all together. Values that fewer than 10 rows have are no slices."""


class MetricBound(MetricTest):
    """How good the model must be, on rows that its training never saw."""

    rules: ClassVar = (
        *MetricTest.rules,
        Rule(
            "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
            "min must not be greater than max",
            ".min",
            found=("min", "max"),
        ),
    )


class LatencyBound(Schema):
    """How long an answer may take."""

    quantile: Fraction
    """The share of the requests that must be as fast, such as 0.99."""
    max: ShortTime
    """The most that they may take: such as 20ms or 2s, and at most 16s, as longer times are not told apart."""


class AvailabilityBound(Schema):
    """How many requests must be answered."""

    min: Fraction
    """The least share of requests that do not fail, such as 0.999. 5xx and 429 are failures."""
    window: Window = "1h"
    """The time that is looked back at, such as 30m or 6h: between 5m and 24h. It goes on in twelve steps."""


class FreshnessBound(Schema):
    """How old data may be."""

    dataset_ref: ObjectReference
    """The Dataset."""
    max: Duration
    """The oldest that its newest valid version may be, counted as in the Dataset's status.modifiedAt."""


class Requirement(Schema):
    """One promise, with a number."""

    rules: ClassVar = (
        Rule(
            "[has(self.metric), has(self.latency), has(self.availability), has(self.dataFreshness)]"
            ".filter(given, given).size() == 1",
            "give exactly one of metric, latency, availability, dataFreshness",
        ),
    )

    name: RequirementName
    """What the requirement is called, such as quality."""
    metric: MetricBound | None = None
    latency: LatencyBound | None = None
    availability: AvailabilityBound | None = None
    data_freshness: FreshnessBound | None = None


class DataRequirement(Schema):
    """Data that must be there before anything is trained."""

    dataset_ref: ObjectReference
    """The Dataset."""
    min_rows: Annotated[int, Field(ge=1, json_schema_extra=INT64)] = 1
    """The fewest rows that its newest valid version may have."""
