"""A version is the digest of the typed content: not of the file, its layout, or who wrote it."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from s3_server import S3Server
from trainer_tasks import BREAST_CANCER, csv, snapshot, taken

from modelmill_contracts.store import blob_key
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation

TABLE = pa.table(
    {
        "f": pa.array([1.5, None, -0.0, 1e300]),
        "i": pa.array([1, -5, None, 2**62]),
        "s": pa.array(["a", "b,c", 'say "é"', "line\nbreak"]),
        "b": pa.array([True, None, False, True]),
        "t": pa.array([0, 1_700_000_000_123_456, None, -1], pa.timestamp("us", tz="UTC")),
    }
)
AS_TEXT = """f,i,s,b,t
1.5,1,a,true,1970-01-01T00:00:00Z
,-5,"b,c",,2023-11-14T23:13:20.123456+01:00
0.0,,"say ""é\""",FALSE,
1e300,4611686018427387904,"line
break",True,1969-12-31T23:59:59.999999
"""


def _written(tmp_path: Path, table: pa.Table, name: str = "data.parquet", **options: Any) -> Path:
    pyarrow.parquet.write_table(table, tmp_path / name, **options)
    return tmp_path / name


def test_csv_and_parquet_of_the_same_content_are_the_same_version_and_file(
    store: StoreLocation, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text(AS_TEXT, encoding="utf-8")
    from_text, from_parquet = snapshot(store, tmp_path / "data.csv"), snapshot(store, _written(tmp_path, TABLE))
    assert from_text == from_parquet


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 1},
        {"compression": "none"},
        {"use_dictionary": False},
        {"version": "1.0", "data_page_version": "2.0"},
    ],
)
def test_the_layout_of_a_file_does_not_matter(store: StoreLocation, tmp_path: Path, options: dict[str, Any]) -> None:
    assert snapshot(store, _written(tmp_path, TABLE, "a.parquet", **options)) == snapshot(
        store, _written(tmp_path, TABLE)
    )


def test_the_physical_types_do_not_matter(store: StoreLocation, tmp_path: Path) -> None:
    narrow = pa.table(
        {
            "f": pa.array([1.5, 2.0], pa.float32()),
            "i": pa.array([1, 2], pa.int16()),
            "s": pa.array(["a", "b"], pa.large_string()),
            "t": pa.array([0, 1], pa.timestamp("s")),
        }
    )
    wide = pa.table(
        {
            "f": pa.array([1.5, 2.0]),
            "i": pa.array([1, 2]),
            "s": pa.array(["a", "b"]).dictionary_encode(),
            "t": pa.array([0, 1_000_000_000], pa.timestamp("ns", tz="Europe/Berlin")),
        }
    )
    assert snapshot(store, _written(tmp_path, narrow, "n.parquet")) == snapshot(store, _written(tmp_path, wide))


def test_what_pandas_writes_is_what_its_csv_says(store: StoreLocation, tmp_path: Path) -> None:
    frame = pd.read_csv(BREAST_CANCER)
    frame.to_parquet(tmp_path / "data.parquet")
    assert snapshot(store, tmp_path / "data.parquet") == snapshot(store, BREAST_CANCER)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("f", [1.5, None, 0.0, 1.0000000000000002e300]),
        ("f", [1.5, 0.0, 0.0, 1e300]),  # 0 is not missing
        ("f", [None, 1.5, 0.0, 1e300]),  # the order counts
        ("i", [1, -5, None, 2**62 + 1]),
        ("s", ["a", "b,c", 'say "é"', "line\nbreak "]),
        ("s", ["ab", ",c", 'say "é"', "line\nbreak"]),  # the same bytes, cut elsewhere
        ("b", [True, False, False, True]),
    ],
)
def test_any_change_of_the_content_is_another_version(
    store: StoreLocation, tmp_path: Path, name: str, values: Any
) -> None:
    position = TABLE.column_names.index(name)
    changed = TABLE.set_column(position, name, pa.array(values, TABLE.column(name).type))
    assert (
        snapshot(store, _written(tmp_path, changed, "c.parquet")).version
        != snapshot(store, _written(tmp_path, TABLE)).version
    )


def test_names_and_order_of_columns_are_content(store: StoreLocation, tmp_path: Path) -> None:
    versions = {
        snapshot(store, _written(tmp_path, table)).version
        for table in (TABLE, TABLE.rename_columns(["f", "i", "s", "b", "u"]), TABLE.select(["i", "f", "s", "b", "t"]))
    }
    assert len(versions) == 3


def test_text_of_parquet_stays_text(store: StoreLocation, tmp_path: Path) -> None:
    codes = snapshot(store, _written(tmp_path, pa.table({"x": ["007", "010"]}))).version
    assert codes != snapshot(store, csv(tmp_path / "data.csv", "x", ["007", "010"])).version  # CSV has no types: 7, 10
    assert codes == snapshot(store, tmp_path / "data.csv", columns=(Column("x", "String"),)).version


def test_types_are_content(store: StoreLocation, tmp_path: Path) -> None:
    source = csv(tmp_path / "data.csv", "x,y", ["1,2"])
    assert snapshot(store, source).version != snapshot(store, source, columns=(Column("x", "Float"),)).version


def test_every_nan_is_the_same_and_none_is_a_missing_value(store: StoreLocation, tmp_path: Path) -> None:
    other_nan = pa.array(pd.Series([-math.nan, 1.0]).to_numpy(), from_pandas=False)
    nan = pa.array([math.nan, 1.0], from_pandas=False)
    first, second, missing = (
        snapshot(store, _written(tmp_path, pa.table({"x": values}))).version
        for values in (nan, other_nan, pa.array([None, 1.0]))
    )
    assert first == second
    assert first != missing


def test_many_files_are_one_table(
    store: StoreLocation, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    lake = s3.bucket("lake-parts")
    for number, part in enumerate((TABLE.slice(0, 3), TABLE.slice(3))):
        folder = s3.folder / "lake-parts" / "in"
        folder.mkdir(exist_ok=True)
        _written(folder, part, f"part-{number}.parquet")
    task = SnapshotTask(s3.bucket("models"), "s3://lake-parts/in/part-*.parquet", source_store=lake)
    assert taken(task) == snapshot(store, _written(tmp_path, TABLE))


def test_the_version_is_a_contract_that_later_releases_must_keep(store: StoreLocation) -> None:
    # Versions stand in the status of Datasets: a change of the encoding would make every one of them new.
    version = snapshot(store, BREAST_CANCER).version
    assert version == "sha256:dab02bae200fd903bc489c71d60b140d3ee40e6e0c8be34a6f396f23e39fd258"


def test_the_stored_file_holds_the_typed_rows(store: StoreLocation, tmp_path: Path) -> None:
    found = snapshot(store, _written(tmp_path, TABLE))
    stored = pyarrow.parquet.read_table(tmp_path / "store" / blob_key(found.file))
    assert stored.to_pylist() == TABLE.to_pylist()
    assert (found.rows, found.columns) == (4, 5)


def test_taking_it_again_writes_nothing(store: StoreLocation, tmp_path: Path) -> None:
    source = _written(tmp_path, TABLE)
    path = tmp_path / "store" / blob_key(snapshot(store, source).file)
    before = path.stat().st_mtime_ns
    snapshot(store, source)
    assert path.stat().st_mtime_ns == before
