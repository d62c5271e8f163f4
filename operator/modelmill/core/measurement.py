"""Measurements: what pods of ours are asked while they work, as Kubernetes does not know it.

The shell's collector asks each pod on its metrics port, and the answers are part of the next snapshot (`Observed`).
Nothing may depend on there being one: a pod can be slow, silent, or a user's program that answers what it likes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from modelmill.api.schema import GROUP, parse_duration
from modelmill.core import pods, windows
from modelmill.core.resources import OWNER_LABEL, Manifest, dig
from modelmill.core.serving import REVISION_LABEL
from modelmill_contracts import counters, progress


@dataclass(frozen=True)
class Source:
    """What the pods of one kind's objects are asked."""

    kind: str  # of our object that they work for
    path: str
    every: timedelta  # after the pods of an object have answered; so often, at most, is the object looked at for it
    limit: int  # bytes of an answer's body
    decode: Callable[[bytes], Any]  # ValueError where the body is no answer


# What pods are asked for as long as they run.
SOURCES = (Source("TrainingJob", progress.PATH, timedelta(seconds=10), progress.LIMIT, progress.decode),)
_SERVING = Source("ModelDeployment", counters.SNAPSHOT_PATH, timedelta(seconds=5), windows.LIMIT, windows.decode)


class Asked(NamedTuple):
    """What the pods of one revision are asked while another one is rolled out, and how far that is."""

    source: Source
    revision: str
    window: tuple[str, int]  # epoch, and how many windows were weighed: each begins where the one before ended


def asked_of(deployment: Manifest) -> Asked | None:
    """What the pods that serve a ModelDeployment are asked now: nothing, but during the steps of a rollout."""
    candidate, stable = dig(deployment, "status", "candidate"), dig(deployment, "status", "stable", "revision")
    epoch = dig(candidate, "epoch")
    if epoch is None or stable is None:
        return None
    interval = parse_duration(dig(deployment, "spec", "rollout", "analysis", "interval") or "15s")
    every = min(max(interval / 3, timedelta(seconds=1)), _SERVING.every)
    return Asked(replace(_SERVING, every=every), stable, (epoch, dig(candidate, "windows") or 0))


def source_of(pod: Manifest, serving: Mapping[str, Asked] = MappingProxyType({})) -> Source | None:
    """What the pod can be asked now, if it can be asked anything; `serving` has rollouts by their owners' UIDs."""
    labels = dig(pod, "metadata", "labels") or {}
    if pods.index(pod):
        return None  # of several pods of a Job the first one knows
    source = next((source for source in SOURCES if f"{GROUP}/{source.kind.lower()}" in labels), None)
    if source is None and serving:
        asked = serving.get(labels.get(OWNER_LABEL, ""))
        if asked is not None and labels.get(REVISION_LABEL) == asked.revision:
            source = asked.source
    return source if source is not None and pods.address(pod) is not None else None  # most pods are asked nothing
