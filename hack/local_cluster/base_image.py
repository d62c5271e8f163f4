"""The Python base image where no image registry answers: a minimal Debian, made with mmdebstrap and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from local_cluster.commands import run
from local_cluster.console import ClusterError, say, step

REGISTRY_BASE = "docker.io/library/python:3.13-slim"
INCLUDED = "python3,python3-pip,python3-venv,ca-certificates"
PULL_SECONDS = 90

Buildah = Callable[..., str]


def choose(buildah: Buildah, work: Path) -> str:
    """The base for the Dockerfile's BASE argument: $BASE, else what an earlier build took, else the
    registry's, else made here."""
    if os.environ.get("BASE"):
        return os.environ["BASE"]
    suite = debian_suite(Path("/etc/os-release").read_text())
    made = f"docker.io/modelmill/base:{suite}"
    for known in (REGISTRY_BASE, made):
        if has(buildah, known):
            return known
    with step(f"Looking for {REGISTRY_BASE}", "1 minute where it can be pulled"):
        try:
            buildah("pull", "--quiet", "--retry=0", REGISTRY_BASE, timeout=PULL_SECONDS)
            return REGISTRY_BASE
        except ClusterError:
            say("    no image registry answers: a base is made from Debian's packages instead")
    with step(f"Making the base image {made}", "40 seconds"):
        _make(buildah, suite, made, work)
    return made


def has(buildah: Buildah, image: str) -> bool:
    return bool(buildah("images", "--quiet", "--filter", f"reference={image}").strip())


def debian_suite(os_release: str) -> str:
    """This machine's own Debian release, whose package sources are set up here; else the stable one of the
    lock file."""
    facts = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    is_debian = facts.get("ID", "").strip('"') == "debian"
    return facts.get("VERSION_CODENAME", "bookworm").strip('"') if is_debian else "bookworm"


def _make(buildah: Buildah, suite: str, reference: str, work: Path) -> None:
    root = work / "base.tar"
    run(["mmdebstrap", "--variant=minbase", f"--include={INCLUDED}", *_without_documents(), suite, root])
    container = buildah("from", "scratch").strip()
    try:
        buildah("add", "--quiet", container, str(root), "/")
        buildah("commit", "--quiet", container, reference)
    finally:
        buildah("rm", container)
        root.unlink(missing_ok=True)


def _without_documents() -> Sequence[str]:
    # As the slim images do: nobody reads manuals or translations in a container.
    excluded = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
    kept = ("/usr/share/doc/*/copyright",)
    return [
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in excluded),
        *(f"--dpkgopt=path-include={pattern}" for pattern in kept),
    ]
