"""Digests: how content is named everywhere (`sha256:<64 hex>`), and the canonical JSON that is hashed."""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

ALGORITHM = "sha256"
_CHUNK = 1 << 20
_ENCODER = msgspec.json.Encoder(order="sorted")


def canonical_json(value: Any) -> bytes:
    """`value` as JSON with sorted keys and no white space: equal values give equal bytes."""
    return _ENCODER.encode(value)


def of_bytes(data: bytes) -> str:
    """The digest of `data`, as `sha256:<64 hex>`."""
    return f"{ALGORITHM}:{hashlib.sha256(data).hexdigest()}"


def of_json(value: Any) -> str:
    """The digest of the canonical JSON of `value`."""
    return of_bytes(canonical_json(value))


def of_stream(stream: BinaryIO) -> str:
    """The digest of everything that is left to read in `stream`, read in chunks of 1 MiB."""
    state = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        state.update(chunk)
    return f"{ALGORITHM}:{state.hexdigest()}"


def of_file(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as stream:
        return of_stream(stream)


def hex_of(digest: str) -> str:
    """The 64 hex digits of a digest; ValueError if it is not one."""
    algorithm, _, value = digest.partition(":")
    if algorithm != ALGORITHM or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"not a digest of the form sha256:<64 hex digits>: {digest[:80]!r}")
    return value


def label_of(digest: str) -> str:
    """The digest as a label value: its first 16 hex digits (a label holds at most 63 characters)."""
    return hex_of(digest)[:16]
