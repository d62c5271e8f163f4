"""Retention: a version that somebody refers to stays in the history, and others go by their number."""

from typing import Any

import experiments
import pytest
from world import World, digest_of, training_spec, version_spec, with_store

from modelmill.api.dataset import MAX_HISTORY
from modelmill.core import retention
from modelmill.core.retention import Snapshot
from modelmill_contracts import report

SOURCE = {"source": {"uri": "s3://lake/a.csv"}, "versionHistoryLimit": 2}


def look(world: World, letter: str, name: str = "tumours") -> None:
    """Somebody asks for a look, which finds this."""
    live = world.get("Dataset", name)
    metadata = {**live["metadata"], "annotations": {"modelmill.dev/refresh": letter}}
    world.store("Dataset", name, {**live, "metadata": metadata})
    world.reconcile("Dataset", name)
    result = report.SnapshotResult(digest_of(letter), digest_of(letter), 10, 2)
    world.end_job(f"{name}-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", name)


def listed(world: World) -> str:
    """The versions in the history, each as its letter."""
    world.reconcile("Dataset", "tumours")
    return "".join(h["version"][-1] for h in world.get("Dataset", "tumours")["status"]["history"])


def with_versions(letters: str, **spec: Any) -> World:
    world = with_store(World())
    world.put("Dataset", "tumours", spec={**SOURCE, **spec})
    for letter in letters:
        look(world, letter)
    return world


def test_the_newest_stay() -> None:
    assert listed(with_versions("abcd")) == "dc"


def test_a_smaller_limit_counts_at_once() -> None:
    world = with_versions("abc", versionHistoryLimit=3)
    world.put("Dataset", "tumours", spec={**SOURCE, "versionHistoryLimit": 1})
    assert listed(world) == "c"


def model_version(name: str, letter: str, number: int) -> dict[str, Any]:
    lineage = {"dataset": {"name": name, "version": digest_of(letter)}}
    return {**version_spec(number), "lineage": lineage}


def test_what_a_model_was_trained_on_stays_until_the_model_goes() -> None:
    world = with_versions("ab")
    world.put("ModelVersion", "triage-1", spec=model_version("tumours", "a", 1))
    world.put("ModelVersion", "triage-2", spec=model_version("others", "b", 2))
    look(world, "c")
    look(world, "d")
    assert listed(world) == "dca"
    world.remove("ModelVersion", "triage-1")
    assert listed(world) == "dc"


def test_what_an_experiment_has_pinned_stays_until_its_trials_are_gone() -> None:
    world = with_versions("ab")
    world.put("Experiment", "search", spec=experiments.spec(), status={"datasetVersion": digest_of("a")})
    look(world, "c")
    look(world, "d")
    assert listed(world) == "dca"
    ended = [{"type": "Succeeded", "status": "True", "reason": "SearchEnded", "message": ""}]
    status: dict[str, Any] = {"datasetVersion": digest_of("a"), "conditions": ended}
    world.store("Experiment", "search", {**world.get("Experiment", "search"), "status": status})
    assert listed(world) == "dca"  # it may go on, or promote its best trial
    status["expired"] = True
    world.store("Experiment", "search", {**world.get("Experiment", "search"), "status": status})
    assert listed(world) == "dc"


@pytest.mark.parametrize("how", ["named", "pinned"])
def test_what_a_training_uses_stays_until_it_has_ended(how: str) -> None:
    world = with_versions("ab")
    data = training_spec()["data"]
    named = {"version": digest_of("a")} if how == "named" else {}
    status = {"datasetVersion": digest_of("a")} if how == "pinned" else {}
    world.put("TrainingJob", "lr", spec=training_spec(data={**data, **named}), status=status)
    look(world, "c")
    look(world, "d")
    assert listed(world) == "dca"
    for type_ in ("Succeeded", "Failed"):
        condition = {"type": type_, "status": "True", "reason": "Ended", "message": "", "lastTransitionTime": ""}
        live = world.get("TrainingJob", "lr")
        world.store("TrainingJob", "lr", {**live, "status": {**status, "conditions": [condition]}})
        assert listed(world) == "dc"
        world.store("TrainingJob", "lr", live)


def test_what_others_are_derived_from_stays_as_long_as_they_list_it() -> None:
    world = with_versions("a")
    derive = {"from": [{"name": "tumours"}], "sql": "select * from tumours"}
    world.put("Dataset", "clean", spec={"source": {"derive": derive}, "versionHistoryLimit": 2})
    look(world, "1", "clean")
    for letter, derived in (("b", "2"), ("c", "2"), ("d", "2")):
        look(world, letter)
        look(world, derived, "clean")
    assert listed(world) == "dca"  # b gave what c and d give
    world.put("Dataset", "clean", spec=SOURCE)  # its versions are still made of these
    look(world, "3", "clean")
    assert listed(world) == "dc"


def test_more_than_a_status_holds_is_left_out_from_the_oldest() -> None:
    versions = tuple(Snapshot(f"sha256:{number:064}", "f", 1, "", None, None, (), None) for number in range(300))
    referred = frozenset(v.version for v in versions[50:])
    assert retention.kept(versions, referred, 100) == versions[:MAX_HISTORY]
    assert retention.kept(versions, frozenset(), 100) == versions[:100]
