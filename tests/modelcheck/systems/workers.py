"""A TrainingJob with two workers: their Service and NetworkPolicy, and a second pod that is of less account."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.trainingjob import KIND, dataset, trained, training
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions, pods, workers
from modelmill.core.conditions import has_ended
from modelmill.core.plan import Create, SetStatus, Write
from modelmill.core.resources import Manifest, dig
from modelmill.core.trainingjob import job_name

NAME = "forest"
JOB, BETWEEN, SECOND = job_name(NAME), workers.service_name(NAME), "second"
_KINDS = ("Service", "NetworkPolicy")


def several(*, suspend: bool = False, **metadata: object) -> Manifest:
    made = training(NAME, suspend=suspend, **metadata)
    spec = {key: value for key, value in made["spec"].items() if key != "modelRef"}
    return {**made, "spec": {**spec, "workers": 2}}


def _second(pod: Manifest) -> Manifest:
    """As the Job's other pod."""
    metadata = pod["metadata"]
    labels = {**metadata["labels"], pods.INDEX_LABEL: "1"}
    return {**pod, "metadata": {**metadata, "name": SECOND, "uid": uid("Pod", SECOND), "labels": labels}}


class WorkersSystem(System):
    name = "TrainingJob: workers"
    slots = 10
    life = ("somebody deletes TrainingJob forest",)

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), dataset("a"), several(uid=uid(KIND, NAME), generation=1)]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get(KIND, NAME)
        if present is not None:
            yield move(f"somebody deletes {KIND} {NAME}", gone=[(KIND, NAME)])
            suspended = not present["spec"]["suspend"]
            changed = {"kind": KIND, **edited(present, several(suspend=suspended)["spec"])}
            yield move(f"the user sets suspend to {suspended}", changed)
        yield from jobs.moves(live, JOB, trained)
        yield from jobs.collected(live, JOB)
        yield from jobs.orphans(live, *_KINDS)
        yield from self._second_pod(live)
        yield from self._between(live)

    def _second_pod(self, live: Live) -> Iterator[Move]:
        job, pod = live.get("Job", JOB), live.get("Pod", SECOND)
        if pod is not None:
            yield move("the second pod goes", gone=[("Pod", SECOND)])
        elif job is not None and "ownerReferences" in job["metadata"] and not dig(job, "status", "conditions"):
            yield move("the second pod runs", _second(jobs.running(job)))
            yield move("no node takes the second pod", _second(jobs.unschedulable(job)))
            yield move("the second pod uses too much memory", _second(jobs.killed(job)))

    def _between(self, live: Live) -> Iterator[Move]:
        for kind in _KINDS:
            found = live.get(kind, BETWEEN)
            if found is None:
                theirs = {"kind": kind, "metadata": {"name": BETWEEN, "uid": uid(kind, BETWEEN, 9)}, "spec": {}}
                yield move(f"somebody else makes a {kind} {BETWEEN}", theirs)
            else:
                yield move(f"somebody deletes {kind} {BETWEEN}", gone=[(kind, BETWEEN)])
        service = live.get("Service", BETWEEN)
        if service is not None and service["spec"].get("selector") and "ownerReferences" in service["metadata"]:
            spec = {**service["spec"], "selector": {"app": "other"}}
            if service["spec"] != spec:
                yield move("somebody edits the Service", {**service, "kind": "Service", "spec": spec})

    def help(self, live: Live) -> Iterator[Move]:
        yield from jobs.help_(live, JOB, trained)
        yield from jobs.orphans(live, *_KINDS)
        present = live.get(KIND, NAME)
        if present is not None and present["spec"]["suspend"]:
            yield move("the user goes on", {"kind": KIND, **edited(present, several()["spec"])})
        for kind in _KINDS:
            found = live.get(kind, BETWEEN)
            if found is not None and "ownerReferences" not in found["metadata"]:
                yield move(f"the other {kind} is deleted", gone=[(kind, BETWEEN)])
        if live.get("Pod", SECOND) is not None:
            yield move("the second pod goes", gone=[("Pod", SECOND)])

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present = before.get(KIND, NAME)
        if isinstance(write, Create) and write.manifest["kind"] == "Job":
            return _unsafe_job(write.manifest, before, present)
        then = after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        if "artifact" in present["status"] and then["status"].get("artifact") != present["status"]["artifact"]:
            return "the artifact changes after it was said"
        return "it ended, and then did not" if has_ended(present) and not has_ended(then) else None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        if present is None:
            left = [kind for kind in _KINDS if live.get(kind, BETWEEN)]
            return "something is left behind" if left or live.get("Job", JOB) else None
        return None if has_ended(present) else f"it does not end: {conditions.find(present, 'Succeeded')}"


def _unsafe_job(job: Manifest, before: Live, present: Manifest | None) -> str | None:
    owner = job["metadata"]["ownerReferences"][0]
    if present is None or present["metadata"]["uid"] != owner["uid"] or before.get("Job", JOB):
        return None  # it is not made
    if present["spec"]["suspend"]:
        return "what is suspended is trained"
    return "what was trained is trained again" if "artifact" in present["status"] or has_ended(present) else None
