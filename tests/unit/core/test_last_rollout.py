"""What is kept of a rollout that ended: whether it took over, the steps behind it, and what the evidence said."""

from typing import Any

from rolling_out import KIND, NAME, Rolling, begun, promoted, rolled_back, serving, spec
from world import digest_of, with_version

from modelmill.api.rollout import LastRollout


def last(world: Rolling) -> LastRollout:
    return LastRollout.model_validate(world.status["lastRollout"])


def test_one_that_took_over() -> None:
    world = begun()
    old, new = world.revision(1), world.revision(2)
    assert "lastRollout" not in world.status
    promoted(world)
    assert [step["weight"] for step in world.candidate["passed"]] == [5, 25, 50]
    world.step(6)
    found = last(world)
    assert (found.revision, found.version, found.stable, found.outcome) == (new, 2, old, "Promoted")
    assert [step.step for step in found.passed] == [1, 2, 3]
    assert found.passed[0].requests <= found.passed[1].requests <= found.passed[2].requests <= found.requests
    assert found.passed[0].ended_at == found.passed[1].started_at
    (errors,) = found.evidence
    assert (errors.gate, errors.verdict) == ("errorRate", "Promote")
    world.step(3600)
    assert last(world) == found


def test_a_status_that_was_not_written_when_it_took_over_is_made_good() -> None:
    world = begun()
    promoted(world)
    world.wait(6)
    before = world.get(KIND, NAME)["status"]
    world.step()
    assert last(world).outcome == "Promoted"
    world.store(KIND, NAME, {**world.get(KIND, NAME), "status": before})  # killed between the two writes
    world.step()
    assert (last(world).outcome, last(world).stable) == ("Promoted", world.revision(1))


def test_one_that_was_rolled_back_has_the_window_that_ended_it() -> None:
    world = rolled_back()
    found = last(world)
    assert (found.outcome, found.reason) == ("RolledBack", "EvidenceAgainst")
    assert found.message is not None
    assert found.message.startswith("errorRate")
    assert (found.requests, found.failures) == (500, 250)
    assert found.evidence[0].verdict == "Reject"


def test_one_that_was_aborted() -> None:
    world = begun()
    world.act(f"abort@{world.revision(2)}")
    world.step()
    found = last(world)
    assert (found.outcome, found.reason, found.version) == ("RolledBack", "Aborted", 2)


def test_one_in_whose_place_a_newer_one_came() -> None:
    world = begun()
    with_version(world, 3)
    world.step()
    found = last(world)
    assert (found.outcome, found.reason, found.version) == ("Superseded", None, 2)


def test_one_whose_settings_changed_under_way() -> None:
    world = begun()
    changed: dict[str, Any] = spec(steps=[{"weight": 10}])
    world.put(KIND, NAME, spec=changed)
    world.step()
    assert last(world).outcome == "Superseded"


def test_the_status_has_what_was_there_and_nothing_else() -> None:
    world = rolled_back()
    assert set(world.status["lastRollout"]) == {
        "revision", "version", "stable", "strategy", "outcome", "reason", "message", "startedAt", "endedAt", "windows",
        "requests", "failures", "evidence",
    }  # fmt: skip
    (errors,) = world.status["lastRollout"]["evidence"]
    assert set(errors) == {"gate", "logE", "threshold", "verdict", "logEPromotion", "thresholdPromotion"}


def test_of_an_artifact_that_is_no_version_no_number_is_said() -> None:
    world = serving()
    artifact = {"uri": f"s3://models/artifacts/sha256-{'9' * 64}", "digest": digest_of("9")}
    world.put(KIND, NAME, spec={**spec(), "model": artifact})
    world.step()
    new = world.candidate["revision"]
    world.pods_of(f"{NAME}-{new}", 2)
    world.step()
    world.act(f"abort@{new}")
    world.step()
    assert set(world.status["rolledBack"]) == {"revision", "reason", "message", "spec", "at"}
    assert (last(world).revision, last(world).outcome) == (new, "RolledBack")
    assert "version" not in world.status["lastRollout"]
