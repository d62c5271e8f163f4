"""Every manifest in examples/ is one that the API server takes."""

from pathlib import Path

import pytest
import upstream_kinds
import yaml

from live import ROOT, Kubectl

FOLDERS = sorted((ROOT / "examples").glob("*/kustomization.yaml"))
RESOURCES = {path.parent / name for path in FOLDERS for name in yaml.safe_load(path.read_text())["resources"]}
# What a kustomization brings is asked with it.
FILES = sorted({*(ROOT / "examples").glob("*/*.yaml")} - {*FOLDERS} - RESOURCES)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FOLDERS, ids=shown)
def test_a_folder(kubectl: Kubectl, path: Path) -> None:
    assert kubectl.output("apply", "--dry-run=server", "-k", str(path.parent))


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_file(kubectl: Kubectl, path: Path) -> None:
    # Pods are refused until there is the account that they run as.
    assert kubectl.output("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    for kind in {document["kind"] for document in documents} & set(upstream_kinds.NAMES):
        upstream_kinds.install(kubectl, kind)
    approvers = [made["spec"]["by"] for made in documents if made["kind"] == "ModelApproval"]
    # Who approves says so as the one that is asking: manifests/policies/approval-by.yaml.
    asking = [word for name in approvers for word in ("--as", name, "--as-group", "system:masters")]
    # What has no name of its own is made anew each time.
    verb = "create" if any("generateName" in made["metadata"] for made in documents) else "apply"
    assert kubectl.output(*asking, verb, "--dry-run=server", "-f", str(path))


def test_there_is_a_pipeline_for_each_trigger() -> None:
    found = [yaml.safe_load(path.read_text()) for path in (ROOT / "examples/pipelines").glob("*.yaml")]
    triggers = [trigger for made in found for trigger in made["spec"].get("triggers", ())]
    kinds = {kind for trigger in triggers for kind in trigger if kind != "name"}
    assert kinds == {"schedule", "newVersionOf", "onCondition", "onSpecChange"}
    assert "PipelineRun" in {made["kind"] for made in found}


def test_there_is_one_for_each_strategy() -> None:
    found = [yaml.safe_load(path.read_text()) for path in (ROOT / "examples/rollouts").glob("*.yaml")]
    strategies = {m["spec"]["rollout"]["strategy"] for m in found if m["kind"] == "ModelDeployment"}
    assert strategies == {"RollingUpdate", "Canary", "BlueGreen", "Shadow"}
