"""The core as it ships, in everything that can happen to it: nothing unsafe, and convergence from everywhere."""

import gc
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from modelcheck.cluster import Weakness
from modelcheck.search import Explorer, Report
from modelcheck.systems import collection, mirror, systems
from modelmill.core import admission
from modelmill_contracts import task

STATES = 1_000_000  # for each kind, by `make modelcheck`
PART, AT_LEAST = 40, 4_000  # one in so many of them by `make test`, but no fewer for each system
SHARE = {
    "Model": 700_000,
    "Model: same recipe": 100_000,
    "Model: retirement": 200_000,
    "Model: retirement by two": 20_000,
    "ModelDeployment: rollout": 400_000,
    "ModelDeployment: loss": 250_000,
    "ModelDeployment: withdrawal": 150_000,
    "ModelDeployment: canary": 80_000,
    "ModelDeployment: canary and loss": 40_000,
    "ModelDeployment: two replicas": 15_000,
    "ModelDeployment: copies": 20_000,
    "ModelDeployment: canary and withdrawal": 20_000,
    "ModelDeployment: canary and Prometheus": 20_000,
    "ModelDeployment: every rollout ends": 20_000,
    "ModelDeployment: scaled by requests": 30_000,
    "ModelDeployment: scaled by CPU": 30_000,
    "ModelDeployment: drift": 30_000,
    "ModelDeployment: quality": 60_000,
    "ModelVersion": 500_000,
    "ModelVersion: approval": 200_000,
    "ModelVersion: tests": 300_000,
    "Dataset": 600_000,
    "Dataset: refresh": 200_000,
    "Dataset: derived": 100_000,
    "Dataset: captured": 100_000,
    "Dataset: two replicas": 100_000,
    "TrainingJob": 600_000,
    "TrainingJob: another store": 50_000,
    "TrainingJob: queue": 100_000,
    "TrainingJob: queue by rank": 50_000,
    "TrainingJob: workers": 50_000,
    "TrainingJob: reproduction": 150_000,
    "Workspace": 800_000,
    "Workspace: collection": 200_000,
    "Workspace: mirror": 100_000,
    "Pipeline: Forbid": STATES // 3 + 1,
    "Pipeline: Replace": STATES // 3 + 1,
    "Pipeline: Queue": STATES // 3 + 1,
}  # of systems that share a kind


def _explored(name: str, most: int) -> Report:
    gc.disable()  # millions of states, and nothing that refers to itself
    return Explorer(systems()[name]).explore(most, lambda text: print(f"    ... {text}", file=sys.stderr, flush=True))


def _weakened(number: int) -> Report:
    weakness, name, _ = WEAKENED[number]
    gc.disable()
    return Explorer(systems()[name], weakness).explore(200_000)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """As many searches at a time as there are cores."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)  # those that no test that was selected waits for


def states(name: str) -> int:
    return SHARE.get(name, STATES)


def part(name: str) -> int:
    """What `make test` explores, as it is to end soon."""
    return max(states(name) // PART, AT_LEAST)


@pytest.fixture(scope="module")
def reports(pool: ProcessPoolExecutor) -> dict[str, Future[Report]]:
    """Every system's report, of a part of the states."""
    return {name: pool.submit(_explored, name, part(name)) for name in systems()}


@pytest.fixture(scope="module")
def longer_reports(pool: ProcessPoolExecutor) -> dict[str, Future[Report]]:
    return {name: pool.submit(_explored, name, states(name)) for name in systems()}


@pytest.fixture(scope="module")
def weakened(pool: ProcessPoolExecutor) -> list[Future[Report]]:
    """The report for each of WEAKENED."""
    return [pool.submit(_weakened, number) for number in range(len(WEAKENED))]


def _is_good(report: Report, least: int) -> None:
    print(report.line(), file=sys.stderr)
    assert report.violation is None, report.told()
    assert report.complete or report.states >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", systems())
def test_a_part_of_the_states_is_safe_and_converges(name: str, reports: dict[str, Future[Report]]) -> None:
    _is_good(reports[name].result(), part(name))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", systems())
def test_a_million_states_are_safe_and_converge(name: str, longer_reports: dict[str, Future[Report]]) -> None:
    _is_good(longer_reports[name].result(), states(name))


NO_GUARD_OF = {
    kind: Weakness(guards=lambda guard, kind=kind: guard.kind == kind)
    for kind in ("Deployment", "Service", "ModelVersion", "ModelDeployment", "TrainingJob")
}
NO_GUARD_THAT = {
    words: Weakness(guards=lambda guard, words=words: words in guard.meaning)
    for words in (
        "has no artifact", "was compared", "are gone", "is suspended", "is as it was read",
        "is gone", "reaches", "says weight", "send nothing to revision", "send nothing but to", "told of no candidate",
        "in status.retiring", "status.quality of",
    )
}  # fmt: skip
WEAKENED = [
    (
        NO_GUARD_OF["Deployment"],
        "ModelDeployment: rollout",
        "the Service leaves ready pods for a revision that has none",
    ),
    (NO_GUARD_OF["Service"], "ModelDeployment: rollout", "the revision that the Service selects loses its pods"),
    (
        NO_GUARD_OF["Deployment"],
        "ModelDeployment: canary",
        "pods are told to send requests to what has no ready pod",
    ),
    (
        NO_GUARD_THAT["send nothing to revision"],
        "ModelDeployment: canary",
        "a revision loses its pods while other pods send it requests",
    ),
    (
        NO_GUARD_THAT["reaches"],
        "ModelDeployment: canary and loss",
        "pods are told to send requests to a way that leads elsewhere",
    ),
    (
        NO_GUARD_THAT["says weight"],
        "ModelDeployment: two replicas",
        "pods are told of a weight that was not written down",
    ),
    (
        NO_GUARD_THAT["send nothing but to"],
        "ModelDeployment: two replicas",
        "the way to the candidate leads elsewhere while pods go it",
    ),
    (
        NO_GUARD_THAT["told of no candidate"],
        "ModelDeployment: two replicas",
        "the way to the candidate is taken away while pods go it",
    ),
    (
        NO_GUARD_THAT["is gone"],
        "ModelDeployment: scaled by CPU",
        "an autoscaler is there and not wanted, or wanted and not there",
    ),
    (Weakness(version_preconditions=False), "ModelDeployment: canary", "it takes over without a verdict"),
    (Weakness(version_preconditions=False), "ModelDeployment: drift", "what was counted before is counted again"),
    (
        Weakness(version_preconditions=False),
        "ModelDeployment: quality",
        "a window is counted twice, or not at all",
    ),
    (NO_GUARD_THAT["status.quality of"], "ModelDeployment: quality", "what was counted is measured again"),
    (NO_GUARD_OF["ModelDeployment"], "Model: retirement", "what is served or named is deleted"),
    (NO_GUARD_OF["ModelVersion"], "Model: retirement", "what is tested, or compared with, is deleted"),
    (NO_GUARD_OF["TrainingJob"], "Model: retirement", "what is trained again is deleted"),
    (NO_GUARD_THAT["is as it was read"], "Model: retirement", "a version is deleted though all are to stay"),
    (NO_GUARD_THAT["in status.retiring"], "Model: retirement by two", "a version is deleted that was not said to go"),
    (NO_GUARD_THAT["has no artifact"], "TrainingJob", "what was trained is trained again"),
    (NO_GUARD_THAT["is as it was read"], "Experiment", "a trial is made while the search is suspended"),
    (NO_GUARD_THAT["was compared"], "TrainingJob: reproduction", "what ended is trained again"),
    (
        NO_GUARD_THAT["are gone"],
        "TrainingJob: reproduction",
        "a second run that ended well is thrown away",
    ),
    (NO_GUARD_THAT["are gone"], "TrainingJob", "a training that ended well is thrown away"),
    (NO_GUARD_THAT["is suspended"], "TrainingJob", "a training that ended well is thrown away"),
    (
        NO_GUARD_THAT["is as it was read"],
        "Dataset: two replicas",
        "a Job that does what is declared is thrown away",
    ),
    (
        NO_GUARD_THAT["is as it was read"],
        "TrainingJob: queue",
        "first starts, and was not admitted",
    ),
    (Weakness(version_preconditions=False), "Dataset: refresh", "the last valid version is forgotten"),
    (Weakness(create_only=False), "Workspace: collection", "somebody else's Job default-collect is changed"),
    (Weakness(uid_preconditions=False), "Workspace", "somebody else's Job default-preflight is changed"),
    (Weakness(version_preconditions=False), "ModelVersion", "a version that was verified is not Ready any more"),
    (Weakness(version_preconditions=False), "ModelVersion: approval", "it is forgotten that there was an approval"),
    (Weakness(version_preconditions=False), "ModelVersion: tests", "an answer is forgotten"),
    (Weakness(version_preconditions=False), "Dataset", "the last valid version is forgotten"),
    (Weakness(version_preconditions=False), "TrainingJob", "status.artifact of forest changes after it was said"),
    (Weakness(version_preconditions=False), "Model", "status.artifact of forest changes after it was said"),
    (Weakness(create_only=False), "ModelDeployment: loss", "somebody else's Service triage is changed"),
    (Weakness(create_only=False), "Dataset", "somebody else's Job tumours-data is changed"),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(WEAKENED)), ids=[f"{name}: {wrong}" for _, name, wrong in WEAKENED])
def test_each_precaution_is_needed(number: int, weakened: list[Future[Report]]) -> None:
    report = weakened[number].result()
    assert report.violation == WEAKENED[number][2], report.line()


@pytest.mark.slow
@pytest.mark.parametrize("name", systems())
def test_equal_facts_give_equal_plans(name: str) -> None:
    explorer = Explorer(systems()[name], Weakness(memory=False))
    assert explorer.explore(3_000).violation is None
    assert explorer.cluster.differing is None


def test_a_violation_is_told_as_a_story() -> None:
    report = Explorer(systems()["ModelDeployment: rollout"], NO_GUARD_OF["Deployment"]).explore(10_000)
    assert report.story[-2:] == (
        "a pod of triage-e41f7c58 is not ready any more",
        'it applies Service triage {"modelmill.dev/modeldeployment": "triage", "modelmill.dev/revision": "e41f7c58"}',
    )
    assert report.told().startswith(
        "ModelDeployment: rollout: the Service leaves ready pods for a revision that has none\n"
    )


def test_without_aging_what_has_no_rank_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_rank_alone(created: str, rank: int | None) -> str:
        return f"{99 if rank is None else rank:02} {created}"

    monkeypatch.setattr(admission, "turn_of", by_rank_alone)
    report = Explorer(systems()["TrainingJob: queue by rank"]).explore(100)
    assert report.violation == "it never comes to rest, however long one helps", report.line()


def at_once(blobs: collection.Blobs, work: task.CollectTask) -> collection.Blobs:
    """A collection that sets nothing aside."""
    keep = {digest[-1] for digest in work.keep}
    old = {letter for letter, (_, since) in blobs.items() if collection.is_old(since, work.now)}
    return {letter: blob for letter, blob in blobs.items() if letter in keep or letter not in old}


def of_any_age(blobs: collection.Blobs, work: task.CollectTask) -> collection.Blobs:
    """A collection that sets aside what was written a moment ago, and does not wait before it deletes."""
    keep = {digest[-1] for digest in work.keep}
    left = {letter: blob for letter, blob in blobs.items() if letter in keep or blob[0] == "blobs"}
    return {letter: blob if letter in keep else ("trash", work.now) for letter, blob in left.items()}


@pytest.mark.parametrize("wrong", [at_once, of_any_age])
def test_a_collection_in_one_pass_loses_what_is_referred_to(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "collected", wrong)
    report = Explorer(systems()["Workspace: collection"]).explore(20_000)
    assert report.violation is not None
    assert report.violation.endswith(", which a history refers to, is gone"), report.line()


def without_a_look(runs: Counter[str], work: task.MirrorTask) -> Counter[str]:
    """A mirror that makes every run that it is told of."""
    return runs + Counter(run.uid for run in work.runs)


def test_a_mirror_that_does_not_look_first_shows_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "shown", without_a_look)
    report = Explorer(systems()["Workspace: mirror"]).explore(20_000)
    assert report.violation is not None
    assert report.violation.endswith(" is in MLflow twice"), report.line()
