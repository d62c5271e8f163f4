"""A life of one namespace, step by step, with everything that the operator does in it.

The users are played, and so are kubelet, the Job and Deployment controllers and the garbage collector, through the
API: where Kubernetes' own controllers sleep meanwhile (`control_plane.asleep`), what happens is the same each time.
"""

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from msgspec.structs import replace

from modelmill.api.schema import API_VERSION
from modelmill.core import conditions
from modelmill.core.conditions import timestamp
from modelmill.core.jobs import TASK_ANNOTATION
from modelmill.core.resources import CHILDREN, OWN, TYPES, Manifest, ResourceType
from modelmill.core.serving import VERSION_LABEL
from modelmill.shell.api import Api, ApiError
from modelmill.shell.cache import Cache
from modelmill_contracts import digest, report

ARTIFACT, SNAPSHOT = "sha256:" + "1" * 64, "sha256:" + "2" * 64
URI = "s3://models/artifacts/x"
_MERGE = "application/merge-patch+json"
_REPORTS: dict[str, report.Result] = {  # by the end of the Job's name
    "preflight": report.PreflightResult(("write", "read", "delete")),
    "data": report.SnapshotResult(SNAPSHOT, SNAPSHOT, 569, 31),
    "train": report.TrainingResult(SNAPSHOT, ARTIFACT, URI, "onnx", (report.Metric("roc_auc", "0.99"),)),
    "verify": report.VerificationResult(ARTIFACT, (), (), 100),
}
_GO = ("ModelDeployment", "ModelVersion")  # kinds that are deleted in this life, and their children with them
_CHILDREN = ("Job", "Deployment", "Service", "NetworkPolicy", "ConfigMap")
SHOWN = (*(resource.kind for resource in OWN), *_CHILDREN)


class View:
    """What exists in the namespace."""

    def __init__(self, objects: Iterable[tuple[str, dict[str, Any]]]) -> None:
        self.objects = {(kind, manifest["metadata"]["name"]): manifest for kind, manifest in objects}

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [manifest for (kind_, _), manifest in self.objects.items() if kind_ == kind]

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((kind, name))

    def says(self, kind: str, name: str, condition: str) -> bool:
        """Whether the condition is True for the object's present spec."""
        found = self.get(kind, name)
        return found is not None and conditions.is_true(found, condition)

    def serves(self, version: int, replicas: int) -> bool:
        """Whether this version serves with so many pods, as it is declared, and nothing else has any."""
        return self.says("ModelDeployment", "triage", "Ready") and self.serves_whatever_is_declared(version, replicas)

    def serves_whatever_is_declared(self, version: int, replicas: int) -> bool:
        """Whether it does, though something else may be declared."""
        stable = ((self.get("ModelDeployment", "triage") or {}).get("status") or {}).get("stable") or {}
        asked = {d["metadata"]["name"].rpartition("-")[2]: d["spec"]["replicas"] for d in self.all("Deployment")}
        busy = {revision: number for revision, number in asked.items() if number}
        return stable.get("version") == version and busy == {stable["revision"]: replicas}


class Step(NamedTuple):
    """What a user does, and what must come of it."""

    story: str
    act: Callable[[], Awaitable[None]]
    done: Callable[[View], bool]
    pods_end: bool = True  # False: nobody plays kubelet meanwhile


class Life:
    """One namespace."""

    begins: ClassVar[int] = 0  # the number of the first step in which the operator is killed

    def __init__(self, api: Api, namespace: str, now: Callable[[], datetime]) -> None:
        self._api = api
        self.namespace = namespace
        self._now = now
        self.changed = set[str]()  # kinds of which something was written here; who looks at them may clear it
        # What was seen, where whoever else writes says so by `forget`; else each look is one at the API server.
        self.remembered: dict[str, list[dict[str, Any]]] | None = None

    # What there is.

    async def view(self, kinds: tuple[str, ...] = SHOWN) -> View:
        return View([(kind, manifest) for kind in kinds for manifest in await self._list(TYPES[kind])])

    def forget(self, kind: str) -> None:
        """Something of that kind was written."""
        if self.remembered is not None:
            self.remembered.pop(kind, None)

    def _writes(self, kind: str) -> None:
        self.changed.add(kind)
        self.forget(kind)

    async def _list(self, resource: ResourceType) -> list[dict[str, Any]]:
        if self.remembered is None:
            return await self._listed(resource)
        if resource.kind not in self.remembered:
            self.remembered[resource.kind] = await self._listed(resource)
        return self.remembered[resource.kind]

    async def _listed(self, resource: ResourceType) -> list[dict[str, Any]]:
        answer = await self._send("GET", resource.path(self.namespace))
        # Each namespace has a ConfigMap of Kubernetes' own.
        found: list[dict[str, Any]] = [m for m in answer["items"] if m["metadata"]["name"] != "kube-root-ca.crt"]
        return found

    async def _send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        answer = await self._api.request(
            method, path, verb="play", kind="any", body=body, content_type=content_type, params={"fieldManager": "user"}
        )
        async with answer:
            return json.loads(await answer.read())

    async def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self._writes(kind)
        await self._send("POST", TYPES[kind].path(self.namespace), body)

    async def patch(self, kind: str, name: str, change: Any, subresource: str | None = None) -> None:
        self._writes(kind)
        await self._send("PATCH", TYPES[kind].path(self.namespace, name, subresource), change, _MERGE)

    async def delete(self, kind: str, name: str) -> None:
        self._writes(kind)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        await self._send("DELETE", TYPES[kind].path(self.namespace, name), options | {"gracePeriodSeconds": 0})

    async def begin(self) -> None:
        """The namespace as the life begins: empty, and ready for pods."""
        namespaces = "/api/v1/namespaces"
        await self._ensure(namespaces, "Namespace", self.namespace)
        await self._ensure(f"{namespaces}/{self.namespace}/serviceaccounts", "ServiceAccount", "default")
        for resource in (*OWN, *CHILDREN):
            for manifest in await self._list(resource) if resource.kind != "Event" else ():
                await self.delete(resource.kind, manifest["metadata"]["name"])

    async def _ensure(self, path: str, kind: str, name: str) -> None:
        try:
            await self._send("POST", path, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
        except ApiError as error:
            if error.code != 409:
                raise

    # What kubelet and the controllers of Kubernetes do.

    async def play(self) -> bool:
        """Everything that they have to do now; whether that was anything."""
        view = await self.view((*_GO, *_CHILDREN))
        uids = {manifest["metadata"]["uid"] for kind in _GO for manifest in view.all(kind)}
        acted = False
        for (kind, name), manifest in view.objects.items():
            owners = manifest["metadata"].get("ownerReferences", ())
            if any(owner["kind"] in _GO and owner["uid"] not in uids for owner in owners):
                await self.delete(kind, name)
            elif kind == "Job" and not (manifest.get("status") or {}).get("conditions"):
                await self._end_job(manifest)
            elif kind == "Deployment" and _unscaled(manifest):
                number = manifest["spec"]["replicas"]
                status = {"replicas": number, "readyReplicas": number, "availableReplicas": number}
                status["observedGeneration"] = manifest["metadata"]["generation"]
                await self.patch(kind, name, {"status": status}, "status")
            else:
                continue
            acted = True
        return acted

    async def _end_job(self, job: Manifest) -> None:
        """The Job's pod ends well with its report, and the Job is complete."""
        name, now = job["metadata"]["name"], timestamp(self._now())
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        template = job["spec"]["template"]
        labels = template["metadata"]["labels"]
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner | {"controller": True}]}
        said = report.Report(True, "Done", result=self.result(name))
        terminated = {
            "exitCode": 0,
            "reason": "Completed",
            "message": report.encode(said).decode(),
            "startedAt": now,
            "finishedAt": now,
        }
        container = {"name": "trainer", "state": {"terminated": terminated}, "image": "i", "imageID": "i"}
        container |= {"ready": False, "restartCount": 0}
        ended = {"status": {"phase": "Succeeded", "containerStatuses": [container]}}
        if any(pod["metadata"]["name"] == name for pod in await self._list(TYPES["Pod"])):
            await self.delete("Pod", name)  # of a former Job
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await self._send("POST", TYPES["Pod"].path(self.namespace), pod)
        await self.patch("Pod", name, ended, "status")
        complete = [
            {"type": type_, "status": "True", "reason": "Done", "message": "", "lastTransitionTime": now}
            for type_ in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "terminating": 0}
        if job["spec"].get("completionMode") == "Indexed":
            status["completedIndexes"] = "0"  # the first one of several pods is enough
        await self.patch("Job", name, {"status": status | {"conditions": complete}}, "status")

    def result(self, job: str) -> report.Result:
        """What the pod of the Job of that name answers; no two trainings are by the same recipe."""
        found = _REPORTS[job.rpartition("-")[2]]
        return replace(found, recipe=digest.of_json(job)) if isinstance(found, report.TrainingResult) else found

    def answer(self, cache: Cache) -> None:
        """What pods answer that are asked how they are doing: here nothing."""

    # What users do.

    async def pod(self, name: str, labels: Mapping[str, str]) -> None:
        """A pod that no node runs."""
        container = {"name": "server", "image": "i"}
        spec = {"containers": [container], "automountServiceAccountToken": False}
        self._writes("Pod")
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        await self._send("POST", TYPES["Pod"].path(self.namespace), body)

    def steps(self) -> tuple[Step, ...]:
        return (
            Step("the store is declared", self.store, lambda v: v.says("Workspace", "default", "Ready")),
            Step("data is declared", self.data, lambda v: v.get("Job", "tumours-data") is not None, pods_end=False),
            Step(
                "it is declared anew while it is read",
                lambda: self.patch("Dataset", "tumours", {"spec": {"source": {"configMapRef": {"key": "new.csv"}}}}),
                lambda v: "new.csv" in json.dumps(v.get("Job", "tumours-data")),
                pods_end=False,
            ),
            Step("a run and a deployment wait for it", self._run, lambda v: v.serves(1, 2)),
            Step(
                "two more runs end at once, and version 1 is to stay",
                self._two_runs,
                lambda v: all(v.says("ModelVersion", f"triage-{n}", "Ready") for n in (1, 2, 3)) and v.serves(1, 2),
            ),
            Step("the newest version is to serve", self._newest, lambda v: v.serves(3, 2)),
            Step(
                "it is to have more memory, and the oldest revision is one too many",
                self._memory,
                lambda v: v.serves(3, 2) and len(v.all("Deployment")) == 2,
            ),
            Step(
                "the model is to keep one version",
                lambda: self.patch("Model", "triage", {"spec": {"versionHistoryLimit": 1}}),
                lambda v: len(((v.get("Model", "triage") or {}).get("status") or {}).get("retiring", ())) == 2,
            ),
            Step("ten minutes pass", self._long_ago, lambda v: len(v.all("ModelVersion")) == 1 and v.serves(3, 2)),
            Step("there are to be more pods, and somebody edits the Service", self._edits, self._mended),
            Step(
                "the deployment is deleted and made anew at once",
                self._anew,
                lambda v: v.serves(3, 1) and len(v.all("Deployment")) == 1,
            ),
            Step(
                "the deployment is deleted",
                lambda: self.delete("ModelDeployment", "triage"),
                lambda v: not v.all("Deployment") and v.get("Service", "triage") is None,
            ),
        )

    async def store(self) -> None:
        store = {"uri": "s3://models", "endpoint": "http://store:7070", "secretRef": {"name": "store"}}
        await self.create("Workspace", "default", {"store": store})

    async def data(self) -> None:
        await self.create("Dataset", "tumours", {"source": {"configMapRef": {"name": "tumours", "key": "old.csv"}}})

    async def _run(self) -> None:
        await self.train("run-a")
        await self.create("ModelDeployment", "triage", self._deployment(replicas=2))

    def _deployment(self, **more: Any) -> dict[str, Any]:
        return {"model": {"name": "triage"}, "revisionHistoryLimit": 1, **more}

    async def train(self, name: str, **more: Any) -> None:
        spec = {
            "workers": 1,
            **more,
            "modelRef": {"name": "triage"},
            "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
            "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
        }
        await self.create("TrainingJob", name, spec)

    async def _two_runs(self) -> None:
        await self.patch("ModelDeployment", "triage", {"spec": {"model": {"version": 1}}})
        await self.train("run-b", workers=2)
        await self.train("run-c", workers=2)  # the two change places in some lives: they are to be alike

    async def _newest(self) -> None:
        await self.patch("ModelDeployment", "triage", {"spec": {"model": {"version": None}}})

    async def _memory(self) -> None:
        resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
        await self.patch("ModelDeployment", "triage", {"spec": {"server": {"resources": resources}}})

    async def _long_ago(self) -> None:
        """What is to go was written down long ago."""
        (model,) = (await self.view(("Model",))).all("Model")
        retiring = [{**entry, "since": "2026-01-01T00:00:00Z"} for entry in model["status"]["retiring"]]
        self._writes("Model")
        # As the operator itself: of a list that two managers have a part in, server-side apply leaves null.
        metadata = {"name": "triage", "namespace": self.namespace}
        status = {**model["status"], "retiring": retiring}
        written = {"apiVersion": API_VERSION, "kind": "Model", "metadata": metadata, "status": status}
        await self._api.apply(TYPES["Model"], written, "status")

    async def _edits(self) -> None:
        await self.patch("ModelDeployment", "triage", {"spec": {"replicas": 3}})
        ports = [{"name": "http", "port": 80, "targetPort": 9999}]
        await self.patch("Service", "triage", {"spec": {"ports": ports}})

    def _mended(self, view: View) -> bool:
        service = view.get("Service", "triage")
        return view.serves(3, 3) and service is not None and service["spec"]["ports"][0]["targetPort"] != 9999

    async def _anew(self) -> None:
        await self.delete("ModelDeployment", "triage")
        await self.create("ModelDeployment", "triage", self._deployment())


def _unscaled(deployment: Manifest) -> bool:
    return bool((deployment.get("status") or {}).get("availableReplicas", 0) != deployment["spec"]["replicas"])


# What a life came to, to be compared with another one's.

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_REVISION = re.compile(r"^triage-[0-9a-f]{8}$")
_RUN = re.compile(r"^triage-code-[0-9a-f]{8}")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEPT = ("name", "labels", "annotations", "generation", "ownerReferences")


def picture(view: View, namespace: str) -> dict[str, Any]:
    """What exists, without what is another in each life: UIDs and what is named by them, times, addresses, and who of
    two runs was first."""
    names = _names(view, namespace)
    kept = {}
    for (kind, name), manifest in view.objects.items():
        metadata = {key: manifest["metadata"][key] for key in _KEPT if key in manifest["metadata"]}
        spec = dict(manifest.get("spec") or {})
        for address in ("clusterIP", "clusterIPs"):
            spec.pop(address, None)
        kept[f"{kind}/{name}"] = {"metadata": metadata, "spec": spec, "status": manifest.get("status")}
        if "data" in manifest:
            kept[f"{kind}/{name}"]["data"] = manifest["data"]
    text = _TIME.sub("TIME", json.dumps(kept))
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, json.dumps(names[name])[1:-1])
    result: dict[str, Any] = json.loads(_UID.sub("UID of what is gone", text))
    return result


def _names(view: View, namespace: str) -> dict[str, str]:
    """What is another in each life, and what it is."""
    names = {namespace: "NAMESPACE"}
    for (kind, name), manifest in view.objects.items():
        names[manifest["metadata"]["uid"]] = f"UID of {kind} {name}"
        if kind == "Service" and manifest["spec"].get("clusterIP", "None") != "None":
            names[manifest["spec"]["clusterIP"]] = f"address of {name}"
        if kind == "TrainingJob" and (manifest.get("status") or {}).get("modelVersion"):
            names[name] = f"run of {manifest['status']['modelVersion']}"
        if kind == "PipelineRun":
            names[name] = f"run for {manifest['spec']['cause']['key']}"
        if kind == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            names[name.rpartition("-")[2]] = f"{manifest['metadata']['labels'][VERSION_LABEL]} {container['resources']}"
        if (kind, name) == ("Job", "default-collect"):  # the digest of a task that names the Workspace's UID
            names[manifest["metadata"]["annotations"][TASK_ANNOTATION]] = "task of the collection"
    for deployment in view.all("ModelDeployment"):
        for former in (deployment.get("status") or {}).get("history", ()):
            names.setdefault(former["revision"], f"revision of version {former['version']}")
    return names


def once(objects: Iterable[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """How often objects (kind, name) were created or deleted; the names of revisions and of runs for a cause are others
    in each life."""
    return Counter(
        (kind, "triage-REVISION" if _REVISION.match(name) else _RUN.sub("triage-code-RUN", name))
        for kind, name in objects
    )


def revisions(objects: Iterable[tuple[str, str]]) -> list[str]:
    """The Deployments among them: each must be there once."""
    return [name for kind, name in objects if kind == "Deployment"]


def differences(mine: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where two pictures differ."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted(mine.keys() | theirs.keys()):
            yield from differences(mine.get(key), theirs.get(key), f"{path}.{key}")
    elif mine != theirs:
        yield f"{path}: {json.dumps(mine)} instead of {json.dumps(theirs)}"
