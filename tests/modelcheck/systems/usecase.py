"""A UseCase whose requirement is raised and lowered, a Model with a test of its own, and the data that is needed."""

from collections.abc import Iterator

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import NEW, Slot, uid
from modelcheck.systems.trainingjob import DATASET, dataset
from modelcheck.systems.workspace import edited
from modelmill.core import conditions
from modelmill.core.plan import SetStatus, Write
from modelmill.core.resources import Manifest, dig

KIND, NAME, MODEL = "UseCase", "urgent", "triage"
BARS = ("0.8", "0.9", "0.99")  # the Model's own test is 0.9
ROWS = (10, 569)


def spec(least: str) -> Manifest:
    return {
        "owner": "ana",
        "priority": {"value": 1, "effort": 1},
        "data": [{"datasetRef": {"name": DATASET}, "minRows": 100}],
        "requirements": [{"name": "quality", "metric": {"name": "roc_auc", "min": least}}],
    }


def use_case() -> Manifest:
    return {
        "kind": KIND,
        "metadata": {"name": NAME, "uid": NEW, "generation": NEW},
        "spec": spec(BARS[0]),
        "status": {},
    }


def model(*, governed: bool) -> Manifest:
    tests = {"metrics": [{"name": "roc_auc", "min": "0.9"}]}
    return {"tests": tests, **({"useCaseRef": {"name": NAME}} if governed else {})}


def data(rows: int) -> Manifest:
    made = dataset("a")
    return {**made, "status": {**made["status"], "rows": rows}}


class UseCaseSystem(System):
    name = "UseCase"
    slots = 3
    life = ("the requirement is 0.99", "the Model is governed")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME), ("Model", MODEL)]

    def start(self) -> list[Manifest]:
        metadata = {"name": MODEL, "uid": uid("Model", MODEL), "generation": 1}
        made = {**use_case(), "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}}
        return [made, {"kind": "Model", "metadata": metadata, "spec": model(governed=False)}, data(ROWS[0])]

    def moves(self, live: Live) -> Iterator[Move]:
        present, known, rows = live.get(KIND, NAME), live.get("Model", MODEL), live.get("Dataset", DATASET)
        assert known is not None
        governed = "useCaseRef" not in known["spec"]
        story = "the Model is governed" if governed else "the Model is governed no more"
        yield move(story, {"kind": "Model", **edited(known, model(governed=governed))})
        if present is None:
            yield move("the use case is declared", use_case())
        else:
            yield move("the use case is deleted", gone=[(KIND, NAME)])
            for least in BARS:
                if present["spec"] != spec(least):
                    yield move(f"the requirement is {least}", {"kind": KIND, **edited(present, spec(least))})
        for number in ROWS:
            if dig(rows, "status", "rows") != number:
                yield move(f"the data has {number} rows", data(number))
        if rows is not None:
            yield move("the data is gone", gone=[("Dataset", DATASET)])

    def help(self, live: Live) -> Iterator[Move]:
        yield from ()

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        known = after.get("Model", MODEL)
        if not isinstance(write, SetStatus) or known is None or not conditions.is_true(known, "Ready"):
            return None
        if "useCaseRef" in known["spec"] and not dig(known, "status", "useCase", "metrics"):
            return "a Model is Ready, and asks nothing for its use case"
        return None

    def unreached(self, live: Live) -> str | None:
        present, known, rows = live.get(KIND, NAME), live.get("Model", MODEL), live.get("Dataset", DATASET)
        assert known is not None
        governed = "useCaseRef" in known["spec"]
        least = present["spec"]["requirements"][0]["metric"]["min"] if present is not None else None
        reason = (conditions.find(known, "Ready") or {})["reason"]
        wanted = "Numbering"
        if governed:
            wanted = "UseCaseNotFound" if least is None else "TestLooser" if float(least) > 0.9 else "Numbering"
        if reason != wanted:
            return f"the Model says {reason}, not {wanted}"
        asked = dig(known, "status", "useCase", "metrics")
        if governed and least is not None and [metric["min"] for metric in asked or ()] != [least]:
            return f"the Model asks {asked}, and {least} is required"
        if present is None:
            return None
        if present["status"].get("models", []) != ([MODEL] if governed else []):
            return f"the use case knows {present['status'].get('models')}"
        feasible = (conditions.find(present, "Feasible") or {})["status"]
        enough = dig(rows, "status", "rows") == ROWS[1]
        return None if (feasible == "True") == enough else f"Feasible is {feasible}"
