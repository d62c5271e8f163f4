"""Exposure: the HTTPRoute by which callers outside of the cluster reach a model.

It leads to the Service that callers inside know, so that no rollout changes it: the pods that serve split requests
themselves.  gRPC calls are told by their path, as two kinds of routes may not share a host name.  Whether requests
come is the Gateway's to say, which writes it into the route's status.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from modelmill.api.modeldeployment import Expose
from modelmill.core import conditions, pods, retry
from modelmill.core.conditions import Condition, false, true, unknown
from modelmill.core.plan import Apply, Create, Delete, Guards, Observed, Subject, Write, gone, is_owned
from modelmill.core.resources import OWNER_LABEL, Key, Manifest, covers, dig
from modelmill.core.serving import SERVICE_PORT
from modelmill_contracts import environment

KIND = "HTTPRoute"
EXPOSED = "Exposed"
LOOK_AGAIN = timedelta(seconds=30)  # whether the Gateway API is there by now
_GROUP = "gateway.networking.k8s.io"
_GRPC = "/inference.GRPCInferenceService"


@dataclass(frozen=True)
class Route:
    """The route as it is; `uid` is absent where there is none of ours."""

    uid: str | None = None
    current: bool = False
    said: Condition | None = None  # by the Gateway
    taken: bool = False  # the name is somebody else's
    absent: str | None = None  # why the API server has no routes
    leaving: bool = False  # it was deleted, and something keeps it for a while


@dataclass(frozen=True)
class Exposure:
    """What is declared of it, and what is there."""

    declared: Expose | None
    route: Route
    written_down: bool  # the status says that there may be a route: only then is it found when nobody wants it any more


def depends(manifest: Manifest) -> tuple[Key, ...]:
    """What whoever is exposed depends on, or was until a moment ago: nothing, for all others."""
    if dig(manifest, "spec", "expose") is None and conditions.find(manifest, EXPOSED) is None:
        return ()
    metadata = manifest["metadata"]
    return (Key(KIND, metadata["namespace"], OWNER_LABEL, metadata["uid"]),)


def observe(observed: Observed, kind: str, declared: Expose | None) -> Exposure | None:
    """What is declared and there; None: neither."""
    if not depends(observed.object):
        return None
    return Exposure(declared, _route(observed, kind, declared), conditions.find(observed.object, EXPOSED) is not None)


def _route(observed: Observed, kind: str, declared: Expose | None) -> Route:
    subject = observed.subject
    for live in observed.find(KIND, OWNER_LABEL, observed.uid):
        if live["metadata"]["name"] == subject.name and is_owned(live, observed.uid):
            if declared is None:
                return Route(live["metadata"]["uid"], leaving="deletionTimestamp" in live["metadata"])
            current = covers(live["spec"], manifest(subject, kind, declared)["spec"])
            return Route(live["metadata"]["uid"], current, _said(live, _parent(subject, declared)) if current else None)
    return Route(taken=(KIND, subject.name) in observed.foreign, absent=observed.absent.get(KIND))


def _parent(subject: Subject, declared: Expose) -> dict[str, Any]:
    gateway = declared.gateway
    return {
        "group": _GROUP,
        "kind": "Gateway",
        "namespace": gateway.namespace or subject.namespace,
        "name": gateway.name,
        **({"sectionName": gateway.section_name} if gateway.section_name is not None else {}),
    }


def manifest(subject: Subject, kind: str, declared: Expose) -> Manifest:
    """The route, with everything said that has a default, so that it can be compared."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": KIND,
        "metadata": {
            "name": subject.name,
            "namespace": subject.namespace,
            "labels": pods.labels(subject, kind),
            "ownerReferences": [subject.reference(kind)],
        },
        "spec": {
            "parentRefs": [_parent(subject, declared)],
            "hostnames": list(declared.hostnames),
            "rules": [_rule(subject, _GRPC, environment.GRPC_PORT), _rule(subject, "/", SERVICE_PORT)],
        },
    }


def _rule(subject: Subject, path: str, port: int) -> dict[str, Any]:
    service = {"group": "", "kind": "Service", "name": subject.name, "port": port, "weight": 1}
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [service]}


def _said(live: Manifest, parent: dict[str, Any]) -> Condition | None:
    """What the Gateway says of the route as it is now; None: nothing yet."""
    generation = live["metadata"].get("generation", 0)
    for told in live["status"]["parents"]:
        if _same(told.get("parentRef") or {}, parent, live["metadata"]["namespace"]):
            found = {c["type"]: c for c in told["conditions"] if (c.get("observedGeneration") or 0) >= generation}
            # A route that is taken may still lead nowhere.
            for type_ in ("Accepted", "ResolvedRefs"):
                said = found.get(type_)
                if said is None:
                    return None
                if said["status"] != "True":
                    message = f"the Gateway says {type_} {said['status']}: {said.get('message') or said['reason']}"
                    return Condition(EXPOSED, said["status"], said["reason"], message)
            return true(EXPOSED, "Accepted")
    return None


def _same(told: Manifest, parent: dict[str, Any], namespace: str) -> bool:
    """Whether a status is about that parent: what a reference leaves out is its default."""
    defaults = {"group": _GROUP, "kind": "Gateway", "namespace": namespace}
    return all({**defaults, **told}.get(key) == parent.get(key) for key in (*defaults, "name", "sectionName"))


def writes(subject: Subject, kind: str, exposure: Exposure) -> tuple[Write, ...]:
    """What brings the route about, or takes it away."""
    declared, route = exposure.declared, exposure.route
    if declared is None:
        return (Delete(KIND, subject.name, route.uid),) if route.uid is not None and not route.leaving else ()
    if route.uid is not None:
        return () if route.current else (Apply(manifest(subject, kind, declared), route.uid),)
    may_be_made = exposure.written_down and not route.taken and route.absent is None
    return (Create(manifest(subject, kind, declared)),) if may_be_made else ()


def forgotten(subject: Subject, exposure: Exposure) -> Guards:
    """What must be so before the status says no more of a route, and nobody would find it again."""
    unseen = exposure.declared is None and exposure.written_down and exposure.route.uid is None
    return (gone(KIND, subject),) if unseen and exposure.route.absent is None else ()


def condition(subject: Subject, exposure: Exposure) -> Condition | None:
    """Whether callers outside of the cluster reach the model, as far as the Gateway says; None: nothing is exposed."""
    declared, route = exposure.declared, exposure.route
    if declared is None:
        removed = "spec.expose is gone, and its HTTPRoute is being deleted"
        return None if route.uid is None else false(EXPOSED, "NotExposed", removed)
    gateway = declared.gateway
    if route.taken:
        waiting = retry.name_taken(KIND, subject.name)
        return false(EXPOSED, waiting.reason, waiting.message)
    if route.absent is not None:
        message = f"the Gateway API cannot be used: {route.absent}; the model is served inside of the cluster only"
        return false(EXPOSED, "GatewayAPIMissing", message)
    if route.said is None:
        name = f"{gateway.namespace or subject.namespace}/{gateway.name}"
        message = f"Gateway {name} has not said yet whether it takes HTTPRoute {subject.name}"
        return unknown(EXPOSED, "WaitingForGateway", message)
    if route.said.status == "True":
        return true(EXPOSED, "Accepted", f"the Gateway takes requests for {', '.join(declared.hostnames)}")
    return route.said


def url(subject: Subject, exposure: Exposure | None) -> str | None:
    """Where callers outside of the cluster reach the model, where they do by a name that is one."""
    if exposure is None or exposure.declared is None:
        return None
    said = condition(subject, exposure)
    host = next((h for h in exposure.declared.hostnames if not h.startswith("*")), None)
    if said is None or said.status != "True" or host is None:
        return None
    return f"{exposure.declared.scheme.lower()}://{host}"
