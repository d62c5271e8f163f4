"""Programs that come as Debian packages: which are missing, and installing them - said before it happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from local_cluster.commands import find, run
from local_cluster.console import ClusterError, say, step
from local_cluster.network import cni_folder

# Program -> package. A program that is there already, from wherever, is used as it is.
CONTROL_PLANE = {"etcd": "etcd-server", "openssl": "openssl"}
NODE = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "socat": "socat",
    "ip": "iproute2",
    "unshare": "util-linux",
    "busybox": "busybox-static",
    "gcc": "gcc",
}
IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
TESTS = {"postgres": "postgresql", "chromium": "chromium", "prometheus": "prometheus", "promtool": "prometheus"}

POLICY = Path("/usr/sbin/policy-rc.d")


def program(name: str) -> str | None:
    """Where a program is; Debian keeps PostgreSQL's server off the PATH, one folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return find(name) or (str(found[-1]) if found else None)


def missing(programs: dict[str, str]) -> list[str]:
    packages = {package for name, package in programs.items() if program(name) is None}
    if "gcc" in packages:
        packages.add("libc6-dev")  # the static C library, of which apt needs to be told
    if "containerd" in programs and not (Path(cni_folder()) / "bridge").exists():
        packages.add("containernetworking-plugins")
    return sorted(packages)


def ensure(programs: dict[str, str]) -> None:
    packages = missing(programs)
    if not packages:
        return
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if find("apt-get") is None:
        raise ClusterError(
            f"these Debian packages are needed, and this machine has no apt-get: {' '.join(packages)}.\n"
            "Install your distribution's counterparts, or start Docker: then kind is used."
        )
    if os.geteuid() != 0:
        raise ClusterError(f"packages are missing, and installing them needs root. Run: sudo {command}")
    say(f"To be installed from Debian's archive: {', '.join(packages)}")
    with step("Installing packages", "1 minute"), no_services_started():
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
        if run(install, env=quiet, check=False).returncode != 0:
            # The package lists may be absent (a fresh container) or too old.
            run(["apt-get", "update", "--quiet"], env=quiet)
            run(install, env=quiet)
    still = missing(programs)
    if still:
        raise ClusterError(f"still missing after the installation: {', '.join(still)}")


@contextlib.contextmanager
def no_services_started() -> Iterator[None]:
    """Debian starts a service with its package: an etcd and a containerd of the machine's own, which nobody
    asked for."""
    if POLICY.exists() or not os.access(POLICY.parent, os.W_OK):
        yield
        return
    POLICY.write_text("#!/bin/sh\n# Written by hack/cluster for the time of one installation.\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
