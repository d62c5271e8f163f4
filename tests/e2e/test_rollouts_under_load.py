"""Whatever a candidate does, and whatever happens to the others meanwhile, no caller notices.

The same at 100,000 requests each is `python -m tests.bench.campaign`.
"""

from collections.abc import Iterator

import pytest
from conftest import settled

import node_processes
from live import Kubectl
from rollouts_under_load import LONG, NAME, SHORT, WAYS, Result, Stage

pytestmark = pytest.mark.alone
RATE, CONNECTIONS = 300, 4


@pytest.fixture(scope="module")
def stage(system: Kubectl, team: Kubectl) -> Iterator[Stage]:
    made = Stage(system, team)
    if not node_processes.has_node(system.config):
        pytest.skip("the node's processes are not this machine's")
    made.serve()
    yield made
    team.run("delete", "mdep", NAME)
    team.run("delete", "pod/load", "configmap/load", "--ignore-not-found")
    settled(system)


def assert_unnoticed(seen: Result, least: int = 1_000) -> None:
    assert (seen.lost, seen.refused) == (0, 0), seen.first
    assert seen.requests > least


@pytest.mark.parametrize("way", WAYS)
def test_a_candidate_that_begins_to_misbehave_is_rolled_back(stage: Stage, way: str) -> None:
    with stage.load(RATE, CONNECTIONS) as seen:
        stage.bad(way, steps=[{"weight": 50, "hold": "10m"}])
        stage.begun()
        ended = stage.misbehaves()
    assert_unnoticed(seen())
    assert ended.reason == "EvidenceAgainst"
    # One that crashes is started again, and does not fail each request.
    assert way == "crash" or ended.windows <= 2 or ended.requests < 50 * ended.windows
    stage.back()


def test_a_candidate_that_crashes_at_start_changes_nothing(stage: Stage) -> None:
    with stage.load(RATE, CONNECTIONS, least=2_000) as seen:
        stage.bad("crash", at_once=True)
        stage.team.wait_for("mdep", NAME, "Stalled", reason="ContainerFailed", seconds=90)
        assert stage.weight() == 0
    assert_unnoticed(seen())
    stage.back()


def test_what_happens_to_others_during_a_rollout_costs_nothing(stage: Stage) -> None:
    with stage.load(RATE, CONNECTIONS) as seen:
        stage.good(LONG)
        stage.begun()
        stage.stable_pod_is_deleted()
        node_processes.restart(stage.system.config, "kube-proxy")
        for number in range(3):
            stage.operator_is_killed(number)
        assert stage.weight() == 10
        stage.ask("promote")
        stage.promoted()
    assert_unnoticed(seen())


def test_a_stable_server_that_is_killed_costs_at_most_its_requests_in_flight(stage: Stage) -> None:
    with stage.load(RATE, CONNECTIONS) as seen:
        stage.good(SHORT)
        stage.begun(1)
        stage.stable_server_is_killed()
        stage.promoted()
    assert seen().lost <= CONNECTIONS, seen().first
