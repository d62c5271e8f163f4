"""A model made ready to serve, whichever runtime it needs.

numpy and onnxruntime take most of the time that the program needs to start, so this module is imported after
the ports are open.
"""

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from modelmill_contracts import artifact, digest, folder, profile
from modelmill_contracts.artifact import Manifest
from modelmill_server import batching, grpc_codec, log, v1, v2
from modelmill_server import row as rows
from modelmill_server import signature as signatures
from modelmill_server.bins import Layout
from modelmill_server.errors import NotServableError
from modelmill_server.row import Row
from modelmill_server.runtime import Runtime
from modelmill_server.signature import NUMPY_TYPES, Signature
from modelmill_server.tensors import Array

_WARM_UP_ROUNDS = 20
_TRIALS = 3
# What takes less than that is computed in the event loop: a thread would cost more.
INLINE_SECONDS = 0.002
_MOST_VALUES = 1 << 16  # of a trial with several rows: onnxruntime keeps the memory that it once needed
_ANY = 1 << 62  # rows, or bytes


class Servable(msgspec.Struct):
    """A verified, loaded and warm model version, with all that a request needs."""

    name: str
    version: str
    digest: str  # "" where nothing was given to verify against
    manifest: Manifest
    signature: Signature
    codec: v2.Codec
    v1_codec: v1.Codec
    grpc_codec: grpc_codec.Codec
    runtime: Runtime
    inline_rows: int  # up to so many rows are computed in the event loop, more in a thread; 0: all in threads
    together: int = 1  # rows of several requests that may go through the model at once
    bins: Layout | None = None  # of the profile; None where there is none
    row: Row | None = None  # where single rows are, and what the model answered

    @property
    def inline(self) -> bool:
        """Whether it is fast: single rows are computed in the event loop."""
        return self.inline_rows > 0

    @property
    def inline_bytes(self) -> int:
        """A body of up to so many bytes holds no more than `inline_rows`: a value takes one byte, or more."""
        return _ANY if self.inline_rows == _ANY else self.inline_rows * _values_of_a_row(self.manifest)


def load(path: Path, expected: str | None, name: str, version: str) -> Servable:
    """The model in the artifact folder `path`, verified before anything of it is used, and warmed up.

    Raises ArtifactError where the folder is not the artifact with digest `expected`, NotServableError where
    it is, but cannot be served here.
    """
    manifest = folder.verify(path, expected)
    signature = signatures.of_manifest(manifest)
    runtime = _runtime(path, manifest)
    known = known_distribution(path, manifest)
    seconds = _warm_up(runtime, manifest, signature, _typical(known, signature))
    inline_rows = _inline_rows(runtime, manifest, signature, known, seconds)
    together = 1 if inline_rows else _together(runtime, manifest, signature, known)
    row = None
    if inline_rows:
        runtime, row = _with_one_row(runtime, manifest)
    codec = v2.Codec(name, version, signature, row)
    return Servable(
        name=name,
        version=version,
        digest=expected or "",
        manifest=manifest,
        signature=signature,
        codec=codec,
        v1_codec=v1.Codec(signature),
        grpc_codec=grpc_codec.Codec(name, version, signature, codec),
        runtime=runtime,
        inline_rows=inline_rows,
        together=together,
        bins=None if known is None else Layout(manifest, signature, known),
        row=row,
    )


def inspect(path: Path, expected: str | None) -> tuple[str, Manifest, Layout | None]:
    """The digest and manifest of the artifact in `path`, which is not loaded, and where its rows are counted.

    Raises as `load` does.
    """
    manifest = folder.verify(path, expected)
    known = known_distribution(path, manifest)
    bins = None if known is None else Layout(manifest, signatures.of_manifest(manifest), known)
    if manifest.runtime == "onnx":
        import onnxruntime  # noqa: F401, PLC0415 - who forks then need not import it again
    return digest.of_file(path / artifact.MANIFEST), manifest, bins


def known_distribution(path: Path, manifest: Manifest) -> profile.Profile | None:
    """The profile, where the artifact has one."""
    if all(file.name != artifact.PROFILE for file in manifest.files):
        return None
    try:
        return msgspec.json.decode((path / artifact.PROFILE).read_bytes(), type=profile.Profile)
    except msgspec.DecodeError as error:
        raise NotServableError("ProfileInvalid", f"{artifact.PROFILE}: {error}; train again") from error


def _with_one_row(runtime: Runtime, manifest: Manifest) -> tuple[Runtime, Row | None]:
    """`runtime` for one thread, and the memory that its single rows and their answers are in, where they may be."""
    from modelmill_server.onnx import OnnxRuntime  # noqa: PLC0415

    record = rows.dtype(manifest)
    if record is None or not isinstance(runtime, OnnxRuntime):
        return runtime, None
    row = Row(record)
    return runtime.reusing(row), row


def _runtime(path: Path, manifest: Manifest) -> Runtime:
    files = {file.name for file in manifest.files}
    match manifest.runtime:
        case "onnx" if artifact.ONNX in files:
            from modelmill_server.onnx import OnnxRuntime  # noqa: PLC0415 - only what the artifact needs

            return OnnxRuntime(path / artifact.ONNX, manifest)
        case "skops" if artifact.SKOPS in files:
            from modelmill_server.skops import SkopsRuntime  # noqa: PLC0415

            return SkopsRuntime(path / artifact.SKOPS, manifest)
        case "onnx" | "skops" as runtime:
            raise NotServableError(
                "ManifestInvalid",
                f"the manifest's runtime is {runtime}, but it lists no model.{runtime}; train again",
            )
        case _:
            raise NotServableError(
                "RuntimeUnknown",
                f"the manifest's runtime {manifest.runtime[:40]!r} is none of onnx and skops (pickles are"
                " never loaded); train again, or use a newer server",
            )


def _typical(known: profile.Profile | None, signature: Signature) -> dict[str, float | str]:
    """A usual value of each feature: the median's bin or the most frequent category of the training data."""
    if known is None:
        return {}
    values: dict[str, float | str] = {}
    for feature in known.features:
        if isinstance(feature, profile.Numeric):
            values[feature.name] = _median(feature)
        elif feature.values:
            values[feature.name] = feature.values[0]
    return {name: value for name, value in values.items() if name in signature.columns}


def _inline_rows(
    runtime: Runtime, manifest: Manifest, signature: Signature, known: profile.Profile | None, seconds: float
) -> int:
    """How many rows go through the model in INLINE_SECONDS, where one takes `seconds`: 0 where it is too slow."""
    if manifest.runtime != "onnx" or seconds >= INLINE_SECONDS:
        return 0
    if any(size < 0 for tensor in manifest.inputs for size in tensor.shape[1:]):
        return 0  # a row may be as large as the body
    if all(tensor.shape[:1] != (-1,) for tensor in manifest.inputs):
        return _ANY  # no request is larger than another
    count = min(batching.MOST_ROWS, _MOST_VALUES // _values_of_a_row(manifest))
    if count > 1 and all(tensor.shape[:1] == (-1,) for tensor in manifest.inputs):
        try:
            rows = _different_rows(manifest, signature, known, count)
            feeds = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
            seconds = min(_timed(runtime, feeds) for _ in range(_TRIALS)) / count
        except Exception as error:  # such rows may be none that the model takes
            log.failure("the time of several rows is not known; that of one counts", error)
    return max(1, int(INLINE_SECONDS / seconds))


def _timed(runtime: Runtime, feeds: dict[str, Array]) -> float:
    before = time.perf_counter()
    runtime.predict(feeds)
    return time.perf_counter() - before


def _values_of_a_row(manifest: Manifest) -> int:
    return max(1, sum(math.prod(tensor.shape[1:]) for tensor in manifest.inputs))


def _together(runtime: Runtime, manifest: Manifest, signature: Signature, known: profile.Profile | None) -> int:
    """How many rows may go together, found with rows of different bins; it is said where none may."""
    if any(tensor.shape[:1] != (-1,) for tensor in (*manifest.inputs, *manifest.outputs)):
        return 1
    rows = _different_rows(manifest, signature, known, batching.MOST_ROWS)
    together = batching.rows_together(runtime, rows)
    if together == 1:
        log.warning("requests go through the model one by one: together, its answers differ in the last bits")
    return together


def _different_rows(
    manifest: Manifest, signature: Signature, known: profile.Profile | None, count: int
) -> list[dict[str, Array]]:
    """`count` single rows, as different as the profile's bins, or as random numbers where there is none."""
    chance = random.Random(7)  # noqa: S311 - any rows do, and the same at each start
    typical = _typical(known, signature)
    rows = []
    for _ in range(count):
        values = dict(typical)
        for feature in known.features if known is not None else ():
            choices: Sequence[float | str] = feature.edges if isinstance(feature, profile.Numeric) else feature.values
            if feature.name in values and choices:
                values[feature.name] = chance.choice(choices)
        if known is None:
            numeric = [name for name, column in signature.columns.items() if column.datatype != "BYTES"]
            values = {name: chance.gauss(0, 1) for name in numeric}
        feeds = _feeds(manifest, signature, values, 1)
        if signature.matrix is not None and not signature.columns:
            feeds[signature.matrix][:] = [chance.gauss(0, 1) for _ in range(signature.width)]
        rows.append(feeds)
    return rows


def _median(feature: profile.Numeric) -> float:
    if not feature.edges:
        return 0.0
    half, seen = sum(feature.counts) / 2, 0
    for index, count in enumerate(feature.counts):
        seen += count
        if seen >= half:
            return feature.edges[min(index, len(feature.edges) - 1)]
    return feature.edges[-1]


def _warm_up(runtime: Runtime, manifest: Manifest, signature: Signature, typical: dict[str, float | str]) -> float:
    """Predict until the runtime is warm, check what it gives, and return the seconds that one row takes."""
    fastest = float("inf")
    started = time.perf_counter()
    for round_ in range(_WARM_UP_ROUNDS):
        # Runtimes allocate by size: one row, and a few.
        rows = 3 if round_ == 1 else 1
        try:
            feeds = _feeds(manifest, signature, typical, rows)  # a profile may be of other features
            before = time.perf_counter()
            arrays = runtime.predict(feeds)
        except Exception as error:
            raise NotServableError(
                "WarmUpFailed", f"the model cannot predict a row like its training data: {error}; train again"
            ) from error
        if rows == 1:
            fastest = min(fastest, time.perf_counter() - before)
        _check_outputs(arrays, manifest, rows)
        if round_ >= 2 and time.perf_counter() - started > 1.0:
            break  # a slow model is warm after a few rounds, and the pod should become ready
    return fastest


def _feeds(manifest: Manifest, signature: Signature, typical: dict[str, float | str], rows: int) -> dict[str, Array]:
    if signature.matrix is not None:
        row = [typical.get(name, 0.0) for name in signature.columns] or [0.0] * signature.width
        return {signature.matrix: np.array([row] * rows, NUMPY_TYPES[signature.datatype])}
    feeds = {}
    for tensor in manifest.inputs:
        empty: float | str = "" if tensor.datatype == "BYTES" else 0.0
        shape = tuple(size if size > 0 else rows if axis == 0 else 1 for axis, size in enumerate(tensor.shape))
        value = typical.get(tensor.name, empty)
        feeds[tensor.name] = np.full(shape, value, NUMPY_TYPES[tensor.datatype])
    return feeds


def _check_outputs(arrays: list[Array], manifest: Manifest, rows: int) -> None:
    for tensor, array in zip(manifest.outputs, arrays, strict=True):
        fits = len(array.shape) == len(tensor.shape) and all(
            found == (rows if size == -1 and axis == 0 else size) or (size == -1 and axis > 0)
            for axis, (found, size) in enumerate(zip(array.shape, tensor.shape, strict=True))
        )
        if array.dtype != NUMPY_TYPES[tensor.datatype] or not fits:
            raise NotServableError(
                "ModelMismatch",
                f"output {tensor.name!r} is {array.dtype} of shape {list(array.shape)} for {rows} rows, but"
                f" the manifest says {tensor.datatype} of shape {list(tensor.shape)}; train or pack it again",
            )
