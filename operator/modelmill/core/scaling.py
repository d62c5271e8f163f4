"""Scaling: what of a ModelDeployment and around it says how many pods there are to be, and what is told of it.

The number itself is decided in `autoscaling`; `hpa` has the child that decides it where CPU is the measure.
"""

from dataclasses import dataclass

from modelmill.api.modeldeployment import ModelDeploymentSpec
from modelmill.core import autoscaling, conditions, demand, hpa, pods
from modelmill.core.autoscaling import Scaled, Situation
from modelmill.core.conditions import Condition, false, true, unknown
from modelmill.core.hpa import SCALING, Hpa
from modelmill.core.plan import Guard, Guards, Observed, Subject, Write, gone
from modelmill.core.resources import OWNER_LABEL, Key, Manifest, dig
from modelmill.core.serving import REVISION_LABEL
from modelmill.core.windows import Counted

# Reasons of our own: with another one there is, or may be, an autoscaler of Kubernetes'.
_COUNTED, _NOT_COUNTED, _KEPT = "RequestsCounted", "NotCountedYet", "AutoscalingRemoved"
_OWN = (_COUNTED, _NOT_COUNTED, _KEPT)


@dataclass(frozen=True)
class Scaling:
    """Of a ModelDeployment that is scaled by what it has to do, or was until spec.replicas is edited."""

    situation: Situation
    hpa: Hpa
    written_down: bool  # the status says that there may be an autoscaler: only then is it found when it is to go
    counted: bool  # the demand was known once


def depends(manifest: Manifest) -> tuple[Key, ...]:
    """The autoscaler of whoever has one, or had until a moment ago."""
    by_cpu = dig(manifest, "spec", "autoscaling", "cpuPercent") is not None
    if not by_cpu and not _written_down(manifest):
        return ()
    metadata = manifest["metadata"]
    return (Key(hpa.KIND, metadata["namespace"], OWNER_LABEL, metadata["uid"]),)


def _written_down(manifest: Manifest) -> bool:
    said = conditions.find(manifest, SCALING)
    return said is not None and said["reason"] not in _OWN


def observe(observed: Observed, kind: str, spec: ModelDeploymentSpec, serves: str | None) -> Scaling | None:
    """What is there of it, `serves` being the revision that does; None: spec.replicas says it all."""
    known = autoscaling.scale_of(observed.status)
    said = conditions.find(observed.object, SCALING)
    if spec.autoscaling is None and known is None and said is None:
        return None
    found = hpa.observe(observed, kind, spec.autoscaling)
    asked = autoscaling.Demand()
    if spec.autoscaling is not None and spec.autoscaling.requests_per_second is not None:
        asked = demand.demand(
            answer if answer is not None and isinstance(answer.value, Counted) else None
            for answer in (observed.measured.get(pod["metadata"]["uid"]) for pod in _running(observed, serves))
        )
    return Scaling(
        Situation(spec.autoscaling, spec.replicas, known, asked, found.least),
        found,
        _written_down(observed.object),
        said is not None and said["reason"] == _COUNTED,
    )


def _running(observed: Observed, revision: str | None) -> list[Manifest]:
    """The pods of that revision that can be asked."""
    return [
        pod
        for pod in observed.find("Pod", OWNER_LABEL, observed.uid)
        if dig(pod, "metadata", "labels", REVISION_LABEL) == revision and pods.address(pod) is not None
    ]


def writes(subject: Subject, kind: str, scaling: Scaling, scaled: Scaled) -> tuple[Write, ...]:
    """What its autoscaler needs."""
    if scaling.hpa.uid is None and not scaling.written_down:
        return ()
    return hpa.writes(subject, kind, scaling.hpa, scaling.situation.declared, scaled.least)


def forgotten(subject: Subject, scaling: Scaling) -> Guards:
    """What must be so before the status says no more of an autoscaler, and nobody would find it again."""
    declared = scaling.situation.declared
    by_cpu = declared is not None and declared.cpu_percent is not None
    unseen = not by_cpu and scaling.written_down and scaling.hpa.uid is None
    return (gone(hpa.KIND, subject),) if unseen and scaling.hpa.unreadable is None else ()


def may_go_down(subject: Subject, kind: str, scaling: Scaling, scaled: Scaled) -> Guards:
    """What serves loses pods only if what that was decided from is still so, whatever the cache says."""
    replicas, since, declared = scaled.replicas, scaled.waited_since, scaling.situation.declared
    if since is not None:

        def waited(deployment: Manifest | None) -> bool:
            said = dig(deployment, "status", "autoscaling")
            return dig(said, "lowerSince") == since and (dig(said, "lower") or replicas + 1) <= replicas

        return (Guard(kind, subject.name, waited, f"{replicas} pods have been enough since {since}"),)
    by_another = declared is not None and declared.cpu_percent is not None and scaling.hpa.uid is not None
    if not by_another or replicas == 0:
        return ()

    def begun(live: Manifest | None) -> bool:
        return live is not None and (dig(live, "spec", "minReplicas") or 1) <= replicas

    return (Guard(hpa.KIND, subject.name, begun, f"{hpa.KIND} {subject.name} holds no more than {replicas} pods"),)


def condition(subject: Subject, scaling: Scaling, scaled: Scaled) -> Condition | None:
    """Whether the number of pods follows what they have to do."""
    declared = scaling.situation.declared
    if declared is not None and declared.requests_per_second is None:
        return hpa.condition(subject, scaling.hpa)
    if scaling.hpa.uid is not None:
        return unknown(SCALING, "RemovingAutoscaler", f"{hpa.KIND} {subject.name} is being deleted")
    if declared is None:
        return _kept(scaled) if scaled.kept else None
    if scaling.counted or scaling.situation.demand.rate is not None:
        return true(SCALING, _COUNTED, f"pods are to answer {declared.requests_per_second} requests per second each")
    return unknown(SCALING, _NOT_COUNTED, "no pod that serves has been asked twice how many requests it has had")


def _kept(scaled: Scaled) -> Condition:
    message = (
        "spec.autoscaling is gone and spec.replicas is 1, which it is where nobody writes it, too: the"
        f" {scaled.replicas} pods stay until spec.replicas is something else"
    )
    return false(SCALING, _KEPT, message)
