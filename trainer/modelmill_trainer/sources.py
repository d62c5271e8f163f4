"""Sources: a Dataset's URI, or the path of a mounted file, brought to local files."""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from modelmill_contracts import environment
from modelmill_contracts.store import Store, StoreError
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer.failure import TaskError
from modelmill_trainer.https import download

MAX_BYTES = 4 << 30  # of all files of a source together: they must fit the pod's scratch volume
MAX_FILES = 1000
_STORE_SCHEMES = ("s3", "gs", "az")
_WILDCARDS = "*?["


def fetch(task: SnapshotTask, folder: Path, variables: Mapping[str, str] | None = None) -> list[Path]:
    """The local files of the task's source, in the order of their names; TaskError or StoreError."""
    variables = os.environ if variables is None else variables
    scheme = urlsplit(task.source).scheme
    if not scheme:
        return [_mounted(Path(task.source))]
    if scheme not in task.schemes:
        raise TaskError(
            "SourceSchemeDenied",
            f"source.uri has scheme {scheme!r}, but this workspace allows {', '.join(task.schemes)}: use one of"
            " them, or ask who runs the platform to add it to the Workspace's allow.sources",
        )
    if scheme in _STORE_SCHEMES:
        return _from_store(task, folder, variables)
    if scheme in ("https", "http"):
        path = folder / "source"
        download(task.source, path, schemes=task.schemes, limit=MAX_BYTES)
        return [path]
    raise TaskError(
        "SourceSchemeUnknown",
        f"source.uri has scheme {scheme!r}, which this version cannot read; use s3, gs, az or https",
    )


def _mounted(path: Path) -> Path:
    if not path.is_file():
        raise TaskError(
            "SourceNotFound",
            f"the mounted source has no file {path.name!r}: check configMapRef.key, and that the ConfigMap has it",
        )
    return path


def _from_store(task: SnapshotTask, folder: Path, variables: Mapping[str, str]) -> list[Path]:
    parts = urlsplit(task.source)
    key = parts.path.lstrip("/")
    if not parts.netloc or not key:
        raise TaskError(
            "SourceInvalid", f"source.uri {task.source} must name a bucket and an object: s3://bucket/folder/file.csv"
        )
    asked = task.source_store or StoreLocation(uri="")
    location = msgspec.structs.replace(asked, uri=f"{parts.scheme}://{parts.netloc}")
    store = Store(location, _credentials(task, parts.scheme, variables))
    files, room = [], MAX_BYTES
    for number, name in enumerate(_keys(store, key, task.source)):
        path = folder / f"source-{number:04d}"
        room -= _download(store, name, path, room, task.source)
        files.append(path)
    return files


def _credentials(task: SnapshotTask, scheme: str, variables: Mapping[str, str]) -> Mapping[str, str]:
    """The source's own credentials; the store's only where the task says that the source lies beside it.

    Without any, the platform's identity is used: never the store's key on somebody else's endpoint, which
    would hand it to whoever runs that endpoint.
    """
    names = (environment.STORE_ACCESS_KEY, environment.STORE_SECRET_KEY)
    own = {
        name: variables[environment.SOURCE_PREFIX + name]
        for name in names
        if environment.SOURCE_PREFIX + name in variables
    }
    if len(own) == len(names):
        return own
    beside = task.source_store
    if (
        beside is not None
        and urlsplit(task.store.uri).scheme == scheme
        and beside.endpoint == task.store.endpoint
        and beside.region == task.store.region
    ):
        return {name: variables[name] for name in names if name in variables}
    return {}


def _keys(store: Store, key: str, source: str) -> list[str]:
    if not any(character in key for character in _WILDCARDS):
        return [key]
    prefix, _, pattern = key.rpartition("/")
    if any(character in prefix for character in _WILDCARDS):
        raise TaskError("SourceInvalid", f"source.uri {source}: wildcards are for the last part of the path only")
    # fnmatch's * would cross folders.
    depth = key.count("/")
    found = [name for name in store.keys(prefix) if name.count("/") == depth and fnmatchcase(name, key)]
    if not found:
        raise TaskError(
            "SourceNotFound", f"source.uri {source}: no object matches {pattern!r}; check the path, or write one"
        )
    if len(found) > MAX_FILES:
        raise TaskError("SourceTooLarge", f"source.uri {source} matches {len(found)} objects; {MAX_FILES} are allowed")
    return found


def _download(store: Store, key: str, path: Path, room: int, source: str) -> int:
    """Write the object to `path`; its size in bytes, at most `room`."""
    size = 0
    try:
        with path.open("wb") as file:
            for chunk in store.chunks(key):
                size += len(chunk)
                if size > room:
                    raise too_large(source)
                file.write(chunk)
    except StoreError as error:
        if error.reason == "ObjectNotFound":
            raise TaskError(
                "SourceNotFound", f"source.uri {source}: there is no such object; check the path, or write it"
            ) from error
        raise
    return size


def too_large(source: str, limit: int = MAX_BYTES) -> TaskError:
    """The failure of a source that is over the limit."""
    return TaskError("SourceTooLarge", f"source.uri {source} has more than {limit} bytes, which is the limit")
