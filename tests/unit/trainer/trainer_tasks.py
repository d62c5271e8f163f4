"""Builders: tasks as the operator renders them, carried out as the container does, and the artifact that came out."""

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import artifact, evaluation, profile, task
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.profile import Profile
from modelmill_contracts.report import Report, SnapshotResult, TrainingResult
from modelmill_contracts.task import Estimator, SnapshotTask, Step, StoreLocation, TrainingTask
from modelmill_trainer.__main__ import carry_out

BREAST_CANCER = Path(__file__).parents[3] / "examples" / "breast-cancer" / "breast-cancer.csv"
SCALER = "sklearn.preprocessing.StandardScaler"
LOGISTIC = "sklearn.linear_model.LogisticRegression"


class Artifact(NamedTuple):
    manifest: Manifest
    profile: Profile
    folder: Path
    result: TrainingResult


def run(asked: task.Task) -> Report:
    return carry_out({task.ENVIRONMENT: task.encode(asked)})


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def steps(*declared: str | tuple[str, dict[str, Any]]) -> Estimator:
    """An estimator from classes, or (class, params): step0, step1, ..."""
    pairs = [(entry, {}) if isinstance(entry, str) else entry for entry in declared]
    return Estimator(tuple(Step(f"step{i}", cls, params) for i, (cls, params) in enumerate(pairs)))


def snapshot(store: StoreLocation, source: Path | str, **fields: Any) -> SnapshotResult:
    """Take a snapshot that must succeed; what it says of times is left out, so that equal content is equal."""
    return taken(SnapshotTask(store=store, source=str(source), **fields))


def taken(asked: SnapshotTask) -> SnapshotResult:
    """As `snapshot`, of any task."""
    report = run(asked)
    assert report.ok, report
    assert isinstance(report.result, SnapshotResult)
    return msgspec.structs.replace(report.result, modified_at=None, cpu_seconds=0)


def csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def training(store: StoreLocation, source: Path, target: str, estimator: Estimator, **fields: Any) -> TrainingTask:
    """The training of a file, which is snapshotted first."""
    taken = snapshot(store, source)
    return TrainingTask(store, taken.file, taken.version, target, estimator, **fields)


def trained(store: StoreLocation, source: Path, target: str, estimator: Estimator, **fields: Any) -> Artifact:
    """Train, which must succeed, and open the artifact (of a file:// store)."""
    report = run(training(store, source, target, estimator, **fields))
    assert report.ok, report
    assert isinstance(report.result, TrainingResult)
    folder = Path(report.result.uri.removeprefix("file://"))
    return Artifact(
        artifact.decode((folder / artifact.MANIFEST).read_bytes()),
        msgspec.json.decode((folder / artifact.PROFILE).read_bytes(), type=profile.Profile),
        folder,
        report.result,
    )


def frozen_rows(made: Artifact) -> pa.Table:
    """The test rows that are part of the artifact."""
    return pyarrow.parquet.read_table(made.folder / evaluation.ROWS)


def evaluated(made: Artifact) -> Evaluation:
    """What the artifact says of how good its model is."""
    return evaluation.decode((made.folder / evaluation.RESULTS).read_bytes())


def mixed_rows(count: int, seed: int = 1, missing: bool = True) -> list[str]:
    """Rows of `age,income,city,member,label`: numbers with gaps, text, a Boolean, a label that depends on them."""
    draw = random.Random(seed)
    rows = []
    for row in range(count):
        age, income = draw.randint(18, 90), round(draw.gauss(40_000, 9_000), 2)
        city = draw.choice(["Berlin", "Paris", "Oslo"])
        member = draw.random() < 0.5
        label = "yes" if age / 90 + (city == "Oslo") + 0.4 * member + draw.gauss(0, 0.2) > 1 else "no"
        shown = "" if missing and row % 17 == 3 else str(income)
        rows.append(f"{age},{shown},{city},{str(member).lower()},{label}")
    return rows


MIXED_HEADER = "age,income,city,member,label"


def mixed_estimator(last: str = LOGISTIC, **params: Any) -> Estimator:
    """Imputing and scaling for numbers, one-hot for text, then `last`."""
    columns = [
        {
            "name": "numbers",
            "select": ["age", "income", "member"],
            "steps": [
                {"name": "impute", "class": "sklearn.impute.SimpleImputer", "params": {"strategy": "median"}},
                {"name": "scale", "class": SCALER},
            ],
        },
        {
            "name": "text",
            "select": ["city"],
            "steps": [
                {
                    "name": "onehot",
                    "class": "sklearn.preprocessing.OneHotEncoder",
                    "params": {"handle_unknown": "ignore"},
                }
            ],
        },
    ]
    text = json.dumps({"columns": columns, "steps": [{"name": "last", "class": last, "params": params}]})
    return msgspec.json.decode(text, type=Estimator)
