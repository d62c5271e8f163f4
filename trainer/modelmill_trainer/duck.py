"""DuckDB, kept within the pod's memory and away from everything but its own scratch folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

SPILLED_BYTES = 16 << 30  # as many as a source may have: it is the node's disk, which others need too
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SHARE = 0.4  # of the pod's memory: Python and Arrow need theirs
_MOST = 4 << 30
_LEAST = 128 << 20


@contextmanager
def connected(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills to a folder in `scratch`, has one thread, and finds nothing of Python's.

    One thread, because the order of rows and the last bits of sums would depend on how many there are.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": f"{memory_limit() >> 20}MiB",
        "temp_directory": str(scratch / "spilled"),
        "max_temp_directory_size": f"{SPILLED_BYTES}B",
        "preserve_insertion_order": True,
        "python_enable_replacements": False,
        "enable_external_file_cache": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")  # it would be written between the lines of the log
        yield connection
    finally:
        connection.close()


def memory_limit() -> int:
    """Bytes that DuckDB may take."""
    for path in _LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return max(_LEAST, min(_MOST, int(int(text) * _SHARE)))
    return _MOST


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
