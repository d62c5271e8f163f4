"""Where a Dataset's rows come from: files, a database, a query over other Datasets, or what was captured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from modelmill_contracts.task import SnapshotTask
from modelmill_trainer import reading, sources, unpacking
from modelmill_trainer.reading import Source


class Opened(NamedTuple):
    source: Source
    modified_at: datetime | None = None  # when the source says that it was written
    confirm: Callable[[], None] = lambda: None  # TaskError where it was changed while it was read


@contextmanager
def opened(task: SnapshotTask, folder: Path) -> Iterator[Opened]:
    """The rows of the task's source, with `folder` for what does not fit memory; TaskError or StoreError."""
    # Imported where they are asked for (PLC0415): their engines take memory.
    if task.query:
        from modelmill_trainer import database  # noqa: PLC0415

        with database.rows(task.query) as source:
            yield Opened(source)
    elif task.derive is not None:
        from modelmill_trainer import derivation  # noqa: PLC0415

        with derivation.rows(task.derive, task.store, folder) as source:
            yield Opened(source)
    elif task.captured is not None:
        from modelmill_trainer import captured_rows  # noqa: PLC0415

        with captured_rows.rows(task.captured, task.store, folder) as found:
            yield Opened(found.source, found.newest)
    else:
        fetched = sources.fetch(task, folder)
        paths = unpacking.unpack(fetched.paths, folder, sources.MAX_BYTES)
        yield Opened(reading.read(paths), fetched.modified_at, fetched.confirm)
