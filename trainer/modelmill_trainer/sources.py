"""Sources: a Dataset's URI, or the path of what is mounted, brought to local files."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from modelmill_contracts import addresses, environment
from modelmill_contracts.store import Store, StoredObject, StoreError, credential_names
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer import mounted
from modelmill_trainer.failure import TaskError, too_large
from modelmill_trainer.https import download
from modelmill_trainer.mounted import MAX_FILES, WILDCARDS

MAX_BYTES = 16 << 30  # of all files of a source together: they must fit the pod's scratch volume
_STORE_SCHEMES = ("s3", "gs", "az")
_NOT_OF_BUCKETS = "*?[]#@:%"


class Fetched(NamedTuple):
    paths: list[Path]
    modified_at: datetime | None  # when the source says that it was written
    confirm: Callable[[], None]  # TaskError where the source is not any more what it was when it was fetched


def fetch(task: SnapshotTask, folder: Path, variables: Mapping[str, str] | None = None) -> Fetched:
    """The local files of the task's source, in the order of their names; TaskError."""
    variables = os.environ if variables is None else variables
    scheme, found, _ = task.source.partition("://")
    if not found or "/" in scheme:
        return _mounted(task.source)
    if scheme not in task.schemes:
        raise TaskError(
            "SourceSchemeDenied",
            f"source.uri has scheme {scheme!r}, but this workspace allows {', '.join(task.schemes)}: use one of"
            " them, or ask who runs the platform to add it to the Workspace's allow.sources",
        )
    if scheme in _STORE_SCHEMES:
        try:
            return _from_store(task, folder, variables)
        except StoreError as error:  # of the source: the task's own store may be in order
            raise TaskError(error.reason, str(error), retryable=error.retryable) from error
    if scheme in ("https", "http"):
        path = folder / "source"
        modified_at = download(task.source, path, schemes=task.schemes, limit=MAX_BYTES)
        return Fetched([path], modified_at, lambda: None)  # one answer is one state of the file
    raise TaskError(
        "SourceSchemeUnknown",
        f"source.uri has scheme {scheme!r}, which this version cannot read; use s3, gs, az or https",
    )


def _mounted(source: str) -> Fetched:
    seen = mounted.look(source)

    def confirm() -> None:
        try:
            same = mounted.look(source) == seen
        except (TaskError, FileNotFoundError):
            same = False
        if not same:
            raise changed("the mounted source")

    return Fetched(list(seen.paths), seen.modified_at, confirm)


def changed(what: str) -> TaskError:
    """The failure of a source that somebody writes while it is read."""
    return TaskError("SourceChanged", f"{what} was changed while it was read; it is read again later", retryable=True)


def _from_store(task: SnapshotTask, folder: Path, variables: Mapping[str, str]) -> Fetched:
    # Not by urlsplit: ? and # are characters of keys.
    scheme, _, rest = task.source.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.lstrip("/")
    if not bucket or not key or set(bucket) & set(_NOT_OF_BUCKETS):
        raise TaskError(
            "SourceInvalid", f"source.uri {task.source} must name a bucket and an object: s3://bucket/folder/file.csv"
        )
    asked = task.source_store or StoreLocation(uri="")
    check_address(urlsplit(asked.endpoint or "").hostname or "", "spec.source.endpoint")
    location = msgspec.structs.replace(asked, uri=f"{scheme}://{bucket}")
    store = Store(location, credentials(task, scheme, variables), "spec.source")
    objects = _objects(store, key, task.source)
    paths, room = [], MAX_BYTES
    for number, found in enumerate(objects):
        path = folder / f"source-{number:04d}"
        room -= _download(store, found, path, room, task.source)
        paths.append(path)
    try:
        same = _objects(store, key, task.source) == objects
    except TaskError:  # none of them is left
        same = False
    if not same:
        raise changed(f"source.uri {task.source}")
    # The local copy is of one state: nothing that happens later matters.
    return Fetched(paths, max(found.modified_at for found in objects), lambda: None)


def check_address(host: str, field: str) -> list[str]:
    """The addresses that a server's name has now; TaskError where one is link-local or of a metadata service."""
    found = addresses.resolved(host)
    if any(map(addresses.is_denied_to_pods, found)):
        raise TaskError(
            "SourceAddressDenied",
            f"{field}: {host!r} is a link-local or metadata address, which sources may not be read from; use the"
            " address of a real server",
        )
    return [str(address) for address in found]


def credentials(task: SnapshotTask, scheme: str, variables: Mapping[str, str]) -> Mapping[str, str]:
    """The source's own credentials; the store's only where the task says that the source lies beside it.

    Without any, the platform's identity is used: never the store's key on somebody else's endpoint, which
    would hand it to whoever runs that endpoint.
    """
    names = credential_names(scheme)
    own = {
        name: variables[environment.SOURCE_PREFIX + name]
        for name in names
        if environment.SOURCE_PREFIX + name in variables
    }
    beside = task.source_store
    told = {environment.AZURE_ACCOUNT} if beside is not None and beside.account else set()
    if own and own.keys() | told >= set(names):
        return own
    if beside is not None and _is_beside(beside, task.store, scheme, variables.get(environment.AZURE_ACCOUNT)):
        return {name: variables[name] for name in names if name in variables}
    return {}


def _is_beside(source: StoreLocation, store: StoreLocation, scheme: str, account: str | None) -> bool:
    """Whether a source is where the store is, whose Secret may name its storage account."""
    return (
        urlsplit(store.uri).scheme == scheme
        and source.endpoint == store.endpoint  # whatever the region: it is the same provider's
        and source.account in (store.account, store.account or account)
    )


def _objects(store: Store, key: str, source: str) -> list[StoredObject]:
    """The object, or those that match the last part of its key, in the order of their keys."""
    if not any(character in key for character in WILDCARDS):
        try:
            return [store.look(key)]
        except StoreError as error:
            if error.reason == "ObjectNotFound":
                raise TaskError(
                    "SourceNotFound", f"source.uri {source}: there is no such object; check the path, or write it"
                ) from error
            raise
    prefix, _, pattern = key.rpartition("/")
    if any(character in prefix for character in WILDCARDS):
        raise TaskError("SourceInvalid", f"source.uri {source}: wildcards are for the last part of the path only")
    # fnmatch's * would cross folders.
    depth = key.count("/")
    found = [entry for entry in store.objects(prefix) if entry.key.count("/") == depth and fnmatchcase(entry.key, key)]
    if not found:
        raise TaskError(
            "SourceNotFound", f"source.uri {source}: no object matches {pattern!r}; check the path, or write one"
        )
    if len(found) > MAX_FILES:
        raise TaskError("SourceTooLarge", f"source.uri {source} matches {len(found)} objects; {MAX_FILES} are allowed")
    return sorted(found)


def _download(store: Store, found: StoredObject, path: Path, room: int, source: str) -> int:
    """Write the object to `path`; its size in bytes, at most `room`."""
    if found.size > room:
        raise too_large(f"source.uri {source}", MAX_BYTES)
    size = 0
    try:
        with path.open("wb") as file:
            for chunk in store.chunks(found.key, found.tag):
                size += len(chunk)
                file.write(chunk)
    except StoreError as error:
        if error.reason in ("ObjectChanged", "ObjectNotFound"):  # it was there when we looked
            raise changed(f"source.uri {source}") from error
        raise
    if size != found.size:
        raise changed(f"source.uri {source}")
    return size
