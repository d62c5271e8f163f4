"""Isolation: what manifests/ runs is admitted where only restricted pods are, and its NetworkPolicies mean what the
evaluator says."""

import json
from typing import Any

import pytest
import yaml
from conftest import LEASE_NAMESPACE

from live import ROOT, Kubectl
from networkpolicy_cases import REFUSED, TAKEN

RESTRICTED = "pod-security.kubernetes.io/enforce"


def templates(folder: str) -> list[dict[str, Any]]:
    """The pod templates of everything in a folder of manifests/, rendered as it is applied."""
    rendered = Kubectl("/dev/null").output("kustomize", str(ROOT / "manifests" / folder))
    return [
        document["spec"]["template"]
        for document in yaml.safe_load_all(rendered)
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job")
    ]


def refusal(kubectl: Kubectl, spec: dict[str, Any]) -> str:
    """What the API server says against a pod; the service account is left out, as it is not in this namespace."""
    spec = {key: value for key, value in spec.items() if key != "serviceAccountName"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked"}, "spec": spec}
    return kubectl.refused(manifest)


@pytest.mark.parametrize("folder", ["operator", "store", "namespaced"])
def test_what_is_installed_is_admitted_among_restricted_pods(kubectl: Kubectl, folder: str) -> None:
    kubectl.run("label", "namespace", kubectl.namespace, f"{RESTRICTED}=restricted")
    found = templates(folder)
    assert found
    for template in found:
        assert refusal(kubectl, template["spec"]) == ""
        root = json.loads(json.dumps(template["spec"]))
        root["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        assert "violates PodSecurity" in refusal(kubectl, root)


def test_the_operators_own_namespace_admits_only_restricted_pods(installed: Kubectl) -> None:
    namespace = installed.get("namespace", LEASE_NAMESPACE)
    assert namespace is not None
    assert namespace["metadata"]["labels"][RESTRICTED] == "restricted"


def network_policy(spec: dict[str, Any]) -> dict[str, Any]:
    api = "networking.k8s.io/v1"
    return {"apiVersion": api, "kind": "NetworkPolicy", "metadata": {"name": "asked"}, "spec": spec}


def test_the_api_server_takes_and_refuses_the_network_policies_that_the_evaluator_does(kubectl: Kubectl) -> None:
    for name, spec in TAKEN.items():
        assert kubectl.refused(network_policy(spec)) == "", name
    for name, spec in REFUSED.items():
        assert kubectl.refused(network_policy(spec)), name
