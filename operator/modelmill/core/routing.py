"""Routing: which pods callers reach, and what pods that serve are told to do with a rollout's candidate.

    Service NAME             callers' own; its selector says which revision serves
    Service NAME-candidate   the revision that is rolled out, for the pods that serve; only during a rollout
    ConfigMap NAME-routes    what the pods that serve do with it; only during a rollout
    annotation of each pod   changes right after the ConfigMap, so that its kubelet brings it soon

Nothing here raises a share that the ModelDeployment's status does not say, read fresh from the API server.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelmill.api.rollout import Rollout
from modelmill.api.schema import GROUP, parse_duration
from modelmill.core import pods, rollout, serving
from modelmill.core.conditions import moment, timestamp
from modelmill.core.plan import Apply, Create, Delete, Guard, Guards, Observed, Subject, Write, is_owned
from modelmill.core.resources import OWNER_LABEL, ROUTES_ANNOTATION, Manifest, dig
from modelmill.core.revisions import Running
from modelmill.core.rollout import Progress
from modelmill_contracts import digest, routes
from modelmill_contracts.routes import Routes

_CHANGED = f"{GROUP}/changed-at"


@dataclass(frozen=True)
class Routing:
    """The Service: which revision it selects, and whether its ports are as they should be."""

    uid: str
    revision: str | None
    current: bool
    leaving: bool = False  # it is deleted already, and a finalizer keeps it for a while
    address: str | None = None  # of the cluster's, where it has one
    changed_at: str = ""  # when it was made, or made to select another revision


def routing(observed: Observed, kind: str) -> Routing | None:
    for service in observed.find("Service", OWNER_LABEL, observed.uid):
        if is_owned(service, observed.uid) and service["metadata"]["name"] == observed.subject.name:
            selected = dig(service, "spec", "selector", serving.REVISION_LABEL)
            wanted = serving.service(observed.subject, kind, selected or "")
            current = selected is not None and _routes_as(service["spec"], wanted["spec"])
            return Routing(service["metadata"]["uid"], selected, current)
    return None


def _routes_as(live: Manifest, wanted: Manifest) -> bool:
    """Whether a Service selects exactly what is wanted, by the ports that are wanted; it may have more ports."""
    ports = live.get("ports") or ()
    return live.get("selector") == wanted["selector"] and all(
        any(port.items() >= wanted_port.items() for port in ports) for wanted_port in wanted["ports"]
    )


@dataclass(frozen=True)
class Told:
    """What pods are told: the ConfigMap."""

    uid: str
    text: str
    epoch: str
    weight: int
    shadow: int
    changed_at: str
    leaving: bool = False

    @property
    def on(self) -> bool:
        """Whether any request goes to a candidate, or is copied to it."""
        return self.weight > 0 or self.shadow > 0


@dataclass(frozen=True)
class Paths:
    """How requests come to a rollout's candidate."""

    service: Routing | None = None
    told: Told | None = None
    untouched: tuple[tuple[str, str], ...] = ()  # name and UID of serving pods that may not know the routes yet


def observe(observed: Observed, kind: str, serves: str | None) -> Paths:
    """What is there of it; `serves` is the revision whose pods answer callers."""
    subject = observed.subject
    service = next(
        (s for s in _ours(observed, "Service") if s["metadata"]["name"] == serving.candidate_name(subject)), None
    )
    told = next(
        (_told(c) for c in _ours(observed, "ConfigMap") if c["metadata"]["name"] == serving.routes_name(subject)),
        None,
    )
    found = None
    if service is not None:
        selected = dig(service, "spec", "selector", serving.REVISION_LABEL)
        wanted = serving.candidate_service(subject, kind, selected or "", {})
        current = selected is not None and _routes_as(service["spec"], wanted["spec"])
        address = dig(service, "spec", "clusterIP")
        found = Routing(service["metadata"]["uid"], selected, current, _leaves(service), address, _changed_at(service))
    untouched: tuple[tuple[str, str], ...] = ()
    if told is not None:
        untouched = tuple(
            (pod["metadata"]["name"], pod["metadata"]["uid"])
            for pod in observed.find("Pod", OWNER_LABEL, observed.uid)
            if dig(pod, "metadata", "labels", serving.REVISION_LABEL) == serves
            and not pod["metadata"].get("deletionTimestamp")
            and pods.address(pod) is not None
            and dig(pod, "metadata", "annotations", ROUTES_ANNOTATION) != mark_of(told.text)
        )
    return Paths(found, told, untouched)


def _ours(observed: Observed, kind: str) -> list[Manifest]:
    return [m for m in observed.find(kind, OWNER_LABEL, observed.uid) if is_owned(m, observed.uid)]


def _told(live: Manifest) -> Told:
    text = dig(live, "data", routes.FILE) or ""
    epoch, weight, shadow = _read(text)
    return Told(live["metadata"]["uid"], text, epoch, weight, shadow, _changed_at(live), _leaves(live))


def _changed_at(live: Manifest) -> str:
    return dig(live, "metadata", "annotations", _CHANGED) or live["metadata"].get("creationTimestamp") or ""


def _leaves(live: Manifest) -> bool:
    return bool(live["metadata"].get("deletionTimestamp"))


def _read(text: str) -> tuple[str, int, int]:
    """Epoch and shares in a routes file; what cannot be read may be anything, so it counts as all."""
    try:
        found = routes.decode(text.encode())
    except ValueError:
        return "", 100, 100
    return found.epoch, found.weight, found.shadow


def mark_of(text: str) -> str:
    """What the annotation says of a routes file."""
    return digest.hex_of(digest.of_json(text))[:16]


def next_writes(
    subject: Subject,
    kind: str,
    paths: Paths,
    settings: Rollout,
    committed: Progress | None,
    goes_on: Progress | None,
    candidate: Running | None,
    least: int,
    serves: str | None,
    drained: bool,
    now: datetime,
) -> tuple[tuple[Write, ...], timedelta | None]:
    """What brings pods to do what the status says, and when to look again.

    `committed` is the progress in the status, `goes_on` the one that is decided now: pods get the smaller share of
    both, and more than before only once `least` pods of the candidate are available.  `drained`: no pod of another
    revision than `serves` is left.
    """
    # Without them kubelet brings the ConfigMap a minute later: nothing waits for that.
    touches = tuple(Apply(_touched(subject, name, paths.told), uid, spared=True) for name, uid in paths.untouched)
    if committed is None or goes_on is None or candidate is None or committed.epoch != goes_on.epoch:
        writes, again = _without(subject, kind, paths, serves, drained, now)
    else:
        weight, shadow = map(min, rollout.shares(settings, committed), rollout.shares(settings, goes_on))
        wanted = _wanted(subject, settings, committed, paths.service, weight, shadow)
        writes, again = _with(subject, kind, paths, wanted, candidate, least, now)
    return writes or touches, again  # what is edited now is brought afterwards


def _wanted(
    subject: Subject, settings: Rollout, progress: Progress, way: Routing | None, weight: int, shadow: int
) -> Routes:
    sticky = settings.sticky_by
    # Its address rather than its name: for half a minute a name server may know the one of the last rollout's.
    address = way.address if way is not None else None
    return Routes(
        epoch=progress.epoch,
        host=address or serving.candidate_name(subject),
        port=serving.CANDIDATE_PORT,
        weight=weight,
        shadow=shadow,
        sticky_header=sticky.header.lower() if sticky is not None else None,
        window=max(1, int(parse_duration(rollout.analysis(settings).interval).total_seconds())),
        revision=rollout.revision_in(progress.epoch),
    )


def _with(
    subject: Subject, kind: str, paths: Paths, wanted: Routes, candidate: Running, least: int, now: datetime
) -> tuple[tuple[Write, ...], timedelta | None]:
    """During a rollout: first the way to the candidate, then the pods are told of it."""
    service, told = paths.service, paths.told
    changed = {_CHANGED: timestamp(now)}
    if service is None:
        return (Create(serving.candidate_service(subject, kind, candidate.id, changed)),), None
    if service.revision != candidate.id or not service.current or _lies_ahead(service.changed_at, now):
        if told is not None and told.on and rollout.revision_in(told.epoch) != candidate.id:
            return (_off(subject, kind, told, now),), None
        manifest = serving.candidate_service(subject, kind, candidate.id, changed)
        return (Apply(manifest, service.uid, (_points_only_at(subject, candidate.id),)),), None
    text = routes.encode(wanted).decode()
    if told is not None and told.text == text and not _lies_ahead(told.changed_at, now):
        return (), None
    manifest = serving.routes(subject, kind, text, changed)
    guards = _guards(subject, wanted, candidate, least, told)
    if guards and candidate.available < least:
        return (), None  # it gets no more than it has; that it fails with that is counted
    left = _unsettled(service.changed_at, now)
    if guards and left > timedelta():
        return (), left  # what is sent before every node's proxy knows the way would be taken for failures
    return ((Create(manifest, guards),) if told is None else (Apply(manifest, told.uid, guards),)), None


def _lies_ahead(changed_at: str, now: datetime) -> bool:
    """Whether a clock was set back since: it is written anew then, and waited for from now on."""
    return bool(changed_at) and moment(changed_at) > now


def _unsettled(changed_at: str, now: datetime) -> timedelta:
    """How long it takes until a change is known everywhere; nothing, where that is over."""
    return rollout.SETTLE - max(now - moment(changed_at), timedelta()) if changed_at else timedelta()


def _guards(subject: Subject, wanted: Routes, candidate: Running, least: int, told: Told | None) -> Guards:
    """What must be so before the candidate gets more than before, whatever the cache says."""
    same = told is not None and told.epoch == wanted.epoch
    if same and told is not None and wanted.weight <= told.weight and wanted.shadow <= told.shadow:
        return ()
    if wanted.weight == wanted.shadow == 0:
        return ()
    epoch, weight, shadow, name = wanted.epoch, wanted.weight, wanted.shadow, candidate.name
    uid, id_, way = candidate.uid, candidate.id, serving.candidate_name(subject)

    def ready(deployment: Manifest | None) -> bool:
        return (
            deployment is not None
            and deployment["metadata"]["uid"] == uid
            and (dig(deployment, "status", "availableReplicas") or 0) >= least
        )

    def reached(service: Manifest | None) -> bool:
        return bool(dig(service, "spec", "selector", serving.REVISION_LABEL) == id_)

    def said(deployment: Manifest | None) -> bool:
        candidate = dig(deployment, "status", "candidate")
        return (
            dig(candidate, "epoch") == epoch
            and (dig(candidate, "weight") or 0) >= weight
            and (dig(candidate, "shadow") or 0) >= shadow
        )

    return (
        Guard("Deployment", name, ready, f"Deployment {name} has {least} available pods"),
        Guard("Service", way, reached, f"Service {way} reaches {id_}"),
        Guard(
            "ModelDeployment", subject.name, said,
            f"the status of {subject.name} says weight {weight} and copies {shadow} of {epoch}",
        ),
    )  # fmt: skip


def _without(
    subject: Subject, kind: str, paths: Paths, serves: str | None, drained: bool, now: datetime
) -> tuple[tuple[Write, ...], timedelta | None]:
    """Without a rollout: pods send nothing any more, then they need not be told, then there is no way any more.

    After a promotion what still runs of the former revision sends everything on until it has drained.
    """
    told, service = paths.told, paths.service
    if told is None:
        if service is None or service.leaving:
            return (), None
        guard = Guard(
            "ConfigMap", serving.routes_name(subject), lambda live: live is None, "pods are told of no candidate"
        )
        return (Delete("Service", serving.candidate_name(subject), service.uid, (guard,)),), None
    if told.on:
        if rollout.revision_in(told.epoch) == serves and not drained:
            return (), None
        return (_off(subject, kind, told, now),), None
    if _lies_ahead(told.changed_at, now) and not told.leaving:
        return (_off(subject, kind, told, now),), None
    left = _unsettled(told.changed_at, now)
    if left > timedelta() or told.leaving:
        return (), left if left > timedelta() else None
    return (Delete("ConfigMap", serving.routes_name(subject), told.uid),), None


def _off(subject: Subject, kind: str, told: Told, now: datetime) -> Write:
    """The routes with no share of anything."""
    try:
        wanted = routes.decode(told.text.encode())
    except ValueError:
        wanted = Routes(epoch="none", host=serving.candidate_name(subject), port=serving.CANDIDATE_PORT)
    off = Routes(
        epoch=wanted.epoch, host=wanted.host, port=wanted.port, sticky_header=wanted.sticky_header,
        window=wanted.window, revision=wanted.revision,
    )  # fmt: skip
    return Apply(serving.routes(subject, kind, routes.encode(off).decode(), {_CHANGED: timestamp(now)}), told.uid)


def settled(told: Told | None, now: datetime) -> bool:
    """Whether pods have had the time to know what they are told."""
    return told is not None and (not told.changed_at or now - moment(told.changed_at) >= rollout.SETTLE)


def points_at(paths: Paths, revision: str, now: datetime) -> bool:
    """Whether pods may send something to that revision, or did a moment ago."""
    told = paths.told
    if told is None or rollout.revision_in(told.epoch) not in (revision, ""):
        return False
    return told.on or not settled(told, now)


def not_pointing(subject: Subject, revision: str) -> Guard:
    """A revision loses its pods only when no other pod is told to send it anything."""

    def holds(live: Manifest | None) -> bool:
        return _pointed(live) not in (revision, "")

    return _of_routes(subject, holds, f"pods are told to send nothing to revision {revision}")


def _points_only_at(subject: Subject, revision: str) -> Guard:
    """The way to the candidate leads elsewhere only when nobody goes it."""

    def holds(live: Manifest | None) -> bool:
        return _pointed(live) in (revision, None)

    return _of_routes(subject, holds, f"pods are told to send nothing but to revision {revision}")


def _pointed(live: Manifest | None) -> str | None:
    """The revision that pods are told to send something to; "" where nobody knows."""
    if live is None:
        return None
    epoch, weight, shadow = _read(dig(live, "data", routes.FILE) or "")
    return rollout.revision_in(epoch) if weight or shadow else None


def _of_routes(subject: Subject, holds: Callable[[Manifest | None], bool], meaning: str) -> Guard:
    return Guard("ConfigMap", serving.routes_name(subject), holds, meaning)


def _touched(subject: Subject, pod: str, told: Told | None) -> Manifest:
    mark = mark_of(told.text) if told is not None else ""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": subject.namespace, "annotations": {ROUTES_ANNOTATION: mark}},
    }
