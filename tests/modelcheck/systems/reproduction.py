"""A TrainingJob that is to be trained twice, and a second run that gives the same bytes or others."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.trainingjob import KIND, dataset, training
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions, reproduction
from modelmill.core.conditions import has_ended
from modelmill.core.plan import Create, Delete, SetStatus, Write
from modelmill.core.resources import Manifest
from modelmill.core.trainingjob import job_name
from modelmill_contracts import report

NAME = "forest"
FIRST, AGAIN = job_name(NAME), reproduction.job_name(NAME)
SAME, OTHER = "a", "b"


def twice(*, suspend: bool = False, **metadata: object) -> Manifest:
    made = training(NAME, suspend=suspend, **metadata)
    spec = {key: value for key, value in made["spec"].items() if key != "modelRef"}
    return {**made, "spec": {**spec, "reproduce": {"runs": 2}}}


def gave(letter: str) -> report.Report:
    result = report.TrainingResult(
        recipe=f"sha256:{'e' * 64}",
        artifact=f"sha256:{letter * 64}",
        uri=f"s3://models/{letter}",
        runtime="onnx",
        files=(report.FileDigest("model.onnx", f"sha256:{letter * 64}"),),
    )
    return report.Report(True, "TrainingSucceeded", result=result)


def same(_: Manifest) -> report.Report:
    return gave(SAME)


class ReproductionSystem(System):
    name = "TrainingJob: reproduction"
    slots = 10
    life = ("somebody deletes TrainingJob forest",)

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), dataset("a"), twice(uid=uid(KIND, NAME), generation=1)]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get(KIND, NAME)
        if present is not None:
            yield move(f"somebody deletes {KIND} {NAME}", gone=[(KIND, NAME)])
            suspended = not present["spec"]["suspend"]
            changed = {"kind": KIND, **edited(present, twice(suspend=suspended)["spec"])}
            yield move(f"the user sets suspend to {suspended}", changed)
        for job in (FIRST, AGAIN):
            yield from jobs.moves(live, job, same)
            yield from jobs.collected(live, job)
        yield from self._gives_others(live)

    def _gives_others(self, live: Live) -> Iterator[Move]:
        job, pod = live.get("Job", AGAIN), live.get("Pod", jobs.pod_name(AGAIN))
        if job is None or pod is None or job["status"].get("conditions") or "deletionTimestamp" in job["metadata"]:
            return
        if pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"] and not jobs.has_ended(pod):
            yield move("the second run gives other bytes", jobs.terminated(job, gave(OTHER)))

    def help(self, live: Live) -> Iterator[Move]:
        for job in (FIRST, AGAIN):
            yield from jobs.help_(live, job, same)
        present = live.get(KIND, NAME)
        if present is not None and present["spec"]["suspend"]:
            yield move("the user goes on", {"kind": KIND, **edited(present, twice()["spec"])})

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present = before.get(KIND, NAME)
        if isinstance(write, Create) and write.manifest["kind"] == "Job":
            return _unsafe_job(write.manifest, before, present)
        if isinstance(write, Delete) and write.name == AGAIN:
            return _unsafe_delete(write, before, present)
        then = after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        known, now = reproduction.said(present), reproduction.said(then)
        if known is not None and now != known:
            return "the verdict changes after it was said"
        if "artifact" in present["status"] and then["status"].get("artifact") != present["status"]["artifact"]:
            return "the artifact changes after it was said"
        if conditions.is_true(then, "Succeeded") and now is None:
            return "it succeeds without a verdict"
        if known is None and now is not None and now.status == "True" and now.digest != f"sha256:{SAME * 64}":
            return "other bytes are said to be the same"
        return None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        if present is None:
            return "a Job is left behind" if any(live.get("Job", job) for job in (FIRST, AGAIN)) else None
        return None if has_ended(present) else f"it does not end: {conditions.find(present, 'Succeeded')}"


def _unsafe_job(job: Manifest, before: Live, present: Manifest | None) -> str | None:
    name, owner = job["metadata"]["name"], job["metadata"]["ownerReferences"][0]
    if present is None or present["metadata"]["uid"] != owner["uid"] or before.get("Job", name):
        return None  # it is not made
    if present["spec"]["suspend"]:
        return "what is suspended is trained"
    if has_ended(present):
        return "what ended is trained again"
    if name == FIRST:
        return "what was trained is trained again" if "artifact" in present["status"] else None
    return "what was compared is trained again" if reproduction.said(present) is not None else None


def _unsafe_delete(write: Delete, before: Live, present: Manifest | None) -> str | None:
    pod = before.get("Pod", jobs.pod_name(AGAIN))
    if present is None or pod is None or present["spec"]["suspend"] or reproduction.said(present) is not None:
        return None
    its_pod = pod["metadata"]["ownerReferences"][0]["uid"] == write.uid
    return "a second run that ended well is thrown away" if its_pod and jobs.succeeded(pod) else None
