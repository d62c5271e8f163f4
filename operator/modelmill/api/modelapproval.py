"""ModelApproval: one person's decision on one digest.  Being allowed to create one is the right to approve."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import IMMUTABLE, Digest, ObjectReference, Resource, Rule, Schema, Status


class ModelApprovalSpec(Schema):
    """One decision on one version. It is immutable: who thinks better of it deletes it, or creates another one."""

    rules: ClassVar = (Rule("self == oldSelf", IMMUTABLE, reason="FieldValueForbidden"),)

    model_version_ref: ObjectReference
    """The ModelVersion that is decided on, such as triage-7. It may come later."""
    digest: Digest
    """The version's spec.artifact.digest, as whoever decides has seen it. A decision on another digest does not
    count."""
    decision: Literal["Approve", "Reject"]
    """Approve lets the version serve where the Model's spec.approval is Manual. Reject keeps it from serving whatever
    the Model says, and is final: it counts also after this object was deleted."""
    by: Annotated[str, Field(min_length=1, max_length=512)]
    """Who decides: the user name as the API server knows it (kubectl auth whoami). Where the admission policies are
    installed, nobody can sign for somebody else."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why, in words for people."""


class ModelApprovalStatus(Status):
    """Whether the decision counts. Conditions: Ready, Reconciling, Stalled."""


class ModelApproval(Resource):
    """One decision on one version of a model."""

    plural: ClassVar = "modelapprovals"
    short: ClassVar = "mappr"
    # Any name: nothing is named after it.  An Event about it has a name that is a little longer.
    name_pattern: ClassVar = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
    name_length: ClassVar = 128
    columns: ClassVar = (
        ("Counts", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Version", "string", ".spec.modelVersionRef.name"),
        ("Decision", "string", ".spec.decision"),
        ("By", "string", ".spec.by"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Digest", "string", ".spec.digest"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )

    spec: ModelApprovalSpec
    status: ModelApprovalStatus = ModelApprovalStatus.model_construct()
