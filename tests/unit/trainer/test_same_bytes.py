"""The same recipe gives the same artifact, in another process with another hash seed, folder and wish for threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainer_tasks import (
    BREAST_CANCER,
    LOGISTIC,
    MIXED_HEADER,
    SCALER,
    csv,
    mixed_estimator,
    mixed_rows,
    snapshot,
    steps,
)

from modelmill_contracts import task
from modelmill_contracts.task import Estimator, StoreLocation, TrainingTask

CLASSIFIERS: dict[str, Estimator] = {
    "logistic": steps(SCALER, LOGISTIC),
    "forest": steps(("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20, "n_jobs": 2})),
    "boosting": steps(("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 20, "subsample": 0.5})),
    "svc": steps(SCALER, ("sklearn.svm.SVC", {"probability": True})),
    "neighbours": steps(SCALER, "sklearn.neighbors.KNeighborsClassifier"),
    "neighbours-tree": steps(SCALER, ("sklearn.neighbors.KNeighborsClassifier", {"algorithm": "kd_tree"})),
    "network": steps(SCALER, ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [8], "max_iter": 30})),
    "histogram": steps(("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 10})),
}
REGRESSORS: dict[str, Estimator] = {
    "linear": steps("sklearn.linear_model.LinearRegression"),
    "forest-regressor": steps(("sklearn.ensemble.RandomForestRegressor", {"n_estimators": 20})),
    "boosting-regressor": steps(("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 20})),
}
PACKAGES = ("sklearn", "lightgbm", "xgboost")
OTHERS: dict[str, Estimator] = {
    "lightgbm": steps(("lightgbm.LGBMClassifier", {"n_estimators": 10})),
    "xgboost": steps(("xgboost.XGBClassifier", {"n_estimators": 10})),
}
MIXED: dict[str, Estimator] = {
    "mixed-logistic": mixed_estimator(),
    "mixed-forest": mixed_estimator(
        "sklearn.ensemble.RandomForestClassifier", n_estimators=10, class_weight={"yes": 2, "no": 1}
    ),
}


def _train_all(tasks: Path, hash_seed: str, *more: str) -> dict[str, list[str]]:
    script = Path(__file__).with_name("train_all.py")
    differ = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": hash_seed, "OPENBLAS_NUM_THREADS": hash_seed}
    place = tasks.with_name(f"place-{hash_seed}")
    place.mkdir()
    command = [sys.executable, str(script), str(tasks), *more]
    done = subprocess.run(command, env={**os.environ, **differ}, cwd=place, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    folder = tmp_path_factory.mktemp("same-bytes")
    store = StoreLocation(f"file://{folder}/store")
    numbers = snapshot(store, BREAST_CANCER)
    mixed = snapshot(store, csv(folder / "mixed.csv", MIXED_HEADER, mixed_rows(200)))
    asked = {
        **{name: TrainingTask(store, numbers.file, numbers.version, "benign", e) for name, e in CLASSIFIERS.items()},
        **{name: TrainingTask(store, numbers.file, numbers.version, "mean_area", e) for name, e in REGRESSORS.items()},
        **{
            name: TrainingTask(store, numbers.file, numbers.version, "benign", e, packages=PACKAGES)
            for name, e in OTHERS.items()
        },
        **{name: TrainingTask(store, mixed.file, mixed.version, "label", e) for name, e in MIXED.items()},
    }
    path = folder / "tasks.json"
    path.write_text(json.dumps({name: task.encode(entry) for name, entry in asked.items()}))
    return _train_all(path, "1"), _train_all(path, "2", "reversed")


@pytest.mark.parametrize("name", [*CLASSIFIERS, *REGRESSORS, *OTHERS, *MIXED])
def test_the_artifact_is_the_same(trained_twice: tuple[dict[str, list[str]], dict[str, list[str]]], name: str) -> None:
    first, second = trained_twice
    assert isinstance(first[name], list), first[name]
    assert first[name] == second[name]


def test_what_converts_is_served_as_onnx(trained_twice: tuple[dict[str, list[str]], dict[str, list[str]]]) -> None:
    runtimes = {name: answer[1] for name, answer in trained_twice[0].items()}
    assert runtimes == dict.fromkeys(runtimes, "onnx")
