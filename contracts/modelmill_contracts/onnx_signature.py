"""The signature of an ONNX file that came without a manifest, from what onnxruntime says of its graph.

The packer writes it into a manifest, and the server makes one of it for a bare `model.onnx`.
"""

from collections.abc import Sequence
from typing import Protocol

from modelmill_contracts.artifact import Tensor

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
ZIPMAPS = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")


class Node(Protocol):
    """An input or output as onnxruntime describes it (its NodeArg)."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str | None]: ...


def tensors(nodes: Sequence[Node]) -> tuple[Tensor, ...]:
    """The tensors of these nodes, sizes that are open as -1; ValueError names the one that is none."""
    return tuple(tensor(node) for node in nodes)


def tensor(node: Node) -> Tensor:
    """One node's tensor; ValueError where no datatype of the protocol can hold it."""
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        advice = (
            "export the classifier again with options={'zipmap': False}"
            if "map(" in node.type
            else "the protocol has tensors of numbers, booleans and strings only: end the graph with one of them"
        )
        raise ValueError(f"{node.name!r} is {node.type}, which is no tensor that can be sent; {advice}")
    return Tensor(node.name, datatype, tuple(size if isinstance(size, int) else -1 for size in node.shape))
