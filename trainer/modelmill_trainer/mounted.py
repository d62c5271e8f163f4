"""Mounted sources: a file or a folder of a volume, a ConfigMap, or what another container wrote.

Others write there, so nothing outside of the mount is read whatever a link says: a link to /proc would make our
own credentials a dataset.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from modelmill_contracts import environment
from modelmill_trainer.failure import TaskError

WILDCARDS = "*?["
MAX_FILES = 1000
_MOUNTS = (Path(environment.SOURCE_FOLDER), Path(environment.OUTPUT_FOLDER))
_PROJECTED = "..data"  # what kubelet swaps the files of a ConfigMap by


class Seen(NamedTuple):
    """The files of a source at one moment."""

    paths: tuple[Path, ...]
    marks: tuple[tuple[int, int, int], ...]  # inode, size and time of each
    modified_at: datetime | None


def look(source: str) -> Seen:
    """The file, the files of the folder, or those that match the last part; TaskError where there are none."""
    path = Path(source)
    root = next((mount for mount in _MOUNTS if path.is_relative_to(mount)), path if path.is_dir() else path.parent)
    paths = [_inside(found, root) for found in _files(path)]
    if len(paths) > MAX_FILES:
        raise TaskError("SourceTooLarge", f"the mounted source has {len(paths)} files; {MAX_FILES} are allowed")
    stats = [found.stat() for found in paths]
    marks = tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
    # Of a ConfigMap the files are as old as the pod.
    when = None if (root / _PROJECTED).exists() else datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC)
    return Seen(tuple(paths), marks, when)


def _files(path: Path) -> Sequence[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
        if not found:
            raise TaskError(
                "SourceNotFound",
                "the mounted folder has no file; write one (names that start with . or _ are left out)",
            )
        return found
    if any(character in path.name for character in WILDCARDS) and not path.exists():
        found = sorted(file for file in path.parent.glob(path.name) if file.is_file())
        if not found:
            raise TaskError("SourceNotFound", f"no file of the mounted source matches {path.name!r}; check the path")
        return found
    if not path.is_file():
        raise TaskError(
            "SourceNotFound",
            f"the mounted source has no file {path.name!r}: check the path on the volume, or configMapRef.key and that"
            " the ConfigMap has it",
        )
    return [path]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _inside(path: Path, root: Path) -> Path:
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise TaskError("SourceInvalid", f"the mounted source's {path.name!r} is a link that leads out of its folder")
    return target
