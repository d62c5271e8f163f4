"""Collecting: blobs that nothing refers to leave the store in two passes, so that no moment is unsafe.

A version is referred to by an object's status, which is written after its blobs.  So a blob without a reference may
be one that was just written, or that a Job is about to find "stored already".  Hence:

    blobs/ --[no reference, a day old]--> trash/ --[no reference, a day in it]--> deleted
       ^---------------[referred to again]--'

Readers look into trash/ too, so a blob is there until the moment it is deleted, and that is a day and a pass after
somebody could have seen it in blobs/ last.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from modelmill_contracts.report import CollectResult, Report
from modelmill_contracts.store import BLOBS, OWNERS, TRASH, Store, StoredObject, StoreError, blob_key
from modelmill_contracts.task import CollectTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase, say

GRACE = timedelta(days=1)
_OUTAGE = 5  # failures in a row that may heal: it is the store, not a blob


def collect(task: CollectTask) -> Report:
    """Move, restore and delete blobs; StoreError, or TaskError where the store is not the owner's alone.

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
    keep = {blob_key(content) for content in task.keep}
    failures: list[StoreError] = []
    with phase("collect", kept=len(keep)):
        # The trash first: what is moved there now must stay for a day.
        restored, deleted = _empty(store, keep, now, failures)
        moved = _clear(store, keep, now, failures)
    result = CollectResult(len(moved), len(restored), len(deleted), sum(blob.size for blob in deleted))
    message = f"{result.moved} blobs moved to the trash, {result.restored} back, {result.deleted} deleted"
    if failures:
        first = failures[0]
        message = f"{len(failures)} blobs were left where they are, the first for this: {first} ({message})"
        return Report(False, first.reason, message, retryable=any(failure.retryable for failure in failures))
    return Report(True, "Collected", message, result=result)


def is_owned(store: Store, owner: str) -> bool:
    """Whether the store has the owner's mark, and nobody else's."""
    return bool(owner) and store.keys(OWNERS) == [OWNERS + owner]


def _empty(
    store: Store, keep: Collection[str], now: datetime, failures: list[StoreError]
) -> tuple[list[StoredObject], list[StoredObject]]:
    """Move back what is referred to again, and delete what was in the trash for a day."""

    def restore(blob: StoredObject) -> None:
        store.move(blob.key, _home(blob))

    def delete(blob: StoredObject) -> None:
        store.delete(blob.key)
        say("deleted", key=blob.key)

    found = list(store.objects(TRASH))
    restored = _done(restore, [blob for blob in found if _home(blob) in keep], failures)
    old = [blob for blob in found if _home(blob) not in keep and now - blob.modified_at >= GRACE]
    return restored, _done(delete, old, failures)


def _home(blob: StoredObject) -> str:
    """The key that a blob in the trash had."""
    return BLOBS + blob.key.removeprefix(TRASH)


def _clear(store: Store, keep: Collection[str], now: datetime, failures: list[StoreError]) -> list[StoredObject]:
    """Move what was last written a day ago, and that nothing refers to, to the trash."""

    def discard(blob: StoredObject) -> None:
        store.move(blob.key, TRASH + blob.key.removeprefix(BLOBS))
        say("moved to the trash", key=blob.key)

    old = [blob for blob in store.objects(BLOBS) if blob.key not in keep and now - blob.modified_at >= GRACE]
    return _done(discard, old, failures)


def _done(
    act: Callable[[StoredObject], None], blobs: Iterable[StoredObject], failures: list[StoreError]
) -> list[StoredObject]:
    """The blobs that it could be done with: one with which it cannot must not hold up those after it."""
    done: list[StoredObject] = []
    in_a_row = 0
    for blob in blobs:
        try:
            act(blob)
        except StoreError as error:
            say("left where it is", key=blob.key, reason=error.reason)
            failures.append(error)
            in_a_row += error.retryable
            if in_a_row == _OUTAGE:
                raise
        else:
            in_a_row = 0
            done.append(blob)
    return done
