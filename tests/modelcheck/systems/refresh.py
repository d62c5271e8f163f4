"""A Dataset whose source is read daily and when somebody asks: what it says may change, be bad, or grow old."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import JUST_NOW, LONG_AGO, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.modelversion import store_help, store_moves
from modelcheck.systems.workspace import working_workspace
from modelmill.core import conditions
from modelmill.core.conditions import moment
from modelmill.core.dataset import OCCASION_ANNOTATION, REFRESH_ANNOTATION, Occasion, job_name
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report

KIND = "Dataset"
NAME = "tumours"
JOB = job_name(NAME)
MODEL = "triage-1"
# Every day at noon, which is now.  Yesterday's data is too old.
SPEC: dict[str, Any] = {
    "source": {"configMapRef": {"name": "a", "key": "data.csv"}},
    "refresh": {"schedule": "0 12 * * *"},
    "expectations": {"maxAge": "12h"},
    "versionHistoryLimit": 1,
}


def _digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def dataset() -> Manifest:
    return {"kind": KIND, "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}, "spec": SPEC}


def model_version(version: str) -> Manifest:
    lineage = {"dataset": {"name": NAME, "version": version}}
    spec = {"modelRef": {"name": "triage"}, "version": 1, "lineage": lineage}
    return {"kind": "ModelVersion", "metadata": {"name": MODEL, "uid": uid("ModelVersion", MODEL)}, "spec": spec}


def found(job: Manifest) -> report.Report:
    """What is in the source is new each time, until it is what it was."""
    letter = _digest("abcdef"[int(job["metadata"]["uid"][-1])])
    result = report.SnapshotResult(letter, letter, 569, 31, modified_at=JUST_NOW)
    return report.Report(True, "SnapshotTaken", result=result)


BAD = report.Report(False, "DataInvalid", "bad", problems=(report.Problem("TooFewRows", "there are 0"),))


class RefreshSystem(System):
    name = "Dataset: refresh"
    slots = 6
    clock_goes_back = True
    longest_pause = timedelta(days=2)  # the clock may be set back
    life = ("time passes", "somebody asks for a look", "a model is trained on the newest version", "time passes")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), dataset()]

    def moves(self, live: Live) -> Iterator[Move]:
        present, job = live.get(KIND, NAME), live.get("Job", JOB)
        assert present is not None
        yield from store_moves(live)
        asked = dig(present, "metadata", "annotations", REFRESH_ANNOTATION)
        yield move("somebody asks for a look", _asking(present, "2" if asked == "1" else "1"))
        version, model = present["status"].get("version"), live.get("ModelVersion", MODEL)
        if model is not None:
            yield move("the model is deleted", gone=[("ModelVersion", MODEL)])
        elif version is not None:
            yield move("a model is trained on the newest version", model_version(version))
        yield from jobs.moves(live, JOB, found)
        pod = live.get("Pod", jobs.pod_name(JOB))
        if job is not None and pod is not None and pod["status"].get("phase") == "Running" and not _ended(job):
            yield move(f"the pod of {JOB} finds bad data", jobs.terminated(job, BAD))

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, found)

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        assert present is not None
        assert then is not None
        if not isinstance(write, SetStatus):
            return None
        was, said = present["status"], then["status"]
        if was.get("version") and not said.get("version"):
            return "the last valid version is forgotten"
        if was.get("lastSchedule") and moment(said.get("lastSchedule", LONG_AGO)) < moment(was["lastSchedule"]):
            return "a time of the schedule comes back"
        return _unsafe_answer(was, said, before) or _unsafe_ready(then)

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        assert present is not None
        if not conditions.is_true(present, "Ready"):
            return f"the Dataset is not Ready: {conditions.find(present, 'Ready')}"
        asked = dig(present, "metadata", "annotations", REFRESH_ANNOTATION)
        if asked and present["status"].get("lastHandledRefresh") != asked:
            return "a look that was asked for was never taken"
        if present["status"]["modifiedAt"] == LONG_AGO:
            return "it is Ready although its data is too old"
        if present["status"].get("lastSchedule") == LONG_AGO:
            return "today's look was never taken"
        return None


def _ended(job: Manifest) -> bool:
    return bool(job["status"].get("conditions"))


def _asking(present: Manifest, value: str) -> Manifest:
    metadata = {**present["metadata"], "annotations": {REFRESH_ANNOTATION: value}}
    return {**present, "kind": KIND, "metadata": metadata}


def occasion(job: Manifest) -> Occasion:
    """What a Job looks for."""
    said = dig(job, "metadata", "annotations", OCCASION_ANNOTATION)
    return msgspec.json.decode(said, type=Occasion) if said else Occasion()


def _unsafe_answer(was: Manifest, said: Manifest, before: Live) -> str | None:
    """An answer is taken from a Job that began after the answer that was taken last."""
    job = before.get("Job", JOB)
    if said.get("lastRun") == was.get("lastRun"):
        changed = [key for key in ("version", "checkedAt", "lastSchedule") if said.get(key) != was.get(key)]
        return f"status.{changed[0]} changes, and no Job has answered" if changed else None
    if job is not None and job["metadata"]["uid"] == said["lastRun"] and occasion(job).after != was.get("lastRun", ""):
        return "an answer is taken out of order"
    return None


def _unsafe_ready(then: Manifest) -> str | None:
    if not conditions.is_true(then, "Ready"):
        return None
    said = then["status"]
    if said.get("snapshot") is None:
        return "it is Ready although the last look failed"
    return None
