"""Pods come with requests and go again, also while a version is rolled out, and no request is lost."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import deployment, last_line

from live import ROOT, Kubectl, eventually

pytestmark = pytest.mark.alone
NAME = "scaled"
MOST = 3
ROLLOUT = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "hold": "3s"}, {"weight": 60, "hold": "Manual"}],
    "analysis": {"interval": "1s", "minRequests": 50, "errorRate": {"maxIncrease": "0.05"}, "deadline": "10m"},
}


def scaled(each: int, **server: Any) -> dict[str, Any]:
    """One pod for so many requests a second."""
    autoscaling = {"min": 1, "max": MOST, "requestsPerSecond": each, "scaleDownAfter": "20s"}
    model = {"name": "triage", "version": 1}
    return deployment(NAME, model, autoscaling=autoscaling, rollout=ROLLOUT, server=server, revisionHistoryLimit=1)


def pods(team: Kubectl) -> dict[str, int]:
    """The available pods of each revision that is to have some."""
    found = team.list("deployments", f"modelmill.dev/modeldeployment={NAME}")
    return {
        d["metadata"]["name"].removeprefix(f"{NAME}-"): d["status"].get("availableReplicas", 0)
        for d in found
        if d["spec"]["replicas"]
    }


def status(team: Kubectl) -> dict[str, Any]:
    return dict((team.get("mdep", NAME) or {})["status"])


@pytest.fixture
def load(team: Kubectl) -> Iterator[Kubectl]:
    """One pod serves, and clients ask without a pause."""
    team.apply(scaled(1_000_000))
    team.wait_for("mdep", NAME, "Ready", seconds=120)
    folder = ROOT / "examples/breast-cancer"
    team.run("create", "configmap", "load", f"--from-file={folder / 'load.py'}")
    team.run("apply", "-f", "-", stdin=(folder / "load.yaml").read_text().replace("triage", NAME))
    team.run("wait", "--for=condition=Ready", "pod/load", "--timeout=180s")
    yield team
    team.run("delete", "pod/load", "configmap/load", f"mdep/{NAME}", "--ignore-not-found")


def test_pods_follow_requests_and_a_candidates_its_share_and_nothing_is_lost(load: Kubectl) -> None:
    team = load
    team.wait_for("mdep", NAME, "ScalingActive", reason="RequestsCounted", seconds=60)
    assert list(pods(team).values()) == [1]

    team.apply(scaled(20))  # the clients ask for far more than three times that
    eventually(lambda: list(pods(team).values()) == [MOST], "three pods", 90, lambda: json.dumps(status(team)))
    (stable,) = pods(team)

    team.apply(scaled(20, resources={"requests": {"cpu": "101m"}}))
    seen: set[int] = set()

    def share() -> bool:
        seen.update(count for revision, count in pods(team).items() if revision != stable)
        candidate = status(team).get("candidate") or {}
        return candidate.get("weight") == 60 and candidate.get("ready") == 2

    eventually(share, "two of three pods for 60 %", 120, lambda: json.dumps(status(team)))
    assert max(seen) == 2
    assert pods(team)[stable] == MOST
    candidate = status(team)["candidate"]["revision"]
    team.run("annotate", f"mdep/{NAME}", f"modelmill.dev/action=promote@{candidate}")
    eventually(lambda: pods(team) == {candidate: MOST}, "it took over with three pods", 120, lambda: str(pods(team)))

    team.apply(scaled(1_000_000, resources={"requests": {"cpu": "101m"}}))
    eventually(lambda: pods(team) == {candidate: 1}, "one pod", 180, lambda: json.dumps(status(team)))
    assert (team.get("mdep", NAME) or {})["spec"]["replicas"] == 1  # the user's, and never written

    team.run("exec", "load", "--", "touch", "/tmp/stop")
    result = last_line(team, "load")
    assert result["requests"] > 1000, result
    assert result["lost"] == 0, result
