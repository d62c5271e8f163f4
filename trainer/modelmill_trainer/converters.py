"""Converters beside those of skl2onnx: corrected ones, and those of other packages where they are installed."""

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

Convert = Callable[[Any, Any, Any], None]
_CLASSIFIER_OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
_MISSING = "nodes_missing_value_tracks_true"


def register() -> None:
    """Make the converters of other packages known to skl2onnx, once an estimator has imported its package."""
    if "xgboost" in sys.modules:
        _register_xgboost(sys.modules["xgboost"])
    if "lightgbm" in sys.modules:
        _register_lightgbm(sys.modules["lightgbm"])


class _Mended:
    """A converter of skl2onnx that is shown a changed copy of the estimator."""

    def __init__(self, original: Convert, mend: Callable[[Any, Any], Any]) -> None:
        self._original = original
        self._mend = mend  # (estimator, type of its input) -> estimator

    def __call__(self, scope: Any, operator: Any, container: Any) -> None:
        kept = operator.raw_operator
        operator.raw_operator = self._mend(kept, operator.inputs[0].type)
        try:
            self._original(scope, operator, _WholeNumbers(container))
        finally:
            operator.raw_operator = kept


def _histogram(model: Any, taken: Any) -> Any:
    """Thresholds that mean in float32 what they mean in float64; skl2onnx rounds them to the nearest.

    A row in float32 is at most a threshold exactly where it is at most the largest float32 that is not above it.
    """
    model, exact = copy.copy(model), isinstance(taken, DoubleTensorType)
    model._predictors = [[_tree(tree, exact=exact) for tree in trees] for trees in model._predictors]  # noqa: SLF001
    return model


def _imputer(imputer: Any, taken: Any) -> Any:
    """A missing text is NaN in training and "" when it is sent."""
    if isinstance(taken, StringTensorType) and _is_nan(imputer.missing_values):
        imputer = copy.copy(imputer)
        imputer.missing_values = ""
    return imputer


def _encoder(encoder: Any, taken: Any) -> Any:
    """The category of missing texts is NaN in training and "" when they are sent."""
    if isinstance(taken, StringTensorType):
        encoder = copy.copy(encoder)
        encoder.categories_ = [
            np.array(["" if _is_nan(value) else value for value in values], object) for values in encoder.categories_
        ]
    return encoder


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _tree(tree: Any, *, exact: bool) -> Any:
    if tree.nodes["is_categorical"].any():
        raise NotImplementedError("splits by category")
    tree = copy.copy(tree)
    tree.nodes = tree.nodes.copy()
    if not exact:
        tree.nodes["num_threshold"] = _not_above(tree.nodes["num_threshold"])
    return tree


def _not_above(values: Any) -> Any:
    """The largest float32 that is not above each float64."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


class _WholeNumbers:
    """skl2onnx's container, which gets 0 and 1 where its trees say False and True and onnx wants integers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> None:
        if _MISSING in attributes:
            attributes[_MISSING] = [int(value) for value in attributes[_MISSING]]
        self._container.add_node(*arguments, **attributes)


def _register_xgboost(xgboost: Any) -> None:
    try:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost  # noqa: PLC0415
    except ImportError:
        return
    for name in ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor"):
        _register(getattr(xgboost, name), f"XGBoost{name}", _Mended(convert_xgboost, _unnamed))


def _unnamed(model: Any, taken: Any) -> Any:
    """Without the features' names, which the converter would read the features' numbers from."""
    del taken
    model = copy.deepcopy(model)
    model.get_booster().feature_names = None
    return model


def _register_lightgbm(lightgbm: Any) -> None:
    try:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm  # noqa: PLC0415
    except ImportError:
        return
    for name in ("LGBMClassifier", "LGBMRegressor"):
        _register(getattr(lightgbm, name), f"LightGbm{name}", convert_lightgbm)


def _register(cls: type, alias: str, convert: Convert) -> None:
    if cls.__name__.endswith("Classifier"):
        options: dict[str, Any] = _CLASSIFIER_OPTIONS
        shapes = calculate_linear_classifier_output_shapes
    else:
        options, shapes = {"split": None}, calculate_linear_regressor_output_shapes
    update_registered_converter(cls, alias, shapes, convert, options=options)


def _mend(cls: type, mend: Callable[[Any, Any], Any]) -> None:
    alias = f"Sklearn{cls.__name__}"
    original = get_converter(alias)
    mended, options = _Mended(original, mend), original.get_allowed_options()
    update_registered_converter(cls, alias, get_shape_calculator(alias), mended, options=options)


for _cls, _change in (
    (HistGradientBoostingClassifier, _histogram),
    (HistGradientBoostingRegressor, _histogram),
    (SimpleImputer, _imputer),
    (OneHotEncoder, _encoder),
    (OrdinalEncoder, _encoder),
):
    _mend(_cls, _change)
