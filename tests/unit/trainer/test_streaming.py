"""Data larger than memory: rows pass by in batches, and nobody can tell from the result where one ended."""

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from trainer_tasks import csv, run, snapshot

from modelmill_contracts.store import blob_key
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation
from modelmill_trainer import json_lines, reading, row_groups, sampling
from modelmill_trainer.data_profile import Profiler
from modelmill_trainer.version import ContentDigest, normalised, version_of

ROWS = 5000


def _rows(count: int = ROWS) -> list[str]:
    draw = random.Random(3)
    return [
        f"{row},{'' if draw.random() < 0.1 else draw.gauss(0, 1)},{draw.choice('abc')},{draw.random() < 0.5}"
        for row in range(count)
    ]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of some ten rows, and row groups of 1,024."""
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(reading, "BATCH_ROWS", 100)
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 1 << 12)


def test_where_batches_end_is_not_part_of_the_content(
    store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = csv(tmp_path / "data.csv", "i,f,s,b", _rows())
    monkeypatch.setattr(row_groups, "ROWS", 2048)
    whole = snapshot(store, source)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    assert snapshot(store, source) == whole
    file = pyarrow.parquet.ParquetFile(tmp_path / "store" / blob_key(whole.file))
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [2048, 2048, 904]


@pytest.mark.usefixtures("small_batches")
def test_rows_are_numbered_through_all_batches_and_files(store: StoreLocation, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    rows = _rows()
    for bad in (1234, 4321):
        rows[bad] = "x,1,a,true"
    csv(folder / "part-1.csv", "i,f,s,b", rows[:3000])
    csv(folder / "part-2.csv", "i,f,s,b", rows[3000:])
    columns = (Column("i", "Integer"), Column("s", "String", values=("a",)))
    answer = run(SnapshotTask(store, str(folder), columns=columns))
    assert (answer.problems[1].rule, answer.problems[1].rows) == ("NotInteger", (1235, 4322))
    others = [row for row, line in enumerate(rows, 1) if line.split(",")[2] != "a"]
    assert (answer.problems[0].count, answer.problems[0].rows) == (len(others), tuple(others[:3]))


@pytest.mark.usefixtures("small_batches")
def test_the_last_row_decides_what_a_column_of_text_is(store: StoreLocation, tmp_path: Path) -> None:
    whole = snapshot(store, csv(tmp_path / "whole", "x", [str(row) for row in range(ROWS)]))
    halved = snapshot(store, csv(tmp_path / "halved", "x", [str(row) for row in range(ROWS - 1)] + ["0.5"]))
    read = [
        pyarrow.parquet.read_schema(tmp_path / "store" / blob_key(taken.file)).field("x").type
        for taken in (whole, halved)
    ]
    assert read == [pa.int64(), pa.float64()]


@pytest.mark.usefixtures("small_batches")
def test_ragged_and_badly_encoded_rows_far_into_the_file(store: StoreLocation, tmp_path: Path) -> None:
    ragged = csv(tmp_path / "ragged.csv", "a,b", ["1,2"] * 3000 + ["3"] + ["1,2"] * 10 + ["1,2,3"])
    assert run(SnapshotTask(store, str(ragged))).problems[0].rows == (3001, 3012)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"a,b\n" + b"1,x\n" * 3000 + b"1,\xfc\n" * 5)
    problem = run(SnapshotTask(store, str(latin))).problems[0]
    assert (problem.rule, problem.column, problem.count, problem.rows) == (
        "EncodingInvalid",
        "b",
        5,
        (3001, 3002, 3003),
    )


def test_the_encoding_is_what_the_documentation_says() -> None:
    import hashlib
    import struct

    table = pa.table(
        {
            "f": pa.array([1.5, None, -0.0] * 3),
            "s": pa.array(["é", None, ""] * 3),
            "b": pa.array([True, None, False] * 3),
            "t": pa.array([1, None, -1] * 3, pa.timestamp("us", tz="UTC")),
        }
    )
    sha = lambda data: hashlib.sha256(data).digest()  # noqa: E731
    validity = sha(bytes([0b01101101, 0b1]))
    expected = hashlib.sha256(
        b"modelmill.dev/dataset/v2\n"
        b'{"columns":[["f","Float"],["s","String"],["b","Boolean"],["t","Timestamp"]],"rows":9}\n'
        + validity
        + sha(struct.pack("<9d", *[1.5, 0, 0] * 3))
        + validity
        + sha(struct.pack("<9I", *[2, 0, 0] * 3))
        + sha("é".encode() * 3)
        + validity
        + sha(bytes([1, 0, 0] * 3))
        + validity
        + sha(struct.pack("<9q", *[1, 0, -1] * 3))
    ).hexdigest()
    assert version_of(table) == f"sha256:{expected}"
    assert version_of(pa.concat_tables([table.slice(0, 4), table.slice(4)])) == f"sha256:{expected}"


def test_a_batch_that_leaves_half_a_byte_of_validity_is_no_batch() -> None:
    state = ContentDigest({"x": "Integer"})
    state.update(pa.record_batch({"x": pa.array([1, 2, 3])}))
    with pytest.raises(ValueError, match="after 3 rows"):
        state.update(pa.record_batch({"x": pa.array([4])}))


@pytest.mark.parametrize("sizes", [[10_000], [1] * 3000 + [7000], [4096, 5904], [999] * 10 + [10]])
def test_row_groups_are_the_same_whatever_the_batches(sizes: list[int]) -> None:
    draw = random.Random(5)
    whole = pa.record_batch(
        {"s": pa.array(["x" * draw.choice([0, 10, 30_000]) for _ in range(10_000)]), "n": range(10_000)}
    )
    batches, first = [], 0
    for size in sizes:
        batches.append(whole.slice(first, size))
        first += size
    groups = list(row_groups.cut(iter(batches)))
    assert pa.Table.from_batches(groups).equals(pa.Table.from_batches([whole]))
    assert [group.num_rows for group in groups] == [group.num_rows for group in row_groups.cut(iter([whole]))]
    assert len(groups) == 2  # 64 MiB each, at most
    assert groups[0].num_rows % 8 == 0


@pytest.mark.parametrize("size", [1, 7, 100])
def test_long_documents_make_groups_of_few_rows(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(row_groups, "BYTES", 64 << 10)
    documents = pa.record_batch({"text": pa.array([f"{row:01000}" for row in range(100)])})
    batches = (documents.slice(first, size) for first in range(0, 100, size))
    groups = list(row_groups.cut(batches))
    assert [group.num_rows for group in groups] == [72, 28]
    assert pa.Table.from_batches(groups).equals(pa.Table.from_batches([documents]))
    assert [group.num_rows for group in row_groups.cut(iter([documents.slice(0, 80)]))] == [72, 8]
    huge = pa.record_batch({"text": pa.array(["x" * (16 << 10)] * 20)})
    assert [group.num_rows for group in row_groups.cut(iter([huge]))] == [8, 8, 4]


def test_columns_by_the_thousand_make_small_groups() -> None:
    wide = pa.record_batch({f"c{place}": pa.array(np.zeros(3000)) for place in range(10_000)})
    assert [group.num_rows for group in row_groups.cut(iter([wide]))] == [840, 840, 840, 480]


def test_a_sample_is_uniform_and_the_same_for_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "ROWS", 2000)
    rows = pa.record_batch({"x": pa.array(range(100_000))})

    def drawn(size: int) -> Any:
        sample = sampling.Sample(1)
        for first in range(0, rows.num_rows, size):
            sample.add(rows.slice(first, size))
        found = sample.rows()
        assert found is not None
        return found.column("x").to_numpy()

    assert len(drawn(100_000)) == 2000
    assert (drawn(100_000) == drawn(777)).all()
    # Ten parts of the rows: a chi-square of 9 degrees of freedom is below 27.9 in 999 of 1,000 cases.
    counts = np.bincount(drawn(777) // 10_000, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9


def test_a_profile_of_few_rows_is_exact() -> None:
    profiler = Profiler({"x": "Float", "s": "String"})
    profiler.add(
        normalised(
            pa.record_batch(
                {
                    "x": pa.array([*range(11), math.nan, None], pa.float64(), from_pandas=False),
                    "s": pa.array(["often"] * 6 + ["rare"] * 4 + [None] * 3),
                }
            )
        )
    )
    profile, _ = profiler.profile()
    numbers, texts = profile.columns
    assert (numbers.missing, numbers.min, numbers.max, numbers.mean, numbers.median) == (2, 0, 10, 5, 5)
    assert sum(numbers.counts) == 11
    assert (texts.values, texts.counts, texts.other, texts.missing) == (("often",), (6,), 4, 3)


_SAMPLED = """
import pyarrow as pa
from modelmill_trainer import sampling
texts = pa.array(["x" * 100] * 1000)
batch = pa.record_batch({f"c{place}": texts for place in range(500)})
sample = sampling.Sample(sampling.cells_of(["String"] * 500))
for _ in range(15):
    sample.add(batch)
found = sample.rows()
assert found.num_rows == 2**23 // (9 * 500)
assert found.column("c0")[0].as_py() == "x" * 64
print(pa.default_memory_pool().max_memory())
"""


def test_a_sample_of_many_texts_fits_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _SAMPLED], capture_output=True, check=True)
    # 60 MiB of text are sampled, twice as much may be held, and 48 MiB come at a time, which are taken and shortened.
    assert int(done.stdout) < 280 << 20


_MEASURED = """
import os
from modelmill_contracts import task
from modelmill_trainer.__main__ import carry_out
answer = carry_out(os.environ)
assert answer.ok, answer
# getrusage would count what its parent held when it started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def _peak(store: StoreLocation, source: Path) -> int:
    """MiB that a process of its own holds at most while it takes a snapshot."""
    import os

    from modelmill_contracts import task

    asked = task.encode(SnapshotTask(store, str(source)))
    variables = {**os.environ, task.ENVIRONMENT: asked}
    done = subprocess.run([sys.executable, "-c", _MEASURED], env=variables, capture_output=True, check=True)
    return int(done.stdout.split()[-1]) // 1024


def test_ten_times_the_rows_take_no_more_memory(store: StoreLocation, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    peaks = []
    for rows in (400_000, 4_000_000):  # 26 and 256 MB of numbers, in one row group
        table = pa.table({f"c{place}": draw.random(rows) for place in range(8)})
        pyarrow.parquet.write_table(table, tmp_path / f"{rows}.parquet", row_group_size=rows)
        peaks.append(_peak(store, tmp_path / f"{rows}.parquet"))
    assert peaks[1] - peaks[0] < 100, peaks


def _repeated(path: Path, places: Any, texts: list[str]) -> Path:
    """A Parquet file of texts that a dictionary has once, and each row by its place there."""
    column = pa.DictionaryArray.from_arrays(pa.array(places, pa.int16()), texts)
    pyarrow.parquet.write_table(pa.table({"text": column, "row": range(len(places))}), path, store_schema=False)
    return path


LONG = [
    "",
    *(f"{number:05000}" for number in range(99)),
]  # 0.5 MB: larger dictionaries are given up by who writes the file


@pytest.mark.parametrize("order", [np.arange, np.ones, lambda rows: np.arange(rows) // (rows - 10_000)])
def test_texts_that_a_file_repeats_in_a_few_bits_are_read_in_small_batches(tmp_path: Path, order: Any) -> None:
    places = (order(50_000) % 100).astype(int)
    source = reading.read([_repeated(tmp_path / "d", places, LONG)])
    assert (tmp_path / "d").stat().st_size < 1_000_000
    rows = 0
    for batch in source.batches():
        assert batch.nbytes < 2 * reading.BATCH_BYTES
        assert batch.column("row").to_pylist() == list(range(rows, rows + batch.num_rows))
        rows += batch.num_rows
    assert rows == 50_000


def test_short_texts_that_a_file_repeats_are_read_as_many_as_numbers(tmp_path: Path) -> None:
    source = reading.read([_repeated(tmp_path / "d", np.arange(200_000) % 3, ["Berlin", "Oslo", "Rome"])])
    assert next(source.batches()).num_rows == reading.BATCH_ROWS


def test_a_file_that_is_a_bomb_once_it_is_decoded_fits_memory(store: StoreLocation, tmp_path: Path) -> None:
    assert _peak(store, _repeated(tmp_path / "d", np.arange(120_000) % 100, LONG)) < 700  # MiB; the texts are 600 MB


def test_documents_of_megabytes_fit_memory(store: StoreLocation, tmp_path: Path) -> None:
    documents = pa.table({"text": ["x" * (2 << 20)] * 10})
    with pyarrow.parquet.ParquetWriter(tmp_path / "d", documents.schema, use_dictionary=False) as writer:
        for _ in range(30):
            writer.write_table(documents)
    assert _peak(store, tmp_path / "d") < 700  # MiB; the documents are 600
