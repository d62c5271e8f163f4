"""A Workspace whose store is collected every day, and a Dataset whose history comes and goes.

The store is an object that the operator does not see: each blob, where it lies, and since when.  What the Job does to
it is what contracts/modelmill_contracts/task.py says of a CollectTask.
"""

from collections.abc import Iterator
from datetime import timedelta

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import JUST_NOW, LONG_AGO, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.workspace import working_workspace
from modelmill.core import collection, workspace
from modelmill.core.conditions import moment
from modelmill.core.plan import Write
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report, task

NAME = workspace.NAME
DATASET = "tumours"
STORE = "store"
DAY = timedelta(days=1)
Blobs = dict[str, tuple[str, str]]  # letter -> (blobs | trash, since when)


def collecting_workspace() -> Manifest:
    made = working_workspace()
    spec = {"store": {**made["spec"]["store"], "collect": {"enabled": True}}}
    status = {**made["status"], "owned": made["status"]["preflight"]}
    return {**made, "spec": spec, "status": status}


def dataset(letters: str) -> Manifest:
    """The Dataset with these versions, the newest first."""
    digests = [f"sha256:{letter * 64}" for letter in letters]
    history = [{"version": d, "file": d, "rows": 569, "observedAt": LONG_AGO} for d in digests]
    return {
        "kind": "Dataset",
        "metadata": {"name": DATASET, "uid": uid("Dataset", DATASET), "generation": 1},
        "spec": {"source": {"configMapRef": {"name": "a", "key": "data.csv"}}},
        "status": {"observedGeneration": 1, "history": history},
    }


def _letters(live: Live) -> str:
    known = live.get("Dataset", DATASET)
    return "".join(h["file"][-1] for h in dig(known, "status", "history") or ())


def _store(blobs: Blobs) -> Manifest:
    message = "|".join(f"{letter} {where} {since}" for letter, (where, since) in sorted(blobs.items()))
    return {"kind": "Pod", "metadata": {"name": STORE, "uid": uid("Pod", STORE)}, "status": {"message": message}}


def _blobs(live: Live) -> Blobs:
    known = live.get("Pod", STORE)
    found = (blob.split(" ") for blob in (known["status"]["message"] if known else "").split("|") if blob)
    return {letter: (where, since) for letter, where, since in found}


def is_old(since: str, now: str) -> bool:
    return moment(now) - moment(since) >= DAY


def collected(blobs: Blobs, work: task.CollectTask) -> Blobs:
    """The store after the Job did its work."""
    keep = {digest[-1] for digest in work.keep}
    after: Blobs = {}
    for letter, (where, since) in blobs.items():
        if where == "trash" and letter in keep:
            after[letter] = ("blobs", work.now)
        elif where == "trash" and is_old(since, work.now):
            continue
        elif where == "blobs" and letter not in keep and is_old(since, work.now):
            after[letter] = ("trash", work.now)
        else:
            after[letter] = (where, since)
    return after


def _answer(_: Manifest) -> report.Report:
    return report.Report(True, "Collected", result=report.CollectResult(1, 0, 0, 0))


class CollectionSystem(System):
    name = "Workspace: collection"
    slots = 9
    views_keep_up = True  # it is listed anew every few minutes, and a day is long
    longest_pause = DAY
    life = ("a look finds b", "time passes", "a look finds a", "time passes")

    def controllers(self) -> list[Slot]:
        return [("Workspace", NAME)]

    def start(self) -> list[Manifest]:
        return [collecting_workspace(), dataset("a"), _store({"a": ("blobs", LONG_AGO)})]

    def moves(self, live: Live) -> Iterator[Move]:
        listed, blobs = _letters(live), _blobs(live)
        for letter in "ab":
            if not listed.startswith(letter):
                # A history of one: what was newest is listed no more.  What lies in the store already stays as it is.
                stored = (
                    blobs if letter in blobs and blobs[letter][0] == "blobs" else blobs | {letter: ("blobs", JUST_NOW)}
                )
                yield move(f"a look finds {letter}", dataset(letter), _store(stored))
        if listed:
            yield move("the Dataset is deleted", gone=[("Dataset", DATASET)])
        yield from self._jobs(live)
        yield from jobs.orphans(live, "NetworkPolicy")

    def _jobs(self, live: Live) -> Iterator[Move]:
        """The Job does to the store what it was asked for, whether it can tell of it or not."""
        job, pod = live.get("Job", collection.JOB), live.get("Pod", jobs.pod_name(collection.JOB))
        for moved in jobs.moves(live, collection.JOB, _answer):
            yield _with_store(live, moved) if moved.story.endswith(" succeeds") else moved
        if job is not None and pod is not None and pod["status"].get("phase") == "Running":
            # Nobody learns of it.
            yield _with_store(
                live, move("the Job is killed when it has done its work", gone=[("Pod", pod["metadata"]["name"])])
            )

    def help(self, live: Live) -> Iterator[Move]:
        for moved in jobs.help_(live, collection.JOB, _answer):
            yield _with_store(live, moved) if moved.story.endswith(" succeeds") else moved
        yield from jobs.orphans(live, "NetworkPolicy")

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        return None

    def broken(self, live: Live) -> str | None:
        lost = sorted(set(_letters(live)) - set(_blobs(live)))
        return f"blob {lost[0]}, which a history refers to, is gone" if lost else None

    def unreached(self, live: Live) -> str | None:
        unneeded = sorted(set(_blobs(live)) - set(_letters(live)))
        return f"nobody refers to blob {unneeded[0]}, and it stays for ever" if unneeded else None


def _with_store(live: Live, moved: Move) -> Move:
    job = live.get("Job", collection.JOB)
    assert job is not None
    work = task.decode(job["asked"])
    assert isinstance(work, task.CollectTask)
    store = _store(collected(_blobs(live), work))
    return Move(moved.story, (*moved.changes, (("Pod", STORE), store)))
