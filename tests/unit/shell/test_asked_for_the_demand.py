"""Pods that serve are asked where the demand decides how many there are, and what counts is what came since."""

from datetime import UTC, datetime
from typing import Any

import pytest
from serving_pods import KEY, ServingPods

from modelmill.core.plan import Measurement

POD = "3fa94c1b"
AT = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = {"revision": "90ab11c2", "ready": 1, "epoch": "e", "windows": 0}


class Scaled(ServingPods):
    def declared(self, autoscaling: dict[str, int] | None, candidate: dict[str, Any] | None = None) -> None:
        spec = {"model": {"name": "triage"}, **({"autoscaling": autoscaling} if autoscaling else {})}
        status = {"stable": {"revision": POD, "ready": 1}, **({"candidate": candidate} if candidate else {})}
        self.store("ModelDeployment", {"name": "triage", "uid": "u"}, spec=spec, status=status)

    def said(self, value: int, asked: float) -> bool:
        """Whether an answer wakes the ModelDeployment."""
        return bool(self.cache.measured("team-a", "u", {POD: Measurement(value, AT, asked)}))

    def known(self) -> tuple[int, int | None]:
        """The last answer, and the one that it is compared with."""
        observed = self.cache.observe(KEY)
        assert observed is not None
        found = observed.measured[POD]
        return found.value, found.before.value if found.before is not None else None


@pytest.fixture
def story() -> Scaled:
    made = Scaled()
    made.declared({"max": 3, "requestsPerSecond": 10})
    return made


def test_the_pods_that_serve_are_asked_every_fifteen_seconds(story: Scaled) -> None:
    assert story.asked() == [(POD, 15.0)]
    story.declared({"max": 3, "requestsPerSecond": 10}, EPOCH)
    assert story.asked() == [(POD, 5.0)]
    story.declared({"max": 3, "cpuPercent": 10})
    assert story.asked() == []


def test_an_answer_is_compared_with_one_of_ten_seconds_before(story: Scaled) -> None:
    story.said(100, 1000.0)
    assert story.known() == (100, None)
    for value, asked, before in ((150, 1005.0, None), (200, 1010.0, 100), (250, 1015.0, 150), (300, 1016.0, 150)):
        story.said(value, asked)
        assert story.known() == (value, before)


def test_what_no_longer_grows_wakes_once_more(story: Scaled) -> None:
    assert story.said(100, 1000.0)
    assert story.said(150, 1015.0)
    assert story.said(150, 1030.0)  # nothing came since
    assert story.known() == (150, 150)
    assert not story.said(150, 1045.0)
    assert story.said(151, 1060.0)


def test_an_answer_is_no_older_than_it_is_though_it_says_nothing_new(story: Scaled) -> None:
    later = AT.replace(hour=1)
    story.said(150, 1000.0)
    story.said(150, 1015.0)
    story.cache.measured("team-a", "u", {POD: Measurement(150, later, 1030.0)})
    observed = story.cache.observe(KEY)
    assert observed is not None
    assert observed.measured[POD].at == later


def test_who_is_not_scaled_by_it_is_compared_with_nothing(story: Scaled) -> None:
    story.declared(None, EPOCH)
    story.said(100, 1000.0)
    story.said(150, 1015.0)
    assert story.known() == (150, None)
    assert not story.said(150, 1030.0)


def test_a_pod_that_is_made_anew_begins_anew(story: Scaled) -> None:
    story.said(100, 1000.0)
    (pod,) = [pod for pod in story.cache.objects("Pod") if pod["metadata"]["name"] == POD]
    story.cache.remove("Pod", "team-a", POD)
    again = {**pod["metadata"], "resourceVersion": "99"}
    story.cache.store("Pod", {**pod, "metadata": again})
    story.said(5, 1015.0)
    assert story.known() == (5, None)
