"""What NetworkPolicies allow: an evaluator of networking.k8s.io/v1, for flows that were seen or that must not be.

It follows the API's own words and refuses what the API server would refuse, rather than guess.

- A pod is isolated in a direction when a policy of its namespace selects it and has that direction among its policy
  types.  A pod that is not isolated may talk, or be talked to, freely.
- What policies allow adds up; the order does not matter, and nothing can be denied again.
- A flow from pod to pod needs both: the egress of the one and the ingress of the other.
- A pod may always talk to itself, and be reached from its own node.  That it may always reach its node is what most
  network plugins do and not what the API says: here it needs a rule.
- Pods in the node's network are no pods to a policy, neither as its own nor as a peer.  (The API leaves that open.)
- Replies to a flow that is allowed are allowed.

A flow is what arrives: a Service's address is translated before policies are asked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Manifest = Mapping[str, Any]

PROTOCOLS = ("TCP", "UDP", "SCTP")


class InvalidPolicyError(ValueError):
    """A policy that the API server would not take, or that means nothing."""


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it.

    `ports` are the named ones of its containers as (name, number, protocol); `node_ips` every address from which its
    node talks to it, that of a bridge included.
    """

    namespace: str
    name: str
    ips: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[tuple[str, int, str]] = frozenset()
    node_ips: frozenset[str] = frozenset()
    host_network: bool = False

    @classmethod
    def of(cls, manifest: Manifest, node_ips: Iterable[str] = ()) -> "Pod":
        """From a manifest that may have its address; `node_ips` next to those in its status."""
        metadata, spec, status = manifest["metadata"], manifest["spec"], manifest.get("status", {})
        # Init containers that go on running (sidecars) have ports too.
        containers = [*spec["containers"], *spec.get("initContainers", ())]
        return cls(
            metadata["namespace"],
            metadata["name"],
            tuple(entry["ip"] for entry in status.get("podIPs", ())),
            metadata.get("labels", {}),
            frozenset(
                (port["name"], port["containerPort"], port.get("protocol", "TCP"))
                for container in containers
                for port in container.get("ports", ())
                if "name" in port
            ),
            frozenset(node_ips) | {entry["ip"] for entry in status.get("hostIPs", ())},
            spec.get("hostNetwork", False),
        )


@dataclass(frozen=True)
class Flow:
    """The first packet of a connection, after the translation of a Service's address."""

    source: str  # IP address
    destination: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Verdict:
    """Whether a flow is allowed, and why, in words."""

    allowed: bool
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.allowed


def allowed(
    flow: Flow, pods: Iterable[Pod], namespaces: Mapping[str, Mapping[str, str]], policies: Iterable[Manifest]
) -> Verdict:
    """Whether the policies let the flow through.

    `pods` are those that had an address at the time; `namespaces`: name -> labels, of every pod's namespace.
    InvalidPolicyError where a policy cannot be understood, even one that selects no pod here.
    """
    if flow.protocol not in PROTOCOLS:
        raise ValueError(f"protocol {flow.protocol} is none of {', '.join(PROTOCOLS)}")
    found = [_Policy(policy) for policy in policies]
    # Addresses of the node's network are shared, and policies do not select by them.
    by_ip = _by_ip(pod for pod in pods if not pod.host_network)
    source, destination = by_ip.get(ip_address(flow.source)), by_ip.get(ip_address(flow.destination))
    if source is not None and source == destination:
        return Verdict(True, ("a pod may talk to itself",))
    world = _World(flow, destination, {name: _with_name(name, labels) for name, labels in namespaces.items()})
    verdicts = [
        _one_end(world, "Egress", source, destination, flow.destination, found),
        _one_end(world, "Ingress", destination, source, flow.source, found),
    ]
    return Verdict(all(v.allowed for v in verdicts), tuple(reason for v in verdicts for reason in v.reasons))


def _by_ip(pods: Iterable[Pod]) -> dict[Any, Pod]:
    found: dict[Any, Pod] = {}
    for pod in pods:
        for address in map(ip_address, pod.ips):
            other = found.setdefault(address, pod)
            if other != pod:
                raise ValueError(f"pods {other.name} and {pod.name} both have {address}: leave out the one that ended")
    return found


def _with_name(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The API server gives every namespace its name as a label."""
    return {**labels, "kubernetes.io/metadata.name": name}


@dataclass(frozen=True)
class _World:
    flow: Flow
    destination: Pod | None
    namespaces: Mapping[str, Mapping[str, str]]


def _one_end(
    world: _World, direction: str, pod: Pod | None, peer: Pod | None, peer_ip: str, policies: list["_Policy"]
) -> Verdict:
    """What the policies of one end of the flow say; `peer` is the other end."""
    if pod is None:
        return Verdict(True, (f"{direction}: this end is no pod that policies select",))
    if direction == "Ingress" and ip_address(peer_ip) in map(ip_address, pod.node_ips):
        return Verdict(True, (f"{direction}: {pod.name} may be reached from its own node",))
    isolating = [p for p in policies if p.selects(pod) and direction in p.types]
    who = f"{direction}: {pod.namespace}/{pod.name}"
    if not isolating:
        return Verdict(True, (f"{who} is not isolated",))
    for policy in isolating:
        for rule in policy.rules(direction):
            if _peer_matches(world, rule[policy.peers(direction)], policy.namespace, peer, peer_ip) and _port_matches(
                world, rule["ports"]
            ):
                return Verdict(True, (f"{who} is allowed by {policy.name}",))
    names = ", ".join(policy.name for policy in isolating)
    return Verdict(False, (f"{who} is isolated by {names}, and no rule allows {world.flow}",))


def _peer_matches(world: _World, peers: list[Manifest], namespace: str, pod: Pod | None, ip: str) -> bool:
    return not peers or any(_is_peer(world, peer, namespace, pod, ip) for peer in peers)


def _is_peer(world: _World, peer: Manifest, namespace: str, pod: Pod | None, ip: str) -> bool:
    if "ipBlock" in peer:
        return _in_block(ip, peer["ipBlock"])
    if pod is None:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], world.namespaces[pod.namespace]):
            return False
    elif pod.namespace != namespace:
        return False
    return "podSelector" not in peer or matches(peer["podSelector"], pod.labels)


def _in_block(ip: str, block: Manifest) -> bool:
    address = ip_address(ip)
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(excepted) for excepted in block.get("except") or ()
    )


def _port_matches(world: _World, ports: list[Manifest]) -> bool:
    return not ports or any(_is_port(world, port) for port in ports)


def _is_port(world: _World, port: Manifest) -> bool:
    flow = world.flow
    if port.get("protocol", "TCP") != flow.protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        # A name is looked up in the pod that is talked to, and stands for one protocol there.
        return world.destination is not None and (wanted, flow.port, flow.protocol) in world.destination.ports
    return bool(wanted <= flow.port <= port.get("endPort", wanted))


def matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything."""
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Manifest, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":  # also where there is no such label
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:  # DoesNotExist: the selectors were checked
            return key not in labels


class _Policy:
    """One NetworkPolicy, checked."""

    def __init__(self, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        self.name, self.namespace = metadata["name"], metadata.get("namespace")
        if not self.namespace:
            self._refuse("it has no namespace: render it as it is applied")
        if (manifest.get("apiVersion"), manifest.get("kind")) != ("networking.k8s.io/v1", "NetworkPolicy"):
            self._refuse("it is not a networking.k8s.io/v1 NetworkPolicy")
        spec = manifest["spec"]
        self._known(spec, "spec", "podSelector", "policyTypes", "ingress", "egress")
        self._selector = spec.get("podSelector") or {}
        self._check_selector(self._selector)
        # Ingress always, Egress where there is any rule of it.
        self.types = tuple(spec.get("policyTypes") or ("Ingress", *(("Egress",) if spec.get("egress") else ())))
        if not set(self.types) <= {"Ingress", "Egress"}:
            self._refuse(f"policyTypes {self.types}")
        self._rules = {
            direction: [self._rule(rule, self.peers(direction)) for rule in spec.get(direction.lower()) or ()]
            for direction in ("Ingress", "Egress")
        }

    @staticmethod
    def peers(direction: str) -> str:
        """How a rule of this direction calls its peers."""
        return "from" if direction == "Ingress" else "to"

    def selects(self, pod: Pod) -> bool:
        return pod.namespace == self.namespace and not pod.host_network and matches(self._selector, pod.labels)

    def rules(self, direction: str) -> list[dict[str, list[Manifest]]]:
        return self._rules[direction]

    def _rule(self, rule: Manifest, peers: str) -> dict[str, list[Manifest]]:
        self._known(rule, "a rule", peers, "ports")
        checked = {peers: list(rule.get(peers) or ()), "ports": list(rule.get("ports") or ())}
        for peer in checked[peers]:
            self._check_peer(peer)
        for port in checked["ports"]:
            self._check_port(port)
        return checked

    def _check_peer(self, peer: Manifest) -> None:
        self._known(peer, "a peer", "podSelector", "namespaceSelector", "ipBlock")
        if not peer:
            self._refuse("a peer is empty")
        if "ipBlock" in peer:
            if len(peer) > 1:
                self._refuse("ipBlock stands beside a selector")
            self._check_block(peer["ipBlock"])
        for key in ("podSelector", "namespaceSelector"):
            if key in peer:
                self._check_selector(peer[key])

    def _check_block(self, block: Manifest) -> None:
        self._known(block, "ipBlock", "cidr", "except")
        try:
            outer = ip_network(block["cidr"])
            inner = [ip_network(excepted) for excepted in block.get("except") or ()]
        except ValueError as error:
            self._refuse(str(error))
        for network in inner:
            if network.version != outer.version or not (
                network.network_address in outer and network.prefixlen > outer.prefixlen
            ):
                self._refuse(f"except {network} is not inside of {outer}")

    def _check_port(self, port: Manifest) -> None:
        self._known(port, "a port", "protocol", "port", "endPort")
        if port.get("protocol", "TCP") not in PROTOCOLS:
            self._refuse(f"protocol {port['protocol']}")
        number = port.get("port")
        if isinstance(number, int) and not 1 <= number <= 65535:
            self._refuse(f"port {number}")
        if "endPort" in port and not (isinstance(number, int) and number <= port["endPort"] <= 65535):
            self._refuse("endPort needs a port that is a number and not greater")

    def _check_selector(self, selector: Manifest) -> None:
        self._known(selector, "a selector", "matchLabels", "matchExpressions")
        for expression in selector.get("matchExpressions") or ():
            self._known(expression, "an expression", "key", "operator", "values")
            operator, values = expression.get("operator"), expression.get("values")
            if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
                self._refuse(f"operator {operator}")
            if (operator in ("In", "NotIn")) != bool(values):
                self._refuse(f"{operator} with values {values}")

    def _known(self, node: Manifest, where: str, *keys: str) -> None:
        unknown = set(node) - set(keys)
        if unknown:
            self._refuse(f"{where} has {', '.join(sorted(unknown))}")

    def _refuse(self, why: str) -> None:
        raise InvalidPolicyError(f"NetworkPolicy {self.name}: {why}")
