"""ModelDeployment: a model that is served."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.capture import Capture
from modelmill.api.modelversion import MAX_NUMBER
from modelmill.api.monitoring import DriftStatus, Monitoring, QualityStatus
from modelmill.api.rollout import CandidateStatus, LastRollout, RolledBack, Rollout
from modelmill.api.schema import (
    ATOMIC,
    INT64,
    SET,
    Digest,
    Duration,
    ObjectName,
    Resource,
    ResourceRequirements,
    Rule,
    Schema,
    Status,
    Timestamp,
    Uri,
)
from modelmill.api.servicelevel import ServiceLevelStatus
from modelmill.api.trainingjob import Artifact, ModelName


class ModelSelection(Schema):
    """What to serve: the newest Ready version of a model (name), one version of it (name and version), or an artifact
    (uri and digest)."""

    rules: ClassVar = (
        Rule("has(self.name) != has(self.uri)", "give either name (and version), or uri and digest"),
        Rule("has(self.uri) == has(self.digest)", "uri and digest go together"),
        Rule("has(self.name) || !has(self.version)", "version goes with name", ".version", "FieldValueForbidden"),
    )

    name: ModelName | None = None
    """Name of a Model in the same namespace."""
    version: Annotated[int | None, Field(ge=1, le=MAX_NUMBER, json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: the newest one that is Ready, and the next one as soon as it is."""
    uri: Uri | None = None
    """Where an artifact lies, where it is to be served without a ModelVersion: the Workspace's store.uri,
    /artifacts/sha256- and the digits of the digest."""
    digest: Digest | None = None
    """Digest of the artifact's manifest. Pods do not serve what has another one."""


# No credentials, no fragments: what a container runtime takes for the name of an image, a digest included.
Image = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        pattern=r"^[a-zA-Z0-9]([-._/a-zA-Z0-9]|:[a-zA-Z0-9_])*(@sha256:[0-9a-f]{64})?$",
    ),
]
Argument = Annotated[str, Field(max_length=1024)]


class Container(Schema):
    """A server of one's own, with Modelmill's in front of it: limits, counters, drain. The model is a read-only folder
    that $(MILL_MODEL) names; it is to be served as $(MILL_MODEL_NAME) on port $(MILL_PORT)."""

    rules: ClassVar = (
        Rule(
            "!(self.port in [8080, 8081, 9090])",
            "port must not be 8080, 8081 or 9090, where the server in front of it listens",
            ".port",
        ),
    )

    image: Image
    """The image. It runs as user 65532 with a read-only root and a /tmp of its own, without credentials."""
    command: Annotated[tuple[Argument, ...], Field(max_length=64, json_schema_extra=ATOMIC)] = ()
    """What is started instead of the image's entrypoint, as in a pod."""
    args: Annotated[tuple[Argument, ...], Field(max_length=64, json_schema_extra=ATOMIC)] = ()
    """Its arguments instead of the image's, as in a pod: $(MILL_MODEL), $(MILL_MODEL_NAME), $(MILL_MODEL_VERSION) and
    $(MILL_PORT) are replaced."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """The port of the pod that it listens on, 127.0.0.1 being enough. Callers do not reach it."""
    protocol: Literal["V2", "V1"] = "V2"
    """What it speaks over HTTP: the Open Inference Protocol (V2), or V1 with instances and predictions."""


class Server(Schema):
    """The pods that serve."""

    rules: ClassVar = (
        Rule(
            "!has(self.container) || self.workers == 1",
            "workers are processes of Modelmill's own server: with container, say in its args how many it has",
            ".workers",
            "FieldValueForbidden",
        ),
    )

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes of each pod answer, each with the model in its own memory. More than one pays where a pod has
    a CPU for each: say so in resources."""
    resources: ResourceRequirements = ResourceRequirements.model_construct()
    """CPU and memory of each pod, the fetching of the model included. Default: for each of the workers, 100m of cpu and
    256Mi of memory are requested, and memory is limited to 512Mi."""
    container: Container | None = None
    """Another server that computes the predictions: its container gets the resources, and the server in front of it
    100m of cpu and 64Mi to 512Mi of memory besides. Absent: Modelmill's own."""


NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class Access(Schema):
    """Who may call the model."""

    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=64, json_schema_extra=SET)] = ()
    """Namespaces whose pods may call it, besides its own. It takes a network plugin that knows NetworkPolicies."""


MOST_PODS = 1000


class Autoscaling(Schema):
    """How many pods serve, by what they have to do: min, max, and one measure."""

    rules: ClassVar = (
        Rule("has(self.cpuPercent) != has(self.requestsPerSecond)", "give either cpuPercent or requestsPerSecond"),
        Rule("self.min <= self.max", "min must not be more than max", ".min"),
    )

    min: Annotated[int, Field(ge=1, le=MOST_PODS)] = 1
    """How many pods serve at least."""
    max: Annotated[int, Field(ge=1, le=MOST_PODS)]
    """How many pods serve at most."""
    cpu_percent: Annotated[int | None, Field(ge=1, le=1000)] = None
    """How much of the CPU that they request pods are to use on average, in percent: by a HorizontalPodAutoscaler, which
    takes the cluster's metrics-server."""
    requests_per_second: Annotated[int | None, Field(ge=1, le=1000000)] = None
    """How many requests each pod is to answer per second on average. The operator counts them; nothing else is
    needed."""
    scale_down_after: Duration = "5m"
    """How long fewer pods must have been enough before there are fewer; more are made at once. By CPU, longer than an
    hour means an hour."""


Hostname = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class GatewayReference(Schema):
    """A Gateway of the Gateway API. It says itself which namespaces' routes it takes."""

    name: ObjectName
    """The Gateway's name."""
    namespace: NamespaceName | None = None
    """The Gateway's namespace, whose pods may then call the model. Absent: the same one."""
    section_name: Annotated[
        str | None, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    ] = None
    """The one listener of the Gateway's by which requests come. Absent: by each that takes the route."""


class Expose(Schema):
    """How callers outside of the cluster reach the model: by an HTTPRoute to a Gateway. Who may call is said there."""

    gateway: GatewayReference
    hostnames: Annotated[tuple[Hostname, ...], Field(min_length=1, max_length=16, json_schema_extra=SET)]
    """Host names whose requests are the model's, the one in status.url first; *.example.org for all below one."""
    scheme: Literal["HTTPS", "HTTP"] = "HTTPS"
    """What callers speak to the Gateway, for status.url: the listener says it, and whoever declared that."""


class ModelDeploymentSpec(Schema):
    """What is to be served. A change brings up a new revision beside the one that serves, which takes over once all its
    pods are ready."""

    rules: ClassVar = (
        Rule(
            "!has(self.capture) || !has(self.server.container)",
            "Modelmill's own server captures: with server.container leave capture out",
            ".capture",
            "FieldValueForbidden",
        ),
    )

    model: ModelSelection
    replicas: Annotated[int, Field(ge=0, le=MOST_PODS)] = 1
    """How many pods serve; 0 serves nothing. kubectl scale and autoscalers may set it. With autoscaling leave it out:
    only 0 counts then."""
    autoscaling: Autoscaling | None = None
    """How many pods serve, by what they have to do. It begins with as many as there are. Absent: replicas says it."""
    server: Server = Server.model_construct()
    access: Access = Access.model_construct()
    """Who may call the model. Default: every pod in the same namespace."""
    expose: Expose | None = None
    """How callers outside of the cluster reach the model. Absent: they do not."""
    rollout: Rollout = Rollout()
    """How a new revision takes over. Default: once all its pods are ready."""
    monitoring: Monitoring = Monitoring.model_construct()
    """What is watched while it serves. Default: nothing."""
    capture: Capture | None = None
    """What is kept of predictions, and of the labels that come back. Absent: nothing, and no labels are taken."""
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = 10
    """How many former revisions are kept, scaled to zero, so that going back needs no new Deployment."""


class RevisionStatus(Schema):
    """A revision that has a Deployment."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision: eight hex digits that stand for artifact, server and store."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: it serves an artifact by uri."""
    ready: Annotated[int, Field(ge=0)] = 0
    """How many of its pods are ready."""


class PromotedRevision(Schema):
    """A revision that took over."""

    revision: Annotated[str, Field(max_length=16)]
    """The revision: eight hex digits that stand for artifact, server and store."""
    version: Annotated[int | None, Field(json_schema_extra=INT64)] = None
    """Number of the model's version. Absent: it served an artifact by uri."""
    model: Annotated[str | None, Field(max_length=63)] = None
    """Name of the Model that it is a version of. Absent: it served an artifact by uri."""
    artifact: Artifact | None = None
    promoted_at: Timestamp
    """When it took over."""


class AutoscalingStatus(Schema):
    """How many pods an autoscaler wants, and what it waits for. A restart of the operator forgets nothing of it."""

    replicas: Annotated[int, Field(ge=1, le=MOST_PODS)]
    """How many pods the revision that serves is to have."""
    changed_at: Timestamp
    """When that changed last."""
    lower: Annotated[int | None, Field(ge=1, le=MOST_PODS)] = None
    """The most that was enough since lowerSince. Absent: so many are needed."""
    lower_since: Timestamp | None = None
    """Since when fewer may be enough; there are fewer once that was so for scaleDownAfter."""


class ModelDeploymentStatus(Status):
    """What serves, and what is coming up. Conditions: Available, Ready, Reconciling, Stalled, RolledBack, Exposed,
    ScalingActive, DriftDetected, QualityDropped, RetentionKept."""

    url: Annotated[str | None, Field(max_length=320)] = None
    """Where callers reach the model: from outside, once a Gateway has taken its route, else inside of the cluster."""
    # What the scale subresource reads has 32 bits.
    replicas: Annotated[int, Field(ge=0, le=2147483647)] = 0
    """Number of pods of all revisions, for the scale subresource."""
    selector: Annotated[str, Field(max_length=256)] = ""
    """Label selector of these pods, for the scale subresource."""
    stable: RevisionStatus | None = None
    """The revision that serves. Absent: none does."""
    candidate: CandidateStatus | None = None
    """The revision that is coming up. Absent: none is."""
    rolled_back: RolledBack | None = None
    """The revision that the spec asks for and that is not tried again by itself. Absent: there is none."""
    last_rollout: LastRollout | None = None
    """The rollout that ended last. Absent: none has."""
    drift: DriftStatus | None = None
    """What is known of drift. Absent: nobody looks, or no window has ended yet."""
    quality: QualityStatus | None = None
    """What is known of quality. Absent: nobody looks, or nothing can be measured."""
    service_levels: ServiceLevelStatus | None = None
    """What was measured of what serves. Absent: nobody asks."""
    last_handled_action: Annotated[str | None, Field(max_length=64)] = None
    """The annotation modelmill.dev/action, once it was handled: VERB@REVISION."""
    autoscaling: AutoscalingStatus | None = None
    """How many pods an autoscaler wants. Absent: spec.replicas says it."""
    history: Annotated[tuple[PromotedRevision, ...], Field(max_length=101, json_schema_extra=ATOMIC)] = ()
    """The revisions that took over, the newest first."""


class ModelDeployment(Resource):
    """A model that is served."""

    plural: ClassVar = "modeldeployments"
    short: ClassVar = "mdep"
    columns: ClassVar = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Available", "string", '.status.conditions[?(@.type=="Available")].status'),
        ("Version", "integer", ".status.stable.version"),
        ("Serving", "integer", ".status.stable.ready"),
        ("Next", "integer", ".status.candidate.version"),
        ("Step", "integer", ".status.candidate.step"),
        ("Weight", "integer", ".status.candidate.weight"),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("URL", "string", ".status.url"),
        ("Drift", "string", '.status.conditions[?(@.type=="DriftDetected")].status'),
        ("Quality Dropped", "string", '.status.conditions[?(@.type=="QualityDropped")].status'),
        ("Quality", "string", ".status.quality.window.value"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message'),
    )
    selectable: ClassVar = (".spec.model.name", ".spec.model.digest")
    scale: ClassVar = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }

    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus = ModelDeploymentStatus.model_construct()
