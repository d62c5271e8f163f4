"""The evaluator of NetworkPolicies, rule by rule of the API."""

from typing import Any

import pytest

from networkpolicy import Flow, InvalidPolicyError, Pod, allowed
from networkpolicy_cases import REFUSED, TAKEN

NAMESPACES = {"shop": {"team": "a"}, "lab": {"team": "b"}}
WEB = Pod("shop", "web", ("10.0.0.1",), {"app": "web"}, frozenset({("http", 8080, "TCP")}), frozenset({"10.0.0.254"}))
DATABASE = Pod("shop", "db", ("10.0.0.2",), {"app": "db"}, frozenset({("sql", 5432, "TCP")}), frozenset({"10.0.0.254"}))
GUEST = Pod("lab", "guest", ("10.0.1.1", "fd00::1"), {"app": "web"}, frozenset({("http", 9999, "TCP")}))
OUTSIDE = "192.0.2.7"
PODS = (WEB, DATABASE, GUEST)


def policy(spec: dict[str, Any], namespace: str = "shop", name: str = "policy") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def to_database(*policies: dict[str, Any], source: Pod | str = WEB, port: int = 5432, protocol: str = "TCP") -> bool:
    address = source if isinstance(source, str) else source.ips[0]
    return bool(allowed(Flow(address, DATABASE.ips[0], port, protocol), PODS, NAMESPACES, policies))


def ingress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A policy that lets in to the database what the rules allow."""
    return policy({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": list(rules), **more})


def from_(peer: dict[str, Any]) -> dict[str, Any]:
    return ingress({"from": [peer]})


def on(**port: Any) -> dict[str, Any]:
    return ingress({"ports": [port]})


def test_without_policies_everybody_talks_to_everybody() -> None:
    assert to_database()
    assert to_database(source=OUTSIDE)


def test_a_policy_isolates_the_pods_that_it_selects_and_no_others() -> None:
    assert not to_database(ingress())
    assert not to_database(policy({"podSelector": {}}))
    assert to_database(policy({"podSelector": {"matchLabels": {"app": "web"}}}))


def test_a_policy_is_of_its_namespace() -> None:
    assert to_database(policy({"podSelector": {}}, "lab"))


def test_rules_add_up_over_policies() -> None:
    allows = from_({"podSelector": {"matchLabels": {"app": "web"}}})
    assert to_database(ingress(), allows)
    assert to_database(allows, ingress())


def test_an_empty_rule_allows_everything_and_no_rule_nothing() -> None:
    assert to_database(ingress({}), source=OUTSIDE)
    assert to_database(ingress({"from": [], "ports": []}), source=OUTSIDE)
    assert not to_database(ingress(), source=OUTSIDE)


def test_peers_and_ports_of_one_rule_must_both_match() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}
    assert to_database(ingress(rule))
    assert not to_database(ingress(rule), port=5433)
    assert not to_database(ingress(rule), source=OUTSIDE)


def test_both_ends_must_allow() -> None:
    out = policy({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]})
    to = {"podSelector": {"matchLabels": {"app": "db"}}}
    reaches = policy(
        {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [{"to": [to]}]}
    )
    assert not to_database(out)
    assert to_database(out, reaches)
    assert not to_database(reaches, ingress())
    assert to_database(reaches, ingress({}))


def test_policy_types_follow_the_rules_where_they_are_not_said() -> None:
    """Ingress always; egress where there is a rule of it."""
    web = {"podSelector": {"matchLabels": {"app": "web"}}}
    assert to_database(policy(web))
    assert to_database(policy({**web, "egress": []}))
    assert not to_database(policy({**web, "egress": [{"ports": [{"port": 1}]}]}))
    database = {"podSelector": {"matchLabels": {"app": "db"}}}
    assert not to_database(policy({**database, "egress": [{}]}))
    assert to_database(policy({**database, "policyTypes": ["Egress"]}))


def test_rules_of_a_direction_that_is_no_policy_type_mean_nothing() -> None:
    assert not to_database(ingress(), ingress({}, policyTypes=["Egress"]))


def test_a_pod_selector_means_the_policys_own_namespace() -> None:
    web = from_({"podSelector": {"matchLabels": {"app": "web"}}})
    assert to_database(web)
    assert not to_database(web, source=GUEST)


def test_a_namespace_selector_means_every_pod_there() -> None:
    lab = from_({"namespaceSelector": {"matchLabels": {"team": "b"}}})
    assert to_database(lab, source=GUEST)
    assert not to_database(lab, source=WEB)
    assert to_database(from_({"namespaceSelector": {}}), source=GUEST)
    assert not to_database(from_({"namespaceSelector": {}}), source=OUTSIDE)
    named = {"matchLabels": {"kubernetes.io/metadata.name": "lab"}}
    assert to_database(from_({"namespaceSelector": named}), source=GUEST)


def test_both_selectors_in_one_peer_are_an_and_and_two_peers_an_or() -> None:
    pods, namespaces = {"matchLabels": {"app": "db"}}, {"matchLabels": {"team": "b"}}
    assert not to_database(from_({"podSelector": pods, "namespaceSelector": namespaces}), source=GUEST)
    assert to_database(ingress({"from": [{"podSelector": pods}, {"namespaceSelector": namespaces}]}), source=GUEST)
    web = {"matchLabels": {"app": "web"}}
    assert to_database(from_({"podSelector": web, "namespaceSelector": namespaces}), source=GUEST)


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "app", "operator": "In", "values": ["api", "web"]}, True),
        ({"key": "app", "operator": "In", "values": ["api"]}, False),
        ({"key": "other", "operator": "In", "values": ["web"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["web"]}, False),
        ({"key": "other", "operator": "NotIn", "values": ["web"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "app", "operator": "DoesNotExist"}, False),
        ({"key": "other", "operator": "DoesNotExist"}, True),
    ],
)
def test_expressions(expression: dict[str, Any], selected: bool) -> None:
    assert to_database(from_({"podSelector": {"matchExpressions": [expression]}})) == selected
    also = {"matchLabels": {"app": "nobody"}, "matchExpressions": [expression]}
    assert not to_database(from_({"podSelector": also}))


def test_a_block_is_of_addresses_less_its_exceptions() -> None:
    block = {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}
    assert to_database(from_({"ipBlock": block}), source=OUTSIDE)
    assert not to_database(from_({"ipBlock": block}), source="192.0.2.200")
    assert not to_database(from_({"ipBlock": block}), source="198.51.100.1")
    assert to_database(from_({"ipBlock": {"cidr": "10.0.0.0/24"}}), source=WEB)
    assert not to_database(from_({"ipBlock": {"cidr": "::/0"}}), source=OUTSIDE)


def test_a_port_is_of_a_protocol_which_is_tcp_unless_said() -> None:
    assert to_database(on(port=5432))
    assert not to_database(on(port=5432), protocol="UDP")
    assert to_database(on(port=5432, protocol="UDP"), protocol="UDP")
    assert to_database(on(protocol="UDP"), protocol="UDP", port=1)
    assert not to_database(on(protocol="UDP"))


def test_a_range_of_ports_has_both_its_ends() -> None:
    for port, inside in ((99, False), (100, True), (150, True), (200, True), (201, False)):
        assert to_database(on(port=100, endPort=200), port=port) == inside


def test_a_named_port_is_looked_up_in_the_pod_that_is_talked_to() -> None:
    assert to_database(on(port="sql"))
    assert not to_database(on(port="sql"), port=5433)
    assert not to_database(on(port="sql", protocol="UDP"), protocol="UDP")
    assert not to_database(on(port="http"), port=8080)
    out = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]}
    for number, reaches in ((9999, True), (8080, False)):
        flow = Flow(WEB.ips[0], GUEST.ips[0], number)
        assert bool(allowed(flow, PODS, NAMESPACES, [policy(out)])) == reaches
    assert not allowed(Flow(WEB.ips[0], OUTSIDE, 8080), PODS, NAMESPACES, [policy(out)])


def test_a_pod_talks_to_itself_and_is_reached_from_its_own_node_only() -> None:
    deny = policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    assert to_database(deny, source=DATABASE)
    assert to_database(deny, source="10.0.0.254")
    assert not to_database(deny, source="10.0.1.254")
    assert not allowed(Flow(DATABASE.ips[0], "10.0.0.254", 6443), PODS, NAMESPACES, [deny])


def test_pods_in_the_nodes_network_are_no_pods_to_a_policy() -> None:
    agent = Pod("shop", "agent", ("10.0.0.253",), {"app": "web"}, host_network=True)
    web, deny = from_({"podSelector": {"matchLabels": {"app": "web"}}}), policy({"podSelector": {}})
    assert not allowed(Flow("10.0.0.253", DATABASE.ips[0], 5432), (*PODS, agent), NAMESPACES, [web])
    assert allowed(Flow(WEB.ips[0], "10.0.0.253", 1), (*PODS, agent), NAMESPACES, [deny])


def test_each_address_of_a_pod_is_the_pods() -> None:
    deny = policy({"podSelector": {}, "policyTypes": ["Egress"]}, "lab")
    assert not allowed(Flow("fd00::1", "fd00::2", 80), PODS, NAMESPACES, [deny])


def test_a_verdict_has_its_reasons() -> None:
    verdict = allowed(Flow(WEB.ips[0], DATABASE.ips[0], 1), PODS, NAMESPACES, [ingress()])
    assert verdict.reasons[0] == "Egress: shop/web is not isolated"
    assert "Ingress: shop/db is isolated by policy" in verdict.reasons[1]


def test_what_cannot_be_told_apart_is_an_error() -> None:
    twin = Pod("shop", "twin", WEB.ips)
    with pytest.raises(ValueError, match="both have"):
        allowed(Flow(WEB.ips[0], OUTSIDE, 1), (*PODS, twin), NAMESPACES, [])
    with pytest.raises(ValueError, match="ICMP"):
        to_database(protocol="ICMP")
    with pytest.raises(InvalidPolicyError, match="no namespace"):
        to_database(policy({"podSelector": {}}, namespace=""))


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN)
def test_what_the_api_server_takes_is_understood(spec: dict[str, Any]) -> None:
    to_database(policy(spec))


@pytest.mark.parametrize("spec", REFUSED.values(), ids=REFUSED)
def test_what_the_api_server_refuses_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicyError):
        to_database(policy(spec))


def test_a_pod_is_read_from_its_manifest() -> None:
    manifest = {
        "metadata": {"namespace": "shop", "name": "web", "labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 1}]}]
        },
        "status": {"podIPs": [{"ip": "10.0.0.1"}], "hostIPs": [{"ip": "10.0.0.253"}]},
    }
    assert Pod.of(manifest, ["10.0.0.254"]) == Pod(
        "shop", "web", ("10.0.0.1",), {"app": "web"}, WEB.ports, frozenset({"10.0.0.253", "10.0.0.254"})
    )
