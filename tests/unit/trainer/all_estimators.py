"""Every estimator of scikit-learn, XGBoost and LightGBM that predicts, fitted on a little data and made servable.

`python all_estimators.py [reversed]` prints one JSON line for each: how it is served alone and behind a
ColumnTransformer over numbers and text with gaps, and the digests of what was made.
"""

import functools
import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from modelmill_trainer.pins import pin

pin(os.environ)

import numpy as np  # noqa: E402 - the pins come first
import pandas as pd  # noqa: E402
from sklearn.base import ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder  # noqa: E402
from sklearn.utils import all_estimators  # noqa: E402

from modelmill_contracts import artifact as contract  # noqa: E402
from modelmill_contracts import digest  # noqa: E402
from modelmill_trainer import artifact, parameters  # noqa: E402

ROWS = 150
SEED = 7
KINDS = {
    ClassifierMixin: "classifier",
    RegressorMixin: "regressor",
    ClusterMixin: "clusterer",
    OutlierMixin: "outlier detector",
}


class Result(NamedTuple):
    name: str
    kind: str  # classifier | regressor | clusterer | outlier detector
    alone: str  # ONNX | skops | refused
    mixed: str
    digests: tuple[str, ...]
    reason: str  # why it is not ONNX, or refused


def estimators() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name, kind and constructor of each."""
    known = dict(all_estimators())
    for name, cls in known.items():
        kind = next((word for mixin, word in KINDS.items() if issubclass(cls, mixin)), None)
        if kind is not None:
            yield name, kind, functools.partial(_made, cls)
    # Of the searches only the fitted object says what it is.
    for name in ("GridSearchCV", "RandomizedSearchCV"):
        yield name, "classifier", functools.partial(_made, known[name])
    try:
        import lightgbm
        import xgboost
    except ImportError:
        return
    for cls in (xgboost.XGBClassifier, xgboost.XGBRegressor, xgboost.XGBRFClassifier, xgboost.XGBRFRegressor):
        yield cls.__name__, _word(cls), functools.partial(cls, n_estimators=10)
    for cls in (lightgbm.LGBMClassifier, lightgbm.LGBMRegressor):
        yield cls.__name__, _word(cls), functools.partial(cls, n_estimators=10, verbose=-1)


def _word(cls: type) -> str:
    return "classifier" if cls.__name__.endswith("Classifier") else "regressor"


# What makes them quick, or at all possible, on a little data.
_PARAMETERS: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": {"n_estimators": 10},
    "AdaBoostRegressor": {"n_estimators": 10},
    "CCA": {"n_components": 1},
    "PLSCanonical": {"n_components": 1},
    "HistGradientBoostingClassifier": {"max_iter": 20},
    "HistGradientBoostingRegressor": {"max_iter": 20},
    "LocalOutlierFactor": {"novelty": True},
    "MLPClassifier": {"hidden_layer_sizes": (8,), "max_iter": 50},
    "MLPRegressor": {"hidden_layer_sizes": (8,), "max_iter": 50},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    "RadiusNeighborsClassifier": {"radius": 5.0},
    "RadiusNeighborsRegressor": {"radius": 5.0},
}


def _made(cls: type) -> Any:
    name = cls.__name__
    params = dict(_PARAMETERS.get(name, {}))
    if "n_estimators" not in params and "n_estimators" in getattr(cls, "_parameter_constraints", {}):
        params["n_estimators"] = 10
    inner: Any = LogisticRegression() if "Classifier" in name or name in _FOR_CLASSES else Ridge()
    if name == "SelfTrainingClassifier":
        return cls(inner)
    if name in ("VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor"):
        return cls([("a", inner), ("b", inner)])
    if name == "GridSearchCV":
        return cls(inner, {"C": [0.5, 1.0]})
    if name == "RandomizedSearchCV":
        return cls(inner, {"C": [0.5, 1.0]}, n_iter=2)
    try:
        return cls(**params)
    except TypeError:  # it wants another estimator
        return cls(inner, **params)


_FOR_CLASSES = ("GridSearchCV", "RandomizedSearchCV", "ClassifierChain", "FixedThresholdClassifier")
_SEVERAL = ("MultiTask", "MultiOutput", "ClassifierChain", "RegressorChain")


def data(kind: str, name: str) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Rows of numbers, rows of numbers and text with gaps, and a target that depends on them."""
    draw = np.random.default_rng(SEED)
    numbers = pd.DataFrame(draw.gamma(2.0, 1.0, (ROWS, 4)).astype(np.float32).astype(np.float64), columns=list("abcd"))
    city = draw.choice(np.array(["Bern", "Chur", "Genf"], object), ROWS)
    mixed = numbers[["a", "b"]].assign(city=city)
    mixed.loc[::17, "a"] = np.nan
    mixed.loc[5::23, "city"] = np.nan
    value = numbers["a"] + 2 * numbers["b"] + (city == "Chur") + draw.normal(0, 0.3, ROWS)
    if kind == "classifier":
        cuts = [0.5] if "Threshold" in name else [0.4, 0.75]
        target: Any = np.digitize(value, np.quantile(value, cuts)).astype(np.int64)
    elif kind == "regressor":
        target = (value - value.min() + 1).to_numpy()
    else:
        return numbers, mixed, None
    if name.startswith(_SEVERAL):
        target = np.stack([target, target[::-1]], axis=1)
    return numbers, mixed, target


def served(name: str, kind: str, make: Callable[[], Any], *, mixed: bool) -> tuple[str, str, str]:
    """How it is served (ONNX, skops or refused), the digest of what was made, and why it is not ONNX."""
    numbers, both, target = data(kind, name)
    rows = both if mixed else numbers
    types = {column: "String" if column == "city" else "Float" for column in rows}
    estimator = make()
    steps: list[Any] = [("model", estimator)]
    if mixed:
        numeric = make_pipeline(SimpleImputer(), MinMaxScaler())
        text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
        columns = [("numbers", numeric, [0, 1]), ("text", text, [2])]
        steps.insert(0, ("columns", ColumnTransformer(columns, sparse_threshold=0)))
    fitted = Pipeline(steps)
    parameters.seed(fitted, SEED, "")
    np.random.seed(SEED)
    random.seed(SEED)
    try:
        fitted.fit(rows, target)
    except Exception as error:
        return "refused", "", f"does not fit such rows: {' '.join(str(error).split())[:120]}"
    if not hasattr(fitted, "predict"):
        return "refused", "", "labels only the rows that it was fitted on: it has no predict"
    if name == "ClassifierChain":
        return "refused", "", "predicts several labels a row"
    spread = 1.0 if target is None or kind == "classifier" else float(target.std())
    try:
        made = artifact.served(fitted, types, rows, spread)
    except artifact.NotServableError as error:
        return "refused", "", str(error)
    found = digest.of_json(
        [contract.encode(made.manifest).decode(), {name: digest.of_bytes(made.files[name]) for name in made.files}]
    )
    runtime = "ONNX" if made.manifest.runtime == "onnx" else "skops"
    note = next((note for note in made.manifest.notes if note.startswith("served by")), "")
    return runtime, found, note.removeprefix("served by scikit-learn itself: ")


def main() -> None:
    warnings.simplefilter("ignore")
    only = [name for name in sys.argv[1:] if name != "reversed"]
    cases = [case for case in estimators() if not only or case[0] in only]
    for name, kind, make in reversed(cases) if "reversed" in sys.argv else cases:
        alone, first, why = served(name, kind, make, mixed=False)
        mixed, second, why_mixed = served(name, kind, make, mixed=True)
        reason = why or (f"behind a ColumnTransformer: {why_mixed}" if why_mixed else "")
        print(json.dumps(Result(name, kind, alone, mixed, (first, second), reason)._asdict()), flush=True)


if __name__ == "__main__":
    main()
