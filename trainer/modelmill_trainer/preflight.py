"""Preflight: is the store there, does it take our key, and does it keep what was written?"""

import uuid

from modelmill_contracts.report import PreflightResult, Report
from modelmill_contracts.store import OWNERS, Store
from modelmill_contracts.task import PreflightTask
from modelmill_trainer.collect import is_owned
from modelmill_trainer.failure import TaskError
from modelmill_trainer.log import phase

CHECKED = ("write", "keep", "read", "delete")


def preflight(task: PreflightTask) -> Report:
    """Write, read and delete one small object; StoreError or TaskError where one of them does not work."""
    store = Store(task.store)
    key, content = f"preflight/{uuid.uuid4().hex}", uuid.uuid4().bytes
    with phase("preflight"):
        store.put_once(key, content)
        try:
            kept = not store.put_once(key, b"overwritten") and store.get(key, len(content)) == content
        finally:
            store.delete(key)
    if not kept:
        raise TaskError(
            "StoreOverwrites",
            f"{task.store.uri} overwrote an object although it was asked not to: it ignores conditional writes"
            " (If-None-Match); use a store that honours them",
        )
    if task.owner:
        store.put_once(OWNERS + task.owner, b"")
    message = f"{task.store.uri} can be written, read and deleted from, and overwrites nothing"
    return Report(True, "StoreReady", message, result=PreflightResult(CHECKED, is_owned(store, task.owner)))
