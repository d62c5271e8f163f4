"""A ModelDeployment whose pods are asked how many requests they have had, a HorizontalPodAutoscaler, and a Gateway."""

import dataclasses
from typing import Any

from rolling_out import KIND, NAME, Rolling, with_version
from world import with_store

from modelmill.core.plan import Measurement
from modelmill.core.windows import Counted

__all__ = ["KIND", "NAME", "Scaled", "served"]


class Scaled(Rolling):
    """As the shell does, it remembers what pods answered before."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[str, float] = {}  # requests per second, by pod
        self.absent: dict[str, str] = {}

    def observed(self, kind: str, name: str) -> Any:
        found = super().observed(kind, name)
        measured = dict(found.measured)
        for pod, rate in self.rates.items():
            now = measured[pod].value if pod in measured else Counted(version=1, started=1.0)
            now = Counted(version=1, started=1.0, rollout=now.rollout, requests=int(rate * 10))
            then = Counted(version=1, started=1.0, rollout=now.rollout, requests=0)
            measured[pod] = Measurement(now, self.now, 20.0, Measurement(then, self.now, 10.0))
        return dataclasses.replace(found, measured=measured, absent=self.absent)

    def name_of(self, version: int) -> str:
        return f"{NAME}-{self.revision(version)}"

    def wanted(self, version: int = 1) -> int:
        return int(self.get("Deployment", self.name_of(version))["spec"]["replicas"])

    def available(self, version: int = 1, replicas: int | None = None) -> None:
        """So many pods of a version are ready, or all that it asks for."""
        self.pods_of(self.name_of(version), self.wanted(version) if replicas is None else replicas)

    def asked(self, rate: float, version: int = 1) -> None:
        """The one pod of a version that answers had so many requests per second."""
        pod = f"{self.name_of(version)}-x"
        if not self.has("Pod", pod):
            self.pod(version)
        self.rates[self.get("Pod", pod)["metadata"]["uid"]] = rate

    def declares(self, **changes: Any) -> None:
        """The spec with these fields changed, None taking one away."""
        spec = {**self.get(KIND, NAME)["spec"], **changes}
        self.put(KIND, NAME, spec={key: value for key, value in spec.items() if value is not None})
        self.step()

    def said(self, type_: str) -> tuple[str, str] | None:
        found = [c for c in self.status["conditions"] if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else None


def served(replicas: int = 1, **spec: Any) -> Scaled:
    """Version 1 serves with all its pods."""
    world = Scaled()
    with_version(with_store(world), 1)
    world.put(KIND, NAME, spec={"model": {"name": NAME}, "replicas": replicas, **spec})
    world.step()
    world.available()
    world.step()
    return world
