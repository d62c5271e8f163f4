"""Snapshots: a source, checked, as one immutable Parquet file in the store, named by its content.

Two digests name it.  The *version* is of the logical content (see version.py), the *file* of the stored bytes, which
a reader verifies.  Beside the file lie its profile, which the next version is compared with, and a page for people.

The rows pass by once, in row groups: read, cast, checked, digested, sampled and written.  What is held in memory does
not grow with them.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from modelmill_contracts import captured, digest
from modelmill_contracts.report import Problem, Report, SnapshotResult
from modelmill_contracts.store import Store, StoreError, blob_key
from modelmill_contracts.task import SnapshotTask
from modelmill_trainer import casting, checks, data_profile, drift, origin, page, row_groups, sources
from modelmill_trainer.data_profile import DataProfile, Profiler
from modelmill_trainer.failure import TaskError, too_large
from modelmill_trainer.log import phase, say
from modelmill_trainer.version import ContentDigest, normalised

_PROFILE_BYTES = 256 << 20  # of the previous version


class Written(NamedTuple):
    """The rows of a source in a file."""

    version: str
    file: str  # the digest of its bytes
    profile: DataProfile
    sample: pa.RecordBatch


def snapshot(task: SnapshotTask) -> Report:
    """Fetch, read, check, name and store the source; TaskError or StoreError."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        store = Store(task.store)
        with phase("fetch"):
            previous = _previous(store, task)
            opened = stack.enter_context(origin.opened(task, folder))
        path = folder / "snapshot.parquet"
        try:
            with phase("read"):
                asked = checks.plan(opened.source, task)
            with phase("check"):
                written = write(asked.typed(opened.source.batches()), asked.types, path)
        except (TaskError, OSError):
            opened.confirm()  # half of a file is no wonder where it is being written
            raise
        opened.confirm()
        effects = drift.effects(previous, written.sample) if previous else {}
        asked.raise_problems([*_repeated(path, task), *_drifted(effects, task, asked)])
        with phase("name", rows=asked.rows):
            profile = data_profile.encode(written.profile)
            shown = page.page(written.profile, previous, effects, written.version).encode()
        with phase("store", bytes=path.stat().st_size):
            # The file last: whoever finds it finds the others too.
            for content in (profile, shown):
                store.put_once(blob_key(digest.of_bytes(content)), content)
            fresh = store.put_once(blob_key(written.file), path)
        result = SnapshotResult(
            version=written.version,
            file=written.file,
            rows=asked.rows,
            columns=len(asked.types),
            profile=digest.of_bytes(profile),
            page=digest.of_bytes(shown),
            size=path.stat().st_size,
            modified_at=_rfc3339(opened.modified_at) if opened.modified_at else None,
            cpu_seconds=_cpu_seconds(),
        )
    say("stored" if fresh else "was stored already", file=written.file, version=written.version)
    message = f"{result.rows} rows and {result.columns} columns, valid"
    return Report(True, "SnapshotTaken", message, result=result)


def write(batches: Iterator[pa.RecordBatch], types: dict[str, str], path: Path) -> Written:
    """Write typed rows so that the same content gives the same bytes (with the same pyarrow).

    TaskError where these are more than a source may have.
    """
    schema = pa.schema([(name, casting.ARROW_TYPES[kind]) for name, kind in types.items()])
    content, profiler = ContentDigest(types), Profiler(types)
    with _HashedFile(path) as file, pyarrow.parquet.ParquetWriter(file, schema, **_layout(types)) as writer:
        for found in row_groups.cut(batches):
            group = normalised(found)
            content.update(group)
            profiler.add(group)
            writer.write_batch(group, row_group_size=row_groups.ROWS)
            if file.tell() > sources.MAX_BYTES:  # a query may have rows without end
                raise too_large("the snapshot", sources.MAX_BYTES)
    return Written(content.version(), file.digest(), *profiler.profile())


class _HashedFile(io.FileIO):
    """A new file that is hashed as it is written: to read it again would be half a minute for a large one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self._state = hashlib.sha256()

    def write(self, data: Any) -> int:
        whole = memoryview(data)
        self._state.update(whole)
        rest = whole
        while len(rest):  # a raw file may take less than it is given
            rest = rest[super().write(rest) :]
        return len(whole)

    def digest(self) -> str:
        return f"{digest.ALGORITHM}:{self._state.hexdigest()}"


def _layout(types: dict[str, str]) -> dict[str, Any]:
    """How columns are encoded: trying a dictionary on numbers first takes most of the time and makes larger files."""
    names: dict[str, list[str]] = {kind: [] for kind in casting.ARROW_TYPES}
    for name, kind in types.items():
        names[kind].append(name)
    return {
        "compression": "zstd",
        "version": "2.6",
        "store_schema": False,
        "use_dictionary": names["String"],
        "use_byte_stream_split": names["Float"],
        "column_encoding": dict.fromkeys([*names["Integer"], *names["Timestamp"]], "DELTA_BINARY_PACKED"),
    }


def _previous(store: Store, task: SnapshotTask) -> DataProfile | None:
    """The profile to compare with; StoreError where it is gone and a rule needs it."""
    if task.previous is None:
        return None
    try:
        found = data_profile.decode(store.get(blob_key(task.previous), _PROFILE_BYTES))
    except StoreError as error:
        if error.reason != "ObjectNotFound" or task.expectations.max_drift is not None:
            raise
        found = None
    if found is None:
        say("there is no profile of the previous version that can be read: nothing is compared", profile=task.previous)
    return found


def _repeated(path: Path, task: SnapshotTask) -> Iterator[Problem]:
    if task.expectations.unique_key:
        # DuckDB is only loaded where it is asked for.
        from modelmill_trainer.uniqueness import repeated  # noqa: PLC0415

        yield from repeated(path, task.expectations.unique_key)


def _drifted(effects: dict[str, float], task: SnapshotTask, asked: checks.Checks) -> Iterator[Problem]:
    most = task.expectations.max_drift
    if most is None:
        return
    for name, effect in effects.items():
        # A key numbers the rows: it moves with every row that is added; and versions come and go.
        moving = (*task.expectations.unique_key, captured.CAPTURED_ID, captured.CAPTURED_VERSION)
        if effect > Decimal(most) and name not in moving:
            words, column = asked.shown(name)
            message = (
                f"{words} is distributed otherwise than in the previous version: an effect of {effect:.3f},"
                f" above expectations.drift.maxEffect {most}; look whether the source is right, and allow more if it is"
            )
            yield Problem(rule="Drifted", message=message, column=column)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _cpu_seconds() -> int:
    times = os.times()
    return round(times.user + times.system)
