"""The HorizontalPodAutoscaler of a ModelDeployment that is scaled by its CPU.

It reads the pods of all revisions and writes the ModelDeployment's scale subresource, so that no rollout changes it:
what both arms use together is what one revision would need.  Where it begins, spec.replicas may be a default that
nobody chose, so it first holds as many pods as there are; once it has written that down, it holds as few as declared.
"""

from dataclasses import dataclass

from modelmill.api.modeldeployment import Autoscaling
from modelmill.api.schema import API_VERSION, parse_duration
from modelmill.core import pods, retry
from modelmill.core.conditions import Condition, false, unknown
from modelmill.core.plan import Apply, Create, Delete, Observed, Subject, Write, is_owned
from modelmill.core.resources import OWNER_LABEL, Manifest, covers

KIND = "HorizontalPodAutoscaler"
LONGEST_WAIT = 3600  # seconds: it takes no longer one
SCALING = "ScalingActive"  # what such an autoscaler calls it, too


@dataclass(frozen=True)
class Hpa:
    """The autoscaler as it is; `uid` is absent where there is none of ours."""

    uid: str | None = None
    least: int | None = None
    current: bool = False  # but for the least that it holds
    said: Condition | None = None
    taken: bool = False  # the name is somebody else's
    unreadable: str | None = None
    leaving: bool = False  # it was deleted, and something keeps it for a while: it is not to be deleted again


def observe(observed: Observed, kind: str, declared: Autoscaling | None) -> Hpa:
    """What is there of it."""
    name = observed.subject.name
    for live in observed.find(KIND, OWNER_LABEL, observed.uid):
        if live["metadata"]["name"] == name and is_owned(live, observed.uid):
            least = live["spec"].get("minReplicas") or 1
            wanted = manifest(observed.subject, kind, declared, least)["spec"] if declared is not None else {}
            leaving = "deletionTimestamp" in live["metadata"]
            return Hpa(live["metadata"]["uid"], least, covers(live["spec"], wanted), _said(live), leaving=leaving)
    return Hpa(taken=(KIND, name) in observed.foreign, unreadable=observed.absent.get(KIND))


def _said(live: Manifest) -> Condition | None:
    """Why it does not scale, or that it does."""
    found = {c["type"]: c for c in live["status"]["conditions"]}
    first = found.get("AbleToScale") or {}
    said = first if first.get("status") == "False" else found.get(SCALING)
    if said is None:
        return None
    return Condition(SCALING, said["status"], said.get("reason") or "Unknown", said.get("message") or "")


def manifest(subject: Subject, kind: str, declared: Autoscaling, least: int) -> Manifest:
    """The autoscaler, holding at least so many pods."""
    seconds = min(int(parse_duration(declared.scale_down_after).total_seconds()), LONGEST_WAIT)
    target = {"type": "Utilization", "averageUtilization": declared.cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": KIND,
        "metadata": {
            "name": subject.name,
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": kind, "name": subject.name},
            "minReplicas": least,
            "maxReplicas": declared.max,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": seconds}},
        },
    }


def writes(subject: Subject, kind: str, hpa: Hpa, declared: Autoscaling | None, least: int | None) -> tuple[Write, ...]:
    """What brings it about, or takes it away where none is wanted (`least` is None)."""
    if declared is None or least is None:
        return (Delete(KIND, subject.name, hpa.uid),) if hpa.uid is not None and not hpa.leaving else ()
    if hpa.uid is None:
        may_be_made = not hpa.taken and hpa.unreadable is None
        return (Create(manifest(subject, kind, declared, least)),) if may_be_made else ()
    if hpa.current and hpa.least == least:
        return ()
    return (Apply(manifest(subject, kind, declared, least), hpa.uid),)


def condition(subject: Subject, hpa: Hpa) -> Condition:
    """Whether it scales, as it says itself."""
    if hpa.taken:
        waiting = retry.name_taken(KIND, subject.name)
        return false(SCALING, waiting.reason, waiting.message)
    if hpa.unreadable is not None:
        return false(SCALING, "AutoscalerUnreadable", hpa.unreadable)
    return hpa.said or unknown(SCALING, "WaitingForAutoscaler", f"{KIND} {subject.name} has not looked at its pods yet")
