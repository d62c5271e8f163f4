"""The node: containerd, kubelet, kube-proxy and the relay by which pods reach the API server.

containerd and kubelet live in a mount namespace of their own. Their mounts (root file systems, volumes,
secrets) never show on the machine, nothing of the machine has to be made shared for them, and whatever kills
them, the kernel takes their mounts away with the last process.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from local_cluster import cgroups
from local_cluster.certs import Authority, write_kubeconfig
from local_cluster.commands import find, run
from local_cluster.console import ClusterError
from local_cluster.control_plane import LOOPBACK, server_url, wait_for
from local_cluster.network import cni_folder, write_cni_configuration
from local_cluster.paths import ClusterPaths
from local_cluster.processes import ProcessRecord
from local_cluster.record import ClusterRecord
from local_cluster.system_images import PAUSE
from local_cluster.versions import component

COMPONENTS = ("containerd", "kubelet", "kube-proxy", "api-relay")


def start_containerd(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    paths.run.mkdir(parents=True, exist_ok=True)
    write_cni_configuration(paths.config / "cni", record.name, record.subnets, paths.run / "leases")
    configuration = paths.config / "containerd.toml"
    configuration.write_text(containerd_configuration(paths, find("runc") or "runc", snapshotter(paths.state)))
    paths.containerd_socket.unlink(missing_ok=True)
    containerd = find("containerd") or "containerd"
    # `slave` first: later mounts of the machine are seen in the namespace, and ours never reach the machine.
    # Then shared again inside of it, because kubelet's volumes have to reach the containers.
    enter = [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-c",
        'mount --make-rshared / && exec "$@"',
        "sh",
    ]
    processes.start("containerd", [*enter, containerd, "--config", configuration])

    def answers() -> bool:
        # A client of containerd retries for seconds when there is no socket yet: ask only when there is.
        return paths.containerd_socket.exists() and ctr(paths, "version", check=False).returncode == 0

    wait_for("containerd", answers, processes, seconds=30)


def ctr(paths: ClusterPaths, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(
        ["ctr", "--address", paths.containerd_socket, "--namespace", "k8s.io", *words],
        check=check,
        timeout=600,
    )


def snapshotter(folder: Path) -> str:
    """overlayfs does not stack upon an overlay, which is what a container's own file system often is."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    kind = run(["stat", "--file-system", "--format=%T", existing], check=False).stdout.strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def containerd_configuration(paths: ClusterPaths, runc: str, snapshots: str) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{paths.containerd}"
state = "{paths.run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]

[debug]
  level = "warn"

[grpc]
  address = "{paths.containerd_socket}"

[{cri}]
  sandbox_image = "{PAUSE}"
  # Lowering an OOM score needs a capability that CI containers lack.
  restrict_oom_score_adj = true
  # Apart from the machine's own namespaces, and gone with the state folder.
  netns_mounts_under_state_dir = true
  stream_server_address = "{LOOPBACK}"
  # As containerd 2 does: a non-root pod may listen on port 80 or 53.
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [{cri}.containerd]
    snapshotter = "{snapshots}"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{paths.run}/runc"
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "{cni_folder()}"
    conf_dir = "{paths.config}/cni"
"""


def start_relay(record: ClusterRecord, processes: ProcessRecord) -> None:
    """Pass pods' connections from the bridge to the API server on loopback. TLS stays end to end."""
    port = record.ports["apiserver"]
    listen = f"TCP4-LISTEN:{port},bind={record.subnets.gateway},fork,reuseaddr,nodelay,backlog=128"
    processes.start("api-relay", [find("socat") or "socat", listen, f"TCP4:{LOOPBACK}:{port},nodelay"])


def start_kubelet(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord, authority: Authority) -> None:
    node, gateway = record.name, record.subnets.gateway
    certificate, key = authority.issue("kubelet", f"system:node:{node}", "system:nodes", hosts=(gateway, node))
    kubeconfig = paths.config / "kubelet.kubeconfig"
    write_kubeconfig(kubeconfig, record.name, server_url(record), authority, (certificate, key))
    resolv = paths.config / "resolv.conf"
    resolv.write_text(usable_resolv_conf(_machine_resolv_conf()))
    configuration = paths.config / "kubelet.json"
    configuration.write_text(
        json.dumps(
            {
                "kind": "KubeletConfiguration",
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "address": gateway,
                "port": record.ports["kubelet"],
                "readOnlyPort": 0,
                "healthzBindAddress": LOOPBACK,
                "healthzPort": record.ports["kubelet-health"],
                "tlsCertFile": str(certificate),
                "tlsPrivateKeyFile": str(key),
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": str(authority.certificate)},
                },
                "authorization": {"mode": "Webhook"},
                "clusterDomain": "cluster.local",
                "clusterDNS": [record.subnets.dns_service],
                "resolvConf": str(resolv),
                "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": f"/{cgroups.root_name(record.name)}",
                "enforceNodeAllocatable": [],
                "failCgroupV1": False,
                "failSwapOn": False,
                "maxPods": 250,
                # A laptop's disk is often fuller than a server's may be; no image must vanish because of it.
                "evictionHard": {
                    "memory.available": "100Mi",
                    "nodefs.available": "1%",
                    "imagefs.available": "1%",
                },
                "imageGCHighThresholdPercent": 100,
                "imageGCLowThresholdPercent": 99,
                "podLogsDir": str(paths.state / "pod-logs"),
                "volumePluginDir": str(paths.kubelet / "volume-plugins"),
                "serializeImagePulls": False,
            },
            indent=1,
        )
    )
    containerd = processes.read()["containerd"]
    processes.start(
        "kubelet",
        [
            *("nsenter", f"--mount=/proc/{containerd.pid}/ns/mnt", "--"),
            component("kubernetes").program("kubelet"),
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={node}",
            f"--node-ip={gateway}",
            f"--root-dir={paths.kubelet}",
            f"--cert-dir={paths.kubelet}/pki",
        ],
    )


def start_proxy(paths: ClusterPaths, record: ClusterRecord, processes: ProcessRecord, authority: Authority) -> None:
    kubeconfig = paths.config / "kube-proxy.kubeconfig"
    identity = authority.issue("kube-proxy", "system:kube-proxy")
    write_kubeconfig(kubeconfig, record.name, server_url(record), authority, identity)
    configuration = paths.config / "kube-proxy.json"
    configuration.write_text(
        json.dumps(
            {
                "kind": "KubeProxyConfiguration",
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "mode": "iptables",
                "bindAddress": record.subnets.gateway,
                "hostnameOverride": record.name,
                "clusterCIDR": record.subnets.pods,
                "clientConnection": {"kubeconfig": str(kubeconfig)},
                "healthzBindAddress": f"{LOOPBACK}:{record.ports['proxy-health']}",
                "metricsBindAddress": f"{LOOPBACK}:{record.ports['proxy-metrics']}",
                # Node ports on the bridge only: nothing shows on the machine's public interface.
                "nodePortAddresses": [f"{record.subnets.gateway}/32"],
                "iptables": {"localhostNodePorts": False},
                # Zero leaves the machine's own limits: changing them needs rights that CI containers lack.
                "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
                "oomScoreAdj": 0,
            },
            indent=1,
        )
    )
    processes.start("kube-proxy", [component("kubernetes").program("kube-proxy"), f"--config={configuration}"])


def usable_resolv_conf(text: str) -> str:
    """A resolv.conf without name servers on loopback: seen from a pod, that is the pod itself."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1"):
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"


def has_name_server(resolv_conf: str) -> bool:
    return any(line.split()[:1] == ["nameserver"] for line in resolv_conf.splitlines())


def _machine_resolv_conf() -> str:
    # systemd-resolved shows itself (127.0.0.53) in /etc/resolv.conf and the real servers in its own file.
    places = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
    return next((place.read_text() for place in places if place.is_file()), "")


def require_no_other_node(chains: Iterable[str]) -> None:
    """Refuse to start beside the node of another cluster, whatever made that."""
    if any(chain.startswith("KUBE-SVC") for chain in chains):
        raise ClusterError(
            "this machine already has kube-proxy's packet filter rules (KUBE-* chains of iptables), so "
            "it seems to be a node of another cluster. Two would overwrite each other's rules. Use that one "
            "with CLUSTER=current, or start without a node: hack/cluster up --without-nodes"
        )
