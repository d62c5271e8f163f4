"""A dataset of 10,000,000 rows and 20 columns, checked and refreshed: `python -m tests.bench.datasets`.

Each run is a process of its own on one CPU, and in a control group of 1 GiB where the machine lets us make one; the
contenders take turns, so that noise of the machine meets all of them.  The refresh reads from a real S3 server and
writes to it, which runs on another CPU.  `--rows` makes it shorter.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tests.bench import document
from tests.live import ROOT

from modelmill_contracts import environment, task
from modelmill_contracts.task import Column, SnapshotTask, StoreLocation

sys.path.insert(0, str(ROOT / "hack"))  # hack/cluster is a program of its own, outside of the distribution
from local_cluster import build
from local_cluster.versions import component

PEERS = {
    "great-expectations": ("great-expectations==1.24.1", "pyarrow"),
    "pandera": ("pandera[polars]==0.35.0", "pyarrow"),
}
MEMORY = 1 << 30
GROUPS = Path("/sys/fs/cgroup/memory")  # version 1; without it the peak is measured only
FLOATS, INTEGERS = [f"f{place}" for place in range(12)], [f"i{place}" for place in range(4)]
CITIES, PLANS = ("Berlin", "Paris", "Oslo", "Rome", "Lima", "Quito"), ("free", "basic", "pro")
RANGES = {**dict.fromkeys(FLOATS, (0, 100)), **dict.fromkeys(INTEGERS, (0, 100_000))}
PRESENT = [*INTEGERS, "city", "plan", "member", "at"]
CHUNK = 1 << 20


def columns() -> tuple[Column, ...]:
    """The rules, as a Dataset declares them."""
    types = {**dict.fromkeys(FLOATS, "Float"), **dict.fromkeys(INTEGERS, "Integer")}
    types |= {"city": "String", "plan": "String", "member": "Boolean", "at": "Timestamp"}
    return tuple(
        Column(name, kind, nullable=name not in PRESENT, min=_bound(name, 0), max=_bound(name, 1))
        for name, kind in types.items()
    )


def _bound(name: str, side: int) -> str | None:
    return str(RANGES[name][side]) if name in RANGES else None


def made(rows: int) -> Path:
    """The file, made once: 12 floats of which 4 have gaps, 4 integers, 2 of text, a Boolean and a time."""
    path = _cache() / "data" / f"seed-1-rows-{rows}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draw, begun = np.random.default_rng(1), path.with_suffix(".part")
    writer = None
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        table = _chunk(draw, count)
        writer = writer or pyarrow.parquet.ParquetWriter(begun, table.schema)
        writer.write_table(table, row_group_size=CHUNK)
    if writer:
        writer.close()
    begun.rename(path)
    return path


def _chunk(draw: np.random.Generator, count: int) -> pa.Table:
    found: dict[str, Any] = {}
    for place, name in enumerate(FLOATS):
        gaps = draw.random(count) < 0.01 if place % 3 == 0 else None
        found[name] = pa.array(draw.normal(50, 10, count).clip(0, 100), mask=gaps)
    for name in INTEGERS:
        found[name] = pa.array(draw.integers(0, 100_000, count))
    for name, values in (("city", CITIES), ("plan", PLANS)):
        found[name] = pa.array(values).take(pa.array(draw.integers(0, len(values), count)))
    found["member"] = pa.array(draw.random(count) < 0.5)
    moments = 1_700_000_000_000_000 + np.sort(draw.integers(0, 10**12, count))
    found["at"] = pa.array(moments, pa.timestamp("us", tz="UTC"))
    return pa.table(found)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelmill" / "bench"


# What a process of its own does.


def checks(path: str) -> dict[str, float]:
    """Ours over the file: CPU seconds to read, and to check what was read."""
    from modelmill_trainer import checks as ours
    from modelmill_trainer import reading

    source = reading.read([Path(path)])
    asked = ours.plan(source, SnapshotTask(StoreLocation(""), path, columns=columns()))
    spent = 0.0
    begun = time.process_time()

    def timed() -> Iterator[pa.RecordBatch]:
        nonlocal spent
        for batch in source.batches():
            before = time.process_time()
            yield batch
            spent += time.process_time() - before

    for _ in asked.typed(timed()):
        pass
    asked.raise_problems()
    whole = time.process_time() - begun
    return {"read": whole - spent, "check": spent, "peak": _peak()}


def refresh(store: str, endpoint: str) -> dict[str, float]:
    """The task of a Job, from S3 to S3."""
    from modelmill_trainer import log
    from modelmill_trainer.__main__ import carry_out

    log.start()
    location = StoreLocation(store, endpoint)
    asked = SnapshotTask(location, "s3://lake/data.parquet", StoreLocation("", endpoint), columns=columns())
    begun, before = time.monotonic(), time.process_time()
    answer = carry_out({**os.environ, task.ENVIRONMENT: task.encode(asked)})
    assert answer.ok, answer
    return {"seconds": time.monotonic() - begun, "cpu": time.process_time() - before, "peak": _peak()}


def _peak() -> float:
    """Bytes that this program held at most; getrusage would count what its parent held when it started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return float(line.split()[1]) * 1024


# What the benchmark does with them.


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--print", action="store_true", help="leave docs/BENCHMARKS.md as it is")
    asked = options.parse_args()
    path = made(asked.rows)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("ours", *PEERS, "refresh")}
    for _ in range(asked.rounds):
        found["ours"].append(_run(_ours("checks", str(path)), limited=True))
        for name in PEERS:
            found[name].append(_run(_peer(name, path), limited=False))
        with tempfile.TemporaryDirectory() as folder, _s3(Path(folder), path) as (endpoint, variables):
            found["refresh"].append(_run(_ours("refresh", "s3://store", endpoint), limited=True, variables=variables))
    report = _report(asked.rows, path, found)
    if asked.print:
        print(report)
    else:
        document.update("datasets", report)


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.bench.datasets", *words]


def _peer(name: str, path: Path) -> list[str]:
    folder = _cache() / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS[name]], check=True)
    script = Path(__file__).with_name("dataset_peers.py")
    return [str(python), str(script), name, str(path), json.dumps({"ranges": RANGES, "present": PRESENT})]


def _run(command: Sequence[str], *, limited: bool, variables: Mapping[str, str] | None = None) -> dict[str, float]:
    """The figures that a process on CPU 0 prints last; `limited`: with 1 GiB."""
    # One thread each, as one CPU has; polars would start as many as the machine has CPUs.
    names = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false", **(variables or {})}
    with _group() as group:
        join = f"echo $$ > {group}/cgroup.procs; " if limited and group else ""
        shell = ["sh", "-c", f'{join}exec taskset -c 0 "$@"', "sh", *command]
        done = subprocess.run(shell, cwd=ROOT, env={**os.environ, **names}, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextmanager
def _group() -> Iterator[Path | None]:
    group = GROUPS / f"modelmill-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(MEMORY))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()


@contextmanager
def _s3(folder: Path, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A real S3 server on the other CPU with the file in the bucket lake: its endpoint, and the keys for it."""
    build.ensure_built(("versitygw",))
    for bucket in ("lake", "store"):
        (folder / bucket).mkdir()
    os.link(path, folder / "lake" / "data.parquet") if _same_disk(path, folder) else _copy(path, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"ROOT_ACCESS_KEY": "bench", "ROOT_SECRET_KEY": "bench-secret"}
    command = [
        str(component("versitygw").program("versitygw")),
        "--quiet",
        "--port",
        f"127.0.0.1:{port}",
        "posix",
        str(folder),
    ]
    pinned = ["taskset", "-c", str((os.cpu_count() or 1) - 1), *command]
    process = subprocess.Popen(pinned, env={**os.environ, **keys}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(port)
        given = {environment.STORE_ACCESS_KEY: "bench", environment.STORE_SECRET_KEY: "bench-secret"}
        yield f"http://127.0.0.1:{port}", given
    finally:
        process.terminate()
        process.wait(10)


def _same_disk(path: Path, folder: Path) -> bool:
    return path.stat().st_dev == folder.stat().st_dev


def _copy(path: Path, folder: Path) -> None:
    (folder / "lake" / "data.parquet").write_bytes(path.read_bytes())


def _await(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("versitygw does not listen")


def _report(rows: int, path: Path, found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    size = path.stat().st_size / 1e6
    lines = [
        f"{rows:,} rows, 20 columns, {size:,.0f} MB of Parquet; {len(found['ours'])} rounds, each process on one CPU.",
        document.machine(),
        "",
        "| checks: 16 ranges, 8 columns without missing values | checked, rows/s | read and checked, rows/s | memory |",
        "|---|---|---|---|",
    ]
    titles = {"ours": "Modelmill", **{name: PEERS[name][0].replace("==", " ") for name in PEERS}}
    for name, title in titles.items():
        checked = _spread([rows / run["check"] for run in found[name]])
        both = _spread([rows / (run["check"] + run["read"]) for run in found[name]])
        lines.append(f"| {title} | {checked} | {both} | {_memory(found[name])} |")
    lines += ["", "| ratio, paired by round | min / median / max | target |", "|---|---|---|"]
    for name, target in (("great-expectations", ">= 5"), ("pandera", ">= 1")):
        pairs = list(zip(found["ours"], found[name], strict=True))
        ratios = [theirs["check"] / ours["check"] for ours, theirs in pairs]
        lines.append(f"| checks over {titles[name]}'s | {_spread(ratios, '.1f')} | {target} |")
        ratios = [(theirs["check"] + theirs["read"]) / (ours["check"] + ours["read"]) for ours, theirs in pairs]
        lines.append(f"| reading and checks over {titles[name]}'s | {_spread(ratios, '.1f')} | |")
        ratios = [ours["peak"] / theirs["peak"] for ours, theirs in pairs]
        limit = "<= 0.3" if name == "pandera" else ""
        lines.append(f"| memory, of {titles[name]}'s | {_spread(ratios, '.2f')} | {limit} |")
    speed = _spread([rows / run["seconds"] for run in found["refresh"]])
    cpu = _spread([run["cpu"] for run in found["refresh"]], ".1f")
    lines += [
        "",
        "| a whole refresh from S3 to S3 | measured | target |",
        "|---|---|---|",
        f"| rows/s, start of the trainer's imports included | {speed} | >= 500,000 |",
        f"| CPU seconds | {cpu} | |",
        f"| memory | {_memory(found['refresh'])} | <= 1 GiB |",
        "",
        "Ranges are min / median / max.",
    ]
    return "\n".join(lines)


def _memory(runs: Sequence[Mapping[str, float]]) -> str:
    return f"{max(run['peak'] for run in runs) / (1 << 20):,.0f} MiB"


def _spread(values: Sequence[float], form: str = ",.0f") -> str:
    return " / ".join(format(value, form) for value in (min(values), statistics.median(values), max(values)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["checks"]:
        print(json.dumps(checks(sys.argv[2])))
    elif sys.argv[1:2] == ["refresh"]:
        print(json.dumps(refresh(sys.argv[2], sys.argv[3])))
    else:
        main()
