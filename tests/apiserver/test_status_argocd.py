"""Our health checks join what the ConfigMap of Argo CD has; test_status_contract.py asks what they say."""

import json

from conftest import StatusReaders
from recording import PLURALS

from live import Kubectl


def test_the_health_checks_of_all_kinds_join_the_settings_that_are_there(
    kubectl: Kubectl, status_readers: StatusReaders
) -> None:
    kubectl.run("create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example.org")
    ours = json.loads(status_readers.health_checks.read_text())
    assert ours["metadata"].pop("namespace") == "argocd"
    kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(ours))
    found = kubectl.get("configmap", "argocd-cm")
    assert found is not None
    checks = {f"resource.customizations.health.modelmill.dev_{kind}" for kind in PLURALS}
    assert set(found["data"]) == {"url", *checks}
