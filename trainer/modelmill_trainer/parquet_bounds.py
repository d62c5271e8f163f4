"""Bounds of Parquet: what a file says of itself tells whether a row or a page of it fits memory, before it is unpacked.

A file of some kilobytes may hold a text of a gigabyte, or a list of as many numbers: one row is decoded as a whole,
and so is one page, which is what a column is compressed in.
"""

from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet

from modelmill_trainer.failure import malformed

ROW_BYTES = 64 << 20  # on average in a row group; a value counts at least 8
PAGE_BYTES = 256 << 20
_VALUE = 8
_HEADER_BYTES = 32  # of a page: enough for its type and its size
_I32 = 0x15  # the next field of a struct is a whole number, in Thrift's compact protocol


def check(path: Path, metadata: pyarrow.parquet.FileMetaData, where: str) -> None:
    """TaskError where a row, or the first page or the dictionary of a column, is larger than memory has room for."""
    with path.open("rb") as file:
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            chunks = [group.column(place) for place in range(group.num_columns)]
            _check_rows(group.num_rows, chunks, where)
            for chunk in chunks:
                _check_pages(file, chunk, where)


def _check_rows(rows: int, chunks: list[pyarrow.parquet.ColumnChunkMetaData], where: str) -> None:
    sizes = [max(chunk.total_uncompressed_size, chunk.num_values * _VALUE) for chunk in chunks]
    if not rows or sum(sizes) <= ROW_BYTES * rows:
        return
    column = _name(chunks[sizes.index(max(sizes))])
    raise malformed(
        "RowTooLong",
        f"{where}{rows} rows have {sum(sizes) // rows >> 20} MiB each by the file's own account, most of it in column"
        f" {column!r}; {ROW_BYTES >> 20} are allowed: keep such values in files of their own",
        column,
        rows,
    )


def _check_pages(file: BinaryIO, chunk: pyarrow.parquet.ColumnChunkMetaData, where: str) -> None:
    for offset in (chunk.dictionary_page_offset, chunk.data_page_offset):
        size = _page_size(file, offset) if offset is not None else 0
        if size > PAGE_BYTES:
            raise malformed(
                "PageTooLarge",
                f"{where}column {_name(chunk)!r} has a page of {size >> 20} MiB once it is unpacked;"
                f" {PAGE_BYTES >> 20} are allowed: write the file with pages of some MiB",
                _name(chunk),
            )


def _page_size(file: BinaryIO, offset: int) -> int:
    """Bytes of the page there once it is unpacked, from its header; 0: who reads the page will say that it is none.

    A PageHeader begins with its type and uncompressed_page_size (the Parquet format's parquet.thrift).
    """
    file.seek(max(0, offset))
    head = iter(file.read(_HEADER_BYTES))
    size = 0
    for _ in ("type", "uncompressed_page_size"):
        if next(head, None) != _I32:
            return 0
        size = shift = 0
        for byte in head:
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
    return (size >> 1) ^ -(size & 1)  # zigzag


def _name(chunk: pyarrow.parquet.ColumnChunkMetaData) -> str:
    name: str = chunk.path_in_schema
    return name.partition(".")[0]
