"""Drift found and not found, beside Evidently's default presets on the same windows: `python -m tests.bench.drift`.

Thirty standard normal features, windows of 1,000 rows.  Half of them are as the reference, in the other half the first
feature is shifted by half a standard deviation.  Evidently gets the rows, ours their counts in the bins of our
profile.  It chooses its test by the reference's size: Kolmogorov and Smirnov's up to 1,000 rows, above that a distance
of Wasserstein's.  So both sizes are tried.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.bench import document

from modelmill.stats import drift
from modelmill.stats.drift import Counts
from modelmill_trainer import profiling

RELEASE = "0.7.23"
FEATURES, ROWS, SHIFT = 30, 1_000, 0.5
REFERENCES = (1_000, 5_000)


@dataclass(frozen=True)
class Found:
    """Of windows without and with a shift: how many were said to have drifted, and CPU seconds of a window."""

    false: int
    missed: int
    windows: int
    seconds: float


def windows_of(reference: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The reference, and as many windows without a shift as with one."""
    rng = np.random.default_rng(reference)
    windows = rng.standard_normal((2 * count, ROWS, FEATURES)).astype(np.float32)
    windows[count:, :, 0] += SHIFT
    return rng.standard_normal((reference, FEATURES)).astype(np.float32), windows


def ours(reference: np.ndarray, windows: np.ndarray) -> Found:
    """An alarm is what two of three windows found; a shift is missed where three windows of it were not enough."""
    known = [profiling.numeric(f"x{index}", column, profiling.EDGES) for index, column in enumerate(reference.T)]
    trained = [Counts(part.counts, part.missing) for part in known]
    seconds, alarms, recent = 0.0, [], []
    for rows in windows:
        pairs = zip(known, rows.T, strict=True)
        counted = [Counts(profiling.bins.counted(np.array(part.edges, np.float32), c), 0) for part, c in pairs]
        begun = time.process_time()
        found = [c for pair in zip(trained, counted, strict=True) for c in drift.comparisons(*pair)]
        recent = [*recent, drift.rejected(found, 0.05, 0.1)][-drift.WINDOWS :]
        alarms.append(any(drift.drifted(recent)))
        seconds += time.process_time() - begun
    half = len(windows) // 2
    shifted = [_within_three(trained, known, rows) for rows in _threes(windows[half:])]
    return Found(sum(alarms[:half]), shifted.count(False), half, seconds / len(windows))


def _threes(windows: np.ndarray) -> list[np.ndarray]:
    """Each window with the two after it, as a shift that goes on."""
    return [np.array([windows[(i + n) % len(windows)] for n in range(3)]) for i in range(len(windows))]


def _within_three(trained: list[Counts], known: list[profiling.Numeric], windows: np.ndarray) -> bool:
    recent: list[tuple[bool, ...]] = []
    for rows in windows:
        pairs = zip(known, rows.T, strict=True)
        counted = [Counts(profiling.bins.counted(np.array(part.edges, np.float32), c), 0) for part, c in pairs]
        found = [c for pair in zip(trained, counted, strict=True) for c in drift.comparisons(*pair)]
        recent.append(drift.rejected(found, 0.05, 0.1))
        if any(drift.drifted(recent)):
            return True
    return False


def evidently(reference: np.ndarray, windows: np.ndarray) -> tuple[Found, Found]:
    """Where one column is an alarm, and where the dataset's own verdict is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "windows.npz"
        np.savez(path, reference=reference, windows=windows)
        script = Path(__file__).with_name("drift_peers.py")
        # -P: this folder has modules with the names of Python's own.
        command = ["taskset", "-c", "0", str(_python()), "-P", str(script), str(path)]
        variables = {**os.environ, "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
        variables.pop("PYTHONPATH", None)
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    half, seconds = len(results) // 2, sum(r["seconds"] for r in results) / len(results)

    def found(alarms: list[bool]) -> Found:
        return Found(sum(alarms[:half]), alarms[half:].count(False), half, seconds)

    return found([r["columns"] > 0 for r in results]), found([r["dataset"] for r in results])


def _python() -> Path:
    """The Python of Evidently's environment, which is made the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "modelmill" / "bench" / f"evidently-{RELEASE}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"evidently=={RELEASE}", "pandas<3"], check=True)
        complete.touch()
    return python


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--windows", type=int, default=50, help="without a shift, and as many with one")
    options.add_argument("--print", action="store_true", help="leave docs/BENCHMARKS.md as it is")
    asked = options.parse_args()
    lines = [
        document.machine(),
        f"{asked.windows} windows without and {asked.windows} with a shift, for each size of the reference.",
        "",
        "| reference | | false alarms | shifts missed | CPU of a window |",
        "|---|---|---|---|---|",
    ]
    for size in REFERENCES:
        reference, windows = windows_of(size, asked.windows)
        by_column, by_dataset = evidently(reference, windows)
        for name, found in (
            ("Modelmill, two of three windows", ours(reference, windows)),
            (f"Evidently {RELEASE}, one column or more", by_column),
            (f"Evidently {RELEASE}, its verdict on the dataset", by_dataset),
        ):
            lines.append(
                f"| {size:,} rows | {name} | {found.false} of {found.windows} | {found.missed} of {found.windows} |"
                f" {found.seconds * 1000:.1f} ms |"
            )
    report = "\n".join(lines)
    if asked.print:
        print(report)
    else:
        document.update("drift", report)


if __name__ == "__main__":
    main()
