"""Every connection that the tests before this one caused is one that the NetworkPolicies allow.

The local cluster's network enforces none of them, so that what they would have kept out was sent all the same.
"""

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from flows import Recorder, Seen

from live import Kubectl, eventually

# Where a cloud gives out credentials: a pod whose store has no Secret asks there, and one that has a Secret must not.
CREDENTIALS = "169.254.169.254"
BRIDGE = ("10.244.0.1",)  # a node's address on its pods' network: where the kubelet's probes come from


def kind_of(end: str) -> str:
    """What a pod is, by its name."""
    namespace, _, name = end.partition("/")
    if not name:
        return "an address"
    if namespace == "kube-system":
        return "dns"
    if name.startswith(("store-", "modelmill-operator-")):
        return name.rsplit("-", 2)[0]
    return "a pod of ours"


def where_the_api_server_is(kubectl: Kubectl) -> tuple[str, int]:
    endpoints = json.loads(kubectl.output("get", "endpointslice", "kubernetes", "-n", "default", "-o", "json"))
    return endpoints["endpoints"][0]["addresses"][0], endpoints["ports"][0]["port"]


def as_usual(seen: Seen, api_server: tuple[str, int]) -> Seen:
    """Several local clusters have their API servers on one machine, not all of them at the port that policies name."""
    if (seen.flow.destination, seen.flow.port) != api_server:
        return seen
    return replace(seen, flow=replace(seen.flow, port=6443))


def sender(recorder: Recorder, seen: Seen) -> dict[str, Any] | None:
    """The pod that opened the connection, where it was one."""
    name = recorder.ends(seen)[0]
    pods = recorder.pods_at(seen.at, seen.flow)
    return next((p for p in pods if f"{p['metadata']['namespace']}/{p['metadata']['name']}" == name), None)


def has_a_secret(pod: dict[str, Any] | None) -> bool:
    return '"secretKeyRef"' in json.dumps(pod)


def test_every_connection_is_one_that_the_policies_allow(recorder: Recorder, team: Kubectl) -> None:
    # The last snapshot and the last server that fetched its model, so that this test can be run by itself.
    team.run("rollout", "restart", "deployment", "-l", "app.kubernetes.io/name=modelmill-server")
    team.run("rollout", "status", "deployment", "-l", "app.kubernetes.io/name=modelmill-server", "--timeout=120s")
    met: Counter[tuple[str, str]] = Counter()

    def fetched() -> bool:
        met.clear()
        met.update((kind_of(a), kind_of(b)) for a, b in map(recorder.ends, recorder.seen))
        return met["a pod of ours", "store"] > 0

    eventually(fetched, "a server was seen to fetch its model")
    time.sleep(1)  # what belongs together arrives by three watches
    api_server = where_the_api_server_is(team)
    seen_at_its_usual_port = [as_usual(seen, api_server) for seen in recorder.seen]
    refused = Counter(
        (*recorder.ends(seen), seen.flow.port, seen.flow.protocol, "; ".join(verdict.reasons))
        for seen in seen_at_its_usual_port
        if not (verdict := recorder.verdict(seen, BRIDGE)) and seen.flow.destination != CREDENTIALS
    )
    assert not refused, "\n".join(f"{count} x {what}" for what, count in refused.most_common())
    # What else runs on this machine may ask there, too.
    tried = [s for s in recorder.seen if s.flow.destination == CREDENTIALS and has_a_secret(sender(recorder, s))]
    assert not any(recorder.verdict(seen, BRIDGE) for seen in tried)
    for flow in (
        ("a pod of ours", "dns"),
        ("a pod of ours", "store"),
        ("an address", "a pod of ours"),  # probes
        ("an address", "modelmill-operator"),
        ("modelmill-operator", "a pod of ours"),  # how far a training is
    ):
        assert met[flow] > 0, met
