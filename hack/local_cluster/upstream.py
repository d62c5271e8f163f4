"""The backend without Docker: the upstream components as processes of this machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from local_cluster import (
    addons,
    addresses,
    build,
    cgroups,
    cleanup,
    control_plane,
    firewall,
    images,
    network,
    node,
    packages,
    paths,
    settings,
)
from local_cluster import record as records
from local_cluster.console import ClusterError, say, step, warn
from local_cluster.kubectl import kubectl
from local_cluster.locks import exclusive
from local_cluster.paths import ClusterPaths
from local_cluster.processes import ProcessRecord, marked, resident_bytes
from local_cluster.record import ClusterRecord
from local_cluster.versions import component

COLD_BYTES = 8 * 10**9
WARM_BYTES = 2 * 10**9


def up(name: str, with_node: bool) -> None:
    files = ClusterPaths(name)
    with exclusive(files.lock, f"another `hack/cluster` that works on {name!r} to end"):
        record = records.load(name)
        if record is not None and record.backend != "processes":
            raise ClusterError(
                f"the cluster {name!r} runs on {record.backend}; take it down first: hack/cluster down --name {name}"
            )
        if record is not None and healthy(files, record):
            if with_node and not record.with_node:
                raise ClusterError(
                    f"the cluster {name!r} is up without a node. Take it down first "
                    f"(hack/cluster down --name {name}), or start another one with --name."
                )
            say(f"The cluster {name!r} is up already and answers.")
        else:
            began = time.monotonic()
            require_platform(with_node)
            prepare(with_node)
            record = start(files, record, name, with_node)
            say(f"The cluster {name!r} is up after {time.monotonic() - began:.1f} s.")
        print(f"export KUBECONFIG={files.kubeconfig}", flush=True)


def require_platform(with_node: bool) -> None:
    if not sys.platform.startswith("linux"):
        raise ClusterError("Kubernetes' components run as processes on Linux only. Start Docker: then kind is used.")
    if with_node and os.geteuid() != 0:
        raise ClusterError(
            "a node needs root (namespaces, network, control groups), and Docker does not answer. Either "
            "start Docker, or run this as root, or do without pods: hack/cluster up --without-nodes"
        )


def prepare(with_node: bool) -> None:
    """Install and build what is missing, after a look at the disk."""
    names = build.NODE if with_node else build.CONTROL_PLANE
    cold = bool(build.missing(names))
    require_disk(paths.cache_root(), COLD_BYTES if cold else WARM_BYTES)
    packages.ensure({**packages.CONTROL_PLANE, **(packages.NODE if with_node else {})})
    build.ensure_built(names)


def require_disk(folder: Path, needed: int) -> None:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ClusterError(
            f"{existing} has {free / 1e9:.1f} GB free, and about {needed / 1e9:.0f} GB are needed. "
            "Make room, or point XDG_CACHE_HOME (and Go's GOCACHE and GOMODCACHE) at a larger disk."
        )


def start(files: ClusterPaths, former: ClusterRecord | None, name: str, with_node: bool) -> ClusterRecord:
    if former is not None or marked(files.state):
        say("Cleaning up after a former run that was not taken down ...")
        cleanup.stop_processes(files, with_node=former is not None and former.with_node)
        if former is not None and former.with_node:
            cleanup.remove_node_traces(files, former)
        if former is not None and former.with_node != with_node:
            shutil.rmtree(files.state)  # another shape: its data is of no use
            former = None
    if with_node:
        clear_way(files)
    record = choose(name, with_node, former)
    since = datetime.now(timezone.utc).replace(microsecond=0)  # the API counts in seconds
    processes = ProcessRecord(files)
    title = "Starting the control plane and a node" if with_node else "Starting the control plane"
    with step(title, "15 seconds" if with_node else "8 seconds"):
        authority = control_plane.issue_identities(files, record)
        control_plane.start_etcd(files, record, processes)
        control_plane.start_apiserver(files, record, processes)
        if with_node:
            prepare_node(files, record, processes)
        control_plane.await_apiserver(files, record, processes)
        control_plane.start_controllers(files, record, processes)
        if with_node:
            node.start_relay(record, processes)
            node.start_kubelet(files, record, processes, authority)
            node.start_proxy(files, record, processes, authority)
    if with_node:
        with step("Waiting for the node, CoreDNS and the default StorageClass", "10 seconds"):
            addons.install(files, record)
            addons.await_ready(files, name, since)
    return record


def clear_way(files: ClusterPaths) -> None:
    """Deal with a cluster of the same name that belongs to another cache folder."""
    other = records.of_another_cache(files.name)
    if other is None:
        return
    if marked(Path(other.state)):
        raise ClusterError(
            f"a cluster {files.name!r} that belongs to {other.state} runs on this machine, which can be one "
            "node only. Take that one down with its own XDG_CACHE_HOME, or add --without-nodes."
        )
    cleanup.remove_node_traces(files, other)


def prepare_node(files: ClusterPaths, record: ClusterRecord, processes: ProcessRecord) -> None:
    settings.apply()
    network.create_bridge(record.name, record.subnets)
    firewall.install(network.bridge_name(record.name), record.subnets)
    cgroups.create(record.name)
    node.start_containerd(files, record, processes)
    addons.load_images(files)


def choose(name: str, with_node: bool, former: ClusterRecord | None) -> ClusterRecord:
    """Ports, subnets, and what the machine looks like before: written down before anything is started."""
    with exclusive(paths.clusters() / ".addresses.lock", "another cluster to choose its ports"):
        others = records.others(name)
        beside = [other.name for other in others if other.with_node and other.backend == "processes"]
        if with_node and beside:
            raise ClusterError(
                f"the cluster {beside[0]!r} has a node on this machine, which can be one node only. "
                f"Take it down (hack/cluster down --name {beside[0]}), or add --without-nodes."
            )
        recorded = {port for other in others for port in other.ports.values()}
        wanted = {**addresses.WANTED_PORTS, **(addresses.WANTED_NODE_PORTS if with_node else {})}
        ports = addresses.choose_ports(
            wanted,
            former.ports if former else {},
            free=lambda port: port not in recorded and addresses.bindable(port),
        )
        for what, port in ports.items():
            if port != wanted[what] and not (former and former.ports.get(what) == port):
                say(f"Port {wanted[what]} is in use; {what} listens on {port}.")
        if former is not None:
            record = former
            record.ports = ports
        else:
            subnets = addresses.Subnets(*addresses.SUBNETS[0])
            record = ClusterRecord(name, with_node, ports, subnets)
            if with_node:
                record.subnets = addresses.choose_subnets(addresses.machine_routes(network.bridge_name(name)))
                chains = firewall.chains_now()
                node.require_no_other_node(chains)
                record.foreign_chains = sorted(chain for chain in chains if chain.startswith("CNI-"))
                record.former_settings = settings.current()
                record.absent_folders = cleanup.absent_folders()
        record.save()
        return record


def down(name: str) -> None:
    files = ClusterPaths(name)
    with exclusive(files.lock, f"another `hack/cluster` that works on {name!r} to end"):
        record = records.load(name)
        if record is None and not files.state.exists() and not marked(files.state):
            say(f"There is no cluster {name!r}: nothing to do.")
            return
        with step(f"Taking the cluster {name!r} down", "5 seconds"):
            cleanup.stop_processes(files, with_node=record is not None and record.with_node)
            if record is not None and record.with_node:
                cleanup.remove_node_traces(files, record)
                cleanup.restore_machine(record)
            shutil.rmtree(files.state, ignore_errors=True)
        if files.state.exists():
            warn(f"{files.state} could not be removed as a whole")


def load(name: str, names: Sequence[str]) -> None:
    """Bring images into the node's containerd: those whose build changed since they were loaded last."""
    files = ClusterPaths(name)
    with exclusive(files.lock, f"another `hack/cluster` that works on {name!r} to end"):
        record = records.load(name)
        if record is None or not ProcessRecord(files).running("kube-apiserver"):
            raise ClusterError(
                f"the cluster {name!r} is not up; start it with: hack/cluster up --name {name}", exit_code=3
            )
        if not record.with_node:
            raise ClusterError(f"the cluster {name!r} has no node that could run an image")
        present = set(node.ctr(files, "images", "list", "--quiet").stdout.split())
        for given in names:
            full = images.complete(given)
            identity = images.image_id(full)
            if not identity:
                raise ClusterError(
                    f"there is no image {given!r}; the project's own are built with: hack/cluster images"
                )
            if full in present and record.loaded.get(full) == identity:
                say(f"    {given}: unchanged")
                continue
            began = time.monotonic()
            _import(files, full)
            record.loaded[full] = identity
            record.save()
            say(f"    {given}: loaded in {time.monotonic() - began:.1f} s")


def _import(files: ClusterPaths, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=files.state) as folder:
        layers = node.ctr(files, "content", "list", "--quiet").stdout.split()
        if (
            node.ctr(files, "images", "import", str(images.export(name, layers, Path(folder))), check=False).returncode
            == 0
        ):
            return
        # containerd drops layers that nothing refers to any more, perhaps right between the list and the
        # import.
        node.ctr(files, "images", "import", str(images.export(name, (), Path(folder))))


def components(record: ClusterRecord) -> tuple[str, ...]:
    return control_plane.COMPONENTS + (node.COMPONENTS if record.with_node else ())


def healthy(files: ClusterPaths, record: ClusterRecord) -> bool:
    return not troubles(files, record)


def troubles(files: ClusterPaths, record: ClusterRecord) -> list[str]:
    """What keeps the cluster from being healthy, one line each."""
    processes = ProcessRecord(files)
    found = [f"{item} is not running" for item in components(record) if not processes.running(item)]
    if found:
        return found
    if not control_plane.ready(files, record):
        return ["the API server does not answer /readyz"]
    if record.with_node:
        condition = '{.status.conditions[?(@.type=="Ready")].status}'
        answer = kubectl(files, "get", "node", record.name, f"--output=jsonpath={condition}", check=False)
        if answer.stdout != "True":
            found.append(f"the node is not Ready: {(answer.stdout or answer.stderr).strip()}")
        for namespace, name in addons.DEPLOYMENTS:
            words = (
                "get",
                "deployment",
                name,
                f"--namespace={namespace}",
                "--output=jsonpath={.status.readyReplicas}",
            )
            if kubectl(files, *words, check=False).stdout != "1":
                found.append(f"the deployment {namespace}/{name} is not ready")
    return found


def status(name: str) -> int:
    files = ClusterPaths(name)
    record = records.load(name)
    if record is None:
        print(f"cluster {name}: not up")
        return 3
    processes = ProcessRecord(files)
    known = processes.read()
    found = troubles(files, record)
    print(f"cluster {name}: {'healthy' if not found else 'NOT healthy'}")
    for trouble in found:
        print(f"  {trouble}")
    total = 0
    print("components:")
    for item in components(record):
        if processes.running(item):
            size = resident_bytes(known[item].pid)
            total += size
            print(f"  {item:24} running  pid {known[item].pid:<8} {size / 1e6:6.0f} MB")
        else:
            print(f"  {item:24} STOPPED  see {files.logs / item}.log")
    print(f"  {'together':24} {'':22} {total / 1e6:6.0f} MB")
    print("versions:")
    for item in build.NODE if record.with_node else build.CONTROL_PLANE:
        one = component(item)
        print(f"  {one.name:24} {one.version}")
    print("ports (loopback, kubelet on the bridge):")
    for what, port in record.ports.items():
        print(f"  {what:24} {port}")
    if record.with_node:
        print(
            f"networks: pods {record.subnets.pods}, services {record.subnets.services}, node {record.subnets.gateway}"
        )
    print(f"kubeconfig: {files.kubeconfig}\nlogs: {files.logs}\naudit log: {files.audit_log}")
    if not found:
        return 0
    return 3 if not any(processes.running(item) for item in components(record)) else 1
