"""A ModelDeployment that is scaled by what it has to do, while versions are rolled out and people edit how.

By requests: one Pod's message says how much callers ask, high or low; what serves counts it.  By CPU: Kubernetes'
autoscaler writes spec.replicas, whatever it likes of what it may.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import LONG_AGO, NOW, uid
from modelcheck.systems import jobs
from modelcheck.systems.canary import STEPS, CanarySystem
from modelcheck.systems.modeldeployment import KIND, NAME, deployment_spec
from modelcheck.systems.workspace import edited
from modelmill.core import hpa, routing
from modelmill.core.plan import Apply, Measurement, Observed, Write
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, ROUTES_ANNOTATION, Manifest, dig
from modelmill.core.serving import REVISION_LABEL
from modelmill.core.windows import Counted
from modelmill_contracts import routes

DEMAND = "demand"
HIGH, LOW = "high", "low"
_RATES = {HIGH: 2.0, LOW: 0.5}
_CANARY = {"strategy": "Canary", "steps": STEPS, "analysis": {"minRequests": 1}}
MOST = 2
BY_REQUESTS = {"min": 1, "max": MOST, "requestsPerSecond": 1}
BY_CPU = {"min": 1, "max": MOST, "cpuPercent": 70}


def spec(replicas: int, autoscaling: dict[str, int] | None) -> dict[str, Any]:
    scaled = {} if autoscaling is None else {"autoscaling": autoscaling}
    return {**deployment_spec(replicas, None, 0), **scaled, "rollout": _CANARY}


def demand(level: str) -> Manifest:
    """The Pod whose message says how much callers ask."""
    labels = {**MANAGED_BY, OWNER_LABEL: uid(KIND, NAME)}
    return {
        "kind": "Pod",
        "metadata": {"name": DEMAND, "uid": uid("Pod", DEMAND), "labels": labels},
        "status": {"message": level},
    }


class AutoscaledSystem(CanarySystem):
    """Scaled by requests, by CPU, or to a number: `edits` are what people change between."""

    slots = 26
    kept = (*CanarySystem.kept, hpa.KIND)

    def __init__(self, name: str, edits: tuple[dict[str, Any], ...], life: tuple[str, ...]) -> None:
        super().__init__()
        self.name = f"ModelDeployment: {name}"
        self.edits = edits
        self.life = life

    def start(self) -> list[Manifest]:
        return [*super().start(), demand(LOW)]

    def heard(self, observed: Observed) -> Observed:
        heard = super().heard(observed)
        serves = _selected(observed)
        for key, found in observed.related.items():
            for pod in found if key.kind == "Pod" and serves else ():
                if pod["metadata"]["name"] == DEMAND:
                    counts = _counts(str(pod["status"]["message"]))
                    others = tuple(p for p in found if p is not pod)
                    related = {**observed.related, key: (*others, _serving(pod, str(serves), observed))}
                    measured = {**heard.measured, pod["metadata"]["uid"]: counts}
                    return replace(heard, related=related, measured=measured)
        return heard

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        level = dig(live.get("Pod", DEMAND), "status", "message")
        yield move(f"callers ask {'less' if level == HIGH else 'more'}", demand(LOW if level == HIGH else HIGH))
        yield from _autoscaler(live)
        yield from jobs.orphans(live, hpa.KIND)

    def help(self, live: Live) -> Iterator[Move]:
        yield from super().help(live)
        yield from jobs.orphans(live, hpa.KIND)
        # It begins, at last.
        yield from (m for m in _autoscaler(live) if _too_few(live))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        return _unsafe_scale(write, before) or super().unsafe(write, before, after)

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        if present is None or not live.get("Service", NAME):
            return super().unreached(live)
        wanted = _wanted(live, present)
        if dig(present, "status", "autoscaling", "replicas") not in (None, wanted):
            return f"callers need {wanted} pods, and the status says {present['status'].get('autoscaling')}"
        by_cpu = dig(present, "spec", "autoscaling", "cpuPercent") is not None
        if by_cpu != (live.get(hpa.KIND, NAME) is not None):
            return "an autoscaler is there and not wanted, or wanted and not there"
        # What was rolled out is judged as it is elsewhere, with the number that is wanted here.
        return super().unreached(_At(live, wanted))


class _At:
    """What exists, as if spec.replicas said how many pods there are to be."""

    def __init__(self, live: Live, replicas: int) -> None:
        self._live = live
        self._replicas = replicas

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        found = self._live.get(kind, name)
        if kind != KIND or found is None:
            return found
        return {**found, "spec": {**found["spec"], "replicas": self._replicas}}


def _wanted(live: Live, present: Manifest) -> int:
    declared, replicas = present["spec"].get("autoscaling"), present["spec"]["replicas"]
    if declared is None:
        kept = dig(present, "status", "autoscaling", "replicas")
        return int(kept if replicas == 1 and kept is not None else replicas)
    if "cpuPercent" in declared:
        return int(max(declared["min"], min(replicas, declared["max"])))
    return MOST if dig(live.get("Pod", DEMAND), "status", "message") == HIGH else 1


def _autoscaler(live: Live) -> Iterator[Move]:
    """Kubernetes' autoscaler writes as many as it may."""
    present, found = live.get(KIND, NAME), live.get(hpa.KIND, NAME)
    if present is None or found is None or "autoscaling" not in present["spec"]:
        return
    for replicas in range(found["spec"]["minReplicas"], found["spec"]["maxReplicas"] + 1):
        if replicas != present["spec"]["replicas"]:
            changed = edited(present, {**present["spec"], "replicas": replicas})
            yield move(f"the autoscaler says {replicas}", {"kind": KIND, **changed})


def _too_few(live: Live) -> bool:
    present, found = live.get(KIND, NAME), live.get(hpa.KIND, NAME)
    return found is not None and present is not None and present["spec"]["replicas"] < found["spec"]["minReplicas"]


def _unsafe_scale(write: Write, before: Live) -> str | None:
    """What serves loses pods only after a wait, or by the word of whoever scales it."""
    if not isinstance(write, Apply) or write.manifest["kind"] != "Deployment":
        return None
    name, replicas = write.manifest["metadata"]["name"], write.manifest["spec"]["replicas"]
    selected = dig(before.get("Service", NAME), "spec", "selector", REVISION_LABEL)
    found, present = before.get("Deployment", name), before.get(KIND, NAME)
    if found is None or present is None or not name.endswith(f"-{selected}"):
        return None
    declared = present["spec"].get("autoscaling")
    if declared is None or replicas >= (found["spec"].get("replicas") or 0):
        return None
    if "cpuPercent" in declared:
        held = dig(before.get(hpa.KIND, NAME), "spec", "minReplicas")
        fewer = held is None or replicas < held
        return "what serves loses pods before its autoscaler has begun" if fewer else None
    wait = dig(present, "status", "autoscaling")
    waited = dig(wait, "lowerSince") == LONG_AGO and wait["lower"] <= replicas
    return None if waited else "what serves loses pods though they may be needed"


def _selected(observed: Observed) -> Any:
    for key, found in observed.related.items():
        for service in found if key.kind == "Service" else ():
            if service["metadata"]["name"] == NAME:
                return dig(service, "spec", "selector", REVISION_LABEL)
    return None


def _serving(pod: Manifest, revision: str, observed: Observed) -> Manifest:
    """The pod as one of the revision that serves, which knows what pods are told."""
    told = next((found[0] for key, found in observed.related.items() if key.kind == "ConfigMap" and found), None)
    text = dig(told, "data", routes.FILE) or ""
    mark = {} if told is None else {"annotations": {ROUTES_ANNOTATION: routing.mark_of(text)}}
    metadata = {**pod["metadata"], "labels": {**pod["metadata"]["labels"], REVISION_LABEL: revision}, **mark}
    running = [{"name": "server", "state": {"running": {}}}]
    return {**pod, "metadata": metadata, "status": {"podIP": "10.0.0.9", "containerStatuses": running}}


def _counts(level: str) -> Measurement:
    """Two answers, ten seconds apart."""
    then, now = (Counted(version=1, started=1.0, requests=n) for n in (0, int(10 * _RATES[level])))
    return Measurement(now, NOW, 20.0, Measurement(then, NOW, 10.0))


def by_requests() -> AutoscaledSystem:
    """Between requests and a number, while callers ask more and less."""
    edits = (spec(1, BY_REQUESTS), spec(MOST, None))
    life = (
        "callers ask more", "version 2 is made", "version 2 becomes Ready", "the window says pass",
        "somebody asks for resume", "callers ask less",
    )  # fmt: skip
    return AutoscaledSystem("scaled by requests", edits, life)


class ByCpuSystem(AutoscaledSystem):
    """From a number to Kubernetes' autoscaler, by an edit that also takes the number back to its default, and back."""

    def __init__(self) -> None:
        edits = (spec(1, BY_CPU), spec(MOST, None))
        life = (f"the user changes the spec to {edits[0]}", "version 2 is made", "version 2 becomes Ready")
        super().__init__("scaled by CPU", edits, life)

    def start(self) -> list[Manifest]:
        fixed = spec(MOST, None)
        return [{**made, "spec": fixed} if made["kind"] == KIND else made for made in super().start()]
