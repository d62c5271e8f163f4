"""Pods that serve are asked what they count where somebody asks for service levels, and as seldom as that takes."""

from typing import Any

from serving_pods import ServingPods

from modelmill.core.plan import SetStatus

LEVELS = {"source": "usecase/triage", "window": "1h", "since": "2026-01-01T00:00:00Z"}
CANDIDATE = {"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0}


class Levels(ServingPods):
    def measured(self, levels: dict[str, Any] | None, candidate: dict[str, Any] | None = None) -> dict[str, Any]:
        status: dict[str, Any] = {"stable": {"revision": "3fa94c1b", "ready": 1}}
        status |= {"serviceLevels": levels} if levels else {}
        status |= {"candidate": candidate} if candidate else {}
        spec = {"rollout": {"strategy": "Canary", "analysis": {"interval": "3s"}}}
        return self.store("ModelDeployment", {"name": "triage", "uid": "u"}, spec=spec, status=status)

    def begun(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the steps of a rollout, and of service levels, began with."""
        observed = self.observed()
        return dict(observed.baseline), dict(observed.levels)


def test_who_does_not_ask_is_told_nothing() -> None:
    story = Levels()
    story.measured(None)
    assert story.asked() == []
    story.measured(LEVELS)
    assert story.asked() == [("3fa94c1b", 60.0)]
    story.measured(None)
    assert story.asked() == []


def test_a_short_window_is_asked_for_more_often_and_a_rollout_most_of_all() -> None:
    story = Levels()
    story.measured({**LEVELS, "window": "5m"})
    assert [(name, round(every, 2)) for name, every in story.asked()] == [("3fa94c1b", 8.33)]
    story.measured(LEVELS, CANDIDATE)
    assert story.asked() == [("3fa94c1b", 1.0)]


def test_the_windows_of_both_go_on_by_themselves() -> None:
    story = Levels()
    story.measured(LEVELS)
    story.answer(10)
    story.measured(LEVELS, CANDIDATE)
    story.answer(20)
    assert story.begun() == ({"3fa94c1b": 20}, {"3fa94c1b": 10})
    written = story.measured(LEVELS, {**CANDIDATE, "windows": 1})
    story.cache.weighed(written, SetStatus({}, baseline={"3fa94c1b": 30}))
    assert story.begun() == ({"3fa94c1b": 30}, {"3fa94c1b": 10})
    written = story.measured({**LEVELS, "since": "2026-01-01T00:05:00Z"}, {**CANDIDATE, "windows": 1})
    story.cache.weighed(written, SetStatus({}, levels={"3fa94c1b": 40}))
    assert story.begun() == ({"3fa94c1b": 30}, {"3fa94c1b": 40})


def test_a_step_that_somebody_else_wrote_down_begins_with_what_pods_answer_from_then_on() -> None:
    story = Levels()
    story.measured(LEVELS)
    story.answer(10)
    story.measured({**LEVELS, "since": "2026-01-01T00:05:00Z"})
    assert story.begun() == ({}, {})
    story.answer(70)
    assert story.begun() == ({}, {"3fa94c1b": 70})


def test_a_pod_that_is_gone_is_forgotten() -> None:
    story = Levels()
    story.measured(LEVELS)
    story.answer(10)
    story.cache.remove("Pod", "team-a", "3fa94c1b", "3fa94c1b")
    assert story.begun() == ({}, {})
