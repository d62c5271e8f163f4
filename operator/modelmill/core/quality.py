"""Quality of a ModelDeployment: whether what it answers is as good as declared, by the labels that come back.

    spec.monitoring.quality is declared -> windows of labels, one after the other, each measured by one Job
    a window's labels are all there     -> the Job, and what it found with the evidence: one write of the status
    its end is in the status            -> the Job goes, the next window is measured
    too few rows have labels            -> the window is measured again, with the labels that came since
    another artifact serves             -> from the start
    nothing is to be measured, or can   -> the same Job once a day, which deletes what is too old

The Job knows the window that it measures; the status knows until when labels are counted.  So nothing is counted twice
and nothing is lost, whoever dies when.  An operator that was away measures what it missed as one window.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from modelmill.api import monitoring as api
from modelmill.api.schema import GROUP, ResourceRequirements, parse_duration
from modelmill.core import conditions, jobs, pods, quality_status, retry, workspace
from modelmill.core.conditions import Condition, Waiting, false, timestamp, true, unknown
from modelmill.core.plan import Create, Delete, Guard, Guards, Observed, Record, Subject
from modelmill.core.pods import StoreAccess
from modelmill.core.quality_status import CONDITION
from modelmill.core.resources import Key, Manifest, dig
from modelmill.core.serving import NAME_LABEL
from modelmill.core.tally import Tally
from modelmill_contracts import digest, report, task

KIND = "ModelDeployment"
RETENTION = "RetentionKept"
PERIOD = timedelta(days=1)  # of a Job that only deletes
_PAUSE = timedelta(hours=1)  # after a failure of a Job that only deletes
_TIMEOUT = timedelta(hours=1)
_RETENTION = "720h"
START, END = f"{GROUP}/captured-from", f"{GROUP}/captured-until"  # annotations of the Job: its window
_LARGEST = 1e100  # a value that is larger is none: some label is a mistake, and its square is no number
_SILENT = ("Leaving", "Active")  # states of a Job that is to be waited for


@dataclass(frozen=True)
class Facts:
    """What is known of a ModelDeployment of which something is captured, or that declares quality."""

    settings: api.Quality | None  # None: what was captured is only kept for as long as declared
    retention: timedelta | None  # None: nothing is captured
    said: api.QualityStatus | None  # what the status says
    condition: tuple[str, str, str] | None  # RetentionKept: its status, reason and message, as the status says them
    store: StoreAccess | Waiting
    of: str  # UID
    job: str
    asked: str
    run: jobs.Run
    read: tuple[Any, ...]  # how far the status was when it was read
    declared: Guards


@dataclass(frozen=True)
class Course:
    """What is to be said, when to look again, and what becomes of the Job."""

    status: api.QualityStatus | None = None
    condition: Condition | None = None
    kept: Condition | None = None  # of what is captured, where nothing can be measured
    look_again: timedelta | None = None
    start: task.CapturedTask | None = None
    discard: bool = False
    events: tuple[Record, ...] = ()


def job_name(name: str) -> str:
    return f"{name}-captured"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    """What it depends on: of others nothing, but for a Job that may be left when it is no longer declared."""
    metadata = manifest["metadata"]
    told = any(conditions.find(manifest, type_) is not None for type_ in (CONDITION, RETENTION))
    if dig(manifest, "spec", "capture") is None and not told:
        return ()
    return jobs.dependencies(metadata["namespace"], metadata["uid"], job_name(metadata["name"]))


def observe(observed: Observed, settings: api.Quality | None) -> Facts | None:
    """None: nobody asks for anything, and nothing is left."""
    retention = _retention(observed.object)
    if settings is None and retention is None and not depends(observed.object):
        return None
    said = observed.status.get("quality")
    known = api.QualityStatus.model_validate(said) if said is not None else None
    kept = conditions.find(observed.object, RETENTION)
    name, asked = job_name(observed.subject.name), _asked(observed, settings, known)
    return Facts(
        settings=settings,
        retention=retention,
        said=known,
        condition=(kept["status"], kept["reason"], kept["message"]) if kept is not None else None,
        store=workspace.working_store(observed),
        of=observed.uid,
        job=name,
        asked=asked,
        run=_advised(jobs.observe(observed, name, asked)),
        read=_progress(observed.object),
        declared=workspace.declared(observed, KIND),
    )


def _advised(run: jobs.Run) -> jobs.Run:
    """The run; what its Job may use nobody declares, so that a lack of memory takes other advice."""
    if run.trouble is None or run.trouble.reason != pods.OUT_OF_MEMORY:
        return run
    said = (
        "what was captured takes more memory than its Job has; capture less (spec.capture.sample), or shorten windows"
        " (spec.monitoring.quality.window). Labels that came are given up where another min or max is declared"
    )
    return replace(run, trouble=replace(run.trouble, message=said))


def _retention(manifest: Manifest) -> timedelta | None:
    declared = dig(manifest, "spec", "capture")
    return None if declared is None else parse_duration(declared.get("retention") or _RETENTION)


def _asked(observed: Observed, settings: api.Quality | None, said: api.QualityStatus | None) -> str:
    """The digest of what the Job is asked: another one is thrown away.  Where its window ends it says itself."""
    store = workspace.settings(observed)
    where = workspace.asked_of(workspace.store_access(store)) if store is not None else ""
    if settings is None or said is None:
        return digest.of_json([where, dig(observed.object, "spec", "capture", "retention")])
    return digest.of_json([where, said.artifact, said.metric, said.labels_within, *_progress(observed.object)])


def _progress(manifest: Manifest | None) -> tuple[Any, ...]:
    """How far the status is."""
    said = dig(manifest, "status", "quality")
    return dig(said, "artifact"), dig(said, "until"), dig(said, "window", "endedAt"), dig(said, "windows")


def course(
    facts: Facts, serves: str | None, artifacts: Mapping[str, str], compared: Tally | None, now: datetime
) -> Course:
    """What follows; `serves` is the revision that serves from now on, `artifacts` has digests by revision.

    `compared` is what pods counted in a window of drift that has just ended.
    """
    found = _course(facts, serves, artifacts, now)
    estimate = quality_status.estimated(compared, now) if compared is not None and found.status is not None else None
    if found.status is None or estimate is None or found.status.metric != "accuracy":
        return found
    return replace(found, status=found.status.model_copy(update={"estimated": estimate}))


def _course(facts: Facts, serves: str | None, artifacts: Mapping[str, str], now: datetime) -> Course:
    settings = facts.settings
    if facts.retention is None:
        message = (
            "labels are of what is captured, and nothing is: declare spec.capture, which takes Modelmill's own server,"
            " or leave quality out"
        )
        condition = unknown(CONDITION, "NotCaptured", message) if settings is not None else None
        return Course(condition=condition, discard=_is_there(facts.run))
    if settings is None:
        return _deleting(facts, facts.retention, now)
    artifact = artifacts.get(serves or "")
    cannot = _unserved(serves) if artifact is None else _too_short(settings, facts.retention)
    if artifact is None or cannot is not None:
        if facts.said is not None:
            return Course(condition=cannot, kept=_kept(facts), discard=_is_there(facts.run))
        found = _deleting(facts, facts.retention, now)
        return replace(found, condition=cannot, kept=found.condition)
    said = facts.said
    if said is None or said.artifact != artifact or not quality_status.is_about(said, settings):
        said = quality_status.begun(
            settings, artifact, timestamp(quality_status.aligned(now, parse_duration(settings.window)))
        )
        return Course(said, quality_status.verdict(settings, said), discard=_is_there(facts.run))
    true_now = quality_status.by_this_clock(said, now)
    if true_now != said:
        return Course(true_now, quality_status.verdict(settings, true_now), discard=_is_there(facts.run))
    return _measuring(facts, settings, facts.retention, said, now)


def _unserved(serves: str | None) -> Condition:
    if serves is None:
        return unknown(CONDITION, "NothingServes", "no revision serves; Available says why")
    said = (
        f"an older operator did not write down what revision {serves} serves; the next revision is measured, which"
        " another spec.capture.sample makes, too"
    )
    return unknown(CONDITION, "ArtifactUnknown", said)


def _too_short(settings: api.Quality, retention: timedelta) -> Condition | None:
    """Why a label would miss its row, which it may come for so late, and is looked for a window later."""
    if retention >= parse_duration(settings.labels_within) + parse_duration(settings.window):
        return None
    said = (
        f"spec.capture.retention deletes rows after {retention // timedelta(hours=1)}h, and labels may come"
        f" {settings.labels_within} after them and are measured up to {settings.window} later: raise it to their sum at"
        " least, or lower labelsWithin"
    )
    return unknown(CONDITION, "RetentionTooShort", said)


def _is_there(run: jobs.Run) -> bool:
    """Whether there is a Job of ours that can be thrown away."""
    return bool(run.uid) and not run.leaving


def _measuring(
    facts: Facts, settings: api.Quality, retention: timedelta, said: api.QualityStatus, now: datetime
) -> Course:
    """The window that comes next: its Job, or what came of it."""
    run = facts.run
    verdict = Course(said, quality_status.verdict(settings, said))
    if run.state == "Succeeded":
        found = _found(run)
        if found is None:
            trouble = Waiting("ReportInvalid", "the Job's report is not that of a window; do the images fit together?")
            return _failed(verdict, settings, run, trouble, run.left(retry.MAX_UNCHANGED, now))
        counted = quality_status.with_window(settings, said, *found)
        events = (*quality_status.events(settings, said, counted), *_damaged(run))
        return Course(counted, quality_status.verdict(settings, counted), events=events)
    if run.state == "Foreign":
        taken = retry.name_taken("Job", facts.job)
        return replace(verdict, condition=quality_status.verdict(settings, said, taken), look_again=retry.MAX)
    if run.state in ("Failed", "Lost"):
        # Nothing shows for how long it fails, as the condition is about something else: it is not tried in a hurry.
        long = retry.Failing(Waiting("", ""), now - retry.PATIENCE)
        waiting, pause = retry.after_failure(run, now, long)
        return _failed(verdict, settings, run, waiting, pause)
    if run.state in _SILENT:
        held = None if run.trouble is None else Waiting(run.trouble.reason, run.trouble.message)
        return replace(verdict, condition=quality_status.verdict(settings, said, held))
    if run.state == "Outdated":
        return replace(verdict, discard=_is_there(run))
    start, end, due = quality_status.next_window(settings, said, retention, now)
    if now < due:
        return replace(verdict, look_again=due - now)
    if isinstance(facts.store, Waiting):
        return replace(verdict, condition=quality_status.verdict(settings, said, facts.store))
    measure = task.QualityMeasure(
        settings.metric,
        said.artifact,
        timestamp(start),
        timestamp(end),
        int(parse_duration(settings.labels_within).total_seconds()),
    )
    return replace(verdict, start=_work(facts, facts.store, retention, now, measure))


def _failed(verdict: Course, settings: api.Quality, run: jobs.Run, why: Waiting, left: timedelta | None) -> Course:
    assert verdict.status is not None  # noqa: S101 - what is measured has been begun
    condition = quality_status.verdict(settings, verdict.status, why)
    if left is not None and left > timedelta():
        return replace(verdict, condition=condition, look_again=left)
    return replace(verdict, condition=condition, discard=_is_there(run))


def _work(
    facts: Facts, store: StoreAccess, retention: timedelta, now: datetime, measure: task.QualityMeasure | None = None
) -> task.CapturedTask:
    return task.CapturedTask(store.location, facts.of, timestamp(now), int(retention.total_seconds()), measure)


def _found(run: jobs.Run) -> tuple[str, str, report.MeasuredQuality] | None:
    """The Job's window and what it says of it; None where that makes no sense."""
    start, end = run.annotation(START), run.annotation(END)
    result = run.report.result if run.report is not None else None
    if start is None or end is None or not isinstance(result, report.CapturedResult) or result.quality is None:
        return None
    found = result.quality
    numbers = [number for number in (found.value, found.variance) if number is not None]
    counts = (found.rows, found.unknown, found.late, found.repeated, found.of_others, found.mistyped)
    if min(counts) < 0 or not all(math.isfinite(number) and number >= 0 for number in numbers):
        return None
    if max(numbers, default=0) > _LARGEST:
        found = msgspec.structs.replace(found, value=None, variance=None)
    return start, end, found


def _kept(facts: Facts) -> Condition:
    """What the status says of RetentionKept, or what it says first."""
    if facts.condition is None:
        return unknown(RETENTION, "NotYet", "nothing was deleted yet")
    return Condition(RETENTION, *facts.condition)


def _damaged(run: jobs.Run) -> tuple[Record, ...]:
    """What could not be read is nowhere in the numbers, and its Job goes."""
    result = run.report.result if run.report is not None else None
    if run.report is None or not isinstance(result, report.CapturedResult) or result.damaged <= 0:
        return ()
    said = f"what is in damaged segments is left out; bring them back from a copy of the store: {run.report.message}"
    return (Record("Warning", "SegmentDamaged", said),)


def _deleting(facts: Facts, retention: timedelta, now: datetime) -> Course:
    """Once a day what is older than declared is deleted; the Job stays until then, and says when it was."""
    run, before = facts.run, _kept(facts)
    if run.state == "Foreign":
        return Course(condition=retry.name_taken("Job", facts.job).condition(RETENTION), look_again=retry.MAX)
    if run.state in _SILENT:
        if run.trouble is None:
            return Course(condition=before)
        return Course(condition=false(RETENTION, run.trouble.reason, run.trouble.message))
    if run.state == "Absent":
        if isinstance(facts.store, Waiting):
            return Course(condition=facts.store.condition(RETENTION))
        return Course(condition=before, start=_work(facts, facts.store, retention, now))
    if run.state == "Outdated":
        return Course(condition=before, discard=_is_there(run))
    result = run.report.result if run.report is not None else None
    if isinstance(result, report.CapturedResult) and run.state == "Succeeded":
        said = f"what is older than {retention // timedelta(hours=1)}h is deleted once a day"
        condition, pause = true(RETENTION, "Kept", said), PERIOD
    else:
        trouble = run.trouble or pods.Trouble("ReportLost", "the pod went away before it could report")
        condition, pause = false(RETENTION, trouble.reason, trouble.message), _PAUSE
    left = run.left(pause, now)
    if left > timedelta():
        return Course(condition=condition, look_again=left)
    return Course(condition=condition, discard=_is_there(run))


def status_of(found: Course | None) -> dict[str, Any] | None:
    """What `status.quality` says."""
    if found is None or found.status is None:
        return None
    return found.status.without_none()


def writes(subject: Subject, facts: Facts, found: Course) -> tuple[Create | Delete, ...]:
    """The Job, made or thrown away."""
    guards = (*facts.declared, _as_read(subject, facts))
    if found.discard:
        return (Delete("Job", facts.job, facts.run.uid, guards),)
    if found.start is None or isinstance(facts.store, Waiting):
        return ()
    measure = found.start.quality
    job = jobs.render(
        subject,
        KIND,
        facts.job,
        facts.asked,
        found.start,
        facts.store,
        limits=pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES),
        timeout=_TIMEOUT,
        retries=1,
        annotations={} if measure is None else {START: measure.start, END: measure.end},
        # One that was made a moment before nothing was declared any more is looked for by nobody.
        kept_for=2 * PERIOD,
    )
    # By that label whoever serves is found: by autoscalers, monitoring and NetworkPolicies.
    del job["spec"]["template"]["metadata"]["labels"][NAME_LABEL]
    return (Create(job, guards),)


def _as_read(subject: Subject, facts: Facts) -> Guard:
    """With an old view, a window that is counted would be measured again, and the next one's Job thrown away."""

    def holds(live: Manifest | None) -> bool:
        return live is not None and live["metadata"]["uid"] == subject.uid and _progress(live) == facts.read

    return Guard(KIND, subject.name, holds, f"status.quality of {KIND} {subject.name} is as it was read")
