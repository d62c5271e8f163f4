"""Model: what is true of all versions of one model.  It numbers them; it is made with defaults if absent."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.requirement import MAX_LATENCIES, MAX_REQUIREMENTS, MetricName, MetricTest, RequirementName
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    ColumnName,
    Decimal,
    Duration,
    Fraction,
    ObjectName,
    ObjectReference,
    Positive,
    Resource,
    ResourceRequirements,
    Rule,
    Schema,
    Status,
    Timestamp,
    listmap,
)


class BaselineTest(Schema):
    """The version is no worse than what serves, on the same rows."""

    deployment_ref: ObjectReference
    """A ModelDeployment of this Model, by name. What serves there when the tests begin is compared with; where nothing
    does yet, the test is passed."""
    metric: MetricName
    """The metric that is compared."""
    max_regression: Positive
    """By how much it may be worse: the lower end of the difference's one-sided 95 % confidence interval (paired
    bootstrap) must not be beyond. Few rows make it wide."""


class Perturbation(Schema):
    """A change of one column's values."""

    column: ColumnName
    """A numeric feature."""
    by: Annotated[str, Field(max_length=16, pattern=r"^[+-][0-9]+(\.[0-9]+)?%?$")]
    """By how much: +10% or -10% of each value, or +0.5 or -2 in the column's own unit."""


class BehaviourTest(Schema):
    """How predictions follow from a change of the rows."""

    name: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """What the test is called, such as bigger-is-worse."""
    perturb: Annotated[
        tuple[Perturbation, ...], Field(min_length=1, max_length=16, json_schema_extra=listmap("column"))
    ]
    """What is changed in every row, all at the same time."""
    expect: Literal["NotDecrease", "NotIncrease", "Unchanged"]
    """What holds for each row. Of a regressor it is about the prediction; of a classifier of two classes about the
    probability of the second (1 of 0 and 1); Unchanged is about the label of any classifier."""


class LatencyTest(Schema):
    """How long the server takes for one row, asked over loopback one request after the other."""

    quantile: Fraction
    """The quantile of the times, such as 0.99."""
    max: Duration
    """The most that it may be. What else runs on the node counts too: the best of three rounds is taken."""


class Tests(Schema):
    """What a version must pass, in the server that serves it, on the frozen rows of its artifact."""

    rules: ClassVar = (
        Rule(
            "(has(self.metrics) && size(self.metrics) > 0) || has(self.baseline)"
            " || (has(self.behaviour) && size(self.behaviour) > 0) || has(self.latency)",
            "give at least one test, or leave tests out",
            reason="FieldValueRequired",
        ),
    )

    metrics: Annotated[tuple[MetricTest, ...], Field(max_length=12, json_schema_extra=ATOMIC)] = ()
    """Bounds of metrics; each must hold."""
    baseline: BaselineTest | None = None
    behaviour: Annotated[tuple[BehaviourTest, ...], Field(max_length=8, json_schema_extra=listmap("name"))] = ()
    """How predictions must follow from changes of the rows."""
    latency: LatencyTest | None = None
    resources: ResourceRequirements = ResourceRequirements.model_construct()
    """CPU and memory of the server that is tested: give it what a ModelDeployment gives it. Default: as there."""


class ModelSpec(Schema):
    """What people should know of the model, and what its versions must pass before they may serve."""

    description: Annotated[str, Field(max_length=1024)] = ""
    """What the model is for, in words for people."""
    use_case_ref: ObjectReference | None = None
    """The UseCase whose requirements each version must meet, too. Its metrics and latencies are tested as if they stood
    in tests; latency and availability bound the rollouts of this Model's ModelDeployments, and are measured there.
    Absent: none."""
    tests: Tests | None = None
    """What each version must pass before it may serve. A change, but of resources, tests every version again; until
    the answer is there, the former one counts. Absent: nothing is tested."""
    approval: Literal["Automatic", "Manual"] = "Automatic"
    """Manual: a version is Ready only while a ModelApproval of its digest approves it. Automatic: it needs none."""
    version_history_limit: Annotated[int | None, Field(ge=1, le=1000)] = None
    """How many versions made by TrainingJobs stay, the newest; the others are deleted but for what serves, is named by
    a ModelDeployment, tested, waiting for an approval, or the newest that is Ready. Absent: all stay."""


class Reservation(Schema):
    """A number given to a training run whose version does not exist yet."""

    version: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    """The number."""
    training_job: Annotated[str, Field(max_length=63)]
    """Name of the TrainingJob."""
    uid: Annotated[str, Field(max_length=64)]
    """UID of the TrainingJob: another one of the same name gets another number."""


class Retiring(Schema):
    """A version that is to be deleted."""

    version: Annotated[int, Field(ge=1, json_schema_extra=INT64)]
    """Its number."""
    uid: Annotated[str, Field(max_length=64)]
    """UID of the ModelVersion: another one of the same name is not meant."""
    since: Timestamp
    """When that was found. It is deleted ten minutes later, unless somebody needs it by then."""


class RequiredMetric(Schema):
    """A metric that the use case requires."""

    requirement: RequirementName
    """The requirement's name."""
    name: MetricName
    """The metric."""
    min: Decimal | None = None
    """The least that it may be."""
    max: Decimal | None = None
    """The most that it may be."""
    every_slice: ColumnName | None = None
    """The column whose every value must keep to it. Absent: all rows together."""


class RequiredLatency(Schema):
    """A latency that the use case requires."""

    requirement: RequirementName
    """The requirement's name."""
    quantile: Fraction
    """The share of the requests that must be as fast."""
    max: Duration
    """The most that they may take."""


class RequiredAvailability(Schema):
    """The availability that the use case requires."""

    requirement: RequirementName
    """The requirement's name."""
    min: Fraction
    """The least share of requests that do not fail."""
    window: Duration
    """The time that is looked back at."""


class Governance(Schema):
    """What the use case asks of this Model, as it was read last."""

    name: ObjectName
    """The UseCase's name."""
    rank: Annotated[int | None, Field(ge=1, json_schema_extra=INT64)] = None
    """Its rank: training runs of this Model are queued by it. Absent: it has none."""
    metrics: Annotated[
        tuple[RequiredMetric, ...], Field(max_length=MAX_REQUIREMENTS, json_schema_extra=listmap("requirement"))
    ] = ()
    """What each version is tested for."""
    latency: Annotated[
        tuple[RequiredLatency, ...], Field(max_length=MAX_LATENCIES, json_schema_extra=listmap("requirement"))
    ] = ()
    """What each version is tested for, and its ModelDeployments are held to."""
    availability: RequiredAvailability | None = None
    """What its ModelDeployments are held to. Absent: nothing."""


class ModelStatus(Status):
    """The numbers given so far, and what is about to be deleted. Conditions: Ready, Reconciling, Stalled."""

    last_version: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """The highest number ever given; 0 before the first. No number is given twice."""
    latest_ready: Annotated[int | None, Field(ge=1, json_schema_extra=INT64)] = None
    """The highest version that is Ready: what a ModelDeployment without a version serves. Absent: none is."""
    use_case: Governance | None = None
    """What the UseCase of spec.useCaseRef asks. Absent: there is none, or it was not read yet."""
    reservations: Annotated[tuple[Reservation, ...], Field(max_length=256, json_schema_extra=listmap("uid"))] = ()
    """Numbers given to training runs whose versions do not exist yet."""
    retiring: Annotated[tuple[Retiring, ...], Field(max_length=256, json_schema_extra=listmap("uid"))] = ()
    """Versions beyond spec.versionHistoryLimit that nobody needs, the oldest first: they are about to be deleted."""


class Model(Resource):
    """What is true of all versions of one model: it numbers them, and says what they must pass."""

    plural: ClassVar = "models"
    short: ClassVar = "mdl"
    columns: ClassVar = (
        ("Last", "integer", ".status.lastVersion"),
        ("Latest Ready", "integer", ".status.latestReady"),
        ("Use Case", "string", ".spec.useCaseRef.name"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )

    spec: ModelSpec = ModelSpec.model_construct()
    status: ModelStatus = ModelStatus.model_construct()
