"""A Model that keeps one version, versions that become Ready and are tested, and who serves, names and makes them.

A run that does not know its version yet has one that a newer one follows: the newest always stays.
"""

from collections.abc import Iterator
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import LONG_AGO, NEW, Slot, uid
from modelcheck.systems import replica
from modelcheck.systems.trainingjob import unsafe_numbers
from modelcheck.systems.workspace import edited
from modelmill.core import conditions
from modelmill.core.conditions import has_ended
from modelmill.core.plan import Delete, SetStatus, Write
from modelmill.core.resources import MANAGED_BY, Manifest, dig

KIND, NAME = "Model", "triage"
VERSION, DEPLOYMENT, RUN = "ModelVersion", "ModelDeployment", "TrainingJob"
FOREST = uid(RUN, "forest")
TESTS = f"sha256:{'7' * 64}"
NUMBERS = (1, 2, 3, 4)


def name_of(number: int) -> str:
    return f"{NAME}-{number}"


def artifact(number: int) -> Manifest:
    return {"uri": f"s3://models/{number}", "digest": f"sha256:{str(number) * 64}"}


def recipe(number: int) -> str:
    return f"sha256:{str(number) * 64}"


def model(limit: int | None, **metadata: object) -> Manifest:
    spec = {} if limit is None else {"versionHistoryLimit": limit}
    return {"kind": KIND, "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1, **metadata}, "spec": spec}


def version(number: int, maker: str | None, *, ready: bool, tested: bool = False, new: bool = False) -> Manifest:
    """A version that was verified; version 2 is tested against what version 1 is."""
    made_by = {"trainingJob": {"name": "run", "uid": maker}, "recipe": recipe(number)}
    lineage = {} if maker is None else {"lineage": made_by}
    said = [
        {"type": type_, "status": str(true), "reason": "Said", "message": "", "observedGeneration": 1}
        for type_, true in (("Ready", ready), ("Stalled", not ready))
    ]
    testing = {"testing": TESTS, "baseline": {"deployment": NAME, "version": 1, "artifact": artifact(1)}}
    return {
        "kind": VERSION,
        "metadata": {
            "name": name_of(number),
            "uid": NEW if new else uid(VERSION, name_of(number)),
            "generation": 1,
            "labels": {} if maker is None else dict(MANAGED_BY),
        },
        "spec": {"modelRef": {"name": NAME}, "version": number, "artifact": artifact(number), **lineage},
        "status": {
            "observedGeneration": 1,
            "conditions": [{**condition, "lastTransitionTime": LONG_AGO} for condition in said],
            **(testing if tested else {}),
        },
    }


def changed(live: Manifest, *, ready: bool, tested: bool = False) -> Manifest:
    """The same version with another status."""
    status = version(_number(live), None, ready=ready, tested=tested)["status"]
    return {"kind": VERSION, **live, "status": status}


def deployment(named: int | None, serves: int) -> Manifest:
    """It keeps no former revision, so that what serves is all that it can go back to."""
    chosen = {"name": NAME} if named is None else {"name": NAME, "version": named}
    history = [{"revision": f"r{serves}", "version": serves, "model": NAME, "promotedAt": LONG_AGO}]
    return {
        "kind": DEPLOYMENT,
        "metadata": {"name": NAME, "uid": uid(DEPLOYMENT, NAME), "generation": 1},
        "spec": {"model": chosen, "revisionHistoryLimit": 0},
        "status": {"history": history},
    }


def run(became: int | None) -> Manifest:
    """A training that has its artifact; what it became is known to it, or not yet."""
    ended = {"type": "Succeeded", "status": "True" if became else "Unknown", "reason": "Said", "message": ""}
    trained = {"type": "Trained", "status": "True", "reason": "ArtifactPublished", "message": ""}
    return {
        "kind": RUN,
        "metadata": {"name": "forest", "uid": FOREST, "generation": 1},
        "spec": {"modelRef": {"name": NAME}, "data": {"datasetRef": {"name": "tumours"}, "target": "benign"}},
        "status": {
            "observedGeneration": 1,
            "artifact": artifact(3),
            "conditions": [{**c, "observedGeneration": 1, "lastTransitionTime": LONG_AGO} for c in (ended, trained)],
            **({"modelVersion": name_of(became)} if became else {}),
        },
    }


def again(*, ended: bool) -> Manifest:
    """A training of what version 1 was made of."""
    status = {"recipe": recipe(1), "conditions": run(1 if ended else None)["status"]["conditions"][:1]}
    metadata = {"name": "again", "uid": uid(RUN, "again"), "generation": 1}
    return {"kind": RUN, "metadata": metadata, "spec": run(None)["spec"], "status": status}


class RetirementSystem(System):
    name = "Model: retirement"
    slots = 8
    life = ("triage-3 serves", "somebody writes triage-1 by hand")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        first, second = (version(number, f"run-{number}", ready=True) for number in (1, 2))
        return [model(1), first, second, deployment(None, 1), run(None)]

    def moves(self, live: Live) -> Iterator[Move]:
        known, present = live.get(KIND, NAME), [v for n in NUMBERS if (v := live.get(VERSION, name_of(n)))]
        assert known is not None
        for found in present:
            yield from self._version(found)
        if live.get(VERSION, name_of(1)) is None:
            yield move("somebody writes triage-1 by hand", version(1, None, ready=True, new=True))
        if live.get(VERSION, name_of(3)) is not None and live.get(VERSION, name_of(4)) is None:
            yield move("another run makes triage-4", version(4, "run-4", ready=True, new=True))
        if "versionHistoryLimit" in known["spec"]:
            yield move("all versions are to stay", {"kind": KIND, **edited(known, model(None)["spec"])})
        else:
            yield move("one version is to stay", {"kind": KIND, **edited(known, model(1)["spec"])})
        yield from self._deployment(live, present)
        yield from self._run(live)
        if live.get(RUN, "again") is None:
            yield move("somebody trains the same as triage-1", again(ended=False))
        yield from self._again(live)

    def _again(self, live: Live) -> Iterator[Move]:
        if live.get(RUN, "again") == live.version(again(ended=False)):
            yield move("the same was trained", again(ended=True))

    def _version(self, found: Manifest) -> Iterator[Move]:
        name = found["metadata"]["name"]
        if "deletionTimestamp" in found["metadata"]:
            yield move(f"{name} goes at last", gone=[(VERSION, name)])
            return
        yield move(f"somebody deletes {name}", gone=[(VERSION, name)])
        if conditions.is_true(found, "Ready"):
            yield move(f"{name} is not Ready any more", changed(found, ready=False))
        else:
            yield move(f"{name} is Ready", changed(found, ready=True))
        if _number(found) == 2 and "testing" not in found["status"]:
            yield move(f"other tests of {name} begin", changed(found, ready=True, tested=True))
        if "testing" in found["status"]:
            yield move(f"{name} is tested", changed(found, ready=True))

    def _deployment(self, live: Live, present: list[Manifest]) -> Iterator[Move]:
        known = live.get(DEPLOYMENT, NAME)
        assert known is not None
        named, serves = dig(known, "spec", "model", "version"), known["status"]["history"][0]["version"]
        for number in (None, 1, 2):
            if number != named:
                yield move(f"version {number or 'the newest'} is to serve", deployment(number, serves))
        ready = [_number(v) for v in present if conditions.is_true(v, "Ready")]
        wanted = named if named in ready else max(ready, default=None) if named is None else None
        if wanted is not None and wanted != serves:
            yield move(f"{name_of(wanted)} serves", deployment(named, wanted))

    def _run(self, live: Live) -> Iterator[Move]:
        forest = live.get(RUN, "forest")
        if forest is None or "modelVersion" in forest["status"]:
            return
        # Once is enough: what it made and does not know is its version, whatever becomes of it.
        reserved = dig(live.get(KIND, NAME), "status", "reservations") or ()
        made = [v for v in live.all(VERSION) if _maker(v) == FOREST]
        for reservation in reserved:
            number = reservation["version"]
            if not made and number in NUMBERS[:3] and live.get(VERSION, name_of(number)) is None:
                yield move(f"forest makes {name_of(number)}", version(number, FOREST, ready=True, new=True))
        if made:
            yield move("forest knows its version", run(_number(made[0])))

    def help(self, live: Live) -> Iterator[Move]:
        tested = live.get(VERSION, name_of(2))
        if tested is not None and "testing" in tested["status"]:
            yield move("triage-2 is tested", changed(tested, ready=True))
        yield from (m for v in live.all(VERSION) if "deletionTimestamp" in v["metadata"] for m in self._version(v))
        yield from self._run(live)
        yield from self._again(live)

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, SetStatus):
            return unsafe_numbers(before.get(KIND, NAME), after.get(KIND, NAME))
        if not isinstance(write, Delete):
            return None
        found, known = before.get(VERSION, write.name), before.get(KIND, NAME)
        assert found is not None
        assert known is not None
        if "versionHistoryLimit" not in known["spec"]:
            return "a version is deleted though all are to stay"
        mark = {"version": _number(found), "uid": found["metadata"]["uid"], "since": LONG_AGO}
        wrong = _needed(before, found)
        if wrong is None and mark not in (dig(known, "status", "retiring") or ()):
            return "a version is deleted that was not said to go"
        return wrong

    def unreached(self, live: Live) -> str | None:
        known = live.get(KIND, NAME)
        assert known is not None
        left = sorted((v for v in live.all(VERSION) if _maker(v)), key=_number)[:-1]
        useless = [v["metadata"]["name"] for v in left if _needed(live, v) is None]
        if useless and "versionHistoryLimit" in known["spec"]:
            return f"{useless[0]} is one too many, and stays"
        return "what goes is not there any more" if not left and known["status"].get("retiring") else None


class RetirementByTwoSystem(RetirementSystem):
    """And another replica that writes down what goes."""

    name = "Model: retirement by two"

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        yield from replica.writes((KIND, NAME), live)


def _needed(live: Live, found: Manifest) -> str | None:
    """Why this version must not be deleted."""
    number = _number(found)
    ready = [_number(v) for v in live.all(VERSION) if conditions.is_true(v, "Ready")]
    deployed, forest = live.get(DEPLOYMENT, NAME), live.get(RUN, "forest")
    assert deployed is not None
    if _maker(found) is None:
        return "what was written by hand is deleted"
    if number == max(ready, default=None):
        return "the newest version that is Ready is deleted"
    if number in (dig(deployed, "spec", "model", "version"), deployed["status"]["history"][0]["version"]):
        return "what is served or named is deleted"
    if any("testing" in v["status"] and number in (1, _number(v)) for v in live.all(VERSION)):
        return "what is tested, or compared with, is deleted"
    if forest is not None and not has_ended(forest) and _maker(found) == FOREST:
        return "a version is deleted before its run knows it"
    same = live.get(RUN, "again")
    if same is not None and not has_ended(same) and number == 1:
        return "what is trained again is deleted"
    return None


def _number(found: Manifest) -> int:
    return int(found["spec"]["version"])


def _maker(found: Manifest) -> Any:
    return dig(found, "spec", "lineage", "trainingJob", "uid")
