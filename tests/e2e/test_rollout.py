"""A second version takes over under load, and no request is lost; nor when the operator is killed meanwhile."""

import pytest
from conftest import OPERATOR_PODS, last_line, run_script, settled, training

from live import Kubectl, eventually

pytestmark = pytest.mark.alone
EVERY = "modelmill.dev/modeldeployment=triage"


def drained(team: Kubectl, version: int) -> None:
    selector = f"{EVERY},modelmill.dev/version={version}"
    eventually(lambda: not team.list("pods", selector), f"the pods of version {version} are gone", 90)


@pytest.mark.parametrize("kill", [False, True], ids=["operator runs", "operator is killed"])
def test_a_new_version_takes_over_under_load(system: Kubectl, team: Kubectl, kill: bool) -> None:
    before = (team.get("mdep", "triage") or {})["status"]["stable"]["version"]
    name = "killed" if kill else "plain"
    team.run("delete", "pod/load", "configmap/load", "--ignore-not-found")
    run_script(team, "load", "load.py")
    team.run("wait", "--for=condition=Ready", "pod/load", "--timeout=180s")
    team.apply(training(name, modelRef={"name": "triage"}, seed=before + 100))
    if kill:
        for condition in ("Trained", "Succeeded"):
            team.wait_for("tjob", name, condition, seconds=120)
            system.run("delete", "pod", "-l", OPERATOR_PODS, "--grace-period=0", "--force")
            settled(system)
    wanted = before + 1
    eventually(
        lambda: (team.get("mdep", "triage") or {})["status"]["stable"]["version"] == wanted,
        f"version {wanted} serves",
        150,
        lambda: team.describe("mdep", "triage"),
    )
    team.wait_for("mdep", "triage", "Ready")
    drained(team, before)
    team.run("exec", "load", "--", "touch", "/tmp/stop")
    result = last_line(team, "load")
    assert result["lost"] == 0, result
    assert set(result["versions"]) == {str(before), str(wanted)}
    # Numbers grow without gaps or doubles, whatever was killed.
    versions = sorted(v["spec"]["version"] for v in team.list("mver") if v["spec"]["modelRef"]["name"] == "triage")
    assert versions == list(range(1, wanted + 1))


def test_going_back_is_one_field(team: Kubectl) -> None:
    team.run("patch", "mdep", "triage", "--type=merge", "-p", '{"spec": {"model": {"version": 1}}}')
    eventually(lambda: (team.get("mdep", "triage") or {})["status"]["stable"]["version"] == 1, "version 1 serves", 90)
    team.wait_for("mdep", "triage", "Ready")
    team.run("patch", "mdep", "triage", "--type=json", "-p", '[{"op": "remove", "path": "/spec/model/version"}]')
    team.wait_for("mdep", "triage", "Ready", seconds=90)
