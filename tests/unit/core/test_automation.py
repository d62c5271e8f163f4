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


def test_one_that_is_suspended_trains_nothing_and_is_named() -> None:
    found = level(models=[model()], pipelines=[pipeline(SCHEDULE, suspend=True)])
    assert found.number == 0
    assert found.next == "to level 1: take spec.suspend out of Pipeline nightly"


def search(name: str, model_: str = "triage", **spec: Any) -> dict[str, Any]:
    return {"name": name, "experiment": {"spec": {"template": {"spec": {"modelRef": {"name": model_}}}, **spec}}}


def test_a_search_of_which_no_version_comes_is_no_training_by_itself_and_its_stage_is_named() -> None:
    for more in ({}, {"promote": "None"}):
        found = level(models=[model()], pipelines=[pipeline(SCHEDULE, stages=[search("tune", **more)])])
        assert found.number == 0
        assert found.next == (
            "to level 1: let the best trial become a version, by promote: Best in the experiment of stage tune of"
            " Pipeline nightly"
        )
    assert level(models=[model()], pipelines=[pipeline(SCHEDULE, stages=[search("tune", promote="Best")])]).number == 1
    also = [search("tune"), *pipeline()["spec"]["stages"]]
    assert level(models=[model()], pipelines=[pipeline(SCHEDULE, stages=also)]).number == 1


def test_a_version_of_another_use_cases_model_is_none_of_this_one() -> None:
    stages = [search("tune"), search("other", "another", promote="Best")]
    found = level(models=[model()], pipelines=[pipeline(SCHEDULE, stages=stages)])
    assert found.number == 0
    assert "stage tune of" in str(found.next)


def test_a_search_that_a_person_starts_is_not_what_is_missing() -> None:
    found = level(models=[model()], pipelines=[pipeline(stages=[search("tune")])])
    assert "give a Pipeline a stage that trains" in str(found.next)


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
    steps = [{"shadow": "5m"}, {"weight": 5}, {"weight": 50, "hold": "Manual"}]
    held = made("triage", {"model": {"name": "triage"}, "rollout": {"strategy": "Canary", "steps": steps}}, **ARGO_CD)
    by_hand = made("triage", DEPLOYMENT["spec"])
    asking = pipeline(SCHEDULE, stages=[*pipeline()["spec"]["stages"], {"name": "gate", "approve": "Manual"}])
    for changes, words in (
        ({"spec": nothing}, "require a metric here, or give triage spec.tests"),
        ({"models": [model(approval="Manual")]}, "model/triage asks a person to approve"),
        ({"pipelines": [asking]}, "pipeline/nightly asks a person to approve"),
        ({"deployments": []}, "serve its Model by a ModelDeployment"),
        ({"deployments": [pinned]}, "take spec.model.version out of ModelDeployment triage"),
        ({"deployments": [at_once]}, "give ModelDeployment triage the spec.rollout.strategy Canary or BlueGreen"),
        (
            {"deployments": [held]},
            "a person is in each rollout: spec.rollout.steps[2].hold of ModelDeployment triage is Manual; give",
        ),
        ({"deployments": [by_hand]}, "let Argo CD or Flux apply modeldeployment/triage from Git"),
    ):
        found = level(**{**wired, **changes})
        assert found.number == 1
        assert found.next is not None
        assert found.next.startswith(f"to level 2: {words}"), found.next


def test_each_kind_of_trigger_trains_by_itself() -> None:
    for kind in ("schedule", "newVersionOf", "onCondition"):
        found = level(models=[model()], pipelines=[pipeline({"name": "why", kind: {}})])
        assert found.evidence[0] == f"Pipeline nightly trains on why ({kind})"


def test_tests_of_the_models_own_are_tests_too() -> None:
    nothing = UseCaseSpec.model_validate({"owner": "ana"})
    said = "versions of triage must pass tests"
    assert said in level(spec=nothing, models=[model(tests={"baseline": {}})]).evidence
    assert said not in level(spec=nothing, models=[model(tests={})]).evidence


def test_which_strategies_decide_on_evidence() -> None:
    for strategy, does in (
        ("Canary", True), ("BlueGreen", True), ("Shadow", False), ("RollingUpdate", False),
    ):  # fmt: skip
        one = made("triage", {"model": {"name": "triage"}, "rollout": {"strategy": strategy}})
        assert ("triage is rolled out on evidence" in level(deployments=[one]).evidence) is does, strategy


def test_what_helm_applies_for_flux_is_in_git() -> None:
    applied = made("triage", {}, labels={"helm.toolkit.fluxcd.io/name": "triage"})
    assert "Flux applies model/triage" in level(models=[applied]).evidence


def test_several_are_told_one_by_one() -> None:
    nothing = UseCaseSpec.model_validate({"owner": "ana"})
    canary = {"model": {"name": "m"}, "rollout": {"strategy": "Canary"}}
    pinned, at_once = {"model": {"name": "m", "version": 1}}, {"model": {"name": "m"}}
    asking: dict[str, Any] = {"approval": "Manual", "tests": {"metrics": [{}]}}

    def two(spec: dict[str, Any], **metadata: Any) -> list[dict[str, Any]]:
        return [made("a", spec, **metadata), made("b", spec, **metadata)]

    trained = [made(name, pipeline(SCHEDULE)["spec"]) for name in ("one", "two")]
    assert level(models=[model()], pipelines=trained).evidence[0] == (
        "Pipeline one trains on night (schedule); Pipeline two trains on night (schedule)"
    )
    found = level(models=two(asking), deployments=two(canary))
    assert set(found.evidence) == {
        "versions of a, b must pass tests", "a, b serves the newest Ready version", "a, b is rolled out on evidence",
    }  # fmt: skip
    wired: dict[str, Any] = {"models": [model()], "deployments": [DEPLOYMENT], "pipelines": [pipeline(SCHEDULE)]}
    # A Pipeline trains a Model of these.
    stages = [{"name": "train", "trainingJob": {"spec": {"modelRef": {"name": "a"}}}}]
    starts = {"pipelines": [pipeline(SCHEDULE, stages=stages)]}
    for changes, words in (
        ({"spec": nothing, "models": two({}), **starts}, "give a, b spec.tests"),
        ({"models": two(asking), **starts}, "model/a, model/b asks a person to approve"),
        ({"deployments": two(pinned)}, "out of ModelDeployment a, b"),
        ({"deployments": two(at_once)}, "give ModelDeployment a, b the spec.rollout.strategy"),
        ({"deployments": two(canary)}, "let Argo CD or Flux apply modeldeployment/a, modeldeployment/b from Git"),
    ):
        assert words in str(level(**{**wired, **changes}).next), words


def test_nothing_that_serves_is_no_evidence_of_rollouts() -> None:
    assert level(models=[model()]).evidence == (
        "versions of triage must pass tests",
        "versions that pass need no approval",
        "Argo CD applies model/triage",
    )


def test_what_does_not_fit_the_status_is_cut() -> None:
    many = [made(f"{'m' * 60}-{number}", {}) for number in range(20)]
    found = level(models=many)
    assert max(map(len, found.evidence)) == 256
    held = [made(model_["metadata"]["name"], {"model": {"name": "m"}}) for model_ in many]
    assert len(str(level(models=[model()], pipelines=[pipeline(SCHEDULE)], deployments=held).next)) == 512


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
