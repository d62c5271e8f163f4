"""Evidently's default preset over the benchmark's windows, in an environment of its own: prints what it found as JSON.

`python drift_peers.py FILE`: a numpy archive with `reference`, and `windows` of the same columns.  For each window: how
many columns are said to have drifted, whether that makes the dataset drifted by the preset's own rule, and seconds.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd


def main(path: str) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    warnings.simplefilter("ignore")
    found = np.load(path)
    columns = [f"x{index}" for index in range(found["reference"].shape[1])]
    definition = DataDefinition(numerical_columns=columns)

    def dataset(rows: np.ndarray) -> Dataset:
        return Dataset.from_pandas(pd.DataFrame(rows, columns=columns), data_definition=definition)

    reference = dataset(found["reference"])
    results = []
    Report([DataDriftPreset()]).run(dataset(found["windows"][0]), reference).dict()  # what it imports is no part of it
    for rows in found["windows"]:
        current = dataset(rows)
        begun = time.process_time()
        said = Report([DataDriftPreset()]).run(current, reference).dict()
        seconds = time.process_time() - begun
        (counted,) = (m["value"] for m in said["metrics"] if m["metric_name"].startswith("DriftedColumnsCount"))
        results.append({"columns": int(counted["count"]), "dataset": counted["share"] >= 0.5, "seconds": seconds})
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
