"""A Dataset between two sources, its snapshots, and a store that fails and works again."""

from collections.abc import Iterator

from modelcheck.cluster import SETTINGS, Live, Move, System, move
from modelcheck.objects import NAMESPACE, NEW, NOW, Slot, created
from modelcheck.systems import jobs, memory
from modelcheck.systems.modelversion import store_help, store_moves
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions
from modelmill.core.dataset import CONTROLLER, job_name
from modelmill.core.jobs import TASK_ANNOTATION
from modelmill.core.plan import Create, Delete, Observed, SetStatus, Write
from modelmill.core.resources import Manifest
from modelmill.shell.cache import Cache
from modelmill_contracts import report

KIND = "Dataset"
NAME = "tumours"
JOB = job_name(NAME)
SOURCES = ("a", "b")


def dataset(source: str) -> Manifest:
    spec = {"source": {"configMapRef": {"name": source, "key": "data.csv"}}, "versionHistoryLimit": 2}
    return {"kind": KIND, "metadata": {"name": NAME, "uid": NEW, "generation": NEW}, "spec": spec}


def taken(job: Manifest) -> report.Report:
    """The snapshot that a Job takes: its version depends on what was asked."""
    asked = asked_of(job)
    return report.Report(True, "SnapshotTaken", result=report.SnapshotResult(asked, asked, 569, 31))


def asked_of(job: Manifest) -> str:
    """Digest of what a Job was asked."""
    return str(job["metadata"]["annotations"][TASK_ANNOTATION])


class DatasetSystem(System):
    name = "Dataset"
    slots = 6
    clock_goes_back = True
    life = ("the user changes to source b", "the store fails", "the user deletes the Dataset")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        made = dataset("a")
        return [
            working_workspace(),
            {**made, "metadata": {**made["metadata"], "uid": f"{KIND}/{NAME}#0", "generation": 1}},
        ]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        present = live.get(KIND, NAME)
        for source in SOURCES:
            wanted = dataset(source)
            if present is None:
                yield move(f"a user creates the Dataset with source {source}", wanted)
            elif present["spec"] != wanted["spec"]:
                yield move(f"the user changes to source {source}", {"kind": KIND, **edited(present, wanted["spec"])})
        if present is not None:
            yield move("the user deletes the Dataset", gone=[(KIND, NAME)])
        yield from jobs.moves(live, JOB, taken, asked_of)
        yield from jobs.collected(live, JOB)

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, taken, asked_of)

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        if any(h["version"] not in memory.of(before) for h in then["status"].get("history", ())):
            return "a version is listed that was never taken"
        if present["status"].get("version") and not then["status"].get("version"):
            return "the last valid version is forgotten"
        if conditions.is_true(then, "Ready") and then["status"].get("snapshot") != then["status"].get("version"):
            return "it is Ready with the snapshot of another declaration"
        return None

    def unreached(self, live: Live) -> str | None:
        present, job = live.get(KIND, NAME), live.get("Job", JOB)
        if present is None:
            return "a Job is left behind" if job is not None else None
        if not conditions.is_true(present, "Ready"):
            return f"the Dataset is not Ready: {conditions.find(present, 'Ready')}"
        return None


class TwoReplicasSystem(DatasetSystem):
    """And a second replica that writes, as the lease never lets it, and always sees what exists."""

    name = "Dataset: two replicas"
    clock_goes_back = False

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        observed = _observed(live)
        for write in () if observed is None else CONTROLLER.reconcile(observed, NOW).writes:
            if isinstance(write, Create):
                yield move("the other replica creates the Job", created(write.manifest))
            elif isinstance(write, Delete):
                yield move("the other replica deletes the Job", gone=[(write.kind, write.name)])

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Delete) and (observed := _observed(before)) is not None:
            run = CONTROLLER.observe(observed).run
            if run.state == "Active" and run.uid == write.uid:
                return "a Job that does what is declared is thrown away"
        return super().unsafe(write, before, after)


def _observed(live: Live) -> Observed | None:
    """What is seen by who sees what exists."""
    cache = Cache({KIND: CONTROLLER}, SETTINGS)
    for kind in (KIND, "Workspace", "Job", "Pod", "Event"):
        for manifest in live.all(kind):
            cache.store(kind, manifest)
    return cache.observe((KIND, NAMESPACE, NAME))
