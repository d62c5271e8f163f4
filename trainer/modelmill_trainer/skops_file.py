"""skops files with canonical bytes: the same estimator gives the same file, in whatever process it was made.

skops names objects and members by their addresses, writes sets in the order of their hashes, and stamps the
zip's members with the time.  Here each place of an object is numbered, equal arrays are one member, sets are
sorted, and times are fixed.  So the file does not tell whether two attributes are one object or two that are
equal: that depends on the process in which each was computed.
"""

import io
import itertools
import json
import zipfile
from typing import Any

import skops.io

from modelmill_contracts.artifact import SKOPS_TRUSTED

_SCHEMA = "schema.json"
_TIME = (1980, 1, 1, 0, 0, 0)


class NotPortableError(Exception):
    """skops cannot write the estimator, or would not load it with the trusted types; the text says why."""


def encode(estimator: Any) -> bytes:
    """The estimator's canonical file, which was loaded once to see that it can be."""
    try:
        content = canonical(skops.io.dumps(estimator))
    except Exception as error:
        raise NotPortableError(f"skops cannot write {type(estimator).__name__} ({type(error).__name__})") from error
    try:
        skops.io.loads(content, trusted=list(SKOPS_TRUSTED))
    except Exception as error:
        raise NotPortableError(f"skops does not load what it wrote ({type(error).__name__})") from error
    return content


def canonical(content: bytes) -> bytes:
    """A skops file's canonical form; ValueError where it holds a member that its schema does not name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    renumbered = _Renumbered(members)
    schema = renumbered.node(_sorted_sets(schema))
    if renumbered.named != set(members):
        raise ValueError("the skops file has members that its schema does not name")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        _write(archive, _SCHEMA, json.dumps(schema, separators=(",", ":")).encode())
        for content, name in renumbered.files.items():
            _write(archive, name, content)
    return out.getvalue()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    archive.writestr(info, content)


def _sorted_sets(node: Any) -> Any:
    if isinstance(node, list):
        return [_sorted_sets(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    done = {key: _sorted_sets(value) for key, value in node.items()}
    if done.get("__loader__") == "SetNode":
        done["content"] = sorted(done["content"], key=_plain)
    return done


def _plain(node: Any) -> str:
    """A node's text without what depends on the process, to sort by."""
    if isinstance(node, dict):
        node = {key: _plain(value) for key, value in node.items() if key not in ("__id__", "file")}
    elif isinstance(node, list):
        node = [_plain(entry) for entry in node]
    return json.dumps(node, sort_keys=True)


class _Renumbered:
    """Walks a schema in its order, numbering places of objects, and files, as they appear."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self._members = members
        self._ids = itertools.count()
        self.files: dict[bytes, str] = {}  # content -> name
        self.named: set[str] = set()  # members that were met

    def node(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.node(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        done: dict[str, Any] = {}
        for key, entry in value.items():
            if key == "__id__" and isinstance(entry, int):
                done[key] = next(self._ids)
            elif key == "file" and isinstance(entry, str):
                done[key] = self._file(entry)
            else:
                done[key] = self.node(entry)
        return done

    def _file(self, name: str) -> str:
        self.named.add(name)
        return self.files.setdefault(self._members[name], f"{len(self.files)}.{name.rpartition('.')[2]}")
