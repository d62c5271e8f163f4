"""A canary between two versions: windows that speak for it or against it, actions, edits, and pods that come and go.

What pods counted is one Pod's message: a verdict, and the window that it is of; another window knows nothing of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelcheck.cluster import Live, Move, move
from modelcheck.objects import LONG_AGO, NOW, uid
from modelcheck.systems import jobs, replica
from modelcheck.systems.modeldeployment import KIND, NAME, ModelDeploymentSystem, deployment_spec
from modelmill.core import conditions, rollout, windows
from modelmill.core.actions import ANNOTATION
from modelmill.core.measurement import asked_of
from modelmill.core.plan import Apply, Create, Delete, Measurement, Observed, SetStatus, Write
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL, Manifest, dig
from modelmill.core.serving import REVISION_LABEL
from modelmill_contracts import counters, routes

TRAFFIC = "traffic"
PASS, FAIL, FEW = "pass", "fail", "few"  # few: requests without a failure, and not enough of them for a verdict
STEPS = [{"weight": 5, "hold": "5m"}, {"weight": 50, "hold": "Manual"}]
_WAITS = {"WaitingForResume", "Paused", "Rejected", "Inconclusive", "NothingToCompareWith", "TooFewRequests"}
_MANY = 1_000_000


def spec(replicas: int, pinned: int | None, **settings: Any) -> dict[str, Any]:
    canary = {"strategy": "Canary", "steps": STEPS, "analysis": {"minRequests": 1}, **settings}
    return {**deployment_spec(replicas, pinned, 0), "rollout": canary}


def traffic(message: str) -> Manifest:
    """The Pod whose counts the operator reads."""
    labels = {**MANAGED_BY, OWNER_LABEL: uid(KIND, NAME)}
    return {
        "kind": "Pod",
        "metadata": {"name": TRAFFIC, "uid": uid("Pod", TRAFFIC), "labels": labels},
        "status": {"message": message},
    }


def window_of(deployment: Manifest) -> str | None:
    """The window that is open, in words; None where nothing is rolled out."""
    asked = asked_of(deployment)
    return None if asked is None or asked.window is None else f"{asked.window[0]}/{asked.window[1]}"


def told(live: Live) -> routes.Routes | None:
    found = live.get("ConfigMap", f"{NAME}-routes")
    return None if found is None else routes.decode(found["data"][routes.FILE].encode())


def _arm(requests: int, failures: int) -> counters.Arm:
    times = (0,) * (len(counters.LATENCY_EDGES) + 1)
    return counters.Arm(requests=requests, failures=failures, compute=counters.Latency(counts=times, total=0.0))


def _counted(epoch: str, requests: int, failures: int) -> windows.Counted:
    """The same of requests and of copies: which of them are looked at is the step's."""
    stable, candidate = _arm(requests, 0), _arm(requests, failures)
    copies = counters.Shadow(stable=stable, candidate=candidate, compared=requests, agreed=requests - failures)
    arms = windows.Counts(epoch=epoch, stable=stable, candidate=candidate, shadow=copies)
    return windows.Counted(version=1, started=1.0, rollout=arms)


class CanarySystem(ModelDeploymentSystem):
    """`loss`: objects are deleted, too, those that lead to the candidate among them, and the clock goes back."""

    slots = 26
    verdicts = (PASS, FAIL)
    # Kinds of which a finalizer may keep what was deleted, for a while.
    kept: tuple[str, ...] = ("Service", "ConfigMap")

    def __init__(
        self,
        name: str = "canary",
        edits: tuple[dict[str, Any], ...] = (spec(1, None), spec(1, 1), spec(1, None, onFailure="Pause")),
        more_life: tuple[str, ...] = ("the window says pass", "somebody asks for resume"),
        *,
        loss: bool = False,
        withdrawn: bool = False,
    ) -> None:
        life = ("version 2 is made", "version 2 becomes Ready", *more_life)
        super().__init__(f"ModelDeployment: {name}", edits, life, loss=loss, withdrawn=withdrawn)
        self.clock_goes_back = loss

    def start(self) -> list[Manifest]:
        return [*super().start(), traffic("")]

    def heard(self, observed: Observed) -> Observed:
        epoch = dig(observed.status, "candidate", "epoch")
        for key, found in observed.related.items():
            for pod in found if key.kind == "Pod" and epoch else ():
                verdict, _, window = str(dig(pod, "status", "message") or "").partition("@")
                if window and window == window_of(observed.object):
                    name = pod["metadata"]["uid"]
                    requests = 20 if verdict == FEW else _MANY
                    now = _counted(epoch, requests, requests // 2 if verdict == FAIL else 0)
                    said = {name: Measurement(now, NOW)}
                    return replace(observed, measured=said, baseline={name: _counted(epoch, 0, 0)})
        return observed

    def moves(self, live: Live) -> Iterator[Move]:
        yield from super().moves(live)
        if self.loss:
            yield from self._ways_lost(live)
        present = live.get(KIND, NAME)
        if present is None:
            return
        window, routed = window_of(present), told(live)
        if window is not None and routed is not None and (routed.weight or routed.shadow):
            for verdict in self.verdicts:
                if dig(live.get("Pod", TRAFFIC), "status", "message") != f"{verdict}@{window}":
                    yield move(f"the window says {verdict}", traffic(f"{verdict}@{window}"))
        yield from _actions(present)
        yield from _left(live, self.kept)

    def _ways_lost(self, live: Live) -> Iterator[Move]:
        """What leads to the candidate is deleted, by somebody or as its owner is gone."""
        yield from jobs.orphans(live, "ConfigMap")
        for kind, name in (("Service", f"{NAME}-candidate"), ("ConfigMap", f"{NAME}-routes")):
            if live.get(kind, name) is not None:
                yield move(f"somebody deletes {kind} {name}", gone=[(kind, name)])

    def help(self, live: Live) -> Iterator[Move]:
        yield from super().help(live)
        yield from jobs.orphans(live, "ConfigMap")
        yield from _left(live, self.kept)
        present = live.get(KIND, NAME)
        window = window_of(present) if present is not None else None
        candidate, routed = dig(present, "status", "candidate"), told(live)
        proven = all(gate["verdict"] == "Promote" for gate in dig(candidate, "evidence") or ())
        running = dig(candidate, "state") in (rollout.RUNNING, rollout.RESUMED)
        sent = routed is not None and (routed.weight or routed.shadow)
        if window is not None and running and not proven and sent:
            message = f"{PASS}@{window}"
            if dig(live.get("Pod", TRAFFIC), "status", "message") != message:
                yield move("the window says pass", traffic(message))

    def unsafe(self, write: Write, before: Live, after: Live) -> str | None:
        pointed = told(before)
        at = rollout.revision_in(pointed.epoch) if pointed is not None and (pointed.weight or pointed.shadow) else None
        match write:
            case Apply(manifest={"kind": "ConfigMap"}) | Create(manifest={"kind": "ConfigMap"}):
                return _unsafe_routes(before, after)
            case SetStatus():
                return _unsafe_rise(before.get(KIND, NAME), after.get(KIND, NAME))
        if at is not None and (found := _unsafe_way(write, at, after)) is not None:
            return found
        if isinstance(write, Apply) and write.manifest["metadata"]["name"] == f"{NAME}-candidate":
            return None
        moved = isinstance(write, Apply) and write.manifest["kind"] == "Service"
        return (_unsafe_takeover(before, after) if moved else None) or super().unsafe(write, before, after)

    def unreached(self, live: Live) -> str | None:
        present = live.get(KIND, NAME)
        reason = (conditions.find(present or {}, "Ready") or {}).get("reason")
        waits, back = reason in _WAITS, dig(present, "status", "rolledBack")
        if waits and dig(present, "status", "candidate", "epoch"):
            return None
        if live.get("ConfigMap", f"{NAME}-routes") or live.get("Service", f"{NAME}-candidate"):
            return "nothing is rolled out, and pods are told of a candidate"
        if back is not None:
            if any(d["metadata"]["name"].endswith(back["revision"]) and d["spec"]["replicas"] for d in _all(live)):
                return "what was rolled back keeps its pods"
            return None if reason in ("RolledBack", *_WAITS) else f"it was rolled back, and says {reason}"
        return None if waits else super().unreached(live)


def canary_and_loss() -> CanarySystem:
    return CanarySystem("canary and loss", (spec(1, None),), loss=True)


class ReplicasSystem(CanarySystem):
    """A canary that a third version, or a pin, replaces, and another replica that does all of that meanwhile."""

    def __init__(self) -> None:
        super().__init__("two replicas")
        self.edits = (spec(1, None), spec(1, 2))
        self.versions = 3
        self.life = ("version 2 is made", "version 2 becomes Ready", "version 3 is made", "version 3 becomes Ready")

    def moves(self, live: Live) -> Iterator[Move]:
        yield from self._users(live)
        present = live.get(KIND, NAME)
        yield from _actions(present) if present is not None else ()
        yield from replica.writes((KIND, NAME), live, self.heard, _pods_come)


def _pods_come(objects: replica.Objects) -> None:
    """Each Deployment has as many ready pods as it asks for."""
    for slot, found in objects.items():
        if slot[0] == "Deployment":
            wanted = found["spec"].get("replicas") or 0
            objects[slot] = {**found, "status": {**found["status"], "replicas": wanted, "availableReplicas": wanted}}


def _left(live: Live, kinds: tuple[str, ...]) -> Iterator[Move]:
    """What keeps an object that was deleted, such as the way to a candidate, lets it go."""
    for kind in kinds:
        for found in live.all(kind):
            if "deletionTimestamp" in found["metadata"]:
                name = found["metadata"]["name"]
                yield move(f"{kind} {name} goes at last", gone=[(kind, name)])


def _all(live: Live) -> list[dict[str, Any]]:
    return live.all("Deployment")


def _actions(present: Manifest) -> Iterator[Move]:
    """What people may ask for now, where it is not asked for already."""
    stable, candidate = (dig(present, "status", arm, "revision") for arm in ("stable", "candidate"))
    back, asked = dig(present, "status", "rolledBack", "revision"), dig(present, "metadata", "annotations", ANNOTATION)
    step = dig(present, "status", "candidate", "step")
    wanted = [
        *((verb, candidate) for verb in ("pause", "resume", "promote", "abort") if candidate and step),
        *([("retry", back)] if back else []),
        *([("undo", stable)] if stable and not candidate else []),
    ]
    for verb, revision in wanted:
        text = f"{verb}@{revision}"
        if text != asked:
            metadata = {**present["metadata"], "annotations": {ANNOTATION: text}}
            yield move(f"somebody asks for {text}", {"kind": KIND, **present, "metadata": metadata})
    if asked is not None:
        metadata = {k: v for k, v in present["metadata"].items() if k != "annotations"}
        yield move("somebody takes the action off", {"kind": KIND, **present, "metadata": metadata})


def _selected(live: Live, service: str) -> Any:
    return dig(live.get("Service", service), "spec", "selector", REVISION_LABEL)


def _deployment(live: Live, revision: str) -> Manifest | None:
    return live.get("Deployment", f"{NAME}-{revision}")


def _unsafe_way(write: Write, at: str, after: Live) -> str | None:
    """What pods are told to send somewhere arrives there."""
    match write:
        case Apply(manifest={"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0}}):
            return "a revision loses its pods while other pods send it requests" if name.endswith(at) else None
        case Delete(kind="Deployment", name=name):
            return "a revision is deleted while other pods send it requests" if name.endswith(at) else None
        case Delete(kind="Service"):
            return "the way to the candidate is taken away while pods go it"
        case Apply(manifest={"kind": "Service", "metadata": {"name": name}}):
            lost = name != NAME and at != _selected(after, name)
            return "the way to the candidate leads elsewhere while pods go it" if lost else None
    return None


def _unsafe_routes(before: Live, after: Live) -> str | None:
    """Pods are told to send more only to what is ready, and as much as was written down."""
    was, now = told(before), told(after)
    assert now is not None
    same = was if was is not None and was.epoch == now.epoch else None
    if now.weight <= (same.weight if same else 0) and now.shadow <= (same.shadow if same else 0):
        return None
    revision = rollout.revision_in(now.epoch)
    found = _deployment(before, revision)
    if not (dig(found, "status", "availableReplicas") or 0):
        return "pods are told to send requests to what has no ready pod"
    if _selected(before, f"{NAME}-candidate") != revision:
        return "pods are told to send requests to a way that leads elsewhere"
    candidate = dig(before.get(KIND, NAME), "status", "candidate")
    written = dig(candidate, "weight") or 0, dig(candidate, "shadow") or 0
    if dig(candidate, "epoch") != now.epoch or now.weight > written[0] or now.shadow > written[1]:
        return "pods are told of a weight that was not written down"
    return None


def _unsafe_rise(before: Manifest | None, after: Manifest | None) -> str | None:
    """The weight rises by a verdict, a hold that passed, or somebody's word, and not against the evidence."""
    was, now = dig(before, "status", "candidate"), dig(after, "status", "candidate")
    weight, former = dig(now, "weight") or 0, dig(was, "weight") or 0
    steps = dig(before, "spec", "rollout", "steps")
    if weight == 0 or (weight <= former and dig(was, "epoch") == dig(now, "epoch")):
        return None
    action = str(dig(before, "metadata", "annotations", ANNOTATION))
    fresh = action != dig(before, "status", "lastHandledAction")
    if fresh and action == f"promote@{now['revision']}":
        return None
    if any(gate["verdict"] == "Reject" for gate in now["evidence"]):
        return "the weight rises against the evidence"
    if weight == 100 and not all(gate["verdict"] == "Promote" for gate in now["evidence"]):
        return "it takes over without a verdict"
    if dig(was, "epoch") != now["epoch"]:
        return None if now["step"] == 1 else "a rollout does not begin with its first step"
    if was["state"] in (rollout.REJECTED, rollout.INCONCLUSIVE, rollout.PAUSED) and not fresh:
        return "the weight of what stands still rises"
    manual = steps[was["step"] - 1].get("hold") == "Manual"
    resumed = was["state"] == rollout.RESUMED or (fresh and action == f"resume@{now['revision']}")
    if now["step"] != was["step"] + 1 or not (resumed if manual else was["stepAt"] == LONG_AGO):
        return "the weight rises before its step has passed"
    return None


def _unsafe_takeover(before: Live, after: Live) -> str | None:
    """The Service moves to what was promoted, or back to what was before."""
    was, now, present = _selected(before, NAME), _selected(after, NAME), before.get(KIND, NAME)
    if was == now or _deployment(before, was) is None:
        return None
    candidate = dig(present, "status", "candidate")
    promoted = dig(candidate, "revision") == now and dig(candidate, "weight") == 100
    undone = dig(present, "status", "rolledBack", "revision") == was
    asked = str(dig(present, "metadata", "annotations", ANNOTATION)).startswith("undo@")
    return None if promoted or undone or asked else "the Service moves to what was not promoted"
