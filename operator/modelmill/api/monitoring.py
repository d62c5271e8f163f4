"""What is watched of a model that serves: whether what it is given and what it answers drifts from its training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.rollout import Interval
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    Decimal,
    Digest,
    Duration,
    Fraction,
    Positive,
    Rule,
    Schema,
    Timestamp,
)
from modelmill.api.servicelevel import ServiceLevels

Floor = Annotated[str, Field(max_length=16, pattern=r"^[0-9]{1,3}(\.[0-9]+)?$")]


class Drift(Schema):
    """What counts as drift from the profile that the model was trained with."""

    rules: ClassVar = (
        Rule(
            "!has(self.seasonality) || duration(self.window) <= duration('1h')",
            "a season is compared hour by hour: window must be at most 1h",
            ".window",
        ),
    )

    window: Interval = "1h"
    """How long rows are counted before they are compared, again and again; longer where fewer came than minRows."""
    min_rows: Annotated[int, Field(ge=100, le=1000000000, json_schema_extra=INT64)] = 1000
    """How many rows a window has at least; and never fewer than 20 for each bin of a feature."""
    min_effect: Floor = "0.1"
    """How far a distribution must have moved to count: the population stability index, less what sampling explains."""
    false_discovery_rate: Fraction = "0.05"
    """Which share of the features that a window finds to have moved may have done so by chance."""
    seasonality: Literal["Daily"] | None = None
    """Daily: hours are compared with the same hour (UTC) of earlier days once there are seven of them, whole days with
    the profile before. Absent: all windows are compared with the profile."""


QualityMetric = Literal["accuracy", "roc_auc", "log_loss", "mae", "rmse"]


# Not shorter than 10 seconds: each is a Job.
QualityInterval = Annotated[str, Field(max_length=7, pattern=r"^([1-9][0-9]{1,5}s|[1-9][0-9]{0,5}(m|h))$")]


class Quality(Schema):
    """How good predictions must be, told from the labels that come back. It takes spec.capture."""

    rules: ClassVar = (
        Rule(
            "has(self.min) == (self.metric in ['accuracy', 'roc_auc'])",
            "accuracy and roc_auc have a min, which is required, and other metrics have none",
            ".min",
        ),
        Rule(
            "has(self.max) != (self.metric in ['accuracy', 'roc_auc'])",
            "log_loss, mae and rmse have a max, which is required, and others none",
            ".max",
        ),
    )

    metric: QualityMetric
    """What is measured; roc_auc is of two classes."""
    min: Fraction | None = None
    """The least accuracy or roc_auc."""
    max: Positive | None = None
    """The most of the other metrics."""
    labels_within: Duration = "24h"
    """How long after its prediction a label counts. Later ones are left out, so that each row has the same time. Rows
    must be kept for so long and a window more (spec.capture.retention)."""
    window: QualityInterval = "1h"
    """How long labels are gathered before they are measured, again and again; longer where fewer came than minRows."""
    min_rows: Annotated[int, Field(ge=30, le=1000000000, json_schema_extra=INT64)] = 100
    """How many rows with labels a window has at least; of a day, or 24 windows, without them nothing is told."""


class Monitoring(Schema):
    """What is watched while it serves."""

    drift: Drift | None = None
    """Whether features, predictions and scores are distributed as in training: the condition DriftDetected. Absent:
    nobody looks."""
    quality: Quality | None = None
    """Whether predictions are as good as they must be, by the labels that come back: the condition QualityDropped.
    Absent: nobody looks."""
    service_levels: ServiceLevels | None = None
    """What is promised, besides what the UseCase of the Model requires; it may not be less. Absent: that alone."""


class DriftWindow(Schema):
    """A window that was compared."""

    started_at: Timestamp
    """When it began."""
    ended_at: Timestamp
    """When it ended."""
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many rows were counted in it, on all pods."""
    reference: Literal["Profile", "Season"] | None = None
    """What it was compared with: the profile, or earlier days. Absent: it was only learnt from, see seasonality."""


class Moved(Schema):
    """How far one distribution is from its reference."""

    of: Literal["Feature", "Prediction", "Score"]
    """What it is the distribution of."""
    feature: Annotated[str, Field(max_length=128)]
    """The feature's name; of the others the name of the output."""
    aspect: Literal["Values", "Missing", "OutOfRange", "Unseen"]
    """Values: those that are there. Missing: how many are not. OutOfRange: how many lie in the outermost bins, below or
    above most of the training's. Unseen: how many are none of the frequent categories."""
    effect: Decimal
    """The population stability index in the last window, less what sampling explains."""
    windows: Annotated[int, Field(ge=0, le=3)]
    """How many of the last three windows found it to have moved; with two it has drifted."""


class DriftStatus(Schema):
    """What is known of drift."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision whose pods were counted."""
    profile: Digest
    """Digest of what they are compared with: bins and counts of the training. With another one all begins anew."""
    windows: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    """How many windows there have been with this profile."""
    window: DriftWindow
    """The last one."""
    drifted: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many distributions have drifted."""
    worst: Annotated[tuple[Moved, ...], Field(max_length=5, json_schema_extra=ATOMIC)] = ()
    """Those that moved farthest: first what has drifted, then by effect."""
    recent: Annotated[
        tuple[Annotated[str, Field(max_length=16384)], ...], Field(max_length=2, json_schema_extra=ATOMIC)
    ] = ()
    """What the last windows found, a bit for each distribution; for programs."""
    season: Annotated[str | None, Field(max_length=131072)] = None
    """What earlier days counted, packed; for programs."""


Number = Annotated[str, Field(max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?$")]


class QualityWindow(Schema):
    """A window of labels that was measured."""

    started_at: Timestamp
    """When it began: labels that came from then on are in it."""
    ended_at: Timestamp
    """When it ended: labels that came before that are in it."""
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many rows of what serves have a label that counts."""
    value: Number | None = None
    """The metric on these rows. Absent: there is none, such as a roc_auc where all rows but one are of one class."""
    lower: Number | None = None
    """What the true value is not below, with 95 % confidence for this window. Absent: rows that do not differ, as those
    of a roc_auc of 1, do not say."""
    upper: Number | None = None
    """What the true value is not above, with 95 % confidence for this window. Absent: as lower."""
    counted: bool
    """Whether it is part of the evidence. If not, too few rows have labels: it is measured again with the next ones, or
    was left out after a day, or 24 windows; or its value is too large to be one, and it was left out."""
    unknown: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """Labels whose prediction was not captured."""
    late: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """Labels that came after labelsWithin."""
    repeated: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """Further labels of a row that has one."""
    of_others: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """Labels of what another artifact answered."""
    mistyped: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """Labels that cannot be compared with the prediction."""


class EstimatedQuality(Schema):
    """What scores alone say, without labels: right where they are calibrated, and blind to a change of what is true."""

    accuracy: Decimal
    """The estimated accuracy: the mean of the highest probabilities of the rows in the last window of drift."""
    error: Decimal
    """How far it may be off, because scores are counted in bins: no bound for scores that are not calibrated."""
    rows: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    """How many rows that window has."""
    at: Timestamp
    """When it ended."""


class QualityStatus(Schema):
    """What is known of quality."""

    artifact: Digest
    """Digest of the artifact whose predictions are measured. With another one all begins anew."""
    metric: QualityMetric
    """What is measured. With another metric, min, max or labelsWithin all begins anew."""
    min: Fraction | None = None
    """The least that is declared."""
    max: Positive | None = None
    """The most that is declared."""
    labels_within: Duration
    """How late labels may be."""
    since: Timestamp
    """Since when labels are measured."""
    until: Timestamp
    """Labels that came before that are part of the evidence, or were left out."""
    windows: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many windows are part of the evidence."""
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many rows are part of the evidence."""
    dropped: bool = False
    """Whether the evidence says that it dropped, and not since that it is back."""
    evidence: Decimal = "0"
    """The natural logarithm of the evidence that it dropped or, where it has, that it is back; 6.908 says so."""
    alarms: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many times it dropped."""
    window: QualityWindow | None = None
    """The last window. Absent: none has been measured."""
    estimated: EstimatedQuality | None = None
    """What scores alone say of the accuracy. Absent: drift is not declared, or there are no scores."""
    detector: Annotated[tuple[Decimal, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """The evidence in parts; for programs."""
    spread: Number = "0"
    """The variance per row of all windows; for programs."""
