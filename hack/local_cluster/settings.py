"""Kernel settings that a node needs, or that kubelet changes by itself: their former values are kept and put
back by `down`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local_cluster.commands import find, run
from local_cluster.console import warn

NEEDED: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    # A pod that reaches another pod of the node through a Service gets its answer over the bridge: without
    # this the answer passes by the address translation.
    "net/bridge/bridge-nf-call-iptables": "1",
}

# What kubelet writes at its start (setupKernelTunables).
CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

ROOT = Path("/proc/sys")


def current() -> dict[str, str]:
    """The values now, of every setting that the node will touch."""
    values = {name: _read(name) for name in (*NEEDED, *CHANGED_BY_KUBELET)}
    return {name: value for name, value in values.items() if value is not None}


def apply() -> None:
    if not (ROOT / "net/bridge").exists() and find("modprobe"):
        run(["modprobe", "br_netfilter"], check=False)
    for name, value in NEEDED.items():
        trouble = _change(name, value)
        if trouble:
            warn(f"cannot set {_dotted(name)} to {value} ({trouble}); Services may not answer")


def restore(former: Mapping[str, str]) -> None:
    for name, value in former.items():
        trouble = _change(name, value)
        if trouble:
            warn(f"cannot set {_dotted(name)} back to {value}: {trouble}")


def _read(name: str) -> str | None:
    try:
        return (ROOT / name).read_text().strip()
    except OSError:
        return None  # this kernel does not have it


def _change(name: str, value: str) -> str:
    """Set a value that differs; what went wrong, in words, or nothing."""
    if _read(name) == value:
        return ""
    try:
        (ROOT / name).write_text(value)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _dotted(name: str) -> str:
    return name.replace("/", ".")
