"""Collecting: blobs that nothing refers to leave the store in two passes, so that no moment is unsafe.

A version is referred to by an object's status, which is written after its blobs.  So a blob without a reference may
be one that was just written, or that a Job is about to find "stored already".  Hence:

    blobs/ --[no reference, a day old]--> trash/ --[no reference, a day in it]--> deleted
       ^---------------[referred to again]--'

Readers look into trash/ too, so a blob is there until the moment it is deleted, and that is a day and a pass after
somebody could have seen it in blobs/ last.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from modelmill_contracts.report import CollectResult, Report
from modelmill_contracts.store import BLOBS, OWNERS, TRASH, Store, StoredObject, blob_key
from modelmill_contracts.task import CollectTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase, say

GRACE = timedelta(days=1)


def collect(task: CollectTask) -> Report:
    """Move, restore and delete blobs; StoreError, or TaskError where the store is not the owner's alone."""
    store = Store(task.store)
    if not is_owned(store, task.owner):
        raise TaskError(
            "StoreShared",
            f"{task.store.uri} is not this Workspace's alone, so nothing is collected in it: others may refer to what"
            " lies there; give each Workspace a bucket or a prefix of its own",
        )
    now = datetime.fromisoformat(task.now)
    keep = {blob_key(content) for content in task.keep}
    with phase("collect", kept=len(keep)):
        # The trash first: what is moved there now must stay for a day.
        restored, deleted = _empty(store, keep, now)
        moved = _clear(store, keep, now)
    result = CollectResult(len(moved), len(restored), len(deleted), sum(blob.size for blob in deleted))
    message = f"{result.moved} blobs moved to the trash, {result.restored} back, {result.deleted} deleted"
    return Report(True, "Collected", message, result=result)


def is_owned(store: Store, owner: str) -> bool:
    """Whether the store has the owner's mark, and nobody else's."""
    return bool(owner) and store.keys(OWNERS) == [OWNERS + owner]


def _empty(store: Store, keep: Collection[str], now: datetime) -> tuple[list[StoredObject], list[StoredObject]]:
    """Move back what is referred to again, and delete what was in the trash for a day."""
    restored, deleted = [], []
    for blob in list(store.objects(TRASH)):
        home = BLOBS + blob.key.removeprefix(TRASH)
        if home in keep:
            store.move(blob.key, home)
            restored.append(blob)
        elif now - blob.modified_at >= GRACE:
            store.delete(blob.key)
            deleted.append(blob)
            say("deleted", key=blob.key)
    return restored, deleted


def _clear(store: Store, keep: Collection[str], now: datetime) -> list[StoredObject]:
    """Move what was last written a day ago, and that nothing refers to, to the trash."""
    old = [blob for blob in store.objects(BLOBS) if blob.key not in keep and now - blob.modified_at >= GRACE]
    for blob in old:
        store.move(blob.key, TRASH + blob.key.removeprefix(BLOBS))
        say("moved to the trash", key=blob.key)
    return old
