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
from modelmill_trainer import data
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase
from modelmill_trainer.progress import METER
from modelmill_trainer.splitting import Splitter
from modelmill_trainer.version import types_of


def parts(task: PartsTask) -> Report:
    """Write train.parquet, test.parquet and task.json into the task's folder; StoreError or TaskError.

    Both have the features, the target and the column of the split.  Training rows are in the data's order, test rows in
    the split's: as they were drawn, or the newest first.
    """
    METER.plan(("fetch", 1), ("container", 99))
    folder = Path(task.folder)
    with tempfile.TemporaryDirectory() as name, phase("fetch"):
        table = data.load(task, Path(name))
    types = types_of(table.schema)
    data.check_target(task.target, types)
    features = features_of(task, types)
    splitter = Splitter(table, _labels(table, task), task.target, task.split, task.seed, classifier=task.split.stratify)
    found = splitter.parts()
    split_by = {task.split.group, task.split.time}
    kept = table.select([name for name in types if name in features or name == task.target or name in split_by])
    with phase("write", train=len(found.train), test=len(found.test)):
        for name, rows in ((contract.TRAIN_ROWS, found.train), (contract.TEST_ROWS, found.order)):
            pyarrow.parquet.write_table(kept.take(pa.array(rows)), folder / name, compression="zstd")
        declared = {"target": task.target, "features": features, "seed": task.seed, "metrics": list(task.metrics)}
        (folder / contract.DECLARED).write_bytes(msgspec.json.encode(declared))
    message = f"{len(found.train)} rows to train on and {len(found.test)} to test on are in {task.folder}"
    return Report(True, "PartsWritten", message, result=FetchResult(2))


def features_of(task: PartsTask, types: dict[str, str]) -> list[str]:
    """The columns to predict from; TaskError names one that is missing or cannot be one."""
    others = (task.target, task.split.group, task.split.time)
    names = list(task.features) or [name for name in types if name not in others and types[name] != "Timestamp"]
    for name in names:
        if name not in types:
            raise TaskError("FeatureMissing", f"data.features: {data.absent(name, list(types))}")
        if name == task.target or names.count(name) > 1:
            why = "is the target; a model must not see what it predicts" if name == task.target else "occurs twice"
            raise TaskError("FeatureInvalid", f"data.features: {name!r} {why}")
        if types[name] == "Timestamp":
            raise TaskError("FeatureNotNumeric", f"data.features: {name!r} is a Timestamp, which no server takes")
    if not names:
        raise TaskError("FeatureMissing", "the data has no column but the target: there is nothing to learn from")
    return names


def _labels(table: pa.Table, task: PartsTask) -> Any:
    """What a stratified split needs to know; any other only how many rows there are."""
    if task.split.stratify:
        return data.target_of(table, task.target, classifier=True)
    return np.zeros(table.num_rows, np.int8)
