"""The artifact of a training: the folder's files, its manifest, and its way to the store."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from modelmill_contracts import artifact, digest, folder
from modelmill_contracts.artifact import File, Manifest
from modelmill_contracts.profile import Profile
from modelmill_contracts.report import Metric
from modelmill_contracts.store import Store
from modelmill_contracts.task import TrainingTask
from modelmill_trainer import conversion, signature, skops_file
from modelmill_trainer.card import card
from modelmill_trainer.data import Data, Parts
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase


class Trained(NamedTuple):
    """What a training found out, before it is written."""

    pipeline: Pipeline
    data: Data
    parts: Parts
    recipe: dict[str, Any]
    metrics: tuple[Metric, ...]
    profile: Profile
    notes: tuple[str, ...]


class Written(NamedTuple):
    digest: str
    runtime: str
    notes: tuple[str, ...]


def write(trained: Trained, task: TrainingTask, place: Path) -> Written:
    """Convert the model, write the folder `place` and publish it; TaskError where no format can hold the model."""
    data, pipeline = trained.data, trained.pipeline
    train = data.features.iloc[trained.parts.train]
    test = data.features.iloc[trained.parts.test]
    spread = 1.0 if is_classifier(pipeline) else float(data.target[trained.parts.train].std())
    files: dict[str, bytes] = {artifact.PROFILE: msgspec.json.encode(trained.profile)}
    notes, converted = list(trained.notes), None
    with phase("convert"):
        rows = pd.concat([test, train.head(conversion.MAX_TRAIN_ROWS)])
        try:
            converted = conversion.convert(pipeline, data.types, rows, spread)
            files[artifact.ONNX] = converted.model
        except conversion.NotConvertibleError as error:
            notes.append(f"served by scikit-learn itself: {error}")
    with phase("write skops"):
        try:
            files[artifact.SKOPS] = skops_file.encode(pipeline)
        except skops_file.NotPortableError as error:
            if converted is None:
                raise TaskError(
                    "ModelNotPortable",
                    f"the model was trained, but cannot be served: {notes[-1]}; {error}; use another estimator",
                ) from error
            notes.append(f"without model.skops: {error}")
    manifest = Manifest(
        runtime="onnx" if converted else "skops",
        files=(),
        inputs=conversion.inputs(data.types),
        outputs=conversion.outputs(pipeline),
        features=signature.features(pipeline, data.types, test, converted and converted.session, spread),
        classes=tuple(map(str, pipeline.classes_.tolist())) if is_classifier(pipeline) else (),
        conversion=converted and converted.conversion,
        libraries=trained.recipe["libraries"],
        recipe=trained.recipe,
        metrics={metric.name: metric.value for metric in trained.metrics},
        notes=tuple(notes),
    )
    counts = (len(trained.parts.train), len(trained.parts.test))
    files[artifact.CARD] = card(manifest, task.estimator, counts, task.target).encode()
    for name, content in files.items():
        (place / name).write_bytes(content)
    listed = tuple(File(name, digest.of_bytes(files[name]), len(files[name])) for name in sorted(files))
    manifest = msgspec.structs.replace(manifest, files=listed)
    with phase("publish", bytes=sum(file.size for file in listed)):
        found = folder.publish(Store(task.store), place, manifest)
    return Written(found, manifest.runtime, tuple(notes))
