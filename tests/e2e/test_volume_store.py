"""A store that is a volume, of a PersistentVolumeClaim that pods share, and a source on another one: no credentials."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import dataset, gone, namespace

from live import API_VERSION, Kubectl, eventually

ROOM = {"requests": {"storage": "1Gi"}}
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
POD = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}


def claim(name: str, mode: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": [mode], "resources": ROOM, **spec},
    }


def in_volume(kubectl: Kubectl, name: str, script: str) -> str:
    """What a shell in a pod that mounts the claim `lake` at /mnt says."""
    container = {
        "name": "shell",
        "image": "modelmill/trainer:dev",
        "command": ["sh", "-ec", script],
        "securityContext": SECURE,
        "volumeMounts": [{"name": "lake", "mountPath": "/mnt"}],
    }
    volume = {"name": "lake", "persistentVolumeClaim": {"claimName": "lake"}}
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD,
        "containers": [container],
        "volumes": [volume],
    }
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    kubectl.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=180s")
    said = kubectl.output("logs", name)
    kubectl.run("delete", "pod", name, "--wait=false")
    return said


@pytest.fixture(scope="module")
def volume(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with the claims `lake`, of the default StorageClass, and `models`, which is a folder of it.

    The default class of a local cluster gives volumes to one node only (ReadWriteOnce).  On one node a folder can be
    declared to be shared as well: that is `models`.
    """
    kubectl = namespace(system, "volume", store=False)
    kubectl.apply(claim("lake", "ReadWriteOnce"))
    in_volume(kubectl, "write", "mkdir -m 0777 /mnt/shared; printf 'id,age\\n1,40\\n2,50\\n' > /mnt/visits.csv")
    bound = (kubectl.get("pvc", "lake") or {})["spec"]["volumeName"]
    source = (kubectl.get("pv", bound) or {})["spec"]
    path = (source.get("hostPath") or source["local"])["path"]
    shared = f"{kubectl.namespace}-models"
    spec = {
        "accessModes": ["ReadWriteMany"],
        "capacity": ROOM["requests"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"{path}/shared", "type": "Directory"},
        "nodeAffinity": source["nodeAffinity"],
    }
    kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": shared}, "spec": spec})
    try:
        yield kubectl
    finally:
        gone(system, kubectl)
        system.run("delete", "pv", shared)


def workspace(uri: str) -> dict[str, Any]:
    spec = {"store": {"uri": uri}}
    return {"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": "default"}, "spec": spec}


def test_a_claim_that_gets_no_volume_says_which_storage_class_is_missing(volume: Kubectl) -> None:
    volume.apply(claim("elsewhere", "ReadWriteMany", storageClassName="no-such-class"), workspace("pvc://elsewhere"))
    ready = volume.wait_for("workspace", "default", "Ready", "False", reason="ClaimPending")
    assert ready["message"].startswith(
        "PersistentVolumeClaim elsewhere is Pending: StorageClass no-such-class gives it no volume; see that this"
        " StorageClass exists and its provisioner runs"
    )
    assert volume.condition("workspace", "default", "Stalled")["status"] == "True"
    volume.apply(workspace("pvc://lake"))
    volume.wait_for("workspace", "default", "Ready", "False", reason="ClaimNotShared")
    volume.run("delete", "pvc", "elsewhere", "--wait=false")


def test_a_model_is_trained_and_served_from_a_volume(volume: Kubectl) -> None:
    bound = {"storageClassName": "", "volumeName": f"{volume.namespace}-models"}
    volume.apply(claim("models", "ReadWriteMany", **bound), workspace("pvc://models/team/a"))
    volume.wait_for("workspace", "default", "Ready", seconds=120)
    volume.apply_folder("examples/breast-cancer")
    volume.wait_for("modeldeployment", "triage", "Ready", seconds=240)
    (version,) = volume.list("modelversion")
    assert version["spec"]["artifact"]["uri"].startswith("file:///mnt/store/team/a/artifacts/sha256-")
    told = (volume.get("dset", "tumours") or {})["status"]
    found = in_volume(volume, "look", "cd /mnt/shared/team/a; find . -type f").split()
    assert f"./blobs/{told['history'][0]['file'].replace(':', '-')}" in found
    assert any(name.startswith("./artifacts/") and name.endswith("/manifest.json") for name in found)
    # Whoever needs no more than to read cannot write.
    (pod, *_) = volume.list("pods", "modelmill.dev/modeldeployment=triage")
    assert "secretKeyRef" not in json.dumps(pod["spec"])


def test_a_source_on_a_volume_is_read_again_when_it_was_written(volume: Kubectl) -> None:
    volume.apply(dataset("visits", source={"uri": "pvc://lake/visits.csv"}))
    volume.wait_for("dset", "visits", "Ready", seconds=120)
    first = (volume.get("dset", "visits") or {})["status"]
    assert (first["rows"], first.get("modifiedAt") is not None) == (2, True)
    in_volume(volume, "append", "printf '3,60\\n' >> /mnt/visits.csv")
    volume.run("annotate", "dset", "visits", "modelmill.dev/refresh=a-row-more")
    eventually(lambda: (volume.get("dset", "visits") or {})["status"]["rows"] == 3, "the new row is seen", 90)
    versions = [each["version"] for each in (volume.get("dset", "visits") or {})["status"]["history"]]
    assert versions[1:] == [first["version"]]
    assert versions[0] != first["version"]
