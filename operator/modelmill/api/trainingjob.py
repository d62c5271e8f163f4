"""TrainingJob: one training run of a declared pipeline on one version of a Dataset."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    IMMUTABLE,
    INT64,
    NAME_LENGTH,
    NAME_PATTERN,
    OPAQUE,
    SET,
    ColumnName,
    Decimal,
    Digest,
    Duration,
    Fraction,
    ObjectReference,
    Resource,
    ResourceRequirements,
    Schema,
    Status,
    Uri,
    listmap,
)

StepName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z](_?[a-zA-Z0-9])*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
Columns = Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=2000, json_schema_extra=ATOMIC)]


class ModelReference(Schema):
    """A Model in the same namespace."""

    name: ModelName


class Split(Schema):
    test: Annotated[Fraction, Field(description="Fraction of the rows that are kept for the test.")] = "0.2"
    stratify: Annotated[bool, Field(description="Keep the classes' shares in both parts.")] = False


class Data(Schema):
    dataset_ref: ObjectReference
    version: Annotated[Digest | None, Field(description="Absent: the newest valid, pinned at the start.")] = None
    target: ColumnName
    features: Annotated[Columns | None, Field(description="Absent: every column but the target.")] = None
    split: Split = Split()


class Step(Schema):
    name: StepName
    class_: Annotated[
        str,
        Field(
            alias="class",
            min_length=1,
            max_length=256,
            pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+$",
            description="Full name of a scikit-learn estimator class.",
        ),
    ]
    params: Annotated[
        dict[str, Any],
        Field(default_factory=dict, json_schema_extra=OPAQUE, description="The class's own parameters."),
    ]


class ColumnGroup(Schema):
    name: StepName
    select: Columns
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=16, json_schema_extra=listmap("name"))]


class Estimator(Schema):
    columns: Annotated[
        tuple[ColumnGroup, ...],
        Field(
            max_length=64,
            json_schema_extra=listmap("name"),
            description="A ColumnTransformer before the steps: each group's columns go through its own steps.",
        ),
    ] = ()
    steps: Annotated[
        tuple[Step, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra=listmap("name"),
            description="Transformers, and the predictor as the last one.",
        ),
    ]


class Evaluation(Schema):
    metrics: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")], ...],
        Field(max_length=32, json_schema_extra=SET, description="Absent: accuracy, or r2 for a regressor."),
    ] = ()


class Limits(Schema):
    timeout: Duration = "1h"
    retries: Annotated[int, Field(ge=0, le=10)] = 2


class TrainingJobSpec(Schema):
    rules: ClassVar = (
        (
            "has(self.modelRef) == has(oldSelf.modelRef) && (!has(self.modelRef) || self.modelRef == oldSelf.modelRef)",
            "modelRef " + IMMUTABLE[1],
        ),
        *(
            (f"self.{field} == oldSelf.{field}", f"{field} {IMMUTABLE[1]}")
            for field in ("data", "estimator", "seed", "evaluation", "resources", "limits")
        ),
    )

    model_ref: Annotated[
        ModelReference | None, Field(description="A successful run becomes this Model's next version.")
    ] = None
    data: Data
    estimator: Estimator
    seed: Annotated[int, Field(ge=0, le=4294967295, json_schema_extra=INT64)] = 0
    evaluation: Evaluation = Evaluation()
    resources: ResourceRequirements = ResourceRequirements()
    limits: Limits = Limits()
    suspend: bool = False


class Artifact(Schema):
    uri: Uri
    digest: Digest


class Metric(Schema):
    name: Annotated[str, Field(max_length=64)]
    value: Annotated[str, Field(max_length=64)]
    stddev: Decimal | None = None


class Usage(Schema):
    cpu_seconds: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0


class TrainingJobStatus(Status):
    """Conditions: PreflightPassed, DataReady, Trained, Succeeded, Failed, Reconciling, Stalled."""

    dataset_version: Digest | None = None
    dataset_file: Digest | None = None
    recipe: Digest | None = None
    artifact: Artifact | None = None
    metrics: Annotated[tuple[Metric, ...], Field(max_length=32, json_schema_extra=listmap("name"))] = ()
    model_version: Annotated[str | None, Field(max_length=63)] = None
    usage: Usage | None = None


class TrainingJob(Resource):
    """One training run of a declared pipeline on one version of a Dataset."""

    plural: ClassVar = "trainingjobs"
    short: ClassVar = "tjob"
    columns: ClassVar = (
        ("Succeeded", "string", '.status.conditions[?(@.type=="Succeeded")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Succeeded")].reason'),
        ("Version", "string", ".status.modelVersion"),
        ("Metric", "string", ".status.metrics[0].name"),
        ("Value", "string", ".status.metrics[0].value"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (("Message", "string", '.status.conditions[?(@.type=="Succeeded")].message'),)

    spec: TrainingJobSpec
    status: TrainingJobStatus = TrainingJobStatus()
