"""The operator's rights: with its own service account and the roles of manifests/, it is refused nothing, and it uses
everything that it was given."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import upstream_kinds
import yaml
from audit import Audit, Right, rights
from between import Between, standing_between
from conftest import LEASE_NAMESPACE, Operator
from test_operator import DIGEST, deployment, end_job, with_store, workspace

from live import API_VERSION, ROOT, Kubectl, eventually
from modelmill.core.resources import MANAGED_BY, dig
from modelmill_contracts import report

NAME = "modelmill-operator"  # of the service account, the roles and the lease


def identity(admin: Kubectl, namespace: str, path: Path) -> str:
    """A kubeconfig for the operator's service account; its token."""
    token = admin.output("create", "token", NAME, f"--namespace={namespace}")
    config = json.loads(admin.output("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return token


def granted(admin: Kubectl, *roles: str) -> set[Right]:
    """What the roles grant that stand in the cluster; each is `kind/name` or `namespace:kind/name`."""
    found = set[Right]()
    for role in roles:
        namespace, _, what = role.rpartition(":")
        words = ["get", what, "-o", "json", *([f"--namespace={namespace}"] if namespace else [])]
        found |= rights(json.loads(admin.output(*words))["rules"])
    return found


class Scenario:
    """A life of a namespace in which the operator does everything that it ever does."""

    def __init__(self, kubectl: Kubectl, audit: Audit, between: Between) -> None:
        self.kubectl = kubectl
        self.audit = audit
        self.between = between  # the operator and the API server

    def run(self) -> None:
        try:
            self._run()
        finally:
            # What the operator may not do is why it does not get on.
            assert not self.audit.refused(self.kubectl.namespace)

    def _run(self) -> None:
        self.children_of_somebody_elses_are_in_the_way()
        with_store(self.kubectl)
        self.data_is_declared_and_declared_anew()
        self.somebody_makes_the_model_at_the_same_moment()
        self.somebody_takes_the_versions_number_at_the_same_moment()
        self.somebody_approves()
        self.something_is_promised()
        self.a_version_is_one_too_many()
        self.a_search_is_suspended_goes_on_and_fails()
        self.a_pipeline_runs_and_a_run_is_one_too_many()
        self.a_model_is_served_and_the_next_one_takes_over()
        self.the_one_after_is_a_canary_and_somebody_promotes_it()
        self.it_is_exposed_and_scaled_by_cpu()

    def children_of_somebody_elses_are_in_the_way(self) -> None:
        container = {"name": "c", "image": "i"}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        self.kubectl.apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "default-preflight"},
                "spec": {"suspend": True, "template": template},
            },
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "modelmill-jobs"},
                "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
            },
        )
        self.kubectl.apply(workspace())
        self.kubectl.wait_for("workspace", "default", "Stalled", reason="NameConflict")
        self.kubectl.run("delete", "job/default-preflight", "networkpolicy/modelmill-jobs")
        self.kubectl.run("annotate", "workspace", "default", "look=again")

    def data_is_declared_and_declared_anew(self) -> None:
        def dataset(key: str) -> dict[str, Any]:
            spec = {"source": {"configMapRef": {"name": "tumours", "key": key}}}
            return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "tumours"}, "spec": spec}

        self.kubectl.apply(dataset("old.csv"))
        first = eventually(lambda: self.kubectl.get("job", "tumours-data"), "the first snapshot's Job")
        self.kubectl.apply(dataset("new.csv"))

        def another() -> bool:
            job = self.kubectl.get("job", "tumours-data")
            return job is not None and bool(job["metadata"]["uid"] != first["metadata"]["uid"])

        eventually(another, "the outdated Job is replaced")
        snapshot = report.SnapshotResult("sha256:" + "a" * 64, "sha256:" + "b" * 64, 569, 31)
        end_job(self.kubectl, "tumours-data", report.Report(True, "SnapshotTaken", result=snapshot))
        self.kubectl.wait_for("dset", "tumours", "Ready")

    def somebody_makes_the_model_at_the_same_moment(self) -> None:
        self.train("first", "triage0")
        self.end("first")  # it makes the model itself
        self.train("second", "triage1")
        with self.between.holding("models"):
            self.kubectl.apply({"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "triage1"}})
            self.end("second")
        self.require("models", "get")

    def somebody_takes_the_versions_number_at_the_same_moment(self) -> None:
        self.kubectl.apply({"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "triage"}})
        run = self.train("next", "triage")
        # Its number is reserved already, so that it makes its version as soon as it has ended.
        reservation = {"version": 1, "trainingJob": "next", "uid": run["metadata"]["uid"]}
        self.kubectl.patch_status("mdl", "triage", {"lastVersion": 1, "reservations": [reservation]})
        artifact = {"uri": "s3://models/artifacts/x", "digest": DIGEST}
        spec = {"modelRef": {"name": "triage"}, "version": 1, "artifact": artifact}
        version = {"apiVersion": API_VERSION, "kind": "ModelVersion", "metadata": {"name": "triage-1"}, "spec": spec}
        with self.between.holding("modelversions"):
            self.kubectl.apply(version)
            self.end("next")
        self.require("modelversions", "get")

    def somebody_approves(self) -> None:
        spec = {"modelVersionRef": {"name": "triage-1"}, "digest": DIGEST, "decision": "Approve"}
        spec["by"] = self.kubectl.user()
        metadata = {"name": "triage-1"}
        self.kubectl.apply({"apiVersion": API_VERSION, "kind": "ModelApproval", "metadata": metadata, "spec": spec})
        self.kubectl.wait_for("mappr", "triage-1", "Ready")

    def something_is_promised(self) -> None:
        spec = {"owner": "ana@example.org", "priority": {"value": 1, "effort": 1}}
        self.kubectl.apply({"apiVersion": API_VERSION, "kind": "UseCase", "metadata": {"name": "triage"}, "spec": spec})
        self.kubectl.wait_for("usecase", "triage", "Ready", reason="NothingRequired")

    def a_version_is_one_too_many(self) -> None:
        model = {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "kept"}}
        self.kubectl.apply(model | {"spec": {"versionHistoryLimit": 1}})
        for number in (1, 2):
            spec = {
                "modelRef": {"name": "kept"},
                "version": number,
                "artifact": {"uri": "s3://models/artifacts/x", "digest": DIGEST},
                "lineage": {"trainingJob": {"name": "run", "uid": f"run-{number}"}},
            }
            metadata = {"name": f"kept-{number}", "labels": MANAGED_BY}
            version = {"apiVersion": API_VERSION, "kind": "ModelVersion", "metadata": metadata, "spec": spec}
            self.kubectl.apply(version)
            verified = report.VerificationResult(DIGEST, (), (), 100)
            end_job(self.kubectl, f"kept-{number}-verify", report.Report(True, "Verified", result=verified))
            self.kubectl.wait_for("mver", f"kept-{number}", "Ready")

        def retiring() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (self.kubectl.get("mdl", "kept") or {})["status"].get("retiring", [])
            return found

        (first,) = eventually(retiring, "version 1 is written down to go")
        assert first["version"] == 1
        self.kubectl.patch_status("mdl", "kept", {"retiring": [first | {"since": "2026-01-01T00:00:00Z"}]})
        eventually(lambda: self.kubectl.get("mver", "kept-1") is None, "version 1 is deleted")
        assert self.kubectl.get("mver", "kept-2") is not None

    def a_search_is_suspended_goes_on_and_fails(self) -> None:
        template = {
            "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
            "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
        }
        spec = {
            "objective": {"metric": "roc_auc"},
            "search": {"algorithm": "Random"},
            "parameters": [{"param": "lr__C", "float": {"min": "0.1", "max": "1"}}],
            "trials": {"max": 4, "parallel": 2, "maxFailed": 0},
            "template": {"spec": template},
        }
        search = {"apiVersion": API_VERSION, "kind": "Experiment", "metadata": {"name": "search"}}
        self.kubectl.apply(search | {"spec": spec})
        eventually(lambda: self.kubectl.get("job", "search-1-train"), "the Job of the first trial")
        for suspend in (True, False):
            self.kubectl.apply(search | {"spec": spec | {"suspend": suspend}})

            def is_so(suspend: bool = suspend) -> bool:
                trials = self.kubectl.list("tjob", "modelmill.dev/experiment=search")
                return len(trials) == 2 and all(trial["spec"]["suspend"] == suspend for trial in trials)

            eventually(is_so, f"both trials have suspend {suspend}")
        eventually(lambda: self.kubectl.get("job", "search-1-train"), "the Job of the first trial again")
        end_job(self.kubectl, "search-1-train", report.Report(False, "TrainingFailed", "it does not converge"))
        self.kubectl.wait_for("mexp", "search", "Failed")
        (left,) = self.kubectl.list("tjob", "modelmill.dev/experiment=search")
        assert left["metadata"]["name"] == "search-1"

    def a_pipeline_runs_and_a_run_is_one_too_many(self) -> None:
        data = {"datasetRef": {"name": "tumours"}, "target": "benign"}
        estimator = {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]}
        search = {
            "objective": {"metric": "roc_auc"},
            "parameters": [{"param": "lr__C", "integer": {"min": 1, "max": 2}}],
            "template": {"spec": {"data": data, "estimator": estimator}},
        }
        training = {"name": "train", "trainingJob": {"spec": {"data": data, "estimator": estimator}}, "timeout": "3s"}
        found = {"name": "search", "experiment": {"spec": search}, "timeout": "3s"}
        for name, stage in (("trains", training), ("searches", found)):
            spec = {
                "triggers": [{"name": "code", "onSpecChange": True}],
                "stages": [stage],
                "runHistoryLimit": {"succeeded": 0, "failed": 0},
            }
            metadata = {"name": name}
            self.kubectl.apply({"apiVersion": API_VERSION, "kind": "Pipeline", "metadata": metadata, "spec": spec})
            ended = f"the run of {name} took too long, what it made is deleted, and so is the run"
            eventually(partial(self._has_run, name), ended)

    def _has_run(self, pipeline: str) -> bool:
        status = (self.kubectl.get("mpl", pipeline) or {}).get("status", {})
        runs = [run for run in self.kubectl.list("mplr") if run["spec"]["pipelineRef"]["name"] == pipeline]
        return dig(status, "lastRun", "result") == "Failed" and not runs

    def require(self, resource: str, verb: str) -> None:
        right = Right("modelmill.dev", resource, verb)
        eventually(lambda: right in self.audit.used(), f"it used the right to {verb} {resource}")

    def train(self, name: str, model: str) -> dict[str, Any]:
        """A training run that has its Job."""
        spec = {
            "modelRef": {"name": model},
            "data": {"datasetRef": {"name": "tumours"}, "target": "benign"},
            "estimator": {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]},
        }
        self.kubectl.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec})
        eventually(lambda: self.kubectl.get("job", f"{name}-train"), f"the Job of {name}")
        run = self.kubectl.get("tjob", name)
        assert run is not None
        return run

    def end(self, name: str) -> None:
        """The run ends well."""
        metrics = (report.Metric("roc_auc", "0.99"),)
        result = report.TrainingResult("sha256:" + "c" * 64, DIGEST, "s3://models/artifacts/x", "onnx", metrics)
        end_job(self.kubectl, f"{name}-train", report.Report(True, "TrainingSucceeded", result=result))
        self.kubectl.run("wait", "--for=condition=Succeeded", f"tjob/{name}", "--timeout=30s")

    def a_model_is_served_and_the_next_one_takes_over(self) -> None:
        self.kubectl.apply(deployment(revisionHistoryLimit=0))
        self.make_ready()
        self.kubectl.wait_for("mdep", "triage", "Ready")
        (former,) = self.kubectl.list("deployments")
        another = {"uri": "s3://models/artifacts/y", "digest": "sha256:" + "2" * 64}
        spec = {"model": another, "revisionHistoryLimit": 0, "access": {"namespaces": ["shop"]}}
        self.kubectl.apply(deployment() | {"spec": spec})
        eventually(lambda: len(self.kubectl.list("deployments")) == 2, "the next revision beside the former one")
        self.make_ready()
        self.kubectl.wait_for("mdep", "triage", "Ready")
        name = former["metadata"]["name"]
        eventually(lambda: self.kubectl.get("deployment", name) is None, "the former revision is deleted")

    def the_one_after_is_a_canary_and_somebody_promotes_it(self) -> None:
        another = {"uri": "s3://models/artifacts/z", "digest": "sha256:" + "3" * 64}
        rollout = {"strategy": "Canary"}
        spec = {"model": another, "revisionHistoryLimit": 0, "access": {"namespaces": ["shop"]}, "rollout": rollout}
        (former,) = self.kubectl.list("deployments")
        self.kubectl.apply(deployment() | {"spec": spec})
        eventually(lambda: len(self.kubectl.list("deployments")) == 2, "the canary beside what serves")
        self.make_ready()
        eventually(lambda: self.kubectl.get("configmap", "triage-routes"), "pods are told of the canary")
        revision = former["metadata"]["labels"]["modelmill.dev/revision"]

        def touched() -> bool:
            pods = self.kubectl.list("pods", f"modelmill.dev/revision={revision}")
            return bool(pods) and all("modelmill.dev/routes" in pod["metadata"].get("annotations", {}) for pod in pods)

        eventually(touched, "the pods that serve are touched")
        candidate = (self.kubectl.get("mdep", "triage") or {})["status"]["candidate"]
        assert (candidate["step"], candidate["weight"]) == (1, 5)
        self.kubectl.run("annotate", "mdep/triage", f"modelmill.dev/action=promote@{candidate['revision']}")
        self.kubectl.wait_for("mdep", "triage", "Ready")
        eventually(
            lambda: self.kubectl.get("service", "triage-candidate") is None, "nothing is left of the rollout", 60
        )
        assert self.kubectl.get("configmap", "triage-routes") is None
        assert [d["metadata"]["name"] for d in self.kubectl.list("deployments")] == [f"triage-{candidate['revision']}"]

    def it_is_exposed_and_scaled_by_cpu(self) -> None:
        upstream_kinds.install(self.kubectl, "HTTPRoute")
        children = ("httproute/triage", "horizontalpodautoscaler/triage")
        metadata, target = {"name": "triage"}, {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}
        self.kubectl.apply(
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": {}},
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": metadata,
                "spec": {"maxReplicas": 2, "scaleTargetRef": target},
            },
        )
        expose = {"gateway": {"name": "public", "namespace": "infra"}, "hostnames": ["triage.example.org"]}
        scaled = {"expose": expose, "autoscaling": {"max": 2, "cpuPercent": 70}}
        self.kubectl.apply(deployment(**scaled))
        for condition in ("Exposed", "ScalingActive"):
            self.kubectl.wait_for("mdep", "triage", condition, "False", reason="NameConflict")
        self.kubectl.run("delete", *children)
        self.kubectl.run("annotate", "mdep", "triage", "look=again")
        self.kubectl.wait_for("mdep", "triage", "Exposed", "Unknown", reason="WaitingForGateway")
        other = {"expose": {**expose, "hostnames": ["a.example.org"]}, "autoscaling": {"max": 3, "cpuPercent": 70}}
        self.kubectl.apply(deployment(**other))
        for group, resource in (
            ("gateway.networking.k8s.io", "httproutes"),
            ("autoscaling", "horizontalpodautoscalers"),
        ):
            edited = Right(group, resource, "patch")
            eventually(lambda right=edited: right in self.audit.used(), f"{resource} are edited")
        self.kubectl.apply(deployment())
        for child in children:
            eventually(lambda c=child: self.kubectl.get(*c.split("/")) is None, f"{child} is deleted")

    def make_ready(self) -> None:
        """Play the kubelet: the pods of the model's Deployments are ready."""

        def waiting() -> list[str]:
            pods = self.kubectl.list("pods", "modelmill.dev/modeldeployment=triage")
            return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Pending"]

        conditions = [{"type": type_, "status": "True"} for type_ in ("PodScheduled", "ContainersReady", "Ready")]
        began = {"startedAt": "2026-01-01T00:00:00Z"}
        server = {"name": "server", "ready": True, "restartCount": 0, "image": "s", "imageID": "s"}
        containers = [{**server, "state": {"running": began}}]
        ip = {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}
        found = {"phase": "Running", "conditions": conditions, "containerStatuses": containers, **ip}
        for pod in eventually(waiting, "pods"):
            self.kubectl.patch_status("pod", pod, found)


@pytest.fixture
def run_as(tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators with the rights of a kubeconfig; their logs may hold no error that nobody expected."""
    running: list[Operator] = []

    def start(config: Path, *more: str) -> Operator:
        made = Operator(str(config), tmp_path, NAME, *more)
        running.append(made)
        return made.start()

    yield start
    for made in running:
        if made.process and made.process.poll() is None:
            made.kill()
    for made in running:
        made.check_log()


def check(admin: Kubectl, audit: Audit, *roles: str) -> None:
    """What was used is what is granted."""
    used, allowed = audit.used(), granted(admin, *roles)
    assert not {right for right in used | allowed if "*" in right or right.resource.startswith("secrets")}
    assert used == allowed, f"granted and not used: {allowed - used}; used and not granted: {used - allowed}"


def test_in_a_cluster_the_operator_uses_exactly_what_it_is_granted(
    installed: Kubectl, kubectl: Kubectl, run_as: Callable[..., Operator], tmp_path: Path
) -> None:
    installed.run("delete", "lease", NAME, "--ignore-not-found")
    audit = Audit(installed.config, identity(installed, LEASE_NAMESPACE, tmp_path / "config"))
    with standing_between(str(tmp_path / "config"), tmp_path) as (proxy, there):
        operator = run_as(there).active()
        Scenario(kubectl, audit, proxy).run()
        operator.stop()
    check(installed, audit, f"clusterrole/{NAME}", f"{LEASE_NAMESPACE}:role/{NAME}")


def test_in_a_namespace_the_operator_uses_exactly_what_it_is_granted(
    config: str, kubectl: Kubectl, run_as: Callable[..., Operator], tmp_path: Path
) -> None:
    admin, own = Kubectl(config), f"{kubectl.namespace}-operator"
    documents = namespaced(tmp_path, own, kubectl.namespace)
    assert {d["metadata"].get("namespace") for d in documents} == {own, kubectl.namespace}
    admin.run("create", "namespace", own)
    try:
        for namespace in (own, kubectl.namespace):
            there = [document for document in documents if document["metadata"]["namespace"] == namespace]
            Kubectl(config, namespace).apply(*there)
        arguments = admin.output(
            *("get", "deployment", NAME, f"--namespace={own}"),
            *("-o", "jsonpath={.spec.template.spec.containers[0].args}"),
        )
        audit = Audit(config, identity(admin, own, tmp_path / "config"))
        with standing_between(str(tmp_path / "config"), tmp_path) as (proxy, there_too):
            operator = run_as(there_too, *json.loads(arguments), f"--lease-namespace={own}").active()
            Scenario(kubectl, audit, proxy).run()
            operator.stop()
        check(admin, audit, f"{kubectl.namespace}:role/{NAME}", f"{own}:role/{NAME}")
    finally:
        admin.run("delete", "namespace", own, "--wait=false")


def namespaced(folder: Path, own: str, served: str) -> list[dict[str, Any]]:
    """What manifests/namespaced gives when its two namespaces are set as its comments say."""
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    for path, before, after in (
        ("operator", f"namespace: {LEASE_NAMESPACE}", f"namespace: {own}"),
        ("namespaced", "namespace=team-a", f"namespace={served}"),
    ):
        file = folder / "manifests" / path / "kustomization.yaml"
        text = file.read_text()
        assert text.count(before) == 1
        file.write_text(text.replace(before, after))
    rendered = Kubectl("/dev/null").output("kustomize", str(folder / "manifests/namespaced"))
    return list(yaml.safe_load_all(rendered))
