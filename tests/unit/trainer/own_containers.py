"""The folders of a pod whose container trains, and what a good container writes there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from trainer_tasks import csv, run, snapshot

from modelmill_contracts import task
from modelmill_contracts.report import Report
from modelmill_contracts.task import OwnContainer, OwnTrainingTask, StoreLocation

HEADER = "age,size,patient,day,label"
NUMBERS = ("age", "size")


class Place:
    """The folders of a pod whose container trains."""

    def __init__(self, store: StoreLocation, root: Path, target: str = "label", **fields: Any) -> None:
        self.data, self.output = root / "data", root / "output"
        for made in (self.data, self.output):
            made.mkdir()
        rows = [f"{x % 90},{x * 7 % 50 / 3:.3f},p{x % 30},{_day(x)},{int(x % 90 > 40)}" for x in range(300)]
        taken = snapshot(store, csv(root / "rows.csv", HEADER, rows))
        container = OwnContainer("registry.example.org/ml/train:1", ("train",), ("--fast",), (("DEPTH", "5"),))
        self.asked = OwnTrainingTask(
            store, taken.version, target, container, str(self.data), str(self.output), image="trainer:1", **fields
        )
        self.brought = run(task.parts_of(self.asked, taken.file))

    def rows(self, name: str) -> pd.DataFrame:
        return pyarrow.parquet.read_table(self.data / name).to_pandas()

    def train(self, estimator: Any = None, **metrics: float) -> None:
        """What a good container does."""
        rows = self.rows("train.parquet")
        fitted = (estimator or LogisticRegression()).fit(rows[list(NUMBERS)].to_numpy(np.float32), rows["label"])
        options = {"zipmap": False} if hasattr(fitted, "classes_") else None
        model = to_onnx(fitted, np.zeros((1, 2), np.float32), options=options)
        (self.output / "model.onnx").write_bytes(model.SerializeToString())
        (self.output / "metrics.json").write_text(json.dumps(metrics or {"accuracy": 0.93}))

    def take(self) -> Report:
        return run(self.asked)


def _day(row: int) -> str:
    return f"2024-{row // 28 % 12 + 1:02}-{row % 28 + 1:02}"
