"""The images of the cluster's own pods: pause, CoreDNS, the volume provisioner and its shell.

They are made on this machine from binaries that were built or installed before, so that a cluster needs no
registry.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from local_cluster import paths
from local_cluster.commands import find, run
from local_cluster.console import ClusterError
from local_cluster.oci import Image, write_archive
from local_cluster.versions import component

PREFIX = "docker.io/modelmill"
PAUSE = f"{PREFIX}/pause:1"
# A static shell: what prepares a volume's folder, and handy for trying things out (but not for fetching by
# name: glibc resolves names by loading shared libraries, which a static program in an empty image cannot).
SHELL = f"{PREFIX}/busybox:1"
SHELL_COMMANDS = (
    "sh",
    "mkdir",
    "rm",
    "ls",
    "cat",
    "sleep",
    "nslookup",
    "nc",
    "id",
    "dd",
    "echo",
    "touch",
    "env",
)


def coredns_reference() -> str:
    return f"{PREFIX}/coredns:{component('coredns').version}"


def provisioner_reference() -> str:
    return f"{PREFIX}/local-path-provisioner:{component('local-path-provisioner').version}"


def archives() -> dict[str, Path]:
    """Image reference -> archive, written when missing."""
    coredns, provisioner = component("coredns"), component("local-path-provisioner")
    shell = find("busybox")
    if shell is None:
        raise ClusterError("busybox is not installed (Debian package busybox-static)")
    return {
        image.reference: _archive(image)
        for image in (
            Image(PAUSE, {"/pause": _pause()}, ["/pause"]),
            Image(
                SHELL,
                {"/bin/busybox": Path(shell), **{f"/bin/{name}": "busybox" for name in SHELL_COMMANDS}},
                ["/bin/sh"],
                folders=("tmp",),
            ),
            Image(coredns_reference(), {"/coredns": coredns.program("coredns")}, ["/coredns"]),
            Image(
                provisioner_reference(),
                {"/local-path-provisioner": provisioner.program("local-path-provisioner")},
                ["/local-path-provisioner"],
            ),
        )
    }


def _archive(image: Image) -> Path:
    # Named after what goes in, by size and time of each file: enough to notice another build of a binary.
    inputs = [
        f"{place} {_stamp(source) if isinstance(source, Path) else source}" for place, source in image.files.items()
    ]
    digest = hashlib.sha256("\n".join([image.reference, *inputs]).encode()).hexdigest()[:12]
    folder = paths.images() / "system"
    folder.mkdir(parents=True, exist_ok=True)
    name = image.reference.rpartition("/")[2].replace(":", "-")
    target = folder / f"{name}-{digest}.tar"
    if not target.exists():
        for stale in folder.glob(f"{name}-*.tar"):
            stale.unlink()
        write_archive(image, target)
    return target


def _stamp(file: Path) -> str:
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _pause() -> Path:
    source = Path(__file__).with_name("pause.c")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    target = paths.binaries() / f"pause-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".unfinished")
        run(["gcc", "-static", "-Os", "-s", "-o", unfinished, source])
        unfinished.rename(target)
    return target
