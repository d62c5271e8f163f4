"""A real cluster for tests: kubectl with one kubeconfig, and waiting that says what it saw."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from urllib3.exceptions import HTTPError

ROOT = Path(__file__).parents[1]
API_VERSION = "modelmill.dev/v1alpha1"
# How many times as long as on an idle machine something may take before it is said to hang.  More than one where tests
# share their nodes with each other: pods wait until others have ended.
patience = 1.0


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


@dataclass(frozen=True)
class Resource:
    """A kind, as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str) -> str:
        root = "apis" if "/" in self.api_version else "api"
        within = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"/{root}/{self.api_version}{within}/{self.plural}"


class Client:
    """Asks one API server, through a connection that stays open.

    Tests look several times a second until something is so, and write hundreds of objects: to start kubectl for each
    takes more CPU than what is asked.
    """

    def __init__(self, kubeconfig: str) -> None:
        from kubernetes.config import new_client_from_config  # not every test takes the second that this takes

        self._client = new_client_from_config(kubeconfig)
        self._resources: dict[str, tuple[Resource, ...]] = {}
        self._learning = threading.Lock()

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """The object; None where there is none."""
        (resource,) = self.resources(kind)
        return self._asked(f"{resource.path(namespace)}/{name}")

    def list(self, kinds: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects of these kinds, which stand between commas; each with its kind and version, as kubectl has it."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        found: list[dict[str, Any]] = []
        for resource in chain.from_iterable(map(self.resources, kinds.split(","))):
            about = {"apiVersion": resource.api_version, "kind": resource.kind}
            answer = self._asked(resource.path(namespace) + query)
            assert answer is not None, f"the API server has no {resource.plural} any more"
            found += [about | item for item in answer["items"]]
        return found

    def apply(self, manifest: Mapping[str, Any], namespace: str) -> None:
        """As `kubectl apply --server-side --force-conflicts` does it."""
        metadata = manifest["metadata"]
        resource = self._of(manifest)
        path = f"{resource.path(metadata.get('namespace', namespace))}/{metadata['name']}"
        query = urlencode({"fieldManager": "kubectl", "force": "true", "fieldValidation": "Strict"})
        self._written("PATCH", f"{path}?{query}", manifest, "application/apply-patch+yaml")

    def create(self, manifest: Mapping[str, Any], namespace: str = "") -> None:
        resource = self._of(manifest)
        self._written("POST", resource.path(namespace), manifest)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Ask for it; it may stay until its finalizers are through."""
        (resource,) = self.resources(kind)
        self._written("DELETE", f"{resource.path(namespace)}/{name}", {"propagationPolicy": "Background"})

    def patch_status(self, kind: str, name: str, status: Mapping[str, Any], namespace: str) -> None:
        """Lay this over the object's status; nothing happens where there is no object any more."""
        (resource,) = self.resources(kind)
        path = f"{resource.path(namespace)}/{name}/status?fieldManager=test"
        self._written("PATCH", path, {"status": status}, "application/merge-patch+json", missing=True)

    def _of(self, manifest: Mapping[str, Any]) -> Resource:
        group, _, _ = manifest["apiVersion"].rpartition("/")
        (resource,) = self.resources(f"{manifest['kind']}.{group}" if group else manifest["kind"])
        return replace(resource, api_version=manifest["apiVersion"])

    def resources(self, kind: str) -> tuple[Resource, ...]:
        """By any name that kubectl knows a kind or a category by; what is not known may be new."""
        with self._learning:
            if kind.lower() not in self._resources:
                self._resources = self._discovered()
            assert kind.lower() in self._resources, f"the API server has no kind {kind}"
            return self._resources[kind.lower()]

    def _discovered(self) -> dict[str, tuple[Resource, ...]]:
        kinds: dict[str, tuple[Resource, ...]] = {}
        categories: dict[str, tuple[Resource, ...]] = {}
        groups = (self._asked("/apis") or {})["groups"]
        for version in ("v1", *(group["preferredVersion"]["groupVersion"] for group in groups)):
            root, group = ("apis", f".{version.partition('/')[0]}") if "/" in version else ("api", "")
            for entry in (self._asked(f"/{root}/{version}") or {"resources": []})["resources"]:
                if "/" in entry["name"]:
                    continue
                resource = Resource(version, entry["kind"], entry["name"], entry["namespaced"])
                names = {entry["name"], entry["singularName"], entry["kind"].lower(), *entry.get("shortNames", ())}
                for name in (*names, entry["name"] + group, entry["kind"].lower() + group):
                    kinds.setdefault(name, (resource,))  # the first that has a name has it, as with kubectl
                for name in entry.get("categories", ()):
                    categories[name] = (*categories.get(name, ()), resource)
        return categories | kinds

    def _asked(self, path: str) -> dict[str, Any] | None:
        """The answer; None where there is nothing."""
        status, text = self._answer("GET", path)
        if status == 404:
            return None
        assert status == 200, f"GET {path}: {status} {text}"
        found: dict[str, Any] = json.loads(text)
        return found

    def _written(
        self, method: str, path: str, body: Mapping[str, Any], type_: str = "application/json", *, missing: bool = False
    ) -> None:
        """`missing`: that there is nothing is no failure."""
        status, text = self._answer(method, path, json.dumps(body), type_)
        assert status < 300 or (missing and status == 404), f"{method} {path}: {status} {text}"

    def _answer(self, method: str, path: str, body: str | None = None, type_: str | None = None) -> tuple[int, str]:
        configuration = self._client.configuration
        headers = {"accept": "application/json"} | ({"content-type": type_} if type_ else {})
        headers |= {each["key"]: each["value"] for each in configuration.auth_settings().values()}
        try:
            answer = self._client.rest_client.pool_manager.request(
                method, configuration.host + path, body=body, headers=headers, timeout=60
            )
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error}") from error
        return answer.status, answer.data.decode()


@cache
def client(kubeconfig: str) -> Client:
    return Client(kubeconfig)


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
        for manifest in manifests:
            client(self.config).apply(manifest, self.namespace)

    def patch_status(self, kind: str, name: str, status: Mapping[str, Any]) -> None:
        client(self.config).patch_status(kind, name, status, self.namespace)

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
        return client(self.config).get(kind, name, self.namespace)

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return client(self.config).list(kind, self.namespace, selector)

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
    """The first true answer of `look`; a failure that says what was wanted and what is, after so many seconds.

    The seconds are those of an idle machine, see `patience`.
    """
    seconds *= patience
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
