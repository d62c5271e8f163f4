"""Kinds of other projects in the test's API server: there, or not."""

from go_module import folder_of
from live import Kubectl, eventually

# Where in hack/go/crds' modules they are.
FILES = {
    "HTTPRoute": ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
}
NAMES = {"HTTPRoute": "httproutes.gateway.networking.k8s.io", "ScaledObject": "scaledobjects.keda.sh"}


def install(kubectl: Kubectl, kind: str) -> None:
    """The CRD of that kind, as its project has it, is there and served."""
    module, file = FILES[kind]
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(folder_of("crds", module) / file))
    kubectl.established(NAMES[kind])
    eventually(lambda: kubectl.run("get", NAMES[kind], check=False).returncode == 0, f"{kind} is served")


def remove(kubectl: Kubectl, kind: str) -> None:
    """The API server does not know that kind."""
    kubectl.run("delete", "crd", NAMES[kind], "--ignore-not-found", "--timeout=60s")
    eventually(lambda: kubectl.run("get", NAMES[kind], check=False).returncode != 0, f"{kind} is not served")
