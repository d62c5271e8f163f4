"""The backend where Docker answers: a cluster made by kind from kind-config.yaml."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local_cluster import build, docker, images, paths
from local_cluster import record as records
from local_cluster.addresses import SUBNETS, Subnets
from local_cluster.commands import find, run
from local_cluster.console import ClusterError, say, step
from local_cluster.kubectl import kubectl
from local_cluster.locks import exclusive
from local_cluster.paths import ClusterPaths
from local_cluster.record import ClusterRecord
from local_cluster.versions import component


@functools.cache
def program() -> Path:
    """The user's kind, else the pinned one, built when missing."""
    found = find("kind")
    if found:
        return Path(found)
    build.ensure_built(("kind",))
    return component("kind").program("kind")


def exists(name: str) -> bool:
    return name in run([program(), "get", "clusters"]).stdout.split()


def require_docker(name: str) -> None:
    if not docker.answers():
        raise ClusterError(
            f"the cluster {name!r} is to be one of kind, and Docker does not answer (`docker info`). "
            "Start Docker, or use CLUSTER=processes with another --name."
        )


def up(name: str, with_node: bool) -> None:
    require_docker(name)
    files = ClusterPaths(name)
    with exclusive(files.lock, f"another `hack/cluster` that works on {name!r} to end"):
        record = records.load(name)
        if exists(name):
            if record is None:
                raise ClusterError(f"kind has a cluster {name!r} that hack/cluster did not make; choose another --name")
            if not kubectl(files, "get", "--raw=/readyz", check=False).stdout.startswith("ok"):
                say("Cleaning up after a former run that does not answer any more ...")
                _delete(name, files)
        if exists(name):
            say(f"The cluster {name!r} is up already and answers.")
        else:
            files.state.mkdir(parents=True, exist_ok=True)
            # Recorded first: an interrupted start is ours, and is cleaned up by the next one.
            ClusterRecord(name, with_node, ports={}, subnets=Subnets(*SUBNETS[0]), backend="kind").save()
            with step(f"Creating the kind cluster {name!r}", "1 minute, more when its image has to be pulled"):
                run(
                    [
                        *(program(), "create", "cluster", "--name", name, "--config", paths.KIND_CONFIG),
                        *("--kubeconfig", files.kubeconfig, "--wait", "180s"),
                    ]
                )
            if not with_node:
                # kind has no cluster without a node; a cordoned one runs no pods either.
                kubectl(files, "cordon", "--selector=kubernetes.io/os=linux")
        print(f"export KUBECONFIG={files.kubeconfig}", flush=True)


def down(name: str) -> None:
    files = ClusterPaths(name)
    with exclusive(files.lock, f"another `hack/cluster` that works on {name!r} to end"):
        if records.load(name) is None:
            say(f"There is no cluster {name!r}: nothing to do.")
            return
        require_docker(name)
        with step(f"Taking the kind cluster {name!r} down", "10 seconds"):
            _delete(name, files)
            shutil.rmtree(files.state, ignore_errors=True)


def _delete(name: str, files: ClusterPaths) -> None:
    run([program(), "delete", "cluster", "--name", name, "--kubeconfig", files.kubeconfig])


def load(name: str, names: Sequence[str]) -> None:
    if records.load(name) is None or not docker.answers() or not exists(name):
        raise ClusterError(f"the cluster {name!r} is not up; start it with: hack/cluster up --name {name}", exit_code=3)
    for given in names:
        full = images.complete(given)
        if not images.image_id(full):
            raise ClusterError(f"there is no image {given!r}; the project's own are built with: hack/cluster images")
        with step(f"Loading {given}"), tempfile.TemporaryDirectory() as folder:
            archive = images.export(full, (), Path(folder))
            run([program(), "load", "image-archive", archive, "--name", name])


def status(name: str) -> int:
    files = ClusterPaths(name)
    if records.load(name) is None or not docker.answers() or not exists(name):
        print(f"cluster {name}: not up")
        return 3
    ready = kubectl(files, "get", "--raw=/readyz", check=False).stdout.startswith("ok")
    print(f"cluster {name}: {'healthy' if ready else 'NOT healthy'} (kind)")
    usage = [
        "docker",
        "stats",
        "--no-stream",
        "--format",
        "  {{.Name}}: {{.MemUsage}}",
        f"{name}-control-plane",
    ]
    print(run(usage, check=False).stdout.rstrip())
    print(kubectl(files, "get", "nodes", "--output=wide", check=False).stdout.rstrip())
    print(f"kubeconfig: {files.kubeconfig}")
    return 0 if ready else 1
