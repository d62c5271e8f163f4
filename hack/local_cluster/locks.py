"""File locks: one `up` or `down` of a cluster at a time, one build at a time, one choice of ports at a time.

The kernel releases a lock with its holder, so that a kill -9 never leaves one behind.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from local_cluster.console import say


@contextlib.contextmanager
def exclusive(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold the lock; when another process has it, say what is waited for, once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for {waiting_for} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
