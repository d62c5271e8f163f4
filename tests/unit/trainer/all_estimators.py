"""Every estimator of scikit-learn, XGBoost and LightGBM that predicts, fitted on a little data and made servable.

`python all_estimators.py [reversed]` prints one JSON line for each: how it is served alone and behind a
ColumnTransformer over numbers and text with gaps, the digests of what was made, and those of every file of its
artifacts where a TrainingJob can train it.
"""

import functools
import itertools
import json
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
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
from modelmill_contracts import digest, task  # noqa: E402
from modelmill_contracts.report import SnapshotResult, TrainingResult  # noqa: E402
from modelmill_contracts.task import (  # noqa: E402
    ColumnGroup,
    Estimator,
    SnapshotTask,
    Step,
    StoreLocation,
    TrainingTask,
)
from modelmill_trainer import artifact, parameters  # noqa: E402
from modelmill_trainer.__main__ import carry_out  # noqa: E402

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
    artifacts: dict[str, dict[str, str]]  # alone | mixed: file -> digest of a training's artifact; none: not trained


def estimators() -> Iterator[tuple[str, str, Callable[[], Any], type]]:
    """Name, kind, constructor and class of each."""
    known = dict(all_estimators())
    for name, cls in known.items():
        kind = next((word for mixin, word in KINDS.items() if issubclass(cls, mixin)), None)
        if kind is not None:
            yield name, kind, functools.partial(_made, cls), cls
    # Of the searches only the fitted object says what it is.
    for name in ("GridSearchCV", "RandomizedSearchCV"):
        yield name, "classifier", functools.partial(_made, known[name]), known[name]
    try:
        import lightgbm
        import xgboost
    except ImportError:
        return
    for cls in (xgboost.XGBClassifier, xgboost.XGBRegressor, xgboost.XGBRFClassifier, xgboost.XGBRFRegressor):
        yield cls.__name__, _word(cls), functools.partial(cls, **_params(cls)), cls
    for cls in (lightgbm.LGBMClassifier, lightgbm.LGBMRegressor):
        yield cls.__name__, _word(cls), functools.partial(cls, **_params(cls)), cls


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
    **{f"XGB{name}": {"n_estimators": 10} for name in ("Classifier", "Regressor", "RFClassifier", "RFRegressor")},
    **{f"LGBM{name}": {"n_estimators": 10, "verbose": -1} for name in ("Classifier", "Regressor")},
}


def _params(cls: type) -> dict[str, Any]:
    params = dict(_PARAMETERS.get(cls.__name__, {}))
    if "n_estimators" not in params and "n_estimators" in getattr(cls, "_parameter_constraints", {}):
        params["n_estimators"] = 10
    return params


def _made(cls: type) -> Any:
    name = cls.__name__
    params = _params(cls)
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


class Trainer:
    """Trains as a TrainingJob does, on a snapshot in a store of its own."""

    def __init__(self, folder: Path, answer: Callable[[task.Task], Any] | None = None) -> None:
        self._answer = answer or _answer
        self._store = StoreLocation(f"file://{folder}/store")
        numbers, mixed, labels = data("classifier", "")
        value = data("regressor", "")[2]
        rows = numbers.assign(gaps=mixed["a"], city=mixed["city"], label=labels, value=value)
        rows.to_csv(folder / "rows.csv", index=False)
        taken = _answer(SnapshotTask(self._store, str(folder / "rows.csv")))
        assert isinstance(taken, SnapshotResult)
        self._taken = taken

    def train(self, kind: str, cls: type, *, mixed: bool) -> dict[str, str]:
        """The digest of every file of the artifact; none where a TrainingJob does not train it on such rows."""
        if kind not in ("classifier", "regressor"):
            return {}
        module = ".".join(itertools.takewhile(lambda part: not part.startswith("_"), cls.__module__.split(".")))
        steps = (Step("model", f"{module}.{cls.__name__}", _params(cls)),)
        asked = TrainingTask(
            self._store,
            self._taken.file,
            self._taken.version,
            "label" if kind == "classifier" else "value",
            Estimator(steps, _COLUMNS) if mixed else Estimator(steps),
            features=() if mixed else tuple("abcd"),
            seed=SEED,
            packages=("sklearn", "xgboost", "lightgbm"),
        )
        found = self._answer(asked)
        if not isinstance(found, TrainingResult):
            return {}
        return {contract.MANIFEST: found.artifact, **{file.name: file.digest for file in found.files}}


_IMPUTER, _ENCODER = "sklearn.impute.SimpleImputer", "sklearn.preprocessing.OneHotEncoder"
_COLUMNS = (
    ColumnGroup(
        "numbers", ("gaps", "b"), (Step("fill", _IMPUTER), Step("scale", "sklearn.preprocessing.MinMaxScaler"))
    ),
    ColumnGroup(
        "text",
        ("city",),
        (
            Step("fill", _IMPUTER, {"strategy": "most_frequent"}),
            Step("onehot", _ENCODER, {"handle_unknown": "ignore"}),
        ),
    ),
)


def _answer(asked: task.Task) -> Any:
    return carry_out({task.ENVIRONMENT: task.encode(asked)}).result


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        _survey(Trainer(Path(folder)))


def _survey(trainer: Trainer) -> None:
    only = [name for name in sys.argv[1:] if name != "reversed"]
    cases = [case for case in estimators() if not only or case[0] in only]
    for name, kind, make, cls in reversed(cases) if "reversed" in sys.argv else cases:
        alone, first, why = served(name, kind, make, mixed=False)
        mixed, second, why_mixed = served(name, kind, make, mixed=True)
        reason = why or (f"behind a ColumnTransformer: {why_mixed}" if why_mixed else "")
        artifacts = {way: trainer.train(kind, cls, mixed=way == "mixed") for way in ("alone", "mixed")}
        print(json.dumps(Result(name, kind, alone, mixed, (first, second), reason, artifacts)._asdict()), flush=True)


if __name__ == "__main__":
    main()
