"""A Pipeline whose runs look at data and train on it; new data starts runs, and so does somebody by hand.

What looks at the data may find more each time, which would start another run: a circle.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import AHEAD, LONG_AGO, NEW, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.workspace import edited
from modelmill.core import pipeline_runs
from modelmill.core.pipeline import DAY
from modelmill.core.plan import Create, SetStatus, Write
from modelmill.core.resources import Manifest, dig

KIND, RUN, JOB = "Pipeline", "PipelineRun", "TrainingJob"
NAME, DATA = "triage", "tumours"
BY_HAND = "by-hand"
VERSIONS = tuple(f"sha256:{letter * 64}" for letter in "abc")
MOST = 2  # runs a day
TRAINING = {
    "data": {"datasetRef": {"name": DATA}, "target": "benign"},
    "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
}
STAGES = [
    {"name": "data", "timeout": "1h", "refresh": {"datasetRef": {"name": DATA}}},
    {"name": "train", "timeout": "1h", "trainingJob": {"spec": TRAINING}},
]


def _by_trigger() -> list[str]:
    """Names of the runs that versions start, one after the other."""
    pipeline = uid(KIND, NAME)
    return [
        pipeline_runs.run_name(NAME, pipeline, "new", version, number)
        for version in VERSIONS[1:]
        for number in range(len(VERSIONS))
    ]


def pipeline(policy: str) -> Manifest:
    """As the API server completes it."""
    spec = {
        "triggers": [{"name": "new", "newVersionOf": {"datasetRef": {"name": DATA}}}],
        "stages": STAGES,
        "concurrencyPolicy": policy,
        "cooldown": "0s",
        "maxRunsPerDay": MOST,
        "suspend": False,
        "runHistoryLimit": {"succeeded": 0, "failed": 1},
    }
    return {"kind": KIND, "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}, "spec": spec}


def dataset(version: str, handled: list[str]) -> Manifest:
    """A Dataset that is Ready; nobody reconciles it."""
    ready = {"type": "Ready", "status": "True", "reason": "SnapshotTaken", "message": "as it says"}
    history = [{"version": version, "file": version, "rows": 1, "observedAt": LONG_AGO}]
    status = {
        "version": version,
        "rows": 1,
        "history": history,
        "handledRuns": handled,
        "conditions": [{**ready, "observedGeneration": 1, "lastTransitionTime": LONG_AGO}],
    }
    return {
        "kind": "Dataset",
        "metadata": {"name": DATA, "uid": uid("Dataset", DATA), "generation": 1},
        "spec": {"source": {"configMapRef": {"name": "a", "key": "data.csv"}}},
        "status": status,
    }


def by_hand() -> Manifest:
    spec = {"pipelineRef": {"name": NAME}, "cancel": False}
    return {"kind": RUN, "metadata": {"name": BY_HAND, "uid": NEW, "generation": NEW}, "spec": spec}


def _ended(job: Manifest, type_: str) -> Manifest:
    said = {"type": type_, "status": "True", "reason": "AsItWas", "message": "as it says"}
    condition = {**said, "observedGeneration": 1, "lastTransitionTime": LONG_AGO}
    return {**job, "kind": JOB, "status": {"conditions": [condition], "artifact": {"digest": VERSIONS[0]}}}


class PipelineSystem(System):
    slots = 24
    clock_goes_back = True
    longest_pause = timedelta(days=3)
    reads = frozenset({RUN, "Dataset", JOB})
    life = ("there is new data", "somebody creates a run", "there is new data")

    def __init__(self, policy: str) -> None:
        self.name = f"Pipeline: {policy}"
        self._policy = policy
        self._runs = [BY_HAND, *_by_trigger()]

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME), *((RUN, name) for name in self._runs)]

    def start(self) -> list[Manifest]:
        return [pipeline(self._policy), dataset(VERSIONS[0], [])]

    def moves(self, live: Live) -> Iterator[Move]:
        data = live.get("Dataset", DATA)
        assert data is not None
        following = dict(pairwise(VERSIONS)).get(data["status"]["version"])
        if following is not None:
            yield move("there is new data", dataset(following, data["status"]["handledRuns"]))
        yield from _looks(live, following)
        if live.get(RUN, BY_HAND) is None:
            yield move("somebody creates a run", by_hand())
        for run in live.all(RUN):
            name = run["metadata"]["name"]
            yield move(f"somebody deletes {name}", gone=[(RUN, name)])
            if not run["spec"].get("cancel") and pipeline_runs.ended(run)[0] is None:
                yield move(f"somebody cancels {name}", {"kind": RUN, **edited(run, {**run["spec"], "cancel": True})})
        for job in live.all(JOB):
            name = job["metadata"]["name"]
            if not job["status"]:
                yield move(f"the training of {name} succeeds", _ended(job, "Succeeded"))
                yield move(f"the training of {name} fails", _ended(job, "Failed"))
            yield move(f"somebody deletes {name}", gone=[(JOB, name)])
        yield from jobs.orphans(live, JOB)

    def help(self, live: Live) -> Iterator[Move]:
        yield from _looks(live, None)
        yield from jobs.orphans(live, JOB)
        for job in live.all(JOB):
            if not job["status"]:
                yield move(f"the training of {job['metadata']['name']} succeeds", _ended(job, "Succeeded"))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        if isinstance(write, Create) and write.manifest["kind"] == JOB:
            owner = write.manifest["metadata"]["ownerReferences"][0]["uid"]
            others = [r for r in before.all(RUN) if _goes_on(r) and r["metadata"]["uid"] != owner]
            return "two runs go on" if others else self._unsafe_training(owner, before)
        if isinstance(write, SetStatus):
            return _unsafe_turn(before, after)
        return None

    def _unsafe_training(self, owner: str, before: Live) -> str | None:
        run = next((r for r in before.all(RUN) if r["metadata"]["uid"] == owner), None)
        if run is None:
            return None  # it was deleted a moment ago: the garbage collector takes what comes
        if pipeline_runs.ended(run)[0] is not None:
            return "a run that has ended trains"
        (stage,) = (s for s in run["status"]["stages"] if s["name"] == "train")
        return "what was trained is trained again" if "uid" in stage.get("made", {}) else None

    def unreached(self, live: Live) -> str | None:
        present, data = live.get(KIND, NAME), live.get("Dataset", DATA)
        assert present is not None
        assert data is not None
        for run in live.all(RUN):
            if pipeline_runs.ended(run)[0] is None:
                return f"{run['metadata']['name']} does not end"
        if present["status"].get("active"):
            return "a run that has ended is the active one"
        if len([run for run in live.all(RUN) if run["metadata"]["name"] != BY_HAND]) > 1:
            return "more runs are kept than are to be"
        (trigger,) = present["status"]["triggers"]
        return None if trigger["handled"] == data["status"]["version"] else "a cause is never dealt with"


def _goes_on(run: Manifest) -> bool:
    return pipeline_runs.has_started(run) and pipeline_runs.ended(run)[0] is None


def _looks(live: Live, following: str | None) -> Iterator[Move]:
    """The Dataset does what runs ask for: its source is as it was, or has more."""
    data = live.get("Dataset", DATA)
    assert data is not None
    asking = list(pipeline_runs.requests(tuple(live.all(RUN)), DATA))
    if set(asking) - set(data["status"]["handledRuns"]):
        yield move("the source is read: nothing new", dataset(data["status"]["version"], asking))
        if following is not None:
            yield move("the source is read: new data", dataset(following, asking))


def _unsafe_turn(before: Live, after: Live) -> str | None:
    """One run at a time is let in, once for each cause, and no more than may be in a day."""
    was, said = before.get(KIND, NAME), after.get(KIND, NAME)
    assert was is not None
    assert said is not None
    old, new = was["status"].get("active"), said["status"].get("active")
    if new is None or (old is not None and old["uid"] == new["uid"]):
        return None
    run = next((r for r in before.all(RUN) if r["metadata"]["uid"] == new["uid"]), None)
    if run is None or _goes_on(run):
        return None  # it is gone by now, or went on already
    if any(_goes_on(other) for other in before.all(RUN) if other is not run):
        return "a run is let in while another one goes on"
    if len(said["status"]["starts"]) > MOST:
        return f"more than {MOST} runs start within {DAY}"
    *earlier, own = said["status"]["starts"]
    # What is ahead was planned before the clock was set back: what was a day old by then did not count any more.
    if own != AHEAD and len(earlier) < len([s for s in was["status"].get("starts", ()) if s != LONG_AGO]):
        return "a start is not counted"
    cause: dict[str, Any] = dig(run, "spec", "cause") or {}
    handled = [trigger["handled"] for trigger in was["status"].get("triggers", ())]
    return "a cause that was dealt with gets another run" if cause.get("key") in handled else None
