"""Two TrainingJobs, and a Workspace that lets one of them run at a time."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.trainingjob import KIND, dataset, trained, training
from modelcheck.systems.workspace import WorkspaceSystem, edited, working_workspace
from modelmill.core import admission, conditions, workspace
from modelmill.core.conditions import has_ended
from modelmill.core.plan import Create, SetStatus, Write
from modelmill.core.resources import Manifest
from modelmill.core.trainingjob import job_name

NAMES = ("first", "second")
WORKSPACE = ("Workspace", workspace.NAME)


def crowded_workspace() -> Manifest:
    made = working_workspace()
    return {**made, "spec": {**made["spec"], "training": {"maxParallel": 1}}}


def run(name: str, *, suspend: bool = False) -> Manifest:
    made = training(name, suspend=suspend, uid=uid(KIND, name), generation=1)
    spec = {key: value for key, value in made["spec"].items() if key != "modelRef"}
    return {**made, "spec": spec}


class AdmissionSystem(System):
    name = "TrainingJob: queue"
    runs: tuple[str, ...] = NAMES
    slots = 15
    longest_pause = WorkspaceSystem.longest_pause
    life = ("somebody deletes TrainingJob first",)

    def controllers(self) -> list[Slot]:
        return [WORKSPACE, *((KIND, name) for name in self.runs)]

    def start(self) -> list[Manifest]:
        return [crowded_workspace(), dataset("a"), *(run(name) for name in NAMES)]

    def moves(self, live: Live) -> Iterator[Move]:
        for name in self.runs:
            present = live.get(KIND, name)
            if present is not None:
                yield move(f"somebody deletes {KIND} {name}", gone=[(KIND, name)])
                suspended = not present["spec"]["suspend"]
                spec = {**present["spec"], "suspend": suspended}
                yield move(f"the user sets suspend of {name} to {suspended}", {"kind": KIND, **edited(present, spec)})
            yield from jobs.moves(live, job_name(name), trained)
            yield from jobs.collected(live, job_name(name))
        yield from jobs.orphans(live, "NetworkPolicy")

    def help(self, live: Live) -> Iterator[Move]:
        for name in self.runs:
            present = live.get(KIND, name)
            if present is not None and present["spec"]["suspend"]:
                spec = {**present["spec"], "suspend": False}
                yield move(f"the user lets {name} go on", {"kind": KIND, **edited(present, spec)})
            yield from jobs.help_(live, job_name(name), trained)
        yield from jobs.orphans(live, "NetworkPolicy")

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create) and write.manifest["metadata"]["name"] in map(job_name, self.runs):
            owner = write.manifest["metadata"]["ownerReferences"][0]
            known = before.get("Job", write.manifest["metadata"]["name"])
            if known is None and owner["uid"] not in _admitted(before):
                return f"{owner['name']} starts, and was not admitted"
        if isinstance(write, SetStatus) and "admitted" in write.status:
            new = _admitted(after) - _admitted(before)
            said = {job["metadata"]["uid"]: conditions.find(job, "Trained") for job in after.all(KIND)}
            waiting = {job for job, told in said.items() if told is None or told["reason"] == admission.QUEUED}
            if new & waiting and len(_admitted(after)) > 1:
                return "more are admitted than may run"
        return None

    def unreached(self, live: Live) -> str | None:
        for name in NAMES:
            present, job = live.get(KIND, name), live.get("Job", job_name(name))
            if present is None:
                if job is not None:
                    return "a Job is left behind"
            elif not has_ended(present):
                return f"{name} does not end"
        return "somebody who has ended takes a place" if _admitted(live) else None


def _admitted(live: Live) -> set[str]:
    present = live.get(*WORKSPACE)
    return {a["uid"] for a in present["status"].get("admitted", ())} if present is not None else set()
