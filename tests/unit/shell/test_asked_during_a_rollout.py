"""Pods that serve are asked what they count only while another revision is rolled out, and only those."""

from typing import Any

from serving_pods import ServingPods

from modelmill.core.plan import SetStatus


class Story(ServingPods):
    def deployment(self, candidate: dict[str, Any] | None) -> dict[str, Any]:
        rollout = {"strategy": "Canary", "analysis": {"interval": "3s"}}
        status = {"stable": {"revision": "3fa94c1b", "ready": 1}, **({"candidate": candidate} if candidate else {})}
        return self.store("ModelDeployment", {"name": "triage", "uid": "u"}, spec={"rollout": rollout}, status=status)

    def baseline(self) -> dict[str, Any]:
        return dict(self.observed().baseline)


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
    story.cache.weighed(written, SetStatus({}, baseline={"3fa94c1b": 20}))
    story.answer(30)
    assert story.baseline() == {"3fa94c1b": 20}
    story.deployment({"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 2})  # somebody else weighed it
    assert story.baseline() == {}
    story.answer(50)
    assert story.baseline() == {"3fa94c1b": 50}
