"""Compressed files, told by their first bytes and not by their names, to plain ones of bounded size."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from modelmill_trainer.failure import malformed, too_large

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\xfd7zXZ\x00": "compressed with xz", b"7z\xbc\xaf": "a 7z archive"}
_CHUNK = 1 << 20


def unpack(paths: Sequence[Path], folder: Path, limit: int) -> list[Path]:
    """The files, those that are compressed as new ones in `folder`, which together have at most `limit` bytes."""
    plain, room = [], limit
    for number, path in enumerate(paths):
        where = f"file {number + 1} of {len(paths)}: " if len(paths) > 1 else ""
        with path.open("rb") as file:
            head = file.read(8)
        for mark, name in _ARCHIVES.items():
            if head.startswith(mark):
                message = f"{where}the source is {name}, which is not read; use gzip, bz2 or zstd, or no compression"
                raise malformed("FileUnreadable", message)
        codec = next((codec for mark, codec in _PACKED.items() if head.startswith(mark)), None)
        if codec is None:
            plain.append(path)
        else:
            plain.append(folder / f"unpacked-{number:04d}")
            room -= _unpack(path, plain[-1], codec, where, room, limit)
    return plain


def _unpack(path: Path, target: Path, codec: str, where: str, room: int, limit: int) -> int:
    """Write what `path` holds to `target`; its size."""
    size = 0
    try:
        with pa.input_stream(path, compression=codec) as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK):
                size += len(chunk)
                if size > room:
                    raise too_large(f"{where}the source, unpacked,", limit)
                file.write(chunk)
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk
        message = (
            f"{where}the source is compressed ({codec}), but cannot be unpacked, so it is neither Parquet nor text;"
            " write it again"
        )
        raise malformed("EncodingInvalid", message) from error
    return size
