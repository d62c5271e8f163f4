"""The task: what the operator asks of a Job's container.

It is one JSON document in the environment variable MILL_TASK; of a long one, the rest is in MILL_TASK_1 and those after
it.  Credentials are never part of it: they come from Secrets as environment variables of their own (see `store`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from modelmill_contracts.space import Space

ENVIRONMENT = "MILL_TASK"
PIECE = 32_000  # characters of at most four bytes each: Linux takes 128 KiB of one variable


class StoreLocation(msgspec.Struct, frozen=True, omit_defaults=True):
    uri: str  # s3://bucket[/prefix], gs://..., az://..., file:///folder
    endpoint: str | None = None  # for S3 servers other than AWS
    region: str | None = None
    account: str | None = None  # Azure's storage account; none: the Secret says it


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a Dataset declares of one column.  Bounds and values are strings, as in the API."""

    name: str
    type: str  # Float | Integer | String | Boolean | Timestamp
    nullable: bool = True
    min: str | None = None
    max: str | None = None
    values: tuple[str, ...] = ()


class PreflightTask(msgspec.Struct, frozen=True, tag="Preflight", omit_defaults=True):
    """Write, read and delete one small object, so that a broken store is known before it matters.

    Each `owner` that tries a store leaves its own mark in it, whether it collects or not: what is collected must be in
    a store that has the mark of one owner only.
    """

    store: StoreLocation
    owner: str = ""  # UID of the Workspace


class Expectations(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must hold for the data as a whole.  Fractions and effects are decimal strings, as in the API."""

    min_rows: int = 1
    unique_key: tuple[str, ...] = ()  # columns that together are different in each row
    max_null_fraction: str | None = None  # of each column
    max_drift: str | None = None  # effect (see STATISTICS of docs/datasets.md) against the previous version


class SnapshotInput(msgspec.Struct, frozen=True):
    """A version of another Dataset, as a query or a container sees it: under the Dataset's name."""

    name: str
    version: str
    file: str  # digest of its Parquet file


class Derivation(msgspec.Struct, frozen=True):
    """A query over other Datasets' versions; each is a table of that name."""

    inputs: tuple[SnapshotInput, ...]
    sql: str


class CapturedRows(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a ModelDeployment saw in production, see `captured`."""

    of: str  # its UID
    since: int  # seconds before `until`
    until: str = ""  # RFC 3339: rows that were answered before it
    labelled: bool = True  # only rows whose label came back; else the others have a null for it
    target: str = "label"  # the name of the labels' column


class SnapshotTask(msgspec.Struct, frozen=True, tag="Snapshot", omit_defaults=True):
    """Read the source, check it against the declaration, write one immutable Parquet file.

    Exactly one of source, query, derive and captured says where the rows come from.
    """

    store: StoreLocation
    source: str = ""  # a URI; or the path of a file, or of a folder with one file or more, that is mounted
    source_store: StoreLocation | None = None  # how to reach a source of scheme s3, gs or az
    query: str = ""  # SQL for the database whose URL is in the environment (environment.SOURCE_URL)
    derive: Derivation | None = None
    captured: CapturedRows | None = None
    schemes: tuple[str, ...] = ("s3", "gs", "az", "https")  # allowed for URIs
    columns: tuple[Column, ...] = ()  # none: as found
    extra_columns: str = "Keep"  # Keep | Drop | Reject
    expectations: Expectations = Expectations()
    previous: str | None = None  # digest of the previous version's profile; none: there is no previous version


class FetchTask(msgspec.Struct, frozen=True, tag="Fetch"):
    """Bring snapshots into a folder, each as NAME.parquet, verified: what a user's container reads."""

    store: StoreLocation
    inputs: tuple[SnapshotInput, ...]
    folder: str


class CollectTask(msgspec.Struct, frozen=True, tag="Collect", omit_defaults=True):
    """Collect blobs and artifacts that nothing refers to, in two passes at least a day apart.

    A blob that is not in `keep` and was last written a day before `now` is moved from blobs/ to trash/.  What was
    moved a day before `now` is deleted if it is still not in `keep`, and moved back if it is.  Readers look into
    trash/ for what is not in blobs/, so that no moment is unsafe.  The same is done with each file under artifacts/,
    unless `artifacts` is None: then what of them is in trash/ is moved back.  The store must have the mark of `owner`
    and of nobody else.
    """

    store: StoreLocation
    owner: str  # UID of the Workspace
    keep: tuple[str, ...]  # digests
    now: str  # RFC 3339
    artifacts: tuple[str, ...] | None = None  # digests of those that stay


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    class_: str = msgspec.field(name="class")
    params: dict[str, Any] = {}


class ColumnGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    select: tuple[str, ...]
    steps: tuple[Step, ...]


class Estimator(msgspec.Struct, frozen=True, omit_defaults=True):
    steps: tuple[Step, ...]
    columns: tuple[ColumnGroup, ...] = ()


class Split(msgspec.Struct, frozen=True, omit_defaults=True):
    """How training and test rows are told apart: at random, unless `group` or `time` names a column."""

    test: str = "0.2"  # fraction of rows
    stratify: bool = False  # of a random split: both parts have the classes' shares
    group: str | None = None  # all rows of one value are in the same part
    time: str | None = None  # the newest rows are tested on


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is measured besides the metrics on all test rows."""

    folds: int = 0  # of a cross-validation on the training rows; 0: none
    slices: tuple[str, ...] = ()  # columns: each metric for each value


class Known(msgspec.Struct, frozen=True):
    """What a recipe made before."""

    recipe: str  # digest
    artifact: str  # digest of its manifest


class Stopping(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a training ends before its last fold: its mean over the first folds is worse than a bound."""

    metric: str
    maximize: bool = True
    bounds: tuple[tuple[int, str], ...] = ()  # after so many folds, a decimal


class TrainingTask(msgspec.Struct, frozen=True, tag="Training", omit_defaults=True):
    """Train the declared pipeline on a snapshot, evaluate it, convert it and write the artifact.

    Where the recipe is one of `known`, what it made is the answer: only the pod knows its recipe, of which the
    architecture and the libraries are a part.
    """

    store: StoreLocation
    file: str  # digest of the snapshot's Parquet file
    version: str  # digest of the snapshot's logical content
    target: str
    estimator: Estimator
    features: tuple[str, ...] = ()  # none: every column but the target, the split's and captured.NOT_FEATURES
    split: Split = Split()
    seed: int = 0
    metrics: tuple[str, ...] = ()  # none: accuracy for classifiers, r2 for regressors
    evaluation: Evaluation = Evaluation()
    packages: tuple[str, ...] = ("sklearn",)  # top-level packages that a class may come from
    image: str = ""  # of the trainer: part of the recipe
    publish: bool = True  # False: say what would be published, and write nothing
    known: tuple[Known, ...] = ()  # no part of the recipe
    stopping: Stopping | None = None  # nor this: it decides whether there is a model, not what is in it


class OwnContainer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container of the user's that trains: part of the recipe."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


# What such a container finds in its folder of data, and what it writes beside its model.
TRAIN_ROWS = "train.parquet"
TEST_ROWS = "test.parquet"
DECLARED = "task.json"  # target, features, seed, metrics
METRICS = "metrics.json"  # name -> number


class PartsTask(msgspec.Struct, frozen=True, tag="Parts", omit_defaults=True):
    """Bring training and test rows of a snapshot into a folder: what a user's container trains on."""

    store: StoreLocation
    file: str  # digest of the snapshot's Parquet file
    version: str  # digest of the snapshot's logical content
    target: str
    folder: str
    features: tuple[str, ...] = ()  # none: as of a training, without timestamps
    split: Split = Split()
    seed: int = 0
    metrics: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()  # columns that go with the rows


class OwnTrainingTask(msgspec.Struct, frozen=True, tag="OwnTraining", omit_defaults=True):
    """Check what a user's container made of those rows, and write the artifact."""

    store: StoreLocation
    version: str
    target: str
    container: OwnContainer
    data: str  # folder
    output: str  # folder
    features: tuple[str, ...] = ()
    split: Split = Split()
    seed: int = 0
    metrics: tuple[str, ...] = ()  # which it has to write; none: any
    image: str = ""  # of the trainer: part of the recipe
    publish: bool = True
    slices: tuple[str, ...] = ()  # columns: what is measured of its model for each value


class SigningKey(msgspec.Struct, frozen=True):
    name: str
    public_key: str  # PEM


class VerificationTask(msgspec.Struct, frozen=True, tag="Verification", omit_defaults=True):
    """Fetch an artifact, verify its digest and every file's, who signed it, and report what it takes and gives."""

    store: StoreLocation
    uri: str
    digest: str
    keys: tuple[SigningKey, ...] = ()  # whose signatures count
    signed: bool = False  # one of them must have signed it


class MetricTest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bound of a metric on all frozen rows, or on those of each value of a column."""

    name: str
    min: str | None = None
    max: str | None = None
    every_slice: str | None = None
    source: str = ""  # who asks it, such as usecase/triage; "" is the Model

    @property
    def title(self) -> str:
        """What its outcome is called."""
        return self.name if self.every_slice is None else f"{self.name} of every {self.every_slice}"[:64]

    @property
    def threshold(self) -> str:
        """What is asked, in words."""
        bounds = (f">= {self.min}" if self.min is not None else "", f"<= {self.max}" if self.max is not None else "")
        return " and ".join(bound for bound in bounds if bound)


class BaselineTest(msgspec.Struct, frozen=True):
    """No worse than what a ModelDeployment serves."""

    deployment: str
    metric: str
    max_regression: str

    @property
    def title(self) -> str:
        return f"baseline {self.metric}"

    @property
    def threshold(self) -> str:
        return f">= -{self.max_regression}"


class Perturbation(msgspec.Struct, frozen=True):
    column: str
    by: str  # +10%, -10%, +0.5, -2


class BehaviourTest(msgspec.Struct, frozen=True):
    """How the score of each row follows from a change of it."""

    name: str
    perturb: tuple[Perturbation, ...]
    expect: str  # NotDecrease | NotIncrease | Unchanged

    @property
    def title(self) -> str:
        return self.name

    @property
    def threshold(self) -> str:
        return self.expect


class LatencyTest(msgspec.Struct, frozen=True, omit_defaults=True):
    quantile: str
    max_ms: int
    source: str = ""  # as of MetricTest

    @property
    def title(self) -> str:
        """What its outcome is called: a use case may ask for several quantiles."""
        return f"latency {self.quantile}" if self.source else "latency"

    @property
    def threshold(self) -> str:
        """What is asked, in words."""
        return f"<= {self.max_ms}ms"


class Tests(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a Model asks of its versions.  Equal tests have equal digests: an answer is about one of these."""

    metrics: tuple[MetricTest, ...] = ()
    baseline: BaselineTest | None = None
    behaviour: tuple[BehaviourTest, ...] = ()
    latency: LatencyTest | None = None
    required_latencies: tuple[LatencyTest, ...] = ()  # of a use case

    @property
    def latencies(self) -> tuple[LatencyTest, ...]:
        own = () if self.latency is None else (self.latency,)
        return (*own, *self.required_latencies)

    @property
    def in_order(self) -> tuple[MetricTest | BaselineTest | BehaviourTest | LatencyTest, ...]:
        """All of them, in the order of their outcomes."""
        baseline = () if self.baseline is None else (self.baseline,)
        return (*self.metrics, *baseline, *self.behaviour, *self.latencies)


class Served(msgspec.Struct, frozen=True):
    """An artifact, and the server beside the task's container that serves it."""

    digest: str
    url: str


class ModelTestTask(msgspec.Struct, frozen=True, tag="ModelTest", omit_defaults=True):
    """Ask a Model's tests of servers on loopback, on the frozen rows of the candidate's artifact."""

    store: StoreLocation
    model: str  # as it is served
    tests: Tests
    candidate: Served
    baseline: Served | None = None  # none: nothing serves yet


class TrialOutcome(msgspec.Struct, frozen=True, array_like=True):
    """A trial of an Experiment, and what came of it."""

    values: tuple[str | None, ...]  # JSON texts in the space's order; none: it has no meaning there
    state: str  # Succeeded | Stopped | Failed | Running
    value: float | None = None  # of the objective
    folds: int = 0  # how many it was stopped after


class ProposalTask(msgspec.Struct, frozen=True, tag="Proposal", omit_defaults=True):
    """Choose the parameters of the trials from `first` on, `count` of them, by what came of those before.

    `trials` has trial 1 to the one before `first`; those that must not count, whatever came of them, are Running.
    """

    algorithm: str  # TPE | CMAES
    seed: int
    maximize: bool
    space: Space
    first: int
    count: int
    trials: tuple[TrialOutcome, ...] = ()


class PlacedTrial(msgspec.Struct, frozen=True, array_like=True):
    """A trial as the page of its Experiment shows it."""

    number: int
    state: str
    values: tuple[str | None, ...]
    value: float | None = None
    stddev: float | None = None
    cost: int | None = None  # bytes of its model


class SearchPageTask(msgspec.Struct, frozen=True, tag="SearchPage", omit_defaults=True):
    """Write a page for people about an Experiment that has ended."""

    store: StoreLocation
    name: str
    metric: str
    maximize: bool
    algorithm: str
    space: Space
    trials: tuple[PlacedTrial, ...]
    best: int | None = None  # the number of the best one
    why: str = ""  # it is the best one


class QualityMeasure(msgspec.Struct, frozen=True):
    """What labels that came in [start, end) say of predictions of one artifact.

    A label counts where it is its row's first one, and came within so many seconds of the prediction.
    """

    metric: str  # accuracy | roc_auc | log_loss | mae | rmse
    artifact: str  # digest
    start: str  # RFC 3339
    end: str
    labels_within: int  # seconds


class CapturedTask(msgspec.Struct, frozen=True, tag="Captured", omit_defaults=True):
    """Measure the quality of what a ModelDeployment answered, and delete the segments that are older than asked."""

    store: StoreLocation
    of: str  # UID of the ModelDeployment
    now: str  # RFC 3339
    retention: int  # seconds
    quality: QualityMeasure | None = None


class MirroredMetric(msgspec.Struct, frozen=True, array_like=True):
    name: str
    value: str  # a decimal
    step: int = 0


Pairs = tuple[tuple[str, str], ...]


class EndedRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A TrainingJob that has ended, as MLflow is to show it."""

    uid: str
    name: str
    experiment: str  # the name of MLflow's experiment
    status: str  # FINISHED | FAILED
    start: int  # milliseconds since 1970, as the next
    end: int
    tags: Pairs = ()
    parameters: Pairs = ()
    metrics: tuple[MirroredMetric, ...] = ()


class MirrorTask(msgspec.Struct, frozen=True, tag="Mirror", omit_defaults=True):
    """Show these runs in MLflow, in this order, as far as there is time.

    Each has a tag with its UID, by which it is found before it is made: what was shown once is not shown twice.
    """

    uri: str
    runs: tuple[EndedRun, ...]
    secret: str = ""  # the name of the Secret that the credentials come from; "": there are none


AnyTraining = TrainingTask | OwnTrainingTask
Task = (
    PreflightTask
    | SnapshotTask
    | FetchTask
    | CollectTask
    | TrainingTask
    | PartsTask
    | OwnTrainingTask
    | VerificationTask
    | ModelTestTask
    | ProposalTask
    | SearchPageTask
    | CapturedTask
    | MirrorTask
)


def with_data(declared: AnyTraining, store: StoreLocation, version: str, file: str) -> AnyTraining:
    """The training that was declared, on this snapshot in this store."""
    if isinstance(declared, OwnTrainingTask):
        return msgspec.structs.replace(declared, store=store, version=version)
    return msgspec.structs.replace(declared, store=store, version=version, file=file)


def with_known(work: AnyTraining, known: tuple[Known, ...]) -> AnyTraining:
    """The training, which is not to be done where one of these is its recipe's; what a container does is not known."""
    return work if isinstance(work, OwnTrainingTask) else msgspec.structs.replace(work, known=known)


def parts_of(work: OwnTrainingTask, file: str) -> PartsTask:
    """What has to be there before the user's container starts."""
    return PartsTask(
        store=work.store,
        file=file,
        version=work.version,
        target=work.target,
        folder=work.data,
        features=work.features,
        split=work.split,
        seed=work.seed,
        metrics=work.metrics,
        slices=work.slices,
    )


def with_stopping(work: AnyTraining, stopping: Stopping | None) -> AnyTraining:
    """The training, which ends early where it is hopeless; what a container does has no folds."""
    return work if isinstance(work, OwnTrainingTask) else msgspec.structs.replace(work, stopping=stopping)


def unpublished(declared: AnyTraining) -> AnyTraining:
    """The same training, of which nothing is kept but what it says of its artifact."""
    return msgspec.structs.replace(declared, publish=False)


def encode(task: Task) -> str:
    """The task as canonical JSON: equal tasks give equal text, so that names can be derived from it."""
    return msgspec.json.encode(task, order="sorted").decode()


def variables(task: Task) -> dict[str, str]:
    """The environment variables that hold the task, by name."""
    text = encode(task)
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return {_variable(number): piece for number, piece in enumerate(pieces)}


def text_of(environment: Mapping[str, str]) -> str:
    """The text that these `variables` hold; "" where there is none."""
    pieces: list[str] = []
    while (piece := environment.get(_variable(len(pieces)))) is not None:
        pieces.append(piece)
    return "".join(pieces)


def _variable(number: int) -> str:
    return f"{ENVIRONMENT}_{number}" if number else ENVIRONMENT


def decode(text: str) -> Task:
    """The task in `text`; msgspec.ValidationError where it is not one."""
    decoded: Task = msgspec.json.decode(text, type=Task)
    return decoded
