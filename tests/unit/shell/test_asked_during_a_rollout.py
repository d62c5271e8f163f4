"""Pods that serve are asked what they count only while another revision is rolled out, and only those."""

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Measurement, Settings
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL
from modelmill.shell.cache import Cache

KEY = ("ModelDeployment", "team-a", "triage")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """A ModelDeployment and two pods, of the revision that serves and of the candidate."""

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

    def deployment(self, candidate: dict[str, Any] | None) -> dict[str, Any]:
        rollout = {"strategy": "Canary", "analysis": {"interval": "3s"}}
        status = {"stable": {"revision": "3fa94c1b", "ready": 1}, **({"candidate": candidate} if candidate else {})}
        return self.store("ModelDeployment", {"name": "triage", "uid": "u"}, spec={"rollout": rollout}, status=status)

    def asked(self) -> list[tuple[str, float]]:
        found = self.cache.askable()
        return [(pod["metadata"]["name"], source.every.total_seconds()) for source, pod in found]

    def answer(self, value: int) -> None:
        self.cache.measured("team-a", "u", {"3fa94c1b": Measurement(value, NOW, monotonic())})

    def baseline(self) -> dict[str, Any]:
        observed = self.cache.observe(KEY)
        assert observed is not None
        return dict(observed.baseline)


def test_nobody_is_asked_but_the_pods_that_serve_while_steps_go_on() -> None:
    story = Story()
    story.deployment(None)
    assert story.asked() == []
    story.deployment({"revision": "90ab11c2", "ready": 0})  # it comes up
    assert story.asked() == []
    story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0})
    assert story.asked() == [("3fa94c1b", 1.0)]
    story.deployment(None)
    assert story.asked() == []


def test_a_pod_that_starts_meanwhile_is_asked_too() -> None:
    story = Story()
    story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0})
    found = story.cache.askable()[0][1]
    another = {**found["metadata"], "name": "new", "uid": "new", "resourceVersion": "99"}
    story.store("Pod", another, status=found["status"])
    assert sorted(name for name, _ in story.asked()) == ["3fa94c1b", "new"]


def test_a_window_begins_with_the_first_answers_and_the_next_one_with_what_was_weighed() -> None:
    story = Story()
    story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0})
    assert story.baseline() == {}
    story.answer(10)
    story.answer(20)
    assert story.baseline() == {"3fa94c1b": 10}
    written = story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 1})
    story.cache.weighed(written, {"3fa94c1b": 20})
    story.answer(30)
    assert story.baseline() == {"3fa94c1b": 20}
    story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 2})  # somebody else weighed it
    assert story.baseline() == {}
    story.answer(50)
    assert story.baseline() == {"3fa94c1b": 50}
