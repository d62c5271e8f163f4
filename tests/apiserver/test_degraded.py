"""A kind that is not there, or that may not be read: it is said, the others go on, and it heals."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit import Audit
from between import ANSWERS, Between
from conftest import LEASE_NAMESPACE, Operator
from test_rights import NAME, identity

from live import API_VERSION, ROOT, Kubectl, eventually

DATASETS = "datasets.modelmill.dev"
RESTING = 10.0  # seconds in which requests are counted


def model(name: str) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": name}}


def dataset() -> dict[str, Any]:
    spec = {"source": {"configMapRef": {"name": "tumours", "key": "data.csv"}}}
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "tumours"}, "spec": spec}


def workspace() -> dict[str, Any]:
    spec = {"store": {"uri": "s3://models", "endpoint": "http://store:7070"}}
    return {"apiVersion": API_VERSION, "kind": "Workspace", "metadata": {"name": "default"}, "spec": spec}


def heard_of(kubectl: Kubectl, seconds: float) -> float:
    """The seconds until the operator says something of a new Dataset."""
    begun = time.monotonic()
    kubectl.apply(dataset())
    kubectl.wait_for("dset", "tumours", "Ready", "False", seconds=seconds)
    return time.monotonic() - begun


def says_so(operator: Operator, what: str) -> None:
    eventually(lambda: what in operator.ready()[1], what, 40, lambda: f"{operator.ready()}\n{operator.text()}")
    code, text = operator.ready()
    assert code == 200, text
    assert text.startswith("ok, active\n")
    assert [line.partition(":")[0] for line in text.splitlines()[1:]] == ["datasets"]
    assert "datasets cannot be read" in operator.text()


def test_a_kind_that_is_installed_later_is_enabled_by_one_clean_restart(
    config: str, kubectl: Kubectl, operator: Callable[..., Operator]
) -> None:
    everything = Kubectl(config)
    everything.run("delete", "crd", DATASETS)
    try:
        process = operator(None, pod="a").active()
        says_so(process, "install or update the CRDs")
        kubectl.apply(model("others"))
        kubectl.wait_for("mdl", "others", "Ready")
    finally:
        everything.apply_file("crds/datasets.yaml")
        everything.established(DATASETS)
    assert process.process
    assert process.process.wait(40) == 0
    process.start()
    eventually(lambda: process.ready() == (200, "ok, active\n"), "all is well", 40, process.text)
    assert heard_of(kubectl, 10) < 5


def test_a_crd_that_is_older_than_the_operator_is_said_and_updating_it_is_enough(
    config: str, kubectl: Kubectl, operator: Callable[..., Operator]
) -> None:
    everything = Kubectl(config)
    older = json.loads(everything.output("get", "crd", DATASETS, "-o", "json"))
    status = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["properties"]["observedGeneration"]
    status.pop("default", None)
    try:
        everything.run("replace", "-f", "-", stdin=json.dumps(older))
        process = operator(None, pod="a").active()
        kubectl.apply(dataset())
        eventually(
            lambda: "the CRD of datasets is older than the operator" in process.ready()[1], "said", 40, process.text
        )
        assert process.ready()[0] == 200
        kubectl.apply(model("others"))
        kubectl.wait_for("mdl", "others", "Ready")
    finally:
        everything.run("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds/datasets.yaml"))
    kubectl.wait_for("dset", "tumours", "Ready", "False", seconds=90)
    eventually(lambda: process.ready() == (200, "ok, active\n"), "all is well", 10, process.text)


def test_a_child_that_a_policy_does_not_admit_is_said_whatever_the_code(
    config: str, kubectl: Kubectl, operator: Callable[..., Operator]
) -> None:
    name, everything = kubectl.namespace, Kubectl(config)
    group = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    denied = {"expression": "false", "message": "no Jobs here", "reason": "RequestEntityTooLarge"}  # 413
    constraints = {"resourceRules": [rule]}
    spec = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": [denied]}
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": only}
    try:
        everything.apply({**group, "kind": "ValidatingAdmissionPolicy", "spec": spec})
        everything.apply({**group, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
        container = {"name": "probe", "image": "probe"}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        probe = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"}, "spec": {"template": template}}
        eventually(lambda: "no Jobs here" in kubectl.refused(probe), "the policy is in force")
        operator(None, pod="a").active()
        kubectl.apply(workspace())
        kubectl.wait_for("wsp", "default", "Stalled", seconds=30)
        said = kubectl.condition("wsp", "default", "Ready")
        assert said["reason"] == "ChildRefused"
        assert "no Jobs here" in said["message"]
    finally:
        everything.run(
            "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name, "--ignore-not-found"
        )


@pytest.fixture
def restricted(installed: Kubectl, tmp_path: Path) -> Iterator[tuple[Operator, Audit, Callable[[list[str]], None]]]:
    """An operator with its own rights, and a way to say what it may do with a kind: datasets, or another one."""
    whole = json.loads(installed.output("get", "clusterrole", NAME, "-o", "json"))

    def grant(verbs: list[str], plural: str = "datasets", group: str = "modelmill.dev") -> None:
        def without(rule: dict[str, Any]) -> dict[str, Any]:
            return rule | {"resources": [r for r in rule["resources"] if r != plural]}

        rules = [rule for rule in map(without, whole["rules"]) if rule["resources"]]
        if verbs:
            rules.append({"apiGroups": [group], "resources": [plural], "verbs": verbs})
        patch = json.dumps({"rules": rules})
        installed.run("patch", "clusterrole", NAME, "--type=merge", "-p", patch)

    installed.run("delete", "lease", NAME, "--ignore-not-found")
    audit = Audit(installed.config, identity(installed, LEASE_NAMESPACE, tmp_path / "config"))
    operator = Operator(str(tmp_path / "config"), tmp_path, NAME)
    yield operator, audit, grant
    installed.run("patch", "clusterrole", NAME, "--type=merge", "-p", json.dumps({"rules": whole["rules"]}))
    if operator.process and operator.process.poll() is None:
        operator.kill()
    operator.check_log()


@pytest.mark.parametrize("verbs", [[], ["list"]], ids=["neither list nor watch", "no watch"])
def test_a_kind_that_may_not_be_read_is_left_out_until_it_may(
    kubectl: Kubectl,
    restricted: tuple[Operator, Audit, Callable[[list[str]], None]],
    verbs: list[str],
    tell: Callable[[str], None],
) -> None:
    operator, audit, grant = restricted
    grant(verbs)
    operator.start().active()
    says_so(operator, "the operator's role lacks list or watch on datasets")
    kubectl.apply(model("others"))
    kubectl.wait_for("mdl", "others", "Ready")
    before = len(audit.refused(kubectl.namespace))
    time.sleep(RESTING)
    refused = len(audit.refused(kubectl.namespace)) - before
    assert refused < 2 * RESTING
    grant(["list", "watch"])
    eventually(lambda: operator.ready() == (200, "ok, active\n"), "all is well", 40, operator.text)
    took = heard_of(kubectl, 60)
    tell(f"{refused} refused requests in {RESTING:.0f} s; after the grant a Dataset was heard of in {took:.1f} s")
    assert operator.process
    assert operator.process.poll() is None  # by the same process


def test_who_needs_a_kind_that_may_not_be_read_waits_and_the_others_go_on(
    kubectl: Kubectl, restricted: tuple[Operator, Audit, Callable[..., None]]
) -> None:
    operator, _, grant = restricted
    grant([], "networkpolicies", "networking.k8s.io")
    operator.start().active()
    assert operator.ready()[0] == 200
    assert "networkpolicies: the operator's role lacks list or watch" in operator.ready()[1]
    kubectl.apply(model("others"))
    kubectl.wait_for("mdl", "others", "Ready")
    kubectl.apply(workspace())
    time.sleep(3)
    assert kubectl.list("job") == []  # it would be made without knowing its surroundings
    grant(["create", "get", "list", "patch", "watch"], "networkpolicies", "networking.k8s.io")
    eventually(lambda: kubectl.list("job"), "the Workspace's Job", 60, operator.text)
    eventually(lambda: operator.ready() == (200, "ok, active\n"), "all is well", 40, operator.text)


def test_a_job_that_may_not_be_deleted_is_said_and_the_right_to_it_is_enough(
    kubectl: Kubectl, restricted: tuple[Operator, Audit, Callable[..., None]]
) -> None:
    operator, _, grant = restricted
    grant(["create", "get", "list", "watch"], "jobs", "batch")
    operator.start().active()
    kubectl.apply(workspace())
    eventually(lambda: kubectl.list("job"), "the Workspace's Job", 30, operator.text)
    elsewhere = {"store": {"uri": "s3://models", "endpoint": "http://store:7071"}}
    kubectl.apply(workspace() | {"spec": elsewhere})
    kubectl.wait_for("wsp", "default", "Stalled", reason="ChildRefused", seconds=30)
    assert "the deletion of Job default-preflight is refused" in kubectl.condition("wsp", "default", "Ready")["message"]
    assert operator.ready() == (200, "ok, active\n")
    (former,) = kubectl.list("job")
    grant(["create", "delete", "get", "list", "watch"], "jobs", "batch")
    kubectl.wait_for(
        "wsp", "default", "Stalled", reason="Unschedulable", seconds=90
    )  # its new Job, as there are no nodes
    assert former["metadata"]["uid"] not in {job["metadata"]["uid"] for job in kubectl.list("job")}


def test_without_a_right_to_the_lease_no_replica_is_ready_and_the_right_to_it_is_enough(
    installed: Kubectl, restricted: tuple[Operator, Audit, Callable[..., None]]
) -> None:
    operator, *_ = restricted
    rules = json.loads(installed.output("get", "role", NAME, "-o", "json"))["rules"]
    try:
        installed.run("patch", "role", NAME, "--type=merge", "-p", json.dumps({"rules": []}))
        operator.start()
        eventually(lambda: "the Role" in operator.ready()[1], "it is said", 40, operator.text)
        code, text = operator.ready()
        assert code == 503
        assert text.startswith("standby\n")
        assert operator.text().count("see that the Role") == 1
    finally:
        installed.run("patch", "role", NAME, "--type=merge", "-p", json.dumps({"rules": rules}))
    operator.active()
    assert operator.ready() == (200, "ok, active\n")


@pytest.mark.parametrize("nonsense", ANSWERS)
async def test_the_others_go_on_where_the_api_server_answers_nonsense_for_one_kind(
    config: str, kubectl: Kubectl, tmp_path: Path, nonsense: str, tell: Callable[[str], None]
) -> None:
    between = Between()
    between.nonsense = nonsense
    operator = Operator(
        await between.start(config, tmp_path), tmp_path, kubectl.namespace, f"--namespace={kubectl.namespace}"
    )
    try:
        await asyncio.to_thread(operator.start().active)
        await asyncio.to_thread(says_so, operator, "datasets: ")
        kubectl.apply(model("others"))
        await asyncio.to_thread(kubectl.wait_for, "mdl", "others", "Ready", seconds=30)
        before = between.asked
        await asyncio.sleep(RESTING)
        asked = between.asked - before
        assert asked < 2 * RESTING
        between.nonsense = None
        took = await asyncio.to_thread(heard_of, kubectl, 60)
        tell(f"{nonsense}: asked {asked} times in {RESTING:.0f} s; heard of a Dataset {took:.1f} s after it ended")
        assert operator.process
        assert operator.process.poll() is None
    finally:
        operator.kill()
        await between.stop()
    operator.check_log()
