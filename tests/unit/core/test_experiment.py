"""Experiment: trials in parallel, what they are chosen by, how a search ends, and what it leaves."""

import pytest
from experiments import (
    NAME,
    C,
    asked_of,
    end,
    fail,
    page,
    proposal,
    propose,
    searching,
    spec,
    status,
    stop,
    told,
    trials,
)
from world import World, allowing_images, digest_of, training_spec, with_dataset, with_store

from modelmill.core import experiment_facts
from modelmill.core.plan import Create, Delete
from modelmill_contracts import report, task


def run_out(world: World, values: list[str], first: int = 1) -> None:
    for number, value in enumerate(values, first):
        end(world, number, value)


def ended(**more: object) -> World:
    world = searching(**more)  # type: ignore[arg-type]
    run_out(world, ["0.91", "0.95", "0.92", "0.93", "0.90", "0.94"])
    return world


def test_a_trial_is_a_training_job_that_makes_no_version() -> None:
    world = searching(template=training_spec(reproduce={"runs": 2}, seed=7))
    assert trials(world) == ["search-1", "search-2"]
    trial = world.get("TrainingJob", "search-1")
    assert "modelRef" not in trial["spec"]
    assert "reproduce" not in trial["spec"]
    assert trial["spec"]["seed"] == 7
    assert trial["spec"]["data"]["version"] == digest_of("a")
    assert trial["spec"]["evaluation"]["metrics"] == ["roc_auc"]
    params = trial["spec"]["estimator"]["steps"][0]["params"]
    assert trial["metadata"]["annotations"]["modelmill.dev/parameters"] == f"C={params['C']}, depth={params['depth']}"
    labels = trial["metadata"]["labels"]
    assert (labels["modelmill.dev/experiment"], labels["modelmill.dev/trial"]) == (NAME, "1")
    assert world.get("Experiment", NAME)["metadata"]["uid"] == trial["metadata"]["ownerReferences"][0]["uid"]


def test_as_many_run_beside_each_other_as_may() -> None:
    world = searching()
    end(world, 2, "0.95")
    assert trials(world) == ["search-1", "search-2", "search-3"]
    assert status(world)["trials"] == {"succeeded": 1, "running": 2, "failed": 0, "stopped": 0}
    assert told(world) == "Succeeded Unknown Searching: 1 of 6 trials have ended, 2 run or wait for their turn"
    assert status(world)["best"]["trial"] == "search-2"


def test_it_ends_with_the_best_one_and_a_page() -> None:
    world = ended()
    asked = asked_of(world, "search-page")
    assert isinstance(asked, task.SearchPageTask)
    assert (len(asked.trials), asked.best, asked.metric) == (6, 2, "roc_auc")
    page(world)
    assert told(world) == "Succeeded True SearchEnded: the best of 6 trials is search-2"
    assert [line for line in world.told("Experiment", NAME) if line.startswith(("Promoted", "Reported"))] == [
        "Promoted Unknown NotAsked: spec.promote is None: no trial becomes a version",
        f"Reported True PageWritten: blobs/sha256-{'9' * 64} in the store",
    ]
    found = status(world)
    assert found["report"] == digest_of("9")
    assert [placed["trial"] for placed in found["top"]] == [f"search-{n}" for n in (2, 6, 4, 3, 1, 5)]
    assert found["endedAt"]


def test_a_page_that_cannot_be_written_takes_nothing_from_the_search() -> None:
    world = ended()
    world.end_job("search-page", report.Report(False, "StoreFull", "no room"))
    world.settle()
    assert told(world).startswith("Succeeded True SearchEnded")
    assert world.condition("Experiment", NAME, "Reported") == ("False", "StoreFull")


def test_less_is_better_where_that_is_said() -> None:
    world = searching(objective={"metric": "log_loss", "direction": "Minimize"})
    run_out(world, ["0.91", "0.95", "0.92", "0.93", "0.90", "0.94"])
    assert status(world)["best"]["trial"] == "search-5"


def test_the_best_one_becomes_a_version_without_being_trained_again() -> None:
    world = ended(promote="Best")
    promoted = world.get("TrainingJob", "search-best-2")
    trial = world.get("TrainingJob", "search-2")
    assert promoted["spec"]["modelRef"] == {"name": "triage"}
    assert {k: v for k, v in promoted["spec"].items() if k != "modelRef"} == trial["spec"]
    work = asked_of(world, "search-best-2-train")
    assert isinstance(work, task.TrainingTask)
    assert work.known == (task.Known(digest_of("2"), digest_of("3")),)
    result = report.TrainingResult(digest_of("2"), digest_of("3"), "s3://models/artifacts/sha256-2", "onnx", known=True)
    world.end_job("search-best-2-train", report.Report(True, "RecipeKnown", result=result))
    world.settle()
    page(world)
    assert status(world)["modelVersion"] == "triage-1"
    assert status(world)["promoted"] == "search-best-2"
    assert world.get("ModelVersion", "triage-1")["spec"]["artifact"]["digest"] == digest_of("3")
    assert world.condition("Experiment", NAME, "Promoted") == ("True", "VersionMade")
    assert world.message("Experiment", NAME, "Promoted") == "TrainingJob search-best-2 became ModelVersion triage-1"


def test_a_promotion_that_fails_is_a_failure() -> None:
    world = ended(promote="Best")
    world.end_job("search-best-2-train", report.Report(False, "DigestMismatch", "other bytes"))
    world.settle()
    assert told(world).startswith(
        "Succeeded False PromotionFailed: search-2 is the best, and TrainingJob search-best-2"
    )
    assert world.condition("Experiment", NAME, "Failed") == ("True", "PromotionFailed")
    assert told(world).endswith("to try again, delete it, set spec.promote to None, and back to Best")
    world.remove("TrainingJob", "search-best-2")
    for promote in ("None", "Best"):
        world.put("Experiment", NAME, spec={**world.get("Experiment", NAME)["spec"], "promote": promote})
        world.settle()
    assert world.has("TrainingJob", "search-best-2")
    assert told(world).startswith("Succeeded Unknown Promoting")


def test_a_promotion_that_was_trained_again_says_that_it_is_another_model() -> None:
    template = {k: v for k, v in training_spec(container={"image": "a/b:1"}).items() if k != "estimator"}
    world = with_dataset(allowing_images("a/*"))
    depth = {"env": "DEPTH", "integer": {"min": 1, "max": 9}}
    world.put("Experiment", NAME, spec=spec(template=template, parameters=[depth], promote="Best", trials={"max": 1}))
    world.settle()
    end(world, 1, "0.95")
    other = report.TrainingResult(
        digest_of("e"), digest_of("d"), "s3://models/artifacts/sha256-d", "onnx", (report.Metric("roc_auc", "0.91"),)
    )
    world.end_job("search-best-1-train", report.Report(True, "Trained", result=other))
    world.settle()
    page(world)
    assert world.message("Experiment", NAME, "Promoted") == (
        "TrainingJob search-best-1 became ModelVersion triage-1; it was trained again, and gave another artifact than"
        f" search-1, {digest_of('d')} instead of {digest_of('2')}: its roc_auc is 0.91, and that of the trial 0.95"
    )


def test_what_holds_the_promotion_up_is_told() -> None:
    world = ended(promote="Best")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    world.pod_of_job("search-best-2-train", containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])
    world.settle()
    assert world.condition("Experiment", NAME, "Stalled") == ("True", "ImagePullFailed")
    assert world.message("Experiment", NAME, "Stalled").startswith("TrainingJob search-best-2: the image of container")
    assert world.condition("Experiment", NAME, "Succeeded") == ("Unknown", "ImagePullFailed")


def test_a_difference_within_the_noise_prefers_the_smaller_model_and_says_so() -> None:
    world = searching(template=training_spec(evaluation={"crossValidation": 4}), trials={"max": 3, "parallel": 3})
    end(world, 1, "0.950", stddev="0.02", size=9000)  # 0.02 / sqrt(4) = 0.01
    end(world, 2, "0.941", stddev="0.02", size=500)
    end(world, 3, "0.939", stddev="0.02", size=10)
    best = status(world)["best"]
    assert best["trial"] == "search-2"
    assert best["message"] == (
        "search-1 has 0.950: the difference is within the standard error of its 4 folds, 0.01, and the model of"
        " search-2 is smaller: 500 bytes instead of 9,000 bytes"
    )


def test_where_the_goal_is_reached_the_best_one_reaches_it_however_small_another_model_is() -> None:
    template = training_spec(evaluation={"crossValidation": 4})
    world = searching(template=template, objective={"goal": "0.945"}, trials={"max": 4, "parallel": 4})
    end(world, 1, "0.950", stddev="0.02", size=9000)  # 0.02 / sqrt(4) = 0.01
    end(world, 2, "0.944", stddev="0.02", size=10)
    end(world, 3, "0.946", stddev="0.02", size=500)
    end(world, 4, "0.941", stddev="0.02", size=10)
    assert status(world)["best"]["trial"] == "search-3"
    page(world)
    assert told(world) == "Succeeded True GoalReached: the best of 4 trials is search-3"


def test_of_a_tie_the_smaller_model_is_the_best_and_of_equal_ones_the_earlier() -> None:
    world = searching(trials={"max": 3, "parallel": 3})
    end(world, 3, "0.95", size=400)
    end(world, 2, "0.95", size=400)
    end(world, 1, "0.95", size=500)
    assert status(world)["best"]["trial"] == "search-2"
    assert "the same value" in status(world)["best"]["message"]


def test_a_goal_ends_it_after_those_that_were_beside_what_reached_it() -> None:
    world = searching(objective={"goal": "0.95"})
    run_out(world, ["0.91", "0.95"])
    assert trials(world) == ["search-1", "search-2", "search-3"]  # 2 + parallel - 1
    end(world, 3, "0.99")
    page(world)
    assert told(world) == "Succeeded True GoalReached: the best of 3 trials is search-3"


def test_with_a_goal_the_same_trials_are_made_whatever_ends_first() -> None:
    world = searching(objective={"goal": "0.95"})
    end(world, 2, "0.92")
    assert trials(world) == ["search-1", "search-2"]  # whether there is a third depends on the first
    end(world, 1, "0.91")
    assert trials(world) == ["search-1", "search-2", "search-3", "search-4"]


def test_too_many_failures_end_it_and_what_runs_is_deleted() -> None:
    world = searching()
    fail(world, 1)
    assert told(world).startswith("Succeeded Unknown Searching")
    fail(world, 2)
    assert told(world) == (
        "Succeeded False TrialsFailed: 2 of 3 trials failed, more than spec.trials.maxFailed, 1; the last one,"
        " search-2: TrainingFailed: it could not be fitted"
    )
    assert trials(world) == ["search-1", "search-2"]
    assert status(world)["trials"] == {"succeeded": 0, "running": 0, "failed": 2, "stopped": 0}


def test_all_trials_failing_is_a_failure() -> None:
    world = searching(trials={"max": 2, "maxFailed": 9})
    fail(world, 1)
    fail(world, 2)
    assert told(world).startswith(
        "Succeeded False TrialsFailed: none of 2 trials has a result; the last one that failed,"
    )


def test_what_is_wrong_with_every_trial_ends_it_at_once() -> None:
    world = searching(trials={"maxFailed": 9})
    fail(world, 1, "ParameterUnknown", "lr has no such parameter")
    assert told(world) == "Succeeded False ParameterUnknown: trial search-1: lr has no such parameter"


def test_a_metric_that_a_trials_parameters_rule_out_fails_that_trial_alone() -> None:
    """SGDClassifier has probabilities with loss log_loss, and none with hinge."""
    world = searching()
    fail(world, 1, "MetricNotApplicable", "log_loss needs probabilities, which SGDClassifier does not give")
    assert told(world).startswith("Succeeded Unknown Searching: 1 of 6 trials have ended")
    fail(world, 2, "MetricNotApplicable", "log_loss needs probabilities, which SGDClassifier does not give")
    assert told(world).startswith("Succeeded False TrialsFailed: 2 of 3 trials failed")
    assert told(world).endswith(
        "search-2: MetricNotApplicable: log_loss needs probabilities, which SGDClassifier does not give"
    )


@pytest.mark.parametrize("said", ["nan", "inf", "much"])
def test_what_is_no_number_is_no_result(said: str) -> None:
    world = searching(trials={"max": 1, "parallel": 1})
    end(world, 1, said)
    assert told(world).startswith("Succeeded False TrialsFailed: none of 1 trials has a result")
    assert "no number for roc_auc (spec.objective.metric)" in told(world)


def test_an_objective_that_no_trial_reports_is_named_with_what_they_report() -> None:
    world = searching(objective={"metric": "recall"}, trials={"max": 1, "parallel": 1})
    end(world, 1, "0.9", metric="roc_auc")
    assert "it reported roc_auc, and no number for recall (spec.objective.metric)" in told(world)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ([{"param": "tree__C", "integer": {"min": 1, "max": 2}}], "tree__C names no step of the template; names begin"),
        ([{"param": "lr", "integer": {"min": 1, "max": 2}}], "lr names no step of the template; names begin with lr__"),
        ([C, C], "spec.parameters[1]: lr__C is named twice"),
        ([{**C, "when": {"param": "lr__penalty", "equals": "l1"}}], "lr__penalty has none there"),
        (
            [
                {"param": "lr__penalty", "categorical": ["l1", "l2"]},
                {**C, "when": {"param": "lr__penalty", "equals": "l3"}},
            ],
            "lr__penalty has l1, l2 there",
        ),
    ],
)
def test_parameters_that_mean_nothing_are_refused_before_any_trial(parameters: list[object], said: str) -> None:
    world = searching(parameters=parameters)
    assert trials(world) == []
    assert world.condition("Experiment", NAME, "Failed") == ("True", "ParameterInvalid")
    assert said in told(world)


def test_a_loss_is_not_maximized_by_mistake() -> None:
    world = searching(objective={"metric": "rmse"})
    assert trials(world) == []
    assert told(world) == (
        "Succeeded False ObjectiveInvalid: spec.objective: less of rmse is better, and direction is Maximize, as it is"
        " where it is left out: the search would end with its worst trial; make another Experiment with direction:"
        " Minimize"
    )
    assert trials(searching(objective={"metric": "rmse", "direction": "Minimize"})) == ["search-1", "search-2"]


def test_a_goal_that_was_missed_is_told() -> None:
    world = searching(objective={"goal": "0.99"})
    run_out(world, ["0.91", "0.95", "0.92", "0.93", "0.90", "0.94"])
    page(world)
    told_so = "Succeeded True SearchEnded: the best of 6 trials is search-2; none of them reached spec.objective.goal"
    assert told(world) == told_so


def test_a_score_is_not_minimized_by_mistake() -> None:
    assert told(searching(objective={"direction": "Minimize"})) == (
        "Succeeded False ObjectiveInvalid: spec.objective: more of roc_auc is better, and direction is Minimize: the"
        " search would end with its worst trial; make another Experiment with direction: Maximize"
    )


def test_an_objective_that_nothing_measures_is_told_before_any_trial() -> None:
    world = searching(objective={"metric": "rocauc"})
    assert trials(world) == []
    said = (
        "Succeeded False ObjectiveInvalid: spec.objective.metric: rocauc is not measured of an estimator; make another"
    )
    assert told(world).startswith(said)


def test_what_a_container_calls_a_loss_may_be_maximized() -> None:
    template = {k: v for k, v in training_spec(container={"image": "a/b:1"}).items() if k != "estimator"}
    world = with_dataset(allowing_images("a/*"))
    declared = spec(template=template, objective={"metric": "rmse"}, parameters=[{"env": "A", "categorical": ["a"]}])
    world.put("Experiment", NAME, spec=declared)
    world.settle()
    assert trials(world) == ["search-1", "search-2"]


def test_without_a_store_or_data_it_waits() -> None:
    world = World()
    world.put("Experiment", NAME, spec=spec())
    world.settle()
    assert world.condition("Experiment", NAME, "Stalled") == ("True", "WorkspaceNotFound")
    with_store(world)
    world.settle()
    assert world.condition("Experiment", NAME, "Succeeded") == ("Unknown", "DatasetNotFound")
    with_dataset(world)
    world.settle()
    assert trials(world) == ["search-1", "search-2"]


def test_all_trials_are_on_the_version_that_the_first_one_was_on() -> None:
    world = searching()
    world.store("Experiment", NAME, {**world.get("Experiment", NAME), "status": {}})  # it could not be written
    with_dataset(world, version="b")
    end(world, 1, "0.9")
    assert world.get("TrainingJob", "search-3")["spec"]["data"]["version"] == digest_of("a")
    assert status(world)["datasetVersion"] == digest_of("a")


def test_suspended_trials_stop_and_go_on() -> None:
    world = searching()
    end(world, 1, "0.9")
    world.put("Experiment", NAME, spec=spec(suspend=True))
    world.settle()
    assert told(world) == "Succeeded Unknown Suspended: spec.suspend is true; set it to false to go on"
    assert [world.get("TrainingJob", n)["spec"].get("suspend", False) for n in trials(world)] == [False, True, True]
    assert not world.has("Job", "search-2-train")
    world.put("Experiment", NAME, spec=spec())
    world.settle()
    assert not any(world.get("TrainingJob", n)["spec"].get("suspend") for n in trials(world))
    assert world.has("Job", "search-2-train")


def test_the_time_is_over_and_the_best_so_far_counts() -> None:
    world = searching(trials={"timeout": "1h"})
    end(world, 1, "0.9")
    assert world.plan("Experiment", NAME).requeue_after is not None
    world.wait(3601)
    world.settle()
    assert trials(world) == ["search-1"]
    page(world)
    assert told(world) == "Succeeded True TimedOut: spec.trials.timeout passed; the best trial is search-1"


def test_the_time_is_over_and_there_is_nothing() -> None:
    world = searching(trials={"timeout": "1h"})
    world.wait(3601)
    world.settle()
    assert world.condition("Experiment", NAME, "Failed") == ("True", "TimedOut")
    assert trials(world) == []


def test_the_time_is_over_and_the_last_one_that_failed_is_named() -> None:
    world = searching(trials={"timeout": "1h"})
    fail(world, 1)
    world.wait(3601)
    world.settle()
    assert told(world) == (
        "Succeeded False TimedOut: no trial has a result within spec.trials.timeout; raise it, or make a trial shorter;"
        " the last one that failed, search-1: TrainingFailed: it could not be fitted"
    )


def test_the_time_in_which_a_search_is_suspended_does_not_count() -> None:
    world = searching(trials={"timeout": "1h"})
    world.put("Experiment", NAME, spec=spec(trials={"timeout": "1h"}, suspend=True))
    world.settle()
    assert "startedAt" not in status(world)
    world.wait(12 * 3600)
    world.settle()
    world.put("Experiment", NAME, spec=spec(trials={"timeout": "1h"}))
    world.settle()
    assert trials(world) == ["search-1", "search-2"]
    assert told(world).startswith("Succeeded Unknown Searching")
    world.wait(3601)
    world.settle()
    assert world.condition("Experiment", NAME, "Failed") == ("True", "TimedOut")


def test_the_time_after_a_search_has_ended_does_not_count() -> None:
    world = ended(trials={"timeout": "1h"})
    page(world)
    world.wait(12 * 3600)
    world.put("Experiment", NAME, spec=spec(trials={"timeout": "1h", "max": 8}))
    world.settle()
    assert trials(world)[-2:] == ["search-7", "search-8"]
    world.wait(3599)
    world.settle()
    assert trials(world)[-2:] == ["search-7", "search-8"]
    world.wait(2)
    world.settle()
    assert trials(world)[-1] == "search-6"


def test_a_search_that_timed_out_goes_on_with_a_longer_timeout_alone() -> None:
    world = searching(trials={"timeout": "1h"})
    end(world, 1, "0.9")
    world.wait(3601)
    world.settle()
    page(world)
    said = told(world)
    before = status(world)
    world.wait(12 * 3600)
    world.put("Experiment", NAME, spec=spec(trials={"timeout": "1h", "max": 9}))
    world.settle()
    assert told(world) == said
    assert (status(world)["startedAt"], status(world)["endedAt"]) == (before["startedAt"], before["endedAt"])
    world.put("Experiment", NAME, spec=spec(trials={"timeout": "2h"}))
    world.settle()
    assert trials(world) == ["search-1", "search-2", "search-3"]
    world.wait(3590)
    world.settle()
    assert trials(world) == ["search-1", "search-2", "search-3"]
    world.wait(20)
    world.settle()
    assert trials(world) == ["search-1"]


def test_more_trials_later_go_on_where_it_was() -> None:
    world = ended()
    page(world)
    before = {n: world.get("TrainingJob", n)["spec"] for n in trials(world)}
    world.put("Experiment", NAME, spec=spec(trials={"max": 8}))
    world.settle()
    assert trials(world) == [*before, "search-7", "search-8"]
    assert "endedAt" not in status(world)
    longer = searching(trials={"max": 8, "parallel": 2})
    run_out(longer, ["0.91", "0.95", "0.92", "0.93", "0.90", "0.94"])
    for name in trials(world):
        assert world.get("TrainingJob", name)["spec"] == longer.get("TrainingJob", name)["spec"]
    run_out(world, ["0.97", "0.96"], first=7)
    page(world)
    assert told(world) == "Succeeded True SearchEnded: the best of 8 trials is search-7"


def test_an_ended_search_stays_as_it_was_when_trials_are_deleted() -> None:
    world = ended()
    page(world)
    before = status(world)
    world.remove("TrainingJob", "search-4")
    world.settle()
    assert status(world) == before
    assert not world.has("TrainingJob", "search-4")


def test_a_deleted_trial_is_made_again_while_the_search_goes_on() -> None:
    world = searching()
    end(world, 1, "0.9")
    before = world.get("TrainingJob", "search-1")["spec"]
    world.remove("TrainingJob", "search-1")
    world.settle()
    assert not world.has("TrainingJob", "search-1")  # two run
    end(world, 2, "0.9")
    assert world.get("TrainingJob", "search-1")["spec"] == before


def test_no_more_run_than_may_whatever_was_not_seen() -> None:
    world = searching()
    end(world, 1, "0.9")
    world.remove("TrainingJob", "search-1")
    unseen = world.objects.pop(("TrainingJob", "search-3"))
    (write, *_) = [w for w in world.plan("Experiment", NAME).writes if isinstance(w, Create)]
    assert write.manifest["metadata"]["name"] == "search-1"
    world.objects["TrainingJob", "search-3"] = unseen
    with pytest.raises(AssertionError, match="has room for 1 more trials"):
        world.carry_out("Experiment", NAME, write)


def test_a_trial_that_ended_meanwhile_is_not_deleted() -> None:
    world = searching()
    world.put("Experiment", NAME, spec=spec(trials={"maxFailed": 0}))
    world.end_job("search-1-train", report.Report(False, "TrainingFailed", "it could not be fitted"))
    world.reconcile("TrainingJob", "search-1")
    (write,) = [w for w in world.plan("Experiment", NAME).writes if isinstance(w, Delete)]
    assert write.name == "search-2"
    result = report.StoppedResult((report.Metric("roc_auc", "0.5"),), ("0.5",))
    world.end_job("search-2-train", report.Report(True, "StoppedEarly", "worse", result=result))
    world.reconcile("TrainingJob", "search-2")
    with pytest.raises(AssertionError, match="search-2 has not ended"):
        world.carry_out("Experiment", NAME, write)


def test_trials_outlive_the_search_for_their_time_to_live() -> None:
    world = ended(trials={"ttl": "1h"}, promote="None")
    page(world)
    said = told(world)
    world.wait(3599)
    world.settle()
    assert len(trials(world)) == 6
    world.wait(2)
    world.settle()
    assert trials(world) == ["search-2"]  # the best one
    assert told(world) == said
    assert status(world)["expired"] is True
    world.put("Experiment", NAME, spec=spec(trials={"max": 99}))
    world.settle()
    assert trials(world) == ["search-2"]  # what they found is gone, and with it what would come next


def expired() -> World:
    world = ended(trials={"ttl": "1h"})
    page(world)
    world.wait(3601)
    world.settle()
    return world


TOO_LATE = (
    "after spec.trials.ttl was over: the trials are gone, and with them what the search goes on from; make another"
    " Experiment, or a TrainingJob with the parameters in status.best"
)


def test_a_promotion_that_is_asked_for_once_the_trials_are_gone_is_refused_with_a_reason() -> None:
    world = expired()
    before = world.told("Experiment", NAME)
    world.put("Experiment", NAME, spec=spec(trials={"ttl": "1h"}, promote="Best"))
    world.settle()
    assert not world.has("TrainingJob", "search-best-2")
    said = f"TrialsExpired: spec.promote became Best {TOO_LATE}"
    assert f"Promoted False {said}" in world.told("Experiment", NAME)
    assert f"Stalled True {said}" in world.told("Experiment", NAME)
    assert told(world) == before[0]
    world.put("Experiment", NAME, spec=spec(trials={"ttl": "1h"}))
    world.settle()
    assert world.told("Experiment", NAME) == before


def test_more_trials_that_are_asked_for_once_the_trials_are_gone_are_refused_with_a_reason() -> None:
    world = expired()
    before = world.told("Experiment", NAME)
    world.put("Experiment", NAME, spec=spec(trials={"ttl": "1h", "max": 8}))
    world.settle()
    assert f"Stalled True TrialsExpired: there are more trials to be made {TOO_LATE}" in world.told("Experiment", NAME)
    assert trials(world) == ["search-2"]
    world.put("Experiment", NAME, spec=spec(trials={"ttl": "1h"}))
    world.settle()
    assert world.told("Experiment", NAME) == before


def test_what_failed_says_so_once_the_trials_are_gone() -> None:
    world = searching(trials={"ttl": "1h"})
    fail(world, 1)
    fail(world, 2)
    before = world.told("Experiment", NAME)
    world.wait(3601)
    world.settle()
    assert status(world)["expired"] is True
    assert world.told("Experiment", NAME) == before


def test_a_name_that_is_taken_is_left_alone() -> None:
    world = with_dataset(with_store(World()))
    world.put("TrainingJob", "search-1", spec=training_spec())
    world.put("Experiment", NAME, spec=spec())
    world.settle()
    assert world.condition("Experiment", NAME, "Stalled") == ("True", "NameConflict")
    assert world.get("TrainingJob", "search-1")["spec"] == training_spec()


def test_what_holds_a_trial_up_is_told() -> None:
    world = searching()
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    world.pod_of_job("search-1-train", containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])
    world.settle()
    assert world.condition("Experiment", NAME, "Stalled") == ("True", "ImagePullFailed")
    assert "trial search-1: " in world.message("Experiment", NAME, "Stalled")


def test_parameters_that_were_tried_before_are_said_to_be_known() -> None:
    world = searching(parameters=[{"param": "lr__depth", "integer": {"min": 1, "max": 1}}])
    end(world, 1, "0.9")
    work = asked_of(world, "search-3-train")
    assert isinstance(work, task.TrainingTask)
    assert work.known == (task.Known(digest_of("1"), digest_of("2")),)


# What a pod chooses.


def test_the_first_trials_of_tpe_are_at_random_and_need_no_pod() -> None:
    one, other = searching("TPE", trials={"max": 30, "parallel": 4}), searching("Random", trials={"parallel": 4})
    assert not one.has("Job", "search-propose")
    assert one.get("TrainingJob", "search-3")["spec"] == other.get("TrainingJob", "search-3")["spec"]


def test_a_batch_is_chosen_by_what_ended_before_those_beside_it_began() -> None:
    world = searching("TPE", trials={"max": 30, "parallel": 4})
    run_out(world, [f"0.9{n}" for n in range(7)])
    asked = proposal(world)
    assert (asked.first, asked.count, asked.algorithm, asked.seed) == (11, 4, "TPE", 1)
    assert [t.state for t in asked.trials] == ["Succeeded"] * 7 + ["Running"] * 3
    propose(world, ("0.5", "1"), ("0.6", "2"), ("0.7", "3"), ("0.8", "4"))
    assert trials(world)[-1] == "search-11"
    assert world.get("TrainingJob", "search-11")["spec"]["estimator"]["steps"][0]["params"] == {"C": 0.5, "depth": 1}
    end(world, 8, "0.99")
    assert world.get("TrainingJob", "search-12")["spec"]["estimator"]["steps"][0]["params"] == {"C": 0.6, "depth": 2}


def test_what_ended_since_does_not_change_what_is_asked() -> None:
    world = searching("TPE", trials={"max": 30, "parallel": 4})
    run_out(world, [f"0.9{n}" for n in range(7)])
    before = proposal(world)
    end(world, 9, "0.1")
    end(world, 8, "0.1")
    assert proposal(world) == before
    world.remove("Job", "search-propose")
    world.settle()
    assert proposal(world) == before


def test_a_slow_trial_is_waited_for_by_those_that_depend_on_it() -> None:
    world = searching("TPE", trials={"max": 30, "parallel": 4})
    for number in (*range(1, 7), 8, 9, 10):
        end(world, number, "0.9")
    assert not world.has("Job", "search-propose")  # trial 7 runs
    end(world, 7, "0.9")
    assert world.has("Job", "search-propose")


def test_what_failed_and_what_was_stopped_is_told_to_who_chooses() -> None:
    world = searching(
        "TPE",
        search={"earlyStopping": "Median"},
        trials={"max": 30, "parallel": 4},
        template=training_spec(evaluation={"crossValidation": 5}),
    )
    fail(world, 1)
    stop(world, 2, "0.5", "0.4")
    for number in range(3, 8):
        end(world, number, "0.9", folds=("0.9",) * 5)
    first, second, *_ = proposal(world).trials
    assert (first.state, first.value) == ("Failed", None)
    assert (second.state, second.value, second.folds) == ("Stopped", 0.5, 2)


def test_a_proposal_that_cannot_be_made_ends_the_search() -> None:
    world = searching("CMAES")
    world.end_job("search-propose", report.Report(False, "AlgorithmUnknown", "there is no such"))
    world.settle()
    assert told(world) == "Succeeded False ProposalFailed: Job search-propose: AlgorithmUnknown: there is no such"


def test_a_proposal_that_was_lost_is_asked_for_again() -> None:
    world = searching("CMAES")
    world.end_job("search-propose", None)
    world.remove("Pod", "search-propose-x")
    world.settle()
    assert world.condition("Experiment", NAME, "Succeeded") == ("Unknown", "ReportLost")
    world.wait(60)
    world.settle()
    propose(world, ("0.5", "1"), ("0.6", "2"))
    assert trials(world) == ["search-1", "search-2"]


def test_a_proposer_that_fails_again_and_again_is_not_tried_in_a_hurry_and_says_why() -> None:
    world = searching("CMAES")
    for _ in range(3):
        world.end_job("search-propose", None, exit_reason="OOMKilled")
        world.settle()
        assert world.condition("Experiment", NAME, "Stalled") == ("True", "OutOfMemory")
        assert world.message("Experiment", NAME, "Stalled") == (
            "Job search-propose: container trainer used more memory than its limit; raise resources.limits.memory"
            " (tried again within 1 min)"
        )
        world.wait(59)
        world.settle()
        assert world.get("Job", "search-propose")["status"]  # it is the one that failed
        world.wait(2)
        world.settle()
        assert not world.get("Job", "search-propose")["status"]
        assert world.condition("Experiment", NAME, "Stalled") == ("True", "OutOfMemory")  # until it has an outcome
    propose(world, ("0.5", "1"), ("0.6", "2"))
    assert trials(world) == ["search-1", "search-2"]
    assert world.condition("Experiment", NAME, "Reconciling") == ("True", "Searching")


# What is stopped early.


def folds(world: World, number: int) -> dict[int, float]:
    stopping = world.get("TrainingJob", f"search-{number}")["spec"]["evaluation"]["stopping"]
    assert (stopping["metric"], stopping["direction"]) == ("roc_auc", "Maximize")
    return {bound["folds"]: float(bound["value"]) for bound in stopping["bounds"]}


def test_the_median_rule_stops_what_is_worse_than_half_of_the_others() -> None:
    world = searching(
        search={"earlyStopping": "Median"},
        trials={"max": 9, "parallel": 1},
        template=training_spec(evaluation={"crossValidation": 3}),
    )
    for number in range(1, 6):
        assert folds(world, number) == {}  # of too few there is no median
        end(world, number, "0.9", folds=(f"0.9{number}", "0.8", "0.7"))
    assert folds(world, 6) == {1: 0.93, 2: 0.865}
    stop(world, 6, "0.5")
    assert status(world)["trials"]["stopped"] == 1
    assert world.condition("TrainingJob", "search-6", "Succeeded") == ("True", "StoppedEarly")
    assert world.condition("TrainingJob", "search-6", "Trained") == ("False", "StoppedEarly")
    assert folds(world, 7) == {1: 0.925, 2: 0.865}  # it counts for the folds that it had


def test_halving_lets_the_best_third_go_on_after_1_3_and_9_folds() -> None:
    world = searching(
        "SuccessiveHalving",
        trials={"max": 9, "parallel": 1},
        template=training_spec(evaluation={"crossValidation": 5}),
    )
    for number in range(1, 4):
        assert folds(world, number) == {}
        end(world, number, "0.9", folds=(f"0.9{number}", "0.9", "0.9", "0.9", "0.9"))
    assert folds(world, 4) == {1: 0.93, 3: 0.91}


@pytest.mark.parametrize("error", ["0." + "0" * 29 + "315544", "1" + "0" * 40])
def test_a_bound_that_no_decimal_of_the_api_holds_stops_nothing(error: str) -> None:
    """The squared error of a model that fits exactly, or of one that diverges."""
    world = searching(
        search={"earlyStopping": "Median"},
        objective={"metric": "mse", "direction": "Minimize"},
        template=training_spec(evaluation={"crossValidation": 3}),
        trials={"max": 6, "parallel": 1},
    )
    for number in range(1, 6):
        end(world, number, error, folds=(error, error, error))
    assert world.get("TrainingJob", "search-6")["spec"]["evaluation"]["stopping"]["bounds"] == []


def test_a_stopped_trial_is_never_the_best() -> None:
    world = searching(
        search={"earlyStopping": "Median"},
        trials={"max": 2, "parallel": 1},
        template=training_spec(evaluation={"crossValidation": 3}),
    )
    end(world, 1, "0.9", folds=("0.9", "0.9", "0.9"))
    stop(world, 2, "0.99")
    assert status(world)["best"]["trial"] == "search-1"


# Containers.


def test_a_container_gets_its_parameters_as_variables() -> None:
    container = {"image": "registry.example.org/ml/train:1", "env": [{"name": "A", "value": "a"}]}
    template = {k: v for k, v in training_spec(container=container).items() if k != "estimator"}
    kind = {"env": "KIND", "categorical": ["big", "small"]}
    depth = {"env": "DEPTH", "integer": {"min": 1, "max": 9}, "when": {"param": "KIND", "equals": "big"}}
    world = with_dataset(allowing_images("registry.example.org/ml/*"))
    declared = spec(template=template, parameters=[kind, depth], trials={"max": 20, "parallel": 20})
    world.put("Experiment", NAME, spec=declared)
    world.settle()
    seen = set()
    for name in trials(world):
        env = {v["name"]: v["value"] for v in world.get("TrainingJob", name)["spec"]["container"]["env"]}
        assert env["A"] == "a"
        assert ("DEPTH" in env) == (env["KIND"] == "big")
        seen.add(env["KIND"])
    assert seen == {"big", "small"}


def test_names_of_what_it_makes_fit() -> None:
    longest = "a" * 30
    assert len(experiment_facts.promoted_name(longest, 1000)) <= 40
    assert len(experiment_facts.proposer_name(longest)) <= 63
