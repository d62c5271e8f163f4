"""Measurements: what pods of ours are asked while they work, as Kubernetes does not know it.

The shell's collector asks each pod on its metrics port, and the answers are part of the next snapshot (`Observed`).
Nothing may depend on there being one: a pod can be slow, silent, or a user's program that answers what it likes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from modelmill.api.schema import GROUP
from modelmill.core import pods
from modelmill.core.resources import Manifest, dig
from modelmill_contracts import progress


@dataclass(frozen=True)
class Source:
    """What the pods of one kind's objects are asked."""

    kind: str  # of our object that they work for
    path: str
    every: timedelta  # after the pods of an object have answered; so often, at most, is the object looked at for it
    limit: int  # bytes of an answer's body
    decode: Callable[[bytes], Any]  # ValueError where the body is no answer


SOURCES = (Source("TrainingJob", progress.PATH, timedelta(seconds=10), progress.LIMIT, progress.decode),)


def source_of(pod: Manifest) -> Source | None:
    """What the pod can be asked now, if it can be asked anything."""
    labels = dig(pod, "metadata", "labels") or {}
    if pods.index(pod):
        return None  # of several pods of a Job the first one knows
    asked = next((source for source in SOURCES if f"{GROUP}/{source.kind.lower()}" in labels), None)
    return asked if asked is not None and pods.address(pod) is not None else None  # most pods are asked nothing
