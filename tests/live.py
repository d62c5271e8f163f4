"""A real cluster for tests: kubectl with one kubeconfig, and waiting that says what it saw."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
API_VERSION = "modelmill.dev/v1alpha1"


def kubeconfig(name: str) -> str:
    """The kubeconfig of a local cluster that is up; a clear failure where it is not."""
    command = [str(ROOT / "hack/cluster"), "kubeconfig", "--name", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def kubectl_program() -> str:
    """The user's own kubectl, or the one that came with the cluster."""
    if found := shutil.which("kubectl"):
        return found
    sys.path.append(str(ROOT / "hack"))
    from local_cluster.kubectl import ensure_kubectl

    return str(ensure_kubectl())


class Kubectl:
    """kubectl in one namespace of one cluster."""

    def __init__(self, config: str, namespace: str = "default") -> None:
        self.config = config
        self.namespace = namespace

    def run(self, *words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [kubectl_program(), "--kubeconfig", self.config, "--namespace", self.namespace, *words]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
        if check and result.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(words)}: {result.stderr.strip()}")
        return result

    def output(self, *words: str) -> str:
        return self.run(*words).stdout.strip()

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        documents = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(documents))

    def apply_file(self, path: str) -> None:
        self.run("apply", "-f", str(ROOT / path))

    def apply_folder(self, path: str) -> None:
        self.run("apply", "-k", str(ROOT / path))

    def refused(self, manifest: Mapping[str, Any]) -> str:
        """What the API server says against this manifest; "" where it takes it."""
        document = json.dumps(manifest)
        result = self.run("create", "--dry-run=server", "-f", "-", stdin=document, check=False)
        return "" if result.returncode == 0 else result.stderr

    def user(self) -> str:
        """Who asks, as the API server knows it."""
        return self.output("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        result = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(result.stdout) if result.stdout.strip() else None

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        words = ["get", kind, "-o", "json", *(["-l", selector] if selector else [])]
        found: list[dict[str, Any]] = json.loads(self.run(*words).stdout)["items"]
        return found

    def condition(self, kind: str, name: str, type_: str) -> dict[str, Any]:
        """A condition of an object for its present generation; {} where it does not say."""
        found = self.get(kind, name) or {}
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == type_:
                current = condition.get("observedGeneration", 0) == found["metadata"]["generation"]
                return dict(condition) if current else {}
        return {}

    def wait_for(
        self, kind: str, name: str, type_: str, status: str = "True", *, reason: str | None = None, seconds: float = 90
    ) -> dict[str, Any]:
        """Wait until the condition has this status (and reason)."""
        wanted = f"{kind}/{name} {type_}={status}" + (f" {reason}" if reason else "")

        def look() -> dict[str, Any] | None:
            condition = self.condition(kind, name, type_)
            good = condition.get("status") == status and reason in (None, condition.get("reason"))
            return condition if good else None

        return eventually(look, wanted, seconds, lambda: self.describe(kind, name))

    def established(self, *selection: str) -> None:
        """Wait until these CRDs are served; `kubectl wait` fails where one has no status yet."""

        def look() -> bool:
            found = json.loads(self.output("get", "crd", "-o", "json", *selection))
            statuses = [crd.get("status") or {} for crd in found.get("items", [found])]
            told = [{c["type"]: c["status"] for c in status.get("conditions") or []} for status in statuses]
            return bool(told) and all(conditions.get("Established") == "True" for conditions in told)

        eventually(look, f"crd {' '.join(selection)} established")

    def describe(self, kind: str, name: str) -> str:
        status = (self.get(kind, name) or {}).get("status")
        return json.dumps(status, indent=1) + "\n" + self.run("get", "pods,jobs,events", check=False).stdout


def eventually(
    look: Callable[[], Any], wanted: str, seconds: float = 60, explain: Callable[[], str] = lambda: ""
) -> Any:
    """The first true answer of `look`; a failure that says what was wanted and what is, after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {wanted}\n{explain()}")
        time.sleep(0.25)


def environment(config: str) -> dict[str, str]:
    """The environment of a program that is to use this cluster."""
    return {**os.environ, "KUBECONFIG": config}
