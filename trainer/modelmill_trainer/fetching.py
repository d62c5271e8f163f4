"""Fetching: other Datasets' versions as files, verified, for a container that has no credentials."""

import hashlib
from pathlib import Path

from modelmill_contracts import digest
from modelmill_contracts.report import FetchResult, Report
from modelmill_contracts.store import Store, blob_key
from modelmill_contracts.task import FetchTask, SnapshotInput
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase


def fetch(task: FetchTask) -> Report:
    """Write each input as NAME.parquet into the task's folder; StoreError or TaskError."""
    store, folder = Store(task.store), Path(task.folder)
    with phase("fetch", files=len(task.inputs)):
        for asked in task.inputs:
            bring(store, asked, folder)
    message = f"{len(task.inputs)} datasets are in {task.folder}"
    return Report(True, "InputsFetched", message, result=FetchResult(len(task.inputs)))


def bring(store: Store, asked: SnapshotInput, folder: Path) -> Path:
    """The input's file in `folder`; TaskError where the store holds other bytes than were written."""
    path = folder / f"{asked.name}.parquet"
    download(store, asked.file, path, f"version {asked.version} of Dataset {asked.name}")
    return path


def download(store: Store, file: str, path: Path, what: str) -> None:
    """The blob `file` into the new file `path`, hashed on the way."""
    state = hashlib.sha256()
    with path.open("wb") as opened:
        for chunk in store.chunks(blob_key(file)):
            state.update(chunk)
            opened.write(chunk)
    found = f"{digest.ALGORITHM}:{state.hexdigest()}"
    if found != file:
        # A look at the source writes it again where its size is another one; of the same size it looks right.
        advice = f"delete {blob_key(file)} from the store, and take the snapshot again"
        raise changed(f"{what}: its file has digest {found}, but {file} was written", advice)


def changed(what: str, advice: str = "take the snapshot again") -> TaskError:
    """The failure of a blob that is not what its name says."""
    return TaskError("DigestMismatch", f"{what}: the store's content was changed; {advice}")
