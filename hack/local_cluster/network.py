"""The node's network: one bridge that carries the pods and whose address is the node's, and its CNI
configuration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from local_cluster.addresses import Subnets
from local_cluster.commands import run

CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")


def bridge_name(cluster: str) -> str:
    """An interface name has 15 characters at most: a short hash of the cluster's name keeps two apart."""
    return "mmill-" + hashlib.sha256(cluster.encode()).hexdigest()[:6]


def hardware_address(cluster: str) -> str:
    # A bridge takes over the lowest address of its ports unless it has one of its own; pods would lose their
    # neighbour.
    digest = hashlib.sha256(cluster.encode()).hexdigest()
    return ":".join(["02", *(digest[place : place + 2] for place in range(0, 10, 2))])


def interfaces() -> list[str]:
    return [link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"]).stdout or "[]")]


def create_bridge(cluster: str, subnets: Subnets) -> None:
    bridge = bridge_name(cluster)
    if bridge not in interfaces():
        run(["ip", "link", "add", bridge, "address", hardware_address(cluster), "type", "bridge"])
    width = subnets.pods.split("/")[1]
    run(["ip", "address", "replace", f"{subnets.gateway}/{width}", "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])


def remove_bridge(cluster: str) -> None:
    """The bridge and what is plugged into it. Most pods' interfaces went with their network namespaces
    before."""
    bridge = bridge_name(cluster)
    if bridge not in interfaces():
        return
    for link in json.loads(run(["ip", "-json", "link", "show", "master", bridge]).stdout or "[]"):
        run(["ip", "link", "delete", link["ifname"]], check=False)
    run(["ip", "link", "delete", bridge])


def cni_folder() -> str:
    return next((folder for folder in CNI_FOLDERS if (Path(folder) / "bridge").exists()), CNI_FOLDERS[0])


def write_cni_configuration(folder: Path, cluster: str, subnets: Subnets, leases: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "cniVersion": "0.4.0",
        "name": f"modelmill-{cluster}",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge_name(cluster),
                "isGateway": True,
                # One rule for the whole network (firewall.py) instead of a chain per pod.
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(leases),
                    "ranges": [[{"subnet": subnets.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    (folder / "10-modelmill.conflist").write_text(json.dumps(configuration, indent=1))
