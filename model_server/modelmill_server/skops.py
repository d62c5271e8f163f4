"""The skops runtime, for estimators that do not convert to ONNX faithfully.

A skops file names the types that it is made of.  Only types that skops itself trusts and those of the contract
are loaded; nothing else is, whatever the file says.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from modelmill_contracts.artifact import SKOPS_TRUSTED, Manifest
from modelmill_server.errors import NotServableError, invalid
from modelmill_server.signature import NUMPY_TYPES, of_manifest
from modelmill_server.tensors import Array


class SkopsRuntime:
    """A scikit-learn estimator.  Its outputs are its methods: `predict`, `predict_proba`, ..."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        for module in ("sklearn", "skops"):
            if importlib.util.find_spec(module) is None:
                raise NotServableError(
                    "RuntimeMissing",
                    f"this model runs in skops, and the server's environment has no {module}; serve it with the image"
                    " model-server or after pip install 'modelmill[server]', or train a pipeline that converts to ONNX",
                )
        self._estimator = _load(path)
        self._outputs = [(tensor.name, NUMPY_TYPES[tensor.datatype]) for tensor in manifest.outputs]
        for name, _ in self._outputs:
            if not callable(getattr(self._estimator, name, None)):
                raise NotServableError(
                    "ModelMismatch",
                    f"the manifest has output {name!r}, which the estimator has no method for",
                )
        self._matrix = of_manifest(manifest).matrix
        self._columns = [feature.name for feature in manifest.features]
        self._frame = _pandas_frame()

    def predict(self, feeds: dict[str, Array]) -> list[Array]:
        """All outputs for `feeds`; RefusedError where the estimator does not take these values."""
        rows = self._rows(feeds)
        try:
            return [np.asarray(getattr(self._estimator, name)(rows)).astype(kind) for name, kind in self._outputs]
        except ValueError as error:
            # scikit-learn's way to say that a value is not one it can take, e.g. an unknown category.
            raise invalid(
                "ModelRefused", "the model does not take these values; compare them with its training data"
            ) from error

    def _rows(self, feeds: dict[str, Array]) -> Any:
        """The rows with their columns named where pandas is there: a ColumnTransformer selects by name."""
        if self._matrix is not None:
            matrix = feeds[self._matrix]
            if self._frame is None or not self._columns:
                return matrix
            return self._frame(matrix, columns=self._columns)
        columns = {name: _with_missing(array.ravel()) for name, array in feeds.items()}
        if self._frame is None:
            return np.column_stack([array.astype(np.object_) for array in columns.values()])
        return self._frame(columns)


def _with_missing(column: Array) -> Array:
    """A missing text was "" on the way, and NaN in training."""
    if column.dtype != np.object_:
        return column
    return np.where(column == "", np.nan, column)


def _pandas_frame() -> Any:
    try:
        import pandas as pd  # noqa: PLC0415
    except ImportError:
        return None
    return pd.DataFrame


def _load(path: Path) -> Any:
    from skops import io  # noqa: PLC0415 - it may not be installed
    from skops.io.exceptions import UntrustedTypesFoundException  # noqa: PLC0415

    try:
        return io.load(path, trusted=list(SKOPS_TRUSTED))
    except UntrustedTypesFoundException as error:
        raise NotServableError(
            "TypeNotTrusted", f"{path.name} has types that are never loaded: {str(error)[:500]}; train without them"
        ) from error
    except Exception as error:
        raise NotServableError("ModelInvalid", f"skops cannot load {path.name}: {error}; train again") from error
