"""Connections are seen: else none would be found that the NetworkPolicies do not allow (conftest asks for those, at the
end of all tests)."""

from collections import Counter

import pytest
from flows import Recorder

from live import Kubectl, eventually

pytestmark = pytest.mark.alone


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


def test_what_pods_send_is_seen(recorder: Recorder, team: Kubectl) -> None:
    # The last server that fetched its model, so that this test can be run by itself.
    team.run("rollout", "restart", "deployment", "-l", "app.kubernetes.io/name=modelmill-server")
    team.run("rollout", "status", "deployment", "-l", "app.kubernetes.io/name=modelmill-server", "--timeout=120s")
    met: Counter[tuple[str, str]] = Counter()

    def fetched() -> bool:
        met.clear()
        met.update((kind_of(a), kind_of(b)) for a, b in map(recorder.ends, recorder.seen))
        return met["a pod of ours", "store"] > 0

    eventually(fetched, "a server was seen to fetch its model")
    for flow in (
        ("a pod of ours", "dns"),
        ("a pod of ours", "store"),
        ("an address", "a pod of ours"),  # probes
        ("an address", "modelmill-operator"),
        ("modelmill-operator", "a pod of ours"),  # how far a training is
    ):
        assert met[flow] > 0, met
