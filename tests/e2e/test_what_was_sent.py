"""Every connection that the tests before this one caused is one that the NetworkPolicies allow.

The local cluster's network enforces none of them, so that what they would have kept out was sent all the same.
"""

import time
from collections import Counter

from flows import Recorder

from live import Kubectl, eventually

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
    refused = Counter(
        (*recorder.ends(seen), seen.flow.port, seen.flow.protocol, "; ".join(verdict.reasons))
        for seen in recorder.seen
        if not (verdict := recorder.verdict(seen, BRIDGE))
    )
    assert not refused, "\n".join(f"{count} x {what}" for what, count in refused.most_common())
    for flow in (
        ("a pod of ours", "dns"),
        ("a pod of ours", "store"),
        ("an address", "a pod of ours"),  # probes
        ("an address", "modelmill-operator"),
    ):
        assert met[flow] > 0, met
