"""A small world for the core: objects, the cache that shows them, and writes that take effect at once.

It is no Kubernetes: nothing defaults, validates or schedules.  Tests say themselves what pods and Jobs do.
"""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelmill.core import pods
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import (
    Apply,
    Create,
    Delete,
    Guards,
    Listed,
    Measurement,
    NoPods,
    Observed,
    Plan,
    Record,
    SetStatus,
    Settings,
    is_owned,
)
from modelmill.core.resources import OWNER_LABEL, TYPES, dig
from modelmill.shell.cache import Cache
from modelmill_contracts import report

NAMESPACE = "team-a"
START = datetime(2026, 1, 1, tzinfo=UTC)
API_VERSION = "modelmill.dev/v1alpha1"


class World:
    """What exists, and the time."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings("trainer:1", "server:1")
        self.now = START
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[Record] = []
        self.foreign: set[tuple[str, str]] = set()
        self.refused: dict[tuple[str, str], str] = {}  # children that the API server does not want
        self.answers: dict[str, Measurement] = {}  # of pods, by UID
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)

    # What users and Kubernetes do.

    def put(self, kind: str, name: str, **fields: Any) -> dict[str, Any]:
        """Create an object or replace its spec, with everything that the API server would add."""
        known = self.objects.get((kind, name))
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": known["metadata"]["uid"] if known else f"uid-{next(self._uids)}",
            "generation": known["metadata"]["generation"] + 1 if known else 1,
            "creationTimestamp": known["metadata"]["creationTimestamp"] if known else _timestamp(self.now),
            **fields.pop("metadata", {}),
        }
        manifest = {"kind": kind, **({"status": known["status"]} if known and "status" in known else {}), **fields}
        return self.store(kind, name, {**manifest, "metadata": metadata})

    def remove(self, kind: str, name: str) -> None:
        """Delete an object and what it owns."""
        uid = self.objects.pop((kind, name))["metadata"]["uid"]
        owned = [
            key
            for key, manifest in self.objects.items()
            if any(r["uid"] == uid for r in manifest["metadata"].get("ownerReferences", ()))
        ]
        for key in owned:
            if key in self.objects:
                self.remove(*key)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.objects[kind, name]

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self.objects

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str]:
        """(status, reason) of a condition."""
        found = next(c for c in self.get(kind, name)["status"]["conditions"] if c["type"] == type_)
        return found["status"], found["reason"]

    def message(self, kind: str, name: str, type_: str) -> str:
        found = next(c for c in self.get(kind, name)["status"]["conditions"] if c["type"] == type_)
        return str(found["message"])

    def told(self, kind: str, name: str) -> list[str]:
        """Every condition as one line, as a person reads them."""
        return [
            f"{c['type']} {c['status']} {c['reason']}" + (f": {c['message']}" if c["message"] else "")
            for c in self.get(kind, name)["status"]["conditions"]
        ]

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def end_job(self, name: str, said: report.Report | None, *, reason: str = "", exit_reason: str = "") -> None:
        """The Job's pod ended with this report; the Job says so."""
        job = self.get("Job", name)
        ok = said is not None and said.ok
        message = report.encode(said).decode() if said is not None else ""
        self.pod_of_job(
            name,
            containerStatuses=[
                {
                    "name": "trainer",
                    "state": {
                        "terminated": {"exitCode": 0 if ok else 1, "reason": exit_reason or None, "message": message}
                    },
                }
            ],
        )
        condition = {
            "type": "Complete" if ok else "Failed",
            "status": "True",
            "reason": reason or ("CompletionsReached" if ok else "PodFailurePolicy"),
            "lastTransitionTime": _timestamp(self.now),
        }
        self.store("Job", name, {**job, "status": {"conditions": [condition]}})

    def pod_of_job(self, name: str, **status: Any) -> None:
        job = self.get("Job", name)
        labels = dig(job, "spec", "template", "metadata", "labels")
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
        metadata = {"labels": labels, "ownerReferences": [owner]}
        self.put("Pod", f"{name}-x", metadata=metadata, status={"phase": "Running", **status})

    def pod_says(self, pod: str, answer: Any) -> None:
        """What the pod of that name answered when it was asked just now."""
        self.answers[self.get("Pod", pod)["metadata"]["uid"]] = Measurement(answer, self.now)

    def pods_of(self, deployment: str, available: int, **status: Any) -> None:
        """The Deployment controller's word on its pods."""
        found = self.get("Deployment", deployment)
        reported = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": found["spec"]["replicas"],
            "availableReplicas": available,
            **status,
        }
        self.store("Deployment", deployment, {**found, "status": reported})

    def deployments(self) -> list[str]:
        return [name for kind, name in self.objects if kind == "Deployment"]

    # What the operator does.

    def plan(self, kind: str, name: str) -> Plan:
        """What the core would do now."""
        return CONTROLLERS[kind].reconcile(self.observed(kind, name), self.now)

    def observed(self, kind: str, name: str) -> Observed:
        """The snapshot that the core gets now."""
        cache = Cache(CONTROLLERS, self.settings)
        for (kind_, _), manifest in self.objects.items():
            cache.store(kind_, manifest)
        for pod in cache.objects("Pod") if self.answers else ():
            cache.measured(NAMESPACE, pod["metadata"]["labels"][OWNER_LABEL], self.answers)
        key = (kind, NAMESPACE, name)
        for child_kind, child in self.foreign:
            cache.set_foreign(key, child_kind, child, taken=True)
        for (child_kind, child), message in self.refused.items():
            cache.set_refused(key, child_kind, child, message)
        observed = cache.observe(key)
        assert observed is not None
        return observed

    def reconcile(self, kind: str, name: str) -> Plan:
        """Plan and carry out, until there is nothing more to write; the last plan."""
        for _ in range(20):
            plan = self.plan(kind, name)
            writes = [w for w in plan.writes if not (isinstance(w, Create) and self._refuses(w))]
            if not writes:
                return plan
            for write in writes:
                self.carry_out(kind, name, write)
        raise AssertionError(f"{kind} {name} does not come to rest: {plan.writes}")

    def deletes(self, kind: str, name: str) -> list[tuple[str, str, str]]:
        """What the plan deletes: kind, name, UID."""
        return [(w.kind, w.name, w.uid) for w in self.plan(kind, name).writes if isinstance(w, Delete)]

    def _refuses(self, write: Create) -> bool:
        return (write.manifest["kind"], write.manifest["metadata"]["name"]) in self.refused

    def settle(self) -> None:
        """Reconcile everything of ours until nothing changes."""
        for _ in range(20):
            before = dict(self.objects)
            for kind, name in list(self.objects):
                if kind in CONTROLLERS and (kind, name) in self.objects:
                    self.reconcile(kind, name)
            if self.objects == before:
                return
        raise AssertionError("the world does not come to rest")

    def carry_out(self, kind: str, name: str, write: Any) -> None:
        """One write of a plan for that object."""
        if not isinstance(write, Record):
            self._check(write.guards)
        match write:
            case Create():
                key = (write.manifest["kind"], write.manifest["metadata"]["name"])
                if key in self.objects:
                    if TYPES[key[0]].owned:
                        self.foreign.add(key)
                    return
                self.put(
                    key[0],
                    key[1],
                    spec=write.manifest.get("spec", {}),
                    **({"data": write.manifest["data"]} if "data" in write.manifest else {}),
                    metadata={k: v for k, v in write.manifest["metadata"].items() if k not in ("name", "namespace")},
                    **({"status": {}} if key[0] in ("Deployment", "Job") else {}),
                )
            case Apply():
                key = (write.manifest["kind"], write.manifest["metadata"]["name"])
                live = self.objects[key]
                assert live["metadata"]["uid"] == write.uid
                spec = {**live.get("spec", {}), **write.manifest.get("spec", {})}
                annotations = {
                    **live["metadata"].get("annotations", {}),
                    **write.manifest["metadata"].get("annotations", {}),
                }
                metadata = {**live["metadata"], "generation": live["metadata"]["generation"] + 1}
                if annotations:
                    metadata["annotations"] = annotations
                data = {"data": write.manifest["data"]} if "data" in write.manifest else {}
                self.store(*key, {**live, "spec": spec, **data, "metadata": metadata})
            case Delete():
                assert self.objects[write.kind, write.name]["metadata"]["uid"] == write.uid
                self.remove(write.kind, write.name)
            case SetStatus():
                status = json.loads(json.dumps(write.status))  # a tuple comes back as a list
                assert not _has_null(status), f"the API server prunes null, and it would be written for ever: {status}"
                self.store(kind, name, {**self.objects[kind, name], "status": status})
            case Record():
                self.events.append(write)

    def _check(self, guards: Guards) -> None:
        for guard in guards:
            if isinstance(guard, NoPods):
                left = [pod for (k, _), pod in self.objects.items() if k == "Pod" and is_owned(pod, guard.job)]
                holds = all(guard.index not in (None, pods.index(pod)) for pod in left)
            elif isinstance(guard, Listed):
                holds = guard.holds(tuple(m for (kind, _), m in self.objects.items() if kind == guard.kind))
            else:
                holds = guard.holds(self.objects.get((guard.kind, guard.name)))
            assert holds, guard.meaning

    def store(self, kind: str, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """What exists now is this, under a new resource version."""
        metadata = {**manifest["metadata"], "resourceVersion": str(next(self._versions))}
        self.objects[kind, name] = {**manifest, "metadata": metadata}
        return self.objects[kind, name]


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# The objects that most tests need.


def digest_of(letter: str) -> str:
    return f"sha256:{letter * 64}"


def with_store(world: World) -> World:
    """A Workspace whose preflight passed."""
    return moved_to(world, "s3://models")


def moved_to(world: World, uri: str) -> World:
    """The Workspace declares this store, whose preflight passed."""
    world.put("Workspace", "default", spec={"store": {"uri": uri, "endpoint": "http://store:7070"}})
    world.reconcile("Workspace", "default")
    passed = report.Report(True, "StoreWorks", result=report.PreflightResult(("put", "get", "delete")))
    world.end_job("default-preflight", passed)
    world.reconcile("Workspace", "default")
    return world


def allowing_images(*patterns: str, **more: Any) -> World:
    """A Workspace that allows these images, and whose preflight passed; `more` is of its spec."""
    world = World()
    store = {"uri": "s3://models", "secretRef": {"name": "store"}}
    world.put("Workspace", "default", spec={"store": store, "allow": {"images": list(patterns)}, **more})
    world.reconcile("Workspace", "default")
    world.end_job("default-preflight", report.Report(True, "StoreWorks", result=report.PreflightResult(())))
    world.reconcile("Workspace", "default")
    return world


def with_dataset(world: World, name: str = "tumours", version: str = "a") -> World:
    """A Dataset with one valid version."""
    world.put("Dataset", name, spec={"source": {"configMapRef": {"name": name, "key": "data.csv"}}})
    world.reconcile("Dataset", name)
    result = report.SnapshotResult(digest_of(version), digest_of("f"), 569, 31)
    world.end_job(f"{name}-data", report.Report(True, "SnapshotTaken", result=result))
    world.reconcile("Dataset", name)
    return world


def training_spec(**more: Any) -> dict[str, Any]:
    return {
        "modelRef": {"name": "triage"},
        "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
        "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
        **more,
    }


def trained(letter: str = "1") -> report.Report:
    result = report.TrainingResult(
        recipe=digest_of("e"),
        artifact=digest_of(letter),
        uri=f"s3://models/artifacts/sha256-{letter * 64}",
        runtime="onnx",
        metrics=(report.Metric("roc_auc", "0.995"),),
    )
    return report.Report(True, "TrainingSucceeded", result=result)


def version_spec(number: int, letter: str | None = None, model: str = "triage") -> dict[str, Any]:
    letter = letter or str(number)
    artifact = {"uri": f"s3://models/artifacts/sha256-{letter * 64}", "digest": digest_of(letter)}
    return {"modelRef": {"name": model}, "version": number, "artifact": artifact}


def with_approval(
    world: World, version: str, letter: str, decision: str = "Approve", by: str = "ana", name: str = ""
) -> World:
    """A decision on the version as far as its artifact has the digest of that letter."""
    reference = {"name": version}
    spec = {"modelVersionRef": reference, "digest": digest_of(letter), "decision": decision, "by": by}
    world.put("ModelApproval", name or f"{version}-{decision.lower()}", spec=spec)
    return world


def with_version(world: World, number: int, model: str = "triage") -> World:
    """A ModelVersion that is verified."""
    name = f"{model}-{number}"
    spec = version_spec(number, model=model)
    world.put("ModelVersion", name, spec=spec)
    world.reconcile("ModelVersion", name)
    result = report.VerificationResult(spec["artifact"]["digest"], (), (), 1000)
    world.end_job(f"{name}-verify", report.Report(True, "Verified", result=result))
    world.reconcile("ModelVersion", name)
    return world
