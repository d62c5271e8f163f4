"""A rollout: requests go to what is new by evidence, and back at once where the evidence is against it."""

import pytest
from rolling_out import KIND, NAME, begun, promoted, rolled_back, serving, spec
from world import with_version

from modelmill.core.plan import Apply, Create
from modelmill_contracts import routes


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
    assert world.status["rolledBack"]["revision"] == new
    assert "errorRate" in world.message(KIND, NAME, "RolledBack")
    assert world.condition(KIND, NAME, "Ready") == ("False", "RolledBack")
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
    assert world.condition(KIND, NAME, "Stalled")[0] == "True"
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
    assert (told.weight, world.candidate["state"], world.candidate["weight"]) == (0, "Rejected", 0)
    assert world.condition(KIND, NAME, "Stalled")[0] == "True"
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
    world.step(301)
    assert world.candidate["step"] == 2
    world.act(f"promote@{new}")
    world.step()
    assert world.candidate["weight"] == 100
    world.step(6)
    assert world.selected() == new
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


def test_abort_rolls_back() -> None:
    world = begun()
    world.act(f"abort@{world.revision(2)}")
    world.step()
    assert world.condition(KIND, NAME, "RolledBack") == ("True", "Aborted")


@pytest.mark.parametrize("text", ["promote@00000000", "promote", "erase@{new}", "retry@{new}", "undo@{new}"])
def test_what_has_no_meaning_is_handled_once_and_changes_nothing(text: str) -> None:
    world = begun()
    before = world.candidate
    world.act(text.format(new=world.revision(2)))
    world.step()
    world.step()
    assert world.candidate == before
    assert world.status["lastHandledAction"] == text.format(new=world.revision(2))
    assert [e.reason for e in world.events].count("ActionIgnored") == 1


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
