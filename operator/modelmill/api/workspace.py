"""Workspace: the platform team's settings for one namespace.  There is one, named `default`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelmill.api.schema import (
    ATOMIC,
    INT64,
    Digest,
    Endpoint,
    ObjectName,
    ObjectReference,
    Region,
    Resource,
    Rule,
    Schema,
    Status,
    StorageAccount,
    Timestamp,
    Uri,
    listmap,
)

SourceScheme = Literal["s3", "gs", "az", "https", "pvc", "postgresql"]


class Collect(Schema):
    """Whether what nobody refers to any more is taken out of the store."""

    enabled: bool = False
    """True: once a day a Job sets aside what no Dataset's history, TrainingJob or ModelVersion refers to, and deletes
    what it set aside a day before; only where the store is this Workspace's alone. False: nothing is deleted."""
    artifacts: bool = False
    """True: the same of artifacts that no ModelVersion, ModelDeployment or TrainingJob without a version refers to; one
    that was put there by hand needs its ModelVersion within a day. False: artifacts stay."""


class Store(Schema):
    """Where the namespace's snapshots and artifacts lie."""

    rules: ClassVar = (
        Rule(
            "self.uri.startsWith('s3://') || !has(self.endpoint)",
            "endpoint is only for an s3:// uri",
            ".endpoint",
            "FieldValueForbidden",
        ),
        Rule(
            "self.uri.startsWith('az://') || !has(self.account)",
            "account is only for an az:// uri",
            ".account",
            "FieldValueForbidden",
        ),
        Rule(
            "!self.uri.startsWith('pvc://') || !self.uri.contains('/.')",
            "no part of a folder in a volume starts with a dot",
            ".uri",
        ),
        Rule(
            "!self.uri.startsWith('pvc://') || !has(self.secretRef)",
            "a volume takes no secretRef",
            ".secretRef",
            "FieldValueForbidden",
        ),
    )

    uri: Annotated[Uri, Field(pattern=r"^(s3|gs|az|pvc)://[a-z0-9][-._a-z0-9]*(/[-._a-zA-Z0-9]+)*$")]
    """Bucket and, where wanted, a prefix within it: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. Or
    pvc://claim/folder: the volume of a PersistentVolumeClaim that many nodes can write to (ReadWriteMany)."""
    endpoint: Endpoint | None = None
    """URL of an S3 server other than AWS, such as http://store:7070. Absent: AWS."""
    region: Region | None = None
    """Region of an S3 bucket, such as eu-central-1. Absent: us-east-1."""
    account: StorageAccount | None = None
    """Storage account of an az:// container, which pods that prove who they are need. Absent: the Secret's
    accountName."""
    secret_ref: ObjectReference | None = None
    """Secret with the keys accessKeyId and secretAccessKey for s3, serviceAccountKey for gs, accountName and
    accountKey for az. Absent: the pods' own identity."""
    collect: Collect = Collect.model_construct()
    """What happens to what nobody refers to any more. Default: it stays."""


class Identity(Schema):
    """Who the pods are: for a cloud that knows service accounts. Tokens are mounted by the cloud's own webhook, never
    by us."""

    rules: ClassVar = (
        Rule(
            "!has(self.podLabels) ||"
            " self.podLabels.all(key, !key.startsWith('modelmill.dev/') && !key.startsWith('app.kubernetes.io/'))",
            "labels of modelmill.dev and app.kubernetes.io are the operator's own",
            ".podLabels",
        ),
    )

    service_account_name: ObjectName | None = None
    """Service account of the pods that reach the store. Absent: the namespace's default one. It needs no rights in the
    cluster."""
    pod_labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]]
        | None,
        Field(max_length=16),
    ] = None
    """Labels of these pods, for a cloud that asks for one, such as azure.workload.identity/use: "true"."""


ImagePattern = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[a-zA-Z0-9*][-a-zA-Z0-9._/:@*]*$")]


class Allow(Schema):
    """What users of the namespace may ask for."""

    images: Annotated[tuple[ImagePattern, ...], Field(max_length=64, json_schema_extra=ATOMIC)] = ()
    """Images that a user's container may have, such as registry.example.org/ml/*, where * stands for any text. Absent:
    none, so that nothing but the operator's own images runs."""
    sources: Annotated[tuple[SourceScheme, ...], Field(max_length=8, json_schema_extra=ATOMIC)] = (
        "s3",
        "gs",
        "az",
        "https",
        "pvc",
        "postgresql",
    )
    """Schemes of URIs, and kinds of databases, that a Dataset may read from. An empty list: none, so that only
    ConfigMaps and other Datasets are left."""
    estimator_packages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], ...],
        Field(min_length=1, max_length=16, json_schema_extra=ATOMIC),
    ] = ("sklearn",)
    """Top-level Python packages that the classes of an estimator may come from. They must be in the trainer's image."""
    artifacts: Literal["Any", "ReadyVersions"] = "Any"
    """What a ModelDeployment may serve by uri and digest. Any: whatever is named. ReadyVersions: only the artifact of a
    ModelVersion in the namespace that is Ready, so that nothing serves without its tests and approval."""


MAX_PARALLEL = 256


class Training(Schema):
    """How much is trained at the same time, and what comes first."""

    max_parallel: Annotated[int | None, Field(ge=1, le=MAX_PARALLEL)] = None
    """The most TrainingJobs that run at the same time. The others are Queued, in the order of their creation; where
    use cases have ranks, a run of rank R counts as created R hours later, others a day later. Absent: all start at
    once."""
    priority_classes: Annotated[tuple[ObjectName, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """PriorityClasses of training pods by the rank of their use case: the first is that of rank 1, the last that of
    all other runs. They must exist. Absent: pods have none but the cluster's default."""
    queue_priority_classes: Annotated[tuple[ObjectName, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """The same of Kueue's WorkloadPriorityClasses, for runs with spec.queueName. Absent: Kueue goes by the
    PriorityClass."""


class SigningKey(Schema):
    """A key whose signatures count."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """Whose it is, in words of your own, such as ana."""
    public_key: Annotated[
        str,
        Field(
            max_length=512,
            pattern=r"^-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=]+\n)+-----END PUBLIC KEY-----\n?$",
        ),
    ]
    """The public key as PEM: Ed25519, or ECDSA on P-256, as openssl pkey -pubout writes it."""


class Signing(Schema):
    """Whose signatures on artifacts count, and whether there must be one."""

    required: bool = False
    """True: no version is Ready whose artifact none of the keys has signed. False: a signature is told where there is
    one, and one that does not fit is refused."""
    keys: Annotated[tuple[SigningKey, ...], Field(min_length=1, max_length=16, json_schema_extra=listmap("name"))]
    """The keys. A version whose signature is of a key that is taken away is verified again."""


class Mlflow(Schema):
    """An MLflow server that is shown every TrainingJob of the namespace that ended."""

    uri: Annotated[
        str,
        Field(max_length=253, pattern=r"^https?://([-_.A-Za-z0-9]+|\[[.:0-9A-Fa-f]+\])(:[0-9]+)?(/[-_.A-Za-z0-9]+)*$"),
    ]
    """URL of the server, such as http://mlflow:5000, without a user or a password."""
    secret_ref: ObjectReference | None = None
    """Secret with the keys username and password, or token. Absent: the server asks for neither."""
    prefix: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[-_.@/A-Za-z0-9]+$")] | None = None
    """What the names of MLflow's experiments begin with, such as prod/. A name is NAMESPACE/EXPERIMENT, and NAMESPACE
    for runs of no Experiment. Absent: nothing."""


class Tracking(Schema):
    """Where else runs are shown to people, beside this cluster's objects."""

    mlflow: Mlflow


class WorkspaceSpec(Schema):
    """The settings, for everything in the namespace."""

    store: Store
    identity: Identity | None = None
    """Absent: the pods have the namespace's default service account, and reach the store by secretRef."""
    allow: Allow = Allow.model_construct()
    training: Training | None = None
    """Absent: every TrainingJob starts at once, and the cluster's scheduler decides."""
    signing: Signing | None = None
    """Absent: nobody asks for signatures."""
    tracking: Tracking | None = None
    """Absent: runs are objects of this cluster, and nothing else."""


class Admission(Schema):
    """A TrainingJob that may run."""

    name: ObjectName
    """The TrainingJob's name."""
    uid: Annotated[str, Field(max_length=64)]
    """Its UID."""


class Collected(Schema):
    """What the last collection did."""

    at: Timestamp
    """When it ended."""
    moved: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many files were set aside."""
    restored: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many files that had been set aside are needed again, and were put back."""
    deleted: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many files that had been set aside a day before were deleted."""
    freed: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """How many bytes these had."""


class MirroredRun(Schema):
    """What MLflow answered about one TrainingJob."""

    uid: Annotated[str, Field(max_length=64)]
    """The TrainingJob's UID."""
    run: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Id of its run in MLflow. Absent: it has none."""
    refused: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Why MLflow does not take it. Absent: it did."""


MAX_MIRRORED = 50


class WorkspaceStatus(Status):
    """What the trial of the store found. Conditions: PreflightPassed, Collected, Mirrored, Ready, Reconciling,
    Stalled."""

    preflight: Digest | None = None
    """Digest of the store's settings that were tried and work; others are tried anew. Absent: they do not work, or are
    not known to work."""
    owned: Digest | None = None
    """Digest of the store's settings by which it was found to be this Workspace's alone. Absent: another one used it,
    too, or it was not tried."""
    collected: Collected | None = None
    """Absent: nothing was collected yet."""
    admitted: Annotated[tuple[Admission, ...], Field(max_length=2 * MAX_PARALLEL, json_schema_extra=ATOMIC)] = ()
    """The TrainingJobs that may run, where training.maxParallel is declared."""
    mirrored: Annotated[tuple[MirroredRun, ...], Field(max_length=MAX_MIRRORED, json_schema_extra=ATOMIC)] = ()
    """What MLflow answered last, until each TrainingJob has taken it over into its own status."""


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
    status: WorkspaceStatus = WorkspaceStatus.model_construct()
