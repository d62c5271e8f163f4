"""A TrainingJob whose namespace moves from one store to another and back, with a Dataset that follows later."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, Slot, uid
from modelcheck.systems import jobs, workspace
from modelcheck.systems.trainingjob import DATASET, KIND, dataset, trained, training
from modelcheck.systems.workspace import STORES, edited
from modelmill.api.workspace import WorkspaceSpec
from modelmill.core import conditions
from modelmill.core.conditions import has_ended
from modelmill.core.plan import Create, Write
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import Manifest, dig
from modelmill.core.trainingjob import job_name
from modelmill.core.workspace import asked_of, store_access
from modelmill_contracts import task

NAME = "forest"


def _access(store: str) -> StoreAccess:
    return store_access(WorkspaceSpec.model_validate(workspace.manifest(store)["spec"]))


def _works(live: Manifest, store: str) -> Manifest:
    """The Workspace with another store, that was tried already."""
    changed = edited(live, workspace.manifest(store)["spec"])
    return {**changed, "kind": "Workspace", "status": {"preflight": asked_of(_access(store))}}


def _taken(*stores: str) -> Manifest:
    """The Dataset with a version in each of these stores, the newest first; the version's letter is the store's."""
    made = dataset(stores[0])
    history = [
        {
            "version": f"sha256:{store * 64}",
            "file": f"sha256:{store * 64}",
            "rows": 569,
            "observedAt": LONG_AGO,
            "store": _access(store).place,
        }
        for store in stores
    ]
    return {**made, "status": {**made["status"], "history": history}}


class MovedStoreSystem(System):
    name = "TrainingJob: another store"
    slots = 10
    life = ("the store is declared to be b", "the store is declared to be a")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        made = training(NAME, uid=uid(KIND, NAME), generation=1)
        del made["spec"]["modelRef"]
        return [workspace.working_workspace(), _taken("a"), made]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get("Workspace", workspace.NAME)
        assert present is not None
        for store, uri in STORES.items():
            if present["spec"]["store"]["uri"] != uri:
                yield move(f"the store is declared to be {store}", _works(present, store))
        yield from self._follows(live)
        yield from jobs.moves(live, job_name(NAME), trained)

    def help(self, live: Live) -> Iterator[Move]:
        yield from self._follows(live)
        yield from jobs.help_(live, job_name(NAME), trained)

    def _follows(self, live: Live) -> Iterator[Move]:
        """The Dataset takes a version into the store that is declared."""
        present = live.get("Workspace", workspace.NAME)
        newest, other = ("a", "b") if dig(present, "spec", "store", "uri") == STORES["a"] else ("b", "a")
        if live.get("Dataset", DATASET) not in (live.version(_taken(newest)), live.version(_taken(newest, other))):
            yield move("the data is taken again", _taken(newest, other))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create) and write.manifest["kind"] == "Job":
            work = _asked(write.manifest)
            letter = work.version[-1]
            if before.get("Job", job_name(NAME)) is None and work.store.uri != STORES[letter]:
                return "a training starts with a version that its store does not have"
        return None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        assert present is not None
        ready = conditions.find(present, "DataReady") or {}
        # What is pinned and stayed behind is a person's business.
        known = has_ended(present) or ready.get("reason") == "DatasetVersionNotFound"
        return None if known else "the training does not end"


def _asked(job: Manifest) -> task.TrainingTask:
    """What a training's pod is told to do."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    work = task.decode(task.text_of({v["name"]: v.get("value") for v in container["env"]}))
    assert isinstance(work, task.TrainingTask)
    return work
