"""What a use case requires is tested of each version, bounds each rollout, and nobody may ask for less."""

from typing import Any

import pytest
from governing import (
    AVAILABLE,
    DEPLOYMENT,
    FAIR,
    JOB,
    LATENCY,
    MODEL,
    NAME,
    PRIORITY,
    QUALITY,
    SOURCE,
    USE_CASE,
    VERSION,
    after_tests,
    asked,
    governed,
    quality,
    served,
    settled,
    use_case,
)
from world import World, with_store, with_version

from modelmill.api.model import Governance, RequiredAvailability, RequiredLatency
from modelmill.api.rollout import Rollout
from modelmill.core import bounds, rollout
from modelmill_contracts import report, task

OWN = {"metrics": [{"name": "accuracy", "min": "0.9"}]}


def says(world: World) -> list[tuple[str, str]]:
    """Ready, Tested and Stalled of the version."""
    return [world.condition(*VERSION, type_) for type_ in ("Ready", "Tested", "Stalled")]


def test_requirements_are_tests_of_each_version_and_say_who_asks() -> None:
    world = settled(with_version(governed(QUALITY, FAIR, LATENCY, AVAILABLE, tests=OWN), 1))
    assert asked(world) == task.Tests(
        metrics=(
            task.MetricTest("accuracy", "0.9"),
            task.MetricTest("roc_auc", "0.98", source=SOURCE),
            task.MetricTest("recall", "0.90", every_slice="age_group", source=SOURCE),
        ),
        required_latencies=(task.LatencyTest("0.99", 20, SOURCE),),
    )
    said = [
        report.Outcome("accuracy", True, ">= 0.9", "0.95"),
        quality(),
        report.Outcome("recall of every age_group", True, ">= 0.90", "0.93", "age_group=old"),
        report.Outcome("latency 0.99", True, "<= 20ms", "3ms"),
    ]
    after_tests(world, *said)
    found = [(t["name"], t["source"]) for t in world.get(*VERSION)["status"]["tests"]]
    assert found == [
        ("accuracy", "model/triage"),
        ("roc_auc", SOURCE),
        ("recall of every age_group", SOURCE),
        ("latency 0.99", SOURCE),
    ]
    assert says(world)[0] == ("True", "Tested")
    assert world.plan(*VERSION).writes == ()


def test_of_very_many_tests_names_are_those_of_what_was_asked() -> None:
    world = after_tests(
        governed(QUALITY, tests=OWN), report.Outcome("", True, "", "0.95"), report.Outcome("", True, "", "1")
    )
    found = [(t["name"], t["threshold"], t["source"]) for t in world.get(*VERSION)["status"]["tests"]]
    assert found == [("accuracy", ">= 0.9", "model/triage"), ("roc_auc", ">= 0.98", SOURCE)]


def test_a_requirement_that_is_not_met_keeps_a_version_from_serving() -> None:
    world = after_tests(governed(QUALITY), quality("0.97", passed=False))
    assert says(world) == [("False", "TestFailed"), ("False", "TestFailed"), ("True", "TestFailed")]
    assert world.message(*VERSION, "Ready") == f"roc_auc is 0.97, and must be >= 0.98 ({SOURCE} requires it)"


def test_what_both_ask_is_asked_once() -> None:
    both = {"metrics": [{"name": "roc_auc", "min": "0.98"}]}
    world = settled(with_version(governed(QUALITY, tests=both), 1))
    assert asked(world).metrics == (task.MetricTest("roc_auc", "0.98", source=SOURCE),)


def test_a_requirement_that_is_edited_tests_again_and_the_former_answer_counts_until_then() -> None:
    world = after_tests(governed(QUALITY), quality())
    world.remove("Job", JOB)
    world.put(*USE_CASE, spec=use_case({"name": "quality", "metric": {"name": "roc_auc", "min": "0.99"}}))
    settled(world)
    assert says(world)[:2] == [("True", "Tested"), ("True", "Passed")]
    assert asked(world).metrics == (task.MetricTest("roc_auc", "0.99", source=SOURCE),)


def test_what_is_no_test_of_a_version_tests_nothing_again() -> None:
    world = after_tests(governed(QUALITY), quality())
    world.remove("Job", JOB)
    world.put(*USE_CASE, spec=use_case(QUALITY, AVAILABLE, priority=PRIORITY))
    settled(world)
    assert not world.has("Job", JOB)


def test_without_the_use_case_nothing_is_tested_and_that_is_said() -> None:
    world = with_store(World())
    world.put(*MODEL, spec={"useCaseRef": {"name": NAME}, "tests": OWN})
    settled(with_version(world, 1))
    assert world.condition(*MODEL, "Ready") == ("False", "UseCaseNotFound")
    assert world.condition(*MODEL, "Reconciling") == ("True", "UseCaseNotFound")
    assert says(world) == [("False", "UseCaseNotFound"), ("Unknown", "UseCaseNotFound"), ("False", "UseCaseNotFound")]
    assert world.message(*VERSION, "Tested").startswith(
        f"Model triage: there is no UseCase {NAME} in this namespace yet"
    )
    assert not world.has("Job", JOB)
    world.put(*USE_CASE, spec=use_case(QUALITY))
    settled(world)
    assert [test.name for test in asked(world).metrics] == ["accuracy", "roc_auc"]


def test_a_use_case_that_is_deleted_leaves_what_serves_and_lets_nothing_new_through() -> None:
    world = served(after_tests(governed(QUALITY, AVAILABLE), quality()))
    world.remove(*USE_CASE)
    settled(world)
    assert says(world)[:2] == [("True", "Tested"), ("True", "Passed")]
    # What serves is still held to what was known.
    assert world.get(*MODEL)["status"]["useCase"]["availability"]["min"] == "0.999"
    assert world.get(*DEPLOYMENT)["status"]["serviceLevels"]["source"] == SOURCE
    settled(with_version(world, 2))
    assert world.condition("ModelVersion", "triage-2", "Ready") == ("False", "UseCaseNotFound")


def test_a_version_waits_until_its_model_has_read_the_use_case() -> None:
    world = after_tests(governed(QUALITY), quality())
    world.put(*MODEL, spec={"useCaseRef": {"name": "another"}})
    world.reconcile(*VERSION)
    assert "Model triage has not read UseCase another yet" in world.message(*VERSION, "Tested")
    assert world.condition(*VERSION, "Tested") == ("True", "Passed")
    settled(with_version(world, 2))
    assert world.condition("ModelVersion", "triage-2", "Tested") == ("Unknown", "UseCaseNotFound")


def test_a_use_case_that_makes_no_sense_governs_by_nothing() -> None:
    world = governed(QUALITY, {"name": "b", "metric": {"name": "roc_auc", "max": "0.5"}})
    settled(with_version(world, 1))
    assert world.condition(*MODEL, "Stalled") == ("True", "UseCaseInvalid")
    assert says(world) == [("False", "UseCaseInvalid"), ("Unknown", "UseCaseInvalid"), ("True", "UseCaseInvalid")]


@pytest.mark.parametrize(
    ("requirement", "tests", "words"),
    [
        (
            QUALITY,
            {"metrics": [{"name": "accuracy", "min": "0.5"}, {"name": "roc_auc", "min": "0.9"}]},
            f"spec.tests.metrics[1].min is 0.9, and UseCase {NAME} requires at least 0.98 (requirement quality)",
        ),
        (
            {"name": "error", "metric": {"name": "rmse", "max": "8"}},
            {"metrics": [{"name": "rmse", "max": "8.5"}]},
            f"spec.tests.metrics[0].max is 8.5, and UseCase {NAME} requires at most 8 (requirement error)",
        ),
        (
            FAIR,
            {"metrics": [{"name": "recall", "min": "0.89", "everySlice": "age_group"}]},
            f"spec.tests.metrics[0].min is 0.89, and UseCase {NAME} requires at least 0.90 (requirement fair)",
        ),
        (
            LATENCY,
            {"latency": {"quantile": "0.5", "max": "30ms"}},
            f"spec.tests.latency.max is 30ms, and UseCase {NAME} requires 0.99 of answers within 20ms (",
        ),
    ],
)
def test_a_test_that_asks_for_less_is_refused_with_the_reason(
    requirement: dict[str, Any], tests: dict[str, Any], words: str
) -> None:
    world = governed(requirement, tests=tests)
    settled(with_version(world, 1))
    assert world.condition(*MODEL, "Stalled") == ("True", "TestLooser")
    assert world.message(*MODEL, "Ready").startswith(words)
    assert says(world)[0] == ("False", "TestLooser")
    assert world.condition(*USE_CASE, "Ready")[1] == "TestLooser"
    assert not world.has("Job", JOB)


@pytest.mark.parametrize(
    ("requirement", "tests"),
    [
        (QUALITY, {"metrics": [{"name": "roc_auc", "min": "0.98"}]}),
        (QUALITY, {"metrics": [{"name": "roc_auc", "min": "0.990"}]}),
        (QUALITY, {"metrics": [{"name": "roc_auc", "max": "0.9999"}]}),
        (QUALITY, {"metrics": [{"name": "roc_auc", "min": "0.5", "everySlice": "age_group"}]}),
        (FAIR, {"metrics": [{"name": "recall", "min": "0.5"}]}),
        (LATENCY, {"latency": {"quantile": "0.99", "max": "20ms"}}),
        (LATENCY, {"latency": {"quantile": "0.5", "max": "5ms"}}),
        (LATENCY, {"latency": {"quantile": "0.999", "max": "50ms"}}),
    ],
)
def test_a_test_that_asks_for_as_much_or_something_else_is_taken(
    requirement: dict[str, Any], tests: dict[str, Any]
) -> None:
    world = governed(requirement, tests=tests)
    assert world.condition(*MODEL, "Ready") == ("True", "Numbering")
    assert world.plan(*MODEL).writes == ()


def test_a_model_goes_on_numbering_whatever_is_refused() -> None:
    world = governed(QUALITY, tests={"metrics": [{"name": "roc_auc", "min": "0.9"}]})
    settled(with_version(world, 1))
    assert world.get(*MODEL)["status"]["lastVersion"] == 1


def test_a_model_without_a_use_case_says_nothing_of_it() -> None:
    world = with_store(World())
    world.put(*MODEL, spec={"tests": OWN})
    settled(world)
    assert "useCase" not in world.get(*MODEL)["status"]
    assert world.condition(*MODEL, "Ready") == ("True", "Numbering")


# Bounds of a ModelDeployment.


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"monitoring": {"serviceLevels": {"availability": {"min": "0.99", "window": "1h"}}}},
            "spec.monitoring.serviceLevels.availability.min is 0.99, and",
        ),
        (
            {"monitoring": {"serviceLevels": {"latency": [{"quantile": "0.9", "max": "1s"}]}}},
            "spec.monitoring.serviceLevels.latency[0].max is 1s, and",
        ),
        (
            {"rollout": {"strategy": "Canary", "analysis": {"errorRate": {"maxIncrease": "0.02"}}}},
            "spec.rollout.analysis.errorRate.maxIncrease is 0.02, and",
        ),
        (
            {"rollout": {"strategy": "Canary", "analysis": {"latencyBounds": [{"quantile": "0.99", "max": "21ms"}]}}},
            "spec.rollout.analysis.latencyBounds[0].max is 21ms, and",
        ),
    ],
)
def test_a_bound_that_allows_more_is_told_by_the_model_and_tests_go_on(spec: dict[str, Any], words: str) -> None:
    world = governed(AVAILABLE, LATENCY, QUALITY)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1, **spec})
    settled(with_version(world, 1))
    assert world.condition(*MODEL, "Stalled") == ("True", "BoundLooser")
    assert world.message(*MODEL, "Ready").startswith(f"ModelDeployment triage: {words} UseCase {NAME} requires")
    assert world.has("Job", JOB)


def watched(requirement: dict[str, Any], **quality_: str) -> World:
    world = governed(requirement)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1, "monitoring": {"quality": quality_}})
    return settled(with_version(world, 1))


LOSS = {"name": "loss", "metric": {"name": "log_loss", "max": "0.3"}}


@pytest.mark.parametrize(
    ("requirement", "declared", "words"),
    [
        (QUALITY, {"metric": "roc_auc", "min": "0.9"}, ("min is 0.9", "at least 0.98 (requirement quality)")),
        (LOSS, {"metric": "log_loss", "max": "0.31"}, ("max is 0.31", "at most 0.3 (requirement loss)")),
    ],
)
def test_a_quality_that_may_be_less_than_is_required_is_told(
    requirement: dict[str, Any], declared: dict[str, str], words: tuple[str, str]
) -> None:
    world = watched(requirement, **declared)
    assert world.condition(*MODEL, "Stalled") == ("True", "BoundLooser")
    assert world.message(*MODEL, "Ready") == (
        f"ModelDeployment triage: spec.monitoring.quality.{words[0]}, and UseCase {NAME} requires {words[1]}, for which"
        " QualityDropped gathers no evidence then; bound it as much"
    )
    assert world.has("Job", JOB)


@pytest.mark.parametrize(
    ("requirement", "declared"),
    [
        (QUALITY, {"metric": "roc_auc", "min": "0.980"}),
        (QUALITY, {"metric": "roc_auc", "min": "0.99"}),
        (QUALITY, {"metric": "accuracy", "min": "0.5"}),
        (
            {"name": "a", "metric": {"name": "accuracy", "min": "0.9", "everySlice": "age"}},
            {"metric": "accuracy", "min": "0.5"},
        ),
        ({"name": "a", "metric": {"name": "accuracy", "min": "1"}}, {"metric": "accuracy", "min": "0.99"}),
        (LOSS, {"metric": "log_loss", "max": "0.3"}),
    ],
)
def test_a_quality_that_is_as_much_or_something_else_is_taken(
    requirement: dict[str, Any], declared: dict[str, str]
) -> None:
    assert watched(requirement, **declared).condition(*MODEL, "Ready") == ("True", "Numbering")


def test_the_default_of_a_bound_is_nobodys_and_is_tightened_in_silence() -> None:
    world = governed(AVAILABLE)
    analysis = {"errorRate": {"maxIncrease": "0.01"}}  # as the API server writes it
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "rollout": {"strategy": "Canary", "analysis": analysis}})
    settled(world)
    assert world.condition(*MODEL, "Ready") == ("True", "Numbering")


ASKS = Governance(
    name=NAME,
    latency=(RequiredLatency(requirement="fast", quantile="0.99", max="20ms"),),
    availability=RequiredAvailability(requirement="available", min="0.999", window="1h"),
)


def bounded(**settings: Any) -> Rollout:
    return bounds.bounded(Rollout.model_validate({"strategy": "Canary", **settings}), ASKS)


def test_a_rollout_is_bounded_by_what_is_required() -> None:
    found = rollout.analysis(bounded())
    assert found.error_rate.max_increase == "0.001"
    assert [(bound.quantile, bound.max) for bound in found.latency_bounds] == [("0.99", "20ms")]


def test_what_is_declared_stricter_stays() -> None:
    own = {"errorRate": {"maxIncrease": "0.0005"}, "latencyBounds": [{"quantile": "0.99", "max": "5ms"}]}
    found = rollout.analysis(bounded(analysis=own))
    assert found.error_rate.max_increase == "0.0005"
    assert [(bound.quantile, bound.max) for bound in found.latency_bounds] == [("0.99", "5ms")]


def test_what_is_declared_looser_or_of_another_quantile_does_not_stand_in_its_place() -> None:
    own = {
        "errorRate": {"maxIncrease": "0.05"},
        "latencyBounds": [{"quantile": "0.990", "max": "1s"}, {"quantile": "0.5", "max": "4ms"}],
    }
    found = rollout.analysis(bounded(analysis=own))
    assert found.error_rate.max_increase == "0.001"
    assert [(bound.quantile, bound.max) for bound in found.latency_bounds] == [("0.5", "4ms"), ("0.99", "20ms")]


def test_without_requirements_or_evidence_a_rollout_stays_as_it_is() -> None:
    canary, at_once = Rollout.model_validate({"strategy": "Canary"}), Rollout()
    assert bounds.bounded(canary, None) is canary
    assert bounds.bounded(canary, Governance(name=NAME)) is canary
    assert bounds.bounded(at_once, ASKS) is at_once


def test_a_rollout_under_way_begins_anew_where_what_is_required_changes() -> None:
    world = served(after_tests(governed(QUALITY, AVAILABLE), quality()), rollout={"strategy": "Canary"})
    after_tests(world, quality(), number=2)
    for name in world.deployments():
        world.pods_of(name, 1)
    settled(world)
    before = world.get(*DEPLOYMENT)["status"]["candidate"]
    assert [gate["gate"] for gate in before["evidence"]] == ["errorRate"]
    world.wait(1)
    world.put(
        *USE_CASE, spec=use_case(QUALITY, AVAILABLE, {"name": "fast", "latency": {"quantile": "0.5", "max": "1s"}})
    )
    settled(world)
    after = world.get(*DEPLOYMENT)["status"]["candidate"]
    assert after["epoch"] != before["epoch"]
    assert [gate["gate"] for gate in after["evidence"]] == ["errorRate", "latencyBound0.5"]
