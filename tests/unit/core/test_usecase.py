"""A UseCase: what is promised is checked against what is there, and what to do next is said."""

from typing import Any

import pytest
from governing import (
    AVAILABLE,
    DEPLOYMENT,
    FAIR,
    FRESH,
    LATENCY,
    NAME,
    PRIORITY,
    QUALITY,
    USE_CASE,
    after_tests,
    governed,
    levels,
    quality,
    requirement,
    served,
    settled,
    use_case,
)
from world import World, with_dataset, with_store, with_version

from modelmill_contracts import report


def says(world: World) -> list[tuple[str, str]]:
    """Ready, RequirementsMet and Stalled."""
    return [world.condition(*USE_CASE, type_) for type_ in ("Ready", "RequirementsMet", "Stalled")]


def status(world: World) -> dict[str, Any]:
    return dict(world.get(*USE_CASE)["status"])


def alone(*requirements: dict[str, Any], **more: Any) -> World:
    """A use case to which nothing refers."""
    world = World()
    world.put(*USE_CASE, spec=use_case(*requirements, **more))
    world.reconcile(*USE_CASE)
    return world


def test_a_promise_that_is_kept_is_ready_with_what_was_observed_where_and_when() -> None:
    world = after_tests(governed(QUALITY), quality())
    assert says(world) == [("True", "AllMet"), ("True", "AllMet"), ("False", "AllMet")]
    assert requirement(world, "quality") == {
        "name": "quality",
        "met": "True",
        "observed": "0.991",
        "threshold": "roc_auc >= 0.98",
        "evidence": "modelversion/triage-1",
        "at": "2026-01-01T00:00:00Z",
    }
    assert status(world)["met"] == "1/1"
    assert status(world)["models"] == ["triage"]
    assert world.plan(*USE_CASE).writes == ()


def test_a_requirement_that_nothing_serves_for_is_not_known() -> None:
    world = after_tests(governed(QUALITY, LATENCY), quality(), latency())
    assert says(world)[:2] == [("False", "NotMeasured"), ("Unknown", "NotMeasured")]
    assert requirement(world, "fast")["met"] == "Unknown"
    assert status(world)["met"] == "1/2"
    assert status(world)["next"] == "no ModelDeployment serves Model triage (spec.model.name) yet: create one"


def latency() -> report.Outcome:
    return report.Outcome("latency 0.99", True, "<= 20ms", "3ms")


def test_without_a_model_it_says_to_create_one() -> None:
    world = alone(QUALITY)
    assert says(world) == [("False", "ModelNotFound"), ("Unknown", "ModelNotFound"), ("False", "ModelNotFound")]
    assert status(world)["next"] == (
        f"no Model has spec.useCaseRef.name {NAME} yet: nothing says what comes of it; create one"
    )


def test_without_a_version_it_says_to_train_one() -> None:
    world = governed(QUALITY)
    assert says(world)[0] == ("False", "NoReadyVersion")
    assert status(world)["next"] == "no version of Model triage is Ready yet: train one"
    assert world.condition(*USE_CASE, "Reconciling") == ("True", "NoReadyVersion")


def test_what_serves_counts_and_not_what_is_newer() -> None:
    world = served(after_tests(governed(QUALITY), quality("0.985")))
    pinned = {"model": {"name": "triage", "version": 1}, "replicas": 1}
    world.put(*DEPLOYMENT, spec=pinned)
    after_tests(world, quality("0.999"), number=2)
    assert requirement(world, "quality")["observed"] == "0.985"
    assert requirement(world, "quality")["evidence"] == "modelversion/triage-1"


def with_labels(world: World, **said: Any) -> World:
    """What the status of the ModelDeployment says of its quality."""
    live = world.get(*DEPLOYMENT)
    window = {"value": "0.91", "endedAt": "2026-01-01T02:00:00Z"}
    quality_ = {"metric": "roc_auc", "min": "0.97", "dropped": True, "window": window, **said}
    world.store(*DEPLOYMENT, {**live, "status": {**live["status"], "quality": quality_}})
    world.reconcile(*USE_CASE)
    return world


def test_labels_that_came_back_count_against_what_tests_said() -> None:
    world = with_labels(served(after_tests(governed(QUALITY), quality())))
    assert says(world)[0] == ("False", "RequirementNotMet")
    found = requirement(world, "quality")
    assert (found["met"], found["observed"], found["evidence"]) == ("False", "0.91", "modeldeployment/triage")
    assert found["at"] == "2026-01-01T02:00:00Z"


@pytest.mark.parametrize("said", [{"dropped": False}, {"min": "0.99"}, {"metric": "accuracy"}])
def test_labels_say_nothing_where_another_thing_was_measured_or_more_was_asked(said: dict[str, Any]) -> None:
    world = with_labels(served(after_tests(governed(QUALITY), quality())), **said)
    assert requirement(world, "quality")["met"] == "True"
    assert requirement(world, "quality")["evidence"] == "modelversion/triage-1"


@pytest.mark.parametrize(("asked", "reason"), [(QUALITY, "is Ready yet: train one"), (AVAILABLE, "another Model yet")])
def test_what_serves_of_another_model_says_nothing(asked: dict[str, Any], reason: str) -> None:
    """A ModelDeployment was given this Model, whose version of the same number does not pass."""
    world = with_version(governed(asked), 1, "plain")
    world.put(*DEPLOYMENT, spec={"model": {"name": "plain"}, "replicas": 1})
    world.settle()
    world.pods_of(world.deployments()[0], 1)
    settled(world)
    with_version(world, 1)
    if asked is QUALITY:
        after_tests(world, quality("0.5", passed=False))
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1})
    settled(world)
    found = requirement(world, asked["name"])
    assert found["met"] == "Unknown"
    assert reason in found["message"]


def test_labels_of_what_serves_of_another_model_say_nothing() -> None:
    world = with_version(governed(QUALITY), 1, "plain")
    world.put(*DEPLOYMENT, spec={"model": {"name": "plain"}, "replicas": 1})
    world.settle()
    world.pods_of(world.deployments()[0], 1)
    settled(world)
    with_version(world, 1)
    after_tests(world, quality("0.5", passed=False))
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1})
    settled(world)
    assert requirement(with_labels(world), "quality")["met"] == "Unknown"


def test_a_requirement_that_was_raised_is_not_met_by_former_tests() -> None:
    world = after_tests(governed(QUALITY), quality())
    raised = {"name": "quality", "metric": {"name": "roc_auc", "min": "0.995"}}
    world.put(*USE_CASE, spec=use_case(raised))
    settled(world)
    assert requirement(world, "quality")["met"] == "Unknown"
    after_tests(world, quality("0.991", "0.995", passed=False))
    # It is not Ready any more, and nothing serves it.
    assert requirement(world, "quality")["met"] == "Unknown"
    assert says(world)[0] == ("False", "NoReadyVersion")


def test_what_serves_and_fails_the_test_breaks_the_promise() -> None:
    world = served(after_tests(governed(QUALITY), quality()))
    world.put(*USE_CASE, spec=use_case({"name": "quality", "metric": {"name": "roc_auc", "min": "0.995"}}))
    settled(world)
    after_tests(world, quality("0.991", "0.995", passed=False))
    found = requirement(world, "quality")
    assert (found["met"], found["observed"]) == ("False", "0.991")
    assert says(world) == [
        ("False", "RequirementNotMet"),
        ("False", "RequirementNotMet"),
        ("True", "RequirementNotMet"),
    ]
    assert status(world)["next"] == (
        "requirement quality: roc_auc of ModelVersion triage-1: it is 0.991, and must be >= 0.995; train a better one"
    )


def test_the_worst_slice_is_told() -> None:
    world = served(after_tests(governed(FAIR), slices(passed=True, observed="0.93")))
    assert requirement(world, "fair")["observed"] == "0.93 in age_group=old"


def slices(*, passed: bool, observed: str) -> report.Outcome:
    return report.Outcome("recall of every age_group", passed, ">= 0.90", observed, "age_group=old")


@pytest.mark.parametrize(
    ("observed", "met"), [("0.999000", "True"), ("0.9995", "True"), ("0.998999", "False"), (None, "Unknown")]
)
def test_availability_is_what_was_measured_of_what_serves(observed: str | None, met: str) -> None:
    world = served(after_tests(governed(QUALITY, AVAILABLE), quality()))
    said = {"min": "0.999", "met": met, **({"observed": observed} if observed else {})}
    levels(world, availability=said)
    assert requirement(world, "available")["met"] == met
    assert requirement(world, "available")["threshold"] == ">= 0.999 of requests in 1h"


@pytest.mark.parametrize(
    ("observed", "met"), [("19.3ms", "True"), ("20ms", "True"), ("20.7ms", "False"), ("above 16777ms", "False")]
)
def test_latency_is_what_was_measured_of_what_serves(observed: str, met: str) -> None:
    world = served(after_tests(governed(LATENCY), latency()))
    levels(world, latency=[{"quantile": "0.99", "max": "20ms", "observed": observed, "met": met}])
    found = requirement(world, "fast")
    assert (found["met"], found["observed"]) == (met, observed)
    assert found["evidence"] == "modeldeployment/triage"


def test_while_no_pod_is_ready_no_promise_of_what_serves_is_kept() -> None:
    world = served(after_tests(governed(AVAILABLE, QUALITY), quality()))
    levels(world, availability={"min": "0.999", "met": "True", "observed": "1.000000"})
    assert requirement(world, "available")["met"] == "True"
    for name in world.deployments():
        world.pods_of(name, 0)
    world.reconcile(*DEPLOYMENT)
    world.reconcile(*USE_CASE)
    assert requirement(world, "available")["observed"] == "no pod is ready"
    assert says(world)[1] == ("False", "RequirementNotMet")


def test_data_is_fresh_until_it_is_too_old_and_that_is_looked_at_when_it_is_time() -> None:
    world = with_dataset(with_store(World()))
    world.put(*USE_CASE, spec=use_case(FRESH))
    plan = world.reconcile(*USE_CASE)
    assert requirement(world, "fresh") == {
        "name": "fresh",
        "met": "True",
        "observed": "of 2026-01-01T00:00:00Z",
        "threshold": "dataset/tumours at most 24h old",
        "evidence": "dataset/tumours",
        "at": "2026-01-01T00:00:00Z",
    }
    assert plan.requeue_after is not None
    assert plan.requeue_after.total_seconds() == 24 * 3600
    world.wait(3600)
    assert world.plan(*USE_CASE).writes == ()  # that time passes is not written
    world.wait(23 * 3600)
    world.reconcile(*USE_CASE)
    assert requirement(world, "fresh")["met"] == "False"
    assert world.condition(*USE_CASE, "Feasible") == ("False", "RequirementNotMet")


def test_data_that_is_there_and_large_enough_makes_it_feasible_before_anything_is_trained() -> None:
    world = with_dataset(with_store(World()))
    for rows, expected in ((569, ("True", "DataReady")), (570, ("False", "TooFewRows"))):
        world.put(*USE_CASE, spec=use_case(QUALITY, data=[{"datasetRef": {"name": "tumours"}, "minRows": rows}]))
        world.reconcile(*USE_CASE)
        assert world.condition(*USE_CASE, "Feasible") == expected
    assert says(world)[0] == ("False", "TooFewRows")
    assert status(world)["next"].startswith("Dataset tumours has 569 rows, and spec.data asks for 570:")


def test_data_that_is_not_there_is_waited_for() -> None:
    world = alone(QUALITY, data=[{"datasetRef": {"name": "nowhere"}}])
    assert world.condition(*USE_CASE, "Feasible") == ("False", "DatasetNotFound")
    assert world.condition(*USE_CASE, "Reconciling") == ("True", "DatasetNotFound")
    assert world.condition(*USE_CASE, "RequirementsMet") == ("Unknown", "ModelNotFound")


def test_data_that_needs_a_person_does_so_here() -> None:
    world = with_store(World())
    world.put("Dataset", "tumours", spec={"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}})
    world.reconcile("Dataset", "tumours")
    world.put(*USE_CASE, spec=use_case(QUALITY, data=[{"datasetRef": {"name": "tumours"}}]))
    world.reconcile(*USE_CASE)
    assert world.condition(*USE_CASE, "Feasible") == ("Unknown", "DatasetNotReady")
    world.end_job("tumours-data", report.Report(False, "SourceNotFound", "there is no ConfigMap tumours; create it"))
    world.reconcile("Dataset", "tumours")
    world.reconcile(*USE_CASE)
    assert world.condition(*USE_CASE, "Feasible") == ("False", "DatasetNotReady")
    assert world.condition(*USE_CASE, "Stalled") == ("True", "DatasetNotReady")


def test_a_use_case_that_names_no_data_says_that_nobody_knows() -> None:
    assert alone(QUALITY).condition(*USE_CASE, "Feasible") == ("Unknown", "NotDeclared")


def test_nothing_that_was_promised_is_kept() -> None:
    world = alone()
    assert says(world)[:2] == [("True", "NothingRequired"), ("True", "NothingRequired")]
    assert "met" not in status(world)


# Bad input.


@pytest.mark.parametrize(
    ("requirements", "reason", "words"),
    [
        (
            [{"name": "a", "metric": {"name": "rocauc", "min": "0.9"}}],
            "MetricUnknown",
            "requirement a: nothing measures a metric rocauc; use one of accuracy,",
        ),
        (
            [
                {"name": "a", "metric": {"name": "recall", "min": "0.9"}},
                {"name": "b", "metric": {"name": "recall", "max": "0.8"}},
            ],
            "RequirementsContradict",
            "requirement a asks recall to be at least 0.9, and b to be at most 0.8: no model meets both",
        ),
        (
            [
                {"name": "a", "metric": {"name": "recall", "min": "0.9"}},
                {"name": "b", "metric": {"name": "rmse", "max": "8"}},
            ],
            "RequirementsContradict",
            "requirement a (recall) is of models that predict classes, and b (rmse) of models that predict numbers",
        ),
    ],
)
def test_what_no_model_can_meet_needs_a_person(requirements: list[Any], reason: str, words: str) -> None:
    world = alone(*requirements)
    assert says(world) == [("False", reason), ("False", reason), ("True", reason)]
    assert world.message(*USE_CASE, "Ready").startswith(words)


def test_bounds_of_different_rows_do_not_contradict_each_other() -> None:
    world = alone(
        {"name": "a", "metric": {"name": "recall", "min": "0.9"}},
        {"name": "b", "metric": {"name": "recall", "max": "0.8", "everySlice": "age_group"}},
        {"name": "c", "metric": {"name": "recall", "max": "0.9"}},
    )
    assert says(world)[0] == ("False", "ModelNotFound")


@pytest.mark.parametrize(
    ("schedule", "zone", "possible"),
    [
        ("0 3 * * *", "Etc/UTC", True),
        ("0 3 * * MON-FRI", "Etc/UTC", False),
        ("0 */6 * * *", "Etc/UTC", True),
        # A day on which clocks are set back has 25 hours.
        ("0 3 * * *", "Europe/Berlin", True),
        ("0 3 1 * *", "Etc/UTC", False),
    ],
)
def test_data_that_is_read_too_seldom_can_never_be_as_fresh(schedule: str, zone: str, possible: bool) -> None:
    world = with_dataset(with_store(World()))
    refresh = {"schedule": schedule, "timeZone": zone}
    live = world.get("Dataset", "tumours")
    world.store("Dataset", "tumours", {**live, "spec": {**live["spec"], "refresh": refresh}})
    world.put(*USE_CASE, spec=use_case(FRESH))
    world.reconcile(*USE_CASE)
    assert requirement(world, "fresh")["met"] == str(possible)
    if not possible:
        assert says(world)[0] == ("False", "RequirementImpossible")
        assert world.condition(*USE_CASE, "Feasible") == ("False", "RequirementImpossible")
        assert "is to be at most 24h old, and its spec.refresh.schedule" in world.message(*USE_CASE, "Ready")


def test_a_dataset_of_a_freshness_that_is_absent_is_waited_for() -> None:
    world = alone(FRESH)
    assert world.condition(*USE_CASE, "Feasible") == ("False", "DatasetNotFound")
    assert world.condition(*USE_CASE, "RequirementsMet") == ("Unknown", "DatasetNotFound")


# What comes first.


def ranked(**priorities: dict[str, int] | None) -> dict[str, tuple[int | None, str | None]]:
    world = World()
    for name, priority in priorities.items():
        world.put("UseCase", name, spec=use_case(**({"priority": priority} if priority else {})))
    world.settle()
    found = {name: world.get("UseCase", name)["status"] for name in priorities}
    return {name: (said.get("rank"), said.get("score")) for name, said in found.items()}


def points(value: int, effort: int) -> dict[str, int]:
    return {"value": value, "urgency": 0, "riskReduction": 0, "effort": effort}


def test_the_rank_is_the_place_by_weighted_shortest_job_first() -> None:
    found = ranked(small=points(2, 1), big=points(13, 8), triage=PRIORITY, none=None)
    assert found == {"triage": (1, "7.00"), "small": (2, "2.00"), "big": (3, "1.63"), "none": (None, None)}


def test_equal_scores_share_a_place() -> None:
    found = ranked(a=points(1, 1), b=points(2, 2), c=points(1, 3))
    assert found == {"a": (1, "1.00"), "b": (1, "1.00"), "c": (3, "0.33")}


def test_a_rank_follows_the_others() -> None:
    world = World()
    world.put("UseCase", "a", spec=use_case(priority=points(2, 1)))
    world.put("UseCase", "b", spec=use_case(priority=points(1, 1)))
    world.settle()
    assert world.get("UseCase", "b")["status"]["rank"] == 2
    world.remove("UseCase", "a")
    world.reconcile("UseCase", "b")
    assert world.get("UseCase", "b")["status"]["rank"] == 1
