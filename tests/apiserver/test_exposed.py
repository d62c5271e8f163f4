"""ModelDeployments that are exposed, with the Gateway API's own HTTPRoute; the Gateway is played."""

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import upstream_kinds
from conftest import Operator
from test_operator import deployment, with_store

from live import Kubectl, eventually

Start = Callable[..., Operator]
GATEWAY = {"name": "public", "namespace": "infra", "sectionName": "https"}
EXPOSE = {"gateway": GATEWAY, "hostnames": ["triage.example.org"]}


def told(kubectl: Kubectl, **conditions: str) -> None:
    """The Gateway's controller says this of the route: status and reason by condition."""
    route = kubectl.get("httproute", "triage")
    assert route is not None
    now, generation = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), route["metadata"]["generation"]
    found = [
        {
            "type": type_,
            "status": said.split()[0],
            "reason": said.split()[1],
            "message": f"of generation {generation}",
            "observedGeneration": generation,
            "lastTransitionTime": now,
        }
        for type_, said in conditions.items()
    ]
    parents = [{"parentRef": GATEWAY, "controllerName": "example.org/gateway", "conditions": found}]
    kubectl.patch_status("httproute", "triage", {"parents": parents})


def asked_for(operator: Operator, kind: str) -> int:
    """How many requests about that kind the operator has made, as its metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if f'kind="{kind}"' in line and "_total{" in line)


@pytest.fixture
def without_gateway_api(config: str) -> Kubectl:
    kubectl = Kubectl(config)
    upstream_kinds.remove(kubectl, "HTTPRoute")
    return kubectl


def test_it_is_exposed_once_the_gateway_api_is_installed_and_as_long_as_it_is_declared(
    without_gateway_api: Kubectl, kubectl: Kubectl, operator: Start
) -> None:
    running = operator().active()
    with_store(kubectl)
    kubectl.apply(deployment())
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")
    # Who uses no routes pays for none.
    assert asked_for(running, "Deployment") > 0
    assert asked_for(running, "HTTPRoute") == asked_for(running, "HorizontalPodAutoscaler") == 0

    kubectl.apply(deployment(expose=EXPOSE))
    condition = kubectl.wait_for("mdep", "triage", "Exposed", "False", reason="GatewayAPIMissing")
    assert "httproutes.gateway.networking.k8s.io" in condition["message"]
    assert running.ready() == (200, f"ok, active\n{_left_out(kubectl)}\n")
    kubectl.wait_for("mdep", "triage", "Ready", "False", reason="Unschedulable")  # and serves as before

    upstream_kinds.install(without_gateway_api, "HTTPRoute")
    kubectl.wait_for("mdep", "triage", "Exposed", "Unknown", reason="WaitingForGateway")
    assert running.ready() == (200, "ok, active\n")
    route = kubectl.get("httproute", "triage")
    assert route is not None
    assert route["spec"]["parentRefs"][0]["namespace"] == "infra"
    time.sleep(3)
    unchanged = kubectl.get("httproute", "triage")
    assert unchanged is not None
    assert (
        unchanged["metadata"]["resourceVersion"] == route["metadata"]["resourceVersion"]
    )  # with all that was defaulted

    told(kubectl, Accepted="False NotAllowedByListeners", ResolvedRefs="True ResolvedRefs")
    kubectl.wait_for("mdep", "triage", "Exposed", "False", reason="NotAllowedByListeners")
    told(kubectl, Accepted="True Accepted", ResolvedRefs="True ResolvedRefs")
    kubectl.wait_for("mdep", "triage", "Exposed", reason="Accepted")
    assert _url(kubectl) == "https://triage.example.org"

    # What the Gateway said of the route as it was says nothing of another one.
    kubectl.apply(deployment(expose={**EXPOSE, "hostnames": ["other.example.org"]}))
    kubectl.wait_for("mdep", "triage", "Exposed", "Unknown", reason="WaitingForGateway")
    assert _url(kubectl).endswith(".svc")
    told(kubectl, Accepted="True Accepted", ResolvedRefs="True ResolvedRefs")
    eventually(lambda: _url(kubectl) == "https://other.example.org", "the other name")
    policy = kubectl.get("networkpolicy", "triage-access")
    assert "infra" in json.dumps(policy)

    kubectl.apply(deployment())
    eventually(lambda: kubectl.get("httproute", "triage") is None, "the route is deleted")
    eventually(lambda: not kubectl.condition("mdep", "triage", "Exposed"), "nothing is said of it any more")
    assert _url(kubectl).endswith(".svc")
    assert "infra" not in json.dumps(kubectl.get("networkpolicy", "triage-access"))


def test_a_route_that_was_made_before_a_kill_is_found_and_deleted(
    config: str, kubectl: Kubectl, operator: Start
) -> None:
    upstream_kinds.install(Kubectl(config), "HTTPRoute")
    first = operator("lease-a").active()
    with_store(kubectl)
    kubectl.apply(deployment(expose=EXPOSE))
    eventually(lambda: kubectl.get("httproute", "triage"), "the route")
    first.kill()
    kubectl.apply(deployment())
    operator("lease-b").active()
    eventually(lambda: kubectl.get("httproute", "triage") is None, "the route is deleted")


def _left_out(kubectl: Kubectl) -> str:
    name = "httproutes.gateway.networking.k8s.io"
    return f"httproutes in {kubectl.namespace}: the API server does not know {name}: install or update the CRDs"


def _url(kubectl: Kubectl) -> str:
    found: dict[str, Any] = kubectl.get("mdep", "triage") or {}
    return str(found["status"]["url"])
