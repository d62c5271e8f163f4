"""What a cluster has beside Kubernetes itself: CoreDNS and the default StorageClass."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from local_cluster import system_images
from local_cluster.console import ClusterError
from local_cluster.kubectl import apply, kubectl
from local_cluster.node import ctr, has_name_server
from local_cluster.paths import MANIFESTS, ClusterPaths
from local_cluster.record import ClusterRecord

DEPLOYMENTS = (("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner"))


def load_images(paths: ClusterPaths) -> None:
    """Bring the system images into containerd; those that survived a restart are left alone."""
    present = set(ctr(paths, "images", "list", "--quiet").stdout.split())
    for reference, archive in system_images.archives().items():
        if reference not in present:
            ctr(paths, "images", "import", "--no-unpack", str(archive))


def install(paths: ClusterPaths, record: ClusterRecord) -> None:
    resolves = has_name_server((paths.config / "resolv.conf").read_text())
    manifests = [
        render(
            "coredns.yaml",
            {
                "image": system_images.coredns_reference(),
                "dns_service": record.subnets.dns_service,
                "forward": "forward . /etc/resolv.conf" if resolves else "",
            },
        ),
        render(
            "local-path.yaml",
            {
                "image": system_images.provisioner_reference(),
                "shell": system_images.SHELL,
                "volumes": str(paths.volumes),
            },
        ),
    ]
    apply(paths, "\n---\n".join(manifests))


def await_ready(paths: ClusterPaths, node: str, since: datetime, seconds: float = 120) -> None:
    """Until the node and the add-ons are ready, by reports that are younger than this start.

    After a restart on former data the API server first repeats what it was told before the crash.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = kubectl(paths, "get", "nodes,pods", "--all-namespaces", "--output=json").stdout
        waiting = not_ready(json.loads(answer)["items"], node, since)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"not ready after {seconds:.0f} s: {', '.join(waiting)}. "
                f"Look with: hack/cluster kubectl --name {paths.name} describe pods -A; logs: {paths.logs}"
            )
        time.sleep(0.2)


def not_ready(items: Sequence[Mapping[str, Any]], node: str, since: datetime) -> list[str]:
    """Which of the node and the add-ons are not ready, from `kubectl get nodes,pods -A -o json`."""
    nodes = [item for item in items if item["kind"] == "Node" and item["metadata"]["name"] == node]
    found = [] if any(_node_ready(item, since) for item in nodes) else [f"the node {node}"]
    for namespace, name in DEPLOYMENTS:
        pods = [
            item
            for item in items
            if item["kind"] == "Pod"
            and item["metadata"]["namespace"] == namespace
            and item["metadata"]["name"].startswith(f"{name}-")
        ]
        if not any(_pod_ready(pod, since) for pod in pods):
            found.append(f"{namespace}/{name}")
    return found


def _node_ready(item: Mapping[str, Any], since: datetime) -> bool:
    conditions = item["status"].get("conditions", [])
    return any(
        one["type"] == "Ready" and one["status"] == "True" and _time(one["lastHeartbeatTime"]) >= since
        for one in conditions
    )


def _pod_ready(item: Mapping[str, Any], since: datetime) -> bool:
    containers = item["status"].get("containerStatuses", [])
    started = [one["state"].get("running", {}).get("startedAt") for one in containers]
    return (
        bool(containers)
        and all(one["ready"] for one in containers)
        and all(moment and _time(moment) >= since for moment in started)
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def render(name: str, values: Mapping[str, str]) -> str:
    return string.Template((MANIFESTS / name).read_text()).substitute(values)
