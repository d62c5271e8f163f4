"""Quality of a ModelDeployment between two versions: windows of labels, and the Jobs that measure them.

A window is half a day, so that one is over whenever time has passed.  Its Job finds that quality is good, that it is
bad, or, in the first one, too few labels.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import JUST_NOW
from modelcheck.systems import jobs
from modelcheck.systems.modeldeployment import KIND, NAME, ModelDeploymentSystem, deployment_spec
from modelmill.core import conditions, quality
from modelmill.core.plan import Create, Delete, SetStatus, Write
from modelmill.core.quality_status import CONDITION
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report

JOB = quality.job_name(NAME)
FOUND = {
    "good": report.MeasuredQuality(1000, 0.999, 1e-6),
    "bad": report.MeasuredQuality(1000, 0.5, 2.5e-4),
    "too little": report.MeasuredQuality(3, 1.0, 0.0),
}


def spec(**asked: Any) -> dict[str, Any]:
    """What declares capture, and quality where it is asked for."""
    declared = {"metric": "accuracy", "labelsWithin": "24h", "window": "12h", **asked}
    return {
        **deployment_spec(1, None, 1),
        "capture": {"retention": "720h"},
        **({"monitoring": {"quality": declared}} if asked else {}),
    }


def found(what: str) -> report.Report:
    return report.Report(True, "Measured", result=report.CapturedResult(0, quality=FOUND[what]))


def good(_: Manifest) -> report.Report:
    return found("good")


class QualitySystem(ModelDeploymentSystem):
    """The user also declares another bound, labels later than rows are kept, that only capture goes on, or nothing."""

    slots = 24
    longest_pause = timedelta(hours=25)
    reads = frozenset(("Job", "Event", "Pod"))

    def __init__(self) -> None:
        edits = (
            spec(min="0.95"),
            spec(min="0.9"),
            spec(min="0.8", labelsWithin="720h"),
            spec(),
            deployment_spec(1, None, 1),
        )
        life = ("version 2 is made", "version 2 becomes Ready")
        super().__init__("ModelDeployment: quality", edits, life, loss=False)

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        yield from jobs.moves(live, JOB, good)
        yield from jobs.collected(live, JOB)
        yield from self._finds(live)

    def _finds(self, live: Live) -> Iterator[Move]:
        job, pod = live.get("Job", JOB), live.get("Pod", jobs.pod_name(JOB))
        if job is None or pod is None or job["status"].get("conditions") or "deletionTimestamp" in job["metadata"]:
            return
        if pod["metadata"]["ownerReferences"][0]["uid"] != job["metadata"]["uid"] or jobs.has_ended(pod):
            return
        yield move("the Job finds that quality is bad", jobs.terminated(job, found("bad")))
        if dig(live.get(KIND, NAME), "status", "quality", "window") is None:
            yield move("the Job finds too little", jobs.terminated(job, found("too little")))

    def help(self, live: Live) -> Iterator[Move]:
        yield from super().help(live)
        yield from jobs.help_(live, JOB, good)
        job = live.get("Job", JOB)
        if job is not None and job["status"].get("conditions") and dig(live.get(KIND, NAME), "spec", "capture") is None:
            yield move(f"Job {JOB} ended two days ago", gone=[("Job", JOB), ("Pod", jobs.pod_name(JOB))])

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        was = dig(before.get(KIND, NAME), "status", "quality")
        if isinstance(write, Create) and write.manifest["kind"] == "Job" and before.get("Job", JOB) is None:
            start = write.manifest["metadata"]["annotations"].get(quality.START)
            if start is not None and start != dig(was, "until"):
                return "what was counted is measured again"
        if isinstance(write, Delete) and write.name == JOB:
            return _thrown_away(write, before, was)
        if not isinstance(write, SetStatus):
            return super().unsafe(write, before, after)
        return _counted(was, dig(after.get(KIND, NAME), "status", "quality"))

    def untrue(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        said, condition = dig(present, "status", "quality"), conditions.find(present or {}, CONDITION)
        declared = dig(present, "spec", "monitoring", "quality") is not None
        if present is None or not dig(present, "status", "conditions"):
            return None
        if present["status"].get("observedGeneration") == present["metadata"]["generation"]:
            if declared != (condition is not None):
                return f"quality is {'' if declared else 'not '}declared, and the condition says {condition}"
            kept = dig(present, "spec", "capture") is not None and said is None
            if kept != (conditions.find(present, quality.RETENTION) is not None):
                return "the status does not say whether what is captured is kept for as long as declared"
        counted = condition is not None and said is not None and said["windows"] > 0
        if counted and (condition["status"] == "True") != said["dropped"]:
            return f"dropped is {said['dropped']}, and the condition says {condition['status']}"
        return super().untrue(live)

    def unreached(self, live: Live) -> str | None:
        present, job = live.get(KIND, NAME), live.get("Job", JOB)
        if job is not None and dig(present, "spec", "capture") is None:
            return "a Job is left behind"
        until = dig(present, "status", "quality", "until")
        if until is not None and (until == JUST_NOW) == (job is not None):
            return f"labels are counted until {until}, and there is {'a' if job else 'no'} Job"
        return super().unreached(live)


def _counted(was: Manifest | None, now: Manifest | None) -> str | None:
    """Why what is counted now must not be."""
    if now is None or dig(was, "windows") == now["windows"] or now["windows"] == 0:
        return None
    if was is None or was["artifact"] != now["artifact"]:
        return "what another artifact answered is counted"
    if now["window"]["startedAt"] != was["until"] or not now["window"]["counted"]:
        return "a window is counted twice, or not at all"
    bad = now["window"]["value"] == "0.5"
    return None if now["dropped"] == bad else "the status says something else than its window"


def _thrown_away(write: Delete, before: Live, was: Manifest | None) -> str | None:
    job, pod, present = before.get("Job", JOB), before.get("Pod", jobs.pod_name(JOB)), before.get(KIND, NAME)
    if job is None or pod is None or pod["metadata"]["ownerReferences"][0]["uid"] != write.uid:
        return None
    if job["metadata"]["uid"] != write.uid or not jobs.succeeded(pod) or dig(was, "window") is not None:
        return None
    declared = dig(present, "spec", "monitoring", "quality", "min")
    current = declared is not None and declared == dig(was, "min")
    start = job["metadata"]["annotations"].get(quality.START)
    serves = dig(present, "status", "history") or [{}]
    if current and start == dig(was, "until") and dig(serves[0], "artifact", "digest") == dig(was, "artifact"):
        return "what was measured is thrown away"
    return None
