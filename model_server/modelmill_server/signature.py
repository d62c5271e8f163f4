"""What a model takes and gives, prepared from the manifest for the decoder and the encoder.

Two kinds of model exist.  A *matrix* model has one numeric tensor [-1, features]; callers may also send it
one tensor per feature, as pandas users do.  A *column* model has one tensor [-1] or [-1, 1] per feature.
"""

from dataclasses import dataclass

import numpy as np

from modelmill_contracts.artifact import NUMERIC_INPUT, Manifest, Tensor
from modelmill_server.errors import NotServableError

# numpy's type of each datatype of the Open Inference Protocol.
NUMPY_TYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
DATATYPES = ", ".join(NUMPY_TYPES)


@dataclass(frozen=True, slots=True)
class Column:
    """One feature: where it stands, its tensor's datatype, and whether a missing value may be sent.

    The model wants the tensor of a column model as [rows] (`rank` 1) or [rows, 1] (`rank` 2).
    """

    name: str
    index: int
    datatype: str
    missing: bool
    rank: int = 2


@dataclass(frozen=True, slots=True)
class Signature:
    """`matrix` names the one input of a matrix model and is None for a column model.

    `columns` are in the order of training.  Those of a matrix model are empty where the manifest does not
    name its features: then only the matrix can be sent.
    """

    matrix: str | None
    width: int  # features per row
    datatype: str  # of the matrix; "" for a column model
    columns: dict[str, Column]
    outputs: tuple[Tensor, ...]

    @property
    def takes(self) -> str:
        """What a caller should send, for error messages."""
        if self.matrix is None:
            return f"one tensor per feature column, {self.width} in all (see the model's metadata)"
        one = f"one tensor '{self.matrix}' of shape [rows, {self.width}]"
        return f"{one}, or one tensor per feature column" if self.columns else one


def of_manifest(manifest: Manifest) -> Signature:
    """The signature of a manifest; NotServableError where this server cannot decode for such inputs."""
    for tensor in (*manifest.inputs, *manifest.outputs):
        if tensor.datatype not in NUMPY_TYPES:
            raise _unusable(f"tensor {tensor.name!r} has datatype {tensor.datatype!r}; known are {DATATYPES}")
    if not manifest.inputs or not manifest.outputs:
        raise _unusable("it must name at least one input and one output")
    first = manifest.inputs[0]
    alone = len(manifest.inputs) == 1 and len(first.shape) == 2 and first.datatype != "BYTES"
    if alone and (first.name == NUMERIC_INPUT or first.shape[1] > 1):
        return _matrix(manifest, first)
    return _columns(manifest)


def _matrix(manifest: Manifest, tensor: Tensor) -> Signature:
    width = tensor.shape[1]
    if width < 1 or (manifest.features and len(manifest.features) != width):
        raise _unusable(f"input {tensor.name!r} has {width} columns, but {len(manifest.features)} features")
    columns = {
        feature.name: Column(feature.name, index, tensor.datatype, feature.missing)
        for index, feature in enumerate(manifest.features)
    }
    if len(columns) != len(manifest.features):
        raise _unusable("two features have the same name")
    return Signature(tensor.name, width, tensor.datatype, columns, manifest.outputs)


def _columns(manifest: Manifest) -> Signature:
    missing = {feature.name: feature.missing for feature in manifest.features}
    columns = {}
    for index, tensor in enumerate(manifest.inputs):
        if tensor.shape not in ((-1,), (-1, 1)):
            raise _unusable(f"input {tensor.name!r} has shape {list(tensor.shape)}, but [-1] or [-1, 1] is needed")
        columns[tensor.name] = Column(
            tensor.name, index, tensor.datatype, missing.get(tensor.name, False), len(tensor.shape)
        )
    if len(columns) != len(manifest.inputs):
        raise _unusable("two inputs have the same name")
    return Signature(None, len(columns), "", columns, manifest.outputs)


def _unusable(what: str) -> NotServableError:
    return NotServableError("ManifestInvalid", f"the manifest cannot be served: {what}; train or pack the model again")
