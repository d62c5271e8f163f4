"""Ports and networks are chosen around what others use."""

import socket

import pytest
from local_cluster.addresses import SUBNETS, bindable, choose_ports, choose_subnets, routes_from
from local_cluster.console import ClusterError

WANTED = {"apiserver": 6443, "etcd": 6444}


def test_a_taken_port_gives_way_and_no_port_is_given_twice() -> None:
    assert choose_ports(WANTED, {}, free=lambda port: port != 6443) == {"apiserver": 6444, "etcd": 6445}


def test_a_restart_keeps_the_former_port_where_it_is_free() -> None:
    former = {"apiserver": 7000, "etcd": 7001}

    assert choose_ports(WANTED, former, free=lambda port: port != 7001) == {"apiserver": 7000, "etcd": 6444}


def test_when_no_port_is_left_the_message_names_what_it_was_for() -> None:
    with pytest.raises(ClusterError, match="for apiserver"):
        choose_ports(WANTED, {}, free=lambda _: False)


def test_a_port_with_a_listener_on_any_address_is_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not bindable(port)
    assert bindable(port)


def test_networks_that_the_machine_routes_are_avoided() -> None:
    assert choose_subnets([]).pods == SUBNETS[0][0]
    assert choose_subnets(["0.0.0.0/0", "10.96.1.0/24"]).pods == SUBNETS[1][0]
    with pytest.raises(ClusterError, match="ip route"):
        choose_subnets(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])


def test_addresses_that_others_rely_on_follow_from_the_networks() -> None:
    subnets = choose_subnets([])

    assert (subnets.gateway, subnets.api_service, subnets.dns_service) == (
        "10.244.0.1",
        "10.96.0.1",
        "10.96.0.10",
    )


def test_own_routes_do_not_count_on_a_restart() -> None:
    text = """\
default via 192.0.2.1 dev eth0
10.244.0.0/16 dev mmill-1 proto kernel scope link src 10.244.0.1
10.8.0.0/24 dev tun0 proto kernel scope link src 10.8.0.2
unreachable 10.99.0.0/16
local 10.244.0.1 dev mmill-1 table local proto kernel scope host src 10.244.0.1
local 192.0.2.2 dev eth0 table local proto kernel scope host src 192.0.2.2
broadcast 192.0.2.255 dev eth0 table local proto kernel scope link src 192.0.2.2
"""
    assert routes_from(text, "mmill-1") == ["10.8.0.0/24", "10.99.0.0/16", "192.0.2.2"]
