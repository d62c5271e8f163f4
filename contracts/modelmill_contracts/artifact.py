"""The artifact: one directory that holds a model and everything that is to be known about it.

    manifest.json   this document; the artifact's digest is the sha256 of its bytes
    model.onnx      what is served (runtime onnx), and/or
    model.skops     the estimator itself, for people and for models that do not convert
    profile.json    the training data's distribution (see `profile`)
    card.md         for people
    report.html     the same for people with a browser, and more of it; one file that needs nothing else
    evaluation.*    how good it is, and the rows that this was measured on (see `evaluation`)

Files are written once, under the artifact's digest, and never changed: who has the digest can verify the
manifest, and who has the manifest can verify every file.
"""

from typing import Any

import msgspec

from modelmill_contracts import digest, evaluation
from modelmill_contracts.evaluation import FrozenRows

FORMAT = "modelmill.dev/artifact/v1"
MANIFEST = "manifest.json"
ONNX = "model.onnx"
SKOPS = "model.skops"
PROFILE = "profile.json"
CARD = "card.md"
PAGE = "report.html"
NOT_SERVED = (*evaluation.FILES, PAGE)  # files that nobody needs who serves the model: they may be left out
MAX_MANIFEST = 1 << 20  # bytes
NUMERIC_INPUT = "input"  # the name of the one input of a model whose features are all numeric

# Types that a model.skops may hold besides those that skops itself trusts (scikit-learn's public estimators).
# Never get_untrusted_types(): a file must not say what it is trusted with.  Tree types index by what the
# file says, unchecked, so a file is loaded only after its digest was verified.
SKOPS_TRUSTED = (
    "numpy.dtype",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.ExponentialLoss",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn._loss.loss.HuberLoss",
    "sklearn._loss.loss.PinballLoss",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


class File(msgspec.Struct, frozen=True):
    name: str  # a plain file name: no folder, no `..`
    digest: str
    size: int  # bytes


class Tensor(msgspec.Struct, frozen=True):
    """An input or output, in the words of the Open Inference Protocol."""

    name: str
    datatype: str  # BOOL, (U)INT8-64, FP16, FP32, FP64, BYTES
    shape: tuple[int, ...]  # -1 is the batch


class Feature(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column that the model reads, in the order of training."""

    name: str
    type: str  # Float | Integer | String | Boolean
    missing: bool = False  # whether a missing value (NaN, "") may be sent


class Conversion(msgspec.Struct, frozen=True):
    """How far the served model may be, and was found to be, from the estimator on real rows."""

    rows: int
    tolerance: float  # absolute, of probabilities; relative to the spread of the target for regressors
    max_difference: float
    label_differences: int


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    runtime: str  # onnx | skops: what the server runs
    files: tuple[File, ...]  # every file but the manifest
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    features: tuple[Feature, ...] = ()
    classes: tuple[str, ...] = ()  # of a classifier, in the order of predict_proba's columns
    format: str = msgspec.field(default=FORMAT)
    conversion: Conversion | None = None
    libraries: dict[str, str] = {}  # name -> version
    recipe: dict[str, Any] = {}
    metrics: dict[str, str] = {}
    evaluation: FrozenRows | None = None  # none: the artifact has no frozen rows
    notes: tuple[str, ...] = ()  # for people: why it is not served as ONNX, what the training warned of

    def __post_init__(self) -> None:
        for file in self.files:
            name = file.name
            if not name or name in (".", "..", MANIFEST) or any(c in name for c in "/\\%\0"):
                raise ValueError(f"files: {name[:80]!r} is not a plain file name inside the artifact")
            digest.hex_of(file.digest)


def encode(manifest: Manifest) -> bytes:
    """The manifest's bytes: equal manifests give equal bytes, and so equal digests."""
    return msgspec.json.format(digest.canonical_json(_with_format(manifest)), indent=1)


def digest_of(manifest: Manifest) -> str:
    """The artifact's digest."""
    return digest.of_bytes(encode(manifest))


def decode(data: bytes) -> Manifest:
    """The manifest in `data`; ValueError (msgspec's included) that says what is wrong with it."""
    manifest = msgspec.json.decode(data, type=Manifest)
    if manifest.format != FORMAT:
        raise ValueError(f"format: {manifest.format[:80]!r} is not {FORMAT}, which this version reads")
    return manifest


def _with_format(manifest: Manifest) -> dict[str, Any]:
    # omit_defaults would leave the format out, and a reader must never have to guess it.
    return {**msgspec.to_builtins(manifest), "format": manifest.format}
