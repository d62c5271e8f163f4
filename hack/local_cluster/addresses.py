"""The choice of ports and subnets: pure functions over what is taken, and the readers that look it up."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from local_cluster.commands import run
from local_cluster.console import ClusterError

# Wanted ports on loopback, in the order of choice. Each is replaced by the next free one when somebody has
# it.
WANTED_PORTS: Mapping[str, int] = {
    "apiserver": 6443,
    "etcd": 23790,
    "etcd-peer": 23800,
    "controller-manager": 10257,
    "scheduler": 10259,
}
WANTED_NODE_PORTS: Mapping[str, int] = {
    "kubelet": 10250,
    "kubelet-health": 10248,
    "proxy-health": 10256,
    "proxy-metrics": 10249,
}
HIGHEST_PORT = 29999  # node ports begin at 30000

# (pods, services): kubeadm's own choice first.
SUBNETS = (
    ("10.244.0.0/16", "10.96.0.0/16"),
    ("10.217.0.0/16", "10.218.0.0/16"),
    ("172.29.0.0/16", "172.30.0.0/16"),
    ("192.168.224.0/20", "192.168.240.0/20"),
)


@dataclass(frozen=True)
class Subnets:
    pods: str
    services: str

    @property
    def gateway(self) -> str:
        """The bridge's address: the node, and the API server for pods."""
        return str(ipaddress.ip_network(self.pods)[1])

    @property
    def api_service(self) -> str:
        return str(ipaddress.ip_network(self.services)[1])

    @property
    def dns_service(self) -> str:
        return str(ipaddress.ip_network(self.services)[10])


def choose_ports(wanted: Mapping[str, int], former: Mapping[str, int], free: Callable[[int], bool]) -> dict[str, int]:
    """A port for each name: the former one if free (a kubeconfig keeps its worth), else the wanted one, else
    the next free."""
    chosen: dict[str, int] = {}
    for name, first in wanted.items():
        candidates = [former[name]] if name in former else []
        candidates += range(first, HIGHEST_PORT + 1)
        port = next((one for one in candidates if one not in chosen.values() and free(one)), None)
        if port is None:
            raise ClusterError(f"no port from {first} to {HIGHEST_PORT} is free for {name}")
        chosen[name] = port
    return chosen


def choose_subnets(routes: Collection[str]) -> Subnets:
    """The first pair that overlaps no route of this machine (a default route does not count)."""
    existing = [ipaddress.ip_network(route, strict=False) for route in routes]
    for pods, services in SUBNETS:
        wanted = (ipaddress.ip_network(pods), ipaddress.ip_network(services))
        if not any(net.overlaps(other) for net in wanted for other in existing if other.prefixlen):
            return Subnets(pods, services)
    tried = ", ".join(f"{pods} + {services}" for pods, services in SUBNETS)
    raise ClusterError(
        f"this machine has routes into all of the networks that a cluster could use ({tried}); see `ip route`"
    )


def routes_from(text: str, own_interface: str) -> list[str]:
    """IPv4 destinations of `ip -4 route show table all`, those of our own bridge and broadcasts aside."""
    kinds = {"local", "unreachable", "blackhole", "prohibit", "throw", "unicast"}
    found = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] in ("broadcast", "multicast"):
            continue
        if "dev" in words and words[words.index("dev") + 1] == own_interface:
            continue
        destination = words[1] if words[0] in kinds and len(words) > 1 else words[0]
        if destination != "default":
            found.append(destination)
    return found


def machine_routes(own_interface: str) -> list[str]:
    return routes_from(run(["ip", "-4", "route", "show", "table", "all"]).stdout, own_interface)


def bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port with connections in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # The wildcard address: a listener on any address counts as taken.
            probe.bind(("", port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
