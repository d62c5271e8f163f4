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
from modelmill.core import demand, pods, servicelevels, tally, windows
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

_DRIFTING = timedelta(seconds=15)

Window = tuple[str, int]  # its name, and how many were weighed before it: each begins where the one before ended


class Asked(NamedTuple):
    """What the pods of the revision that serves are asked, and which windows are open."""

    source: Source
    revision: str
    window: Window | None = None  # of the rollout of another revision, by its epoch
    drift: Window | None = None  # by revision and profile
    levels: Window | None = None  # of service levels, by since when it is counted
    span: timedelta | None = None  # between two answers, where it is what came since that counts: the demand

    @property
    def follows(self) -> bool:
        """Whether each answer is looked at; windows of drift last."""
        return self.window is not None or self.levels is not None or self.span is not None


def asked_of(deployment: Manifest) -> Asked | None:
    """What the pods that serve a ModelDeployment are asked now.

    Most are asked nothing: only during the steps of a rollout, where drift is declared or service levels are asked for,
    and to know the demand.
    """
    candidate, stable = dig(deployment, "status", "candidate"), dig(deployment, "status", "stable", "revision")
    if stable is None:
        return None
    spec = deployment.get("spec", {})
    pauses: list[timedelta] = []
    window, drifting, span, decode = None, None, None, windows.decode
    if (epoch := dig(candidate, "epoch")) is not None:
        interval = parse_duration(dig(spec, "rollout", "analysis", "interval") or "15s")
        pauses.append(_often(_SERVING.every, interval))
        window = (epoch, dig(candidate, "windows") or 0)
    if (declared := dig(spec, "monitoring", "drift")) is not None:
        pauses.append(_often(_DRIFTING, parse_duration(declared.get("window") or "1h")))
        said = dig(deployment, "status", "drift") or {}
        drifting = (f"{stable} {said.get('profile', '')}", said.get("windows", 0))
        decode = tally.decode
    levels = dig(deployment, "status", "serviceLevels")
    if levels is not None:
        pauses.append(servicelevels.pause(levels["window"]))
    if dig(spec, "autoscaling", "requestsPerSecond") is not None:
        pauses.append(demand.EVERY)
        span = demand.SPAN
    if not pauses:
        return None
    counted = (levels["since"], 0) if levels is not None else None
    return Asked(replace(_SERVING, every=min(pauses), decode=decode), stable, window, drifting, counted, span)


def _often(most: timedelta, window: timedelta) -> timedelta:
    return min(max(window / 3, timedelta(seconds=1)), most)


def source_of(pod: Manifest, serving: Mapping[str, Asked] = MappingProxyType({})) -> Source | None:
    """What the pod can be asked now, if it can be asked anything; `serving` has ModelDeployments by their UIDs."""
    labels = dig(pod, "metadata", "labels") or {}
    if pods.index(pod):
        return None  # of several pods of a Job the first one knows
    source = next((source for source in SOURCES if f"{GROUP}/{source.kind.lower()}" in labels), None)
    if source is None and serving:
        asked = serving.get(labels.get(OWNER_LABEL, ""))
        if asked is not None and labels.get(REVISION_LABEL) == asked.revision:
            source = asked.source
    return source if source is not None and pods.address(pod) is not None else None  # most pods are asked nothing
