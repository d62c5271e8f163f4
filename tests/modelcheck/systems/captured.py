"""A Dataset of what a ModelDeployment captured, which comes and goes, and captures or does not."""

from collections.abc import Iterator
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import NEW, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.dataset import asked_of, taken
from modelcheck.systems.modelversion import store_help, store_moves
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions
from modelmill.core.dataset import job_name
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest

KIND, DEPLOYMENT = "Dataset", "ModelDeployment"
NAME, SERVED = "seen", "triage"
JOB = job_name(NAME)


def seen() -> Manifest:
    metadata = {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}
    return {"kind": KIND, "metadata": metadata, "spec": {"source": {"deployment": {"name": SERVED}}}}


def served(**spec: Any) -> Manifest:
    metadata = {"name": SERVED, "uid": NEW, "generation": NEW}
    return {"kind": DEPLOYMENT, "metadata": metadata, "spec": {"model": {"name": SERVED}, **spec}}


CAPTURING: dict[str, Any] = {"capture": {"sample": "0.1"}}


class CapturedSystem(System):
    name = "Dataset: captured"
    slots = 8
    life = ("triage captures nothing any more", "triage is deleted")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        made = served(**CAPTURING)
        return [
            working_workspace(),
            {**made, "metadata": {**made["metadata"], "uid": f"{DEPLOYMENT}/{SERVED}#0"}},
            seen(),
        ]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from store_moves(live)
        present = live.get(DEPLOYMENT, SERVED)
        if present is None:
            yield move("triage is made, and captures", served(**CAPTURING))
            yield move("triage is made, and captures nothing", served())
        else:
            yield move("triage is deleted", gone=[(DEPLOYMENT, SERVED)])
            if "capture" in present["spec"]:
                yield move("triage captures nothing any more", self._edited(present))
            else:
                yield move("triage captures", self._edited(present, **CAPTURING))
        yield from jobs.moves(live, JOB, taken, asked_of)

    def help(self, live: Live) -> Iterator[Move]:
        yield from store_help(live)
        yield from jobs.help_(live, JOB, taken, asked_of)
        present = live.get(DEPLOYMENT, SERVED)
        if present is None:
            yield move("triage is made, and captures", served(**CAPTURING))
        elif "capture" not in present["spec"]:
            yield move("triage captures", self._edited(present, **CAPTURING))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if not isinstance(write, SetStatus) or present is None or then is None:
            return None
        if present["status"].get("version") and not then["status"].get("version"):
            return "the last valid version is forgotten"
        if conditions.is_true(then, "Ready") and then["status"].get("snapshot") != then["status"].get("version"):
            return "it is Ready with the snapshot of another declaration"
        return None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        if present is None or not conditions.is_true(present, "Ready"):
            return f"the Dataset is not Ready: {conditions.find(present or {}, 'Ready')}"
        return None

    def _edited(self, present: Manifest, **spec: Any) -> Manifest:
        return {"kind": DEPLOYMENT, **edited(present, served(**spec)["spec"])}
