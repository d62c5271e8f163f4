"""What the node is started with, on machines that differ."""

import tomllib

import yaml
from local_cluster.addons import render
from local_cluster.network import bridge_name, hardware_address
from local_cluster.node import containerd_configuration, has_name_server, usable_resolv_conf
from local_cluster.paths import ClusterPaths


def test_name_servers_on_loopback_are_not_handed_to_pods() -> None:
    text = "search corp.example\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.53\noptions edns0\n"

    assert usable_resolv_conf(text) == "search corp.example\nnameserver 192.0.2.53\noptions edns0\n"
    assert not has_name_server(usable_resolv_conf("nameserver 127.0.0.1\n"))


def test_containerd_keeps_to_the_clusters_own_folders() -> None:
    paths = ClusterPaths("x")

    values = tomllib.loads(containerd_configuration(paths, "/usr/sbin/runc", "native"))

    cri = values["plugins"]["io.containerd.grpc.v1.cri"]
    assert values["root"] == str(paths.containerd)
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["Root"].startswith("/run/modelmill/x/")


def test_interface_names_fit_the_kernels_limit_and_differ() -> None:
    names = {bridge_name(name) for name in ("a", "modelmill", "m" * 40)}

    assert len(names) == 3
    assert all(len(name) <= 15 for name in names)
    assert hardware_address("a").startswith("02:")  # locally administered, not multicast


def test_without_any_name_server_coredns_forwards_nowhere() -> None:
    values = {"image": "i", "dns_service": "10.96.0.10"}
    for forward in ("forward . /etc/resolv.conf", ""):
        documents = list(yaml.safe_load_all(render("coredns.yaml", {**values, "forward": forward})))
        corefile = next(one for one in documents if one["kind"] == "ConfigMap")["data"]["Corefile"]
        assert ("forward" in corefile) == bool(forward)


def test_the_volume_script_keeps_its_own_variable() -> None:
    values = {"image": "i", "shell": "s", "volumes": "/v"}
    documents = list(yaml.safe_load_all(render("local-path.yaml", values)))

    assert '"$VOL_DIR"' in next(one for one in documents if one["kind"] == "ConfigMap")["data"]["setup"]
