"""The mirror: every TrainingJob of a namespace that ended is shown in an MLflow server, by a Job of its Workspace.

    runs have ended, and say nothing of MLflow -> a Job for up to 50 of them, half a minute after the last one at the
        earliest unless a whole batch waits: a thousand trials take some twenty Jobs and not a thousand
    the Job answered   -> status.mirrored has what it said, until each of these TrainingJobs has taken it over into its
        own status, which nobody else writes; then comes the next batch
    the Job failed     -> again, at first soon and then ever more seldom, or at once where something else is declared;
        nothing else waits for it

It is the Workspace's and not the TrainingJob's or the Experiment's, as so there is one Job at a time for all runs of a
namespace, those by hand among them.  No time and no number of the last one is remembered, which a clock that is set
back or a late view would make wrong: what has to be shown is what does not say that it was.

Each run is made once in MLflow.  Its TrainingJob's UID is a tag of it, by which the pod looks for it first, also among
those that somebody deleted.  So an answer that is lost makes no second one.  Two pods never do so at the same time: the
Job is the only one of its name, is never thrown away while it works, whatever is edited, and has no second pod before
the first one has ended.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.schema import GROUP, ResourceRequirements
from modelmill.api.workspace import MAX_MIRRORED, Mlflow
from modelmill.core import conditions, jobs, lineage, pods, retry, tracked
from modelmill.core.conditions import Condition, Waiting, moment
from modelmill.core.plan import Create, Delete, Observed, Subject, Unedited
from modelmill.core.pods import StoreAccess
from modelmill.core.resources import UNTRACKED_FIELD, YES, Key, Manifest, dig
from modelmill_contracts import addresses, digest, environment, report, task

JOB = "default-mirror"
TIMEOUT = timedelta(minutes=15)  # the pod begins no run after four, and gives up an answer that takes a minute
PAUSE = timedelta(seconds=30)
LEFT = timedelta(days=2)  # how long the Job stays once it has ended
RUNS_ANNOTATION = f"{GROUP}/mirrored"  # of the Job: the UIDs of its runs, in their order
SERVER_ANNOTATION = f"{GROUP}/tracking"  # of the Job: the digest of what was declared when it was made
ROOM = 500_000  # characters of a task: etcd takes 1.5 MiB, and Linux 2 MiB of variables
LONGEST = 6000  # characters of a parameter's value, which is as much as MLflow takes


@dataclass(frozen=True)
class Answer:
    """What MLflow said of the TrainingJob of that UID."""

    uid: str
    run: str | None
    refused: str | None

    @property
    def status(self) -> dict[str, str]:
        """As both statuses have it, without the UID."""
        return {key: value for key, value in (("run", self.run), ("refused", self.refused)) if value is not None}


@dataclass(frozen=True)
class Facts:
    uri: str
    secret: str | None
    server: str  # digest of what is declared
    run: jobs.Run
    work: str  # the task of the next batch as JSON: hashable; "": nothing waits
    uids: tuple[str, ...]  # of its runs
    waiting: int  # how many runs are not shown yet
    answers: tuple[Answer, ...]  # which somebody has still to take over
    failing: retry.Failing | None


@dataclass(frozen=True)
class Decision:
    start: bool = False
    discard: bool = False
    waiting: Waiting | None = None  # None: every run that ended is shown
    requeue_after: timedelta | None = None


def dependencies(namespace: str, uid: str) -> tuple[Key, ...]:
    return *jobs.dependencies(namespace, uid, JOB), Key("TrainingJob", namespace, UNTRACKED_FIELD, YES)


def observe(observed: Observed, declared: Mlflow) -> Facts:
    # Whatever is edited, it goes on, and what it answers counts.
    run = jobs.observe(observed, JOB, observed.uid)
    found = {job["metadata"]["uid"]: job for job in observed.find("TrainingJob", UNTRACKED_FIELD, YES)}
    uids, work = _batch(list(found.values()), declared)
    answers = _answered(run) or said(observed.object)
    return Facts(
        uri=declared.uri,
        secret=declared.secret_ref.name if declared.secret_ref else None,
        server=digest.of_json(declared.model_dump()),
        run=run,
        work=work,
        uids=uids,
        waiting=len(found),
        answers=answers if any(answer.uid in found for answer in answers) else (),
        failing=retry.failing(observed, "Mirrored"),
    )


def said(workspace: Manifest | None) -> tuple[Answer, ...]:
    """The answers that a Workspace's status has."""
    found = dig(workspace, "status", "mirrored") or ()
    return tuple(Answer(a["uid"], a.get("run"), a.get("refused")) for a in found)


def _answered(run: jobs.Run) -> tuple[Answer, ...]:
    """What the Job's pod said of its first runs: for the others it had no time."""
    result = _result(run)
    if result is None:
        return ()
    uids = (run.annotation(RUNS_ANNOTATION) or "").split(",")
    return tuple(Answer(uid, of.run or None, of.refused or None) for uid, of in zip(uids, result.runs, strict=False))


def _result(run: jobs.Run) -> report.MirrorResult | None:
    said_ = run.report.result if run.state == "Succeeded" and run.report is not None else None
    return said_ if isinstance(said_, report.MirrorResult) else None


def _batch(ended: list[Manifest], declared: Mlflow) -> tuple[tuple[str, ...], str]:
    """The UIDs of the runs that ended first, as many as one Job is told of, and its task."""
    first = sorted(ended, key=lambda job: (_end(job), job["metadata"]["name"]))[:MAX_MIRRORED]
    runs: list[task.EndedRun] = []
    room = ROOM
    for job in first:
        run = _run(job, declared)
        room -= _size(run)
        if runs and room < 0:
            break
        runs.append(run)
    secret = declared.secret_ref.name if declared.secret_ref else ""
    work = task.encode(task.MirrorTask(declared.uri, tuple(runs), secret)) if runs else ""
    return tuple(run.uid for run in runs), work


def _size(run: task.EndedRun) -> int:
    return sum(len(name) + len(value) for name, value in (*run.parameters, *run.tags)) + 100 * len(run.metrics)


def _ending(job: Manifest) -> Any:
    """The condition by which a TrainingJob has ended."""
    found = (conditions.find(job, type_) for type_ in ("Succeeded", "Failed"))
    return next(condition for condition in found if condition is not None and condition["status"] == "True")


def _end(job: Manifest) -> str:
    return str(_ending(job)["lastTransitionTime"])


def _run(job: Manifest, declared: Mlflow) -> task.EndedRun:
    known, metadata = tracked.run_of(job), job["metadata"]
    parameters = tuple((name, _text(value)) for name, value in known["parameters"].items())
    left_out = sum(len(name) + len(value) for name, value in parameters) > ROOM
    names = (metadata["namespace"], *([known["experiment"]] if known["experiment"] else []))
    return task.EndedRun(
        uid=metadata["uid"],
        name=metadata["name"],
        experiment=(declared.prefix or "") + "/".join(names),
        status="FAILED" if known["state"] == "Failed" else "FINISHED",
        start=_milliseconds(metadata["creationTimestamp"]),
        end=_milliseconds(_end(job)),
        tags=(*_tags(job, known), *((("modelmill.parameters", "left out: too long"),) if left_out else ())),
        parameters=() if left_out else parameters,
        metrics=tuple(_metrics(job)),
    )


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _milliseconds(time: str) -> int:
    return int(moment(time).timestamp()) * 1000


def _tags(job: Manifest, known: dict[str, Any]) -> task.Pairs:
    """Where it comes from and what became of it; a tag without a value is none."""
    shown = (
        "experiment",
        "trial",
        "state",
        "reason",
        "dataset",
        "datasetVersion",
        "recipe",
        "artifact",
        "modelVersion",
    )
    found = {
        "modelmill.namespace": job["metadata"]["namespace"],
        "modelmill.run": known["run"],
        **{f"modelmill.{key}": known[key] for key in shown},
        "modelmill.artifactUri": dig(job, "status", "artifact", "uri"),
        "modelmill.modelBytes": known["modelBytes"],
        "modelmill.cpuSeconds": known["cpuSeconds"],
        "modelmill.seed": known["seed"],
        "mlflow.source.type": "JOB",
        "mlflow.source.name": "modelmill",
        "mlflow.source.git.commit": lineage.commit_of(job["metadata"].get("annotations")),
        "mlflow.note.content": _ending(job)["message"],
    }
    return tuple((name, str(value)) for name, value in found.items() if value not in (None, ""))


def _metrics(job: Manifest) -> list[task.MirroredMetric]:
    """Each metric and its standard deviation; and what decided whether the training goes on, fold by fold."""
    found = []
    for metric in dig(job, "status", "metrics") or ():
        found.append(task.MirroredMetric(metric["name"], metric["value"]))
        if "stddev" in metric:
            found.append(task.MirroredMetric(f"{metric['name']}.stddev", metric["stddev"]))
    stopping = dig(job, "spec", "evaluation", "stopping", "metric")
    folds = enumerate(dig(job, "status", "folds") or (), start=1)
    return [*found, *(task.MirroredMetric(f"{stopping}.fold", value, fold) for fold, value in folds)]


def decide(facts: Facts, now: datetime) -> Decision:
    run = facts.run
    under_way = Waiting("Mirroring", f"runs that ended are being shown in MLflow at {facts.uri}")
    if facts.answers:
        return Decision(waiting=under_way)
    if addresses.is_denied_as_written(facts.uri):
        said_ = (
            f"spec.tracking.mlflow.uri: {addresses.host_of(facts.uri)!r} is a link-local or metadata address, where no"
            " MLflow may be; use the address of a real server"
        )
        return Decision(waiting=Waiting("MlflowAddressDenied", said_, stalled=True, failed=True))
    if not facts.waiting:
        return Decision()
    if run.state == "Foreign":
        return Decision(waiting=retry.name_taken("Job", JOB), requeue_after=retry.MAX)
    if run.state in ("Failed", "Lost"):
        if run.annotation(SERVER_ANNOTATION) != facts.server:
            return Decision(waiting=under_way, discard=True)
        waiting, pause = retry.after_failure(run, now, facts.failing)
        return Decision(waiting=waiting, discard=pause is None, requeue_after=pause)
    if run.state == "Succeeded":
        return _after(facts, now, under_way)
    waits = retry.under_way(run, facts.failing, under_way)
    return Decision(start=run.state == "Absent", discard=run.state == "Outdated", waiting=waits)


def _after(facts: Facts, now: datetime, waiting: Waiting) -> Decision:
    """The Job is done, what it said was taken over, and more runs wait."""
    pause = timedelta() if facts.waiting >= MAX_MIRRORED else PAUSE
    if _result(facts.run) is None:
        pause = retry.MAX_UNCHANGED
        said_ = f"the report of Job {JOB} is not that of a mirror; do the images fit together?"
        waiting = Waiting("ReportInvalid", said_, stalled=True, failed=True)
    left = facts.run.left(pause, now)
    if left > timedelta():
        return Decision(waiting=waiting, requeue_after=left)
    return Decision(waiting=waiting, discard=not facts.run.leaving)


def condition(facts: Facts | None, decision: Decision | None) -> Condition:
    """What the Workspace says of it; `facts` is None where nothing is declared."""
    if facts is None or decision is None:
        return conditions.unknown("Mirrored", "NotAsked", "spec.tracking is not declared: runs are objects here")
    if decision.waiting is not None:
        return decision.waiting.condition("Mirrored")
    said_ = f"every run that ended is shown in MLflow at {facts.uri}, or says why not (status.mlflow.refused)"
    return conditions.true("Mirrored", "Mirrored", said_)


def status_of(facts: Facts | None) -> list[dict[str, str]] | None:
    """The answers as the Workspace's status has them."""
    return [{"uid": a.uid, **a.status} for a in facts.answers] or None if facts is not None else None


def writes(
    subject: Subject, kind: str, facts: Facts, decision: Decision, declared: Unedited
) -> tuple[Create | Delete, ...]:
    if decision.discard:
        return (Delete("Job", JOB, facts.run.uid),)
    if not decision.start:
        return ()
    job = jobs.render(
        subject,
        kind,
        JOB,
        subject.uid,
        task.decode(facts.work),
        NO_STORE,
        limits=pods.resources(ResourceRequirements(), jobs.DEFAULT_RESOURCES),
        timeout=TIMEOUT,
        retries=0,
        annotations={RUNS_ANNOTATION: ",".join(facts.uids), SERVER_ANNOTATION: facts.server},
        variables=credentials(facts.secret),
        kept_for=LEFT,  # once nothing is declared any more nobody looks for it
    )
    return (Create(job, (declared,)),)


NO_STORE = StoreAccess(task.StoreLocation(""))  # its pod has neither the store's credentials nor its identity


def credentials(secret: str | None) -> list[dict[str, Any]]:
    """The variables of the pod that carry a Secret's keys; which of them there are, the pod finds out."""
    if secret is None:
        return []
    pairs = environment.MLFLOW_KEYS.items()
    return [pods.secret_variable(name, secret, key, optional=True) for name, key in pairs]


def taken_over(job: Manifest, workspace: Manifest | None) -> Answer | None:
    """What a TrainingJob's status says of MLflow: what it said before, else what the Workspace was answered."""
    uid, before = job["metadata"]["uid"], dig(job, "status", "mlflow")
    if before is not None:
        return Answer(uid, before.get("run"), before.get("refused"))
    return next((answer for answer in said(workspace) if answer.uid == uid), None)
