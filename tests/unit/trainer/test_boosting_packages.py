"""LightGBM and XGBoost in a TrainingJob: one thread, the same bytes, and nothing of the data in the log."""

import os
from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import BREAST_CANCER, run, steps, trained, training

from modelmill_contracts import artifact, digest
from modelmill_contracts.task import StoreLocation
from modelmill_trainer import pipeline

LIGHTGBM, XGBOOST = "lightgbm.LGBMClassifier", "xgboost.XGBClassifier"
PACKAGES = ("sklearn", "lightgbm", "xgboost")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        (LIGHTGBM, {"n_estimators": 10}),
        (LIGHTGBM, {"n_estimators": 10, "verbose": -1}),
        (XGBOOST, {"n_estimators": 10}),
    ],
)
def test_it_is_trained_twice_to_the_same_bytes_and_silently(
    name: str, params: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = []
    for turn in ("first", "second"):
        store = StoreLocation(f"file://{tmp_path}/{turn}")
        made = trained(store, BREAST_CANCER, "benign", steps((name, {"n_estimators": 10, **params})), packages=PACKAGES)
        found.append(digest.of_file(made.folder / artifact.MANIFEST))
        assert made.manifest.runtime == "onnx"
    assert found[0] == found[1]
    told = capfd.readouterr()
    assert told.out + told.err == ""


@pytest.mark.parametrize("name", [LIGHTGBM, XGBOOST])
def test_it_has_one_thread_before_it_is_fitted_unless_somebody_declares_more(name: str) -> None:
    for params, jobs in (({}, 1), ({"n_jobs": 2}, 2)):
        made = pipeline.build(steps((name, params)), ["a"], 0, PACKAGES)
        assert made.get_params()["step0__n_jobs"] == jobs


def test_what_lightgbm_has_settled_can_be_declared_otherwise() -> None:
    made = pipeline.build(steps((LIGHTGBM, {"verbose": 0})), ["a"], 0, PACKAGES)
    known = made.get_params()
    assert (known["step0__verbose"], known["step0__deterministic"], known["step0__force_col_wise"]) == (0, True, True)


@pytest.mark.parametrize("name", ["forcedsplits_filename", "num_threads", "verbosity"])
def test_what_lightgbm_takes_by_other_names_is_refused(store: StoreLocation, name: str) -> None:
    secret = os.fspath(Path(__file__))
    answer = run(training(store, BREAST_CANCER, "benign", steps((LIGHTGBM, {name: secret})), packages=PACKAGES))
    assert answer.reason == "ParameterUnknown"
    assert f"{name}: LGBMClassifier has no such parameter" in answer.message
