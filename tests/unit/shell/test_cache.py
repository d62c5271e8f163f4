"""The cache: who is woken by what, and that old news changes nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Measurement, Settings
from modelmill.shell.cache import Cache, InvalidObjectError


@pytest.fixture
def cache() -> Cache:
    return Cache(CONTROLLERS, Settings("trainer:1", "server:1"))


def manifest(name: str, version: int, uid: str = "u", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "a", "uid": uid, "resourceVersion": str(version), "generation": 1}
    return {"metadata": {**metadata, **fields.pop("metadata", {})}, **fields}


DEPLOYMENT = {"spec": {"model": {"name": "triage"}}}
KEY = ("ModelDeployment", "a", "triage")


def test_an_object_of_ours_wakes_itself(cache: Cache) -> None:
    assert cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT)) == {KEY}


def test_a_new_version_wakes_the_deployments_of_its_model_and_nobody_else(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT))
    cache.store("ModelDeployment", manifest("other", 2, "v", spec={"model": {"name": "other"}}))
    spec = {"modelRef": {"name": "triage"}, "version": 1, "artifact": {"uri": "s3://a/b", "digest": "x"}}
    woken = cache.store("ModelVersion", manifest("triage-1", 3, "w", spec=spec))
    assert woken == {KEY, ("ModelVersion", "a", "triage-1")}


def test_a_child_wakes_its_owner_and_only_when_something_changed_that_is_read(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT))
    labels = {"labels": {"modelmill.dev/owner-uid": "u"}}

    def child(version: int, available: int, heartbeat: str) -> dict[str, Any]:
        status = {"availableReplicas": available, "conditions": [{"type": "Progressing", "lastUpdateTime": heartbeat}]}
        return manifest("triage-1", version, "c", metadata=labels, spec={"replicas": 1}, status=status)

    assert cache.store("Deployment", child(2, 0, "a")) == {KEY}
    assert cache.store("Deployment", child(3, 0, "b")) == set()
    assert cache.store("Deployment", child(4, 1, "b")) == {KEY}
    assert cache.remove("Deployment", "a", "triage-1", "c") == {KEY}


def test_older_news_are_ignored(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 5, **DEPLOYMENT))
    assert cache.store("ModelDeployment", manifest("triage", 4, spec={"model": {"name": "old"}})) == set()
    observed = cache.observe(KEY)
    assert observed is not None
    assert observed.object["spec"] == DEPLOYMENT["spec"]


def test_an_object_that_was_made_anew_is_another_one(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 5, "old", **DEPLOYMENT))
    cache.store("ModelDeployment", manifest("triage", 6, "new", **DEPLOYMENT))
    assert cache.remove("ModelDeployment", "a", "triage", "old") == set()
    assert cache.observe(KEY) is not None


def test_after_a_list_what_it_did_not_show_is_gone(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT))
    cache.store("ModelDeployment", manifest("gone", 2, "g", spec={"model": {"name": "x"}}))
    cache.store("ModelDeployment", manifest("newer", 4, "n", spec={"model": {"name": "x"}}))
    cache.keep_only("ModelDeployment", None, {("a", "triage")}, "3")
    assert cache.observe(("ModelDeployment", "a", "gone")) is None
    assert cache.observe(("ModelDeployment", "a", "newer")) is not None  # made while the list was on its way
    assert cache.observe(KEY) is not None


def test_nothing_is_left_of_an_object_that_is_gone(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT))
    cache.set_foreign(KEY, "Service", "triage", taken=True)
    cache.remove("ModelDeployment", "a", "triage")
    assert len(cache) == 0
    assert cache.foreign(KEY) == frozenset()
    spec = {"modelRef": {"name": "triage"}, "version": 1, "artifact": {"uri": "s3://a/b", "digest": "x"}}
    assert cache.store("ModelVersion", manifest("triage-1", 3, "w", spec=spec)) == {("ModelVersion", "a", "triage-1")}


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"metadata": {}},
        {"metadata": {"name": "x", "namespace": "a", "uid": "u", "resourceVersion": "old"}},
        {"metadata": {"name": "x", "namespace": "a", "resourceVersion": "1"}},
        {"metadata": ["x"]},
        manifest("x", 1, status={"conditions": [1]}),
    ],
)
def test_what_is_no_object_is_refused_and_nothing_of_it_stays(cache: Cache, nonsense: Any) -> None:
    with pytest.raises(InvalidObjectError, match="this is no Deployment"):
        cache.store("Deployment", nonsense)
    assert len(cache) == 0


def test_another_text_for_a_refusal_is_no_news(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, **DEPLOYMENT))
    assert cache.set_refused(KEY, "Deployment", "triage-1", "denied, request 1")
    assert not cache.set_refused(KEY, "Deployment", "triage-1", "denied, request 2")
    observed = cache.observe(KEY)
    assert observed is not None
    assert observed.refused == (("Deployment", "triage-1", "denied, request 2"),)
    assert cache.set_refused(KEY, "Deployment", "triage-1", None)
    assert not cache.set_refused(KEY, "Deployment", "triage-1", None)


def test_a_list_that_began_before_an_object_was_deleted_does_not_bring_it_back(cache: Cache) -> None:
    cache.store("ModelDeployment", manifest("triage", 1, "u", **DEPLOYMENT))
    cache.remove("ModelDeployment", "a", "triage", "u")  # as the watch says, while a list is read
    assert cache.store("ModelDeployment", manifest("triage", 1, "u", **DEPLOYMENT)) == set()
    assert cache.observe(KEY) is None
    assert cache.store("ModelDeployment", manifest("triage", 7, "v", **DEPLOYMENT)) == {KEY}  # another one of that name
    cache.keep_only("ModelDeployment", None, {("a", "triage")}, "7")
    assert not any(cache._gone.values())  # noqa: SLF001 - it does not grow


def test_a_deletion_that_is_told_before_the_object_was_seen_counts(cache: Cache) -> None:
    cache.remove("ModelDeployment", "a", "triage", "u")
    assert cache.store("ModelDeployment", manifest("triage", 1, "u", **DEPLOYMENT)) == set()


def test_a_child_that_was_out_of_sight_without_its_label_is_seen_again(cache: Cache) -> None:
    cache.store("Deployment", manifest("triage-1", 1, "c"))
    cache.remove("Deployment", "a", "triage-1", "c")
    cache.store("Deployment", manifest("triage-1", 2, "c"))
    assert len(cache.objects("Deployment")) == 1


TRAINING = ("TrainingJob", "a", "lr")


def with_pod(cache: Cache, uid: str = "p") -> None:
    cache.store("TrainingJob", manifest("lr", 1, "t", spec={"data": {"datasetRef": {"name": "tumours"}}}))
    cache.store("Pod", manifest(f"lr-{uid}", 2, uid, metadata={"labels": {"modelmill.dev/owner-uid": "t"}}))


def measured(cache: Cache) -> dict[str, Any]:
    observed = cache.observe(TRAINING)
    assert observed is not None
    return {uid: measurement.value for uid, measurement in observed.measured.items()}


def test_what_a_pod_answers_is_seen_and_wakes_its_object_where_it_is_new(cache: Cache) -> None:
    with_pod(cache)
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert measured(cache) == {}
    assert cache.measured("a", "t", {"p": Measurement(1, early)}) == {TRAINING}
    assert cache.measured("a", "t", {"p": Measurement(1, late)}) == set()
    assert cache.measured("a", "t", {"p": Measurement(2, late)}) == {TRAINING}
    assert cache.measured("a", "t", {}) == set()
    assert measured(cache) == {"p": 2}


def test_an_answer_of_a_pod_that_is_gone_or_of_another_object_is_left_out(cache: Cache) -> None:
    with_pod(cache)
    answer = Measurement(1, datetime(2026, 1, 1, tzinfo=UTC))
    assert cache.measured("a", "t", {"former": answer}) == set()
    assert cache.measured("a", "other", {"p": answer}) == set()
    assert cache.measured("b", "t", {"p": answer}) == set()
    cache.measured("a", "t", {"p": answer})
    cache.remove("Pod", "a", "lr-p", "p")
    with_pod(cache, "q")
    assert measured(cache) == {}
