"""What a model takes and gives, prepared from the manifest for the decoder and the encoder.

Three kinds of model exist.  A *matrix* model has one numeric tensor [-1, features]; callers may also send it
one tensor per feature, as pandas users do.  A *column* model has one tensor [-1] or [-1, 1] per feature.
Anything else is a *tensor* model: its inputs are sent as they are, and its rows have no columns.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    name its features: then only the matrix can be sent.  `tensors` are the inputs of a tensor model, which has
    neither a matrix nor columns.
    """

    matrix: str | None
    width: int  # features per row
    datatype: str  # of the matrix; "" for a column model
    columns: dict[str, Column]
    outputs: tuple[Tensor, ...]
    tensors: tuple[Tensor, ...] = ()

    @property
    def takes(self) -> str:
        """What a caller should send, for error messages."""
        if self.tensors:
            named = [f"'{tensor.name}' of shape {list(tensor.shape)}" for tensor in self.tensors[:10]]
            return f"{', '.join(named)} (see the model's metadata)"
        if self.matrix is None:
            return f"one tensor per feature column, {self.width} in all (see the model's metadata)"
        one = f"one tensor '{self.matrix}' of shape [rows, {self.width}]"
        return f"{one}, or one tensor per feature column" if self.columns else one

    def arranged(self, arrays: dict[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
        """The model's inputs from one array [rows] for each column, in order."""
        if self.matrix is None:
            return {
                column.name: arrays[column.name].reshape((rows, 1) if column.rank == 2 else (rows,))
                for column in self.columns.values()
            }
        return {self.matrix: np.stack([arrays[name] for name in self.columns or arrays], axis=1)}


def of_manifest(manifest: Manifest) -> Signature:
    """The signature of a manifest; NotServableError where this server cannot decode for such inputs."""
    for tensor in (*manifest.inputs, *manifest.outputs):
        if tensor.datatype not in NUMPY_TYPES:
            raise _unusable(f"tensor {tensor.name!r} has datatype {tensor.datatype!r}; known are {DATATYPES}")
    if not manifest.inputs or not manifest.outputs:
        raise _unusable("it must name at least one input and one output")
    first = manifest.inputs[0]
    alone = len(manifest.inputs) == 1 and len(first.shape) == 2 and first.datatype != "BYTES"
    rows = alone and first.shape[0] == -1 and first.shape[1] > 0
    if alone and (rows or manifest.features) and (first.name == NUMERIC_INPUT or first.shape[1] > 1):
        return _matrix(manifest, first)
    if not manifest.features and any(tensor.shape not in ((-1,), (-1, 1)) for tensor in manifest.inputs):
        return _tensors(manifest)
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


def _tensors(manifest: Manifest) -> Signature:
    if len({tensor.name for tensor in manifest.inputs}) != len(manifest.inputs):
        raise _unusable("two inputs have the same name")
    return Signature(None, 0, "", {}, manifest.outputs, manifest.inputs)


def _unusable(what: str) -> NotServableError:
    return NotServableError("ManifestInvalid", f"the manifest cannot be served: {what}; train or pack the model again")
