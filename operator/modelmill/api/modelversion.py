"""ModelVersion: an immutable artifact with its lineage.  It has no owner: nothing that trained it can take it away."""

from typing import Annotated, ClassVar

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    IMMUTABLE,
    INT64,
    NAME_LENGTH,
    Digest,
    Resource,
    Schema,
    Status,
    listmap,
)
from modelmill.api.trainingjob import Artifact, ModelReference


class TrainingJobLineage(Schema):
    name: Annotated[str, Field(max_length=63)]
    uid: Annotated[str, Field(max_length=64)]


class DatasetLineage(Schema):
    name: Annotated[str, Field(max_length=63)]
    version: Digest


class Lineage(Schema):
    training_job: TrainingJobLineage | None = None
    recipe: Digest | None = None
    dataset: DatasetLineage | None = None


class ModelVersionSpec(Schema):
    rules: ClassVar = (("self == oldSelf", "spec " + IMMUTABLE[1]),)

    model_ref: ModelReference
    version: Annotated[int, Field(ge=1, le=999999, json_schema_extra=INT64)]
    artifact: Artifact
    lineage: Lineage = Lineage()


class Tensor(Schema):
    name: Annotated[str, Field(max_length=128)]
    datatype: Annotated[str, Field(max_length=8)]
    shape: Annotated[
        tuple[Annotated[int, Field(json_schema_extra=INT64)], ...],
        Field(max_length=8, json_schema_extra=ATOMIC),
    ]


class ModelSchema(Schema):
    inputs: Annotated[tuple[Tensor, ...], Field(max_length=2000, json_schema_extra=listmap("name"))] = ()
    outputs: Annotated[tuple[Tensor, ...], Field(max_length=16, json_schema_extra=listmap("name"))] = ()


class ModelVersionStatus(Status):
    """Conditions: Verified, Ready, Reconciling, Stalled."""

    schema_: Annotated[ModelSchema | None, Field(alias="schema")] = None
    size: Annotated[int | None, Field(ge=0, json_schema_extra=INT64, description="Bytes of the artifact.")] = None


class ModelVersion(Resource):
    """An immutable artifact with its lineage."""

    plural: ClassVar = "modelversions"
    short: ClassVar = "mver"
    # A version's name is its model's, a dash, and up to six digits.
    name_length: ClassVar = NAME_LENGTH + 7
    rules: ClassVar = (
        (
            "self.metadata.name == '%s-%d'.format([self.spec.modelRef.name, self.spec.version])",
            "metadata.name must be the model's name, a dash and the version, such as triage-7",
        ),
    )
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Model", "string", ".spec.modelRef.name"),
        ("Version", "integer", ".spec.version"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Digest", "string", ".spec.artifact.digest"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )

    spec: ModelVersionSpec
    status: ModelVersionStatus = ModelVersionStatus()
