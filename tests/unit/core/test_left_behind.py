"""What was made unseen, and is not wanted any more: the status forgets it only once it is gone."""

from typing import Any

import pytest
from scaling_world import KIND, NAME, served

from modelmill.core.plan import SetStatus

HPA, ROUTE = "HorizontalPodAutoscaler", "HTTPRoute"
BY_CPU = {"autoscaling": {"min": 2, "max": 10, "cpuPercent": 70}}
BY_REQUESTS = {"autoscaling": {"min": 2, "max": 10, "requestsPerSecond": 100}}
EXPOSED = {"expose": {"gateway": {"name": "public"}, "hostnames": ["triage.example.org"]}}


@pytest.mark.parametrize(
    ("kind", "declared", "then", "said"),
    [
        (HPA, BY_CPU, {"replicas": 2}, "ScalingActive"),
        (HPA, BY_CPU, BY_REQUESTS, "ScalingActive"),
        (ROUTE, EXPOSED, {"replicas": 2}, "Exposed"),
    ],
)
def test_a_child_whose_creation_was_never_answered_goes_with_its_field(
    kind: str, declared: dict[str, Any], then: dict[str, Any], said: str
) -> None:
    world = served(**declared)
    made = world.objects.pop((kind, NAME))  # no watch has shown it
    world.put(KIND, NAME, spec={"model": {"name": NAME}, "replicas": 2, **then})
    (status,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
    world.objects[kind, NAME] = made
    with pytest.raises(AssertionError, match=f"{kind} {NAME} is gone"):
        world.carry_out(KIND, NAME, status)
    world.step()
    assert not world.has(kind, NAME)
    assert said not in {c["type"] for c in world.status["conditions"]} or world.said(said) == (
        "Unknown",
        "NotCountedYet",
    )


def test_who_forgets_nothing_asks_for_nothing() -> None:
    for declared in (BY_CPU, BY_REQUESTS, EXPOSED, {}):
        world = served(**declared)
        world.get(KIND, NAME)["status"].pop("url")
        (status,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
        assert status.guards == ()
