"""A rollout: requests go to what is new by evidence, and back at once where the evidence is against it."""

from datetime import timedelta
from typing import Any

import pytest
from rolling_out import BINS, KIND, NAME, begun, promoted, rolled_back, serving, spec
from world import with_version

from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.api.rollout import Analysis, Latency
from modelmill.core import evidence, rollout
from modelmill.core.conditions import timestamp
from modelmill.core.plan import Apply, Create, Record, SetStatus
from modelmill.stats.gates import Finding, Verdict
from modelmill.stats.window import ArmWindow, Window
from modelmill_contracts import routes

WAYS_OUT = "kubectl mill resume triage tries it from the start, promote or abort decide"


def test_the_first_deployment_has_no_steps() -> None:
    world = serving()
    assert world.condition(KIND, NAME, "Ready") == ("True", "Serving")
    assert world.told() is None
    assert not world.has("Service", "triage-candidate")
    assert world.condition(KIND, NAME, "RolledBack") == ("False", "NothingRolledBack")


def test_a_canary_gets_its_share_only_once_the_status_says_so() -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    assert world.told() is None
    world.pods_of(f"{NAME}-{world.revision(2)}", 2)
    plan = world.plan(KIND, NAME)
    assert not [w for w in plan.writes if isinstance(w, Create | Apply)]  # first it is written down
    world.step()
    service = world.get("Service", "triage-candidate")
    world.store("Service", "triage-candidate", {**service, "spec": {**service["spec"], "clusterIP": "10.96.0.9"}})
    world.step(4)
    assert world.told() is None  # until every node's proxy knows the way
    world.step(2)
    told = world.told()
    assert told is not None
    assert (told.weight, told.shadow, told.host, told.port) == (5, 0, "10.96.0.9", 80)
    assert (told.epoch, told.revision) == (world.candidate["epoch"], world.revision(2))
    assert world.selected("triage-candidate") == world.revision(2)
    assert world.selected() == world.revision(1)
    assert (world.candidate["step"], world.candidate["steps"], world.candidate["weight"]) == (1, 3, 5)
    assert (world.candidate["windows"], world.candidate["requests"], world.candidate["failures"]) == (0, 0, 0)
    assert world.condition(KIND, NAME, "Ready") == ("False", "TooFewRequests")
    assert world.condition(KIND, NAME, "Available")[0] == "True"


def test_pods_that_serve_are_touched_after_each_edit_of_the_routes() -> None:
    world = begun()
    pod = world.get("Pod", f"{NAME}-{world.revision(1)}-x")
    mark = pod["metadata"]["annotations"]["modelmill.dev/routes"]
    promoted(world)
    assert world.get("Pod", f"{NAME}-{world.revision(1)}-x")["metadata"]["annotations"]["modelmill.dev/routes"] != mark


def test_a_touch_only_hurries() -> None:
    world = begun()
    name = f"{NAME}-{world.revision(1)}-x"
    pod = world.get("Pod", name)
    world.store("Pod", name, {**pod, "metadata": {**pod["metadata"], "annotations": {}}})
    touches = [write for write in world.plan(KIND, NAME).writes if isinstance(write, Apply)]
    assert [(write.manifest["kind"], write.spared) for write in touches] == [("Pod", True)]


def test_evidence_promotes_and_the_old_pods_first_send_everything_on() -> None:
    world = begun()
    old, new = world.revision(1), world.revision(2)
    promoted(world)
    assert world.candidate["weight"] == 100
    assert world.condition(KIND, NAME, "Ready") == ("False", "TakingOver")
    assert world.plan(KIND, NAME).requeue_after == timedelta(seconds=5)
    assert world.selected() == old  # pods are told first
    told = world.told()
    assert told is not None
    assert told.weight == 100
    world.step(6)
    assert world.selected() == new
    assert world.status["history"][0]["version"] == 2
    assert "candidate" not in world.status
    world.step(6)
    assert world.get("Deployment", f"{NAME}-{old}")["spec"]["replicas"] == 0
    assert world.told() == told  # for connections that the old pods still have
    world.pods_of(f"{NAME}-{old}", 0)
    world.remove("Pod", f"{NAME}-{old}-x")
    world.step()
    told = world.told()
    assert told is not None
    assert told.weight == 0
    world.step(6)
    assert world.told() is None
    assert not world.has("Service", "triage-candidate")
    assert world.condition(KIND, NAME, "Ready") == ("True", "Serving")


def test_evidence_against_it_rolls_back_and_it_is_not_tried_again() -> None:
    world = begun()
    old, new = world.revision(1), world.revision(2)
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((9000, 90), (500, 250))
    world.step(20)
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "EvidenceAgainst")
    assert (world.status["rolledBack"]["revision"], world.status["rolledBack"]["version"]) == (new, 2)
    assert "errorRate" in world.message(KIND, NAME, "RolledBack")
    assert world.condition(KIND, NAME, "Ready") == ("False", "RolledBack")
    assert world.condition(KIND, NAME, "Stalled") == ("True", "RolledBack")
    again = "; it is tried again when the spec changes, or by kubectl mill retry triage"
    assert world.message(KIND, NAME, "Stalled").endswith(again)
    assert world.condition(KIND, NAME, "Available")[0] == "True"
    told = world.told()
    assert told is not None
    assert told.weight == 0
    assert world.get("Deployment", f"{NAME}-{new}")["spec"]["replicas"] == 2  # until all pods know
    world.step(6)
    assert world.get("Deployment", f"{NAME}-{new}")["spec"]["replicas"] == 0
    world.pods_of(f"{NAME}-{new}", 0)
    world.step(6)
    assert world.told() is None
    assert world.selected() == old
    world.step(100000)
    assert world.status["rolledBack"]["revision"] == new
    assert [e.reason for e in world.events if e.type == "Warning"].count("RolledBack") >= 1


def test_it_is_tried_again_when_somebody_says_so_or_the_spec_changes_but_not_by_other_replicas() -> None:
    world = rolled_back()
    world.put(KIND, NAME, spec=spec(3))
    world.step()
    assert "rolledBack" in world.status
    world.act(f"retry@{world.revision(2)}")
    world.step()
    assert "rolledBack" not in world.status
    assert world.status["lastHandledAction"] == f"retry@{world.revision(2)}"
    assert world.get("Deployment", f"{NAME}-{world.revision(2)}")["spec"]["replicas"] == 3

    world = rolled_back()
    world.put(KIND, NAME, spec=spec(analysis={"errorRate": {"maxIncrease": "0.6"}}))
    world.step()
    assert "rolledBack" not in world.status


def test_a_newer_version_is_tried_though_one_was_rolled_back() -> None:
    world = rolled_back()
    with_version(world, 3)
    world.step()
    assert "rolledBack" not in world.status
    assert world.candidate["version"] == 3


def test_a_newer_version_in_the_middle_starts_from_the_first_step_and_what_serves_stays() -> None:
    world = begun()
    with_version(world, 3)
    world.step()
    told = world.told()
    assert told is not None
    assert told.weight == 0  # version 2 gets nothing any more
    world.step(6)
    assert world.get("Deployment", f"{NAME}-{world.revision(2)}")["spec"]["replicas"] == 0
    world.pods_of(f"{NAME}-{world.revision(3)}", 2)
    world.step()
    assert world.told() is None
    world.step(6)
    assert world.selected() == world.revision(1)
    assert world.selected("triage-candidate") == world.revision(3)
    told = world.told()
    assert told is not None
    assert (told.weight, told.revision) == (5, world.revision(3))


def test_each_window_is_weighed_once() -> None:
    world = begun()
    world.counts((900, 9), (100, 1))
    world.step()  # where the window begins
    assert world.candidate["windows"] == 0
    world.counts((1800, 18), (200, 2))
    world.step(20)
    assert (world.candidate["windows"], world.candidate["requests"], world.candidate["failures"]) == (1, 100, 1)
    world.step(20)
    assert world.candidate["windows"] == 1
    world.counts((90, 0), (10, 0), started=2.0)  # started anew
    world.step(20)
    assert (world.candidate["windows"], world.candidate["requests"]) == (2, 110)


def test_without_requests_it_waits_until_the_deadline_and_is_never_promoted() -> None:
    world = begun()
    world.step(3600)
    assert world.condition(KIND, NAME, "Ready") == ("False", "TooFewRequests")
    world.step(24 * 3600)
    assert world.candidate["state"] == "Inconclusive"
    assert world.condition(KIND, NAME, "Stalled") == ("True", "Inconclusive")
    assert world.message(KIND, NAME, "Stalled") == f"there is no verdict at the deadline; {WAYS_OUT}"
    assert world.selected() == world.revision(1)
    assert world.candidate["weight"] == 5

    world = begun(analysis={"onInconclusive": "Rollback"})
    world.step(25 * 3600)
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "Inconclusive")


def test_a_failure_that_is_to_pause_takes_the_requests_away_and_waits() -> None:
    world = begun(onFailure="Pause")
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((9000, 90), (500, 250))
    world.step(20)
    told = world.told()
    assert told is not None
    assert (told.weight, told.shadow) == (0, 0)
    assert (world.candidate["state"], world.candidate["weight"], world.candidate["shadow"]) == ("Rejected", 0, 0)
    assert world.condition(KIND, NAME, "Stalled") == ("True", "Rejected")
    assert world.message(KIND, NAME, "Stalled") == f"the evidence is against it, and it gets no requests; {WAYS_OUT}"
    world.act(f"resume@{world.revision(2)}")
    world.step()
    assert (world.candidate["state"], world.candidate["windows"]) == ("Running", 0)


def test_actions_do_what_they_say() -> None:
    world = begun()
    new = world.revision(2)
    world.act(f"pause@{new}")
    world.step()
    assert world.candidate["state"] == "Paused"
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((90000, 0), (10000, 0))
    world.step(3600)
    assert (world.candidate["step"], world.candidate["requests"]) == (1, 10000)  # evidence is gathered all the same
    world.act(f"resume@{new}")
    world.step()
    assert world.candidate["state"] == "Running"
    world.step(301)
    assert world.candidate["step"] == 2
    world.act(f"pause@{new}")
    world.step()
    world.wait(60)
    world.act(f"promote@{new}")
    world.step()
    assert (world.candidate["weight"], world.candidate["shadow"]) == (100, 0)
    assert (world.candidate["step"], world.candidate["state"]) == (4, "Running")
    assert world.candidate["stepAt"] == timestamp(world.now)
    assert Record("Normal", "ActionHandled", f"promote@{new}") in world.events
    world.step(6)
    assert world.selected() == new
    world.act("undo@00000000")
    world.step()
    assert "rolledBack" not in world.status
    world.act(f"undo@{new}")
    world.step()
    old = world.revision(1)
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "Undone")
    world.pods_of(f"{NAME}-{old}", 2)
    world.step()
    assert world.selected() == old
    world.step(100)
    assert world.selected() == old
    assert world.condition(KIND, NAME, "Ready") == ("False", "RolledBack")


def test_of_an_action_the_status_keeps_what_it_has_room_for() -> None:
    world = begun()
    world.act("promote@" + "0" * 80)
    world.step()
    assert world.status["lastHandledAction"] == "promote@" + "0" * 56
    assert world.plan(KIND, NAME).writes == ()


def test_abort_rolls_back() -> None:
    world = begun()
    world.act(f"abort@{world.revision(2)}")
    world.step()
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "Aborted")


def test_once_the_annotation_is_gone_the_same_can_be_asked_for_again() -> None:
    world = begun()
    words = f"pause@{world.revision(2)}"
    for _ in range(2):
        world.act(words)
        world.step()
        assert (world.candidate["state"], world.status["lastHandledAction"]) == ("Paused", words)
        live = world.get(KIND, NAME)
        world.store(KIND, NAME, {**live, "metadata": {**live["metadata"], "annotations": {}}})
        world.step()
        assert "lastHandledAction" not in world.status
        world.act(f"resume@{world.revision(2)}")
        world.step()


def test_what_somebody_promotes_before_its_first_step_takes_over_when_it_is_ready() -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    new = world.revision(2)
    world.act(f"promote@{new}")
    world.step()
    assert (world.candidate["step"], world.candidate["weight"], world.candidate["windows"]) == (4, 100, 0)
    world.pods_of(f"{NAME}-{new}", 2)
    for _ in range(3):
        world.step(6)
    assert world.selected() == new


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_before_the_first_step_there_is_nothing_to_pause(verb: str) -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    world.act(f"{verb}@{world.revision(2)}")
    world.step()
    assert [e.reason for e in world.events].count("ActionIgnored") == 1


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_without_steps_there_is_nothing_to_promote_or_abort(verb: str) -> None:
    world = serving(strategy="RollingUpdate")
    with_version(world, 2)
    world.step()
    world.act(f"{verb}@{world.revision(2)}")
    world.step()
    assert [e.reason for e in world.events].count("ActionIgnored") == 1
    assert "rolledBack" not in world.status


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "abort"])
def test_at_a_manual_hold_too_an_action_is_for_the_revision_that_it_names(verb: str) -> None:
    world = begun(steps=[{"weight": 5, "hold": "Manual"}, {"weight": 50}])
    before = world.candidate
    world.act(f"{verb}@{world.revision(1)}")
    world.step()
    assert world.candidate == before


def test_with_no_revision_before_it_there_is_nothing_to_go_back_to() -> None:
    world = serving()
    world.act(f"undo@{world.revision(1)}")
    world.step()
    assert [e.reason for e in world.events].count("ActionIgnored") == 1
    assert "rolledBack" not in world.status


@pytest.mark.parametrize(
    "text", ["promote@00000000", "promote", "erase@{new}", "retry@{new}", "undo@{new}", "resume@{new}"]
)
def test_what_has_no_meaning_is_handled_once_and_changes_nothing(text: str) -> None:
    world = begun()
    before = world.candidate
    world.act(text.format(new=world.revision(2)))
    world.step()
    world.step()
    assert world.candidate == before
    assert world.status["lastHandledAction"] == text.format(new=world.revision(2))
    (event,) = [event for event in world.events if event.reason == "ActionIgnored"]
    assert event.type == "Warning"
    assert event.message.startswith(f"{text.format(new=world.revision(2))} changes nothing now: write VERB@REVISION")


def test_copies_come_before_weights() -> None:
    world = begun(steps=[{"shadow": "10m"}, {"weight": 10}], analysis={"minRequests": 1})
    told = world.told()
    assert told is not None
    assert (told.weight, told.shadow) == (world.candidate["weight"], world.candidate["shadow"]) == (0, 100)
    world.counts((0, 0), (0, 0), copies=True)
    world.step()
    world.counts((1000, 0), (1000, 0), copies=True)
    world.step(600)
    assert (world.candidate["weight"], world.candidate["shadow"]) == (10, 0)


def test_a_manual_hold_waits_for_somebody_and_the_same_words_work_at_the_next_one() -> None:
    steps = [{"weight": 5, "hold": "Manual"}, {"weight": 50, "hold": "Manual"}]
    world = begun(steps=steps, analysis={"minRequests": 1, "deadline": "1h"})
    new = world.revision(2)
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((90000, 0), (10000, 0))
    world.step(3600 * 5)
    assert world.condition(KIND, NAME, "Ready") == ("False", "WaitingForResume")
    world.act(f"resume@{new}")
    world.step()
    assert world.candidate["step"] == 2
    world.act(f"resume@{new}#2")
    world.step()
    assert world.candidate["weight"] == 100


def test_copies_alone_may_promote_a_blue_green_one_and_nothing_a_shadow() -> None:
    for strategy in ("BlueGreen", "Shadow"):
        world = begun(strategy=strategy, analysis={"agreement": {"min": "0.9"}})
        told = world.told()
        assert told is not None
        assert (told.weight, told.shadow) == (0, 100)
        world.counts((0, 0), (0, 0), copies=True)
        world.step()
        world.counts((10000, 0), (10000, 0), copies=True, agreed=9900)
        world.step(601)
        assert world.candidate["requests"] == 10000
        assert [found["gate"] for found in world.candidate["evidence"]] == ["errorRate", "agreement"]
        if strategy == "BlueGreen":
            assert world.candidate["weight"] == 100
        else:
            assert world.condition(KIND, NAME, "Ready") == ("False", "WaitingForPromote")


def test_guards_read_fresh_that_the_candidate_is_ready_and_that_the_status_says_the_weight() -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", 2)
    while not world.has("Service", "triage-candidate"):
        for write in world.plan(KIND, NAME).writes:
            world.carry_out(KIND, NAME, write)
    world.wait(6)
    (create,) = [w for w in world.plan(KIND, NAME).writes if isinstance(w, Create)]
    ready, reached, said = create.guards
    deployment = world.get("Deployment", f"{NAME}-{world.revision(2)}")
    assert ready.holds(deployment)
    assert not ready.holds({**deployment, "status": {"availableReplicas": 0}})
    assert not ready.holds(None)
    service = world.get("Service", "triage-candidate")
    assert reached.holds(service)
    assert not reached.holds({**service, "spec": {"selector": {"modelmill.dev/revision": "other"}}})
    live = world.get(KIND, NAME)
    assert said.holds(live)
    candidate = {**live["status"]["candidate"], "weight": 4}
    assert not said.holds({**live, "status": {**live["status"], "candidate": candidate}})
    assert not said.holds({**live, "status": {}})


def test_a_candidate_keeps_its_pods_while_the_routes_read_fresh_point_at_it() -> None:
    world = begun()
    world.act(f"abort@{world.revision(2)}")
    world.step()
    world.wait(6)
    (scale,) = [w for w in world.plan(KIND, NAME).writes if isinstance(w, Apply) and w.manifest["kind"] == "Deployment"]
    _, guard = scale.guards
    live = world.get("ConfigMap", "triage-routes")
    assert guard.holds(live)
    assert guard.holds(None)
    on = routes.decode(live["data"][routes.FILE].encode())
    on = routes.Routes(epoch=on.epoch, host=on.host, port=on.port, weight=1, revision=on.revision)
    assert not guard.holds({**live, "data": {routes.FILE: routes.encode(on).decode()}})
    assert not guard.holds({**live, "data": {routes.FILE: "nonsense"}})


def test_a_step_that_names_no_hold_takes_five_minutes() -> None:
    world = begun(steps=[{"weight": 10}, {"weight": 50}], analysis={"minRequests": 1})
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((90000, 0), (10000, 0))
    world.step(293)  # it began six seconds ago
    assert world.candidate["step"] == 1
    world.step(1)
    assert world.candidate["step"] == 2


def test_what_was_rolled_back_is_known_by_the_same_digits_after_an_update_of_the_operator() -> None:
    """Others would mean another spec: it would be tried again, though nobody asked for that."""
    declared = spec(steps=[{"shadow": "10m"}, {"weight": 10}], analysis={"minRequests": 5})
    # How many pods there are, and who reaches and watches them, is nothing that could be rolled back.
    expose = {"gateway": {"name": "public"}, "hostnames": ["triage.example.org"]}
    autoscaling = {"max": 3, "cpuPercent": 60}
    others: list[dict[str, Any]] = [{}, {"replicas": 7}, {"autoscaling": autoscaling}, {"expose": expose}]
    for more in (*others, {"monitoring": {"drift": {}}}):
        assert rollout.digest_of(ModelDeploymentSpec.model_validate({**declared, **more})) == "a2170139"


def test_a_rollout_goes_on_after_an_update_of_the_operator() -> None:
    world = begun(analysis={"minRequests": 5})
    assert world.candidate["epoch"] == f"{world.revision(2)}-e6cc3917-{world.candidate['startedAt']}"


def test_what_is_resumed_waits_for_nobody_any_more_though_its_evidence_comes_later() -> None:
    world = begun(steps=[{"weight": 5, "hold": "Manual"}, {"weight": 50}], analysis={"minRequests": 100})
    world.act(f"resume@{world.revision(2)}")
    world.step()
    assert (world.candidate["state"], world.candidate["step"]) == ("Resumed", 1)
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((9000, 0), (1000, 0))
    world.step(20)
    assert (world.candidate["state"], world.candidate["step"]) == ("Running", 2)


def test_a_candidate_that_is_slower_than_declared_is_rolled_back() -> None:
    world = begun(analysis={"latency": {}})
    assert [found["gate"] for found in world.candidate["evidence"]] == ["errorRate", "latency"]
    world.counts((0, 0), (0, 0))
    world.step()
    for windows in (1, 2):  # the first one says how long the other takes
        world.counts((9000 * windows, 0), (1000 * windows, 0), slower=20)
        world.step(20)
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "EvidenceAgainst")
    assert "latency" in world.message(KIND, NAME, "RolledBack")


@pytest.mark.parametrize("state", ["", "nonsense", "5", "{}", "[null]", "[1]"])
def test_evidence_that_cannot_be_read_begins_anew_and_the_other_gates_go_on(state: str) -> None:
    declared = Analysis(latency=Latency())
    gates = evidence.gates(declared)
    before = dict(evidence.states(gates))
    times = (100, *(0,) * (BINS - 1))
    counted = Window(control=ArmWindow(100, 0, times), candidate=ArmWindow(100, 1, times))
    later = dict(evidence.states(evidence.after(gates, counted)))
    assert before["latency"] != later["latency"]
    said = (("errorRate", state), ("of another version", "[]"), ("latency", later["latency"]))
    read = dict(evidence.states(evidence.gates(declared, said)))
    assert read == {"errorRate": before["errorRate"], "latency": later["latency"]}


@pytest.mark.parametrize(("against", "shown"), [(1.2349, "1.234"), (-1.2341, "-1.235"), (0.0, "0.000")])
def test_never_more_evidence_is_shown_than_there_is(against: float, shown: str) -> None:
    finding = Finding("errorRate", Verdict.HOLD, against=against, reject_at=3.0, in_favour=against, promote_at=3.0)
    assert evidence.shown(finding) == {
        "gate": "errorRate", "logE": shown, "threshold": "3.000", "verdict": "Hold",
        "logEPromotion": shown, "thresholdPromotion": "3.000",
    }  # fmt: skip


def test_nothing_is_rolled_out_beside_pods_that_cannot_be_compared_with() -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    old, new = world.revision(1), world.revision(2)
    world.pods_of(f"{NAME}-{old}", 0)
    world.pods_of(f"{NAME}-{new}", 2)
    world.step(6)
    assert world.condition(KIND, NAME, "Ready") == ("False", "NothingToCompareWith")
    assert world.condition(KIND, NAME, "Stalled") == ("True", "NothingToCompareWith")
    assert world.message(KIND, NAME, "Stalled").startswith(f"revision {new} is ready, and {old}, which serves, has no")
    assert world.message(KIND, NAME, "Stalled").endswith("; kubectl mill promote triage lets it take over as it is")
    assert (world.selected(), world.told(), "step" in world.candidate) == (old, None, False)
    world.pods_of(f"{NAME}-{old}", 2)
    world.step()
    assert world.candidate["step"] == 1


def test_without_pods_nothing_is_rolled_out_until_there_are_some() -> None:
    world = serving()
    old = world.revision(1)
    world.put(KIND, NAME, spec=spec(0))
    world.step()
    world.pods_of(f"{NAME}-{old}", 0)
    with_version(world, 2)
    world.step()
    new = world.revision(2)
    assert world.condition(KIND, NAME, "Ready") == ("False", "ScaledToZero")
    assert world.message(KIND, NAME, "Ready") == f"spec.replicas is 0: revision {new} is rolled out when there are pods"
    assert (world.selected(), "step" in world.candidate) == (old, False)
    world.put(KIND, NAME, spec=spec(2))
    for revision in (old, new):
        world.step()
        world.pods_of(f"{NAME}-{revision}", 2)
    world.step()
    assert (world.selected(), world.candidate["step"]) == (old, 1)


def test_that_a_rollout_begins_is_told() -> None:
    world = serving()
    with_version(world, 2)
    world.step()
    new = world.revision(2)
    world.pods_of(f"{NAME}-{new}", 2)
    (status,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
    assert status.status["candidate"]["message"] == "step 1 of 3 begins"
    assert ("Ready", "RollingOut") in [(c["type"], c["reason"]) for c in status.status["conditions"]]
    world.step()
    assert Record("Normal", "RolloutStarted", f"revision {new}: step 1 of 3 begins") in world.events


def test_a_window_ends_where_the_status_says_that_it_was_weighed() -> None:
    world = begun()
    pod = world.get("Pod", f"{NAME}-{world.revision(1)}-x")["metadata"]["uid"]
    world.counts((900, 9), (100, 1))
    world.step()
    assert world.plan(KIND, NAME).requeue_after == timedelta(seconds=9)  # it began six seconds ago
    world.counts((1800, 18), (200, 2))
    world.wait(9)
    (write,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
    assert write.baseline == {pod: world.answers[pod].value}
    world.step()
    assert world.plan(KIND, NAME).requeue_after == timedelta(seconds=15)


@pytest.mark.parametrize("state", ["Paused", "Rejected", "Inconclusive"])
def test_what_is_weighed_while_it_stands_still_is_weighed_once_too(state: str) -> None:
    world = begun(onFailure="Pause")
    if state == "Paused":
        world.act(f"pause@{world.revision(2)}")
    world.counts((0, 0), (0, 0))
    world.step(24 * 3600 if state == "Inconclusive" else 0)
    if state == "Rejected":
        world.counts((9000, 90), (500, 250))
        world.step(20)
    assert world.candidate["state"] == state
    world.counts((9100, 91), (600, 250))
    world.wait(20)
    (write,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
    assert write.baseline is not None


def test_copies_have_to_agree_before_requests_are_sent() -> None:
    agreement = {"minRequests": 1, "agreement": {"min": "0.9"}}
    world = begun(steps=[{"shadow": "1m"}, {"shadow": "2m"}, {"weight": 50}], analysis=agreement)
    world.counts((0, 0), (0, 0), copies=True)
    world.step()
    for agreed, reason, step in ((95, "StepPassed", 2), (190, "NotEnoughEvidence", 2), (19000, "StepPassed", 3)):
        world.counts((agreed, 0), (agreed * 20 // 19, 0), copies=True, agreed=agreed)
        world.wait(130)
        (write,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
        assert reason in [condition["reason"] for condition in write.status["conditions"]]
        world.step()
        assert world.candidate["step"] == step


def test_a_window_that_is_open_stays_open_whatever_else_is_written() -> None:
    world = begun()
    world.counts((0, 0), (0, 0))
    world.step()
    world.counts((900, 9), (100, 1))
    world.act(f"pause@{world.revision(2)}")
    world.wait(8)  # it began six seconds before
    (write,) = [write for write in world.plan(KIND, NAME).writes if isinstance(write, SetStatus)]
    assert write.baseline is None
    world.step()
    assert world.candidate["windows"] == 0
    world.step(1)
    assert (world.candidate["windows"], world.candidate["requests"]) == (1, 100)
