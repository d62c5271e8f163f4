"""A ModelDeployment in a cache, and pods of two revisions of it that can be asked."""

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Measurement, Observed, Settings
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL
from modelmill.shell.cache import Cache

KEY = ("ModelDeployment", "team-a", "triage")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class ServingPods:
    """One pod of the revision that serves, 3fa94c1b, and one of another, 90ab11c2."""

    def __init__(self) -> None:
        self.cache = Cache(CONTROLLERS, Settings("trainer:1", "server:1"))
        self.version = 0
        for revision in ("3fa94c1b", "90ab11c2"):
            labels = {**MANAGED_BY, OWNER_LABEL: "u", "modelmill.dev/revision": revision}
            labels["modelmill.dev/modeldeployment"] = "triage"
            running = {"name": "server", "state": {"running": {}}}
            status = {"phase": "Running", "podIP": "192.0.2.1", "containerStatuses": [running]}
            self.store("Pod", {"name": revision, "uid": revision, "labels": labels}, status=status)

    def store(self, kind: str, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.version += 1
        whole = {"metadata": {"namespace": "team-a", "resourceVersion": str(self.version), **metadata}, **more}
        self.cache.store(kind, whole)
        return whole

    def asked(self) -> list[tuple[str, float]]:
        found = self.cache.askable()
        return [(pod["metadata"]["name"], source.every.total_seconds()) for source, pod in found]

    def answer(self, value: Any, pod: str = "3fa94c1b") -> set[Any]:
        """The pod says so; who is woken by that."""
        return self.cache.measured("team-a", "u", {pod: Measurement(value, NOW, monotonic())})

    def observed(self) -> Observed:
        found = self.cache.observe(KEY)
        assert found is not None
        return found
