"""Signatures: where one is required, what nobody signed, or somebody signed wrongly, is refused until it is signed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import gone, namespace, training
from test_first_light import infer

from forwarding import store_outside
from live import ROOT, Kubectl
from modelmill_contracts import signature
from modelmill_contracts.store import Store, signature_key
from modelmill_contracts.task import StoreLocation

VERSION = "triage-1"
ROW = {"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": [1.0] * 30}]}
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, text=True).stdout


def key(folder: Path, name: str) -> tuple[Path, str]:
    """A private key's file, and its public key."""
    path = folder / f"{name}.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(path))
    return path, openssl("pkey", "-in", str(path), "-pubout")


class Person:
    """Somebody with a key, and with access to the store from a machine outside of the cluster."""

    def __init__(self, endpoint: str, keys: dict[str, str]) -> None:
        self._endpoint, self._keys = endpoint, keys

    def sign(self, uri: str, path: Path) -> str:
        """Run `modelmill sign`; what it says."""
        command = [sys.executable, "-m", "modelmill_trainer.command", "sign", uri, "--key", str(path)]
        variables = {**os.environ, **self._keys, "AWS_ENDPOINT_URL": self._endpoint}
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout

    def store(self) -> Store:
        return Store(StoreLocation("s3://models", self._endpoint), self._keys)


@pytest.fixture(scope="module")
def signed(system: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a store, data, and a model that is to be served."""
    kubectl = namespace(system, "signed")
    kubectl.run("create", "configmap", "tumours", f"--from-file={ROOT}/examples/breast-cancer/breast-cancer.csv")
    kubectl.apply_file("examples/breast-cancer/dataset.yaml")
    kubectl.apply_file("examples/breast-cancer/deployment.yaml")
    yield kubectl
    gone(system, kubectl)


@pytest.fixture(scope="module")
def person(signed: Kubectl) -> Iterator[Person]:
    with store_outside(signed) as (endpoint, keys):
        yield Person(endpoint, keys)


def look_again(kubectl: Kubectl) -> None:
    """Do not wait until it is looked again by itself, which may take ten minutes."""
    kubectl.run("delete", "job", f"{VERSION}-verify", "--ignore-not-found")


def test_only_what_is_signed_by_a_key_of_the_workspace_is_ready_and_serves(
    signed: Kubectl, person: Person, tmp_path: Path
) -> None:
    (ana, public), (somebody, _) = key(tmp_path, "ana"), key(tmp_path, "somebody")
    signing = {"required": True, "keys": [{"name": "ana", "publicKey": public}]}
    signed.run("patch", "wsp", "default", "--type=merge", "-p", json.dumps({"spec": {"signing": signing}}))
    signed.apply(training("triage", modelRef={"name": "triage"}))
    signed.wait_for("tjob", "triage", "Succeeded", seconds=180)
    uri = signed.output("get", "mver", VERSION, "-o", "jsonpath={.spec.artifact.uri}")
    digest = signed.output("get", "mver", VERSION, "-o", "jsonpath={.spec.artifact.digest}")

    # Nobody signed it.
    missing = signed.wait_for("mver", VERSION, "Verified", "False", reason="SignatureMissing", seconds=120)
    assert f"modelmill sign {uri}" in missing["message"]
    signed.wait_for("mdep", "triage", "Ready", "False", reason="ModelVersionNotReady")

    # Somebody whose key is not one of the Workspace's did.
    assert person.sign(uri, somebody).startswith("signed: ")
    look_again(signed)
    signed.wait_for("mver", VERSION, "Verified", "False", reason="SignatureMissing", seconds=120)

    # What lies there in ana's name is not hers.
    forged = signature_key(digest, str(signature.fingerprint(public)))
    person.store().put_once(forged, b"forged")
    look_again(signed)
    invalid = signed.wait_for("mver", VERSION, "Verified", "False", reason="SignatureInvalid", seconds=120)
    assert f"delete {forged}" in invalid["message"]
    assert signed.condition("mver", VERSION, "Ready")["status"] == "False"
    assert signed.list("deployments", "modelmill.dev/modeldeployment=triage") == []

    # She signs it.
    person.store().delete(forged)
    assert person.sign(uri, ana).startswith("signed: ")
    look_again(signed)
    signed.wait_for("mver", VERSION, "Verified", reason="SignatureMatches", seconds=120)
    assert signed.output("get", "mver", VERSION, "-o", "jsonpath={.status.signature.key}") == "ana"
    signed.wait_for("mdep", "triage", "Ready", seconds=120)
    assert infer(signed, ROW)["model_version"] == "1"
