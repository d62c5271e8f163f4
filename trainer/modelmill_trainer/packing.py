"""Packing: somebody's own model file to an artifact folder, by the rules of a training.

A pickle (joblib's too) runs the code that its maker put into it, so it is opened only where the caller says
that it is trusted, here and never in a server: what comes out is ONNX or skops.
"""

import functools
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline

from modelmill_contracts import artifact, digest, evaluation
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.profile import Profile
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation
from modelmill_trainer import artifact as artifacts
from modelmill_trainer import casting, checks, conversion, data, held_out, inference, pins, pipeline, profiling, recipe
from modelmill_trainer.card import packed_card
from modelmill_trainer.evaluation import Predicted
from modelmill_trainer.failure import TaskError
from modelmill_trainer.held_out import HeldOut
from modelmill_trainer.importance import Ask
from modelmill_trainer.own_onnx import feeds, own_onnx
from modelmill_trainer.reading import read
from modelmill_trainer.version import normalised, types_of, version_of

_FORMAT = "modelmill.dev/pack/v1"
_FEW_ROWS = 100
PICKLES = (".pkl", ".pickle", ".joblib")


class Asked(NamedTuple):
    """What to pack: `rows` are a CSV or Parquet file like the model's training data."""

    source: Path
    rows: Path | None
    target: str | None = None  # a column of the rows that is no feature
    text: tuple[str, ...] = ()  # columns that are text although they look like numbers
    missing: bool = False  # of an ONNX file: whether NaN may be sent
    trusted: bool = False  # whether a pickle may be opened
    evaluation: Path | None = None  # CSV or Parquet rows that it was not trained on, with the target
    slices: tuple[str, ...] = ()  # columns of those rows


class Packed(NamedTuple):
    digest: str
    manifest: Manifest


class _Source(NamedTuple):
    kind: str  # onnx | skops | pickle | xgboost
    file: Path


def pack(asked: Asked, place: Path) -> Packed:
    """Write the artifact into the new folder `place`; TaskError where the model cannot be served or is not trusted."""
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise TaskError("FolderTaken", f"{place} is there already and not empty; name a new folder")
    source = _find(asked.source)
    if source.kind == "pickle" and not asked.trusted:
        raise TaskError(
            "PickleNotTrusted",
            f"{source.file.name} is a pickle: to open it runs whatever code its maker put into it. Only if you made"
            " it, or trust who did: --i-trust-this-pickle",
        )
    _check_evaluation(asked)
    table = None if asked.rows is None else _table(asked.rows, asked.text)
    known = {} if table is None else types_of(table.schema)
    kept = None if asked.evaluation is None else _table(asked.evaluation, asked.text, known)
    _check_text(asked.text, table, kept)
    made = _packed_onnx(source, asked, table) if source.kind == "onnx" else _packed_estimator(source, asked, table)
    held = None
    if kept is not None and asked.target is not None:
        held = held_out.measure(kept, asked.target, asked.slices, made.manifest, made.types, made.ask)
    manifest = _complete(made.manifest, source, table)
    if held is not None:
        manifest = _evaluated(manifest, asked, held, kept)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as name:
        folder = Path(name) / "artifact"
        folder.mkdir()
        files = {**made.files, artifact.CARD: packed_card(manifest, held and held.evaluation).encode()}
        if held is not None:
            files |= {evaluation.ROWS: held.rows.content, evaluation.RESULTS: evaluation.encode(held.evaluation)}
        manifest = artifacts.lay_out(manifest, files, made.profile, folder)
        content = artifact.encode(manifest)
        (folder / artifact.MANIFEST).write_bytes(content)
        if place.exists():
            place.rmdir()
        os.rename(folder, place)  # noqa: PTH104 - a whole folder or none
    return Packed(digest.of_bytes(content), manifest)


class _Made(NamedTuple):
    files: dict[str, bytes]
    manifest: Manifest
    profile: Profile | None
    types: dict[str, str]  # of the features
    ask: Ask


def _packed_onnx(source: _Source, asked: Asked, table: Any) -> _Made:
    names = [] if table is None else [name for name in table.column_names if name != asked.target]
    types = {} if table is None else _types(table, names)
    rows = None if table is None else data.features_of(table, types)
    model, manifest, answers = own_onnx(source.file, types, rows, missing=asked.missing)
    profile = None
    if rows is not None:
        profile = profiling.of_answers(rows, types, answers, manifest.outputs[0].datatype)
    started = functools.cache(lambda: conversion.start(model))  # a large one is not loaded again for nothing

    def ask(rows: pd.DataFrame, truth: Any) -> Predicted:
        return artifacts.answering(started(), manifest, lambda rows: feeds(manifest.inputs, types, rows))(rows, truth)

    return _Made({artifact.ONNX: model}, manifest, profile, types, ask)


def _packed_estimator(source: _Source, asked: Asked, table: Any) -> _Made:
    if table is None:
        raise TaskError(
            "RowsMissing", "an estimator is believed only after it was compared on rows: name a file of some, --rows"
        )
    wrapped, names, notes = _opened_pipeline(source, table.column_names, asked.target)
    types = _types(table, names)
    rows = data.features_of(table, types)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was fitted on rows without names, and the like
        try:
            expected = conversion.expect(wrapped, rows)
        except Exception as error:
            raise TaskError(
                "RowsRefused",
                f"the model cannot predict the rows of {asked.rows and asked.rows.name} ({type(error).__name__}:"
                f" {error}): give it the columns that it was trained on",
            ) from error
        spread = 1.0 if conversion.is_labels(wrapped) else float(np.std(expected[0]))
        try:
            made = artifacts.served(wrapped, types, rows, spread)
        except artifacts.NotServableError as error:
            raise TaskError("ModelNotPortable", f"the model {error}") from error
        profile = profiling.profile(wrapped, rows, types, expected)
    manifest = _with_notes(made.manifest, notes, rows)
    return _Made(made.files, manifest, profile, types, made.ask)


def opened_skops(file: Path, columns: Sequence[str]) -> tuple[Pipeline, list[str], list[str]]:
    """The pipeline in a skops file, the columns that it takes in their order, and notes for people; TaskError."""
    return _opened_pipeline(_Source("skops", file), columns, None)


def _opened_pipeline(
    source: _Source, columns: Sequence[str], target: str | None
) -> tuple[Pipeline, list[str], list[str]]:
    fitted, notes = _load(source)
    names = _feature_names(fitted, columns, target)
    wrapped = _by_position(fitted if isinstance(fitted, Pipeline) else Pipeline([("model", fitted)]), names)
    pipeline.set_jobs(wrapped)
    return wrapped, names, notes


def _with_notes(manifest: Manifest, notes: Sequence[str], rows: pd.DataFrame) -> Manifest:
    few = [f"compared on {len(rows)} rows only"] if len(rows) < _FEW_ROWS else []
    return msgspec.structs.replace(manifest, notes=(*notes, *few, *manifest.notes))


def _complete(manifest: Manifest, source: _Source, table: Any) -> Manifest:
    """With its recipe: what came in, and with what it was packed; no paths and no time."""
    libraries = recipe.libraries(("xgboost", "lightgbm", "onnxmltools"))
    made = {
        "format": _FORMAT,
        "source": {"kind": source.kind, "digest": digest.of_file(source.file)},
        "rows": None if table is None else version_of(table),
        "libraries": libraries,
        "architecture": pins.architecture(),
        "pins": pins.pinned(os.environ),
    }
    return msgspec.structs.replace(manifest, recipe=made, libraries=libraries)


def _evaluated(manifest: Manifest, asked: Asked, held: HeldOut, kept: Any) -> Manifest:
    """With what was measured, and on what, which is part of the recipe."""
    version = version_of(kept)
    made = {**manifest.recipe, "evaluation": {"rows": version, "target": asked.target, "slices": list(asked.slices)}}
    seen = ("evaluated on the rows that it was compared on",) if version == manifest.recipe["rows"] else ()
    return msgspec.structs.replace(
        manifest,
        recipe=made,
        metrics=held.evaluation.metrics,
        evaluation=held.rows.described,
        notes=(*manifest.notes, *seen),
    )


def _check_evaluation(asked: Asked) -> None:
    if asked.evaluation is None and asked.slices:
        raise TaskError("EvaluationMissing", "--slice goes with --evaluation: it names a column of those rows")
    if asked.evaluation is None:
        return
    if asked.target is None:
        raise TaskError("TargetMissing", "--evaluation goes with --target: name the column that the model predicts")
    if asked.rows is None:
        raise TaskError("RowsMissing", "--evaluation goes with --rows: they say of which types the features are")


def _find(path: Path) -> _Source:
    """The model file: the path itself, or what an MLflow folder's MLmodel names."""
    if not path.exists():
        raise TaskError("ModelMissing", f"{path} is not there; name a model file or an MLflow model folder")
    if path.is_dir():
        return _in_mlflow(path)
    if path.suffix == ".onnx":
        return _Source("onnx", path)
    if path.suffix == ".skops":
        return _Source("skops", path)
    if path.suffix in PICKLES:
        return _Source("pickle", path)
    known = ", ".join((".onnx", ".skops", *PICKLES))
    raise TaskError("ModelUnknown", f"{path.name} is none of {known}, or an MLflow model folder; save it as one")


def _in_mlflow(path: Path) -> _Source:
    import yaml  # noqa: PLC0415 - for MLflow's folders only

    if not (path / "MLmodel").is_file():
        raise TaskError("ModelUnknown", f"{path} has no MLmodel: it is no MLflow model folder; name the model file")
    try:
        flavours = yaml.safe_load((path / "MLmodel").read_text())["flavors"]
        if "onnx" in flavours:
            return _Source("onnx", _inside(path, flavours["onnx"]["data"]))
        if "sklearn" in flavours:
            file = _inside(path, flavours["sklearn"]["pickled_model"])
            skops = flavours["sklearn"].get("serialization_format") == "skops"
            return _Source("skops" if skops else "pickle", file)
        if "xgboost" in flavours:
            entry = flavours["xgboost"]
            return _Source(f"xgboost.{entry['model_class'].rpartition('.')[2]}", _inside(path, entry["data"]))
        if "lightgbm" in flavours:
            return _Source("pickle", _inside(path, flavours["lightgbm"]["data"]))
        found = ", ".join(flavours)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise TaskError("ModelUnknown", f"MLmodel cannot be understood ({type(error).__name__})") from error
    raise TaskError("ModelUnknown", f"MLmodel has the flavours {found}, but none of sklearn, onnx, xgboost, lightgbm")


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents or not path.is_file():
        raise TaskError("ModelUnknown", f"MLmodel names {name!r}, which is not a file in its folder")
    return path


def _load(source: _Source) -> tuple[BaseEstimator, list[str]]:
    """The fitted estimator, and notes for people."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = _opened(source)
        except TaskError:
            raise
        except Exception as error:
            raise TaskError(
                "ModelUnreadable",
                f"{source.file.name} cannot be opened ({type(error).__name__}: {error}): install the packages that it"
                " was made with, in their versions",
            ) from error
    if not isinstance(fitted, BaseEstimator):
        raise TaskError(
            "ModelUnknown", f"{source.file.name} holds a {type(fitted).__name__}, which is no scikit-learn estimator"
        )
    if not hasattr(fitted, "predict"):
        raise TaskError("ModelWithoutPredict", _without_predict(fitted))
    versions = {
        str(entry.message.original_sklearn_version)
        for entry in caught
        if isinstance(entry.message, InconsistentVersionWarning)
    }
    return fitted, [f"made with scikit-learn {version}, packed with another" for version in sorted(versions)]


def _opened(source: _Source) -> Any:
    if source.kind == "skops":
        import skops.io  # noqa: PLC0415

        return skops.io.load(source.file, trusted=list(artifact.SKOPS_TRUSTED))
    if source.kind.startswith("xgboost."):
        import xgboost  # noqa: PLC0415 - an extra

        name = source.kind.removeprefix("xgboost.")
        if name not in ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"):
            raise TaskError("ModelUnknown", f"MLmodel's model_class is {name}; log the scikit-learn API's estimator")
        model = getattr(xgboost, name)()
        model.load_model(source.file)
        return model
    import joblib  # noqa: PLC0415

    return joblib.load(source.file)


def _without_predict(fitted: BaseEstimator) -> str:
    name = type(fitted.steps[-1][1] if isinstance(fitted, Pipeline) else fitted).__name__
    if hasattr(fitted, "fit_predict"):
        return f"{name} labels only the rows that it was fitted on: it has no predict, so there is nothing to serve"
    return f"{name} has no predict, so there is nothing to serve; end the pipeline with an estimator that has"


def _check_text(text: Sequence[str], *tables: Any) -> None:
    known = {name for table in tables if table is not None for name in table.column_names}
    unknown = [name for name in text if name not in known]
    if unknown and known:
        raise TaskError("ColumnUnknown", f"--text {unknown[0]}: the rows have no such column")


def _table(path: Path, text: Sequence[str], known: Mapping[str, str] | None = None) -> Any:
    """The rows of the file; columns of types that are `known` have these."""
    if not path.is_file():
        raise TaskError("RowsMissing", f"{path} is not there; name a CSV or Parquet file of rows")
    found = read([path])
    types = {name: (known or {}).get(name) for name in found.schema.names}
    types |= inference.types_of(found, [name for name, kind in types.items() if kind is None])
    declared = tuple(Column(name, "String" if name in text else kind or "String") for name, kind in types.items())
    asked = checks.plan(found, SnapshotTask(StoreLocation(""), str(path), columns=declared))
    batches = [normalised(batch) for batch in asked.typed(found.batches())]
    asked.raise_problems()
    return pa.Table.from_batches(batches)


def _types(table: Any, names: Sequence[str]) -> dict[str, str]:
    found = types_of(table.schema)
    for name in names:
        if found[name] not in casting.ARROW_TYPES or found[name] == "Timestamp":
            raise TaskError("ColumnUnusable", f"column {name!r} is neither numbers, booleans nor text; leave it out")
    return {name: found[name] for name in names}


def _feature_names(fitted: Any, columns: Sequence[str], target: str | None) -> list[str]:
    """The columns that the estimator was fitted on: by name where it knows names, else all but the target."""
    known = [str(name) for name in getattr(fitted, "feature_names_in_", ())]
    if known and all(name in columns for name in known):
        return known
    others = [name for name in columns if name != target]
    count = getattr(fitted, "n_features_in_", len(others))
    missing = [name for name in known if name not in columns]
    # LightGBM names the columns of an array itself.
    if len(missing) == len(known) and len(others) == count:
        return others
    if missing:
        raise TaskError("FeatureMissing", f"the model was fitted on a column {missing[0]!r}, which the rows lack")
    raise TaskError(
        "FeatureMissing",
        f"the model was fitted on {count} features, but the rows have {len(others)} columns; leave out what is none"
        " (--target NAME for the one that is predicted)",
    )


def _by_position(fitted: Pipeline, names: Sequence[str]) -> Pipeline:
    """The pipeline with a ColumnTransformer in front selecting by position: a server sends numbers without names."""
    first = fitted.steps[0][1]
    inner = first.steps[0][1] if isinstance(first, Pipeline) else first
    if not isinstance(inner, ColumnTransformer):
        return fitted
    for attribute in ("transformers", "transformers_"):
        entries = getattr(inner, attribute)
        setattr(inner, attribute, [(name, step, _positions(chosen, names)) for name, step, chosen in entries])
    return fitted


def _positions(chosen: Any, names: Sequence[str]) -> Any:
    if isinstance(chosen, str):
        return names.index(chosen)
    if callable(chosen) or np.isscalar(chosen):
        return chosen
    if isinstance(chosen, slice):
        return list(range(len(names)))[chosen] if not isinstance(chosen.start, str) else chosen
    listed = list(chosen)
    if listed and all(isinstance(entry, bool | np.bool_) for entry in listed):
        return [int(position) for position in np.flatnonzero(listed)]
    return [names.index(entry) if isinstance(entry, str) else int(entry) for entry in listed]
