"""Workspace: the platform team's settings for one namespace.  There is one, named `default`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import ATOMIC, Digest, ObjectReference, Resource, Rule, Schema, Status, Uri

SourceScheme = Literal["s3", "gs", "az", "https"]


class Store(Schema):
    """Where the namespace's snapshots and artifacts lie."""

    rules: ClassVar = (
        Rule(
            "self.uri.startsWith('s3://') || !has(self.endpoint)",
            "endpoint is only for an s3:// uri",
            ".endpoint",
            "FieldValueForbidden",
        ),
    )

    uri: Annotated[Uri, Field(pattern=r"^(s3|gs|az)://[a-z0-9][-._a-z0-9]*(/[-._a-zA-Z0-9]+)*$")]
    """Bucket and, where wanted, a prefix within it: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."""
    endpoint: Annotated[str | None, Field(max_length=253, pattern=r"^https?://[^\s/]+$")] = None
    """URL of an S3 server other than AWS, such as http://store:7070. Absent: AWS."""
    region: Annotated[str | None, Field(min_length=1, max_length=64, pattern=r"^[-a-z0-9]+$")] = None
    """Region of an S3 bucket, such as eu-central-1. Absent: us-east-1."""
    secret_ref: ObjectReference | None = None
    """Secret with the keys accessKeyId and secretAccessKey. Absent: the pods' own identity."""


class Allow(Schema):
    """What users of the namespace may ask for."""

    sources: Annotated[tuple[SourceScheme, ...], Field(max_length=8, json_schema_extra=ATOMIC)] = (
        "s3",
        "gs",
        "az",
        "https",
    )
    """URI schemes that a Dataset may read from. An empty list: none, so that only ConfigMaps are left."""
    estimator_packages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], ...],
        Field(min_length=1, max_length=16, json_schema_extra=ATOMIC),
    ] = ("sklearn",)
    """Top-level Python packages that the classes of an estimator may come from. They must be in the trainer's image."""


class WorkspaceSpec(Schema):
    """The settings, for everything in the namespace."""

    store: Store
    allow: Allow = Allow()


class WorkspaceStatus(Status):
    """What the trial of the store found. Conditions: PreflightPassed, Ready, Reconciling, Stalled."""

    preflight: Digest | None = None
    """Digest of the store's settings that were tried and work; others are tried anew. Absent: they do not work, or are
    not known to work."""


class Workspace(Resource):
    """The platform team's settings for one namespace: its store, and what is allowed in it."""

    plural: ClassVar = "workspaces"
    short: ClassVar = "wsp"
    name_pattern: ClassVar = "^default$"
    name_length: ClassVar = len("default")
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Store", "string", ".spec.store.uri"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),)

    spec: WorkspaceSpec
    status: WorkspaceStatus = WorkspaceStatus()
