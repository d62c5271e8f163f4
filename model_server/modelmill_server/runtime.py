"""What runs a model, as the rest of the server knows it: see `onnx` and `skops`."""

from typing import Protocol

from modelmill_server.tensors import Array


class Runtime(Protocol):
    """Named arrays in, the manifest's outputs in order out.  Called from any thread."""

    def predict(self, feeds: dict[str, Array]) -> list[Array]: ...
