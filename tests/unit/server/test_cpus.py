"""The CPUs of a pod are its control group's, not the machine's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelmill_server import cpus

MACHINE = float(len(os.sched_getaffinity(0)))


def group(root: Path, path: str, **files: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / path / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("quotas", "found"),
    [
        ({"pod/container": "50000 100000"}, 0.5),
        ({"pod/container": "max 100000", "pod": "25000 50000"}, 0.5),  # a pod's limit is above its containers
        ({"pod/container": "80000 100000", "pod": "70000 100000", "other": "1000 100000"}, 0.7),
        ({"pod/container": "max 100000"}, MACHINE),
        ({"pod/container": "nonsense"}, MACHINE),
        ({"": "30000 100000"}, 0.3),  # a container sees its own group as the root
        ({}, MACHINE),
    ],
)
def test_version_2(tmp_path: Path, quotas: dict[str, str], found: float) -> None:
    for path, quota in quotas.items():
        group(tmp_path, path, cpu__max=quota)
    own = tmp_path / "own"
    own.write_text("0::/pod/container\n")
    assert cpus.limit(tmp_path, own) == pytest.approx(found)


@pytest.mark.parametrize(("quota", "found"), [("20000", 0.2), ("-1", MACHINE)])
@pytest.mark.parametrize("folder", ["cpu,cpuacct/pod", "cpu,cpuacct", "cpu"])
def test_version_1(tmp_path: Path, quota: str, found: float, folder: str) -> None:
    group(tmp_path, folder, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    own = tmp_path / "own"
    own.write_text("11:memory:/pod\n4:cpu,cpuacct:/pod\n1:name=systemd:/pod\n")
    assert cpus.limit(tmp_path, own) == pytest.approx(found)


def test_elsewhere_than_on_linux(tmp_path: Path) -> None:
    assert cpus.limit(tmp_path, tmp_path / "none") == MACHINE


@pytest.mark.parametrize(("limit", "workers"), [(0.1, 1), (1.0, 1), (1.99, 2), (1.5, 1), (4.0, 4)])
def test_whole_cpus(limit: float, workers: int) -> None:
    assert cpus.whole(limit) == workers


def test_a_users_choice_of_threads_stays() -> None:
    script = "import os; from modelmill_server import cpus; cpus.pin_threads(); print(os.environ['OMP_NUM_THREADS'])"
    for chosen, expected in ((None, "1"), ("3", "3")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        if chosen:
            environment["OMP_NUM_THREADS"] = chosen
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected
