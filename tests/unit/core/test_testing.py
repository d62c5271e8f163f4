"""A Model's tests: a version is Ready only when they are passed, and an answer is about the tests that were asked."""

from dataclasses import replace
from typing import Any

import pytest
from test_modeldeployment import deployment_of_version
from world import World, digest_of, version_spec, with_store, with_version

from modelmill.core.plan import Create, Unedited
from modelmill_contracts import report, task

VERSION = ("ModelVersion", "triage-1")
JOB = "triage-1-test"
TESTS: dict[str, Any] = {"metrics": [{"name": "roc_auc", "min": "0.98"}]}
PASSED = report.Outcome("roc_auc", True, ">= 0.98", "0.991")
FAILED = report.Outcome("roc_auc", False, ">= 0.98", "0.97")


def ran(*outcomes: report.Outcome) -> report.Report:
    return report.Report(True, "TestsRun", result=report.ModelTestResult(outcomes))


def asking(**tests: Any) -> World:
    """A Model with tests, and a version of it that is verified."""
    world = with_store(World())
    world.put("Model", "triage", spec={"tests": tests or TESTS})
    return with_version(world, 1)


def says(world: World) -> list[tuple[str, str]]:
    """Ready, Tested and Stalled of the version."""
    world.reconcile(*VERSION)
    return [world.condition(*VERSION, type_) for type_ in ("Ready", "Tested", "Stalled")]


def work(world: World, job: str = JOB) -> task.ModelTestTask:
    (container,) = world.get("Job", job)["spec"]["template"]["spec"]["containers"]
    asked = task.decode(task.text_of({v["name"]: v.get("value", "") for v in container["env"]}))
    assert isinstance(asked, task.ModelTestTask)
    return asked


def test_a_version_is_ready_when_its_tests_are_passed() -> None:
    world = asking()
    running = "TestsRunning"
    assert says(world) == [("False", running), ("Unknown", running), ("False", running)]
    world.end_job(JOB, ran(PASSED))
    assert says(world) == [("True", "Tested"), ("True", "Passed"), ("False", "Tested")]
    status = world.get(*VERSION)["status"]
    result = {"name": "roc_auc", "passed": True, "threshold": ">= 0.98", "observed": "0.991", "source": "model/triage"}
    assert status["tests"] == [result]
    assert "testing" not in status
    world.remove("Job", JOB)
    assert world.plan(*VERSION).writes == ()


def test_a_test_that_failed_is_told_in_words_and_stays_failed() -> None:
    world = asking()
    says(world)
    said = report.Outcome("recall of every age_group", False, ">= 0.9", "0.81", "age_group=old", "1 of 3 is silent")
    world.end_job(JOB, ran(PASSED, said, FAILED))
    assert says(world) == [("False", "TestFailed"), ("False", "TestFailed"), ("True", "TestFailed")]
    words = "recall of every age_group is 0.81 in the slice age_group=old, and must be >= 0.9; 1 of 3 is silent"
    assert world.message(*VERSION, "Ready") == words
    world.wait(86400)
    world.remove("Job", JOB)
    assert world.reconcile(*VERSION).requeue_after is None
    assert not world.has("Job", JOB)
    assert says(world)[0] == ("False", "TestFailed")


def test_what_could_not_be_found_out_says_why() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(report.Outcome("roc_auc", False, ">= 0.98", message="the artifact has no frozen rows")))
    says(world)
    assert world.message(*VERSION, "Tested") == "roc_auc the artifact has no frozen rows"


def test_it_is_tested_once_it_is_verified() -> None:
    world = with_store(World())
    world.put("Model", "triage", spec={"tests": TESTS})
    world.put(*VERSION, spec=version_spec(1))
    assert says(world)[:2] == [("False", "VerificationRunning"), ("Unknown", "WaitingForVerification")]
    assert not world.has("Job", JOB)


@pytest.mark.parametrize("model", [None, {}, {"approval": "Automatic"}])
def test_without_tests_nothing_is_tested(model: dict[str, str] | None) -> None:
    world = with_store(World())
    if model is not None:
        world.put("Model", "triage", spec=model)
    with_version(world, 1)
    assert says(world)[:2] == [("True", "Verified"), ("True", "NotRequired")]
    assert not world.has("Job", JOB)


def test_the_server_that_serves_is_beside_who_asks_it_on_loopback() -> None:
    world = asking(resources={"limits": {"memory": "2Gi"}}, **TESTS)
    says(world)
    pod = world.get("Job", JOB)["spec"]["template"]["spec"]
    fetch, server = pod["initContainers"]
    (trainer,) = pod["containers"]
    digest = digest_of("1")
    assert fetch["args"] == ["fetch", f"s3://models/artifacts/sha256-{'1' * 64}", digest, "/mnt/model"]
    assert server["image"] == "server:1"
    assert server["restartPolicy"] == "Always"
    assert server["args"] == [
        *("serve", "/mnt/model", "--name=triage", "--version=1", f"--digest={digest}", "--drain-seconds=0"),
        "--host=127.0.0.1",
    ]
    assert server["env"] == []
    assert server["resources"]["limits"] == {"memory": "2Gi"}
    assert trainer["image"] == "trainer:1"
    assert work(world).candidate == task.Served(digest, "http://127.0.0.1:8080")
    # Who parses requests shares nothing with who has credentials but the model, which it cannot change.
    shared = {m["name"] for m in server["volumeMounts"]} & {
        m["name"] for container in (fetch, trainer) for m in container["volumeMounts"]
    }
    assert shared == {"model"}
    assert next(m for m in server["volumeMounts"] if m["name"] == "model")["readOnly"] is True


def test_other_tests_are_asked_again_and_the_former_answer_counts_until_there_is_another() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(PASSED))
    assert says(world)[0] == ("True", "Tested")
    world.put("Model", "triage", spec={"tests": {"metrics": [{"name": "roc_auc", "min": "0.995"}]}})
    assert says(world) == [("True", "Tested"), ("True", "Passed"), ("False", "Tested")]
    assert "the Model's tests were changed since" in world.message(*VERSION, "Tested")
    assert work(world).tests.metrics == (task.MetricTest("roc_auc", "0.995"),)
    world.end_job(JOB, ran(FAILED))
    assert says(world)[0] == ("False", "TestFailed")


def test_a_version_that_failed_may_pass_other_tests() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(FAILED))
    says(world)
    world.put("Model", "triage", spec={"tests": {"metrics": [{"name": "roc_auc", "min": "0.9"}]}})
    assert says(world)[:2] == [("False", "TestsRunning"), ("Unknown", "TestsRunning")]
    world.end_job(JOB, ran(PASSED))
    assert says(world)[0] == ("True", "Tested")


def test_tests_that_are_taken_away_ask_for_nothing() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(FAILED))
    says(world)
    world.put("Model", "triage", spec={})
    assert says(world)[:2] == [("True", "Verified"), ("True", "NotRequired")]
    assert "tests" not in world.get(*VERSION)["status"]


def test_a_change_of_the_model_that_is_none_of_its_tests_runs_nothing() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(PASSED))
    says(world)
    world.remove("Job", JOB)
    world.put("Model", "triage", spec={"tests": TESTS, "description": "other"})
    assert world.plan(*VERSION).writes == ()


def test_a_failure_of_the_tests_themselves_is_tried_again() -> None:
    world = asking()
    says(world)
    job = world.get("Job", JOB)["metadata"]["uid"]
    world.end_job(JOB, report.Report(False, "ServerNotReady", "its log says why", retryable=True))
    plan = world.reconcile(*VERSION)
    assert world.condition(*VERSION, "Tested") == ("False", "ServerNotReady")
    assert plan.requeue_after is not None
    world.wait(plan.requeue_after.total_seconds())
    world.reconcile(*VERSION)
    assert world.get("Job", JOB)["metadata"]["uid"] != job
    world.end_job(JOB, ran(PASSED))
    assert says(world)[0] == ("True", "Tested")


def test_a_report_of_another_task_needs_a_person() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    assert says(world)[0] == ("False", "ReportInvalid")
    assert world.condition(*VERSION, "Stalled")[0] == "True"


def test_a_name_that_is_taken_is_told() -> None:
    world = with_store(World())
    world.put("Job", JOB, spec={}, status={})
    world.put("Model", "triage", spec={"tests": TESTS})
    with_version(world, 1)
    assert says(world)[1] == ("Unknown", "NameConflict")


def test_a_job_is_made_only_for_the_tests_as_they_are() -> None:
    world = asking()
    world.remove("Job", JOB)
    world.put("Model", "triage", spec={"tests": {**TESTS, "latency": {"quantile": "0.9", "max": "10ms"}}})
    (create, *_) = world.plan(*VERSION).writes
    assert isinstance(create, Create)
    guarded = {guard.kind for guard in create.guards if isinstance(guard, Unedited)}
    assert guarded == {"ModelVersion", "Workspace", "Model"}


def test_everything_that_can_be_asked_reaches_the_trainer() -> None:
    world = asking(
        metrics=[{"name": "rmse", "max": "3"}, {"name": "recall", "min": "0.9", "everySlice": "age_group"}],
        behaviour=[
            {"name": "bigger", "perturb": [{"column": "radius", "by": "+10%"}], "expect": "NotDecrease"},
        ],
        latency={"quantile": "0.99", "max": "1s500ms"},
    )
    says(world)
    assert work(world).tests == task.Tests(
        (task.MetricTest("rmse", None, "3"), task.MetricTest("recall", "0.9", None, "age_group")),
        None,
        (task.BehaviourTest("bigger", (task.Perturbation("radius", "+10%"),), "NotDecrease"),),
        task.LatencyTest("0.99", 1500),
    )


# What serves is compared with.

BASELINE = {"deploymentRef": {"name": "triage"}, "metric": "roc_auc", "maxRegression": "0.005"}
SECOND = ("ModelVersion", "triage-2")


def serving() -> World:
    """Version 1 serves, and from now on each version is compared with what serves."""
    world = with_version(with_store(World()), 1)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    world.settle()
    world.pods_of(deployment_of_version(world, 1), 1)
    world.settle()
    world.put("Model", "triage", spec={"tests": {"baseline": BASELINE}})
    return world


def test_a_version_is_compared_with_what_serves_when_its_tests_begin() -> None:
    world = with_version(serving(), 2)
    artifact = version_spec(1)["artifact"]
    expected = {"deployment": "triage", "version": 1, "artifact": artifact}
    assert world.get(*SECOND)["status"]["baseline"] == expected
    asked = work(world, "triage-2-test")
    assert asked.baseline == task.Served(artifact["digest"], "http://127.0.0.1:8180")
    names = [c["name"] for c in world.get("Job", "triage-2-test")["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["fetch", "server", "fetch-baseline", "baseline"]


def test_what_serves_later_does_not_change_what_is_compared_with() -> None:
    world = with_version(serving(), 2)
    job = world.get("Job", "triage-2-test")["metadata"]["uid"]
    deployment = world.get("ModelDeployment", "triage")
    newest = {**deployment["status"]["history"][0], "version": 9, "artifact": version_spec(9)["artifact"]}
    status = {**deployment["status"], "history": [newest]}
    world.store("ModelDeployment", "triage", {**deployment, "status": status})
    world.reconcile(*SECOND)
    assert world.get("Job", "triage-2-test")["metadata"]["uid"] == job
    world.end_job("triage-2-test", ran(report.Outcome("baseline roc_auc", True, ">= -0.005", "0")))
    world.reconcile(*SECOND)
    assert world.condition(*SECOND, "Tested") == ("True", "Passed")
    assert world.get(*SECOND)["status"]["baseline"]["version"] == 1


def test_where_nothing_serves_there_is_nothing_to_compare_with() -> None:
    world = asking(baseline=BASELINE)
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    says(world)
    assert world.get(*VERSION)["status"]["baseline"] == {"deployment": "triage"}
    assert work(world).baseline is None
    names = [c["name"] for c in world.get("Job", JOB)["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["fetch", "server"]


def test_a_version_that_fails_is_not_served_and_what_serves_goes_on() -> None:
    world = with_version(serving(), 2)
    world.end_job("triage-2-test", ran(report.Outcome("baseline roc_auc", False, ">= -0.005", "-0.02")))
    world.settle()
    assert world.condition(*SECOND, "Ready") == ("False", "TestFailed")
    assert len(world.deployments()) == 1
    assert world.condition("ModelDeployment", "triage", "Available")[0] == "True"


@pytest.mark.parametrize("other", [None, {"model": {"name": "other"}}])
def test_what_is_compared_with_has_to_be_there(other: dict[str, Any] | None) -> None:
    world = asking(baseline=BASELINE)
    if other is not None:
        world.put("ModelDeployment", "triage", spec=other)
    missing = "ModelDeploymentNotFound"
    assert says(world) == [("False", missing), ("Unknown", missing), ("False", missing)]
    assert not world.has("Job", JOB)
    words = world.message(*VERSION, "Tested")
    assert words.startswith(
        "there is no ModelDeployment triage of Model triage (spec.model.name) in this namespace yet"
    )
    assert "mend spec.tests.baseline.deploymentRef of the Model" in words
    if other is not None:
        world.remove("ModelDeployment", "triage")
    world.put("ModelDeployment", "triage", spec={"model": {"name": "triage"}})
    assert says(world)[1] == ("Unknown", "TestsRunning")
    world.end_job(JOB, ran(report.Outcome("baseline roc_auc", True, ">= -0.005")))
    assert says(world)[0] == ("True", "Tested")
    assert "ModelDeployment triage served nothing that it could be compared with" in world.message(*VERSION, "Tested")


# What was found out in other circumstances.


def serves(world: World, number: int) -> None:
    """The ModelDeployment has promoted that version."""
    deployment = world.get("ModelDeployment", "triage")
    promoted = {**deployment["status"]["history"][0], "version": number, "artifact": version_spec(number)["artifact"]}
    stable = {**deployment["status"]["stable"], "version": number}
    status = {**deployment["status"], "stable": stable, "history": [promoted]}
    world.store("ModelDeployment", "triage", {**deployment, "status": status})


def numbered(world: World, last: int) -> None:
    """The Model has given that number last."""
    model = world.get("Model", "triage")
    world.store("Model", "triage", {**model, "status": {"lastVersion": last}})


def compared(world: World, version: int, *, passed: bool = True) -> int:
    """The tests of the version end; the version that it was compared with."""
    name, job = ("ModelVersion", f"triage-{version}"), f"triage-{version}-test"
    world.reconcile(*name)
    baseline = work(world, job).baseline
    assert baseline is not None
    world.end_job(job, ran(report.Outcome("baseline roc_auc", passed, ">= -0.005", "0")))
    world.reconcile(*name)
    return next(n for n in range(1, 10) if version_spec(n)["artifact"]["digest"] == baseline.digest)


def is_being_tested(world: World, version: int) -> bool:
    name = ("ModelVersion", f"triage-{version}")
    for _ in range(3):  # the former Job goes first
        world.reconcile(*name)
    return "testing" in world.get(*name)["status"]


def test_the_newest_version_is_compared_with_what_serves_by_now() -> None:
    world = with_version(serving(), 3)
    numbered(world, 3)
    serves(world, 2)  # after the tests of 3 have begun
    assert compared(world, 3) == 1
    assert is_being_tested(world, 3)
    said = world.message("ModelVersion", "triage-3", "Tested")
    assert said.startswith("former tests are passed; what serves has changed since:")
    assert world.condition("ModelVersion", "triage-3", "Ready")[0] == "True"
    serves(world, 1)  # back again, while it is compared with 2
    assert compared(world, 3) == 2
    assert is_being_tested(world, 3)
    assert compared(world, 3, passed=False) == 1
    assert world.condition("ModelVersion", "triage-3", "Ready") == ("False", "TestFailed")
    assert not is_being_tested(world, 3)


def test_a_version_that_failed_is_compared_with_what_serves_after_a_rollback() -> None:
    world = with_version(serving(), 3)
    numbered(world, 3)
    compared(world, 3, passed=False)
    assert not is_being_tested(world, 3)
    serves(world, 2)
    assert is_being_tested(world, 3)


def upgraded(world: World) -> World:
    """The operator has been replaced by one with another image of the server."""
    world.settings = replace(world.settings, server_image="server:2")
    return world


def test_the_newest_version_is_tested_with_the_image_that_would_serve_it() -> None:
    world = asking()
    numbered(world, 1)
    says(world)
    world.end_job(JOB, ran(PASSED))
    says(world)
    assert world.get(*VERSION)["status"]["testedImage"] == "server:1"
    assert not is_being_tested(world, 1)
    assert is_being_tested(upgraded(world), 1)
    assert says(world)[0] == ("True", "Tested")
    assert "the server's image has changed since" in world.message(*VERSION, "Tested")
    server = world.get("Job", JOB)["spec"]["template"]["spec"]["initContainers"][1]
    assert server["image"] == "server:2"
    world.end_job(JOB, ran(FAILED))
    assert says(world)[0] == ("False", "TestFailed")
    assert world.get(*VERSION)["status"]["testedImage"] == "server:2"
    assert not is_being_tested(world, 1)


def test_an_upgrade_tests_no_version_that_is_older_served_or_of_an_older_operator() -> None:
    world = with_version(serving(), 2)
    numbered(world, 3)
    compared(world, 2)
    assert not is_being_tested(upgraded(world), 2)
    numbered(world, 2)
    assert is_being_tested(world, 2)
    compared(world, 2)
    serves(world, 2)
    world.settings = replace(world.settings, server_image="server:3")
    assert not is_being_tested(world, 2)
    serves(world, 1)
    version = world.get(*SECOND)
    status = {key: value for key, value in version["status"].items() if key != "testedImage"}
    world.store(*SECOND, {**version, "status": status})
    assert not is_being_tested(world, 2)


def test_tests_that_are_changed_there_and_back_are_not_answered_with_another_baseline() -> None:
    world = with_version(serving(), 2)
    numbered(world, 9)
    compared(world, 2)
    first = world.get("Model", "triage")["spec"]
    world.put("Model", "triage", spec={"tests": {"baseline": {**BASELINE, "maxRegression": "0.1"}}})
    serves(world, 4)
    assert is_being_tested(world, 2)
    assert world.get(*SECOND)["status"]["baseline"]["version"] == 4
    world.put("Model", "triage", spec=first)
    serves(world, 5)
    assert is_being_tested(world, 2)
    assert compared(world, 2) == 5


def test_tests_without_a_baseline_that_are_changed_there_and_back_are_answered() -> None:
    world = asking()
    says(world)
    world.end_job(JOB, ran(PASSED))
    says(world)
    world.put("Model", "triage", spec={"tests": {"metrics": [{"name": "roc_auc", "min": "0.5"}]}})
    assert is_being_tested(world, 1)
    world.put("Model", "triage", spec={"tests": TESTS})
    assert not is_being_tested(world, 1)
