"""The onnx runtime: one session with one thread, called where the request is."""

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from modelmill_contracts.artifact import Manifest
from modelmill_server.errors import NotServableError, RefusedError, invalid
from modelmill_server.row import Row
from modelmill_server.tensors import Array

_ERRORS_ONLY = 3  # onnxruntime's severity; its warnings are about optimisations


class OnnxRuntime:
    """An ONNX file whose inputs and outputs are named as in the manifest."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        options = onnxruntime.SessionOptions()
        # A server gets its parallelism from its workers; a second thread only steals the first one's cache.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise NotServableError(
                "ModelInvalid",
                f"onnxruntime {onnxruntime.__version__} cannot load {path.name}: {error}; train again",
            ) from error
        self._manifest = manifest
        self._names = [tensor.name for tensor in manifest.outputs]
        self._require("inputs", [tensor.name for tensor in manifest.inputs], self._session.get_inputs())
        self._require("outputs", self._names, self._session.get_outputs())
        self._strings = [tensor.datatype == "BYTES" for tensor in manifest.outputs]

    def predict(self, feeds: dict[str, Array]) -> list[Array]:
        """All outputs for `feeds`; RefusedError where the model does not take these values."""
        try:
            arrays: list[Array] = self._session.run(self._names, feeds)
        except native.InvalidArgument as error:
            raise _values_refused() from error
        if True in self._strings:
            return [_text(array) if text else array for array, text in zip(arrays, self._strings, strict=True)]
        return arrays

    def reusing(self, row: Row) -> "_OneRow":
        """The same for one thread, which is done with an answer before it asks again: single rows are in `row`."""
        return _OneRow(self, self._session, self._manifest, row)

    def _require(self, what: str, expected: list[str], nodes: list[onnxruntime.NodeArg]) -> None:
        found = [node.name for node in nodes]
        if not set(expected) <= set(found) or (what == "inputs" and set(found) != set(expected)):
            raise NotServableError(
                "ModelMismatch",
                f"the model's {what} are {', '.join(found)}, but the manifest says {', '.join(expected)};"
                " train or pack the model again",
            )


class _OneRow:
    """Predicts one row in memory that is bound once, which halves the time of a small model; more rows as usual."""

    def __init__(
        self, runtime: OnnxRuntime, session: onnxruntime.InferenceSession, manifest: Manifest, row: Row
    ) -> None:
        self._runtime = runtime
        (tensor,) = manifest.inputs
        self._input, self._outputs = row.input, row.outputs
        self._binding = session.io_binding()
        bind = self._binding.bind_input
        bind(tensor.name, "cpu", 0, self._input.dtype.type, self._input.shape, self._input.ctypes.data)
        for output, array in zip(manifest.outputs, self._outputs, strict=True):
            self._binding.bind_output(output.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._run = session.run_with_iobinding

    def predict(self, feeds: dict[str, Array]) -> list[Array]:
        (array,) = feeds.values()
        if array is not self._input:
            if len(array) != 1:
                return self._runtime.predict(feeds)
            self._input[:] = array
        try:
            self._run(self._binding)
        except native.InvalidArgument as error:
            raise _values_refused() from error
        return self._outputs


def _values_refused() -> RefusedError:
    return invalid("ModelRefused", "the model does not take these values; compare them with its metadata")


def _text(array: Array) -> Array:
    return array if array.dtype == np.object_ else array.astype(np.object_)
