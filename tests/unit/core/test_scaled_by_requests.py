"""Scaled by requests: pods follow the demand, also while a revision is rolled out, and no switch passes through one."""

import pytest
from scaling_world import KIND, NAME, Scaled, served
from world import with_version

from modelmill.core.plan import Apply, SetStatus

BY_REQUESTS = {"min": 1, "max": 10, "requestsPerSecond": 100}
NO_LIMITS = {"steps": [{"weight": 10, "hold": "5m"}, {"weight": 50, "hold": "5m"}], "analysis": {"minRequests": 100}}


def loaded(pods: int = 4, **spec: object) -> Scaled:
    """So many pods serve what they can."""
    world = served(autoscaling=BY_REQUESTS, **spec)
    world.asked(pods * 100.0)
    world.step(60)
    world.available()
    world.step(60)
    assert world.wanted() == pods
    return world


def test_pods_come_with_requests_and_the_status_says_how_many() -> None:
    world = served(autoscaling=BY_REQUESTS)
    assert world.said("ScalingActive") == ("Unknown", "NotCountedYet")
    world.asked(420.0)
    world.step(60)
    assert world.wanted() == 5
    assert world.status["autoscaling"]["replicas"] == 5
    assert world.said("ScalingActive") == ("True", "RequestsCounted")
    assert world.get(KIND, NAME)["spec"]["replicas"] == 1  # the user's


def test_pods_go_after_five_minutes_and_the_operator_may_have_been_restarted_meanwhile() -> None:
    world = loaded(4)
    world.asked(90.0)
    world.step(15)
    assert world.status["autoscaling"]["lower"] == 1
    rates, world.rates = world.rates, {}  # a new process has asked nobody
    world.step(250)
    assert world.wanted() == 4
    world.rates = rates
    world.step(51)
    assert world.wanted() == 4  # all were needed, for all that was known meanwhile
    world.step(301)
    assert world.wanted() == 2
    world.available()
    world.step()
    world.step(301)
    assert world.wanted() == 1


def test_an_answer_that_changes_nothing_is_not_written() -> None:
    world = loaded(4)
    for rate in (390.0, 410.0, 361.0):
        world.asked(rate)
        world.wait(15)
        assert not world.plan(KIND, NAME).writes
    world.asked(200.0)
    assert [type(write) for write in world.plan(KIND, NAME).writes] == [SetStatus]
    world.step()
    for rate in (150.0, 180.0, 200.0):
        world.asked(rate)
        world.wait(15)
        assert not world.plan(KIND, NAME).writes


def test_a_status_that_was_never_written_takes_no_pods_away() -> None:
    """Killed after the Deployment was scaled and before the status was written."""
    world = loaded(2)
    world.asked(800.0)
    world.wait(60)
    plan = world.plan(KIND, NAME)
    (scale,) = [w for w in plan.writes if isinstance(w, Apply)]
    world.carry_out(KIND, NAME, scale)
    world.asked(200.0)
    world.step()
    assert world.wanted() == world.status["autoscaling"]["replicas"] == 6


@pytest.mark.parametrize("measure", [{"requestsPerSecond": 100}, {"cpuPercent": 70}])
def test_switching_to_an_autoscaler_begins_with_what_runs(measure: dict[str, int]) -> None:
    """replicas is taken out of the manifest in the same edit, and is 1 by default then."""
    world = served(6)
    world.declares(replicas=1, autoscaling={"min": 1, "max": 10, **measure})
    assert world.wanted() == 6


def test_what_runs_is_what_runs_though_the_service_is_not_seen_yet() -> None:
    world = served(6)
    del world.objects["Service", NAME]
    status = {key: value for key, value in world.status.items() if key != "history"}
    world.store(KIND, NAME, {**world.get(KIND, NAME), "status": status})
    world.declares(replicas=1, autoscaling=BY_REQUESTS)
    assert world.wanted() == 6


def test_switching_from_it_keeps_what_runs_until_somebody_says_how_many() -> None:
    world = loaded(6)
    world.declares(autoscaling=None)
    assert world.wanted() == 6
    assert world.said("ScalingActive") == ("False", "AutoscalingRemoved")
    world.step(3600)
    assert world.wanted() == 6
    world.declares(replicas=2)
    assert world.wanted() == 2
    assert world.said("ScalingActive") is None
    assert "autoscaling" not in world.status


def test_switching_from_it_to_a_number_goes_there_at_once() -> None:
    world = loaded(6)
    world.declares(autoscaling=None, replicas=4)
    assert world.wanted() == 4


def test_somebody_elses_autoscaler_on_the_scale_subresource_changes_nothing() -> None:
    world = loaded(4)
    for replicas in (7, 2, 1):
        world.declares(replicas=replicas)
        assert world.wanted() == 4
    world.declares(replicas=0)
    assert world.wanted() == 0
    assert world.condition(KIND, NAME, "Ready") == ("True", "ScaledToZero")
    world.declares(replicas=1)
    assert world.wanted() == 1


def test_edits_of_the_bounds_act_at_once() -> None:
    world = loaded(4)
    world.declares(autoscaling={**BY_REQUESTS, "max": 3})
    assert world.wanted() == 3
    world.declares(autoscaling={**BY_REQUESTS, "min": 6})
    assert world.wanted() == 6


def canary(pods: int) -> Scaled:
    """Version 2 has come up beside it, and its first step begins."""
    world = loaded(pods, rollout={"strategy": "Canary", **NO_LIMITS})
    with_version(world, 2)
    world.step()
    return world


def test_the_candidate_has_as_many_pods_as_its_share_takes() -> None:
    world = canary(8)
    assert (world.wanted(1), world.wanted(2)) == (8, 1)
    world.available(2)
    world.step()
    world.step(6)
    told = world.told()
    assert told is not None
    assert told.weight == 10
    assert world.condition(KIND, NAME, "Ready") == ("False", "TooFewRequests")
    world.asked(1000.0)
    world.step(60)
    assert (world.wanted(1), world.wanted(2)) == (10, 1)


def test_a_share_grows_only_once_the_pods_for_it_are_there() -> None:
    world = canary(8)
    world.available(2)
    for seconds in (0, 6, 0):
        world.step(seconds)
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((9000, 0), (1000, 0))
    world.step(301)
    assert (world.candidate["weight"], world.wanted(2)) == (50, 4)
    told = world.told()
    assert told is not None
    assert told.weight == 10
    world.available(2, 3)
    world.step()
    assert world.told() == told
    world.available(2)
    world.step()
    told = world.told()
    assert told is not None
    assert told.weight == 50


def test_it_takes_over_with_all_pods() -> None:
    world = canary(8)
    given = 0
    for _ in range(60):
        if world.status["stable"]["version"] == 2:
            break
        world.available(2)
        if world.candidate.get("epoch"):
            given += 1000
            world.counts((given * 9, 0), (given, 0))
        world.step(60)
    assert world.wanted(2) == 8
    assert world.selected() == world.revision(2)


def test_what_is_deployed_first_has_all_its_pods() -> None:
    world = served(autoscaling={**BY_REQUESTS, "min": 4}, rollout={"strategy": "Canary", **NO_LIMITS})
    assert world.wanted() == 4
