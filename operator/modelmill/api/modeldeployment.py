"""ModelDeployment: a model that is served."""

from typing import Annotated, ClassVar

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    INT64,
    Digest,
    Resource,
    ResourceRequirements,
    Schema,
    Status,
    Timestamp,
    Uri,
)
from modelmill.api.trainingjob import ModelName


class ModelSelection(Schema):
    """What to serve: the newest Ready version of a model, one version of it, or an artifact by its digest."""

    rules: ClassVar = (
        ("has(self.name) != has(self.uri)", "give either name (and version), or uri and digest"),
        ("has(self.uri) == has(self.digest)", "uri and digest go together"),
        ("has(self.name) || !has(self.version)", "version goes with name"),
    )

    name: ModelName | None = None
    version: Annotated[
        int | None,
        Field(ge=1, le=999999, json_schema_extra=INT64, description="Absent: the newest Ready version."),
    ] = None
    uri: Uri | None = None
    digest: Digest | None = None


class Server(Schema):
    resources: ResourceRequirements = ResourceRequirements()


class ModelDeploymentSpec(Schema):
    model: ModelSelection
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    server: Server = Server()
    revision_history_limit: Annotated[
        int, Field(ge=0, le=100, description="Former revisions that are kept, without pods.")
    ] = 10


class RevisionStatus(Schema):
    revision: Annotated[str, Field(max_length=16)]
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    ready: Annotated[int, Field(ge=0)] = 0


class PromotedRevision(Schema):
    revision: Annotated[str, Field(max_length=16)]
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    promoted_at: Timestamp


class ModelDeploymentStatus(Status):
    """Conditions: Available, Ready, Reconciling, Stalled."""

    url: Annotated[str | None, Field(max_length=256)] = None
    replicas: Annotated[int, Field(ge=0)] = 0
    selector: Annotated[str, Field(max_length=256)] = ""
    stable: Annotated[RevisionStatus | None, Field(description="The revision that serves.")] = None
    candidate: Annotated[RevisionStatus | None, Field(description="The revision that is coming up.")] = None
    history: Annotated[tuple[PromotedRevision, ...], Field(max_length=101, json_schema_extra=ATOMIC)] = ()


class ModelDeployment(Resource):
    """A model that is served."""

    plural: ClassVar = "modeldeployments"
    short: ClassVar = "mdep"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Available", "string", '.status.conditions[?(@.type=="Available")].status'),
        ("Version", "integer", ".status.stable.version"),
        ("Replicas", "integer", ".status.stable.ready"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("URL", "string", ".status.url"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )
    scale: ClassVar = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }

    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus = ModelDeploymentStatus()
