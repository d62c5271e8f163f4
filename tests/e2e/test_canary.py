"""A canary is promoted on evidence and a bad one rolled back, under load, and no request is lost."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import deployment, last_line

from live import ROOT, Kubectl, eventually

pytestmark = pytest.mark.alone
NAME = "canary"
ROLLOUT = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "hold": "3s"}, {"weight": 50, "hold": "3s"}],
    "analysis": {"interval": "1s", "minRequests": 50, "errorRate": {"maxIncrease": "0.05"}, "deadline": "10m"},
}
# It is ready, and answers every request with 500.
BAD = """
import http.server, json, sys
class Bad(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self): self.answer(200)
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer(500)
    def answer(self, status):
        body = json.dumps({"name": sys.argv[1], "ready": True, "live": True, "error": "bad"}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Bad).serve_forever()
"""


def canary(**server: Any) -> dict[str, Any]:
    model = {"name": "triage", "version": 1}
    return deployment(NAME, model, replicas=2, rollout=ROLLOUT, revisionHistoryLimit=2, server=server)


def status(team: Kubectl) -> dict[str, Any]:
    return dict((team.get("mdep", NAME) or {})["status"])


@pytest.fixture(scope="module")
def served(team: Kubectl) -> Iterator[Kubectl]:
    """The first deployment, which has no steps, under load."""
    allowed = json.dumps({"spec": {"allow": {"images": ["modelmill/*"]}}})
    team.run("patch", "workspace", "default", "--type=merge", "-p", allowed)
    team.apply(canary())
    team.wait_for("mdep", NAME, "Ready", seconds=120)
    yield team
    team.run("delete", "mdep", NAME)
    team.run("delete", "pod/load", "configmap/load", "--ignore-not-found")


def under_load(team: Kubectl) -> None:
    """The example's load, on this ModelDeployment."""
    folder = ROOT / "examples/breast-cancer"
    team.run("delete", "pod/load", "configmap/load", "--ignore-not-found")
    team.run("create", "configmap", "load", f"--from-file={folder / 'load.py'}")
    text = (folder / "load.yaml").read_text()
    assert "triage" in text
    team.run("apply", "-f", "-", stdin=text.replace("triage", NAME))
    team.run("wait", "--for=condition=Ready", "pod/load", "--timeout=180s")


def nothing_was_lost(team: Kubectl) -> None:
    team.run("exec", "load", "--", "touch", "/tmp/stop")
    result = last_line(team, "load")
    assert result["requests"] > 1000, result
    assert result["lost"] == 0, result


def nothing_is_left(team: Kubectl) -> None:
    eventually(
        lambda: team.get("configmap", f"{NAME}-routes") is None and team.get("service", f"{NAME}-candidate") is None,
        "nothing is left of the rollout",
        120,
        lambda: team.describe("mdep", NAME),
    )


def test_a_bad_candidate_is_rolled_back_and_costs_no_request(served: Kubectl) -> None:
    stable = status(served)["stable"]["revision"]
    under_load(served)
    container = {"image": "modelmill/model-server:dev", "port": 9000, "command": ["python3", "-c", BAD, NAME]}
    served.apply(canary(container=container))
    eventually(
        lambda: status(served).get("rolledBack"), "it is rolled back", 150, lambda: served.describe("mdep", NAME)
    )
    found = status(served)
    assert found["rolledBack"]["reason"] == "EvidenceAgainst"
    assert found["rolledBack"]["revision"] != stable == found["stable"]["revision"]
    assert next(c for c in found["conditions"] if c["type"] == "RolledBack")["status"] == "True"
    nothing_is_left(served)
    nothing_was_lost(served)


def test_a_good_candidate_is_promoted_on_evidence_and_costs_no_request(served: Kubectl) -> None:
    stable = status(served)["stable"]["revision"]
    under_load(served)
    served.apply(canary(resources={"requests": {"cpu": "110m"}}))
    weights = set[int]()

    def promoted() -> bool:
        found = status(served)
        weights.add((found.get("candidate") or {}).get("weight") or 0)
        return bool(found["stable"]["revision"] != stable)

    eventually(promoted, "it is promoted", 240, lambda: served.describe("mdep", NAME))
    assert {20, 50} <= weights
    served.wait_for("mdep", NAME, "Ready")
    nothing_is_left(served)
    nothing_was_lost(served)
