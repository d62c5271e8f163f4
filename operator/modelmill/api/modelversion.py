"""ModelVersion: an immutable artifact with its lineage.  It has no owner: nothing that trained it can take it away."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    IMMUTABLE,
    INT64,
    NAME_LENGTH,
    Digest,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    listmap,
)
from modelmill.api.trainingjob import Artifact, ModelReference

MAX_NUMBER = 999_999  # of a version


class TrainingJobLineage(Schema):
    """The TrainingJob that made the artifact."""

    name: Annotated[str, Field(max_length=63)]
    """Its name."""
    uid: Annotated[str, Field(max_length=64)]
    """Its UID: it may be gone by now, and another one may have its name."""


class DatasetLineage(Schema):
    """The data that the model was trained on."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the Dataset."""
    version: Digest
    """The Dataset's version: the digest of the content."""
    file: Digest | None = None
    """Digest of that version's Parquet file in the store, which is kept as long as the ModelVersion is."""


class Lineage(Schema):
    """Where the artifact comes from. Absent: from elsewhere, and registered by hand."""

    training_job: TrainingJobLineage | None = None
    recipe: Digest | None = None
    """Digest of everything that decided the model's bytes: data, pipeline, seed, software."""
    dataset: DatasetLineage | None = None
    git_commit: Annotated[str | None, Field(max_length=64, pattern=r"^[0-9a-f]{7,64}$")] = None
    """The Git commit that asked for it: the TrainingJob's annotation modelmill.dev/git-commit when it began."""


class ModelVersionSpec(Schema):
    """One version of a model. It is immutable."""

    rules: ClassVar = (Rule("self == oldSelf", IMMUTABLE, reason="FieldValueForbidden"),)

    model_ref: ModelReference
    """The Model that this is a version of. It need not exist."""
    version: Annotated[int, Field(ge=1, le=MAX_NUMBER, json_schema_extra=INT64)]
    """The version's number. metadata.name is the model's name, a dash and this number, such as triage-7."""
    artifact: Artifact
    lineage: Lineage = Lineage.model_construct()


class Tensor(Schema):
    """An input or output of the model."""

    name: Annotated[str, Field(max_length=128)]
    """Its name in a request or an answer."""
    datatype: Annotated[str, Field(max_length=8)]
    """Type of its values in the Open Inference Protocol, such as FP32, INT64 or BYTES."""
    shape: Annotated[
        tuple[Annotated[int, Field(json_schema_extra=INT64)], ...],
        Field(max_length=8, json_schema_extra=ATOMIC),
    ]
    """Its size in each dimension, rows first; -1: any."""


class ModelSchema(Schema):
    """What the model takes and gives."""

    inputs: Annotated[tuple[Tensor, ...], Field(max_length=2000, json_schema_extra=listmap("name"))] = ()
    """The tensors that a request must have: all, or where they are many the first ones; the artifact's manifest has
    all."""
    outputs: Annotated[tuple[Tensor, ...], Field(max_length=16, json_schema_extra=listmap("name"))] = ()
    """The tensors that an answer has."""


class ApprovalStatus(Schema):
    """The decision on this version. It is remembered: a rejection for ever, an approval until it is withdrawn, and then
    that it was there."""

    name: Annotated[str, Field(max_length=253)]
    """Name of the ModelApproval. It may be gone by now."""
    decision: Literal["Approve", "Reject"]
    """What it says."""
    by: Annotated[str, Field(max_length=512)]
    """Who decided, as the ModelApproval says."""
    at: Timestamp
    """When the ModelApproval was created."""


class TestResult(Schema):
    """What came of one test."""

    name: Annotated[str, Field(max_length=64)]
    """The metric's or the test's name; latency."""
    passed: bool
    """Whether it is passed."""
    observed: Annotated[str | None, Field(max_length=32)] = None
    """What was found: of slices the worst, of a baseline the difference (more is better), of a behaviour the fraction
    of rows for which it holds. Absent: nothing could be."""
    threshold: Annotated[str, Field(max_length=64)]
    """What is asked."""
    source: Annotated[str, Field(max_length=64)]
    """Who asks it, such as model/triage or usecase/tumour-triage."""
    slice: Annotated[str | None, Field(max_length=128)] = None
    """The slice that it was found in, as column=value."""
    message: Annotated[str | None, Field(max_length=512)] = None
    """What else there is to say: why it could not be tested, what to do."""


class Baseline(Schema):
    """What served when the tests began. The newest version is tested again when something else serves."""

    deployment: Annotated[str, Field(max_length=63)]
    """Name of the ModelDeployment."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the version. Absent: nothing served."""
    artifact: Artifact | None = None


class Signature(Schema):
    """A signature on the artifact's manifest that counts."""

    key: Annotated[str, Field(max_length=63)]
    """Name of the key in the Workspace's spec.signing."""
    fingerprint: Annotated[str, Field(max_length=16)]
    """The first 16 hex digits of the key's SHA-256 (of its DER)."""


class ModelVersionStatus(Status):
    """What the verification and the tests found, and who decided on it. Conditions: Verified, Tested, Approved, Ready,
    Reconciling, Stalled."""

    schema_: Annotated[ModelSchema | None, Field(alias="schema")] = None
    size: Annotated[int | None, Field(ge=0, json_schema_extra=INT64)] = None
    """Bytes of the artifact, all files together."""
    signature: Signature | None = None
    """Absent: nobody signed it whose signature counts."""
    tests: Annotated[tuple[TestResult, ...], Field(max_length=32, json_schema_extra=ATOMIC)] = ()
    """What came of the tests of the Model and of its use case, in their order."""
    tested: Digest | None = None
    """Digest of these tests as status.tests is about them. Absent: there is no answer yet."""
    tested_image: Annotated[str | None, Field(max_length=512)] = None
    """Image of the server that status.tests is about. Absent: it was not written down."""
    tested_at: Timestamp | None = None
    """When these tests had been run. Absent: it was not written down."""
    testing: Digest | None = None
    """Digest of the tests that are run now."""
    baseline: Baseline | None = None
    approval: ApprovalStatus | None = None
    """The decision that counts, or counted. Absent: none ever did."""


class ModelVersion(Resource):
    """An immutable artifact with its lineage."""

    plural: ClassVar = "modelversions"
    short: ClassVar = "mver"
    # A version's name is its model's, a dash, and up to six digits.
    name_length: ClassVar = NAME_LENGTH + 7
    rules: ClassVar = (
        Rule(
            "self.metadata.name == '%s-%d'.format([self.spec.modelRef.name, self.spec.version])",
            "metadata.name must be the model's name, a dash and the version, such as triage-7",
            ".metadata.name",
        ),
    )
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Model", "string", ".spec.modelRef.name"),
        ("Version", "integer", ".spec.version"),
        ("Tested", "string", '.status.conditions[?(@.type=="Tested")].status'),
        ("Approved", "string", '.status.conditions[?(@.type=="Approved")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    selectable: ClassVar = (
        ".spec.modelRef.name",
        ".spec.artifact.digest",
        ".spec.lineage.trainingJob.name",
        ".spec.lineage.recipe",
        ".spec.lineage.dataset.name",
        ".spec.lineage.dataset.version",
        ".spec.lineage.gitCommit",
    )
    wide: ClassVar = (
        ("Digest", "string", ".spec.artifact.digest"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )

    spec: ModelVersionSpec
    status: ModelVersionStatus = ModelVersionStatus.model_construct()
