"""kubectl with the cluster's own kubeconfig, whatever the user's environment says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from local_cluster import build
from local_cluster.commands import find, run
from local_cluster.paths import ClusterPaths
from local_cluster.versions import component


def ensure_kubectl() -> Path:
    """The one that was built with the cluster; with kind the user's own, else one that is built for it."""
    kubernetes = component("kubernetes")
    if not kubernetes.built:
        found = find("kubectl")
        if found:
            return Path(found)
        build.ensure_kubectl_built()
        return build.kubectl_alone().program("kubectl")
    return kubernetes.program("kubectl")


def kubectl(
    paths: ClusterPaths, *words: str, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return run([ensure_kubectl(), f"--kubeconfig={paths.kubeconfig}", *words], stdin=stdin, check=check, timeout=300)


def apply(paths: ClusterPaths, manifests: str) -> None:
    # Server-side, so that it works the same on a cluster that already has them.
    kubectl(
        paths,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=hack-cluster",
        "-f",
        "-",
        stdin=manifests,
    )
