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

from modelmill.api.requirement import MetricBound
from modelmill.core import promises
from modelmill_contracts import report
from modelmill_contracts.evaluation import CLASSIFIER_METRICS, METRIC_RANGES, REGRESSOR_METRICS


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
    assert status(world)["next"] == "Model triage has no version yet: train one"
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


LOSS: dict[str, Any] = {"name": "loss", "metric": {"name": "log_loss", "max": "0.3"}}
BELOW = {"value": "0.95", "lower": "0.92", "upper": "0.979", "counted": True, "endedAt": "2026-01-01T02:00:00Z"}


@pytest.mark.parametrize(
    "said", [{"min": "0.97", "dropped": False}, {"min": "0.99", "dropped": False}, {"min": "0.99", "dropped": True}]
)
def test_a_window_that_is_below_counts_where_another_bound_was_declared(said: dict[str, Any]) -> None:
    world = with_labels(served(after_tests(governed(QUALITY), quality())), window=BELOW, **said)
    found = requirement(world, "quality")
    assert (found["met"], found["observed"], found["evidence"]) == ("False", "0.95", "modeldeployment/triage")
    assert found["message"] == (
        "requirement quality: by the labels that came back, roc_auc of ModelDeployment triage is 0.95 in the last"
        " window, between 0.92 and 0.979 with 95 % confidence, and must be >= 0.98; roll back, or train a better"
        " version"
    )


@pytest.mark.parametrize(
    "said",
    [
        {"min": "0.980"},  # the same bound: evidence over windows says it all
        {"metric": "accuracy"},
        {"window": {**BELOW, "counted": False}},
        {"window": {**BELOW, "upper": "0.98"}},
        {"window": {key: BELOW[key] for key in ("value", "counted", "endedAt")}},
        {"window": None},
    ],
)
def test_a_window_that_may_be_within_says_nothing(said: dict[str, Any]) -> None:
    said = {"min": "0.97", "dropped": False, "window": BELOW, **said}
    world = with_labels(served(after_tests(governed(QUALITY), quality())), **said)
    assert requirement(world, "quality")["met"] == "True"


@pytest.mark.parametrize(
    ("lower", "most", "met"), [("0.31", "0.5", "False"), ("0.29", "0.5", "True"), ("0.31", "0.3", "True")]
)
def test_of_a_loss_the_lower_bound_counts(lower: str, most: str, met: str) -> None:
    world = served(after_tests(governed(LOSS), report.Outcome("log_loss", True, "<= 0.3", "0.2")))
    live = world.get(*DEPLOYMENT)
    window = {"value": "0.4", "lower": lower, "upper": "0.6", "counted": True, "endedAt": "2026-01-01T02:00:00Z"}
    said = {"metric": "log_loss", "max": most, "dropped": False, "window": window}
    world.store(*DEPLOYMENT, {**live, "status": {**live["status"], "quality": said}})
    world.reconcile(*USE_CASE)
    assert requirement(world, "loss")["met"] == met


def test_of_slices_labels_say_nothing() -> None:
    world = served(after_tests(governed(FAIR), slices(passed=True, observed="0.93")))
    assert requirement(with_labels(world, metric="recall", min="0.5", window=BELOW), "fair")["met"] == "True"


def test_quality_that_dropped_without_a_value_in_the_last_window_still_counts() -> None:
    window = {"counted": False, "endedAt": "2026-01-01T03:00:00Z"}
    world = with_labels(served(after_tests(governed(QUALITY), quality())), window=window)
    assert "of ModelDeployment triage dropped; roll back" in requirement(world, "quality")["message"]


def given_another_model(asked: dict[str, Any]) -> World:
    """A ModelDeployment that serves version 1 of another Model, and was given this one, whose version 1 fails."""
    world = with_version(governed(asked), 1, "plain")
    world.put(*DEPLOYMENT, spec={"model": {"name": "plain"}, "replicas": 1})
    world.settle()
    world.pods_of(world.deployments()[0], 1)
    settled(world)
    if asked is QUALITY:
        after_tests(world, quality("0.5", passed=False))
        after_tests(world, quality(), number=2)
    else:
        with_version(world, 1)
    world.put(*DEPLOYMENT, spec={"model": {"name": "triage"}, "replicas": 1})
    return settled(world)


def test_what_serves_of_another_model_says_nothing() -> None:
    found = requirement(given_another_model(AVAILABLE), "available")
    assert found["met"] == "Unknown"
    assert "another Model yet" in found["message"]


def test_a_version_of_the_same_number_as_that_of_another_model_does_not_serve() -> None:
    found = requirement(given_another_model(QUALITY), "quality")
    assert (found["met"], found["evidence"]) == ("True", "modelversion/triage-2")


def test_labels_of_what_serves_of_another_model_say_nothing() -> None:
    assert requirement(with_labels(given_another_model(QUALITY)), "quality")["met"] == "True"


# What fails before anything serves.


def test_a_version_that_fails_breaks_the_promise_though_nothing_serves() -> None:
    world = after_tests(governed(QUALITY, FAIR), quality("0.97", passed=False), slices(passed=True, observed="0.93"))
    found = requirement(world, "quality")
    assert (found["met"], found["observed"], found["evidence"]) == ("False", "0.97", "modelversion/triage-1")
    assert found["at"] == "2026-01-01T00:00:00Z"
    assert says(world)[1:] == [("False", "RequirementNotMet"), ("True", "RequirementNotMet")]
    assert status(world)["next"] == (
        "requirement quality: roc_auc of ModelVersion triage-1: it is 0.97, and must be >= 0.98; train a better one"
    )
    # It keeps no promise: it may not serve.
    kept = requirement(world, "fair")
    assert (kept["met"], kept["observed"]) == ("Unknown", "0.93 in age_group=old")
    assert "ModelVersion triage-1 passes its test, and is not Ready: roc_auc is 0.97" in kept["message"]


def test_what_nothing_can_measure_is_said_in_the_versions_own_words() -> None:
    why = "the frozen rows have no slices of age_grup: name it in evaluation.slices of the TrainingJob"
    mistyped = {"name": "fair", "metric": {"name": "recall", "min": "0.90", "everySlice": "age_grup"}}
    world = after_tests(governed(mistyped), report.Outcome("recall of every age_grup", False, ">= 0.90", message=why))
    found = requirement(world, "fair")
    assert (found["met"], found["evidence"]) == ("False", "modelversion/triage-1")
    assert found["message"] == (
        f"requirement fair: recall of every age_grup of ModelVersion triage-1: {why}; or mend the requirement"
    )


def test_slices_that_say_nothing_do_not_hide_what_was_observed() -> None:
    silent = "2 of 5 slices do not define it"
    world = after_tests(
        governed(FAIR), report.Outcome("recall of every age_group", False, ">= 0.90", "0.8", "age_group=old", silent)
    )
    assert f"it is 0.8 in age_group=old, and must be >= 0.90 ({silent}); train a better one" in status(world)["next"]


def test_a_version_that_was_not_tested_yet_says_why() -> None:
    world = settled(with_version(governed(QUALITY), 1))
    found = requirement(world, "quality")
    assert (found["met"], found["evidence"]) == ("Unknown", "modelversion/triage-1")
    assert found["message"].startswith("requirement quality: ModelVersion triage-1 was not tested for it yet: the Mod")


def test_a_version_that_is_ready_counts_and_not_a_newer_one_that_fails() -> None:
    world = after_tests(governed(QUALITY), quality())
    after_tests(world, quality("0.5", passed=False), number=2)
    assert requirement(world, "quality")["evidence"] == "modelversion/triage-1"
    assert says(world)[0] == ("True", "AllMet")


def test_what_serves_counts_also_where_it_is_not_ready_any_more() -> None:
    world = served(after_tests(governed(QUALITY), quality()))
    world.put(*USE_CASE, spec=use_case(QUALITY, FAIR))
    after_tests(settled(world), quality(), slices(passed=False, observed="0.8"))
    assert (requirement(world, "quality")["met"], requirement(world, "fair")["met"]) == ("True", "False")


def test_a_requirement_that_was_raised_is_not_met_by_former_tests() -> None:
    world = after_tests(governed(QUALITY), quality())
    raised = {"name": "quality", "metric": {"name": "roc_auc", "min": "0.995"}}
    world.put(*USE_CASE, spec=use_case(raised))
    settled(world)
    assert requirement(world, "quality")["met"] == "Unknown"
    after_tests(world, quality("0.991", "0.995", passed=False))
    # It is not Ready any more, and nothing serves it.
    assert requirement(world, "quality")["met"] == "False"
    assert requirement(world, "quality")["observed"] == "0.991"


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


def also_served(world: World, name: str) -> World:
    """One more ModelDeployment of the Model, of which nothing was measured yet."""
    live = world.get(*DEPLOYMENT)
    metadata = {"name": name, "namespace": live["metadata"]["namespace"], "uid": name, "generation": 1}
    status_ = {key: value for key, value in live["status"].items() if key != "serviceLevels"}
    world.store("ModelDeployment", name, {**live, "metadata": metadata, "status": status_})
    world.reconcile(*USE_CASE)
    return world


def measured(world: World, name: str, **said: Any) -> World:
    live = world.get("ModelDeployment", name)
    since = {"since": "2026-01-01T00:00:00Z", "window": "1h"}
    world.store("ModelDeployment", name, {**live, "status": {**live["status"], "serviceLevels": {**since, **said}}})
    world.reconcile(*USE_CASE)
    return world


@pytest.mark.parametrize("values", [("0.95", "0.80", "0.99"), ("0.9999", "0.9991", "0.9995")])
def test_of_equal_verdicts_what_is_farthest_from_what_is_asked_is_told(values: tuple[str, ...]) -> None:
    world = served(after_tests(governed(QUALITY, AVAILABLE), quality()))
    for name, observed in zip(("triage", "triage-b", "triage-c"), values, strict=True):
        if name != "triage":
            also_served(world, name)
        measured(world, name, availability={"min": "0.999", "observed": observed})
    found = requirement(world, "available")
    assert (found["observed"], found["evidence"]) == (values[1], "modeldeployment/triage-b")


@pytest.mark.parametrize(
    ("values", "worst"),
    [
        (("9ms", "19.3ms"), "19.3ms"),
        (("101.5ms", "23ms"), "101.5ms"),
        (("23ms", "above 16777ms"), "above 16777ms"),
        (("5ms", None), None),
        ((None, "21ms"), "21ms"),
    ],
)
def test_the_slowest_is_told(values: tuple[str | None, ...], worst: str | None) -> None:
    world = also_served(served(after_tests(governed(LATENCY), latency())), "triage-b")
    for name, observed in zip(("triage", "triage-b"), values, strict=True):
        measured(
            world, name, latency=[{"quantile": "0.99", "max": "20ms", **({"observed": observed} if observed else {})}]
        )
    assert requirement(world, "fast").get("observed") == worst


@pytest.mark.parametrize(("first", "second"), [("0.985", "0.981"), ("0.5", "0.4"), ("0.4", "")])
def test_of_several_versions_that_serve_the_worst_is_told(first: str, second: str) -> None:
    world = served(after_tests(governed(QUALITY), quality()))
    also_served(after_tests(world, quality(), number=2), "triage-b")
    for name, number, observed in (("triage", 1, first), ("triage-b", 2, second)):
        live = world.get("ModelDeployment", name)
        stable = {**live["status"]["stable"], "version": number}
        world.store("ModelDeployment", name, {**live, "status": {**live["status"], "stable": stable}})
        version = world.get("ModelVersion", f"triage-{number}")
        (test,) = version["status"]["tests"]
        test = {key: value for key, value in test.items() if key != "observed"}
        test |= {"passed": first > "0.98", **({"observed": observed} if observed else {})}
        world.store("ModelVersion", f"triage-{number}", {**version, "status": {**version["status"], "tests": [test]}})
    world.reconcile(*USE_CASE)
    found = requirement(world, "quality")
    assert (found.get("observed", ""), found["evidence"]) == (second, "modelversion/triage-2")


def test_what_was_not_measured_is_the_worst_and_nonsense_is_not_measured() -> None:
    asked = MetricBound(name="log_loss", min="0.1", max="0.3")
    margins = [promises.margin(asked, value) for value in ("0.25", "0.12", "0.4", "1e3", None, "?", "NaN", "Infinity")]
    assert [str(margin) for margin in margins] == ["0.05", "0.02", "-0.1", "-999.7", *4 * ["-Infinity"]]
    most = MetricBound(name="log_loss", max="0.3")
    assert promises.margin(most, None) < promises.margin(most, "9")


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


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (
            {"name": "roc_auc", "min": "98"},
            "min is 98, and roc_auc is never more than 1: no version passes; give a bound of at least 0 and at most 1",
        ),
        (
            {"name": "recall", "min": "1.01", "everySlice": "age"},
            "min is 1.01, and recall is never more than 1: no version passes; give a bound of at least 0 and at most 1",
        ),
        (
            {"name": "r2", "min": "2"},
            "min is 2, and r2 is never more than 1: no version passes; give a bound of at most 1",
        ),
        (
            {"name": "rmse", "max": "-0.1"},
            "max is -0.1, and rmse is never less than 0: no version passes; give a bound of at least 0",
        ),
        (
            {"name": "matthews_corrcoef", "max": "-2"},
            "max is -2, and matthews_corrcoef is never less than -1: no version passes; give a bound of at least -1",
        ),
        (
            {"name": "brier", "max": "-1"},
            "max is -1, and brier is never less than 0: no version passes; give a bound of at least 0 and at most 2",
        ),
    ],
)
def test_a_bound_that_no_value_of_the_metric_keeps_is_said_at_once(metric: dict[str, str], words: str) -> None:
    world = alone({"name": "a", "metric": metric})
    reason = "BoundOutOfRange"
    assert says(world) == [("False", reason), ("False", reason), ("True", reason)]
    assert world.message(*USE_CASE, "Ready").startswith(f"requirement a: {words}")


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "roc_auc", "min": "1", "max": "1.5"},
        {"name": "accuracy", "min": "-1"},
        {"name": "matthews_corrcoef", "min": "-1", "max": "-1"},
        {"name": "r2", "max": "-7"},
        {"name": "rmse", "min": "-1", "max": "0"},
        {"name": "log_loss", "min": "30"},
        {"name": "brier", "min": "1.9"},
    ],
)
def test_a_bound_that_some_value_keeps_is_taken(metric: dict[str, str]) -> None:
    assert says(alone({"name": "a", "metric": metric}))[0] == ("False", "ModelNotFound")


def test_what_every_metric_lies_between_is_known() -> None:
    assert set(METRIC_RANGES) == {*CLASSIFIER_METRICS, *REGRESSOR_METRICS}


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
