"""Exposed: one HTTPRoute that no rollout changes, and what the Gateway says of it."""

from typing import Any

import pytest
from rolling_out import begun
from scaling_world import KIND, NAME, Scaled, served
from world import with_version

from modelmill.core import exposure
from modelmill.core.plan import Create

ROUTE = "HTTPRoute"
GATEWAY = {"name": "public", "namespace": "infra", "sectionName": "https"}
EXPOSE = {"gateway": GATEWAY, "hostnames": ["*.example.org", "triage.example.org"]}
INSIDE = "http://triage.team-a.svc"


def told(
    world: Scaled, *, parent: dict[str, str] | None = None, generation: int | None = None, **conditions: str
) -> None:
    """The Gateway says this of the route: status and reason by condition."""
    live = world.get(ROUTE, NAME)
    of = live["metadata"]["generation"] if generation is None else generation
    found = []
    for type_, said in conditions.items():
        status, reason = said.split()
        found.append({"type": type_, "status": status, "reason": reason, "message": "m", "observedGeneration": of})
    status = {"parents": [{"parentRef": GATEWAY if parent is None else parent, "conditions": found}]}
    world.store(ROUTE, NAME, {**live, "status": status})
    world.step()


def test_one_route_leads_to_the_service_and_grpc_calls_to_its_grpc_port() -> None:
    world = served(expose=EXPOSE)
    spec = world.get(ROUTE, NAME)["spec"]
    assert spec["parentRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", **GATEWAY}]
    assert spec["hostnames"] == EXPOSE["hostnames"]
    assert [(r["matches"][0]["path"]["value"], r["backendRefs"][0]["port"]) for r in spec["rules"]] == [
        ("/inference.GRPCInferenceService", 8081),
        ("/", 80),
    ]
    assert {r["backendRefs"][0]["name"] for r in spec["rules"]} == {NAME}
    assert world.said("Exposed") == ("Unknown", "WaitingForGateway")
    assert world.status["url"] == INSIDE
    assert world.condition(KIND, NAME, "Ready")[0] == "True"


def test_once_the_gateway_takes_it_the_url_is_the_public_one() -> None:
    world = served(expose=EXPOSE)
    told(world, Accepted="True Accepted", ResolvedRefs="True ResolvedRefs")
    assert world.said("Exposed") == ("True", "Accepted")
    assert world.status["url"] == "https://triage.example.org"
    world.declares(expose={**EXPOSE, "scheme": "HTTP"})
    assert world.status["url"] == "http://triage.example.org"


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"Accepted": "False NotAllowedByListeners"}, ("False", "NotAllowedByListeners")),
        ({"Accepted": "Unknown Pending"}, ("Unknown", "Pending")),
        ({"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"}, ("False", "BackendNotFound")),
        ({"Accepted": "True Accepted"}, ("Unknown", "WaitingForGateway")),
    ],
)
def test_what_the_gateway_says_is_said(conditions: dict[str, str], said: tuple[str, str]) -> None:
    world = served(expose=EXPOSE)
    told(world, **conditions)
    assert world.said("Exposed") == said
    assert world.status["url"] == INSIDE


def test_another_gateway_and_an_older_route_do_not_count() -> None:
    world = served(expose=EXPOSE)
    accepted = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
    told(world, parent={**GATEWAY, "name": "another"}, **accepted)
    assert world.said("Exposed") == ("Unknown", "WaitingForGateway")
    told(world, parent={"name": "public", "namespace": "infra"}, **accepted)  # all listeners, and not the one
    assert world.said("Exposed") == ("Unknown", "WaitingForGateway")
    told(world, generation=0, **accepted)
    assert world.said("Exposed") == ("Unknown", "WaitingForGateway")


def test_a_gateway_in_the_same_namespace_need_not_say_so() -> None:
    world = served(expose={"gateway": {"name": "own"}, "hostnames": ["a.example.org"]})
    told(world, parent={"name": "own"}, Accepted="True Accepted", ResolvedRefs="True ResolvedRefs")
    assert world.said("Exposed") == ("True", "Accepted")


def test_the_gateways_pods_may_call_it() -> None:
    world = served(expose=EXPOSE, access={"namespaces": ["shop"]})

    def callers() -> list[Any]:
        (policy,) = [
            m for (kind, name), m in world.objects.items() if (kind, name) == ("NetworkPolicy", "triage-access")
        ]
        return [
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for peer in policy["spec"]["ingress"][0]["from"]
            if "namespaceSelector" in peer
        ]

    assert callers() == ["infra", "shop"]
    world.declares(expose=None)
    assert callers() == ["shop"]


def test_the_route_goes_with_expose() -> None:
    world = served(expose=EXPOSE)
    told(world, Accepted="True Accepted", ResolvedRefs="True ResolvedRefs")
    world.declares(expose=None)
    assert not world.has(ROUTE, NAME)
    assert world.said("Exposed") is None
    assert world.status["url"] == INSIDE


def test_it_is_written_down_before_it_is_made() -> None:
    """Who is killed in between finds it again, when nobody wants it any more."""
    world = served()
    world.put(KIND, NAME, spec={**world.get(KIND, NAME)["spec"], "expose": EXPOSE})
    assert not [w for w in world.plan(KIND, NAME).writes if isinstance(w, Create) and w.manifest["kind"] == ROUTE]
    world.step()
    assert world.has(ROUTE, NAME)


def test_whoever_edits_or_deletes_it_gets_it_back() -> None:
    world = served(expose=EXPOSE)
    live = world.get(ROUTE, NAME)
    world.store(ROUTE, NAME, {**live, "spec": {**live["spec"], "hostnames": ["evil.example.org"]}})
    world.step()
    assert world.get(ROUTE, NAME)["spec"] == live["spec"]
    world.remove(ROUTE, NAME)
    world.step()
    assert world.has(ROUTE, NAME)


def test_somebody_elses_route_of_that_name_stays() -> None:
    world = served()
    world.put(ROUTE, NAME, spec={"hostnames": ["shop.example.org"]})
    world.declares(expose=EXPOSE)
    assert world.said("Exposed") == ("False", "NameConflict")
    assert world.get(ROUTE, NAME)["spec"] == {"hostnames": ["shop.example.org"]}
    assert world.condition(KIND, NAME, "Ready")[0] == "True"


def test_without_the_gateway_api_it_says_so_and_looks_again() -> None:
    world = served()
    world.absent = {ROUTE: "the API server does not know httproutes.gateway.networking.k8s.io"}
    world.declares(expose=EXPOSE)
    assert world.said("Exposed") == ("False", "GatewayAPIMissing")
    assert world.condition(KIND, NAME, "Ready")[0] == "True"
    plan = world.plan(KIND, NAME)
    assert (plan.writes, plan.requeue_after) == ((), exposure.LOOK_AGAIN)
    world.absent = {}
    world.step(30)
    assert world.has(ROUTE, NAME)


def test_no_rollout_changes_it() -> None:
    world = begun()
    live = world.get(KIND, NAME)
    world.put(KIND, NAME, spec={**live["spec"], "expose": EXPOSE})
    world.step()
    assert world.candidate["step"] == 1  # and it is no change of what is rolled out
    before = world.get(ROUTE, NAME)
    with_version(world, 3)
    for _ in range(5):
        world.step(6)
    assert world.get(ROUTE, NAME) == before


def test_who_has_neither_depends_on_neither() -> None:
    world = served()
    kinds = {key.kind for key in world.observed(KIND, NAME).related}
    assert not kinds & {ROUTE, "HorizontalPodAutoscaler"}
    assert not {c["type"] for c in world.status["conditions"]} & {"Exposed", "ScalingActive"}
