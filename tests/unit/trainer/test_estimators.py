"""docs/estimators.md is true: every estimator is served as the table there says.

`python tests/unit/trainer/test_estimators.py` writes the table anew.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[3] / "docs" / "estimators.md"
SCRIPT = Path(__file__).with_name("all_estimators.py")
MARK = "<!-- made by tests/unit/trainer/test_estimators.py -->"

Rows = dict[str, dict[str, str]]


def survey() -> Rows:
    """One row for each estimator."""
    done = subprocess.run([sys.executable, str(SCRIPT)], check=True, capture_output=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{"name"')]
    return {line["name"]: _row(line) for line in lines}


def _row(line: dict[str, str]) -> dict[str, str]:
    return {
        "estimator": line["name"],
        "kind": line["kind"],
        "alone": line["alone"],
        "behind a ColumnTransformer": line["mixed"],
        "why not ONNX": line["reason"],
    }


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


if __name__ == "__main__":
    write(survey())
