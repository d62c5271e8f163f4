"""Drift of a ModelDeployment: what its pods count is compared window by window, and said in its status."""

from datetime import timedelta

import pytest
from drifting import EVEN, KIND, NAME, SHIFTED, answer, spec, watching
from world import with_version

from modelmill.core.plan import Record

HOUR = 3600.0


def test_what_is_not_declared_has_no_condition_and_no_status() -> None:
    world = watching()
    world.sees()
    world.put(KIND, NAME, spec={"model": {"name": NAME}})
    world.step()
    assert "drift" not in world.status
    assert all(c["type"] != "DriftDetected" for c in world.status["conditions"])


def test_before_the_first_window_nothing_is_known() -> None:
    world = watching(window="30m", minRows=2000)
    assert world.detected() == ("Unknown", "FirstWindow")
    assert "30m and 2000 rows" in world.message(KIND, NAME, "DriftDetected")
    assert world.drift == {}
    assert world.look_again == timedelta(seconds=1800)


def test_what_is_as_in_training_has_not_drifted() -> None:
    world = watching()
    world.sees()
    assert world.detected() == ("False", "NoDrift")
    assert world.drift["windows"] == 1
    assert world.drift["window"] == {
        "startedAt": "2026-01-01T00:00:00Z",
        "endedAt": "2026-01-01T01:00:00Z",
        "rows": 1100,
        "reference": "Profile",
    }
    assert world.drift["drifted"] == 0
    assert len(world.drift["worst"]) == 5
    assert world.look_again == timedelta(seconds=HOUR)


def test_drift_is_what_two_of_three_windows_find_and_it_ends() -> None:
    world = watching()
    world.sees(SHIFTED)
    assert world.detected() == ("False", "NoDrift")
    world.sees(EVEN)
    world.sees(SHIFTED)
    assert world.detected() == ("True", "Drifted")
    first = world.drift["worst"][0]
    assert (first["of"], first["feature"], first["aspect"], first["windows"]) == ("Feature", "radius", "Values", 2)
    assert float(first["effect"]) > 0.3
    assert "feature radius (0." in world.message(KIND, NAME, "DriftDetected")
    world.sees(SHIFTED)
    world.sees(EVEN)
    assert world.detected() == ("True", "Drifted")  # two of the last three
    world.sees(EVEN)
    assert world.detected() == ("False", "NoDrift")
    about = [(e.type, e.reason) for e in world.events if "Drift" in e.reason]
    assert about == [("Warning", "DriftDetected"), ("Normal", "DriftEnded")]


@pytest.mark.parametrize(
    ("seen", "feature", "aspect"),
    [
        ({"missing": 100}, "radius", "Missing"),
        ({"radius": (300, *(54,) * 9, 300)}, "radius", "OutOfRange"),
        ({"city": (200, 150, 50), "other": 700}, "city", "Unseen"),
    ],
)
def test_missing_values_outermost_ones_and_unseen_categories_are_told_apart(
    seen: dict[str, object], feature: str, aspect: str
) -> None:
    world = watching()
    for _ in range(2):
        world.sees(**seen)  # type: ignore[arg-type]
    assert world.detected() == ("True", "Drifted")
    drifted = [(m["feature"], m["aspect"]) for m in world.drift["worst"] if m["windows"] == 2]
    assert (feature, aspect) in drifted
    assert {name for name, _ in drifted} == {feature}


def test_effects_below_the_floor_do_not_count_however_many_rows_there_are() -> None:
    world = watching(minEffect="0.1")
    slightly = tuple(100_000 + 2_000 * (i - 5) for i in range(11))
    for _ in range(3):
        world.sees(slightly)
    assert world.detected() == ("False", "NoDrift")
    world = watching(minEffect="0.001")
    for _ in range(3):
        world.sees(slightly)
    assert world.detected() == ("True", "Drifted")


def test_with_fewer_rows_a_window_stays_open_and_loses_nothing() -> None:
    world = watching(minRows=2000)
    world.sees()
    assert world.drift == {}
    assert world.look_again == timedelta(seconds=180)  # a twentieth of the window
    world.sees(minutes=30)
    assert world.drift["window"]["rows"] == 2200
    assert world.drift["window"]["startedAt"] == "2026-01-01T00:00:00Z"


def test_never_fewer_than_twenty_rows_a_bin() -> None:
    world = watching(minRows=100)
    fewer = {"city": (180, 135, 45), "other": 36}
    world.windows_said = -1  # the other outputs have not counted
    world.sees((36,) * 11, **fewer)  # type: ignore[arg-type]  # 396 rows; the scores have 20 bins
    assert world.drift == {}
    world.sees((4,) * 11, minutes=1, city=(20, 15, 5), other=4)
    assert world.drift["window"]["rows"] == 1100


def test_a_window_is_the_sum_over_pods_and_none_is_counted_twice() -> None:
    world = watching()
    world.pod(1, "y")
    world.says(answer(times=5), "y")  # what it counted before it was seen first may have been compared
    world.step()
    world.sees(minutes=30)
    world.says(answer(times=7), "y")
    world.wait(30 * 60)
    world.says(world.counted())
    world.step()
    assert world.drift["window"]["rows"] == 3 * 1100
    world.step(HOUR)
    assert world.drift["windows"] == 1  # nothing has come since
    world.says(answer(times=8), "y")
    world.step()
    assert (world.drift["windows"], world.drift["window"]["rows"]) == (2, 1100)


def test_a_restarted_pod_counts_from_zero_and_one_that_went_away_not_at_all() -> None:
    world = watching()
    for pod in ("y", "z"):
        world.pod(1, pod)
        world.says(answer(times=5), pod)
    world.step(HOUR)
    world.says(answer(times=2, started=9.0), "y")  # another process
    world.says(answer(times=1), "z")  # counts went down
    world.step()
    assert world.drift["window"]["rows"] == 3 * 1100
    world.remove("Pod", f"{NAME}-{world.revision(1)}-z")
    world.says(answer(times=3, started=9.0), "y")
    world.step(HOUR)
    assert world.drift["window"]["rows"] == 1100


def test_what_was_compared_survives_a_restart_and_what_was_open_is_lost() -> None:
    world = watching()
    world.sees(SHIFTED)
    world.sees(SHIFTED, minutes=30)  # still open
    world.restarted()
    world.step()
    assert world.detected() == ("False", "NoDrift")
    world.step(HOUR)
    assert world.drift["windows"] == 1  # the rows from before were not counted
    world.sees(SHIFTED)
    assert world.drift["windows"] == 2
    assert world.drift["window"]["rows"] == 1100
    assert world.detected() == ("True", "Drifted")


def test_another_version_begins_anew_at_once() -> None:
    world = watching()
    for _ in range(2):
        world.sees(SHIFTED)
    assert world.detected() == ("True", "Drifted")
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", 1)
    world.step()
    assert world.detected() == ("Unknown", "FirstWindow")
    assert "drift" not in world.status
    assert [e.reason for e in world.events if e.reason == "DriftEnded"] == []


def test_a_window_that_is_full_as_another_version_takes_over_is_no_part_of_it() -> None:
    world = watching()
    world.sees(SHIFTED)
    with_version(world, 2)
    world.step()
    world.pods_of(f"{NAME}-{world.revision(2)}", 1)
    world.sees(SHIFTED)
    assert world.status["stable"]["revision"] == world.revision(2)
    assert "drift" not in world.status
    assert world.detected() == ("Unknown", "FirstWindow")


@pytest.mark.parametrize("kept", [10, 0])
def test_a_new_revision_of_the_same_artifact_goes_on(kept: int) -> None:
    world = watching()
    for _ in range(2):
        world.sees(SHIFTED)
    old = world.revision(1)
    server = {"resources": {"limits": {"memory": "1Gi"}}}
    world.put(KIND, NAME, spec={**spec(), "server": server, "revisionHistoryLimit": kept})
    world.step()
    (new,) = [n.removeprefix(f"{NAME}-") for n in world.deployments() if not n.endswith(old)]
    world.pods_of(f"{NAME}-{new}", 1)
    world.step()
    assert world.status["stable"]["revision"] == new
    assert world.detected() == ("True", "Drifted")
    assert world.drift["windows"] == 2
    world.step(60)
    assert world.detected() == ("True", "Drifted")


def test_other_counts_of_the_profile_begin_anew() -> None:
    world = watching()
    for _ in range(2):
        world.sees(SHIFTED)
    world.says(world.counted(edges="another"))
    world.wait(HOUR)
    world.says(world.counted(edges="another"))
    world.step()
    assert world.drift["windows"] == 1
    assert world.detected() == ("False", "NoDrift")


def test_pods_with_a_profile_of_another_model_are_left_out() -> None:
    world = watching()
    world.pod(1, "y")
    world.says(answer(digest="sha256:" + "9" * 64), "y")
    world.step(HOUR)
    world.says(answer(SHIFTED, digest="sha256:" + "9" * 64, times=1000), "y")
    world.sees()
    assert world.drift["window"]["rows"] == 1100
    world.says(answer(edges="other"), "y")  # of this model, it says, and with other bins
    world.sees(minutes=0)
    world.says(answer(edges="other", times=2), "y")
    world.sees()
    world.sees()
    assert world.drift["windows"] >= 2
    assert world.detected() == ("False", "NoDrift")


@pytest.mark.parametrize(("changes", "reason"), [({"edges": ""}, "NoProfile"), ({"reference": None}, "NoReference")])
def test_what_cannot_be_compared_is_said(changes: dict[str, object], reason: str) -> None:
    world = watching()
    world.says(answer(**changes))
    world.restarted()
    world.step()
    world.says(answer(times=2, **changes))
    world.step(HOUR)
    assert world.detected() == ("Unknown", reason)
    assert world.message(KIND, NAME, "DriftDetected")


def test_what_a_pod_said_before_the_window_began_says_nothing_of_it() -> None:
    world = watching()
    world.says(answer(reference=None))
    world.wait(1)
    world.restarted()
    world.step()
    world.step(HOUR)
    assert world.detected() == ("Unknown", "FirstWindow")


def test_silence_leaves_the_condition_as_it_was() -> None:
    world = watching()
    for _ in range(2):
        world.sees(SHIFTED)
    before = world.status
    for _ in range(50):
        world.step(HOUR)
    assert world.status == before


def test_a_clock_that_jumps_counts_nothing_twice() -> None:
    world = watching(seasonality="Daily")
    world.sees()
    before = world.now
    world.wait(-40 * 24 * HOUR)
    world.opened = world.now  # the age of a window is by another clock
    world.sees(SHIFTED)
    assert world.drift["windows"] == 2
    world.now = before
    world.opened = world.now
    world.sees()
    assert world.drift["windows"] == 3
    assert world.drift["window"]["rows"] == 1100


def test_what_nobody_serves_is_not_known() -> None:
    world = watching()
    world.put(KIND, "other", spec=spec() | {"model": {"name": "nothing"}})
    world.reconcile(KIND, "other")
    assert world.condition(KIND, "other", "DriftDetected") == ("Unknown", "NothingServes")


def test_events_are_of_changes_alone() -> None:
    world = watching()
    for _ in range(5):
        world.sees(SHIFTED)
    assert [e for e in world.events if isinstance(e, Record) and "Drift" in e.reason][1:] == []


def test_what_somebody_wrote_into_the_status_begins_anew() -> None:
    world = watching(seasonality="Daily")
    world.sees(SHIFTED)
    live = world.get(KIND, NAME)
    drift = {**live["status"]["drift"], "recent": ["zz", "ff"], "season": "rubbish"}
    world.store(KIND, NAME, {**live, "status": {**live["status"], "drift": drift}})
    world.sees(EVEN)
    assert world.drift["windows"] == 2
