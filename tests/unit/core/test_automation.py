"""The automation level is found by what is wired up; what is missing to the next one is said."""

from typing import Any

from governing import PRIORITY, QUALITY, USE_CASE, after_tests, governed, served, settled
from governing import quality as passed

from modelmill.api.usecase import UseCaseSpec
from modelmill.core import automation
from modelmill.core.automation import Level
from modelmill.core.resources import trained_by

ARGO_CD = {"annotations": {"argocd.argoproj.io/tracking-id": "triage:modelmill.dev/Model:team-a/triage"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "triage"}}
SPEC = UseCaseSpec.model_validate({"owner": "ana", "requirements": [QUALITY]})


def made(name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "spec": spec}


def model(**spec: Any) -> dict[str, Any]:
    return made("triage", {"useCaseRef": {"name": "tumour-triage"}, **spec}, **ARGO_CD)


def pipeline(*triggers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    stages = [{"name": "train", "trainingJob": {"spec": {"modelRef": {"name": "triage"}}}}]
    return made("nightly", {"triggers": list(triggers), "stages": stages, **spec}, **FLUX)


SCHEDULE = {"name": "night", "schedule": {"cron": "0 3 * * *"}}
DEPLOYMENT = made("triage", {"model": {"name": "triage"}, "rollout": {"strategy": "Canary"}}, **ARGO_CD)


def level(*, models: Any = (), deployments: Any = (), pipelines: Any = (), spec: UseCaseSpec = SPEC) -> Level:
    return automation.level(automation.observe(spec, tuple(models), tuple(deployments), tuple(pipelines)))


def test_by_hand_is_level_0() -> None:
    found = level(models=[model()], deployments=[DEPLOYMENT])
    assert found.number == 0
    assert found.next == (
        "to level 1: give a Pipeline a stage that trains a Model of this use case, and a trigger: schedule,"
        " newVersionOf or onCondition"
    )


def test_a_trigger_that_trains_is_level_1_and_shows_which() -> None:
    found = level(models=[model()], pipelines=[pipeline(SCHEDULE, {"name": "fresh", "newVersionOf": {}})])
    assert found.number == 1
    assert found.evidence[0] == "Pipeline nightly trains on night (schedule), fresh (newVersionOf)"


def test_a_pipeline_that_only_a_person_or_a_commit_starts_is_none() -> None:
    assert level(models=[model()], pipelines=[pipeline()]).number == 0
    assert level(models=[model()], pipelines=[pipeline({"name": "code", "onSpecChange": True})]).number == 0
    assert level(models=[model()], pipelines=[pipeline(SCHEDULE, suspend=True)]).number == 0


def test_tests_evidence_and_git_are_level_2() -> None:
    found = level(models=[model()], deployments=[DEPLOYMENT], pipelines=[pipeline(SCHEDULE)])
    assert (found.number, found.next) == (2, None)
    assert found.evidence == (
        "Pipeline nightly trains on night (schedule)",
        "versions of triage must pass tests",
        "versions that pass need no approval",
        "triage serves the newest Ready version",
        "triage is rolled out on evidence",
        "Argo CD, Flux applies pipeline/nightly, model/triage, modeldeployment/triage",
    )


def test_each_step_that_is_missing_is_the_next_one() -> None:
    nothing = UseCaseSpec.model_validate({"owner": "ana"})
    wired: dict[str, Any] = {"models": [model()], "deployments": [DEPLOYMENT], "pipelines": [pipeline(SCHEDULE)]}
    pinned = made("triage", {"model": {"name": "triage", "version": 1}, "rollout": {"strategy": "Canary"}}, **ARGO_CD)
    at_once = made("triage", {"model": {"name": "triage"}}, **ARGO_CD)
    by_hand = made("triage", DEPLOYMENT["spec"])
    asking = pipeline(SCHEDULE, stages=[*pipeline()["spec"]["stages"], {"name": "gate", "approve": "Manual"}])
    for changes, words in (
        ({"spec": nothing}, "require a metric here, or give triage spec.tests"),
        ({"models": [model(approval="Manual")]}, "model/triage asks a person to approve"),
        ({"pipelines": [asking]}, "pipeline/nightly asks a person to approve"),
        ({"deployments": []}, "serve its Model by a ModelDeployment"),
        ({"deployments": [pinned]}, "take spec.model.version out of ModelDeployment triage"),
        ({"deployments": [at_once]}, "give ModelDeployment triage the spec.rollout.strategy Canary or BlueGreen"),
        ({"deployments": [by_hand]}, "let Argo CD or Flux apply modeldeployment/triage from Git"),
    ):
        found = level(**{**wired, **changes})
        assert found.number == 1
        assert found.next is not None
        assert found.next.startswith(f"to level 2: {words}"), found.next


def test_which_models_a_pipeline_trains() -> None:
    stages = [
        {"name": "data", "refresh": {"datasetRef": {"name": "tumours"}}},
        {"name": "search", "experiment": {"spec": {"template": {"spec": {"modelRef": {"name": "b"}}}}}},
        {"name": "train", "trainingJob": {"spec": {"modelRef": {"name": "a"}}}},
        {"name": "track", "trainingJob": {"spec": {}}},
    ]
    assert trained_by(made("p", {"stages": stages})) == ("a", "b")
    assert trained_by(made("p", {})) == ()


def test_the_level_stands_in_the_status_with_evidence_and_the_next_step() -> None:
    world = served(after_tests(governed(QUALITY, priority=PRIORITY), passed()), rollout={"strategy": "Canary"})
    status = settled(world).get(*USE_CASE)["status"]
    assert status["automationLevel"] == 0
    assert "versions of triage must pass tests" in status["automation"]["evidence"]
    assert status["automation"]["next"].startswith("to level 1:")
    # With all promises kept, that is what to do next.
    assert status["next"] == status["automation"]["next"]
