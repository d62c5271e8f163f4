"""Refresh: when a Dataset's source is read again, and what is said meanwhile."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from world import World, digest_of, moved_to, training_spec, with_store

from modelmill_contracts import report, task

SOURCE = {"source": {"uri": "s3://lake/a.csv"}}
HOURLY = {**SOURCE, "refresh": {"schedule": "0 * * * *"}}
FRESH = {**HOURLY, "expectations": {"maxAge": "24h"}}
NAME, JOB = "tumours", "tumours-data"


def declared(spec: dict[str, Any]) -> World:
    world = with_store(World())
    world.wait(600)  # ten past midnight
    world.put("Dataset", NAME, spec=spec)
    return world


def reconcile(world: World) -> timedelta | None:
    return world.reconcile("Dataset", NAME).requeue_after


def answered(world: World, letter: str = "a", **more: Any) -> None:
    """The Job that looks finds this content."""
    reconcile(world)
    result = report.SnapshotResult(digest_of(letter), digest_of("f"), 569, 31, **more)
    world.end_job(JOB, report.Report(True, "SnapshotTaken", result=result))
    reconcile(world)


def refused(world: World, rule: str = "TooFewRows") -> None:
    reconcile(world)
    problem = report.Problem(rule, "bad", "age", 3)
    world.end_job(JOB, report.Report(False, "DataInvalid", "fix the file", problems=(problem,)))
    reconcile(world)


def looks(world: World) -> bool:
    """Whether it is being looked now."""
    reconcile(world)
    return not world.get("Job", JOB)["status"].get("conditions")


def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.get("Dataset", NAME)["status"]
    return found


def annotate(world: World, value: str | None) -> None:
    """As kubectl annotate does: the generation stays."""
    live = world.get("Dataset", NAME)
    annotations = {"modelmill.dev/refresh": value} if value is not None else {}
    world.store("Dataset", NAME, {**live, "metadata": {**live["metadata"], "annotations": annotations}})


def at(world: World, time: str) -> None:
    """So late is it now, on the first of January or on another day."""
    world.now = datetime.fromisoformat(time if "T" in time else f"2026-01-01T{time}").replace(tzinfo=world.now.tzinfo)


def test_each_time_of_the_schedule_the_source_is_read_once() -> None:
    world = declared(HOURLY)
    answered(world, "a")
    assert reconcile(world) == timedelta(minutes=50)
    at(world, "00:59")
    assert not looks(world)
    at(world, "01:00")
    assert looks(world)
    answered(world, "b")
    assert [h["version"] for h in status(world)["history"]] == [digest_of("b"), digest_of("a")]
    assert status(world)["lastSchedule"] == "2026-01-01T01:00:00Z"
    assert not looks(world)
    assert reconcile(world) == timedelta(hours=1)


def test_nobody_is_told_of_a_look_that_has_not_ended() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    before, events = status(world), list(world.events)
    assert looks(world)
    world.pod_of_job(JOB, conditions=[{"type": "PodScheduled", "status": "False", "message": "no node"}])
    reconcile(world)
    assert status(world) == before  # room in the cluster says nothing about the data
    assert world.events == events


def test_unchanged_data_makes_no_version_but_says_when_it_was_looked_at() -> None:
    world = declared(HOURLY)
    answered(world, "a")
    before = status(world)
    at(world, "01:00")
    reconcile(world)
    at(world, "01:05")
    answered(world, "a")
    after = status(world)
    assert after["history"] == before["history"]
    assert after["modifiedAt"] == "2026-01-01T00:10:00Z"  # when it was seen first: the source does not say
    assert (before["checkedAt"], after["checkedAt"]) == ("2026-01-01T00:10:00Z", "2026-01-01T01:05:00Z")
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"


def test_of_times_that_went_by_only_the_last_is_made_up_for() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "2026-01-05T07:30")
    assert looks(world)
    answered(world, "b")
    assert status(world)["lastSchedule"] == "2026-01-05T07:00:00Z"
    assert not looks(world)


def test_a_clock_that_was_set_back_brings_no_time_back() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "05:00")
    answered(world, "b")
    at(world, "02:00")
    assert not looks(world)
    at(world, "05:59")
    assert not looks(world)
    at(world, "06:00")
    assert looks(world)


def test_a_look_that_takes_longer_than_the_pause_between_two_is_let_end_and_then_the_last_is_made_up_for() -> None:
    world = declared({**SOURCE, "refresh": {"schedule": "* * * * *"}})
    answered(world)
    at(world, "00:11")
    reconcile(world)
    slow = world.get("Job", JOB)["metadata"]["uid"]
    at(world, "00:15")
    reconcile(world)
    assert world.get("Job", JOB)["metadata"]["uid"] == slow
    answered(world, "b")
    assert status(world)["version"] == digest_of("b")
    assert status(world)["lastSchedule"] == "2026-01-01T00:11:00Z"
    reconcile(world)
    assert looks(world)
    answered(world, "c")
    assert status(world)["lastSchedule"] == "2026-01-01T00:15:00Z"


@pytest.mark.parametrize("looked", ["03:00", "12:30"])
def test_a_schedule_that_is_added_later_counts_from_then(looked: str) -> None:
    world = declared(SOURCE)
    answered(world)
    at(world, looked)
    annotate(world, "now")
    answered(world)
    world.put("Dataset", NAME, spec={**SOURCE, "refresh": {"schedule": "0 3 * * *"}})
    assert not looks(world)  # at three o'clock or since it was looked
    at(world, "2026-01-02T03:00")
    assert looks(world)


def test_a_schedule_is_in_its_time_zone() -> None:
    world = declared({**SOURCE, "refresh": {"schedule": "0 3 * * *", "timeZone": "America/New_York"}})
    answered(world)
    at(world, "07:59")
    assert not looks(world)
    at(world, "08:00")
    assert looks(world)


@pytest.mark.parametrize(
    ("refresh", "words"),
    [
        ({"schedule": "61 * * * *"}, "61 is no minute"),
        ({"schedule": "0 0 31 2 *"}, "0 0 31 2 * never comes"),
        ({"schedule": "0 * * * *", "timeZone": "Europe/Atlantis"}, "there is no time zone Europe/Atlantis"),
    ],
)
def test_a_schedule_that_means_nothing_needs_a_person_and_costs_no_version(refresh: Any, words: str) -> None:
    world = declared(HOURLY)
    answered(world)
    world.put("Dataset", NAME, spec={**SOURCE, "refresh": refresh})
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready") == ("False", "ScheduleInvalid")
    assert world.condition("Dataset", NAME, "Stalled") == ("True", "ScheduleInvalid")
    assert words in world.message("Dataset", NAME, "Ready")
    assert status(world)["version"] == digest_of("a")
    world.put("Dataset", NAME, spec=HOURLY)
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"


def test_any_new_value_of_the_annotation_asks_for_a_look() -> None:
    world = declared(SOURCE)
    answered(world)
    assert "lastHandledRefresh" not in status(world)
    for value, letter in (("1", "b"), ("yesterday", "b"), ("1", "c")):
        annotate(world, value)
        assert looks(world)
        assert world.condition("Dataset", NAME, "Ready")[0] == "True"
        answered(world, letter)
        assert status(world)["lastHandledRefresh"] == value
        assert status(world)["version"] == digest_of(letter)
        assert not looks(world)
    annotate(world, None)
    assert not looks(world)
    annotate(world, "x" * 300)
    answered(world, "c")
    assert status(world)["lastHandledRefresh"] == "x" * 256
    assert not looks(world)


def test_a_value_that_comes_while_it_is_looked_has_a_look_of_its_own() -> None:
    world = declared(SOURCE)
    answered(world)
    annotate(world, "1")
    reconcile(world)
    annotate(world, "2")
    reconcile(world)
    answered(world, "b")
    assert status(world)["lastHandledRefresh"] == "1"
    reconcile(world)
    assert looks(world)
    answered(world, "c")
    assert status(world)["lastHandledRefresh"] == "2"


def test_a_look_that_finds_bad_data_keeps_the_last_version_and_says_which_rule() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    refused(world)
    said = status(world)
    assert said["version"] == digest_of("a")
    assert [h["version"] for h in said["history"]] == [digest_of("a")]
    assert said["problems"][0]["rule"] == "TooFewRows"
    assert said["checkedAt"] == said["lastSchedule"] == "2026-01-01T01:00:00Z"
    assert "snapshot" not in said
    for type_, expected in (("Ready", "False"), ("Valid", "False"), ("Available", "True"), ("Stalled", "True")):
        assert world.condition("Dataset", NAME, type_)[0] == expected


def test_bad_data_is_looked_at_again_after_a_pause_and_at_once_when_there_is_something_new() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    refused(world)
    assert reconcile(world) == timedelta(seconds=5)
    assert not looks(world)
    annotate(world, "mended")
    assert looks(world)
    assert world.condition("Dataset", NAME, "Valid") == ("False", "DataInvalid")  # until it has ended
    answered(world, "b")
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"
    assert "problems" not in status(world)
    assert status(world)["lastHandledRefresh"] == "mended"


def test_an_answer_that_is_none_is_asked_for_again_when_there_is_something_new() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    reconcile(world)
    world.end_job(JOB, report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    at(world, "01:59")
    assert not looks(world)
    assert world.condition("Dataset", NAME, "Ready") == ("False", "ReportInvalid")
    at(world, "02:00")
    assert looks(world)


def test_what_somebody_wrote_wrongly_is_said_of_a_look_that_cannot_start() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    reconcile(world)
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "lake" not found'}
    world.pod_of_job(JOB, containerStatuses=[{"name": "trainer", "state": {"waiting": waiting}}])
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready") == ("False", "ContainerConfigInvalid")


def test_bad_data_is_not_forgotten_while_the_store_is_away_or_something_else_is_declared() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    refused(world)
    workspace = world.objects.pop(("Workspace", "default"))
    reconcile(world)
    world.put("Dataset", NAME, spec={**HOURLY, "versionHistoryLimit": 3})
    reconcile(world)
    world.objects["Workspace", "default"] = workspace
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready")[0] == "False"


def test_an_answer_is_taken_in_order_however_late_the_view_is() -> None:
    world = declared(HOURLY)
    answered(world, "a")
    first, its_pod = world.get("Job", JOB), world.get("Pod", f"{JOB}-x")
    at(world, "01:00")
    reconcile(world)
    answered(world, "b")
    known = status(world)
    # Another view still has the first Job with its answer.
    world.objects["Job", JOB], world.objects["Pod", f"{JOB}-x"] = first, its_pod
    for time in ("01:30", "02:00"):
        at(world, time)
        for write in world.plan("Dataset", NAME).writes:
            assert "SetStatus" not in type(write).__name__
    assert status(world) == known


def test_a_job_without_a_pod_whose_answer_was_taken_costs_nothing() -> None:
    world = declared(HOURLY)
    answered(world)
    world.remove("Pod", f"{JOB}-x")
    assert world.plan("Dataset", NAME).writes == ()
    at(world, "01:00")
    reconcile(world)
    assert looks(world)


def test_the_drift_of_a_look_is_measured_against_the_newest_version() -> None:
    world = declared({**HOURLY, "expectations": {"drift": {"maxEffect": "0.2"}}})
    answered(world, "a", profile=digest_of("1"), page=digest_of("2"), size=4711, cpu_seconds=3)
    assert status(world)["usage"] == {"cpuSeconds": 3, "bytes": 4711}
    assert status(world)["history"][0]["profile"] == digest_of("1")
    assert status(world)["history"][0]["page"] == digest_of("2")
    at(world, "01:00")
    reconcile(world)
    assert asked(world).previous == digest_of("1")
    assert asked(world).expectations.max_drift == "0.2"


def asked(world: World) -> task.SnapshotTask:
    """What the Job that looks is asked."""
    work = task.decode(world.get("Job", JOB)["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert isinstance(work, task.SnapshotTask)
    return work


def test_in_another_store_there_is_nothing_yet_to_measure_drift_against() -> None:
    world = declared({**HOURLY, "expectations": {"drift": {"maxEffect": "0.2"}}})
    answered(world, "a", profile=digest_of("1"))
    moved_to(world, "s3://others")
    reconcile(world)
    reconcile(world)
    assert asked(world).store.uri == "s3://others"
    assert asked(world).previous is None


def test_the_page_of_a_version_tells_of_the_change_that_brought_it() -> None:
    """A later look at the same content finds no change, and its page is not kept."""
    world = declared(HOURLY)
    answered(world, "a", page=digest_of("1"))
    for time, letter, looked, kept in (("01:00", "a", "2", "1"), ("02:00", "b", "3", "3"), ("03:00", "a", "4", "4")):
        at(world, time)
        answered(world, letter, page=digest_of(looked))
        assert status(world)["history"][0]["page"] == digest_of(kept)
    moved_to(world, "s3://others")
    reconcile(world)
    answered(world, "a", page=digest_of("5"))
    assert status(world)["history"][0]["page"] == digest_of("5")  # the former one is in the former store


def test_what_may_not_be_read_any_more_is_not_ready_and_is_again_when_it_may() -> None:
    world = declared({"source": {"uri": "https://example.org/a.csv"}})
    answered(world)
    live = world.get("Workspace", "default")["spec"]
    world.put("Workspace", "default", spec={**live, "allow": {"sources": ["s3"]}})
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready") == ("False", "SourceNotAllowed")
    assert status(world)["version"] == digest_of("a")
    world.put("Workspace", "default", spec=live)
    assert not looks(world)
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"


def test_a_source_that_says_a_time_to_come_is_as_new_as_the_look() -> None:
    world = declared(FRESH)
    answered(world, "a", modified_at="2036-01-01T00:00:00Z")
    assert status(world)["modifiedAt"] == "2026-01-01T00:10:00Z"


def test_data_is_as_old_as_its_source_says_and_too_old_to_the_second() -> None:
    world = declared({**FRESH, "refresh": {"schedule": "0 0 1 1 *"}})
    answered(world, modified_at="2025-12-31T12:30:00+01:00")
    assert status(world)["modifiedAt"] == "2025-12-31T11:30:00Z"
    assert world.condition("Dataset", NAME, "Fresh") == ("True", "WithinMaxAge")
    assert reconcile(world) == timedelta(hours=11, minutes=20)
    at(world, "11:29:59")
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"
    at(world, "11:30")
    reconcile(world)
    for type_ in ("Fresh", "Ready"):
        assert world.condition("Dataset", NAME, type_) == ("False", "DataStale")
    assert world.condition("Dataset", NAME, "Valid")[0] == "True"
    assert "2025-12-31T11:30:00Z, longer ago than expectations.maxAge, 24h" in world.message("Dataset", NAME, "Ready")
    annotate(world, "newer")
    answered(world, "a", modified_at="2026-01-01T11:00:00Z")  # the same content, written anew
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"
    assert len(status(world)["history"]) == 1


def test_a_source_that_says_no_time_is_as_old_as_its_content_is_known() -> None:
    world = declared(FRESH)
    answered(world, "a", modified_at="yesterday")
    assert status(world)["modifiedAt"] == "2026-01-01T00:10:00Z"
    for time, letter, modified in (("12:00", "b", "12:00"), ("13:00", "b", "12:00"), ("14:00", "a", "14:00")):
        at(world, time)
        answered(world, letter)
        assert status(world)["modifiedAt"] == f"2026-01-01T{modified}:00Z"  # the same content is no newer
    assert [h["observedAt"] for h in status(world)["history"]] == ["2026-01-01T00:10:00Z", "2026-01-01T12:00:00Z"]


def test_data_grows_old_while_the_store_is_away() -> None:
    world = declared(FRESH)
    answered(world)
    world.remove("Workspace", "default")
    reconcile(world)
    assert world.condition("Dataset", NAME, "Ready")[0] == "True"
    at(world, "2026-01-02T00:10")
    reconcile(world)
    assert world.condition("Dataset", NAME, "Fresh") == ("False", "DataStale")
    assert world.condition("Dataset", NAME, "Ready")[0] == "False"


def waits(world: World, **data: Any) -> tuple[str, str]:
    spec = training_spec()
    world.put("TrainingJob", "lr", spec={**spec, "data": {**spec["data"], **data}})
    world.reconcile("TrainingJob", "lr")
    return world.condition("TrainingJob", "lr", "DataReady")


def test_who_trains_waits_for_bad_data_and_is_told_the_rule_or_names_an_earlier_version() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    refused(world)
    assert waits(world) == ("False", "DatasetInvalid")
    told = world.message("TrainingJob", "lr", "DataReady")
    assert told.startswith(
        "the newest data of Dataset tumours is not ready (TooFewRows of age; DataInvalid: fix the file"
    )
    assert told.endswith("name a version of its status.history to train on that one")
    assert not world.has("Job", "lr-train")
    assert waits(world, version=digest_of("a")) == ("True", "VersionPinned")


def test_who_trains_waits_for_data_that_is_too_old() -> None:
    world = declared(FRESH)
    answered(world)
    at(world, "2026-01-02T00:10")
    reconcile(world)
    assert waits(world) == ("False", "DatasetStale")
    assert "longer ago than expectations.maxAge" in world.message("TrainingJob", "lr", "DataReady")


def test_who_trains_does_not_wait_for_a_look_that_is_under_way() -> None:
    world = declared(HOURLY)
    answered(world)
    at(world, "01:00")
    assert looks(world)
    assert waits(world) == ("True", "VersionPinned")
