"""Specs of NetworkPolicies that the API server takes and that it refuses: the evaluator must agree with it."""

from typing import Any

TAKEN: dict[str, dict[str, Any]] = {
    "nothing but a selector": {"podSelector": {}},
    "no selector": {"policyTypes": ["Egress"]},
    "everything": {"podSelector": {}, "ingress": [{}]},
    "empty lists": {"podSelector": {}, "ingress": [{"from": [], "ports": []}], "egress": []},
    "a range": {"podSelector": {}, "ingress": [{"ports": [{"port": 1, "endPort": 65535, "protocol": "SCTP"}]}]},
    "a protocol": {"podSelector": {}, "ingress": [{"ports": [{"protocol": "UDP"}]}]},
    "both selectors": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]},
    "a block": {
        "podSelector": {},
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}],
    },
    "expressions": {
        "podSelector": {
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x"]},
                {"key": "a", "operator": "NotIn", "values": ["y"]},
                {"key": "a", "operator": "Exists"},
                {"key": "b", "operator": "DoesNotExist"},
            ]
        }
    },
}


def _port(**port: Any) -> dict[str, Any]:
    return {"podSelector": {}, "ingress": [{"ports": [port]}]}


def _peer(**peer: Any) -> dict[str, Any]:
    return {"podSelector": {}, "ingress": [{"from": [peer]}]}


def _expression(**expression: Any) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": [{"key": "a", **expression}]}}


REFUSED: dict[str, dict[str, Any]] = {
    "an unknown field": {"podSelector": {}, "deny": []},
    "an unknown type": {"podSelector": {}, "policyTypes": ["Both"]},
    "to in an ingress rule": {"podSelector": {}, "ingress": [{"to": [{"podSelector": {}}]}]},
    "an empty peer": _peer(),
    "a block beside a selector": _peer(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}),
    "no network": _peer(ipBlock={"cidr": "everywhere"}),
    "an exception outside": _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}),
    "an exception as large": _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
    "an exception of the other family": _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}),
    "a protocol of its own": _port(protocol="ICMP"),
    "port zero": _port(port=0),
    "a port too high": _port(port=65536),
    "a range without a port": _port(endPort=80),
    "a range from a name": _port(port="http", endPort=80),
    "a range backwards": _port(port=80, endPort=79),
    "In without values": _expression(operator="In"),
    "Exists with values": _expression(operator="Exists", values=["x"]),
    "an unknown operator": _expression(operator="Is", values=["x"]),
}
