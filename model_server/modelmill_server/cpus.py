"""How many CPUs this container may use, and libraries that must not start more threads than that.

`os.cpu_count` is the machine's.  A pod's limit is a quota of its control group: time per period.
"""

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# A library reads its variable when it is loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def limit(groups: Path = _GROUPS, own: Path = _OWN) -> float:
    """CPUs that this process may use: the least of its affinity and the quotas of its control groups, v1 or v2."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(available), *(_quota(folder) for folder in _folders(groups, own))])


def whole(cpus: float) -> int:
    """What fits into `cpus` without being throttled: at least one."""
    return max(1, math.floor(cpus + 0.01))


def pin_threads() -> None:
    """One thread for each library that would start one per CPU of the machine; what the user has set stays.

    A server gets its parallelism from workers.  It has to be called before numpy is imported.
    """
    for variable in _THREADS:
        os.environ.setdefault(variable, "1")


def _folders(groups: Path, own: Path) -> list[Path]:
    """The control groups of this process with a CPU quota, up to the root that it sees."""
    found = {groups, groups / "cpu"}
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups
        for root_ in {root, groups / "cpu"} if controllers else {root}:
            folder = root_ / path.lstrip("/")
            found.update({folder, *(parent for parent in folder.parents if parent.is_relative_to(root_))})
    return sorted(found)


def _quota(folder: Path) -> float:
    """CPUs, infinity where there is no quota."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()  # v2: "max" or microseconds
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()  # v1: -1 or microseconds
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return math.inf
    return int(quota) / int(period)
