"""Deletion at any moment leaves nothing behind but versions and their model, and nothing hangs."""

import pytest
from conftest import OPERATOR, gone, namespace, settled, training

from live import Kubectl, eventually

MADE = "app.kubernetes.io/managed-by=modelmill"


@pytest.mark.parametrize("moment", ["at once", "while it trains", "when it is over"])
def test_a_training_can_be_deleted(team: Kubectl, moment: str) -> None:
    name = f"delete-{moment.rsplit(maxsplit=1)[-1]}"
    team.apply(training(name))
    if moment == "while it trains":
        eventually(lambda: team.get("job", f"{name}-train"), "the Job")
    elif moment == "when it is over":
        team.wait_for("tjob", name, "Succeeded", seconds=120)
    team.run("delete", "tjob", name, "--timeout=30s")
    selector = f"{MADE},modelmill.dev/trainingjob={name}"
    eventually(lambda: not team.list("jobs,pods", selector), "its Job and pods are gone", 60)


@pytest.mark.alone
def test_everything_can_be_deleted_while_no_operator_runs(system: Kubectl) -> None:
    team = namespace(system, "deletion")
    team.apply_folder("examples/breast-cancer")
    team.wait_for("mdep", "triage", "Ready", seconds=180)
    system.run("scale", OPERATOR, "--replicas=0")
    try:
        eventually(lambda: not system.list("pods"), "the operator is gone")
        team.run("delete", "mdep,tjob,dset", "--all", "--timeout=60s")
        eventually(
            lambda: (
                not [
                    item
                    for item in team.list("deployments,services,jobs,pods,networkpolicies", MADE)
                    if not {"modelmill.dev/modelversion", "modelmill.dev/workspace"} & set(item["metadata"]["labels"])
                ]
            ),
            "only what versions and the workspace own is left",
            90,
        )
    finally:
        system.run("scale", OPERATOR, "--replicas=2")
        settled(system)
    left = {line.split("/")[0] for line in team.output("get", "modelmill", "-o", "name").splitlines()}
    assert left == {f"{kind}.modelmill.dev" for kind in ("model", "modelversion", "workspace")}
    gone(system, team)
