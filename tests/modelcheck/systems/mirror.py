"""A Workspace that has runs shown in MLflow, two TrainingJobs that have ended, and somebody who deletes one.

MLflow is an object that the operator does not see: for which UIDs it has runs, and how many.  What the Job does to it
is what contracts/modelmill_contracts/task.py says of a MirrorTask.
"""

from collections import Counter
from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.trainingjob import KIND, dataset, training
from modelcheck.systems.workspace import WorkspaceSystem, edited, working_workspace
from modelmill.core import mirror, workspace
from modelmill.core.plan import Create, SetStatus, Write
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report, task

NAMES = ("first", "second")
WORKSPACE = ("Workspace", workspace.NAME)
MLFLOW = "mlflow"
SERVERS = ("http://mlflow", "http://renamed")  # the same one, by two names


def mirroring_workspace(uri: str = SERVERS[0]) -> Manifest:
    made = working_workspace()
    return {**made, "spec": {**made["spec"], "tracking": {"mlflow": {"uri": uri}}}}


def failed(name: str) -> Manifest:
    """A run that ended: one that failed needs no artifact."""
    made = training(name, suspend=False, uid=uid(KIND, name), generation=1, creationTimestamp=LONG_AGO)
    spec = {key: value for key, value in made["spec"].items() if key != "modelRef"}
    said = [
        {
            "type": type_,
            "status": status,
            "reason": "TargetMissing",
            "message": "there is no such column",
            "observedGeneration": 1,
            "lastTransitionTime": LONG_AGO,
        }
        for type_, status in (("Succeeded", "False"), ("Failed", "True"))
    ]
    return {**made, "spec": spec, "status": {"observedGeneration": 1, "conditions": said}}


def _server(runs: Counter[str]) -> Manifest:
    message = " ".join(sorted(runs.elements()))
    return {"kind": "Pod", "metadata": {"name": MLFLOW, "uid": uid("Pod", MLFLOW)}, "status": {"message": message}}


def _runs(live: Live) -> Counter[str]:
    known = live.get("Pod", MLFLOW)
    return Counter((known["status"]["message"] if known else "").split())


def _asked(job: Manifest) -> task.MirrorTask:
    work = task.decode(job["asked"])
    assert isinstance(work, task.MirrorTask)
    return work


def shown(runs: Counter[str], work: task.MirrorTask) -> Counter[str]:
    """What MLflow has after the Job did its work: what is there is not made again."""
    return runs | Counter(run.uid for run in work.runs)


def _answer(job: Manifest) -> report.Report:
    result = report.MirrorResult(tuple(report.MirroredRun(f"run-{run.uid}") for run in _asked(job).runs))
    return report.Report(True, "Mirrored", result=result)


class MirrorSystem(System):
    name = "Workspace: mirror"
    slots = 12
    clock_goes_back = True
    longest_pause = WorkspaceSystem.longest_pause
    life = ("somebody deletes TrainingJob first", "the user names the server otherwise")

    def controllers(self) -> list[Slot]:
        return [WORKSPACE, *((KIND, name) for name in NAMES)]

    def start(self) -> list[Manifest]:
        return [mirroring_workspace(), dataset("a"), *map(failed, NAMES), _server(Counter())]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get(*WORKSPACE)
        if present is not None:
            here = present["spec"]["tracking"]["mlflow"]["uri"]
            other = next(uri for uri in SERVERS if uri != here)
            spec = {**present["spec"], "tracking": {"mlflow": {"uri": other}}}
            yield move("the user names the server otherwise", {"kind": "Workspace", **edited(present, spec)})
        for name in NAMES:
            if live.get(KIND, name) is not None:
                yield move(f"somebody deletes {KIND} {name}", gone=[(KIND, name)])
        yield from self._jobs(live)
        yield from jobs.orphans(live, "NetworkPolicy")

    def _jobs(self, live: Live) -> Iterator[Move]:
        """The Job does its work, whether it can tell of it or not."""
        job, pod = live.get("Job", mirror.JOB), live.get("Pod", jobs.pod_name(mirror.JOB))
        for moved in jobs.moves(live, mirror.JOB, _answer):
            yield _with_server(live, moved) if moved.story.endswith(" succeeds") else moved
        if job is not None and pod is not None and pod["status"].get("phase") == "Running":
            gone = [("Pod", pod["metadata"]["name"])]
            yield _with_server(live, move("the Job is killed when it has done its work", gone=gone))

    def help(self, live: Live) -> Iterator[Move]:
        for moved in jobs.help_(live, mirror.JOB, _answer):
            yield _with_server(live, moved) if moved.story.endswith(" succeeds") else moved
        yield from jobs.orphans(live, "NetworkPolicy")

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create) and write.manifest["metadata"]["name"] == mirror.JOB:
            present = before.get("Job", mirror.JOB)
            if present is not None and present is not after.get("Job", mirror.JOB):
                return "a second Job is made beside the first"
        if isinstance(write, SetStatus) and "mlflow" in write.status:
            told, runs = write.status["mlflow"].get("run", ""), _runs(after)
            if told.removeprefix("run-") not in runs:
                return "a run is said to be in MLflow, and is not"
        return None

    def broken(self, live: Live) -> str | None:
        twice = [run for run, count in _runs(live).items() if count > 1]
        return f"{twice[0]} is in MLflow twice" if twice else None

    def unreached(self, live: Live) -> str | None:
        for name in NAMES:
            present = live.get(KIND, name)
            if present is None:
                continue
            if _runs(live)[present["metadata"]["uid"]] != 1:
                return f"{name} is not in MLflow"
            if dig(present, "status", "mlflow", "run") != f"run-{present['metadata']['uid']}":
                return f"{name} does not say what it is in MLflow"
        said = dig(live.get(*WORKSPACE), "status", "mirrored")
        return f"what MLflow said is never forgotten: {said}" if said else None


def _with_server(live: Live, moved: Move) -> Move:
    job = live.get("Job", mirror.JOB)
    assert job is not None
    server = _server(shown(_runs(live), _asked(job)))
    return Move(moved.story, (*moved.changes, (("Pod", MLFLOW), server)))
