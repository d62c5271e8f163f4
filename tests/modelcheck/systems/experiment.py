"""An Experiment of three trials, one at a time, each chosen by a pod; its TrainingJobs end as their controller says."""

from collections.abc import Iterator
from typing import Any

from modelcheck.cluster import Live, Move, System, move
from modelcheck.objects import JUST_NOW, Slot, uid
from modelcheck.systems import jobs
from modelcheck.systems.trainingjob import DATASET, MODEL, dataset
from modelcheck.systems.workspace import edited, working_workspace
from modelmill.core import conditions
from modelmill.core.conditions import has_ended
from modelmill.core.experiment import BATCH_ANNOTATION
from modelmill.core.experiment_facts import KIND, TRIAL, page_name, promoted_name, proposer_name, trial_name
from modelmill.core.plan import Create, Delete, SetStatus, Write, is_owned
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import report

NAME = "search"
MOST, PARALLEL = 3, 1
PROPOSER, PAGE = proposer_name(NAME), page_name(NAME)
TRIALS = [trial_name(NAME, number) for number in range(1, MOST + 1)]
PROMOTED = [promoted_name(NAME, number) for number in range(1, MOST + 1)]


def search(*, suspend: bool = False, most: int = MOST - 1) -> Manifest:
    data = {"datasetRef": {"name": DATASET}, "target": "benign"}
    steps = [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]
    template = {"modelRef": {"name": MODEL}, "data": data, "estimator": {"steps": steps}}
    spec = {
        "objective": {"metric": "roc_auc"},
        "search": {"algorithm": "CMAES", "seed": 1},
        "parameters": [{"param": "lr__C", "float": {"min": "0", "max": "1"}}],
        "trials": {"max": most, "parallel": PARALLEL, "maxFailed": 1},
        "template": {"spec": template},
        "promote": "Best",
        "suspend": suspend,
    }
    return {"kind": KIND, "metadata": {"name": NAME, "uid": uid(KIND, NAME), "generation": 1}, "spec": spec}


def parameter(number: int) -> float:
    """What the pod chooses for a trial."""
    return number / 10


def proposed(job: Manifest) -> report.Report:
    first = int(job["metadata"]["annotations"][BATCH_ANNOTATION])
    return report.Report(True, "Proposed", result=report.ProposalResult(first, ((str(parameter(first)),),)))


def written(_: Manifest) -> report.Report:
    return report.Report(True, "PageWritten", result=report.SearchPageResult(f"sha256:{'9' * 64}"))


def ended(job: Manifest, *, well: bool) -> Manifest:
    """The TrainingJob after it ended: the later trial is the better one."""
    metadata = job["metadata"]
    number = int(metadata["name"].rpartition("-")[2])
    done = {"status": "True", "message": "", "lastTransitionTime": JUST_NOW, "reason": "Said"}
    type_ = "Succeeded" if well else "Failed"
    status: dict[str, Any] = {
        "observedGeneration": metadata["generation"],
        "conditions": [{**done, "type": type_, "observedGeneration": metadata["generation"]}],
    }
    if well:
        status["metrics"] = [{"name": "roc_auc", "value": str(parameter(number))}]
    if well and metadata["name"] in PROMOTED:
        status["modelVersion"] = f"{MODEL}-1"
    return {"kind": TRIAL, **{key: job[key] for key in ("metadata", "spec")}, "status": status}


class ExperimentSystem(System):
    name = "Experiment"
    slots = 15
    life = ("the user asks for another trial", f"somebody deletes {KIND} {NAME}")

    def controllers(self) -> list[Slot]:
        return [(KIND, NAME)]

    def start(self) -> list[Manifest]:
        return [working_workspace(), dataset("a"), search()]

    def moves(self, live: Live) -> Iterator[Move]:
        present = live.get(KIND, NAME)
        if present is not None:
            yield move(f"somebody deletes {KIND} {NAME}", gone=[(KIND, NAME)])
            suspended, most = present["spec"]["suspend"], present["spec"]["trials"]["max"]
            changed = search(suspend=not suspended, most=most)
            yield move(f"the user sets suspend to {not suspended}", {"kind": KIND, **edited(present, changed["spec"])})
            if most < MOST:
                more = search(suspend=suspended, most=MOST)
                yield move("the user asks for another trial", {"kind": KIND, **edited(present, more["spec"])})
        for name in (*TRIALS, *PROMOTED):
            job = live.get(TRIAL, name)
            if job is None:
                continue
            if not has_ended(job):
                yield move(f"{name} succeeds", ended(job, well=True))
                yield move(f"{name} fails", ended(job, well=False))
            elif name in TRIALS:
                yield move(f"somebody deletes {name}", gone=[(TRIAL, name)])
        if live.get(TRIAL, TRIALS[0]) is None and present is not None:
            yield move("somebody else has a TrainingJob of that name", other())
        for job_, success in ((PROPOSER, proposed), (PAGE, written)):
            yield from jobs.moves(live, job_, success)
            yield from jobs.collected(live, job_)
        yield from jobs.orphans(live, TRIAL)

    def help(self, live: Live) -> Iterator[Move]:
        for name in (*TRIALS, *PROMOTED):
            job = live.get(TRIAL, name)
            if job is not None and not dig(job, "metadata", "ownerReferences"):
                yield move(f"the other {name} is deleted", gone=[(TRIAL, name)])
            elif job is not None and not has_ended(job) and not dig(job, "spec", "suspend"):
                yield move(f"{name} succeeds", ended(job, well=True))
        for job_, success in ((PROPOSER, proposed), (PAGE, written)):
            yield from jobs.help_(live, job_, success)
        yield from jobs.orphans(live, TRIAL)
        present = live.get(KIND, NAME)
        if present is not None and present["spec"]["suspend"]:
            on = search(most=present["spec"]["trials"]["max"])
            yield move("the user goes on", {"kind": KIND, **edited(present, on["spec"])})

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        present, then = before.get(KIND, NAME), after.get(KIND, NAME)
        if isinstance(write, Create) and write.manifest["kind"] == TRIAL:
            return _unsafe_create(write.manifest, before, present)
        if isinstance(write, Delete) and write.kind == TRIAL:
            job = before.get(TRIAL, write.name)
            if job is not None and job["metadata"]["uid"] == write.uid and has_ended(job):
                return "the result of a trial is thrown away"
        if isinstance(write, SetStatus) and present is not None and then is not None:
            was, now = dig(present, "status", "endedAt"), dig(then, "status", "endedAt")
            if now is not None and not has_ended(then):
                return "it has ended, and does not say how"
            if was is not None and now is None and has_ended(present) and conditions.is_true(present, "Succeeded"):
                return "what ended goes on, and nobody asked for more"
        return None

    def broken(self, live: Live) -> str | None:
        running = [job for job in _trials(live) if not has_ended(job)]
        return "more trials run than may" if len(running) > PARALLEL else None

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        if present is None:
            left = [*_trials(live), *(job for name in (PROPOSER, PAGE) if (job := live.get("Job", name)))]
            return "something is left behind" if left else None
        if not has_ended(present):
            return f"it does not end: {conditions.find(present, 'Succeeded')}"
        return "a trial runs after the end" if any(not has_ended(job) for job in _trials(live)) else None


def other() -> Manifest:
    """A TrainingJob that somebody made by hand."""
    return {
        "kind": TRIAL,
        "metadata": {"name": TRIALS[0], "uid": uid(TRIAL, TRIALS[0], 9), "generation": 1},
        "spec": search()["spec"]["template"]["spec"],
    }


def _trials(live: Live) -> list[Manifest]:
    """Those of the search, whether it is there or not."""
    return [job for name in TRIALS if (job := live.get(TRIAL, name)) is not None and is_owned(job, uid(KIND, NAME))]


def _unsafe_create(made: Manifest, before: Live, present: Manifest | None) -> str | None:
    name = made["metadata"]["name"]
    if before.get(TRIAL, name) is not None:
        return None  # it is not made
    if present is None:
        return None  # it is an orphan, which the garbage collector takes
    if present["spec"]["suspend"]:
        return "a trial is made while the search is suspended"
    if has_ended(present) and any(conditions.is_true(present, type_) for type_ in ("Succeeded", "Failed")):
        return "a trial is made after the end"
    number = int(name.rpartition("-")[2])
    value = made["spec"]["estimator"]["steps"][0]["params"]["C"]
    return None if value == parameter(number) else f"trial {number} has other parameters than were chosen: {value}"
