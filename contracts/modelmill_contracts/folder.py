"""Artifact folders on disk: fetched from a store, verified before anything in them is used."""

import hashlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from modelmill_contracts import artifact, digest
from modelmill_contracts.artifact import Manifest
from modelmill_contracts.store import Store, artifact_key

MAX_ARTIFACT = 16 << 30  # bytes of all files together


class ArtifactError(Exception):
    """The artifact is not what its digest says, or not one at all.  `reason` is CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_manifest(data: bytes, expected: str | None) -> Manifest:
    """The manifest in `data`, whose digest must be `expected` where one is given."""
    found = digest.of_bytes(data)
    if expected is not None and found != expected:
        raise ArtifactError(
            "DigestMismatch",
            f"{artifact.MANIFEST} has digest {found}, but {expected} was expected: it was changed after it was"
            " made; train again, or point at the artifact that was meant",
        )
    try:
        manifest = artifact.decode(data)
    except ValueError as error:
        raise ArtifactError("ManifestInvalid", f"{artifact.MANIFEST}: {error}") from error
    if sum(file.size for file in manifest.files) > MAX_ARTIFACT:
        raise ArtifactError("ArtifactTooLarge", f"the files are more than {MAX_ARTIFACT} bytes together")
    return manifest


def verify(folder: Path, expected: str | None) -> Manifest:
    """Check a folder against its manifest, and the manifest against its digest: regular files only, each as written.

    What is not served (`artifact.NOT_SERVED`) need not be there.  Raises ArtifactError; nothing of the folder may be
    used before this returned.
    """
    path = folder / artifact.MANIFEST
    try:
        _require_regular(path)
        if path.stat().st_size > artifact.MAX_MANIFEST:
            raise ArtifactError("ManifestInvalid", f"{artifact.MANIFEST} is over {artifact.MAX_MANIFEST} bytes")
        manifest = read_manifest(path.read_bytes(), expected)
        known = {artifact.MANIFEST, *(file.name for file in manifest.files)}
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are all that is wanted
            if name not in known:
                # A model format may read further files beside it: what no digest covers must not be there.
                raise ArtifactError("FileUnexpected", f"{name!r} is not in the manifest; remove it from the artifact")
        for file in manifest.files:
            if file.name in artifact.NOT_SERVED and not os.path.lexists(folder / file.name):
                continue
            _require_regular(folder / file.name)
            _require_digest(file, digest.of_file(folder / file.name))
    except FileNotFoundError as error:
        name = Path(error.filename).name if error.filename else "a file"
        raise ArtifactError("FileMissing", f"{name} is not in the artifact folder") from error
    return manifest


def fetch(store: Store, expected: str, folder: Path, *, without: Collection[str] = ()) -> Manifest:
    """Bring the artifact with digest `expected` into the empty `folder`, verified while it streams.

    What is not served (`artifact.NOT_SERVED`) may be left out: `without`.
    """
    prefix = artifact_key(expected)
    data = store.get(f"{prefix}/{artifact.MANIFEST}", artifact.MAX_MANIFEST)
    manifest = read_manifest(data, expected)
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        if file.name not in without:
            _fetch_file(store, prefix, file, folder)
    # Last, so that a folder with a manifest is a complete one.
    (folder / artifact.MANIFEST).write_bytes(data)
    return manifest


def read(store: Store, expected: str, manifest: Manifest, name: str) -> bytes:
    """One file of the artifact with digest `expected` and that manifest, verified; ArtifactError, StoreError."""
    for file in manifest.files:
        if file.name == name:
            data = store.get(f"{artifact_key(expected)}/{name}", file.size)
            _require_digest(file, digest.of_bytes(data))
            return data
    raise ArtifactError("FileMissing", f"{name} is not in the artifact")


def publish(store: Store, folder: Path, manifest: Manifest) -> str:
    """Write `folder` and its manifest to the store; the artifact's digest.  Writing it again changes nothing."""
    data = artifact.encode(manifest)
    expected = digest.of_bytes(data)
    prefix = artifact_key(expected)
    for file in manifest.files:
        store.put_once(f"{prefix}/{file.name}", folder / file.name)
    store.put_once(f"{prefix}/{artifact.MANIFEST}", data)
    return expected


def _fetch_file(store: Store, prefix: str, file: artifact.File, folder: Path) -> None:
    state, size = hashlib.sha256(), 0
    with (folder / file.name).open("wb") as out:
        for chunk in store.chunks(f"{prefix}/{file.name}"):
            size += len(chunk)
            if size > file.size:
                break  # longer than the manifest says: the digest cannot match any more
            state.update(chunk)
            out.write(chunk)
    if size != file.size:
        raise ArtifactError(
            "DigestMismatch",
            f"{file.name} has {'more than ' if size > file.size else ''}{min(size, file.size)} bytes, but the"
            f" manifest says {file.size}: it was changed after it was made; train again",
        )
    _require_digest(file, f"{digest.ALGORITHM}:{state.hexdigest()}")


def _require_digest(file: artifact.File, found: str) -> None:
    if found != file.digest:
        raise ArtifactError(
            "DigestMismatch",
            f"{file.name} has digest {found}, but the manifest says {file.digest}: it was changed after it was"
            " made; train again",
        )


def _require_regular(path: Path) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ArtifactError("NotARegularFile", f"{path.name} is a link or a special file; only files are allowed")
