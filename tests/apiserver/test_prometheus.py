"""An operator process that was given a Prometheus asks it for a rollout, in the name of the rollout's namespace."""

from collections.abc import Callable
from typing import Any

import kubelet
from conftest import Operator
from test_operator import deployment, with_store

import prometheus_server
from live import Kubectl

QUERIES = [
    {"name": "constant", "query": "vector(100)", "min": "90"},
    {"name": "theirs", "query": "sum(orders_total)", "min": "1"},  # other namespaces have some
]


def canary(**server: Any) -> dict[str, Any]:
    analysis = {"interval": "1s", "prometheus": QUERIES}
    steps = [{"weight": 10, "hold": "1h"}]
    rollout = {"strategy": "Canary", "steps": steps, "analysis": analysis}
    return deployment(replicas=1, rollout=rollout, server=server)


def said(kubectl: Kubectl) -> dict[str, tuple[str, str]]:
    candidate = ((kubectl.get("mdep", "triage") or {}).get("status") or {}).get("candidate") or {}
    return {query["name"]: (query["verdict"], query["reason"]) for query in candidate.get("prometheus", ())}


def test_a_rollout_asks_for_its_own_namespace(kubectl: Kubectl, operator: Callable[..., Operator]) -> None:
    wanted = {"constant": ("Promote", "InsideBound"), "theirs": ("Hold", "NoData")}
    with prometheus_server.running() as prometheus:
        operator(None, f"--prometheus-url={prometheus.url}").active()
        with_store(kubectl)
        kubectl.apply(canary())
        ready = kubectl.condition
        kubelet.serve(kubectl, "triage", lambda: ready("mdep", "triage", "Ready").get("status") == "True", "it serves")
        kubectl.apply(canary(resources={"requests": {"cpu": "110m"}}))
        kubelet.serve(kubectl, "triage", lambda: said(kubectl) == wanted, f"it says {wanted}")
        prometheus.process.kill()
        gone = dict.fromkeys(wanted, ("Hold", "Unreachable"))
        kubelet.serve(kubectl, "triage", lambda: said(kubectl) == gone, f"it says {gone}")
