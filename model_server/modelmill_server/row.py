"""One row and the model's answers to it, in one piece of memory that is made once and used again.

Memory that stays where it is can be bound to the model, and what was predicted can be kept by one copy.
"""

import numpy as np

from modelmill_contracts.artifact import Manifest
from modelmill_server.signature import NUMPY_TYPES
from modelmill_server.tensors import Array

_ALIGNMENT = 16  # bytes
_LARGEST = 1 << 14  # bytes: a larger row gains nothing by being copied at once


def dtype(manifest: Manifest) -> np.dtype[np.void] | None:
    """A record of the model's only input and then its outputs, each for one row; its fields are named "0", "1" ...

    None where they have no such form: several inputs, texts, or a size that is not known or too large.
    """
    tensors = (*manifest.inputs, *manifest.outputs)
    if len(manifest.inputs) != 1 or any(
        tensor.datatype == "BYTES" or tensor.shape[:1] != (-1,) or min(tensor.shape[1:], default=1) < 1
        for tensor in tensors
    ):
        return None
    formats = [np.dtype((NUMPY_TYPES[tensor.datatype], tuple(tensor.shape[1:]))) for tensor in tensors]
    offsets, end = [], 0
    for part in formats:
        offsets.append(end)
        end += -(-part.itemsize // _ALIGNMENT) * _ALIGNMENT
    if end > _LARGEST:
        return None
    names = [str(index) for index in range(len(tensors))]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": end})


class Row:
    """`input` and `outputs` have one row each, the latter in the manifest's order; `memory` is all of them."""

    def __init__(self, record: np.dtype[np.void]) -> None:
        self.memory = bytearray(record.itemsize)  # which `struct` copies as it is; of an array it takes a copy only
        whole = np.frombuffer(self.memory, record)
        arrays: list[Array] = [whole[name] for name in record.names or ()]
        self.input, *self.outputs = arrays
