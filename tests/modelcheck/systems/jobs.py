"""Jobs and their pods, as Kubernetes and its users treat them."""

from collections.abc import Callable, Iterator
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import JUST_NOW, LONG_AGO, leaving, uid
from modelcheck.systems import memory
from modelmill.core.resources import Manifest
from modelmill_contracts import report

_KILLED = 137
Success = Callable[[Manifest], report.Report]
Fact = Callable[[Manifest], str]


def pod_name(job: str) -> str:
    return f"{job}-x"


def failures() -> dict[str, report.Report]:
    """How a pod of ours says that it failed: what time may heal, and what it may not."""
    return {
        "fails for now": report.Report(False, "StoreUnreachable", "no answer", retryable=True),
        "fails for good": report.Report(False, "DigestMismatch", "other bytes"),
    }


def moves(live: Live, name: str, success: Success, fact: Fact | None = None) -> Iterator[Move]:
    """What may become of the Job of that name, from its start to its end, and of a stranger's of that name.

    `fact` is what is remembered of a success.
    """
    job, pod = live.get("Job", name), live.get("Pod", pod_name(name))
    if pod is not None and (job is None or not _of(pod, job)):
        yield move(f"the pod of a former Job {name} is cleaned up", gone=[("Pod", pod_name(name))])
        return
    if job is None:
        yield move(f"somebody else makes a Job {name}", foreign(name))
        return
    everything = [("Job", name), *([("Pod", pod_name(name))] if pod is not None else [])]
    if "ownerReferences" not in job["metadata"]:
        yield move(f"the other Job {name} is deleted", gone=everything)
        return
    yield from _deletions(job, everything)
    ended = bool(job["status"].get("conditions"))
    if not ended:
        yield move(f"Job {name} takes too long", end(job, "DeadlineExceeded"), gone=everything[1:])
        yield from _work(live, job, pod, success, fact)
    if pod is not None and ended:
        yield move(f"the pod of {name} is lost", gone=[("Pod", pod_name(name))])


def _deletions(job: Manifest, everything: list[tuple[str, str]]) -> Iterator[Move]:
    name = job["metadata"]["name"]
    if "deletionTimestamp" in job["metadata"]:
        yield move(f"Job {name} goes at last", gone=everything)
    else:
        yield move(f"somebody deletes Job {name}", gone=everything)
        yield move(f"somebody deletes Job {name}, which a finalizer keeps", leaving("Job", job))


def _work(live: Live, job: Manifest, pod: Manifest | None, success: Success, fact: Fact | None) -> Iterator[Move]:
    """What may become of the pod of a Job that has not ended."""
    name, goes_on = job["metadata"]["name"], "deletionTimestamp" not in job["metadata"]
    if pod is None:
        if goes_on:
            yield move(f"Job {name} makes its pod", running(job))
            yield move(f"Job {name} makes its pod, which no node takes", unschedulable(job))
    elif _said(pod) is None:
        yield _succeeds(live, job, success, fact)
        for story, said in failures().items():
            yield move(f"the pod of {name} {story}", terminated(job, said))
        yield move(f"the pod of {name} uses too much memory", killed(job))
    else:
        yield move(f"Job {name} sees that its pod ended", end(job, _reason(pod)))
        if goes_on and _said(pod)["exitCode"] == _KILLED:
            yield move(f"Job {name} makes another pod", running(job))


def help_(live: Live, name: str, success: Success, fact: Fact | None = None) -> Iterator[Move]:
    """The Job ends well, and what has no owner any more goes."""
    job, pod = live.get("Job", name), live.get("Pod", pod_name(name))
    if pod is not None and (job is None or not _of(pod, job)):
        yield move(f"the pod of a former Job {name} is cleaned up", gone=[("Pod", pod_name(name))])
    if job is None:
        return
    owner = job["metadata"].get("ownerReferences")
    if not owner:
        yield move(f"the other Job {name} is deleted", gone=[("Job", name)])
    elif owner[0]["uid"] not in live.uids():
        yield move(f"Job {name} is cleaned up", gone=[("Job", name), *([("Pod", pod_name(name))] if pod else [])])
    elif "deletionTimestamp" in job["metadata"]:
        yield move(f"Job {name} goes at last", gone=[("Job", name), *([("Pod", pod_name(name))] if pod else [])])
    elif not job["status"].get("conditions"):
        if pod is None or _said(pod) is None:
            yield _succeeds(live, job, success, fact)
        else:
            yield move(f"Job {name} sees that its pod ended", end(job, _reason(pod)))


def _succeeds(live: Live, job: Manifest, success: Success, fact: Fact | None) -> Move:
    remembered = [memory.with_(live, fact(job))] if fact is not None else []
    return move(f"the pod of {job['metadata']['name']} succeeds", terminated(job, success(job)), *remembered)


def collected(live: Live, name: str) -> Iterator[Move]:
    """The garbage collector takes what has no owner any more."""
    job = live.get("Job", name)
    owner = job["metadata"].get("ownerReferences") if job else None
    if owner and owner[0]["uid"] not in live.uids():
        pod = [("Pod", pod_name(name))] if live.get("Pod", pod_name(name)) else []
        yield move(f"Job {name} is cleaned up", gone=[("Job", name), *pod])


def orphans(live: Live, *kinds: str) -> Iterator[Move]:
    """The garbage collector takes objects of these kinds that have no owner any more."""
    alive = live.uids()
    for kind in kinds:
        for child in live.all(kind):
            owners, name = child["metadata"].get("ownerReferences"), child["metadata"]["name"]
            if owners and owners[0]["uid"] not in alive:
                yield move(f"{kind} {name} is cleaned up", gone=[(kind, name)])


def foreign(name: str) -> Manifest:
    return {"kind": "Job", "metadata": {"name": name, "uid": uid("Job", name, 9)}}


def _pod(job: Manifest, **status: Any) -> Manifest:
    metadata = job["metadata"]
    owner = {"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    return {
        "kind": "Pod",
        "metadata": {
            "name": pod_name(metadata["name"]),
            "uid": uid("Pod", metadata["name"]),
            "labels": metadata["labels"],
            "ownerReferences": [owner],
            "creationTimestamp": LONG_AGO,
        },
        "status": status,
    }


def running(job: Manifest) -> Manifest:
    return _pod(job, phase="Running")


def unschedulable(job: Manifest) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node is free"}
    return _pod(job, phase="Pending", conditions=[condition])


def terminated(job: Manifest, said: report.Report) -> Manifest:
    """The pod after its container ended with this report."""
    ended = {"exitCode": 0 if said.ok else 1, "message": report.encode(said).decode()}
    status = {"name": "trainer", "state": {"terminated": ended}}
    return _pod(job, phase="Succeeded" if said.ok else "Failed", containerStatuses=[status])


def killed(job: Manifest) -> Manifest:
    """The pod after its container was killed for lack of memory."""
    ended = {"exitCode": _KILLED, "reason": "OOMKilled"}
    return _pod(job, phase="Failed", containerStatuses=[{"name": "trainer", "state": {"terminated": ended}}])


def _of(pod: Manifest, job: Manifest) -> bool:
    return bool(pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"])


def _said(pod: Manifest) -> Any:
    statuses = pod["status"].get("containerStatuses")
    return statuses[0]["state"]["terminated"] if statuses else None


def has_ended(pod: Manifest) -> bool:
    """Whether its container has ended."""
    return _said(pod) is not None


def succeeded(pod: Manifest) -> bool:
    """Whether it says that it ended well."""
    said = _said(pod)
    return said is not None and said["exitCode"] == 0


def _reason(pod: Manifest) -> str:
    return "CompletionsReached" if succeeded(pod) else "PodFailurePolicy"


def end(job: Manifest, reason: str) -> Manifest:
    condition = {
        "type": "Complete" if reason == "CompletionsReached" else "Failed",
        "status": "True",
        "reason": reason,
        "lastTransitionTime": JUST_NOW,
    }
    return {**job, "kind": "Job", "status": {"conditions": [condition]}}
