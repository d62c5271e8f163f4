"""Two ONNX graphs made one: preprocessing in float64, the predictor in float32.

That is how scikit-learn's trees see a row: transformers compute in float64, the tree rounds what it gets to
float32 and compares.  A graph that scales in float32 comes out a few ulp beside that, and whole numbers lie
exactly on thresholds (71 is the middle of 70 and 72), so that it would take the other branch.
"""

from typing import Any

import numpy as np
from onnx import TensorProto, compose, helper, numpy_helper

from modelmill_trainer.graph import align_opsets

FEATURES = "features"  # the predictor's one input


def stitch(before: Any, predictor: Any) -> Any:
    """The model that gives what `before` (inputs in double or text, one output) computes to `predictor`.

    Its number inputs are float32.
    """
    align_opsets(before, predictor)
    before = compose.add_prefix(before, "before.", rename_inputs=False)
    predictor = compose.add_prefix(predictor, "predictor.")
    graph = before.graph
    widen(before)
    output = graph.output[0]
    graph.node.append(helper.make_node("Cast", [output.name], ["seam"], name="seam", to=TensorProto.FLOAT))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("seam", TensorProto.FLOAT, [None, None]))
    return compose.merge_models(before, predictor, io_map=[("seam", f"predictor.{FEATURES}")], name="model")


def widen(model: Any) -> None:
    """Let a model that computes in double take its number inputs as float32."""
    _impute_in_double(model.graph)
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            _widen(model.graph, value)


def _widen(graph: Any, value: Any) -> None:
    """Take the input as float32, and cast it."""
    wide = f"{value.name}:double"
    for node in graph.node:
        node.input[:] = [wide if name == value.name else name for name in node.input]
    cast = helper.make_node("Cast", [value.name], [wide], name=wide, to=TensorProto.DOUBLE)
    graph.node.insert(0, cast)
    value.type.tensor_type.elem_type = TensorProto.FLOAT


def _impute_in_double(graph: Any) -> None:
    """onnxruntime has no Imputer of doubles: NaN becomes the imputed value by Where instead."""
    for position, node in enumerate(list(graph.node)):
        if node.op_type != "Imputer":
            continue
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if not np.isnan(attributes.get("replaced_value_float", 0.0)):
            raise ValueError("an imputer of something else than NaN")
        name = f"imputed{position}"
        values = np.asarray(attributes["imputed_value_floats"], np.float64)[None, :]
        graph.initializer.append(numpy_helper.from_array(values, name))
        graph.node.remove(node)
        where = helper.make_node("Where", [f"{name}:nan", name, node.input[0]], list(node.output), name=name)
        graph.node.insert(position, where)
        graph.node.insert(position, helper.make_node("IsNaN", [node.input[0]], [f"{name}:nan"], name=f"{name}:nan"))
