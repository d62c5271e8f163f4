"""The evaluation of a trained model, as two files of its artifact.

    evaluation.parquet   the frozen rows: test rows that the model has never seen, as a server takes them
    evaluation.json      what was measured on all test rows: metrics, folds, slices, what is confused with what, and
                         on some of the frozen rows what each feature is good for

Who tests another model on the same rows compares like with like.  Nobody needs these files to serve the model:
whoever fetches an artifact for that leaves them out.  Artifacts without them are valid: they are older, or made of
a model that somebody packed without rows.

Columns of evaluation.parquet, in this order, none of them null but a slice's:

    feature.NAME   each feature of the manifest, in its order: float (32 bits, NaN where a value is missing), or
                   string ("" where one is missing)
    target         int64 or string, the label of a classifier; double, the number of a regressor
    slice.NAME     each column that the evaluation is sliced by: string, null where a value is missing
"""

import msgspec

FORMAT = "modelmill.dev/evaluation/v1"
ROWS = "evaluation.parquet"
RESULTS = "evaluation.json"
FILES = (ROWS, RESULTS)

FEATURE = "feature."
TARGET = "target"
SLICE = "slice."

# What can be measured of a model: the operator tells what is asked for and can never be found out.
CLASSIFIER_METRICS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "matthews_corrcoef", "roc_auc", "average_precision",
    "log_loss", "brier",
)  # fmt: skip
REGRESSOR_METRICS = ("r2", "explained_variance", "mae", "mse", "rmse", "mape", "median_absolute_error", "max_error")
LOSSES = ("log_loss", "brier", "mae", "mse", "rmse", "mape", "median_absolute_error", "max_error")  # less is better

# What each of them lies between; None: there is no bound.  A brier of more than two classes is a sum over them.
METRIC_RANGES: dict[str, tuple[int | None, int | None]] = {
    **dict.fromkeys(CLASSIFIER_METRICS, (0, 1)),
    **dict.fromkeys(REGRESSOR_METRICS, (0, None)),
    "matthews_corrcoef": (-1, 1),
    "log_loss": (0, None),
    "brier": (0, 2),
    "r2": (None, 1),
    "explained_variance": (None, 1),
}

MAX_ROWS = 10_000
MAX_BYTES = 32 << 20  # of their values (4 of a number, the UTF-8 of a text): wide data makes no artifact of a gigabyte
MAX_SLICE_VALUES = 32  # of a column: the most frequent ones
MIN_SLICE_ROWS = 10  # a metric of fewer rows says nothing
MAX_CLASSES = 20  # of a confusion matrix: the most frequent ones


class FrozenRows(msgspec.Struct, frozen=True, omit_defaults=True):
    """What evaluation.parquet holds; it stands in the manifest, whose `files` has the digest."""

    rows: int
    of: int  # test rows that there were; more than `rows` where the bounds leave only the first in the split's order
    target: str  # its name in the data
    slices: tuple[str, ...] = ()  # columns


class Fold(msgspec.Struct, frozen=True):
    """One turn of a cross-validation."""

    train_rows: int
    test_rows: int
    metrics: dict[str, str]


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """The test rows that have one value in one column."""

    column: str
    value: str | None  # as in evaluation.parquet
    rows: int
    metrics: dict[str, str]  # name -> decimal
    undefined: tuple[str, ...] = ()  # metrics that these rows do not define, such as roc_auc of one class


class LeftOut(msgspec.Struct, frozen=True):
    """Values of a column that are no slices: too rare, or one too many."""

    column: str
    values: int
    rows: int  # test rows that have them


class Confusion(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many test rows of each class were predicted as each class: counts[truth][predicted]."""

    classes: tuple[str, ...]  # in the model's order
    counts: tuple[tuple[int, ...], ...]
    others: bool = False  # whether a last row and a last column count all classes that are not named


class Bin(msgspec.Struct, frozen=True):
    """Test rows with about the same prediction."""

    rows: int
    predicted: float  # mean
    observed: float  # mean: of a classifier the share of rows that are as predicted


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What comes true of what is predicted, in bins by the prediction, ascending; empty bins are left out."""

    of: str  # Positive: the probability of the second of two classes | Confidence: the highest one | Number
    bins: tuple[Bin, ...]
    error: float | None = None  # mean distance of predicted and observed over the rows; none of a Number


class Shuffled(msgspec.Struct, frozen=True):
    feature: str
    worse: float  # mean over the repeats of how much worse the metric is when the feature's values are shuffled
    stddev: float  # over the repeats, with n - 1


class Importance(msgspec.Struct, frozen=True):
    """What each feature is good for: permutation importance of what is served, on some of the frozen rows."""

    metric: str
    value: float  # of the metric on these rows as they are
    rows: int
    repeats: int
    features: tuple[Shuffled, ...]  # what matters most first


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    rows: int  # test rows
    metrics: dict[str, str]  # on all of them
    format: str = msgspec.field(default=FORMAT)
    folds: tuple[Fold, ...] = ()
    slices: tuple[Slice, ...] = ()  # by column as they were asked for, the most frequent value first
    left_out: tuple[LeftOut, ...] = ()
    confusion: Confusion | None = None  # of a classifier
    calibration: Calibration | None = None  # none: the model gives no probabilities
    importance: Importance | None = None  # none: it could not be measured


def decode(data: bytes) -> Evaluation:
    """The evaluation in `data`; ValueError (msgspec's included) that says what is wrong with it."""
    found = msgspec.json.decode(data, type=Evaluation)
    if found.format != FORMAT:
        raise ValueError(f"format: {found.format[:80]!r} is not {FORMAT}, which this version reads")
    return found


def encode(evaluation: Evaluation) -> bytes:
    """The evaluation's bytes: equal evaluations give equal bytes."""
    # omit_defaults would leave the format out, and a reader must never have to guess it.
    return msgspec.json.format(
        msgspec.json.encode({**msgspec.to_builtins(evaluation), "format": evaluation.format}, order="sorted"), indent=1
    )
