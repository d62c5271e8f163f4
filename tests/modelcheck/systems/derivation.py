"""A Dataset that is derived from another one, whose versions come and go."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.modelversion import store_help, store_moves
from modelcheck.systems.refresh import occasion
from modelcheck.systems.workspace import working_workspace
from modelmill.core import conditions
from modelmill.core.dataset import job_name
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report

KIND = "Dataset"
INPUT, NAME = "visits", "joined"
JOB = job_name(NAME)


def derived() -> Manifest:
    derive = {"from": [{"name": INPUT}], "sql": "select * from visits"}
    metadata = {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}
    return {"kind": KIND, "metadata": metadata, "spec": {"source": {"derive": derive}, "versionHistoryLimit": 2}}


def visits(letter: str) -> Manifest:
    """The input with this version."""
    digest = f"sha256:{letter * 64}"
    history = [{"version": digest, "file": digest, "rows": 569, "observedAt": LONG_AGO}]
    return {
        "kind": KIND,
        "metadata": {"name": INPUT, "uid": uid(KIND, INPUT), "generation": 1},
        "spec": {"source": {"configMapRef": {"name": "a", "key": "data.csv"}}},
        "status": {"observedGeneration": 1, "modifiedAt": LONG_AGO, "history": history},
    }


def joined(job: Manifest) -> report.Report:
    """What a query gives depends on its input."""
    ((_, version),) = occasion(job).inputs
    return report.Report(True, "SnapshotTaken", result=report.SnapshotResult(version, version, 569, 31))


class DerivationSystem(System):
    name = "Dataset: derived"
    slots = 6
    life = ("visits has version b", "visits is deleted")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), visits("a"), derived()]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        known = live.get(KIND, INPUT)
        for letter in "ab":
            if known != live.version(visits(letter)):
                yield move(f"visits has version {letter}", visits(letter))
        if known is not None:
            yield move("visits is deleted", gone=[(KIND, INPUT)])
        yield from jobs.moves(live, JOB, joined)

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, joined)
        if live.get(KIND, INPUT) is None:
            yield move("visits has version a", visits("a"))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        if present["status"].get("version") and not then["status"].get("version"):
            return "the last valid version is forgotten"
        for version in then["status"].get("history", ()):
            if [source["version"] for source in version["from"]] != [version["version"]]:
                return "a version is said to be made of what it was not made of"
        return None

    def unreached(self, live: Live) -> str | None:
        present, source = live.get(KIND, NAME), live.get(KIND, INPUT)
        if present is None or not conditions.is_true(present, "Ready"):
            return f"the Dataset is not Ready: {conditions.find(present or {}, 'Ready')}"
        return (
            None if present["status"]["version"] == dig(source, "status", "history")[0]["version"] else "it is outdated"
        )
