"""TrainingJob: one training run of a declared pipeline on one version of a Dataset."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelmill.api.container import Image, UsersContainer
from modelmill.api.schema import (
    ATOMIC,
    IMMUTABLE,
    INT64,
    NAME_LENGTH,
    NAME_PATTERN,
    OPAQUE,
    SET,
    AcceleratedResources,
    ColumnName,
    Decimal,
    Digest,
    Duration,
    Fraction,
    ObjectReference,
    Resource,
    Rule,
    Schema,
    Status,
    Timestamp,
    Uri,
    immutable,
    listmap,
)

StepName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z](_?[a-zA-Z0-9])*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH, pattern=NAME_PATTERN)]
FileName = Annotated[str, Field(max_length=64)]
QueueName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Columns = Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=2000, json_schema_extra=ATOMIC)]


class ModelReference(Schema):
    """A Model in the same namespace."""

    name: ModelName
    """The Model's name."""


class Split(Schema):
    """How the rows are divided into training and test rows: the same way for the same data and seed."""

    rules: ClassVar = (
        Rule(
            "has(self.by) == (has(self.method) && self.method in ['Group', 'Time'])",
            "by goes with the methods Group and Time, and they with it",
            ".by",
        ),
        Rule(
            "!self.stratify || !has(self.method) || self.method == 'Stratified'",
            "stratify: true is the method Stratified",
            ".stratify",
        ),
    )

    method: Literal["Random", "Stratified", "Group", "Time"] | None = None
    """Random; Stratified: both parts have the classes' shares; Group: all rows with one value in the column by are in
    one part; Time: the newest rows by the column by are tested on. Absent: Random, or Stratified where stratify is
    true."""
    by: ColumnName | None = None
    """The column that tells groups apart, such as patient_id, or orders rows in time; each row has a value there. It is
    a feature only where features or estimator.columns name it."""
    test: Fraction = "0.2"
    """Fraction of the rows that are kept for the test: a decimal in quotes between 0 and 1, such as "0.2". Whole groups
    and rows of the same time are not divided, so that it may be a little more or less."""
    stratify: bool = False
    """True: as method Stratified. For classifiers."""


class Data(Schema):
    """The data to train on."""

    dataset_ref: ObjectReference
    """The Dataset in the same namespace."""
    version: Digest | None = None
    """The Dataset's version, one of its status.history. Absent: the newest valid one, pinned when the run starts."""
    target: ColumnName
    """The column to predict."""
    features: Columns | None = None
    """The columns to predict it from. Absent: those that estimator.columns select, else all but the
    target, what data.split goes by, and captured_id, captured_at, captured_version, captured_prediction and
    captured_score."""
    split: Split = Split.model_construct()


class Step(Schema):
    """One step of a scikit-learn Pipeline."""

    name: StepName
    """The step's name, unique among its neighbours."""
    class_: Annotated[
        str,
        Field(
            alias="class",
            max_length=256,
            pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+$",
        ),
    ]
    """Full name of the estimator's class, such as sklearn.preprocessing.StandardScaler. The Workspace says from which
    packages it may come."""
    params: Annotated[dict[str, Any], Field(default_factory=dict, json_schema_extra=OPAQUE)]
    """The class's own parameters by name, checked before anything is trained. Absent: the class's defaults."""


class ColumnGroup(Schema):
    """Columns that go through the same steps."""

    name: StepName
    """The group's name."""
    select: Columns
    """The columns of the group."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=16, json_schema_extra=listmap("name"))]
    """The transformers that these columns go through, in order."""


class Estimator(Schema):
    """The pipeline to train: the columns' groups first, then the steps."""

    columns: Annotated[tuple[ColumnGroup, ...], Field(max_length=64, json_schema_extra=listmap("name"))] = ()
    """A ColumnTransformer before the steps: each group's columns go through its own steps. Absent: every feature goes
    into the first step as it is."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=16, json_schema_extra=listmap("name"))]
    """Transformers in order, and the predictor as the last one."""


class Variable(Schema):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
    """Its name. Those that start with MILL_ are the operator's."""
    value: Annotated[str, Field(max_length=4096)]
    """Its value, which anybody can read who may read the TrainingJob: no password."""


class Container(UsersContainer):
    """A program of the user's that trains, instead of an estimator. It has neither credentials nor an identity; it runs
    as user 65532, with nothing to write to but $MILL_OUTPUT and /tmp."""

    rules: ClassVar = (
        Rule(
            "self.env.all(variable, !variable.name.startsWith('MILL_'))",
            "names that start with MILL_ are the operator's",
            ".env",
        ),
    )

    image: Image
    """The image. The Workspace says which are allowed; named by its digest, a training can be done again."""
    args: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(max_length=64, json_schema_extra=ATOMIC),
    ] = ()
    """Arguments. It finds train.parquet, test.parquet and task.json in the folder $MILL_DATA, and writes model.onnx or
    model.skops, and metrics.json, to the folder $MILL_OUTPUT."""
    env: Annotated[tuple[Variable, ...], Field(max_length=64, json_schema_extra=listmap("name"))] = ()
    """Environment variables."""


class Bound(Schema):
    """How good the mean over the first folds must be."""

    folds: Annotated[int, Field(ge=1, le=19)]
    """After how many folds."""
    value: Decimal
    """What the mean over them must not be worse than: a decimal in quotes."""


class Stopping(Schema):
    """When a training that is hopeless ends early."""

    metric: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
    """The metric that counts, one of metrics."""
    direction: Literal["Maximize", "Minimize"] = "Maximize"
    """Maximize: less of it is worse. Minimize: more."""
    bounds: Annotated[tuple[Bound, ...], Field(max_length=19, json_schema_extra=ATOMIC)] = ()
    """It ends after so many folds if their mean is worse than the value. Absent: it goes on to the end."""


class Evaluation(Schema):
    """How the model is judged."""

    metrics: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")], ...],
        Field(max_length=32, json_schema_extra=SET),
    ] = ()
    """Metrics to compute, such as roc_auc or rmse; docs/training.md has all names. Absent: accuracy for a classifier,
    r2 for a regressor."""
    cross_validation: Annotated[int, Field(ge=2, le=20)] | None = None
    """Folds of the training rows, made in the way of data.split, to train as many more models: status.metrics has their
    mean and standard deviation. Absent: none; it has the values on the test rows."""
    slices: Annotated[tuple[ColumnName, ...], Field(max_length=8, json_schema_extra=SET)] = ()
    """Columns of type String, Integer or Boolean, such as age_group: each metric is also computed for the test rows
    that have one value there, for each value with enough rows."""
    stopping: Stopping | None = None
    """When a training with crossValidation ends early, without a model: an Experiment sets it for its trials. Absent:
    it goes on to the end."""


class Reproduce(Schema):
    """Whether the training is done again to see that it gives the same. Absent: it is trained once."""

    runs: Annotated[int, Field(ge=2, le=2)] = 2
    """How often it is trained: 2. The second run is in another pod, publishes nothing, and is compared with the first
    in every byte; the condition Reproducible has what came of it."""


class Limits(Schema):
    """When to give up."""

    timeout: Duration = "1h"
    """The longest that the run may take, all tries together: a duration such as 90m, 1h30m or 168h (not 7d)."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a pod that failed is tried again, where trying again may help; each worker by itself. What cannot
    help is not tried again."""


class TrainingJobSpec(Schema):
    """One training run. It is immutable but for suspend: to train with other settings, create another TrainingJob."""

    rules: ClassVar = (
        Rule("has(self.estimator) != has(self.container)", "give exactly one of estimator, container"),
        Rule(
            "!has(self.container) || !has(self.evaluation.crossValidation)",
            "crossValidation goes with an estimator: a container trains one model",
            ".evaluation",
        ),
        Rule(
            "!has(self.evaluation.stopping)"
            " || (has(self.evaluation.crossValidation) && !has(self.modelRef) && !has(self.reproduce))",
            "stopping goes with crossValidation, and with neither modelRef nor reproduce",
            ".evaluation",
        ),
        Rule(
            "!has(self.container) || self.workers == 1 || self.container.env.all(variable, !(variable.name in"
            " ['MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'PET_NNODES', 'PET_NODE_RANK', 'PET_MASTER_ADDR',"
            " 'PET_MASTER_PORT', 'PET_RDZV_BACKEND', 'PET_RDZV_ENDPOINT', 'PET_RDZV_ID', 'JOB_COMPLETION_INDEX']))",
            "with workers above 1, MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK, JOB_COMPLETION_INDEX and, of those that"
            " start with PET_, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT and RDZV_* are the operator's",
            ".container.env",
        ),
        Rule(
            "has(self.estimator) == has(oldSelf.estimator)"
            " && (!has(self.estimator) || self.estimator == oldSelf.estimator)"
            " && (!has(self.container) || !has(oldSelf.container) || self.container == oldSelf.container)",
            "estimator and container are immutable: delete the object and create a new one",
            "",
            "FieldValueForbidden",
        ),
        Rule(
            "has(self.modelRef) == has(oldSelf.modelRef) && (!has(self.modelRef) || self.modelRef == oldSelf.modelRef)",
            IMMUTABLE,
            ".modelRef",
            "FieldValueForbidden",
        ),
        Rule(
            "has(self.reproduce) == has(oldSelf.reproduce)"
            " && (!has(self.reproduce) || self.reproduce == oldSelf.reproduce)",
            IMMUTABLE,
            ".reproduce",
            "FieldValueForbidden",
        ),
        Rule(
            "has(self.queueName) == has(oldSelf.queueName)"
            " && (!has(self.queueName) || self.queueName == oldSelf.queueName)",
            IMMUTABLE,
            ".queueName",
            "FieldValueForbidden",
        ),
        *map(immutable, ("data", "seed", "evaluation", "workers", "resources", "limits")),
    )

    model_ref: ModelReference | None = None
    """The Model that a successful run becomes the next version of; it is made where it does not exist. Absent: an
    artifact and its metrics, and no version."""
    data: Data
    estimator: Estimator | None = None
    container: Container | None = None
    seed: Annotated[int, Field(ge=0, le=4294967295, json_schema_extra=INT64)] = 0
    """Where all randomness starts: the split's, and every random_state that params leave open."""
    evaluation: Evaluation = Evaluation.model_construct()
    reproduce: Reproduce | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many pods train together. Of an estimator they share what is parallel in it, and give the same bytes as one.
    A container runs in each, and is told where the others are; what it writes in the first one counts."""
    resources: AcceleratedResources = AcceleratedResources.model_construct()
    """CPU, memory and accelerators of each training pod; those only the container has, where there is one. Default:
    500m of cpu and 512Mi of memory are requested, memory is limited to 2Gi."""
    limits: Limits = Limits.model_construct()
    queue_name: QueueName | None = None
    """Name of a LocalQueue of Kueue's in this namespace: the Job starts when Kueue admits it. It has no effect where
    Kueue is not installed. Absent: Kueue is not asked."""
    suspend: bool = False
    """True: do not start or, where it is running, stop and throw away what it did so far. False: go on."""


class ArtifactFile(Schema):
    """One file of the artifact."""

    name: FileName
    """The file's name, such as model.onnx."""
    digest: Digest
    """Digest of its bytes."""


class Artifact(Schema):
    """The trained model as files in the store."""

    uri: Uri
    """Where it lies: the Workspace's store.uri, /artifacts/sha256- and the digits of the digest."""
    digest: Digest
    """Digest of its manifest, which has the digest of every file."""


class PublishedArtifact(Artifact):
    """The trained model as files in the store."""

    files: Annotated[tuple[ArtifactFile, ...], Field(max_length=16, json_schema_extra=listmap("name"))] = ()
    """Its files without the manifest."""
    model_bytes: Annotated[int, Field(ge=0, json_schema_extra=INT64)] | None = None
    """How large the model's own file is, in bytes. Absent: an older operator did not ask."""


class Reproduction(Schema):
    """What the second run gave."""

    digest: Digest
    """Digest of the artifact that it would have published."""
    differs: Annotated[tuple[FileName, ...], Field(max_length=32, json_schema_extra=SET)] = ()
    """The artifact's files that are not the same in both runs."""


class Metric(Schema):
    """One metric on the test rows, or, with cross-validation, its mean over the folds of the training rows."""

    name: Annotated[str, Field(max_length=64)]
    """The metric's name, as in spec.evaluation.metrics."""
    value: Annotated[str, Field(max_length=64)]
    """Its value: a decimal in quotes with six significant digits, such as "0.991228"."""
    stddev: Annotated[str, Field(max_length=64, pattern=r"^-?[0-9]+(\.[0-9]+)?$")] | None = None
    """Its sample standard deviation over the folds of a cross-validation: a decimal in quotes. Absent: there was
    none."""


class CurrentMetric(Schema):
    """One metric as far as it is known by now."""

    name: Annotated[str, Field(max_length=64)]
    """The metric's name."""
    value: Annotated[str, Field(max_length=64)]
    """Its value: a decimal in quotes with six significant digits."""


class Progress(Schema):
    """How far the training is that runs now, the second one of reproduce included. Absent: none runs, or its pod has
    not said. A container of the user's says it itself."""

    percent: Annotated[int, Field(ge=0, le=100)]
    """How much of it is done. It moves as phases and folds end: a single fit says nothing of itself."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """What it does: fetch, fit, evaluate, fold, convert, check or publish, or a word of the container's own."""
    metrics: Annotated[tuple[CurrentMetric, ...], Field(max_length=32, json_schema_extra=listmap("name"))] = ()
    """Metrics so far: with cross-validation their means over the folds that are done, else those on the test rows; or
    what the container says."""
    at: Timestamp
    """When the pod said that."""


class WorstSlice(Schema):
    """Where a metric is worst among the slices of the test rows."""

    metric: Annotated[str, Field(max_length=64)]
    """The metric's name."""
    column: ColumnName
    """The column of the slice, one of spec.evaluation.slices."""
    slice: Annotated[str | None, Field(max_length=64)] = None
    """The column's value in these rows; one that is long is cut. Absent: the column has no value in these rows."""
    rows: Annotated[int, Field(ge=0, json_schema_extra=INT64)]
    """How many test rows these are."""
    value: Annotated[str, Field(max_length=64)]
    """The metric's value on them: a decimal in quotes."""


class Usage(Schema):
    """What the run took."""

    cpu_seconds: Annotated[int, Field(ge=0, json_schema_extra=INT64)] = 0
    """CPU time of the training process in seconds; with workers, of all of them. Of a container's run only that of
    checking and publishing what it made: no pod can tell what another container of it took."""
    accelerator_seconds: Annotated[int, Field(ge=0, json_schema_extra=INT64)] | None = None
    """The number of accelerators of all workers, times the seconds for which the first one's pod had its own. Absent:
    there were none."""


class MlflowRun(Schema):
    """What became of the run in MLflow, where the Workspace's tracking names a server. Absent: it is not there yet."""

    run: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Its id in MLflow. Absent: MLflow does not take it."""
    refused: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Why MLflow does not take it: its own error code, such as INVALID_PARAMETER_VALUE, or EXPERIMENT_DELETED. Absent:
    it did."""


class TrainingJobStatus(Status):
    """How the run goes. Conditions: PreflightPassed, DataReady, Trained, Reproducible, Succeeded, Failed, Reconciling,
    Stalled."""

    dataset_version: Digest | None = None
    """The Dataset's version that the run uses, pinned at its start."""
    dataset_file: Digest | None = None
    """Digest of that version's Parquet file in the store."""
    recipe: Digest | None = None
    """Digest of everything that decides the model's bytes: data, pipeline, seed, software. Equal recipes give equal
    models."""
    progress: Progress | None = None
    artifact: PublishedArtifact | None = None
    reproduction: Reproduction | None = None
    metrics: Annotated[tuple[Metric, ...], Field(max_length=32, json_schema_extra=listmap("name"))] = ()
    """The metrics on the test rows; with cross-validation, their means over the folds of the training rows."""
    folds: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=20, json_schema_extra=ATOMIC)
    ] = ()
    """What evaluation.stopping.metric was in each fold that was done, in order: decimals in quotes. Absent: stopping is
    not declared."""
    slices: Annotated[tuple[WorstSlice, ...], Field(max_length=32, json_schema_extra=listmap("metric"))] = ()
    """Of each metric the slice of the test rows where it is worst, as far as there is room for them. All slices are in
    the artifact's evaluation.json."""
    model_version: Annotated[str | None, Field(max_length=63)] = None
    """Name of the ModelVersion that the run became, such as triage-7, or that was of its recipe before."""
    usage: Usage | None = None
    mlflow: MlflowRun | None = None


class TrainingJob(Resource):
    """One training run of a declared pipeline on one version of a Dataset."""

    plural: ClassVar = "trainingjobs"
    short: ClassVar = "tjob"
    columns: ClassVar = (
        ("Succeeded", "string", '.status.conditions[?(@.type=="Succeeded")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Succeeded")].reason'),
        ("Progress", "integer", ".status.progress.percent"),
        ("Version", "string", ".status.modelVersion"),
        ("Metric", "string", ".status.metrics[0].name"),
        ("Value", "string", ".status.metrics[0].value"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    wide: ClassVar = (
        ("Parameters", "string", r".metadata.annotations.modelmill\.dev/parameters"),
        ("Message", "string", '.status.conditions[?(@.type=="Succeeded")].message'),
    )
    selectable: ClassVar = (
        ".spec.modelRef.name",
        ".spec.data.datasetRef.name",
        ".status.datasetVersion",
        ".status.recipe",
        ".status.artifact.digest",
        ".status.modelVersion",
    )

    spec: TrainingJobSpec
    status: TrainingJobStatus = TrainingJobStatus.model_construct()
