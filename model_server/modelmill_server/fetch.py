"""The init container: bring an artifact from the store into a folder, verified while it streams."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from modelmill_contracts import artifact, digest, environment, folder
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.folder import ArtifactError
from modelmill_contracts.store import Store, StoreError, artifact_key
from modelmill_contracts.task import StoreLocation
from modelmill_server import log, termination

PATIENCE_SECONDS = 30.0  # for a store that does not answer; then kubelet starts the container again
_FIRST_PAUSE_SECONDS = 0.5


def main(uri: str, expected: str, path: Path) -> int:
    """Fetch, and give the exit code."""
    try:
        location = msgspec.json.decode(os.environ.get(environment.STORE_LOCATION, ""), type=StoreLocation)
    except msgspec.DecodeError as error:
        return termination.fail(
            "StoreMissing",
            f"{environment.STORE_LOCATION} must hold the store's location as JSON, e.g."
            f' {{"uri": "s3://bucket"}}: {error}',
        )
    began = time.monotonic()
    try:
        manifest = fetch(location, uri, expected, path)
    except ArtifactError as error:
        return termination.fail(error.reason, f"cannot fetch {uri}: {error}")
    except StoreError as error:
        return termination.fail(error.reason, f"cannot fetch {uri}: {error}", retryable=error.retryable)
    except OSError as error:
        message = f"cannot write to {path}: {error.strerror}; give the model's volume more room"
        return termination.fail("FolderUnwritable", message, retryable=True)
    size = sum(file.size for file in manifest.files if file.name not in artifact.NOT_SERVED)
    log.info("fetched", uri=uri, bytes=size, seconds=round(time.monotonic() - began, 3))
    return 0


def fetch(
    location: StoreLocation,
    uri: str,
    expected: str,
    path: Path,
    patience: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    variables: Mapping[str, str] | None = None,
) -> Manifest:
    """The artifact at `uri` with digest `expected` in `path`, which may hold what an earlier try left behind.

    A store that does not answer is asked again for `patience` seconds; `variables` (the environment) may hold
    its credentials.  Raises ArtifactError, StoreError or
    OSError.
    """
    _require_belongs(location, uri, expected)
    deadline, pause = time.monotonic() + patience, _FIRST_PAUSE_SECONDS
    while True:
        try:
            return _fetch_once(Store(location, variables), expected, path)
        except StoreError as error:
            if not error.retryable or time.monotonic() + pause > deadline:
                raise
            log.warning(f"trying again in {pause:g} s: {error}", reason=error.reason)
        sleep(pause)
        pause = min(2 * pause, 8.0)


def _fetch_once(store: Store, expected: str, path: Path) -> Manifest:
    try:
        return folder.verify(path, expected)  # a restarted pod keeps its volume
    except ArtifactError:
        pass
    return folder.fetch(store, expected, path, without=artifact.NOT_SERVED)


def _require_belongs(location: StoreLocation, uri: str, expected: str) -> None:
    try:
        digest.hex_of(expected)
    except ValueError as error:
        raise ArtifactError("DigestInvalid", f"{error}; mend the ModelVersion's digest") from error
    right = f"{location.uri.rstrip('/')}/{artifact_key(expected)}"
    if uri.rstrip("/") != right:
        raise ArtifactError(
            "UriMismatch",
            f"an artifact with digest {expected} in this store is at {right}; mend uri or digest",
        )
