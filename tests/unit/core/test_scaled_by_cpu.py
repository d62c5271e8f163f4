"""Scaled by CPU: a HorizontalPodAutoscaler writes the scale subresource, beginning with the pods that there are."""

from typing import Any

from scaling_world import KIND, NAME, Scaled, served

HPA = "HorizontalPodAutoscaler"
BY_CPU = {"min": 2, "max": 10, "cpuPercent": 70}


def spec_of(world: Scaled) -> dict[str, Any]:
    return dict(world.get(HPA, NAME)["spec"])


def says(world: Scaled, *conditions: tuple[str, str, str]) -> None:
    live = world.get(HPA, NAME)
    told = [{"type": type_, "status": status, "reason": reason, "message": "m"} for type_, status, reason in conditions]
    world.store(HPA, NAME, {**live, "status": {"conditions": told}})
    world.step()


def test_an_autoscaler_is_made_that_reads_all_pods_and_writes_the_scale() -> None:
    world = served(autoscaling={**BY_CPU, "scaleDownAfter": "90s"})
    assert spec_of(world) == {
        "scaleTargetRef": {"apiVersion": "modelmill.dev/v1alpha1", "kind": KIND, "name": NAME},
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 90}},
    }
    assert world.wanted() == 2
    assert world.status["selector"] == f"modelmill.dev/modeldeployment={NAME}"


def test_it_is_written_down_before_it_is_made() -> None:
    """Who is killed in between finds it again, when nobody wants it any more."""
    world = served(3)
    world.put(KIND, NAME, spec={**world.get(KIND, NAME)["spec"], "autoscaling": BY_CPU})
    (written,) = world.plan(KIND, NAME).writes
    assert written.status["autoscaling"]["replicas"] == 3
    world.step()
    assert world.has(HPA, NAME)


def test_it_first_holds_what_runs_and_may_go_lower_once_it_has_said_so() -> None:
    world = served(6)
    world.declares(replicas=1, autoscaling=BY_CPU)
    assert (world.wanted(), spec_of(world)["minReplicas"]) == (6, 6)
    world.step(600)
    assert (world.wanted(), spec_of(world)["minReplicas"]) == (6, 6)
    world.declares(replicas=6)  # it does
    assert (world.wanted(), spec_of(world)["minReplicas"]) == (6, 2)
    world.declares(replicas=3)
    assert world.wanted() == 3
    assert world.status["autoscaling"]["replicas"] == 3


def test_what_it_says_of_itself_is_said() -> None:
    world = served(autoscaling=BY_CPU)
    assert world.said("ScalingActive") == ("Unknown", "WaitingForAutoscaler")
    says(world, ("AbleToScale", "True", "SucceededGetScale"), ("ScalingActive", "False", "FailedGetResourceMetric"))
    assert world.said("ScalingActive") == ("False", "FailedGetResourceMetric")
    says(world, ("AbleToScale", "False", "FailedUpdateScale"), ("ScalingActive", "True", "ValidMetricFound"))
    assert world.said("ScalingActive") == ("False", "FailedUpdateScale")
    says(world, ("AbleToScale", "True", "ReadyForNewScale"), ("ScalingActive", "True", "ValidMetricFound"))
    assert world.said("ScalingActive") == ("True", "ValidMetricFound")
    assert world.condition(KIND, NAME, "Ready")[0] == "True"


def test_it_goes_with_autoscaling_and_with_another_measure() -> None:
    for after in (None, {"min": 2, "max": 10, "requestsPerSecond": 10}):
        world = served(autoscaling=BY_CPU)
        world.declares(autoscaling=after)
        assert not world.has(HPA, NAME)
        assert world.wanted() == 2
    world.declares(autoscaling=BY_CPU)
    assert world.has(HPA, NAME)


def test_whoever_deletes_or_edits_it_gets_it_back_with_what_runs() -> None:
    world = served(autoscaling=BY_CPU)
    world.declares(replicas=7)
    world.available()
    world.remove(HPA, NAME)
    world.step()
    assert world.wanted() == 7
    live = world.get(HPA, NAME)
    world.store(HPA, NAME, {**live, "spec": {**live["spec"], "maxReplicas": 99}})
    world.step()
    assert spec_of(world)["maxReplicas"] == 10


def test_what_the_api_server_adds_to_it_is_left_as_it_is() -> None:
    world = served(autoscaling=BY_CPU)
    live = world.get(HPA, NAME)
    down = {**live["spec"]["behavior"]["scaleDown"], "selectPolicy": "Max", "policies": [{"type": "Percent"}]}
    world.store(HPA, NAME, {**live, "spec": {**live["spec"], "behavior": {"scaleDown": down, "scaleUp": {}}}})
    assert not world.plan(KIND, NAME).writes


def test_zero_replicas_leave_it_there_and_nothing_serves() -> None:
    world = served(autoscaling=BY_CPU)
    world.declares(replicas=0)
    assert (world.wanted(), world.has(HPA, NAME)) == (0, True)
    world.declares(replicas=1)
    assert world.wanted() == 2


def test_somebody_elses_of_that_name_stays_and_what_runs_goes_on() -> None:
    world = served(4)
    world.put(HPA, NAME, spec={"minReplicas": 1})
    world.declares(replicas=1, autoscaling=BY_CPU)
    assert world.said("ScalingActive") == ("False", "NameConflict")
    assert world.condition(KIND, NAME, "Ready")[0] == "True"
    assert world.wanted() == 4


def test_without_the_right_to_it_what_runs_goes_on() -> None:
    world = served(4)
    world.absent = {HPA: "the operator's role lacks list"}
    world.declares(replicas=1, autoscaling=BY_CPU)
    assert world.said("ScalingActive") == ("False", "AutoscalerUnreadable")
    assert world.wanted() == 4
