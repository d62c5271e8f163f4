"""Small Parquet files that hold more than memory has room for are refused by what they say of themselves."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from trainer_tasks import run

from modelmill_contracts import task
from modelmill_contracts.report import Problem, Report
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer import parquet_bounds, reading

MEMORY = 400 << 20  # bytes that the trainer's own process may allocate
_BOUNDED = f"""
import resource, os
resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))
import msgspec
from modelmill_trainer.__main__ import carry_out
print(msgspec.json.encode(carry_out(os.environ)).decode())
"""


def _text(path: Path) -> None:
    """One text of 320 MiB, behind a row group of short ones."""
    with pyarrow.parquet.ParquetWriter(path, TEXT.schema, compression="zstd", use_dictionary=False) as writer:
        writer.write_table(TEXT)
        writer.write_table(pa.table({"row": [1], "text": ["x" * (320 << 20)]}))


def _numbers(path: Path) -> None:
    """A list of 40 million zeros, which runs of equal values make a few bytes of."""
    lists = pa.ListArray.from_arrays(pa.array([0, 40_000_000, 40_000_000]), np.zeros(40_000_000, np.int64))
    pyarrow.parquet.write_table(pa.table({"row": [1, 2], "list": lists}), path, compression="zstd")


def _page(path: Path) -> None:
    """320 MiB of texts that are no longer than others, in one page."""
    texts = pa.table({"row": range(320), "text": ["x" * (1 << 20)] * 320})
    pyarrow.parquet.write_table(texts, path, compression="zstd", use_dictionary=False, data_page_size=2 << 30)


def _dictionary(path: Path) -> None:
    """320 MiB of different texts, which the rows name by their places."""
    texts = pa.table({"row": range(320), "text": [f"{row:01048576}" for row in range(320)]})
    pyarrow.parquet.write_table(texts, path, compression="zstd", dictionary_pagesize_limit=2 << 30)


TEXT = pa.table({"row": range(100_000), "text": ["x"] * 100_000})
LONG = (
    "{} rows have {} MiB each by the file's own account, most of it in column {!r}; 64 are allowed: keep such values in"
    " files of their own"
)
PAGE = "column 'text' has a page of 320 MiB once it is unpacked; 256 are allowed: write the file with pages of some MiB"


@pytest.mark.parametrize(
    ("write", "reason", "message", "column", "count"),
    [
        (_text, "RowTooLong", LONG.format(1, 320, "text"), "text", 1),
        (_numbers, "RowTooLong", LONG.format(2, 152, "list"), "list", 2),
        (_page, "PageTooLarge", PAGE, "text", 0),
        (_dictionary, "PageTooLarge", PAGE, "text", 0),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(
    store: StoreLocation,
    tmp_path: Path,
    write: Callable[[Path], None],
    reason: str,
    message: str,
    column: str,
    count: int,
) -> None:
    source = tmp_path / "bomb.parquet"
    write(source)
    assert source.stat().st_size < 1 << 20
    variables = {**os.environ, task.ENVIRONMENT: task.encode(SnapshotTask(store, str(source)))}
    done = subprocess.run([sys.executable, "-c", _BOUNDED], env=variables, capture_output=True, check=True)
    answer = msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
    assert (answer.reason, answer.message, answer.retryable) == (reason, message, False)
    assert answer.problems == (Problem(reason, message, column, count),)


def test_a_file_of_another_size_than_it_says_is_read_as_it_is(store: StoreLocation, tmp_path: Path) -> None:
    # A bound that is not known is no bound: five million equal numbers are some kilobytes, and read in batches.
    numbers = pa.table({"x": np.zeros(5_000_000, np.int64)})
    pyarrow.parquet.write_table(numbers, tmp_path / "d", row_group_size=5_000_000)
    assert (tmp_path / "d").stat().st_size < 1 << 20
    assert run(SnapshotTask(store, str(tmp_path / "d"))).result.rows == 5_000_000


@pytest.mark.parametrize("size", [1, 100, 70_000, 3_000_000])
@pytest.mark.parametrize("dictionary", [True, False])
def test_the_size_of_a_page_is_read_from_its_header(tmp_path: Path, size: int, dictionary: bool) -> None:
    pages = pa.table({"text": ["x" * size]})
    pyarrow.parquet.write_table(pages, tmp_path / "d", use_dictionary=dictionary, compression="none")
    chunk = pyarrow.parquet.read_metadata(tmp_path / "d").row_group(0).column(0)
    offset = chunk.dictionary_page_offset if dictionary else chunk.data_page_offset
    with (tmp_path / "d").open("rb") as file:
        found = parquet_bounds._page_size(file, offset)  # noqa: SLF001
    assert size + 4 <= found <= size + 16  # a text, its length, and in a page of data its levels


def test_what_is_no_page_is_left_to_who_reads_it(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"x": [1.5, 2.5]}), tmp_path / "d", compression="none")
    content = bytearray((tmp_path / "d").read_bytes())
    content[4:36] = bytes(32)
    (tmp_path / "d").write_bytes(content)
    assert reading.read([tmp_path / "d"]).schema.names == ["x"]
