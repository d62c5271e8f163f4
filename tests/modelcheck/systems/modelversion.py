"""A ModelVersion, its verification, and a store that fails and works again."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import NEW, Slot, uid
from modelcheck.systems import jobs, memory
from modelcheck.systems.workspace import failing_workspace, working_workspace
from modelmill.core import conditions, workspace
from modelmill.core.modelversion import job_name
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import OWNER_LABEL, Manifest
from modelmill_contracts import report

KIND = "ModelVersion"
NAME = "triage-1"
JOB = job_name(NAME)
DIGEST = f"sha256:{'1' * 64}"


def version(**metadata: object) -> Manifest:
    spec = {
        "modelRef": {"name": "triage"},
        "version": 1,
        "artifact": {"uri": "s3://models/1", "digest": DIGEST},
    }
    return {"kind": KIND, "metadata": {"name": NAME, "uid": NEW, "generation": NEW, **metadata}, "spec": spec}


def verified(_: Manifest) -> report.Report:
    return report.Report(True, "Verified", result=report.VerificationResult(DIGEST, (), (), 1000))


class ModelVersionSystem(System):
    name = "ModelVersion"
    slots = 6
    clock_goes_back = True
    life = ("the store fails", "somebody deletes the ModelVersion")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), version(uid=uid(KIND, NAME), generation=1)]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        if live.get(KIND, NAME) is None:
            yield move("somebody makes the ModelVersion again", version())
        else:
            yield move("somebody deletes the ModelVersion", gone=[(KIND, NAME)])
        yield from jobs.moves(live, JOB, verified, _whose)
        yield from jobs.collected(live, JOB)

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, verified, _whose)

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present = before.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or after.get(KIND, NAME) is None:
            return None
        says = conditions.is_true(after.get(KIND, NAME) or {}, "Ready")
        if says and present["metadata"]["uid"] not in memory.of(before):
            return "a version is Ready that was never verified"
        if conditions.is_true(present, "Ready") and not says:
            return "a version that was verified is not Ready any more"
        return None

    def unreached(self, live: Live) -> str | None:
        present, job = live.get(KIND, NAME), live.get("Job", JOB)
        if present is None:
            return "a Job is left behind" if job is not None else None
        if conditions.is_true(present, "Ready"):
            return None
        found = conditions.find(present, "Ready") or {}
        # An artifact never changes: what was found wrong stays wrong.
        return None if found.get("reason") == "DigestMismatch" else f"the ModelVersion is not Ready: {found}"


def _whose(job: Manifest) -> str:
    return str(job["metadata"]["labels"][OWNER_LABEL])


def store_moves(live: Live) -> Iterator[Move]:
    """The store fails and works again, as its Workspace says."""
    present = live.get("Workspace", workspace.NAME)
    if present == live.version(working_workspace()):
        yield move("the store fails", failing_workspace())
    else:
        yield move("the store works again", working_workspace())


def store_help(live: Live) -> Iterator[Move]:
    if live.get("Workspace", workspace.NAME) != live.version(working_workspace()):
        yield move("the store works again", working_workspace())
