"""Parts: a snapshot as training and test rows in a folder, for a user's container that has no credentials."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import task as contract
from modelmill_contracts.report import FetchResult, Report
from modelmill_contracts.task import PartsTask
from modelmill_trainer import data, slicing
from modelmill_trainer.log import phase
from modelmill_trainer.progress import METER
from modelmill_trainer.splitting import Splitter
from modelmill_trainer.version import types_of


def parts(task: PartsTask) -> Report:
    """Write train.parquet, test.parquet and task.json into the task's folder; StoreError or TaskError.

    Both have the features, the target, the column of the split and those of the slices.  Training rows are in the
    data's order, test rows in the split's: as they were drawn, or the newest first.
    """
    METER.plan(("fetch", 1), ("container", 99))
    folder = Path(task.folder)
    with tempfile.TemporaryDirectory() as name, phase("fetch"):
        table = data.load(task, Path(name))
    types = types_of(table.schema)
    data.check_target(task.target, types)
    features = _features(task, types)
    splitter = Splitter(table, _labels(table, task), task.target, task.split, task.seed, classifier=task.split.stratify)
    found = splitter.parts()
    slicing.columns(table, task.slices)  # before anything is trained: a wrong one is found here
    kept = {*features, task.target, task.split.group, task.split.time, *task.slices}
    table = table.select([name for name in types if name in kept])
    with phase("write", train=len(found.train), test=len(found.test)):
        for name, rows in ((contract.TRAIN_ROWS, found.train), (contract.TEST_ROWS, found.order)):
            pyarrow.parquet.write_table(table.take(pa.array(rows)), folder / name, compression="zstd")
        declared = {"target": task.target, "features": features, "seed": task.seed, "metrics": list(task.metrics)}
        (folder / contract.DECLARED).write_bytes(msgspec.json.encode(declared))
    message = f"{len(found.train)} rows to train on and {len(found.test)} to test on are in {task.folder}"
    return Report(True, "PartsWritten", message, result=FetchResult(2))


def _features(task: PartsTask, types: dict[str, str]) -> list[str]:
    """The columns to predict from; TaskError names one that is missing or cannot be one."""
    names = list(task.features) or [name for name in data.undeclared(task, types) if types[name] != "Timestamp"]
    data.check_features(names, "data.features", task.target, types)
    return names


def _labels(table: pa.Table, task: PartsTask) -> Any:
    """What a stratified split needs to know; any other only how many rows there are."""
    if task.split.stratify:
        return data.target_of(table, task.target, classifier=True)
    return np.zeros(table.num_rows, np.int8)
