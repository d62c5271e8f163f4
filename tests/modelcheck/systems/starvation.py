"""A TrainingJob without a rank, and two of the best rank, created a day later, that would be run before it.

While one helps, as soon as one of the latter is trained another one is created, for as long as the former waits: so one
of them always waits, too.
"""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import AGED, JUST_NOW, LONG_AGO, NEW, uid
from modelcheck.systems.admission import AdmissionSystem, crowded_workspace, run
from modelcheck.systems.jobs import pod_name
from modelcheck.systems.trainingjob import KIND, MODEL, dataset, training
from modelmill.core.conditions import has_ended
from modelmill.core.resources import Manifest
from modelmill.core.trainingjob import job_name

WAITS, PREFERRED = "first", ("second", "third")
USE_CASE = "urgent"


def model(rank: int | None) -> Manifest:
    use_case = {"name": USE_CASE, **({"rank": rank} if rank is not None else {})}
    return {
        "kind": "Model",
        "metadata": {"name": MODEL, "uid": uid("Model", MODEL), "generation": 1},
        "spec": {"useCaseRef": {"name": USE_CASE}},
        "status": {"observedGeneration": 1, "lastVersion": 0, "useCase": use_case},
    }


def aged(manifest: Manifest, created: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {AGED: "yes"}, "creationTimestamp": created}}


class StarvationSystem(AdmissionSystem):
    name = "TrainingJob: queue by rank"
    runs = (WAITS, *PREFERRED)
    slots = 18
    life = ()

    def start(self) -> list[Manifest]:
        return [
            crowded_workspace(),
            dataset("a"),
            model(1),
            aged(run(WAITS), LONG_AGO),
            *(aged(training(name, uid=uid(KIND, name), generation=1), JUST_NOW) for name in PREFERRED),
        ]

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        known = live.get("Model", MODEL)
        assert known is not None
        rank = None if "rank" in known["status"]["useCase"] else 1
        yield move(f"the use case has the rank {rank}", model(rank))

    def help(self, live: Live) -> Iterator[Move]:
        waits = live.get(KIND, WAITS)
        for name in PREFERRED if waits is not None and not has_ended(waits) else ():
            known = live.get(KIND, name)
            if known is None or has_ended(known) or known["status"].get("artifact"):
                another = aged(training(name, uid=NEW, generation=NEW), JUST_NOW)
                children = [("Job", job_name(name)), ("Pod", pod_name(job_name(name)))]
                gone = [child for child in children if live.get(*child) is not None]
                yield move(f"another run {name} of the best rank comes", {**another, "status": {}}, gone=gone)
        yield from super().help(live)

    def unreached(self, live: Live) -> str | None:
        waits = live.get(KIND, WAITS)
        return None if waits is None or has_ended(waits) else f"{WAITS} never comes first"
