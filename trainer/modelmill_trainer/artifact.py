"""The artifact of a training: the folder's files, its manifest, and its way to the store."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from modelmill_contracts import artifact, digest, evaluation, folder
from modelmill_contracts.artifact import File, Manifest
from modelmill_contracts.evaluation import Evaluation
from modelmill_contracts.profile import Profile
from modelmill_contracts.report import FileDigest, Metric, TrainingResult
from modelmill_contracts.store import Store, artifact_key
from modelmill_contracts.task import AnyTraining, TrainingTask
from modelmill_trainer import conversion, signature, skops_file
from modelmill_trainer.card import card
from modelmill_trainer.data import Data
from modelmill_trainer.evaluation import Predicted, predict
from modelmill_trainer.facts import Facts, Rows
from modelmill_trainer.failure import TaskError
from modelmill_trainer.frozen import Frozen
from modelmill_trainer.importance import Ask, importance
from modelmill_trainer.log import phase
from modelmill_trainer.outputs import answered
from modelmill_trainer.report_page import report_page
from modelmill_trainer.splitting import Parts


class Trained(NamedTuple):
    """What a training found out, before it is written."""

    pipeline: Pipeline
    data: Data
    parts: Parts
    recipe: dict[str, Any]
    evaluation: Evaluation
    frozen: Frozen
    profile: Profile
    rows: Rows
    notes: tuple[str, ...]


class Written(NamedTuple):
    digest: str
    runtime: str
    notes: tuple[str, ...]
    files: tuple[File, ...]


class Model(NamedTuple):
    """A fitted pipeline as it will be served."""

    files: dict[str, bytes]  # model.onnx, model.skops, or both
    manifest: Manifest  # what is known from the model alone: without files, recipe and metrics
    ask: Ask  # what is served, in this process


class NotServableError(Exception):
    """No format can hold the model; the text says why."""


def write(trained: Trained, task: TrainingTask, place: Path) -> Written:
    """Convert the model, write the folder `place` and publish it if that is asked.

    TaskError where no format can hold the model.
    """
    data, pipeline = trained.data, trained.pipeline
    train = data.features.iloc[trained.parts.train]
    test = data.features.iloc[trained.parts.test]
    spread = 1.0 if is_classifier(pipeline) else float(data.target[trained.parts.train].std())
    rows = pd.concat([test, train.head(conversion.MAX_TRAIN_ROWS)])
    try:
        made = served(pipeline, data.types, rows, spread)
    except NotServableError as error:
        raise TaskError("ModelNotPortable", f"the model was trained, but {error}; use another estimator") from error
    manifest = msgspec.structs.replace(
        made.manifest,
        libraries=trained.recipe["libraries"],
        recipe=trained.recipe,
        metrics=trained.evaluation.metrics,
        evaluation=trained.frozen.described,
        notes=(*trained.notes, *made.manifest.notes),
    )
    frozen = trained.frozen
    useful = importance(
        made.ask, data.features.iloc[frozen.rows], data.target[frozen.rows], list(manifest.metrics), task.seed
    )
    facts = Facts(manifest, msgspec.structs.replace(trained.evaluation, importance=useful), trained.rows)
    return finish(lay_out(manifest, {**made.files, **told(facts, frozen)}, trained.profile, place), task, place)


def told(facts: Facts, frozen: Frozen) -> dict[str, bytes]:
    """The files that say how good a model is, to people and to programs."""
    return {
        evaluation.ROWS: frozen.content,
        evaluation.RESULTS: evaluation.encode(facts.evaluation),
        artifact.CARD: card(facts).encode(),
        artifact.PAGE: report_page(facts).encode(),
    }


def result(
    task: AnyTraining, written: Written, recipe: dict[str, Any], metrics: tuple[Metric, ...], rows: Rows
) -> TrainingResult:
    """What the Job's report says of the artifact."""
    return TrainingResult(
        recipe=digest.of_json(recipe),
        artifact=written.digest,
        uri=f"{task.store.uri.rstrip('/')}/{artifact_key(written.digest)}",
        runtime=written.runtime,
        metrics=metrics,
        train_rows=rows.train.rows,
        test_rows=rows.test.rows,
        cpu_seconds=cpu_seconds(),
        files=digests(written.files),
        model_bytes=model_bytes(written.files, written.runtime),
    )


def cpu_seconds() -> int:
    """What this process took until now; processes that a parallel fit started count too."""
    times = os.times()
    return round(times.user + times.system + times.children_user + times.children_system)


def model_bytes(files: tuple[File, ...], runtime: str) -> int:
    """The size of the file that is served."""
    served = artifact.ONNX if runtime == "onnx" else artifact.SKOPS
    return sum(file.size for file in files if file.name == served)


def digests(files: tuple[File, ...]) -> tuple[FileDigest, ...]:
    """The files as a report has them."""
    return tuple(FileDigest(file.name, file.digest) for file in files)


def finish(manifest: Manifest, task: AnyTraining, place: Path) -> Written:
    """Publish what was laid out in the folder `place`, if that is asked."""
    if task.publish:
        with phase("publish", bytes=sum(file.size for file in manifest.files)):
            folder.publish(Store(task.store), place, manifest)
    return Written(artifact.digest_of(manifest), manifest.runtime, manifest.notes, manifest.files)


def served(pipeline: Pipeline, types: dict[str, str], rows: pd.DataFrame, spread: float) -> Model:
    """The pipeline's files and what its manifest says of it; NotServableError where no format can hold it.

    On `rows` the conversion is compared, in units of `spread` where the model predicts numbers.
    """
    pipeline = conversion.without_search(pipeline)
    files: dict[str, bytes] = {}
    notes, converted = list[str](), None
    with phase("convert"):
        expected = conversion.expect(pipeline, rows)
        if is_classifier(pipeline) and expected[0].ndim != 1:
            raise NotServableError("it cannot be served: it predicts several labels a row, one is possible")
        try:
            converted = conversion.convert(pipeline, types, rows, spread)
            files[artifact.ONNX] = converted.model
        except conversion.NotConvertibleError as error:
            notes.append(f"served by scikit-learn itself: {error}")
    with phase("write skops"):
        try:
            files[artifact.SKOPS] = skops_file.encode(pipeline)
        except skops_file.NotPortableError as error:
            if converted is None:
                raise NotServableError(f"cannot be served: {notes[-1]}; {error}") from error
            notes.append(f"without model.skops: {error}")
    scale = conversion.scale_of(pipeline, expected, spread)
    manifest = Manifest(
        runtime="onnx" if converted else "skops",
        files=(),
        inputs=conversion.inputs(types),
        outputs=conversion.outputs(pipeline, expected),
        features=signature.features(pipeline, types, rows, converted and converted.session, scale),
        classes=tuple(map(str, pipeline.classes_.tolist())) if is_classifier(pipeline) else (),
        conversion=converted and converted.conversion,
        notes=tuple(notes),
    )
    return Model(files, manifest, _asking(pipeline, types, manifest, converted and converted.session))


def _asking(pipeline: Pipeline, types: dict[str, str], manifest: Manifest, session: Any) -> Ask:
    """Asks the session, or scikit-learn itself where there is none."""
    if session is None:
        return lambda rows, truth: predict(pipeline, rows, truth)
    return answering(session, manifest, lambda rows: conversion.feed(types, rows))


def answering(session: Any, manifest: Manifest, feed: Callable[[pd.DataFrame], dict[str, Any]]) -> Ask:
    """Asks an ONNX session whose outputs are called as scikit-learn calls them; `feed` makes its inputs of rows."""
    names = [output.name for output in manifest.outputs]

    def ask(rows: pd.DataFrame, truth: Any) -> Predicted:
        answers = session.run(names, feed(rows))
        return answered(dict(zip(names, answers, strict=True)), manifest.classes, truth)

    return ask


def lay_out(manifest: Manifest, files: dict[str, bytes], profile: Profile | None, place: Path) -> Manifest:
    """Write everything but the manifest into the folder `place`; the manifest with the files' digests."""
    if profile is not None:
        files = {**files, artifact.PROFILE: msgspec.json.encode(profile)}
    for name, content in files.items():
        (place / name).write_bytes(content)
    listed = tuple(File(name, digest.of_bytes(files[name]), len(files[name])) for name in sorted(files))
    return msgspec.structs.replace(manifest, files=listed)
