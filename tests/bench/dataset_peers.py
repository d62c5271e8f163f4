"""One run of a peer over the benchmark's file, in the peer's own environment: prints what it took as JSON.

`python dataset_peers.py great-expectations|pandera FILE RULES`.  The rules are those of ours: ranges and no missing
values.  Both have the whole file in memory first, which is how they check values.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def great_expectations(path: str, rules: dict[str, Any]) -> tuple[float, float]:
    """Seconds of CPU to read, and to check."""
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pyarrow.parquet

    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("rows")
    definition = asset.add_batch_definition_whole_dataframe("all")
    found: list[Any] = []
    for name, (low, high) in rules["ranges"].items():
        found.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    found.extend(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in rules["present"])
    suite = gx.ExpectationSuite(name="rules", expectations=found)
    begun = time.process_time()
    frame = pyarrow.parquet.read_table(path, use_threads=False).to_pandas(use_threads=False)
    read = time.process_time()
    result = definition.get_batch({"dataframe": frame}).validate(suite)
    assert result.success, result
    return read - begun, time.process_time() - read


def pandera(path: str, rules: dict[str, Any]) -> tuple[float, float]:
    """Seconds of CPU to read, and to check."""
    import pandera.polars as pa
    import polars as pl

    names = [*rules["ranges"], *(name for name in rules["present"] if name not in rules["ranges"])]
    schema = pa.DataFrameSchema(
        {
            name: pa.Column(
                nullable=name not in rules["present"],
                checks=[pa.Check.in_range(*rules["ranges"][name])] if name in rules["ranges"] else [],
            )
            for name in names
        }
    )
    begun = time.process_time()
    frame = pl.read_parquet(path)
    read = time.process_time()
    schema.validate(frame)
    return read - begun, time.process_time() - read


if __name__ == "__main__":
    run = {"great-expectations": great_expectations, "pandera": pandera}[sys.argv[1]]
    seconds_read, seconds_checked = run(sys.argv[2], json.loads(sys.argv[3]))
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    peak = int(line.split()[1]) * 1024
    print(json.dumps({"read": seconds_read, "check": seconds_checked, "peak": peak}))
