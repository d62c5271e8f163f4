"""What a collection does next, for each state that its Job can be in, and what is said meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_collection import ARTIFACTS, JOB, collecting, served, with_collection
from world import World

from modelmill.core import collection, retry
from modelmill.core.collection import Decision, Done, Facts, Kept
from modelmill.core.conditions import Condition, Waiting
from modelmill.core.jobs import Run
from modelmill.core.plan import Create, Delete, Unedited
from modelmill.core.pods import Trouble
from modelmill_contracts import report

NOW = datetime(2026, 1, 5, tzinfo=UTC)
AT = "2026-01-05T00:00:00Z"
LONG_AGO = Done("2026-01-01T00:00:00Z", 1, 2, 3, 4)
TODAY = Done("2026-01-04T23:00:00Z", 1, 2, 3, 4)
NOTHING = Kept((), None)
RUNNING = Waiting("CollectionRunning", "what nobody refers to is being looked for")
FULL = Trouble("StoreFull", "there is no room")
STOPPED = Waiting("StoreFull", "there is no room", stalled=True, failed=True)
FOUND = report.Report(True, "Collected", result=report.CollectResult(5, 6, 7, 8))


def decided(run: Run, done: Done | None = LONG_AGO, keep: Any = NOTHING) -> Decision:
    return collection.decide(Facts("asked", run, keep, done), NOW)


def test_a_name_that_is_taken_is_looked_at_again() -> None:
    assert decided(Run("Foreign")) == Decision(
        LONG_AGO, waiting=retry.name_taken("Job", "default-collect"), requeue_after=retry.MAX
    )


def test_a_job_that_is_held_up_needs_somebody() -> None:
    assert decided(Run("Active")) == Decision(LONG_AGO, waiting=RUNNING)
    assert decided(Run("Active", trouble=FULL)) == Decision(LONG_AGO, waiting=STOPPED)


@pytest.mark.parametrize("state", ["Failed", "Lost"])
def test_one_that_failed_is_taken_away_after_an_hour(state: str) -> None:
    just = Run(state, trouble=FULL, ended=NOW - timedelta(minutes=59))
    assert decided(just) == Decision(LONG_AGO, waiting=STOPPED, requeue_after=timedelta(minutes=1))
    assert decided(replace(just, ended=None)).requeue_after == timedelta(hours=1)
    assert decided(replace(just, ended=NOW + timedelta(days=1))).requeue_after == timedelta(hours=1)
    before = replace(just, ended=NOW - timedelta(hours=1))
    assert decided(before) == Decision(LONG_AGO, waiting=STOPPED, discard=True)


def test_one_that_is_lost_says_so() -> None:
    told = Waiting("ReportLost", "the pod went away before it could report", stalled=True, failed=True)
    assert decided(Run("Lost")).waiting == told


def test_what_is_done_is_done_for_a_day() -> None:
    assert decided(Run("Absent"), TODAY) == Decision(TODAY, requeue_after=timedelta(hours=23))


@pytest.mark.parametrize("done", [None, LONG_AGO])
def test_without_a_job_one_is_started(done: Done | None) -> None:
    assert decided(Run("Absent"), done) == Decision(done, waiting=RUNNING, start=AT)


@pytest.mark.parametrize(
    ("run", "discard"),
    [
        (Run("Outdated"), True),
        (Run("Succeeded"), True),
        (Run("Succeeded", leaving=True), False),
        (Run("Leaving"), False),
    ],
)
def test_the_former_job_is_taken_away_first_and_only_once(run: Run, discard: bool) -> None:
    assert decided(run) == Decision(LONG_AGO, waiting=RUNNING, discard=discard)


def test_nothing_is_started_while_nobody_knows_what_to_keep() -> None:
    unknown = Waiting("LineageUnknown", "which file?", stalled=True, failed=True)
    assert decided(Run("Absent"), keep=unknown) == Decision(LONG_AGO, waiting=unknown)


@pytest.mark.parametrize(
    ("run", "done"),
    [
        (Run("Succeeded", report=FOUND, ended=NOW), Done(AT, 5, 6, 7, 8)),
        (Run("Succeeded", report=FOUND), LONG_AGO),  # nobody knows when
        (Run("Failed", report=FOUND, ended=NOW), LONG_AGO),
        (
            Run("Succeeded", report=report.Report(True, "Collected", result=report.PreflightResult(())), ended=NOW),
            LONG_AGO,
        ),
        (Run("Succeeded", report=FOUND, ended=datetime(2026, 1, 1, tzinfo=UTC)), LONG_AGO),  # it is that one
    ],
)
def test_the_status_says_what_the_last_one_did(run: Run, done: Done) -> None:
    assert decided(run).done == done


def test_a_report_of_something_else_is_said_to_be_invalid() -> None:
    said = Condition("Collected", "Unknown", "ReportInvalid", "the Job's report is not that of a collection")
    assert collection.condition(Decision(None)) == said


def test_what_serves_an_unknown_artifact_needs_somebody() -> None:
    world = with_collection(**ARTIFACTS)
    served(world, {"name": "triage"}, {"version": 1})
    world.remove("Job", JOB)
    waits = collecting(world).waiting
    assert waits is not None
    assert (waits.reason, waits.stalled) == ("ArtifactUnknown", True)


def guards(world: World) -> list[object]:
    return [w.guards for w in world.plan("Workspace", "default").writes if isinstance(w, Create | Delete)]


def test_a_job_is_made_and_taken_away_for_the_workspace_as_it_is_declared() -> None:
    world = with_collection()
    declared = (Unedited.of("Workspace", world.get("Workspace", "default")),)
    world.end_job(JOB, report.Report(False, "StoreUnreachable", "nothing answers", retryable=True))
    world.wait(3600)
    assert guards(world) == [declared]
    world.remove("Job", JOB)
    assert guards(world) == [declared]
