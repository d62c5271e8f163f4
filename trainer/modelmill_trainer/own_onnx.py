"""Somebody's own ONNX file: its signature, without a ZipMap at its end, run once on rows where there are some."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from modelmill_contracts import onnx_signature
from modelmill_contracts.artifact import Feature, Manifest, Tensor
from modelmill_trainer import conversion
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import redacted

_CLASSES = "classes"  # the key of the metadata in which a model may name its classes
_OPERATORS = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")  # attributes of those that decide
_NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


def own_onnx(
    path: Path, types: dict[str, str], rows: pd.DataFrame | None, *, missing: bool
) -> tuple[bytes, Manifest, list[Any]]:
    """The model's bytes, its manifest, and its answers to `rows`, whose columns are the features.

    `missing` tells whether NaN (or an empty text) may be sent.  TaskError where it cannot be served.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise TaskError("ModelUnreadable", f"{path.name} is no ONNX file ({type(error).__name__})") from error
    if any(entry.data_location == TensorProto.EXTERNAL for entry in model.graph.initializer):
        raise TaskError("ModelUnreadable", f"{path.name} keeps weights in other files; save it as one file")
    mapped = _without_zipmap(model)
    classes = _declared(model, path.name) or mapped
    content = bytes(model.SerializeToString(deterministic=True))
    try:
        session = conversion.start(content)
    except Exception as error:
        raise TaskError("ModelUnreadable", f"onnxruntime cannot load {path.name}: {error}") from error
    try:
        inputs = onnx_signature.tensors(session.get_inputs())
        outputs = onnx_signature.tensors(session.get_outputs())
    except ValueError as error:
        raise TaskError("ModelNotPortable", f"{path.name} cannot be served: {error}") from error
    features = tuple(Feature(name, kind, missing) for name, kind in types.items())
    answers: list[Any] = []
    if rows is not None:
        try:
            answers = session.run(None, feeds(inputs, types, rows))
        except TaskError:
            raise
        except Exception as error:
            sizes = frozenset(map(float, (*rows.shape, *(size for tensor in inputs for size in tensor.shape))))
            said = redacted(" ".join(str(error).split()), sizes)
            raise TaskError("RowsRefused", f"{path.name} does not run on the rows: {said}") from error
        inputs = _as_wide_as(len(types), inputs)
    elif missing:
        # Only a column is a feature by itself: a matrix's are known from rows, and other tensors have none.
        if any(tensor.shape not in ((-1,), (-1, 1)) for tensor in inputs):
            raise TaskError(
                "RowsMissing",
                f"{path.name} does not take one tensor per column, so --allow-missing cannot tell what may be missing;"
                " for a matrix, name a file of rows, --rows; for other tensors, leave it out",
            )
        features = tuple(Feature(tensor.name, _kind(tensor), True) for tensor in inputs)
    return content, Manifest("onnx", (), inputs, outputs, features, classes), answers


def _without_zipmap(model: Any) -> tuple[str, ...]:
    """Give the probabilities themselves instead of a map for each row; the classes."""
    classes: tuple[str, ...] = ()
    for output in model.graph.output:
        for node in list(model.graph.node):
            if node.op_type != "ZipMap" or node.output[0] != output.name:
                continue
            classes = tuple(label for entry in node.attribute for label in _labels_of(entry))
            node.CopyFrom(helper.make_node("Identity", list(node.input), [output.name], name=node.name))
            kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, len(classes)])
            output.type.CopyFrom(kind)
    return classes


def _as_wide_as(columns: int, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A matrix whose width the file leaves open takes these columns, as a server has to know."""
    first = inputs[0]
    if len(inputs) == 1 and first.datatype != "BYTES" and len(first.shape) == 2 and first.shape[1] == -1:
        return (Tensor(first.name, first.datatype, (first.shape[0], columns)),)
    return inputs


def _declared(model: Any, file: str) -> tuple[str, ...]:
    """The classes that its metadata names, in the order of the scores' columns; none where it names none."""
    for entry in model.metadata_props:
        if entry.key == _CLASSES:
            try:
                return tuple(map(str, msgspec.json.decode(entry.value, type=list[str | int])))
            except msgspec.MsgspecError as error:
                raise TaskError(
                    "ModelUnreadable",
                    f"{file}: its metadata {_CLASSES!r} is no JSON list of texts or whole numbers, such as [0, 1]",
                ) from error
    return ()


def decided(content: bytes) -> tuple[str, ...]:
    """The classes of the operator that decides; none where there is no such operator, or several that differ.

    What stands behind it may say something else: whoever believes it compares it with the answers.
    """
    graph = onnx.load_from_string(content).graph
    found = {_labels_of(entry) for node in graph.node for entry in node.attribute if entry.name in _OPERATORS} - {()}
    return found.pop() if len(found) == 1 else ()


def _labels_of(attribute: Any) -> tuple[str, ...]:
    labels = helper.get_attribute_value(attribute)
    return tuple(label.decode() if isinstance(label, bytes) else str(label) for label in labels)


def feeds(inputs: tuple[Tensor, ...], types: dict[str, str], rows: pd.DataFrame) -> dict[str, Any]:
    """The rows as the model's one matrix, or as its columns."""
    if len(inputs) == 1 and inputs[0].datatype != "BYTES" and len(inputs[0].shape) == 2:
        if "String" in types.values() or inputs[0].shape[1] not in (-1, len(types)):
            raise TaskError(
                "RowsRefused", f"the model takes {inputs[0].shape[1]} numbers, but the rows have {len(types)} columns"
            )
        return {inputs[0].name: rows.to_numpy(_NUMPY_TYPES[inputs[0].datatype])}
    found = {}
    for tensor in inputs:
        if tensor.name not in types:
            raise TaskError("RowsRefused", f"the rows have no column for the model's input {tensor.name!r}")
        column = rows[tensor.name]
        array = column.fillna("").to_numpy(object) if tensor.datatype == "BYTES" else column.to_numpy()
        shaped = array.reshape((-1, 1) if len(tensor.shape) == 2 else (-1,))
        found[tensor.name] = shaped.astype(_NUMPY_TYPES[tensor.datatype])
    return found


def _kind(tensor: Tensor) -> str:
    return "String" if tensor.datatype == "BYTES" else "Float" if tensor.datatype.startswith("FP") else "Integer"
