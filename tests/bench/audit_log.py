"""Requests of one program as the API server's audit log has them: who asked for what, and when it was answered."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple


class Request(NamedTuple):
    """One answered request; `at` is when, in seconds of the wall clock; a watch counts when it starts."""

    at: float
    verb: str
    resource: str  # with its subresource, as in deployments/scale
    namespace: str
    name: str
    code: int


class AuditLog:
    """The requests of programs whose user agent begins so; grows with each `read`, over the log's rotations."""

    def __init__(self, kubeconfig: str, agents: tuple[str, ...]) -> None:
        self._path = Path(kubeconfig).parent / "logs" / "audit.log"
        self._marks = tuple(f'"userAgent":"{agent}' for agent in agents)
        self._file = self._path.open()
        self._rest = ""
        self.requests: list[Request] = []

    def read(self) -> None:
        """Take what was logged since the last call."""
        while True:
            rotated = self._path.exists() and not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
            self._take(self._file.read())
            if not rotated:
                return
            self._file.close()
            self._file = self._path.open()

    def since(self, at: float) -> list[Request]:
        """The requests answered after that time; leases are left out: they tick whatever happens."""
        return [r for r in self.requests if r.at > at and not r.resource.startswith("leases")]

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if not any(mark in line for mark in self._marks):
                continue
            event = json.loads(line)
            about = event.get("objectRef")
            stage = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
            if about is None or event["stage"] != stage:
                continue
            self.requests.append(
                Request(
                    datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
                    event["verb"],
                    "/".join(p for p in (about["resource"], about.get("subresource")) if p),
                    about.get("namespace", ""),
                    about.get("name", ""),
                    event.get("responseStatus", {}).get("code", 0),
                )
            )


READS = ("get", "list", "watch")


def by_verb(requests: Iterable[Request], per: int = 1) -> str:
    """Counts by verb and resource, divided by `per`, the largest first; "none" where there are none.

    What is less than a twentieth of them is left out: it does not belong to each of them.
    """
    counts = Counter(f"{r.verb} {r.resource}" for r in requests)
    found = [(n / per, what) for what, n in counts.most_common() if n / per >= 0.05]
    return ", ".join(f"{n:,.0f} {what}" if n == round(n) else f"{n:.1f} {what}" for n, what in found) or "none"
