"""Pods that serve are asked what they count where drift is declared; a window begins where the one before ended."""

from typing import Any

from serving_pods import KEY, ServingPods

from modelmill.core import tally
from modelmill.core.plan import SetStatus


class Story(ServingPods):
    def deployment(self, declared: dict[str, Any] | None, **status: Any) -> dict[str, Any]:
        monitoring = {"monitoring": {"drift": declared}} if declared is not None else {}
        spec = {"rollout": {"strategy": "Canary"}, **monitoring}
        status = {"stable": {"revision": "3fa94c1b", "ready": 1}, **status}
        return self.store("ModelDeployment", {"name": "triage", "uid": "u"}, spec=spec, status=status)

    def baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the rollout, and of drift."""
        observed = self.observed()
        return dict(observed.baseline), dict(observed.drift_baseline)


CANDIDATE = {"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0}


def test_nobody_is_asked_where_drift_is_not_declared() -> None:
    story = Story()
    story.deployment(None)
    assert story.asked() == []
    story.deployment({"window": "1h"})
    assert story.asked() == [("3fa94c1b", 15.0)]
    story.deployment(None)
    assert story.asked() == []
    assert story.baselines() == ({}, {})


def test_short_windows_are_asked_for_more_often_and_a_rollout_more_often_still() -> None:
    story = Story()
    story.deployment({"window": "12s"})
    assert story.asked() == [("3fa94c1b", 4.0)]
    story.deployment({"window": "1h"}, candidate=CANDIDATE)
    assert story.asked() == [("3fa94c1b", 5.0)]
    ((source, _),) = story.cache.askable()
    assert source.decode is tally.decode
    story.deployment(None, candidate=CANDIDATE)
    ((source, _),) = story.cache.askable()
    assert source.decode is not tally.decode


def test_answers_for_drift_wake_nobody_and_those_for_a_rollout_do() -> None:
    story = Story()
    story.deployment({"window": "1h"})
    assert story.answer(10) == set()
    story.deployment({"window": "1h"}, candidate=CANDIDATE)
    assert story.answer(20) == {KEY}


def test_a_window_begins_where_the_one_before_ended_whatever_the_rollout_does() -> None:
    story = Story()
    story.deployment({"window": "1h"})
    story.answer(10)
    story.answer(20)
    story.deployment({"window": "1h"}, candidate=CANDIDATE)
    assert story.baselines() == ({}, {"3fa94c1b": 10})
    story.answer(30)
    assert story.baselines() == ({"3fa94c1b": 30}, {"3fa94c1b": 10})
    drift = {"profile": "sha256:1", "windows": 1}
    written = story.deployment({"window": "1h"}, candidate=CANDIDATE, drift=drift)
    story.cache.weighed(written, SetStatus({}, drift_baseline={"3fa94c1b": 25}))
    assert story.baselines() == ({"3fa94c1b": 30}, {"3fa94c1b": 25})
    story.deployment({"window": "1h"}, candidate=CANDIDATE, drift={**drift, "windows": 2})  # somebody else compared it
    assert story.baselines() == ({"3fa94c1b": 30}, {})
    assert story.cache.observe(KEY).drift_seconds < 5  # type: ignore[union-attr]


def test_another_revision_begins_another_window() -> None:
    story = Story()
    story.deployment({"window": "1h"})
    story.answer(10)
    story.deployment({"window": "1h"}, stable={"revision": "90ab11c2", "ready": 1})
    assert story.asked() == [("90ab11c2", 15.0)]
    assert story.baselines() == ({}, {})


def test_a_pod_that_is_gone_is_forgotten() -> None:
    story = Story()
    story.deployment({"window": "1h"})
    story.answer(10)
    story.cache.remove("Pod", "team-a", "3fa94c1b")
    assert story.baselines() == ({}, {})
