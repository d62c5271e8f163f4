"""A clock that was a day ahead and is set back: each wait begins anew, once; none lasts until the clock is there again.

What was written down meanwhile lies ahead.
"""

from experiments import searching
from experiments import status as search
from pipelines import DRIFT, NAME, cancel, create, declared, ended, going_on, later, runs, says, status, with_deployment
from rolling_out import begun
from rolling_out import serving as rolling
from scaling_world import served
from test_quality import HOUR, JOB, labelled
from test_service_levels import PROMISED, STEP, serving
from world import with_version

DAY = 24 * 3600
BY_REQUESTS = {"min": 1, "max": 10, "requestsPerSecond": 100}


def test_pods_come_with_requests() -> None:
    world = served(autoscaling=BY_REQUESTS)
    world.wait(DAY)
    world.asked(300.0)
    world.step()
    world.available()
    assert world.wanted() == 3
    world.wait(-DAY)
    world.asked(600.0)
    world.step()
    assert world.wanted() == 3
    world.step(15)
    assert world.wanted() == 6


def test_and_they_go_after_one_whole_wait() -> None:
    world = served(3, autoscaling=BY_REQUESTS)
    world.wait(DAY)
    world.asked(100.0)
    world.step()
    assert world.status["autoscaling"]["lower"] == 1
    world.wait(-DAY)
    world.step()
    world.step(299)
    assert world.wanted() == 3
    world.step(1)
    assert world.wanted() == 2


def test_a_step_of_service_levels_ends() -> None:
    world = serving(PROMISED)
    world.counts(1000)
    world.wait(DAY)
    world.step()
    world.counts(2000)
    world.step(STEP)
    assert world.levels["requests"] == 1000
    world.wait(-DAY)
    world.counts(3000)
    world.step()
    assert world.levels["requests"] == 1000
    world.counts(4000)
    world.step(STEP)
    assert world.levels["requests"] == 2000
    world.step(3600)
    assert world.levels["requests"] == 0  # what was counted then has gone, too


def test_labels_are_measured_and_none_twice() -> None:
    world = labelled()
    world.finds()
    world.wait(3 * DAY)
    world.step()
    world.finds()
    world.step()
    assert world.quality["until"] == "2026-01-02T01:00:00Z"
    world.wait(1800 - 3 * DAY)  # 01:31 on the first day
    world.step()
    assert not world.has("Job", JOB)
    assert world.quality["until"] == "2026-01-01T01:31:00Z"
    assert world.quality["windows"] == 2
    world.step(HOUR)
    assert world.span() == ("01:31", "02:00")
    world.finds()
    assert world.quality["windows"] == 3


def test_labels_of_a_window_that_goes_on_are_measured() -> None:
    world = labelled()
    world.finds(3, 1.0)
    world.step(20 * HOUR)
    world.finds(5, 1.0)
    assert (world.quality["until"], world.quality["window"]["endedAt"][:13]) == (
        "2026-01-01T00:00:00Z",
        "2026-01-01T21",
    )
    world.wait(-20 * HOUR)
    world.step()
    world.step(HOUR)
    assert world.span() == ("00:00", "02:00")


def test_a_cooldown_ends() -> None:
    world = with_deployment(declared(DRIFT, cooldown="1h"))
    world.wait(DAY)
    create(world, "by-hand")
    cancel(world, "by-hand")
    world.wait(-DAY)
    says(world, "ModelDeployment", "triage", {}, Ready=("True", "Serving"), DriftDetected=("True", "Measured"))
    world.reconcile("Pipeline", NAME)
    assert going_on(world) == []
    later(world, hours=1)
    assert len(runs(world)) == 2


def test_a_stage_times_out() -> None:
    world = declared()
    world.wait(DAY)
    create(world, "by-hand")
    world.wait(-DAY)
    world.settle()
    later(world, minutes=59)
    assert ended(world, "by-hand") == ""
    later(world, minutes=1)
    assert ended(world, "by-hand") == "Failed StageTimedOut"
    assert status(world, "by-hand")["finishedAt"]


def test_a_step_of_a_rollout_ends() -> None:
    world = begun()
    world.counts((0, 0), (0, 0))
    world.wait(DAY / 2)  # a whole day would be its deadline
    world.step()
    world.counts((9000, 0), (1000, 0))
    world.step(60)
    assert (world.candidate["windows"], world.candidate["step"]) == (1, 2)
    world.wait(-DAY / 2)
    world.step()
    world.counts((90_000, 0), (10_000, 0))
    world.step(299)
    assert (world.candidate["windows"], world.candidate["step"]) == (2, 2)
    world.step(1)
    assert world.candidate["step"] == 3


def test_pods_are_told_of_a_candidate_and_it_takes_over() -> None:
    world = rolling(steps=[{"weight": 50, "hold": "1m"}])
    with_version(world, 2)
    world.wait(DAY)
    world.step()
    world.pods_of(f"triage-{world.revision(2)}", 2)
    world.step()
    world.wait(-DAY)
    world.step()
    world.step(5)
    told = world.told()
    assert told is not None
    assert told.weight == 50
    new = world.revision(2)
    world.wait(DAY / 2)  # a whole day would be its deadline
    for given in range(1000, 10_000, 1000):
        if world.candidate["weight"] != 100:
            world.counts((given, 0), (given, 0))
            world.step(60)
    assert world.candidate["weight"] == 100
    world.wait(-DAY / 2)
    world.step()
    world.step(5)
    assert world.selected() == new


def test_a_search_times_out() -> None:
    world = searching(trials={"timeout": "1h"})
    started = world.get("Experiment", "search")
    ahead = {**started["status"], "startedAt": "2026-01-02T00:00:00Z"}
    world.store("Experiment", "search", {**started, "status": ahead})
    world.settle()
    assert search(world)["startedAt"] == "2026-01-01T00:00:00Z"
    later(world, hours=1)
    assert world.condition("Experiment", "search", "Succeeded") == ("False", "TimedOut")
