"""Job runs: how a task becomes a Job, and how what became of it is read back."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from modelmill.api.schema import GROUP
from modelmill.core import conditions, pods
from modelmill.core.conditions import moment
from modelmill.core.plan import Observed, Subject, is_former, is_owned
from modelmill.core.pods import Resources, StoreAccess, Trouble
from modelmill.core.resources import INVOLVED_FIELD, OWNER_LABEL, Key, Manifest, dig
from modelmill.core.workers import Workers
from modelmill_contracts import environment, task
from modelmill_contracts.report import EXIT_FAILED, Report

# Job and pod come by different watches: the pod's end may be seen a moment after the Job's.
REPORT_GRACE = timedelta(seconds=10)
# Who loses its connection to the first worker because that one is done may be seen to fail before that is.
WORKER_GRACE = timedelta(seconds=30)
DEFAULT_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
_ROOM = "48Gi"  # of a pod's scratch: a source packed, unpacked, and its snapshot, of at most 16 GiB each
TASK_ANNOTATION = f"{GROUP}/task"  # on a Job: the digest of what it was asked
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # Kueue's, on a Job
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"  # the same
# Reasons of a pod that does not start; every other one is about a Job that ended.
_HOLDING_UP = (
    *("PodCreationRefused", "Unschedulable", "ClaimNotFound", "ClaimPending"),
    *("ImagePullFailed", "ContainerConfigInvalid"),
)


_TOO_LATE = "DeadlineExceeded"


@dataclass(frozen=True)
class Faltering:
    """Another worker than the first failed for good, at that time, and the first may still need it."""

    trouble: Trouble
    since: datetime


@dataclass(frozen=True)
class Run:
    """What is known of one Job.

    `state` is Absent, Foreign (the name is taken), Leaving (it is being cleaned up), Outdated (it does another task
    than is asked by now), Active, Succeeded, Failed, or Lost (it ended, and nobody can tell how).  `trouble` is what
    holds an active Job up or what made it fail.
    """

    state: str
    uid: str = ""
    report: Report | None = None
    trouble: Trouble | None = None
    ended: datetime | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    exhausted: Trouble | None = None  # an active Job's newest pod failed as the next one will, or there is no next one
    faltering: Faltering | None = None
    leaving: bool = False  # it was deleted, and something keeps it for a while: it is not to be deleted again
    held: bool = False  # an active Job is suspended, by Kueue perhaps: it has no pods until that is over
    seconds: int = 0  # that the pod of one that succeeded worked, the first one of several

    def annotation(self, name: str) -> str | None:
        return dict(self.annotations).get(name)

    def failure(self, now: datetime) -> Trouble | None:
        """Why nothing will come of it any more, if so."""
        if self.state == "Failed":
            return self.trouble
        if self.exhausted is None and self.faltering is not None and not self.patience(now):
            return self.faltering.trouble
        return self.exhausted

    def left(self, pause: timedelta, now: datetime) -> timedelta:
        """What is left of a pause since the Job ended; not above zero: it is over."""
        # A clock that was set back makes the end lie ahead: then it has only just ended.
        return pause - max(now - (self.ended or now), timedelta())

    def patience(self, now: datetime) -> timedelta | None:
        """How long a worker that failed is still left to the first one to be done without it; None: no time."""
        if self.faltering is None:
            return None
        # A clock that was set back makes the end lie ahead: then it has only just ended.
        left = WORKER_GRACE - max(now - self.faltering.since, timedelta())
        return left if left > timedelta() else None


@dataclass(frozen=True)
class Beside:
    """What starts before the trainer's container, and may go on beside it (a sidecar), with its volumes."""

    containers: tuple[dict[str, Any], ...]
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class Transform:
    """A user's container that makes data of these snapshots."""

    image: str
    command: tuple[str, ...]  # empty: the image's own
    args: tuple[str, ...]
    inputs: tuple[task.SnapshotInput, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training(Transform):
    """A user's container that makes a model of a snapshot's parts, which `work` sees too."""

    parts: task.PartsTask
    variables: tuple[tuple[str, str], ...]
    rendezvous: tuple[dict[str, Any], ...] = ()  # further ones, which tell it where the other pods' are


def dependencies(namespace: str, uid: str, name: str) -> tuple[Key, ...]:
    """What the state of the Job `name` of the object `uid` depends on."""
    return (
        Key("Job", namespace, "metadata.name", name),
        Key("Pod", namespace, OWNER_LABEL, uid),
        Key("Event", namespace, INVOLVED_FIELD, f"Job/{name}"),
    )


def observe(observed: Observed, name: str, asked: str, workers: int = 1) -> Run:
    """What became of the Job of that name, which should be doing the task with the digest `asked` in so many pods.

    The first of several pods is the one that reports; what is wrong with any of them is the Job's trouble.
    """
    run, job = _observe(observed, name, asked, workers), observed.get("Job", name)
    if not run.uid or not dig(job, "metadata", "deletionTimestamp"):
        return run
    # A finalizer, or pods that go first, keep it for a while.  It is neither to be deleted again nor to be made
    # again, and its going will wake us.
    if run.state == "Succeeded":
        return replace(run, leaving=True)  # what it found counts
    return Run("Leaving", run.uid, annotations=run.annotations, leaving=True)


def _observe(observed: Observed, name: str, asked: str, workers: int) -> Run:
    job = observed.get("Job", name)
    if job is not None and is_former(job, observed.subject.name, observed.uid):
        return Run("Leaving")  # of an object that had this name before; its going will wake us
    if job is None or not is_owned(job, observed.uid):
        taken = job is not None or ("Job", name) in observed.foreign
        return Run("Foreign" if taken else "Absent")
    uid = job["metadata"]["uid"]
    annotations = tuple(sorted((dig(job, "metadata", "annotations") or {}).items()))
    if dict(annotations).get(TASK_ANNOTATION) != asked:
        return Run("Outdated", uid)
    newest = newest_pods(observed, uid)
    ended, failure = _end(job)
    if ended is None:
        return Run(
            "Active",
            uid,
            trouble=_holding_up(observed, job, newest, workers),
            exhausted=_exhausted(job, newest),
            faltering=_faltering(job, newest),
            annotations=annotations,
            held=_is_held(job),
        )
    first = _first(newest)
    report = pods.last_report(first) if first is not None else None
    if first is not None and report is not None and report.ok and _counts(first, failure, workers):
        return Run("Succeeded", uid, report, ended=ended, annotations=annotations, seconds=pods.seconds(first))
    if failure is not None:
        # An Event lives for an hour: it is about the end only of a Job that never had a pod.
        wanted = 0 if dig(job, "status", "failed") else 1
        held_up = _holding_up(observed, job, newest, wanted) or _said_before(observed)
        culprit = _culprit(newest)
        why = _why_failed(failure, culprit, held_up, _late(job))
        if why is None:
            return Run("Lost", uid, ended=ended, annotations=annotations)
        said = pods.last_report(culprit) if culprit is not None else None
        return Run("Failed", uid, said, why, ended, annotations)
    if first is not None and pods.ended_well(first):
        # It is the last pod, and its answer is not one that this operator reads.
        why = Trouble("ReportInvalid", "the pod succeeded, but its report cannot be read; do the images fit together?")
        return Run("Failed", uid, None, why, ended, annotations)
    return Run("Lost", uid, ended=ended, annotations=annotations)


def _counts(first: Manifest, failure: Manifest | None, workers: int) -> bool:
    """Whether what the first pod says it made counts: of several, also where the Job failed for another one."""
    if failure is None:
        return True
    return workers > 1 and failure.get("reason") != _TOO_LATE and pods.ended_well(first)


def _is_held(job: Manifest) -> bool:
    said = dig(job, "status", "conditions") or ()
    return any(condition["type"] == "Suspended" and condition["status"] == "True" for condition in said)


def newest_pods(observed: Observed, job: str) -> tuple[Manifest, ...]:
    """Of the pods of the Job with that UID the ones that were made last: one, or one for each index, in their order."""
    newest: dict[int, Manifest] = {}
    for pod in observed.find("Pod", OWNER_LABEL, observed.uid):
        index = pods.index(pod)
        if is_owned(pod, job) and (index not in newest or _age(newest[index]) < _age(pod)):
            newest[index] = pod
    return tuple(newest[index] for index in sorted(newest))


def _age(pod: Manifest) -> tuple[str, str]:
    return pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]


def newest_pod(observed: Observed, job: str) -> Manifest | None:
    """Of the pods of the Job with that UID the one that was made last, and reports."""
    return _first(newest_pods(observed, job))


def _first(newest: tuple[Manifest, ...]) -> Manifest | None:
    return next((pod for pod in newest if pods.index(pod) == 0), None)


def _trouble(pod: Manifest) -> Trouble | None:
    """What is wrong with the pod, and which it is where it is not the first one."""
    found, index = pods.trouble(pod), pods.index(pod)
    return found and (replace(found, message=f"worker {index}: {found.message}") if index else found)


def _exhausted(job: Manifest, newest: tuple[Manifest, ...]) -> Trouble | None:
    """Why an active Job is not waited for: the next pod would lack memory, too, or the first one failed for good."""
    found = [_trouble(pod) for pod in newest if pods.index(pod) == 0 or not _done_without(_first(newest))]
    short = next((t for t in found if t is not None and t.fatal and t.reason == pods.OUT_OF_MEMORY), None)
    lost = _lost(job, newest)
    if short is not None or all(pods.index(pod) != 0 for pod, _ in lost):
        return short
    return min(lost, key=_ended)[1]  # the first one may have failed for the end of another


def _faltering(job: Manifest, newest: tuple[Manifest, ...]) -> Faltering | None:
    """Of a user's containers one does not go on without the others; what an estimator needs, its first pod knows."""
    lost = [(pod, why) for pod, why in _lost(job, newest) if pods.has_users(pod)]
    if not lost or _done_without(_first(newest)):
        return None
    culprit, why = min(lost, key=_ended)
    return Faltering(why, moment(pods.ended(culprit) or culprit["metadata"]["creationTimestamp"]))


def _done_without(first: Manifest | None) -> bool:
    """Whether the first pod has what it needs of the others: its container wrote the model, or it ended well."""
    return first is not None and (pods.users_ended_well(first) or pods.ended_well(first))


def _lost(job: Manifest, newest: tuple[Manifest, ...]) -> list[tuple[Manifest, Trouble]]:
    """The pods of workers that the Job tries no more, of which its status says `1,3-5`, and why they ended."""
    spans = [span.split("-") for span in (dig(job, "status", "failedIndexes") or "").split(",") if span]
    given_up = {index for span in spans for index in range(int(span[0]), int(span[-1]) + 1)}
    return [(pod, why) for pod in newest if pods.index(pod) in given_up and (why := _why_ended(pod)) is not None]


def _ended(lost: tuple[Manifest, Trouble]) -> str:
    return pods.ended(lost[0])


def _culprit(newest: tuple[Manifest, ...]) -> Manifest | None:
    """The pod whose end made the Job fail: of several, the others were told to end after it."""
    wrong = [pod for pod in newest if pods.trouble(pod) is not None]
    return min(wrong, key=lambda pod: (pods.ended(pod), pods.index(pod))) if wrong else _first(newest)


def _end(job: Manifest) -> tuple[datetime | None, Manifest | None]:
    """When the Job ended, and its Failed condition where it failed."""
    for condition in dig(job, "status", "conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            failed = condition if condition["type"] == "Failed" else None
            return moment(condition["lastTransitionTime"]), failed
    return None, None


def _said_before(observed: Observed) -> Trouble | None:
    """What held the Job's pod up when the status was written last: the pods of a Job that timed out are gone."""
    for type_ in ("Stalled", "Reconciling"):  # the second where it was put down to that already, and is tried again
        said = conditions.find(observed.object, type_)
        if said is not None and said["status"] == "True" and said["reason"] in _HOLDING_UP:
            return Trouble(said["reason"], said["message"], fatal=True)
    return None


def _holding_up(observed: Observed, job: Manifest, newest: tuple[Manifest, ...], wanted: int) -> Trouble | None:
    for pod in newest:
        found = _trouble(pod)
        if found is not None and not found.fatal:
            return found
    return _refused(observed, job) if len(newest) < wanted else None


def _refused(observed: Observed, job: Manifest) -> Trouble | None:
    """Why pods of the Job are not there."""
    of_name = observed.find("Event", INVOLVED_FIELD, f"Job/{job['metadata']['name']}")
    events = [event for event in of_name if event["involvedObject"].get("uid") == job["metadata"]["uid"]]
    if not events:
        return None
    newest = max(events, key=lambda event: event.get("lastTimestamp") or "")
    return pods.refused("the pod", str(newest.get("message")), "resources")


# What can be done about a Job of each kind that takes too long: not each has a field for it.
_LATE = {
    "TrainingJob": "raise spec.limits.timeout, or ask for less",
    "Dataset": "read fewer rows or columns, or give the pod more cpu in spec.resources",
    "ModelDeployment": "look whether the store answers, or capture fewer rows in spec.capture.sample",
    "Workspace": "look whether the store, or MLflow, answers, and how fast",
    "ModelVersion": "look whether the store answers, or ask for less in the Model's spec.tests",
}


def _late(job: Manifest) -> str:
    owners = {owner["kind"] for owner in dig(job, "metadata", "ownerReferences") or () if owner.get("controller")}
    return next((_LATE[kind] for kind in owners if kind in _LATE), "ask for less")


def _why_failed(failure: Manifest, pod: Manifest | None, held_up: Trouble | None, late: str) -> Trouble | None:
    """Why the Job failed; None where only a pod that is gone could tell."""
    if failure.get("reason") == _TOO_LATE:
        # The Job's controller deletes the pods of a Job that took too long; what kept them from starting says more.
        return held_up or Trouble("TimedOut", f"it did not end in time; {late}", True)
    return _why_ended(pod) if pod is not None else None


def _why_ended(pod: Manifest) -> Trouble | None:
    said, index = pods.last_report(pod), pods.index(pod)
    if said is not None and not said.ok:
        return Trouble(said.reason, f"worker {index}: {said.message}" if index else said.message, fatal=True)
    return _trouble(pod)


@dataclass(frozen=True)
class Priority:
    """Which classes the pods and, for Kueue, the Job get."""

    of_pods: str | None = None
    of_queue: str | None = None


NO_PRIORITY = Priority()


def render(
    subject: Subject,
    kind: str,
    name: str,
    asked: str,
    work: task.Task,
    store: StoreAccess,
    *,
    limits: Resources,
    timeout: timedelta,
    retries: int,
    annotations: dict[str, str] | None = None,
    variables: list[dict[str, Any]] | None = None,
    config_map: tuple[str, str] | None = None,
    claim: str | None = None,
    transform: Transform | None = None,
    beside: Beside | None = None,
    queue: str | None = None,
    priority: Priority = NO_PRIORITY,
    workers: Workers | None = None,
    kept_for: timedelta | None = None,
) -> Manifest:
    """The Job of one of our objects, of that kind, that does `work` in the trainer's image.

    What cannot help is not tried again: an error of the user's fails the Job at once; a node that went away does not
    count.  Of several workers it fails that one alone: the first may be done with the others, see `Run.faltering`.
    Whoever is killed (137) is tried again, as its exit code does not tell a lack of memory from a node that was
    restarted; the pod's reason does, see `Run.exhausted`.  `config_map` is (name, key) of a file to mount, `claim` that
    of a volume to read from; `transform` runs before `work`, which reads what it wrote.
    `beside` is of ours.  `queue` is where Kueue lets the Job wait, `priority` what comes first.  Without
    `workers` it has one pod.  One that nobody may look for any more is `kept_for` so long after its end.
    """
    labels = pods.labels(subject, kind)
    mounts = {"tmp": (environment.WORK_FOLDER, False), **store.mounts()}
    volumes: list[dict[str, Any]] = [*store.volumes]
    if config_map is not None:
        mounts["source"] = (environment.SOURCE_FOLDER, True)
        source, key = config_map
        # Optional: the trainer can say that it is missing, a pod that never starts cannot.
        items = [{"key": key, "path": key}]
        volumes.append({"name": "source", "configMap": {"name": source, "items": items, "optional": True}})
    if claim is not None:
        mounts["source"] = (environment.SOURCE_FOLDER, True)
        volumes.append(pods.claim_volume("source", claim, read_only=True))
    before: list[dict[str, Any]] = []
    told = [*(variables or []), *(workers.variables if workers is not None else [])]
    if transform is not None:
        before = _before(subject, transform, store, limits)
        mounts["output"] = (environment.OUTPUT_FOLDER, True)
        if isinstance(transform, Training):
            mounts["data"] = (environment.DATA_FOLDER, True)
        volumes += [{"name": name, "emptyDir": {}} for name in ("data", "output", "scratch")]
    if beside is not None:
        before = list(beside.containers)
        volumes += [{"name": name, "emptyDir": {}} for name in beside.volumes]
    own = limits if transform is None else pods.without_accelerators(limits)
    fail = "FailJob" if workers is None else "FailIndex"
    container = _ours("trainer", subject, work, store, mounts=mounts, limits=own, variables=told)
    spec = pods.pod_spec(
        [container],
        volumes,
        restartPolicy="Never",
        # A user's container is nobody.
        **(store.pod if transform is None else {}),
        **({"initContainers": before} if before else {}),
        **({"subdomain": workers.service} if workers is not None else {}),
        **({"priorityClassName": priority.of_pods} if priority.of_pods is not None else {}),
    )
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            volume["emptyDir"] = {"sizeLimit": _ROOM}
    template_labels = labels if transform is not None else {**dict(store.identity.labels), **labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": {
                **labels,
                **({QUEUE_LABEL: queue} if queue is not None else {}),
                **({QUEUE_PRIORITY_LABEL: priority.of_queue} if priority.of_queue is not None else {}),
            },
            "annotations": {TASK_ANNOTATION: asked, **(annotations or {})},
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            **(workers.of_job if workers is not None else {}),
            "backoffLimit" if workers is None else "backoffLimitPerIndex": retries,
            "activeDeadlineSeconds": max(1, int(timeout.total_seconds())),
            **({"ttlSecondsAfterFinished": int(kept_for.total_seconds())} if kept_for is not None else {}),
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": fail,
                        "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [EXIT_FAILED]},
                    },
                    *({"action": fail, "onExitCodes": codes} for codes in (_BEFORE_FAILED if transform else ())),
                ]
            },
            "template": {
                "metadata": {"labels": template_labels},
                "spec": spec,
            },
        },
    }


_BEFORE_FAILED = (
    {"containerName": "fetch", "operator": "In", "values": [EXIT_FAILED]},
    {"containerName": pods.USERS, "operator": "NotIn", "values": [0]},
)


def _ours(
    name: str,
    subject: Subject,
    work: task.Task,
    store: StoreAccess,
    *,
    mounts: dict[str, tuple[str, bool]],
    limits: Resources,
    variables: list[dict[str, Any]],
) -> dict[str, Any]:
    """A container of the trainer's image with the store's credentials."""
    return pods.container(
        name,
        subject.settings.trainer_image,
        [],
        variables=[
            *(pods.variable(name, value) for name, value in task.variables(work).items()),
            *pods.secret_variables(store.secret, store.location),
            *variables,
        ],
        mounts=mounts,
        limits=limits,
    )


def _brought(transform: Transform, store: StoreAccess) -> task.Task:
    """What brings the data that the user's container reads."""
    if isinstance(transform, Training):
        return transform.parts
    return task.FetchTask(store.location, transform.inputs, environment.DATA_FOLDER)


def _before(subject: Subject, transform: Transform, store: StoreAccess, limits: Resources) -> list[dict[str, Any]]:
    """What runs before: ours brings the data, then the user's container makes other data of it.

    The user's has no credentials, and shares nothing with ours but the data, which it cannot change, and its output.
    """
    fetch = _ours(
        "fetch",
        subject,
        _brought(transform, store),
        store,
        mounts={
            "tmp": (environment.WORK_FOLDER, False),
            **store.mounts(read_only=True),
            "data": (environment.DATA_FOLDER, False),
        },
        limits=pods.without_accelerators(limits),
        variables=[],
    )
    own, rendezvous = (transform.variables, transform.rendezvous) if isinstance(transform, Training) else ((), ())
    users = pods.container(
        pods.USERS,
        transform.image,
        list(transform.args),
        variables=[
            pods.variable(environment.DATA, environment.DATA_FOLDER),
            pods.variable(environment.OUTPUT, environment.OUTPUT_FOLDER),
            *(pods.variable(name, value) for name, value in own),
            *rendezvous,
        ],
        mounts={
            "scratch": (environment.WORK_FOLDER, False),
            "data": (environment.DATA_FOLDER, True),
            "output": (environment.OUTPUT_FOLDER, False),
        },
        limits=limits,
        **({"command": list(transform.command)} if transform.command else {}),
    )
    return [fetch, users]
