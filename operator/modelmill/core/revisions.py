"""Revisions: those that have a Deployment, the one that serves, and those that took over before it."""

from dataclasses import dataclass
from typing import Any

from modelmill.core import pods, serving
from modelmill.core.plan import Subject
from modelmill.core.pods import Trouble
from modelmill.core.resources import Manifest, dig
from modelmill.core.serving import Revision


@dataclass(frozen=True)
class Running:
    """A revision that has a Deployment."""

    id: str
    name: str
    uid: str
    version: int | None
    wanted: int  # replicas that its Deployment asks for
    available: int  # ready and settled pods
    pods: int
    created: str
    trouble: Trouble | None
    leaving: bool = False  # it is deleted already, and a finalizer or its pods keep it for a while


@dataclass(frozen=True)
class Promotion:
    revision: str
    version: int | None
    at: str
    model: str | None = None  # that it is a version of, where the status says so
    artifact: tuple[str, str] | None = None  # uri and digest


def history(status: Manifest) -> tuple[Promotion, ...]:
    """The revisions that took over, the newest first."""
    return tuple(
        Promotion(h["revision"], h.get("version"), h["promotedAt"], h.get("model"), _artifact(h))
        for h in status.get("history", ())
    )


def promoted(status: Manifest) -> Manifest | None:
    """What the history says of the revision that serves, as far as the status says."""
    serves = dig(status, "stable", "revision")
    return next((p for p in status.get("history", ()) if p["revision"] == serves), None)


def find(running: tuple[Running, ...], revision: str | None) -> Running | None:
    return next((r for r in running if r.id == revision), None)


def running(deployment: Manifest, all_pods: tuple[Manifest, ...]) -> Running:
    metadata, status = deployment["metadata"], deployment["status"]
    id_ = serving.revision_of(metadata["name"])
    version = dig(metadata, "labels", serving.VERSION_LABEL)
    mine = [p for p in all_pods if dig(p, "metadata", "labels", serving.REVISION_LABEL) == id_]
    troubles = [found for p in mine if not p["metadata"].get("deletionTimestamp") and (found := pods.trouble(p))]
    refused = next((c for c in status.get("conditions", ()) if c["status"] == "True"), None)
    if refused is not None:
        troubles.append(pods.refused("the pods", str(refused.get("message")), "spec.server.resources"))
    return Running(
        id=id_,
        name=metadata["name"],
        uid=metadata["uid"],
        version=int(version) if version and version.isdecimal() else None,  # labels are anybody's to change
        wanted=dig(deployment, "spec", "replicas") or 0,
        # The template never changes, so that this is true whatever generation it was counted for.
        available=status.get("availableReplicas") or 0,
        # Pods are seen sooner than counted: what is said of a new one and of its trouble is one write.
        pods=max(status.get("replicas") or 0, sum(pods.exists(p) for p in mine)),
        created=metadata.get("creationTimestamp", ""),
        trouble=troubles[0] if troubles else None,
        leaving=bool(metadata.get("deletionTimestamp")),
    )


def to_be(subject: Subject, target: Revision, id_: str) -> Running:
    """A revision whose Deployment is made by this very plan."""
    name = serving.deployment_name(subject, id_)
    return Running(id_, name, "", target.version, wanted=0, available=0, pods=0, created="", trouble=None)


def status_of(running: Running | None) -> dict[str, Any] | None:
    if running is None:
        return None
    version = {} if running.version is None else {"version": running.version}
    return {"revision": running.id, **version, "ready": running.available}


def promotion_status(promotion: Promotion) -> dict[str, Any]:
    version = {} if promotion.version is None else {"version": promotion.version}
    model = {} if promotion.model is None else {"model": promotion.model}
    artifact = {}
    if promotion.artifact is not None:
        artifact = {"artifact": dict(zip(("uri", "digest"), promotion.artifact, strict=True))}
    return {"revision": promotion.revision, **version, **model, **artifact, "promotedAt": promotion.at}


def _artifact(promoted: Manifest) -> tuple[str, str] | None:
    artifact = promoted.get("artifact")
    return None if artifact is None else (artifact["uri"], artifact["digest"])


def served(
    revision: str | None, running: tuple[Running, ...], history: tuple[Promotion, ...], model: str | None
) -> int | None:
    """The number of the version of this model that serves, by that revision; None where none does."""
    serves = find(running, revision)
    if serves is None:
        return None
    promoted = next((p for p in history if p.revision == serves.id), None)
    if promoted is None:
        return serves.version  # it has taken over, and that is not written down yet
    # A history that an older operator wrote has no names.
    return promoted.version if promoted.model in (model, None) else None


def that_serves(selected: str | None, running: tuple[Running, ...], history: tuple[Promotion, ...]) -> str | None:
    """The revision that serves: what the Service selects, or, where that is lost, what it selected last."""
    if find(running, selected) is None and history and find(running, history[0].revision) is not None:
        return history[0].revision
    return selected
