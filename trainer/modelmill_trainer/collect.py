"""Collecting: files that nothing refers to leave the store in two passes, so that no moment is unsafe.

What a Job writes is referred to by an object's status, which is written afterwards.  So a blob without a reference may
be one that was just written, or that a Job is about to find "stored already".  Hence:

    blobs/ --[no reference, a day old]--> trash/ --[no reference, a day in it]--> deleted
       ^---------------[referred to again]--'

Readers look into trash/ too, so a blob is there until the moment it is deleted, and that is a day and a pass after
somebody could have seen it in blobs/ last.  Each file of an artifact goes the same way, from artifacts/; whether it is
referred to, its artifact's digest says, which is in its name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelmill_contracts.report import CollectResult, Report
from modelmill_contracts.store import (
    ARTIFACTS,
    BLOBS,
    OWNERS,
    TRASH,
    Store,
    StoredObject,
    StoreError,
    artifact_key,
    blob_key,
    home_key,
    trash_key,
)
from modelmill_contracts.task import CollectTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase, say

GRACE = timedelta(days=1)
_OUTAGE = 5  # failures in a row that may heal: it is the store, not a blob


def collect(task: CollectTask) -> Report:
    """Move, restore and delete files; StoreError, or TaskError where the store is not the owner's alone.

    The report is of a failure where some could not be: the others are done.
    """
    store = Store(task.store)
    if not is_owned(store, task.owner):
        raise TaskError(
            "StoreShared",
            f"{task.store.uri} is not this Workspace's alone, so nothing is collected in it: others may refer to what"
            " lies there; give each Workspace a bucket or a prefix of its own",
        )
    now = datetime.fromisoformat(task.now)
    keep = Kept.of(task)
    failures: list[StoreError] = []
    with phase("collect", kept=len(keep.blobs) + len(keep.artifacts or ())):
        # The trash first: what is moved there now must stay for a day.
        restored, deleted = _empty(store, keep, now, failures)
        moved = _clear(store, keep, now, failures)
    result = CollectResult(len(moved), len(restored), len(deleted), sum(file.size for file in deleted))
    message = f"{result.moved} blobs moved to the trash, {result.restored} back, {result.deleted} deleted"
    if failures:
        first = failures[0]
        message = f"{len(failures)} blobs were left where they are, the first for this: {first} ({message})"
        return Report(False, first.reason, message, retryable=any(failure.retryable for failure in failures))
    return Report(True, "Collected", message, result=result)


@dataclass(frozen=True)
class Kept:
    """What stays: keys of blobs, and folders of artifacts; None: all artifacts."""

    blobs: frozenset[str]
    artifacts: frozenset[str] | None

    @classmethod
    def of(cls, task: CollectTask) -> "Kept":
        artifacts = None if task.artifacts is None else frozenset(map(artifact_key, task.artifacts))
        return cls(frozenset(map(blob_key, task.keep)), artifacts)

    @property
    def folders(self) -> tuple[str, ...]:
        """Where there may be something that does not stay."""
        return (BLOBS,) if self.artifacts is None else (BLOBS, ARTIFACTS)

    def has(self, key: str) -> bool:
        """Whether the file stays that is, or was, at this key outside of the trash."""
        if not key.startswith(ARTIFACTS):
            return key in self.blobs
        return self.artifacts is None or "/".join(key.split("/")[:2]) in self.artifacts


def is_owned(store: Store, owner: str) -> bool:
    """Whether the store has the owner's mark, and nobody else's."""
    return bool(owner) and store.keys(OWNERS) == [OWNERS + owner]


def _empty(
    store: Store, keep: Kept, now: datetime, failures: list[StoreError]
) -> tuple[list[StoredObject], list[StoredObject]]:
    """Move back what is referred to again, and delete what was in the trash for a day."""

    def restore(file: StoredObject) -> None:
        store.move(file.key, home_key(file.key))

    def delete(file: StoredObject) -> None:
        store.delete(file.key)
        say("deleted", key=file.key)

    found = list(store.objects(TRASH))
    restored = _done(restore, [file for file in found if keep.has(home_key(file.key))], failures)
    old = [file for file in found if not keep.has(home_key(file.key)) and now - file.modified_at >= GRACE]
    return restored, _done(delete, old, failures)


def _clear(store: Store, keep: Kept, now: datetime, failures: list[StoreError]) -> list[StoredObject]:
    """Move what was last written a day ago, and that nothing refers to, to the trash."""

    def discard(file: StoredObject) -> None:
        store.move(file.key, trash_key(file.key))
        say("moved to the trash", key=file.key)

    found = [file for folder in keep.folders for file in store.objects(folder)]
    old = [file for file in found if not keep.has(file.key) and now - file.modified_at >= GRACE]
    return _done(discard, old, failures)


def _done(
    act: Callable[[StoredObject], None], files: Iterable[StoredObject], failures: list[StoreError]
) -> list[StoredObject]:
    """The files that it could be done with: one with which it cannot must not hold up those after it."""
    done: list[StoredObject] = []
    in_a_row = 0
    for file in files:
        try:
            act(file)
        except StoreError as error:
            say("left where it is", key=file.key, reason=error.reason)
            failures.append(error)
            in_a_row += error.retryable
            if in_a_row == _OUTAGE:
                raise
        else:
            in_a_row = 0
            done.append(file)
    return done
