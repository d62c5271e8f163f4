"""What the core is given (`Observed`) and what it gives back (`Plan`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from modelmill.api.schema import API_VERSION
from modelmill.core.conditions import Condition, merge
from modelmill.core.resources import Key, Manifest, dig


@dataclass(frozen=True)
class Settings:
    """What the operator was started with.  None of it may make a pod restart that already serves."""

    trainer_image: str
    server_image: str
    namespace: str = "modelmill-system"  # where the operator's own pods are, which ask others how they are doing
    tenant_label: str | None = None  # what Prometheus calls a series' namespace; None: there is no Prometheus to ask


@dataclass(frozen=True)
class Subject:
    """The object that is reconciled, as far as its children need to know it."""

    name: str
    namespace: str
    uid: str
    generation: int
    settings: Settings

    def reference(self, kind: str) -> dict[str, Any]:
        """The controller reference that makes a child go when its owner goes."""
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


@dataclass(frozen=True)
class Measurement:
    """What a pod answered when it was asked (see `measurement`), and when that was."""

    value: Any
    at: datetime
    asked: float = 0.0  # by the collector's monotonic clock, before the question was sent
    before: "Measurement | None" = None  # an earlier answer, where it is what came since that counts


@dataclass(frozen=True)
class Observed:
    """A frozen snapshot: the object, everything that it depends on, and what stands in its way.

    `related` has one entry for each key that the kind's `depends` names.  `foreign` are (kind, name) of
    children that exist and are not ours; `refused` are (kind, name, message) of children that the API server refused
    to have made, changed or deleted.
    `measured` has what pods of `related` answered last, by their UIDs; who never answered is not in it.  `baseline` has
    what they had answered when the window of a rollout that is open began, `drift_baseline` the same of the window of
    drift, which has been open for `drift_seconds`, and `levels` of the step of service levels.
    `answers` has Prometheus' last ones, by query.
    `absent` are the optional kinds that cannot be read, each with why: of those nothing is in `related`.
    """

    object: Manifest
    related: Mapping[Key, tuple[Manifest, ...]]
    settings: Settings
    foreign: frozenset[tuple[str, str]] = frozenset()
    refused: tuple[tuple[str, str, str], ...] = ()
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    baseline: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Measurement] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    drift_baseline: Mapping[str, Any] = field(default_factory=dict)
    drift_seconds: float = 0.0  # by a clock that nobody sets
    levels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.object["metadata"]["uid"])

    @property
    def subject(self) -> "Subject":
        """Who the object is."""
        metadata = self.object["metadata"]
        generation = int(metadata.get("generation", 0))
        return Subject(metadata["name"], self.namespace, self.uid, generation, self.settings)

    @property
    def status(self) -> Mapping[str, Any]:
        """What the object's status said last; empty at first."""
        return self.object.get("status") or {}

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object of that kind and name in this namespace, where it exists."""
        found = self.find(kind, "metadata.name", name)
        return found[0] if found else None

    def version_of(self, kind: str, name: str) -> str | None:
        """The resourceVersion of an object in the snapshot, whatever it was found by."""
        for key, manifests in self.related.items():
            if key.kind == kind:
                for manifest in manifests:
                    if manifest["metadata"]["name"] == name:
                        return str(manifest["metadata"]["resourceVersion"])
        return None

    def find(self, kind: str, field: str, value: str) -> tuple[Manifest, ...]:
        """The objects of that kind in this namespace whose field has that value, by name."""
        return self.related.get(Key(kind, self.namespace, field, value), ())


@dataclass(frozen=True)
class Guard:
    """What must still hold, read fresh from the API server, before a write that a stale view must not make."""

    kind: str
    name: str
    holds: Callable[[Manifest | None], bool]
    meaning: str


@dataclass(frozen=True)
class NoPods:
    """A guard, too: no pod of the Job with this UID may exist, read fresh from the API server.

    `index`: only that one of them counts, where a Job has several.
    """

    job: str
    meaning: str
    index: int | None = None
    kind: ClassVar[str] = "Pod"


@dataclass(frozen=True)
class Unedited:
    """A guard, too: the object is the one that was read, and nobody edited its spec since.

    What is made for a declaration, or thrown away as it is not the declared one, is so for the newest one: with an
    old view, what another replica made for the newest would be taken for outdated.
    """

    kind: str
    name: str
    uid: str
    generation: int

    @classmethod
    def of(cls, kind: str, manifest: Manifest) -> "Unedited":
        metadata = manifest["metadata"]
        return cls(kind, metadata["name"], metadata["uid"], metadata["generation"])

    @property
    def meaning(self) -> str:
        return f"{self.kind} {self.name} is as it was read"

    def holds(self, live: Manifest | None) -> bool:
        return live is not None and Unedited.of(self.kind, live) == self


@dataclass(frozen=True)
class Listed:
    """A guard, too: about all objects of a kind in the namespace, read fresh from the API server."""

    kind: str
    holds: Callable[[tuple[Manifest, ...]], bool]
    meaning: str


AnyGuard = Guard | NoPods | Unedited | Listed
Guards = tuple[AnyGuard, ...]


@dataclass(frozen=True)
class Create:
    """Create a child, if every guard holds.

    If something of that name exists and is not ours, it stays as it is, and becomes `foreign`.
    """

    manifest: Manifest
    guards: Guards = ()


@dataclass(frozen=True)
class Apply:
    """Server-side apply fields of an object that exists with this UID, if every guard holds.

    `unchanged`: and only if nobody changed it since the snapshot.  `spared`: nothing depends on it; where the API
    server refuses it, one goes on without.
    """

    manifest: Manifest
    uid: str
    guards: Guards = ()
    unchanged: bool = False
    spared: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete the object of this UID, and what it owns; if every guard holds."""

    kind: str
    name: str
    uid: str
    guards: Guards = ()


@dataclass(frozen=True)
class SetStatus:
    """Replace the object's status, if nobody changed the object since the snapshot, and every guard holds.

    `baseline`: the next window of a rollout begins with these answers of pods, by UID, as the status has what they
    counted before; `drift_baseline`: that of drift; `levels`: the next step of service levels.
    """

    status: Mapping[str, Any]
    baseline: Mapping[str, Any] | None = None
    drift_baseline: Mapping[str, Any] | None = None
    levels: Mapping[str, Any] | None = None
    guards: Guards = ()


@dataclass(frozen=True)
class Record:
    """An Event about the object."""

    type: str  # Normal | Warning
    reason: str
    message: str


Write = Create | Apply | Delete | SetStatus | Record


def target(write: Create | Apply | Delete) -> tuple[str, str]:
    """Kind and name of the object that it writes."""
    if isinstance(write, Delete):
        return write.kind, write.name
    return write.manifest["kind"], write.manifest["metadata"]["name"]


@dataclass(frozen=True)
class Plan:
    """Writes in order (neighbouring Creates and Applies may run at the same time), and when to look again."""

    writes: tuple[Write, ...] = ()
    requeue_after: timedelta | None = None


@dataclass(frozen=True)
class Outcome:
    """What a kind's *render* gives: writes, and what the status should say.

    A change of a condition in `headline` is recorded as an Event; `events` are, too, where the status is written.
    `guards` are the status': what it forgets must be gone.
    """

    status: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    headline: tuple[str, ...]
    writes: tuple[Write, ...] = ()
    requeue_after: timedelta | None = None
    events: tuple[Record, ...] = ()
    baseline: Mapping[str, Any] | None = None  # see SetStatus
    drift_baseline: Mapping[str, Any] | None = None
    levels: Mapping[str, Any] | None = None
    guards: Guards = ()


def finish(observed: Observed, now: datetime, outcome: Outcome) -> Plan:
    """The outcome as a plan: the status is written only where it is not yet what the object says.

    Conditions keep their transition times unless their status changes.
    """
    outcome = _with_refusals(observed, outcome)
    before = observed.object.get("status") or {}
    generation = observed.subject.generation
    after = {
        **{key: value for key, value in outcome.status.items() if value is not None},
        "observedGeneration": generation,
        "conditions": merge(before.get("conditions", ()), outcome.conditions, generation, now),
    }
    tail: list[Write] = []
    if after != before:
        tail.append(SetStatus(after, outcome.baseline, outcome.drift_baseline, outcome.levels, outcome.guards))
        tail.extend(outcome.events)
        tail.extend(_transitions(before.get("conditions", ()), outcome.conditions, outcome.headline))
    return Plan((*outcome.writes, *tail), outcome.requeue_after)


REFUSED_RETRY = timedelta(minutes=1)


def _with_refusals(observed: Observed, outcome: Outcome) -> Outcome:
    """The outcome, saying so where the API server refuses a write of a child that is still to be made."""
    deleted = {target(write) for write in outcome.writes if isinstance(write, Delete)}
    wanted = deleted | {target(write) for write in outcome.writes if isinstance(write, Create | Apply)}
    refused = next((r for r in observed.refused if (r[0], r[1]) in wanted), None)
    if refused is None:
        return outcome
    headline = outcome.headline[0] if outcome.headline else "Ready"
    if headline == "Succeeded" and any(c.type == headline and c.status != "Unknown" for c in outcome.conditions):
        return replace(outcome, requeue_after=REFUSED_RETRY)  # the end stays said, whatever it leaves behind
    kind, name, why = refused
    message = f"{'the deletion of ' if (kind, name) in deleted else ''}{kind} {name} is refused: {why}"
    said: dict[str, Condition] = {
        headline: Condition(headline, "Unknown" if headline == "Succeeded" else "False", "ChildRefused", message),
        "Reconciling": Condition("Reconciling", "False", "ChildRefused"),
        "Stalled": Condition("Stalled", "True", "ChildRefused", message),
    }
    changed = tuple(said.get(condition.type, condition) for condition in outcome.conditions)
    return replace(outcome, conditions=changed, requeue_after=REFUSED_RETRY)


_NEWS = (("True", "Unknown"), ("True", "False"), ("False", "True"))  # (now, before)
_WANTED = ("ScaledToZero",)  # reasons for which nothing serves and nothing should


def _transitions(before: Any, after: tuple[Condition, ...], headline: tuple[str, ...]) -> list[Record]:
    """Events for what a person wants to be told of: a headline that changed, and what newly needs a person.

    What is merely on its way is no news: it has no Event.
    """
    old = {c["type"]: (c["status"], c["reason"]) for c in before}
    records = []
    for condition in after:
        status, reason = old.get(condition.type, ("Unknown", ""))
        if condition.type == "Stalled" and condition.status == "True":
            if (status, reason) != ("True", condition.reason):
                records.append(Record("Warning", condition.reason, condition.message))
        elif condition.type in headline and (condition.status, status) in _NEWS:
            outage = condition.type == "Available" and condition.status == "False" and condition.reason not in _WANTED
            records.append(Record("Warning" if outage else "Normal", condition.reason, condition.message))
    return records


def is_owned(manifest: Manifest, uid: str) -> bool:
    """Whether the object with that UID is the manifest's controller."""
    references = dig(manifest, "metadata", "ownerReferences") or ()
    return any(r.get("controller") and r.get("uid") == uid for r in references)


def gone(kind: str, subject: Subject) -> Guard:
    """The subject has no child of that kind by its name, whatever the cache says: one may have been made unseen."""

    def holds(live: Manifest | None) -> bool:
        return live is None or not is_owned(live, subject.uid)

    return Guard(kind, subject.name, holds, f"{kind} {subject.name} is gone")


def is_former(manifest: Manifest, name: str, uid: str) -> bool:
    """Whether it was made for an object of ours that had this name before: the garbage collector takes it away."""
    references = dig(manifest, "metadata", "ownerReferences") or ()
    return any(
        r.get("controller") and r.get("apiVersion") == API_VERSION and r.get("name") == name and r.get("uid") != uid
        for r in references
    )
