"""The version does not depend on the version of pyarrow: the oldest that is allowed finds the same as this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainer_tasks import BREAST_CANCER, csv, mixed_rows, snapshot

from modelmill_contracts.task import StoreLocation

ROOT = Path(__file__).parents[3]
OLDEST = ("pyarrow==25.0.0", "numpy", "msgspec", "obstore")
CODE = """
import sys, tempfile
from pathlib import Path
import pyarrow
from modelmill_contracts.task import SnapshotTask, StoreLocation
from modelmill_trainer import checks, reading, snapshot
assert pyarrow.__version__ == "25.0.0"
for name in sys.argv[1:]:
    source = reading.read([Path(name)])
    asked = checks.plan(source, SnapshotTask(StoreLocation(""), name))
    with tempfile.TemporaryDirectory() as folder:
        print(snapshot.write(asked.typed(source.batches()), asked.types, Path(folder) / "file").version)
"""


def _python() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelmill"
    folder = Path(os.environ.get("MODELMILL_CACHE") or home) / "bench" / OLDEST[0].replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *OLDEST], check=True)
        (folder / "installed").touch()
    return python


@pytest.mark.slow
def test_two_releases_of_pyarrow_agree(store: StoreLocation, tmp_path: Path) -> None:
    import pandas as pd

    mixed = csv(tmp_path / "mixed.csv", "age,income,city,member,label", mixed_rows(3000))
    pd.read_csv(mixed).assign(at=pd.Timestamp("2026-01-01", tz="UTC")).to_parquet(tmp_path / "mixed.parquet")
    sources = [BREAST_CANCER, mixed, tmp_path / "mixed.parquet"]
    variables = {"PYTHONPATH": f"{ROOT}/contracts:{ROOT}/trainer", "PATH": os.environ["PATH"]}
    command = [str(_python()), "-c", CODE, *map(str, sources)]
    done = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE)
    assert done.stdout.decode().split() == [snapshot(store, source).version for source in sources]
