"""ONNX graphs: their inputs and outputs named as the server's callers know them, their bytes canonical."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelmill_contracts.artifact import Tensor

_ELEMENTS = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING}


def finish(model: Any, columns: Mapping[str, str], wanted: Sequence[Tensor]) -> bytes:
    """The model's bytes, with inputs renamed by `columns`, and its first outputs as they are `wanted`.

    ValueError where the model has fewer outputs.
    """
    graph = model.graph
    kept = list(graph.output)[: len(wanted)]
    if len(kept) < len(wanted):
        raise ValueError(f"the converted model has {len(kept)} outputs, not {len(wanted)}")
    # What is not yet as it is wanted keeps another name, and a node makes it so.
    odd = [not _is(value, tensor) for value, tensor in zip(kept, wanted, strict=True)]
    names = {
        value.name: f"{tensor.name}:raw" if off else tensor.name
        for value, tensor, off in zip(kept, wanted, odd, strict=True)
    }
    renamed = {**columns, **names}
    _rename(graph, renamed, [*(tensor.name for tensor in wanted), *renamed.values()])
    for tensor, off in zip(wanted, odd, strict=True):
        if off:
            _adapt(graph, tensor)
    del graph.output[:]
    for tensor in wanted:
        shape = [None if size == -1 else size for size in tensor.shape]
        graph.output.append(helper.make_tensor_value_info(tensor.name, _ELEMENTS[tensor.datatype], shape))
    _canonicalise(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _is(value: Any, tensor: Tensor) -> bool:
    found = value.type.tensor_type
    return len(found.shape.dim) == len(tensor.shape) and found.elem_type == _ELEMENTS[tensor.datatype]


def _adapt(graph: Any, tensor: Tensor) -> None:
    """Labels and predictions are one number a row, and numbers are float32, whatever the converter gives."""
    name, last = tensor.name, f"{tensor.name}:raw"
    graph.initializer.append(helper.make_tensor(f"{name}:shape", TensorProto.INT64, [len(tensor.shape)], tensor.shape))
    graph.node.append(helper.make_node("Reshape", [last, f"{name}:shape"], [f"{name}:shaped"], name=f"{name}:shaped"))
    element = _ELEMENTS[tensor.datatype]
    if element == TensorProto.STRING:
        graph.node.append(helper.make_node("Identity", [f"{name}:shaped"], [name], name=name))
    else:
        graph.node.append(helper.make_node("Cast", [f"{name}:shaped"], [name], name=name, to=element))


def count_votes_exactly(model: Any, trees: int, shares: Any) -> None:
    """Let a forest's graph sum whole votes and divide at the end, as scikit-learn does.

    skl2onnx divides each leaf's class shares by the number of trees first; in float32 their sum is then off by a
    few ulp, and a row with as many votes for one class as for the other gets the wrong label.  `shares` are the
    class shares of all leaves, float64 of any shape; the graph's own are theirs up to rounding.
    """
    found = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if len(found) != 1:
        return
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in found[0].attribute}
    weights = _nearest(np.unique(np.asarray(shares, np.float64)), np.array(attributes.pop("class_weights")) * trees)
    leaves = {name: attributes.pop(f"class_{name}") for name in ("ids", "nodeids", "treeids")}
    labels = attributes.pop("classlabels_int64s", None) or attributes.pop("classlabels_strings")
    if set(leaves["ids"]) == {0} and len(labels) == 2:  # of two classes, only the second's share is there
        weights = np.concatenate([1 - weights, weights])
        leaves = {name: [*values, *values] for name, values in leaves.items()}
        leaves["ids"] = [0] * (len(weights) // 2) + [1] * (len(weights) // 2)
    label, probabilities = found[0].output
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        list(found[0].input),
        [probabilities],
        name="forest",
        domain="ai.onnx.ml",
        n_targets=len(labels),
        aggregate_function="AVERAGE",
        target_weights=weights.astype(np.float32).tolist(),
        **{f"target_{name}": values for name, values in leaves.items()},
        **attributes,
    )
    kind = TensorProto.INT64 if isinstance(labels[0], int) else TensorProto.STRING
    model.graph.initializer.append(helper.make_tensor("labels", kind, [len(labels)], labels))
    place = list(model.graph.node).index(found[0])
    model.graph.node.remove(found[0])
    # Of equal shares the first class wins, in scikit-learn as here.
    best = helper.make_node("ArgMax", [probabilities], ["best"], name="best", axis=1, keepdims=0)
    named = helper.make_node("Gather", ["labels", "best"], [label], name="label")
    for node in (named, best, ensemble):
        model.graph.node.insert(place, node)


def _nearest(known: Any, values: Any) -> Any:
    """Each value's nearest among the sorted `known` ones."""
    above = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
    below = np.maximum(above - 1, 0)
    return np.where(values - known[below] < known[above] - values, known[below], known[above])


def _rename(graph: Any, wanted: Mapping[str, str], taken: Sequence[str]) -> None:
    """Give values their new names; values inside the graph that have such a name already step aside."""
    names = {name: name for name in _names(graph)}
    for name in names:
        if name in wanted:
            names[name] = wanted[name]
        elif name in taken:
            names[name] = f"{name}:inner"
    _apply(graph, names)


def _names(graph: Any) -> set[str]:
    found = {value.name for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)}
    for node in graph.node:
        found.update((*node.input, *node.output))
    return found


def _apply(graph: Any, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):  # a body may read the outer graph's values
                _apply(attribute.g, names)


def _number(graph: Any, names: dict[str, str], taken: set[str]) -> None:
    """Add names for all values of the graph and its bodies that have none yet, numbered as they appear."""
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}{position}"
        for name in (*node.input, *node.output):
            _add(name, names, taken)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                attribute.g.name = f"body{position}"
                for value in (*attribute.g.input, *attribute.g.output):
                    _add(value.name, names, taken)
                _number(attribute.g, names, taken)


def _add(name: str, names: dict[str, str], taken: set[str]) -> None:
    if name not in names:
        new = f"v{len(names)}"
        while new in taken:
            new += "'"  # a feature may be called v7
        names[name] = new


def align_opsets(*models: Any) -> None:
    """Give the models the same operator sets, each named once and in order: the newest that one of them has."""
    versions: dict[str, int] = {}
    for entry in (entry for model in models for entry in model.opset_import):
        versions[entry.domain] = max(entry.version, versions.get(entry.domain, 0))
    for model in models:
        model.ir_version = max(other.ir_version for other in models)
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))


def _canonicalise(model: Any) -> None:
    """What depends on the order of sets, on the process or on the tool's version: sorted or removed."""
    align_opsets(model)
    model.doc_string = model.graph.doc_string = ""
    # skl2onnx numbers the values of some operators by a counter of the whole process.
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {name: name for name in (*kept, "")}  # "" is an optional input that is not given
    _number(model.graph, names, kept)
    _apply(model.graph, names)
    for node in model.graph.node:
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(attributes)
