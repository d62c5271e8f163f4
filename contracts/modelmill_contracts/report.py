"""The report: how a pod answers.

A Job's container writes one JSON document of at most 4 KiB to its termination message; kubelet copies it
into the pod's status, and the operator reads it there.  So a Job needs no access to the API server.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

PATH = Path("/dev/termination-log")
LIMIT = 4096  # bytes; kubelet cuts what is longer
RESULT_BYTES = 3072  # of a training's result, so that there is room for the message

# The bounds of the status fields that these go into: what does not fit them is no report of ours.
Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Reason = Annotated[str, Meta(max_length=64, pattern="^[A-Z][A-Za-z0-9]*$")]
Text = Annotated[str, Meta(max_length=64)]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule that the data broke.  It never holds values of the data, only where and how many."""

    rule: Text  # e.g. MissingColumn, NotNumeric, TooFewRows
    message: str
    column: str | None = None
    count: int = 0  # rows that broke the rule
    rows: tuple[int, ...] = ()  # up to three row numbers, the first row of data is 1


class ColumnSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    type: str  # Float | Integer | String | Boolean | Timestamp
    nulls: int = 0


class SnapshotResult(msgspec.Struct, frozen=True, tag="Snapshot", omit_defaults=True):
    version: Digest  # of the logical content
    file: Digest  # of the stored Parquet file
    rows: int
    columns: int
    profile: Digest | None = None  # of the blob with each column's bins and counts, which drift is measured against
    page: Digest | None = None  # of the blob with the profile as an HTML page
    size: int = 0  # bytes of the Parquet file
    modified_at: str | None = None  # RFC 3339: when the source says that it was written; none: it does not say
    cpu_seconds: int = 0


class FetchResult(msgspec.Struct, frozen=True, tag="Fetch"):
    files: int


class CollectResult(msgspec.Struct, frozen=True, tag="Collect"):
    moved: int  # to the trash
    restored: int
    deleted: int
    freed: int  # bytes


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    name: Text
    value: Text  # a decimal, so that the API holds no floats
    stddev: Text | None = None  # over the folds of a cross-validation


class WorstSlice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a metric is worst among the slices of the test rows.  The evaluation in the artifact has them all."""

    metric: Text
    column: Annotated[str, Meta(max_length=128)]
    rows: int
    value: Text  # of the metric: a decimal
    slice: Text | None = None  # the column's value, cut where it is long; none: it is missing in these rows


class FileDigest(msgspec.Struct, frozen=True):
    name: Text
    digest: Digest


Folds = Annotated[tuple[Text, ...], Meta(max_length=20)]  # decimals, one for each fold that was done


class TrainingResult(msgspec.Struct, frozen=True, tag="Training", omit_defaults=True):
    recipe: Digest
    artifact: Digest  # of the artifact's manifest
    uri: Annotated[str, Meta(max_length=1024)]
    runtime: str  # onnx | skops
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=32)] = ()
    train_rows: int = 0
    test_rows: int = 0
    cpu_seconds: int = 0
    slices: Annotated[tuple[WorstSlice, ...], Meta(max_length=32)] = ()
    files: Annotated[tuple[FileDigest, ...], Meta(max_length=16)] = ()  # of the artifact
    known: bool = False  # the artifact is one that the recipe made before: nothing was trained
    folds: Folds = ()  # of the metric that stopping is about
    model_bytes: int = 0  # of the model's own file


class StoppedResult(msgspec.Struct, frozen=True, tag="Stopped", omit_defaults=True):
    """The training was hopeless, as its task says, and ended without a model."""

    metrics: Annotated[tuple[Metric, ...], Meta(max_length=32)]  # means over the folds that were done
    folds: Folds
    cpu_seconds: int = 0


class TensorSummary(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class Signed(msgspec.Struct, frozen=True):
    """The key by which an artifact is signed."""

    key: Annotated[str, Meta(max_length=63)]
    fingerprint: Annotated[str, Meta(max_length=16)]


class VerificationResult(msgspec.Struct, frozen=True, tag="Verification", omit_defaults=True):
    digest: Digest
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    size: int  # bytes of the whole artifact
    signed: Signed | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one of a Model's tests.

    Of very many, name and threshold are "": they are those of the test at that place (`task.Tests.in_order`).
    """

    name: Text
    passed: bool
    threshold: Text  # what is asked, such as `>= 0.98`
    observed: Annotated[str, Meta(max_length=32)] | None = None  # none: it could not be found out
    slice: Annotated[str, Meta(max_length=128)] | None = None  # column=value
    message: Annotated[str, Meta(max_length=512)] | None = None


class ModelTestResult(msgspec.Struct, frozen=True, tag="ModelTest"):
    """The tests were run, whatever came of them; in the order in which they are declared."""

    outcomes: Annotated[tuple[Outcome, ...], Meta(max_length=32)]


class ProposalResult(msgspec.Struct, frozen=True, tag="Proposal"):
    """The parameters of the trials from `first` on, as JSON texts in the space's order; none: without a meaning."""

    first: int
    trials: Annotated[tuple[tuple[str | None, ...], ...], Meta(max_length=64)]


class SearchPageResult(msgspec.Struct, frozen=True, tag="SearchPage"):
    page: Digest


class MeasuredQuality(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the labels of one window say.

    Of accuracy, log_loss, mae: `value` is the mean of a number of each row, of
    rmse the mean of the squares, of roc_auc the area in the window; `variance` is that of `value`
    as an estimate.
    """

    rows: int  # whose label counts
    value: float | None = None  # none: there is none, such as an area where all rows are of one class
    variance: float | None = None
    unknown: int = 0  # labels of which no row was found
    late: int = 0  # labels that came after labelsWithin
    repeated: int = 0  # further labels of a row
    of_others: int = 0  # labels of rows that another artifact answered
    mistyped: int = 0  # labels that cannot be compared with the prediction


class CapturedResult(msgspec.Struct, frozen=True, tag="Captured", omit_defaults=True):
    deleted: int  # segments
    damaged: int = 0  # segments that could not be read
    quality: MeasuredQuality | None = None


class MirroredRun(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    run: Text = ""  # its id in MLflow; "": it is refused
    refused: Text = ""  # MLflow's error code


class MirrorResult(msgspec.Struct, frozen=True, tag="Mirror"):
    runs: Annotated[tuple[MirroredRun, ...], Meta(min_length=1, max_length=50)]  # the task's first ones, in its order


class PreflightResult(msgspec.Struct, frozen=True, tag="Preflight", omit_defaults=True):
    checked: tuple[str, ...]
    owned: bool = False  # whether the store has the asked owner's mark, and nobody else's


Result = (
    SnapshotResult
    | FetchResult
    | CollectResult
    | TrainingResult
    | VerificationResult
    | ModelTestResult
    | PreflightResult
    | StoppedResult
    | ProposalResult
    | SearchPageResult
    | CapturedResult
    | MirrorResult
)


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container says when it ends.

    `reason` is CamelCase and stable, `message` says what to do next.  `retryable` tells that the same task
    may succeed when it is tried again without anybody changing anything.  `store`: the store failed, not what was
    to be read into it.
    """

    ok: bool
    reason: Reason
    message: str = ""
    retryable: bool = False
    problems: tuple[Problem, ...] = ()
    result: Result | None = None
    store: bool = False


# A Job fails at once with the first; the second, EX_TEMPFAIL, counts towards its retries.
EXIT_FAILED = 1
EXIT_RETRYABLE = 75


def exit_code(report: Report) -> int:
    """What the container ends with."""
    if report.ok:
        return 0
    return EXIT_RETRYABLE if report.retryable else EXIT_FAILED


def encode(report: Report) -> bytes:
    """The report as JSON that fits the limit: problems, then the message, are cut where it is too long."""
    data = msgspec.json.encode(report)
    problems = list(report.problems)
    while len(data) > LIMIT and problems:
        problems.pop()
        report = msgspec.structs.replace(report, problems=tuple(problems))
        data = msgspec.json.encode(report)
    message = report.message
    while len(data) > LIMIT and message:
        message = message[: len(message) * 3 // 4]
        data = msgspec.json.encode(msgspec.structs.replace(report, message=message + " ..."))
    if len(data) > LIMIT:
        raise ValueError(f"a report of {len(data)} bytes does not fit {LIMIT}: its result is too large")
    return data


def fitting(result: TrainingResult) -> TrainingResult:
    """The result in at most RESULT_BYTES: the last slices are left out where it is longer."""
    while result.slices and len(msgspec.json.encode(result)) > RESULT_BYTES:
        result = msgspec.structs.replace(result, slices=result.slices[:-1])
    return result


def write(report: Report, path: Path = PATH) -> None:
    """Write the report where kubelet reads it."""
    path.write_bytes(encode(report))


def decode(text: str) -> Report | None:
    """The report in a termination message, or None where it is something else (a crash's last words)."""
    try:
        return msgspec.json.decode(text, type=Report)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None
