"""Where things lie: a per-user cache outside the checkout, one folder per cluster, and sockets under /run.

$XDG_CACHE_HOME/modelmill/bin/<component>-<version>/   built binaries, shared by all clusters and clones
$XDG_CACHE_HOME/modelmill/images/                      the images that were built, and the base they stand on
$XDG_CACHE_HOME/modelmill/clusters/<name>/             one cluster: keys, data, logs, kubeconfig
/run/modelmill/<name>/                                 its sockets (a socket's path may have 107 characters
only)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GO_MODULES = REPOSITORY / "hack" / "go"
MANIFESTS = Path(__file__).resolve().parent / "manifests"
KIND_CONFIG = REPOSITORY / "kind-config.yaml"


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "modelmill"


def binaries() -> Path:
    return cache_root() / "bin"


def images() -> Path:
    return cache_root() / "images"


def clusters() -> Path:
    return cache_root() / "clusters"


@dataclass(frozen=True)
class ClusterPaths:
    """The files of one cluster."""

    name: str

    @property
    def state(self) -> Path:
        return clusters() / self.name

    @property
    def lock(self) -> Path:
        # Beside the folder and not in it: `down` deletes the folder while it holds the lock.
        return clusters() / f"{self.name}.lock"

    @property
    def record(self) -> Path:
        return self.state / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def etcd(self) -> Path:
        return self.state / "etcd"

    @property
    def containerd(self) -> Path:
        return self.state / "containerd"

    @property
    def kubelet(self) -> Path:
        return self.state / "kubelet"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def run(self) -> Path:
        return Path("/run/modelmill") / self.name

    @property
    def run_record(self) -> Path:
        return self.run / "cluster.json"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"
