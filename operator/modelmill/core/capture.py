"""Capture in pods that serve: a sidecar writes what the server hands over, so that the server needs no credentials."""

from dataclasses import dataclass
from typing import Any

from modelmill.api import capture as api
from modelmill.core import pods
from modelmill.core.plan import Subject
from modelmill.core.pods import Resources, StoreAccess
from modelmill_contracts import digest, environment

# Beyond the time in which the server ends: what it handed over last is written then.
GRACE_SECONDS = 15
VOLUME = "capture"
_RESOURCES: Resources = (
    ("limits", (("memory", "256Mi"),)),
    ("requests", (("cpu", "10m"), ("memory", "64Mi"))),
)


@dataclass(frozen=True)
class Chosen:
    """What pods have to know of it: with another choice they are another revision."""

    sample: str
    columns: tuple[str, ...] | None  # sorted; None: all

    @classmethod
    def of(cls, declared: api.Capture | None) -> "Chosen | None":
        if declared is None:
            return None
        return cls(declared.sample, None if declared.columns is None else tuple(sorted(declared.columns)))

    @property
    def arguments(self) -> list[str]:
        """What the server is told."""
        if self.columns is None:
            return [f"--capture={self.sample}"]
        names = digest.canonical_json(self.columns).decode().replace("$", "$$")  # else kubelet may replace $(NAME)
        return [f"--capture={self.sample}", f"--capture-columns={names}"]


# The server reaches the socket in it, and can change nothing there.
MOUNT = {VOLUME: (environment.CAPTURE_FOLDER, True)}


def sidecar(subject: Subject, store: StoreAccess) -> dict[str, Any]:
    """The container that writes: kubelet starts it before the server, and ends it after that."""
    return {
        **pods.container(
            "capture",
            subject.settings.server_image,
            ["capture", subject.uid],
            variables=pods.store_variables(store),
            mounts={VOLUME: (environment.CAPTURE_FOLDER, False), **store.mounts()},
            limits=_RESOURCES,
        ),
        "restartPolicy": "Always",
    }
