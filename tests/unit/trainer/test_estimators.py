"""docs/estimators.md is true: every estimator is served, and gives the same bytes, as the table there says.

`python tests/unit/trainer/test_estimators.py` writes the table anew.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).parents[3] / "docs" / "estimators.md"
SCRIPT = Path(__file__).with_name("all_estimators.py")
MARK = "<!-- made by tests/unit/trainer/test_estimators.py -->"

Rows = dict[str, dict[str, str]]


def survey() -> Rows:
    """One row for each estimator, of two processes that have as little in common as two pods."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = _started(one, PYTHONHASHSEED="1", TZ="UTC", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        threads = {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "3"}
        second = _started(other, "reversed", PYTHONHASHSEED="2", TZ="Asia/Tokyo", **threads)
        answers, again = _lines(first, one), _lines(second, other)
    return {name: _row(line, again[name]) for name, line in answers.items()}


def _started(folder: str, *more: str, **variables: str) -> "subprocess.Popen[bytes]":
    """All estimators in a process of its own, and in a folder of its own."""
    command = [sys.executable, str(SCRIPT), *more]
    with (Path(folder) / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=log
        )


def _lines(process: "subprocess.Popen[bytes]", folder: str) -> dict[str, dict[str, Any]]:
    output, _ = process.communicate()
    assert process.returncode == 0, (Path(folder) / "log").read_text()[-2000:]
    lines = [json.loads(line) for line in output.splitlines() if line.startswith(b'{"name"')]
    return {line["name"]: line for line in lines}


def _row(line: dict[str, Any], again: dict[str, Any]) -> dict[str, str]:
    return {
        "estimator": line["name"],
        "kind": line["kind"],
        "alone": line["alone"],
        "behind a ColumnTransformer": line["mixed"],
        "same bytes": _same(line, again),
        "why not ONNX": line["reason"],
    }


def _same(line: dict[str, Any], again: dict[str, Any]) -> str:
    """What both processes made the same, or which files they did not."""
    if line["alone"] == line["mixed"] == "refused":
        return ""
    pairs = [(line["artifacts"][way], again["artifacts"][way]) for way in ("alone", "mixed")]
    differs = {name for one, other in pairs for name in {**one, **other} if one.get(name) != other.get(name)}
    if line["digests"] != again["digests"]:
        differs.add("the model")
    if differs:
        return f"**no**: {', '.join(sorted(differs))}"
    return "artifact" if any(one for one, _ in pairs) else "model"


def written() -> Rows:
    """The table as it stands in the document."""
    lines = [line for line in TABLE.read_text().partition(MARK)[2].splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def write(rows: Rows) -> None:
    head = list(next(iter(rows.values())))
    lines = [head, *(list(row.values()) for row in rows.values())]
    table = ["| " + " | ".join(cells) + " |" for cells in lines]
    table.insert(1, "|" + "---|" * len(head))
    TABLE.write_text(TABLE.read_text().partition(MARK)[0] + "\n".join([MARK, "", *table, ""]))


@pytest.fixture(scope="module")
def found() -> Rows:
    return survey()


@pytest.mark.slow
def test_the_table_is_up_to_date(found: Rows) -> None:
    assert written() == found


@pytest.mark.slow
def test_most_are_served_as_onnx(found: Rows) -> None:
    # A newer scikit-learn or skl2onnx may lose some: that shows here, whatever somebody wrote into the table.
    as_onnx = [name for name, row in found.items() if row["alone"] == row["behind a ColumnTransformer"] == "ONNX"]
    assert len(as_onnx) >= 90
    assert {"HistGradientBoostingClassifier", "XGBClassifier", "LGBMClassifier", "LinearSVC"} <= set(as_onnx)


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes_in_two_processes_that_differ(found: Rows) -> None:
    assert {row["same bytes"] for row in found.values()} == {"artifact", "model", ""}
    whole = [name for name, row in found.items() if row["same bytes"] == "artifact"]
    assert len(whole) >= 75
    assert {"LogisticRegression", "RandomForestClassifier", "MLPClassifier", "XGBClassifier"} <= set(whole)


if __name__ == "__main__":
    write(survey())
