"""Workspace: the platform team's settings for one namespace.  There is one, named `default`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import ATOMIC, Digest, ObjectReference, Resource, Schema, Status, Uri

SourceScheme = Literal["s3", "gs", "az", "https"]


class Store(Schema):
    """Where snapshots and artifacts lie."""

    rules: ClassVar = (("self.uri.startsWith('s3://') || !has(self.endpoint)", "endpoint is only for an s3:// uri"),)

    uri: Annotated[
        Uri,
        Field(
            pattern=r"^(s3|gs|az)://[a-z0-9][-._a-z0-9]*(/[-._a-zA-Z0-9]+)*$",
            description="Bucket and optional prefix: s3://bucket/prefix, gs://... or az://...",
        ),
    ]
    endpoint: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^https?://[^\s/]+$",
            description="URL of an S3 server other than AWS, such as http://store:7070.",
        ),
    ] = None
    region: Annotated[str | None, Field(min_length=1, max_length=64, pattern=r"^[-a-z0-9]+$")] = None
    secret_ref: Annotated[
        ObjectReference | None,
        Field(description="Secret with the keys accessKeyId and secretAccessKey; absent: the pods' own identity."),
    ] = None


class Allow(Schema):
    """What users of the namespace may ask for."""

    sources: Annotated[
        tuple[SourceScheme, ...],
        Field(max_length=8, json_schema_extra=ATOMIC, description="URI schemes that a Dataset may read from."),
    ] = ("s3", "gs", "az", "https")
    estimator_packages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra=ATOMIC,
            description="Top-level Python packages that the classes of an estimator may come from.",
        ),
    ] = ("sklearn",)


class WorkspaceSpec(Schema):
    store: Store
    allow: Allow = Allow()


class WorkspaceStatus(Status):
    """Conditions: PreflightPassed, Ready, Reconciling, Stalled."""

    preflight: Annotated[Digest | None, Field(description="Digest of the settings that passed.")] = None


class Workspace(Resource):
    """The platform team's settings for one namespace: its store, and what is allowed in it."""

    plural: ClassVar = "workspaces"
    short: ClassVar = "wsp"
    name_pattern: ClassVar = "^default$"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Store", "string", ".spec.store.uri"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),)

    spec: WorkspaceSpec
    status: WorkspaceStatus = WorkspaceStatus()
