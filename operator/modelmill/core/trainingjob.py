"""TrainingJob: from a valid dataset version to an artifact, and from there to a ModelVersion.

    store works -> data is valid (its version is pinned now) -> Job runs -> artifact
        -> reproduce: a second Job runs, and the bytes of both are compared (see `reproduction`)
        -> no modelRef: Succeeded; so is one that was hopeless (evaluation.stopping), without an artifact
        -> modelRef: a version has this recipe and these bytes (see `known`) -> Succeeded
        -> modelRef: the Model exists -> it reserves a number for us -> ModelVersion is created -> Succeeded

What ended stays ended: the spec is immutable, so there is nothing that could be tried anew.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.schema import API_VERSION, parse_duration
from modelmill.api.trainingjob import TrainingJobSpec
from modelmill.core import (
    admission,
    conditions,
    governance,
    jobs,
    known,
    lineage,
    mirror,
    pods,
    progress,
    reproduction,
    retry,
    training_data,
    training_result,
    training_task,
    workers,
    workspace,
)
from modelmill.core.conditions import Condition, Waiting, false, true, unknown
from modelmill.core.controller import Controller
from modelmill.core.plan import Create, Delete, Guard, Guards, NoPods, Observed, Outcome, Subject, Unedited, Write
from modelmill.core.pods import Resources, StoreAccess, Trouble
from modelmill.core.reproduction import Verdict
from modelmill.core.resources import MODEL_FIELD, Key, Manifest, dig, model_dependencies
from modelmill.core.training_data import FILE_ANNOTATION, VERSION_ANNOTATION, Snapshot
from modelmill.core.training_result import Result, Stopped
from modelmill_contracts import environment, task

KIND = "TrainingJob"
RESOURCES = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
# Reasons of the trainer that are about the store, found before anything was spent or while publishing.
_STORE_PREFIX = "Store"
# Reasons of the trainer that are about the snapshot itself.
_DATA_REASONS = ("ObjectNotFound", "DigestMismatch")


@dataclass(frozen=True)
class Ended:
    """How it ended before: what a status says stays said."""

    succeeded: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Round:
    """One of the two times that it is trained: its Job, and what became of that."""

    job: str
    run: jobs.Run
    again: bool = False  # the second time: it publishes nothing, and is compared

    @property
    def stage(self) -> str:
        """The stage while it runs, which is also the reason that is told."""
        return reproduction.RUNNING if self.again else "Training"

    def gate(self, stage: str) -> str:
        """The stage of a gate that the first time has to pass; the second time has passed it before."""
        return self.stage if self.again else stage


@dataclass(frozen=True)
class Facts:
    subject: Subject
    declared: tuple[Unedited, ...]
    model: str | None
    model_exists: bool
    dataset: str
    suspended: bool
    store: StoreAccess | Waiting  # or why nothing may run that reaches it
    snapshot: Snapshot | Waiting  # pinned, or what would be pinned now
    pinned: bool  # the status or the Job says so
    elsewhere: Waiting | None  # the version is in another store than the one that is declared now
    work: str  # the task as JSON without the snapshot: hashable
    limits: Resources
    queue: str | None
    priority: jobs.Priority
    timeout_text: str
    retries: int
    between: workers.Between | None  # what several workers need besides their Job; None: there is one
    first: Round
    result: Result | None
    stopped: Stopped | None
    reproduces: bool
    second: Round
    verdict: Verdict | None
    queued: Waiting | None  # the namespace trains as much as it may
    reserved: int | None  # the number that the Model keeps for this run, unless somebody else used it meanwhile
    version_name: str | None  # of the ModelVersion that this run became
    known: tuple[task.Known, ...]  # what the pod need not train
    same: str | None  # the ModelVersion that has this recipe and these bytes already
    commit: str | None  # that asked for it when it began, if somebody said so
    so_far: progress.Progress | None  # how far it is, where it runs; nothing is decided by it
    ended: Ended | None
    mirrored: mirror.Answer | None  # what MLflow says of it, see `mirror`; nothing is decided by it


@dataclass(frozen=True)
class Decision:
    stage: str  # Suspended, Preflight, Data, Queued, Training, Reproducing, Trained, Succeeded, Failed
    waiting: Waiting | None = None
    start: Round | None = None
    discard: Round | None = None
    connect: bool = False  # what the workers need is to be made
    create_model: bool = False
    create_version: int | None = None
    version_name: str | None = None
    exists: bool = False  # that version was there before
    verdict: Verdict | None = None  # of a second run of which nothing will come
    requeue_after: timedelta | None = None


def job_name(name: str) -> str:
    return f"{name}-train"


def depends(manifest: Manifest) -> tuple[Key, ...]:
    metadata, spec = manifest["metadata"], manifest["spec"]
    namespace = metadata["namespace"]
    keys = [
        workspace.dependency(namespace),
        Key("Dataset", namespace, "metadata.name", spec["data"]["datasetRef"]["name"]),
        *jobs.dependencies(namespace, metadata["uid"], job_name(metadata["name"])),
    ]
    if spec.get("workers", 1) > 1:
        keys += workers.dependencies(namespace, metadata["uid"])
    if "reproduce" in spec:
        keys += jobs.dependencies(namespace, metadata["uid"], reproduction.job_name(metadata["name"]))
    like = _annotations(manifest).get(known.LIKE_ANNOTATION)
    if like is not None:
        keys.append(Key(KIND, namespace, "metadata.name", like))
    ranked_by = lineage.model_of(manifest)
    if ranked_by is not None:
        keys.append(Key("Model", namespace, "metadata.name", ranked_by))
    return tuple(dict.fromkeys((*keys, *model_dependencies(namespace, dig(spec, "modelRef", "name")))))


def observe(observed: Observed) -> Facts:
    spec = TrainingJobSpec.model_validate(observed.object["spec"])
    subject = observed.subject
    job = job_name(subject.name)
    run = jobs.observe(observed, job, observed.uid, spec.workers)
    model = spec.model_ref.name if spec.model_ref else None
    found = observed.get("Model", model) if model else None
    versions = observed.find("ModelVersion", MODEL_FIELD, model) if model else ()
    store = _store(observed, spec)
    snapshot = training_data.choose(observed, spec, run, store)
    pinned = "datasetVersion" in observed.status or run.annotation(VERSION_ANNOTATION) is not None
    limits = pods.resources(spec.resources, RESOURCES)
    accelerators = pods.accelerators(limits) * spec.workers
    result = training_result.said(observed.object) or training_result.reported(run, accelerators)
    second_job = reproduction.job_name(subject.name)
    second = jobs.observe(observed, second_job, observed.uid, spec.workers) if spec.reproduce else jobs.Run("Absent")
    mine = [v for v in versions if dig(v, "spec", "lineage", "trainingJob", "uid") == observed.uid]
    return Facts(
        subject=subject,
        declared=workspace.declared(observed, KIND),
        model=model,
        model_exists=found is not None,
        dataset=spec.data.dataset_ref.name,
        suspended=spec.suspend,
        store=store,
        snapshot=snapshot,
        pinned=pinned,
        # What is not pinned was just chosen of what the store has.
        elsewhere=training_data.elsewhere(observed, spec, snapshot, store)
        if pinned and isinstance(snapshot, Snapshot)
        else None,
        work=task.encode(training_task.declared(observed, spec)),
        limits=limits,
        queue=spec.queue_name,
        priority=_priority(observed, spec.queue_name),
        timeout_text=spec.limits.timeout,
        retries=spec.limits.retries,
        between=workers.observe(observed, KIND, spec.workers, _ports(spec)) if spec.workers > 1 else None,
        first=Round(job, run),
        result=result,
        stopped=training_result.stopped_before(observed.object) or training_result.stopped(run),
        reproduces=spec.reproduce is not None,
        second=Round(second_job, second, again=True),
        verdict=reproduction.said(observed.object) or (_compared(second, result) if result else None),
        queued=_queued(observed),
        reserved=_reserved(found, observed.uid, {v["spec"]["version"] for v in versions}),
        version_name=mine[0]["metadata"]["name"] if mine else observed.status.get("modelVersion"),
        known=_known(spec, versions, snapshot, store, _like(observed)) if run.state == "Absent" else (),
        same=known.version_of(versions, (result.recipe, result.digest)) if result is not None else None,
        commit=lineage.commit_of(dict(run.annotations)) or lineage.commit_of(_annotations(observed.object)),
        so_far=progress.observe(observed, run if result is None else second),
        ended=_end_said(observed.object),
        mirrored=mirror.taken_over(observed.object, observed.get(workspace.KIND, workspace.NAME)),
    )


def _like(observed: Observed) -> Manifest | None:
    """The trial of an Experiment that the run is said to be like."""
    name = _annotations(observed.object).get(known.LIKE_ANNOTATION)
    return observed.get(KIND, name) if name is not None else None


def _known(
    spec: TrainingJobSpec,
    versions: tuple[Manifest, ...],
    snapshot: Snapshot | Waiting,
    store: StoreAccess | Waiting,
    like: Manifest | None,
) -> tuple[task.Known, ...]:
    """Who asks whether it reproduces wants it to be trained."""
    if spec.reproduce is not None or isinstance(snapshot, Waiting) or isinstance(store, Waiting):
        return ()
    return known.told(versions, snapshot, store, like)


def _ports(spec: TrainingJobSpec) -> tuple[int, ...]:
    """By which workers talk to each other; what a container's processes choose is not known."""
    return () if spec.container is not None else (environment.SCHEDULER_PORT, environment.WORKER_PORT)


def _annotations(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["metadata"].get("annotations") or {})


def _queued(observed: Observed) -> Waiting | None:
    """Why it has to wait for its turn, if it has to."""
    settings = workspace.settings(observed)
    if settings is None or settings.training is None or settings.training.max_parallel is None:
        return None
    if _admits(observed.get(workspace.KIND, workspace.NAME), observed.uid):
        return None
    most = settings.training.max_parallel
    return Waiting(
        admission.QUEUED,
        f"Workspace {workspace.NAME} has {most} TrainingJobs run at the same time (spec.training.maxParallel); this one"
        " starts when it is its turn",
    )


def _priority(observed: Observed, queue: str | None) -> jobs.Priority:
    """The classes that the Workspace names for the rank of the Model's use case."""
    name = lineage.model_of(observed.object)
    settings, asks = workspace.settings(observed), governance.asked_of(observed.get("Model", name) if name else None)
    training, rank = settings.training if settings is not None else None, asks.rank if asks is not None else None

    def of_rank(classes: tuple[str, ...]) -> str | None:
        return None if not classes else classes[-1] if rank is None else classes[min(rank, len(classes)) - 1]

    if training is None:
        return jobs.Priority()
    queued = of_rank(training.queue_priority_classes) if queue is not None else None
    return jobs.Priority(of_rank(training.priority_classes), queued)


def _admits(live: Manifest | None, uid: str) -> bool:
    return any(admitted["uid"] == uid for admitted in dig(live, "status", "admitted") or ())


def _reserved(model: Manifest | None, uid: str, taken: set[int]) -> int | None:
    for reservation in dig(model, "status", "reservations") or ():
        if reservation["uid"] == uid and reservation["version"] not in taken:
            return int(reservation["version"])
    return None


def _store(observed: Observed, spec: TrainingJobSpec) -> StoreAccess | Waiting:
    """How the store is reached, or why not: it does not work, or a container of the user may not run."""
    settings, store = workspace.settings(observed), workspace.working_store(observed)
    if spec.container is None or settings is None or isinstance(store, Waiting):
        return store
    return workspace.forbidden_image(settings, store, spec.container.image, "spec.container") or store


def _compared(second: jobs.Run, result: Result) -> Verdict | None:
    return reproduction.compared(second, result.recipe, result.digest, result.files)


def _end_said(manifest: Manifest) -> Ended | None:
    for type_, succeeded in (("Succeeded", True), ("Failed", False)):
        condition = conditions.find(manifest, type_)
        if condition is not None and condition["status"] == "True":
            return Ended(succeeded, condition["reason"], condition["message"])
    return None


def decide(facts: Facts, now: datetime) -> Decision:
    if facts.ended is not None:
        stage = "Succeeded" if facts.ended.succeeded else "Failed"
        waiting = None if facts.ended.succeeded else Waiting(facts.ended.reason, facts.ended.message, stalled=True)
        return Decision(stage, waiting, discard=_left_over(facts, facts.ended), version_name=facts.version_name)
    if facts.stopped is not None:
        return Decision("Succeeded")
    if facts.result is not None and (facts.verdict is not None or not facts.reproduces):
        return _number(facts)
    # The artifact exists: what is left is to be seen whether it is made a second time.
    this = facts.first if facts.result is None else facts.second
    if facts.suspended:
        return Decision("Suspended", discard=this if this.run.state in ("Active", "Lost") else None)
    why = this.run.failure(now)
    if this.again:  # then it is a verdict, and no failure
        verdict = reproduction.failed(why) if why is not None else None
        return replace(_train(facts, this, now), verdict=verdict)
    failed = _failed_for_good(this.run, why)
    return _train(facts, this, now) if failed is None else Decision("Failed", failed)


def _left_over(facts: Facts, ended: Ended) -> Round | None:
    """A Job that would try once more what has failed for good, once that is said."""
    if not ended.succeeded and facts.first.run.state == "Active":
        return facts.first
    return facts.second if facts.second.run.state == "Active" else None


def _failed_for_good(run: jobs.Run, why: Trouble | None) -> Waiting | None:
    if why is not None:
        return Waiting(why.reason, why.message, stalled=True)
    if run.state == "Succeeded":
        return Waiting("ReportInvalid", "the Job's report is not that of a training", stalled=True)
    return None


def _train(facts: Facts, this: Round, now: datetime) -> Decision:
    """It trains, for the first time or again, or waits for what it needs."""
    run, stage = this.run, this.stage
    if run.held and facts.queue is not None:
        waits = f"Job {this.job} waits in queue {facts.queue} (spec.queueName) until Kueue admits it"
        return Decision("Queued", Waiting(admission.QUEUED, waits))
    if run.state in ("Active", "Leaving"):
        works = "trains a second time" if this.again else "is training"
        does = works if run.state == "Active" else "of a former run is being cleaned up"
        waiting = Waiting(stage, f"Job {this.job} {does}")
        if run.trouble is not None:
            waiting = Waiting(run.trouble.reason, run.trouble.message, stalled=True)
        connect = run.state == "Active" and not _connected(facts)
        return Decision(stage, waiting, connect=connect, requeue_after=run.patience(now))
    if run.state in ("Lost", "Outdated"):
        over = run.state == "Outdated" or retry.after_failure(run, now, None)[1] is None
        whose = "the pod of the second run" if this.again else "the pod"
        lost = Waiting("ReportLost", f"{whose} went away before it could report")
        return Decision(stage, lost, discard=this if over else None, requeue_after=jobs.REPORT_GRACE)
    if isinstance(facts.store, Waiting):
        return Decision(this.gate("Preflight"), facts.store)
    missing = facts.snapshot if isinstance(facts.snapshot, Waiting) else facts.elsewhere
    if missing is not None:
        return Decision(this.gate("Data"), missing)
    if run.state == "Foreign":
        return Decision(stage, retry.name_taken("Job", this.job), requeue_after=retry.MAX)
    if facts.queued is not None:
        return Decision("Queued", facts.queued)
    if not _connected(facts):
        return _connect(facts, stage)
    return Decision(stage, Waiting(stage, f"Job {this.job} is starting"), start=this)


def _connected(facts: Facts) -> bool:
    return facts.between is None or facts.between.ready


def _connect(facts: Facts, stage: str) -> Decision:
    """What lets the workers talk to each other comes before them."""
    name = workers.service_name(facts.subject.name)
    if facts.between is not None and facts.between.taken is not None:
        return Decision(stage, retry.name_taken(facts.between.taken, name), requeue_after=retry.MAX)
    return Decision(stage, Waiting(stage, f"Service and NetworkPolicy {name} are being made"), connect=True)


def _number(facts: Facts) -> Decision:
    """The artifact exists; what is left is its place among the model's versions."""
    if facts.model is None or facts.version_name is not None:
        return Decision("Succeeded", version_name=facts.version_name)
    if facts.reserved is None and facts.same is not None:
        return Decision("Succeeded", version_name=facts.same, exists=True)
    if not facts.model_exists:
        waiting = Waiting("CreatingModel", f"Model {facts.model} is being created")
        return Decision("Trained", waiting, create_model=True)
    if facts.reserved is None:
        return Decision("Trained", Waiting("WaitingForNumber", f"Model {facts.model} gives the version its number"))
    waiting = Waiting("CreatingVersion", f"ModelVersion {facts.model}-{facts.reserved} is being created")
    return Decision("Trained", waiting, create_version=facts.reserved)


def render(facts: Facts, decision: Decision) -> Outcome:
    result, snapshot, verdict = facts.result, facts.snapshot, facts.verdict or decision.verdict
    status: dict[str, Any] = {"modelVersion": decision.version_name}
    if isinstance(snapshot, Snapshot) and (facts.pinned or decision.start == facts.first):
        status |= {"datasetVersion": snapshot.version, "datasetFile": snapshot.file}
    if result is not None:
        status |= training_result.status_of(result)
    elif facts.stopped is not None:
        status |= facts.stopped.status
    status["reproduction"] = reproduction.status_of(verdict)
    status["mlflow"] = facts.mirrored.status if facts.mirrored is not None else None
    if decision.stage in ("Training", reproduction.RUNNING):
        status["progress"] = progress.status_of(facts.so_far)
    return Outcome(
        status=status,
        conditions=_conditions(facts, decision),
        headline=("Succeeded",),
        writes=_writes(facts, decision),
        requeue_after=decision.requeue_after,
    )


def _conditions(facts: Facts, decision: Decision) -> tuple[Condition, ...]:
    stage, waiting = decision.stage, decision.waiting

    def reproducible(without: Waiting) -> Condition:
        return reproduction.condition(facts.reproduces, facts.verdict or decision.verdict, without)

    gates = _GATES if facts.result is None else {**_GATES, "Trained": facts.result.trained}
    if stage == "Succeeded":
        reason, message = _success(facts, decision)
        if facts.stopped is not None:
            gates = {type_: passed for type_, passed in gates.items() if type_ != "Trained"}
        succeeded = true("Succeeded", reason, message)
        return (
            succeeded,
            false("Failed", reason),
            *(true(type_, *passed) for type_, passed in gates.items()),
            *((false("Trained", reason, message),) if facts.stopped is not None else ()),
            reproducible(Waiting(reason, "")),
            *conditions.progress(succeeded, None),
        )
    if stage == "Suspended":
        message = "spec.suspend is true; set it to false to go on"
        succeeded = unknown("Succeeded", "Suspended", message)
        return (
            succeeded,
            unknown("Failed", "Suspended"),
            *(unknown(type_, "Suspended") for type_ in ("PreflightPassed", "DataReady", "Trained")),
            reproducible(Waiting("Suspended", "")),
            *conditions.progress(succeeded, None),
        )
    assert waiting is not None  # noqa: S101 - every other stage waits for something
    if stage == "Queued":
        succeeded = unknown("Succeeded", waiting.reason, waiting.message)
        return (
            succeeded,
            unknown("Failed", waiting.reason),
            true("PreflightPassed", *_GATES["PreflightPassed"]),
            true("DataReady", *(_GATES["DataReady"] if facts.pinned else _TO_BE_PINNED)),
            unknown("Trained", waiting.reason, waiting.message),
            reproducible(Waiting(waiting.reason, "")),
            *conditions.progress(succeeded, None),
        )
    if stage == "Failed":
        failed = true("Failed", waiting.reason, waiting.message)
        return (
            false("Succeeded", waiting.reason, waiting.message),
            failed,
            *_failed(waiting),
            reproducible(Waiting(waiting.reason, "")),
            *conditions.progress(failed, waiting),
        )
    succeeded = unknown("Succeeded", waiting.reason, waiting.message)
    at = {"Preflight": "PreflightPassed", "Data": "DataReady", "Training": "Trained"}.get(stage)  # then: past them all
    return (
        succeeded,
        unknown("Failed", waiting.reason),
        *_gates(gates, at, waiting),
        reproducible(waiting if stage == "Reproducing" else Waiting(waiting.reason, "")),
        *conditions.progress(succeeded, waiting),
    )


_TO_BE_PINNED = ("VersionFound", "there is a valid version of the data; it is pinned at the start")
_GATES = {
    "PreflightPassed": ("StoreWorks", "the store works"),
    "DataReady": ("VersionPinned", "a valid version of the data is pinned"),
    "Trained": training_result.PUBLISHED,
}


def _success(facts: Facts, decision: Decision) -> tuple[str, str]:
    """Why it succeeded, for good."""
    if facts.ended is not None:
        return facts.ended.reason, facts.ended.message
    if facts.stopped is not None:
        return training_result.STOPPED, facts.stopped.message
    name = decision.version_name
    if not decision.exists or facts.result is None:
        return "TrainingSucceeded", f"ModelVersion {name}" if name else training_result.PUBLISHED[1]
    if facts.result.known:
        said = "nothing was trained (spec.reproduce would train it again)"
    else:
        said = "the training gave the same bytes"
    return "VersionExists", f"ModelVersion {name} is of this very recipe: {said}"


def _gates(gates: dict[str, tuple[str, str]], at: str | None, waiting: Waiting) -> tuple[Condition, ...]:
    """Gates before `at` are passed, `at` itself waits (False where a person has to act), later ones are unknown."""
    result: list[Condition] = []
    reached = False
    for type_, passed in gates.items():
        if type_ == at:
            reached = True
            trained = type_ == "Trained"  # it is False only when it failed for good
            result.append(unknown(type_, waiting.reason, waiting.message) if trained else waiting.condition(type_))
        else:
            result.append(unknown(type_, waiting.reason) if reached else true(type_, *passed))
    return tuple(result)


def _failed(waiting: Waiting) -> tuple[Condition, ...]:
    store, data = waiting.reason.startswith(_STORE_PREFIX), waiting.reason in _DATA_REASONS
    at = "PreflightPassed" if store else "DataReady" if data else "Trained"
    return tuple(
        false(type_, waiting.reason, waiting.message) if type_ in (at, "Trained") else true(type_, *passed)
        for type_, passed in _GATES.items()
    )


def _writes(facts: Facts, decision: Decision) -> tuple[Write, ...]:
    if decision.discard is not None:
        return (_discard(facts, decision.discard),)
    if decision.start is not None and isinstance(facts.store, StoreAccess) and isinstance(facts.snapshot, Snapshot):
        # A turn is taken back only where the run ended or somebody edited something: these guards see both.
        undone = reproduction.not_compared(KIND, facts.subject) if decision.start.again else _untrained(facts.subject)
        return (Create(_job(facts, decision.start, facts.store, facts.snapshot), (*facts.declared, undone)),)
    if decision.connect and facts.between is not None:
        return facts.between.writes(facts.subject, KIND, workers.service_name(facts.subject.name))
    if decision.create_model:
        metadata = {"name": str(facts.model), "namespace": facts.subject.namespace}  # it outlives us: it has no owner
        return (Create({"apiVersion": API_VERSION, "kind": "Model", "metadata": metadata}),)
    if decision.create_version is not None and facts.result is not None:
        data = (facts.dataset, facts.snapshot) if isinstance(facts.snapshot, Snapshot) else None
        made = training_result.version(
            facts.subject, str(facts.model), decision.create_version, facts.result, data, facts.commit
        )
        return (Create(made),)
    return ()


def _discard(facts: Facts, this: Round) -> Delete:
    job, run = this.job, this.run
    # What was trained for hours must not be thrown away for an old view of it.
    guards: Guards = facts.declared if run.state == "Outdated" else ()
    if run.state == "Lost":
        reports = 0 if facts.between is not None else None  # what the others would say counts for nothing
        guards = (NoPods(run.uid, f"the pods of Job {job} are gone", reports),)
    elif facts.suspended:
        guards = (_still_suspended(facts.subject),)
    return Delete("Job", job, run.uid, guards)


def _untrained(subject: Subject) -> Guard:
    """A Job that was deleted after it ended is not run again, even if its outcome was not seen in the status yet."""

    def holds(live: Manifest | None) -> bool:
        return (
            live is not None
            and live["metadata"]["uid"] == subject.uid
            and not dig(live, "status", "artifact")
            and _end_said(live) is None
        )

    return Guard(KIND, subject.name, holds, f"{KIND} {subject.name} has not ended, and has no artifact")


def _still_suspended(subject: Subject) -> Guard:
    def holds(live: Manifest | None) -> bool:
        return live is not None and live["metadata"]["uid"] == subject.uid and bool(dig(live, "spec", "suspend"))

    return Guard(KIND, subject.name, holds, f"{KIND} {subject.name} is suspended")


def _job(facts: Facts, this: Round, store: StoreAccess, snapshot: Snapshot) -> Manifest:
    declared = task.decode(facts.work)
    assert isinstance(declared, task.TrainingTask | task.OwnTrainingTask)  # noqa: S101 - it was encoded here
    work = task.with_data(declared, store.location, snapshot.version, snapshot.file)
    work = task.unpublished(work) if this.again else task.with_known(work, facts.known)
    several = None
    if facts.between is not None:
        several = workers.Workers(facts.between.count, this.job, workers.service_name(facts.subject.name))
    return jobs.render(
        facts.subject,
        KIND,
        this.job,
        facts.subject.uid,
        work,
        store,
        limits=facts.limits,
        timeout=parse_duration(facts.timeout_text),
        retries=facts.retries,
        annotations={
            VERSION_ANNOTATION: snapshot.version,
            FILE_ANNOTATION: snapshot.file,
            **({lineage.COMMIT_ANNOTATION: facts.commit} if facts.commit is not None else {}),
        },
        transform=_transform(work, snapshot, several) if isinstance(work, task.OwnTrainingTask) else None,
        queue=facts.queue,
        priority=facts.priority,
        workers=several,
    )


def _transform(work: task.OwnTrainingTask, snapshot: Snapshot, several: workers.Workers | None) -> jobs.Training:
    """The user's container, and what it is given."""
    own = work.container
    parts = task.parts_of(work, snapshot.file)
    told = tuple(several.rendezvous) if several is not None else ()
    return jobs.Training(own.image, own.command, own.args, parts=parts, variables=own.env, rendezvous=told)


CONTROLLER = Controller(KIND, depends, observe, decide, render)
