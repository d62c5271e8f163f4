"""The admission policies, asked by real users: who names a Secret must be allowed to read it, nobody signs for somebody
else, and the operator changes nothing of a pod but its routes, and of what it has not made nothing at all."""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import upstream_kinds
from conftest import LEASE_NAMESPACE
from schema_examples import OBJECTS

from live import API_VERSION, Kubectl, eventually
from secret_references import SecretReference, secret_references

ANN = "ann"  # may write our kinds, and read one Secret: `mine`
OPERATOR = f"system:serviceaccount:{LEASE_NAMESPACE}:modelmill-operator"
REFERENCES = secret_references()
# For each field a change that leaves it alone, and one of where the Secret is used.
ELSEWHERE = {
    "workspaces.spec.store.secretRef": {"spec": {"allow": {"sources": ["s3"]}}},
    "workspaces.spec.tracking.mlflow.secretRef": {"spec": {"allow": {"sources": ["s3"]}}},
    "datasets.spec.source.secretRef": {"spec": {"expectations": {"minRows": 11}}},
    "datasets.spec.source.sql.urlRef": {"spec": {"expectations": {"minRows": 11}}},
}
SENT_TO = {
    "workspaces.spec.store.secretRef": {"spec": {"store": {"endpoint": "https://elsewhere.example.org"}}},
    "workspaces.spec.tracking.mlflow.secretRef": {
        "spec": {"tracking": {"mlflow": {"uri": "https://elsewhere.example.org"}}}
    },
    "datasets.spec.source.secretRef": {"spec": {"source": {"uri": "s3://lake/payroll.csv"}}},
    "datasets.spec.source.sql.urlRef": {"spec": {"source": {"sql": {"query": "select * from payroll"}}}},
}
REQUIRED = {"datasets.spec.source.sql.urlRef"}  # fields that cannot be taken away


def role(name: str, user: dict[str, str], *rules: dict[str, Any]) -> list[dict[str, Any]]:
    """A Role and its binding to one user or service account."""
    api = "rbac.authorization.k8s.io"
    metadata = {"name": name}
    reference = {"apiGroup": api, "kind": "Role", "name": name}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [user],
        },
    ]


def asked(kubectl: Kubectl, user: str, *words: str, manifest: dict[str, Any] | None = None) -> str:
    """What the API server says against a request of this user; "" where it does it."""
    document = None if manifest is None else json.dumps(manifest)
    result = kubectl.run(*words, f"--as={user}", stdin=document, check=False)
    return "" if result.returncode == 0 else result.stderr.strip() or "refused without a word"


@pytest.fixture(params=REFERENCES, ids=str)
def reference(request: pytest.FixtureRequest) -> SecretReference:
    found: SecretReference = request.param
    return found


@pytest.fixture
def team(installed: Kubectl, kubectl: Kubectl, reference: SecretReference) -> Kubectl:  # noqa: ARG001 - must be there
    """A namespace in which the policies hold and Ann's rights are known."""
    rules = (
        {"apiGroups": ["modelmill.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]},
    )
    kubectl.apply(*role("ann", {"kind": "User", "name": ANN}, *rules))
    # A policy is compiled a moment after it was written, and so are rights.
    eventually(lambda: "names Secret theirs" in created(kubectl, reference, "theirs", "server"), "the policy holds", 20)
    eventually(lambda: not created(kubectl, reference, "mine", "server"), "ann's rights are known", 20)
    return kubectl


def example(reference: SecretReference, secret: str | None) -> dict[str, Any]:
    """A good object that names this Secret, or none."""
    full = copy.deepcopy(next(good for good in OBJECTS[reference.kind] if parent(reference, good) is not None))
    manifest = {"apiVersion": API_VERSION, "kind": reference.kind, "metadata": full["metadata"], "spec": full["spec"]}
    node = parent(reference, manifest)
    assert node is not None
    former = node.pop(reference.path[-1], {})
    if secret is not None:
        node[reference.path[-1]] = {**former, "name": secret}
    return manifest


def parent(reference: SecretReference, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """What has the reference in this object, if it has."""
    node: dict[str, Any] | None = manifest
    for key in reference.path[:-1]:
        node = (node or {}).get(key)
    return node


def created(kubectl: Kubectl, reference: SecretReference, secret: str, dry_run: str = "none") -> str:
    return asked(kubectl, ANN, "create", f"--dry-run={dry_run}", "-f", "-", manifest=example(reference, secret))


def changed(kubectl: Kubectl, reference: SecretReference, patch: dict[str, Any]) -> str:
    name = OBJECTS[reference.kind][0]["metadata"]["name"]
    return asked(kubectl, ANN, "patch", reference.plural, name, "--type=merge", "-p", json.dumps(patch))


def renamed(reference: SecretReference, secret: str | None) -> dict[str, Any]:
    """A patch that names another Secret, or none."""
    patch: Any = None if secret is None else {"name": secret}
    for key in reversed(reference.path):
        patch = {key: patch}
    return dict(patch)


def test_there_is_a_field_that_names_a_secret() -> None:
    assert {"workspaces", "datasets"} <= {reference.plural for reference in REFERENCES}


def test_who_names_a_secret_must_be_allowed_to_read_it(team: Kubectl, reference: SecretReference) -> None:
    said = created(team, reference, "theirs")
    for words in (
        ".".join(reference.path),
        "Secret theirs",
        ANN,
        f"namespace {team.namespace}",
        "ask for",
        "Forbidden",
    ):
        assert words in said
    assert created(team, reference, "mine") == ""


def test_who_applies_or_replaces_is_asked_too(team: Kubectl, reference: SecretReference) -> None:
    manifest = example(reference, "theirs")
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    assert "Secret theirs" in asked(team, ANN, *apply, manifest=manifest)
    assert created(team, reference, "mine") == ""
    assert "Secret theirs" in asked(team, ANN, *apply, manifest=manifest)
    assert "Secret theirs" in asked(team, ANN, "replace", "-f", "-", manifest=manifest)


def test_what_others_chose_may_be_kept_but_not_used_elsewhere(team: Kubectl, reference: SecretReference) -> None:
    team.apply(example(reference, "theirs"))
    assert changed(team, reference, {"metadata": {"labels": {"seen": "yes"}}}) == ""
    assert changed(team, reference, ELSEWHERE[str(reference)]) == ""
    assert "Secret theirs" in changed(team, reference, SENT_TO[str(reference)])
    assert "Secret others" in changed(team, reference, renamed(reference, "others"))
    if str(reference) not in REQUIRED:
        assert changed(team, reference, renamed(reference, None)) == ""
        assert "Secret theirs" in changed(team, reference, renamed(reference, "theirs"))
    assert changed(team, reference, renamed(reference, "mine")) == ""
    assert changed(team, reference, SENT_TO[str(reference)]) == ""


def test_the_operators_status_and_a_deletion_are_not_concerned(team: Kubectl, reference: SecretReference) -> None:
    team.apply(example(reference, "theirs"))
    name = OBJECTS[reference.kind][0]["metadata"]["name"]
    status = {"observedGeneration": 1}
    manifest = {"apiVersion": API_VERSION, "kind": reference.kind, "metadata": {"name": name}, "status": status}
    apply = ("apply", "--server-side", "--subresource=status", "-f", "-")
    assert asked(team, OPERATOR, *apply, manifest=manifest) == ""
    assert asked(team, ANN, "delete", reference.plural, name) == ""


def approval(by: str) -> dict[str, Any]:
    (example,) = OBJECTS["ModelApproval"]
    metadata = {"name": example["metadata"]["name"]}
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelApproval",
        "metadata": metadata,
        "spec": {**example["spec"], "by": by},
    }


@pytest.fixture
def approvers(installed: Kubectl, kubectl: Kubectl) -> Kubectl:  # noqa: ARG001 - must be there
    """A namespace in which Ann may approve, and the policy holds."""
    rule = {
        "apiGroups": ["modelmill.dev"],
        "resources": ["modelapprovals"],
        "verbs": ["get", "create", "patch", "delete"],
    }
    kubectl.apply(*role("ann", {"kind": "User", "name": ANN}, rule))

    def holds() -> bool:
        words = ("create", "--dry-run=server", "-f", "-")
        refused = "spec.by is bob" in asked(kubectl, ANN, *words, manifest=approval("bob"))
        return refused and not asked(kubectl, ANN, *words, manifest=approval(ANN))

    eventually(holds, "the policy holds and ann's rights are known", 20)
    return kubectl


def test_nobody_approves_in_somebody_elses_name(approvers: Kubectl) -> None:
    said = asked(approvers, ANN, "create", "-f", "-", manifest=approval("bob"))
    for words in ("spec.by is bob", f"this request is from {ANN}", "kubectl auth whoami", "Forbidden"):
        assert words in said
    # Nor does who may do everything.
    assert "spec.by is bob" in asked(
        approvers, "root", "create", "--as-group=system:masters", "-f", "-", manifest=approval("bob")
    )


def test_who_approved_can_withdraw_and_cannot_change_what_was_said(approvers: Kubectl) -> None:
    assert asked(approvers, ANN, "create", "-f", "-", manifest=approval(ANN)) == ""
    name = approval(ANN)["metadata"]["name"]
    patch = json.dumps({"spec": {"by": "bob"}})
    assert "immutable" in asked(approvers, ANN, "patch", "modelapproval", name, "--type=merge", "-p", patch)
    assert asked(approvers, ANN, "delete", "modelapproval", name) == ""


def test_the_operator_may_say_whether_an_approval_counts(approvers: Kubectl) -> None:
    assert asked(approvers, ANN, "create", "-f", "-", manifest=approval(ANN)) == ""
    status = {**approval(ANN), "status": {"observedGeneration": 1}}
    del status["spec"]
    apply = ("apply", "--server-side", "--subresource=status", "-f", "-")
    assert asked(approvers, OPERATOR, *apply, manifest=status) == ""


def test_every_policy_is_well_typed_and_in_force(installed: Kubectl) -> None:
    policies = [
        policy
        for policy in installed.list("validatingadmissionpolicies")
        if policy["metadata"]["name"].startswith("modelmill-")
    ]
    assert policies
    for policy in policies:
        assert not policy["status"]["typeChecking"].get("expressionWarnings")
        assert policy["spec"]["failurePolicy"] == "Fail"
    bindings = installed.list("validatingadmissionpolicybindings")
    denied = {b["spec"]["policyName"] for b in bindings if b["spec"]["validationActions"] == ["Deny"]}
    assert {policy["metadata"]["name"] for policy in policies} <= denied


# What the operator may not do to a pod, had it the right to: words for kubectl, and what it sends.
CHANGES: dict[str, dict[str, Any]] = {
    "another annotation": {"metadata": {"annotations": {"theirs": "changed"}}},
    "an annotation removed": {"metadata": {"annotations": {"theirs": None}}},
    "an annotation beside its own": {"metadata": {"annotations": {"modelmill.dev/routes": "1", "new": "1"}}},
    "a label": {"metadata": {"labels": {"app": "other"}}},
    "an owner": {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}]}},
    "a finalizer": {"metadata": {"finalizers": ["modelmill.dev/stays"]}},
    "a name for more": {"metadata": {"generateName": "other-"}},
    "the image": {"spec": {"containers": [{"name": "c", "image": "other"}]}},
    "a deadline": {"spec": {"activeDeadlineSeconds": 1}},
}
EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
NODE = {"apiVersion": "v1", "kind": "Node", "name": "n"}
BINDING = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": NODE}
REQUESTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "exec": ("pods/p/exec?command=true&stdout=true", None),
    "attach": ("pods/p/attach?stdout=true", None),
    "portforward": ("pods/p/portforward?ports=80", None),
    "eviction": ("pods/p/eviction", EVICTION),
    "binding": ("pods/p/binding", BINDING),
}


def pod(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": "p"}, "annotations": {"theirs": "kept"}}
    spec = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def powerful(installed: Kubectl) -> Iterator[Kubectl]:
    """A namespace in which the operator has every right to pods, and a pod `p`."""
    kubectl = Kubectl(installed.config, f"test-operator-pods-{os.getpid()}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        account = {"kind": "ServiceAccount", "name": "modelmill-operator", "namespace": LEASE_NAMESPACE}
        kubectl.apply(*role("powerful", account, {"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}))
        # The service account that a pod has by default comes a moment after its namespace.
        eventually(lambda: kubectl.get("serviceaccount", "default"), "the default service account")
        kubectl.apply(pod("p"))

        def holds() -> bool:
            said = asked(kubectl, OPERATOR, "create", "--dry-run=server", "-f", "-", manifest=pod("q"))
            return "may do nothing to a pod" in said

        eventually(holds, "the policy holds and the operator's rights are known", 20)
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def patched(kubectl: Kubectl, user: str, patch: dict[str, Any], *more: str) -> str:
    words = ("patch", "pod", "p", "--dry-run=server", "--type=strategic", "-p", json.dumps(patch))
    return asked(kubectl, user, *words, *more)


def test_the_operator_may_tell_a_pod_its_routes(powerful: Kubectl) -> None:
    for value in ("1", "2", None):
        words = ("patch", "pod", "p", "--type=merge", "-p")
        patch = json.dumps({"metadata": {"annotations": {"modelmill.dev/routes": value}}})
        assert asked(powerful, OPERATOR, *words, patch) == ""
    assert (powerful.get("pod", "p") or {})["metadata"]["annotations"] == {"theirs": "kept"}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_operator_may_change_nothing_else_of_a_pod(powerful: Kubectl, change: dict[str, Any]) -> None:
    assert "may change nothing of a pod but its annotation modelmill.dev/routes" in patched(powerful, OPERATOR, change)
    assert patched(powerful, "modelmill-admin", change, "--as-group=system:masters") == ""


@pytest.mark.parametrize(("path", "document"), REQUESTS.values(), ids=REQUESTS)
def test_the_operator_may_not_enter_move_or_evict_a_pod(
    powerful: Kubectl, path: str, document: dict[str, Any] | None
) -> None:
    url = f"/api/v1/namespaces/{powerful.namespace}/{path}"
    said = asked(powerful, OPERATOR, "create", "--raw", url, "-f", "-", manifest=document or {})
    assert "may do nothing to a pod" in said


def test_the_operator_may_not_make_or_end_a_pod_or_write_its_status(powerful: Kubectl) -> None:
    words = "may do nothing to a pod"
    assert words in asked(powerful, OPERATOR, "create", "-f", "-", manifest=pod("q"))
    assert words in asked(powerful, OPERATOR, "delete", "pod", "p")
    status = json.dumps({"status": {"phase": "Succeeded"}})
    assert words in asked(powerful, OPERATOR, "patch", "pod", "p", "--subresource=status", "--type=merge", "-p", status)
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i"}]}}
    assert words in patched(powerful, OPERATOR, debug, "--subresource=ephemeralcontainers")
    assert powerful.get("pod", "p") is not None


# Kinds that the operator makes, and may change or delete by its role, which cannot tell whose they are.
TEMPLATE = {"metadata": {"labels": {"app": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
CHILDREN: dict[str, dict[str, Any]] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "c"}}, "template": TEMPLATE},
    },
    "Service": {"apiVersion": "v1", "spec": {"selector": {"app": "c"}, "ports": [{"port": 80}]}},
    "NetworkPolicy": {"apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
    "Job": {
        "apiVersion": "batch/v1",
        "spec": {"suspend": True, "template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}},
    },
    "ConfigMap": {"apiVersion": "v1", "data": {"routes.json": "{}"}},
    "HorizontalPodAutoscaler": {
        "apiVersion": "autoscaling/v2",
        "spec": {
            "maxReplicas": 1,
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": "ModelDeployment", "name": "c"},
        },
    },
    "HTTPRoute": {"apiVersion": "gateway.networking.k8s.io/v1", "spec": {}},
}
MADE = {"app.kubernetes.io/managed-by": "modelmill"}
NOT_OURS = "was not made for an object of Modelmill"
NOT_ITS_OWN_ANY_MORE = "so that it is not its own any more"


def child(kind: str, name: str, owner: dict[str, Any] | None) -> dict[str, Any]:
    """An object with the operator's label, made for `owner` or for nobody."""
    metadata: dict[str, Any] = {"name": name, "labels": MADE}
    if owner is not None:
        reference = {"apiVersion": API_VERSION, "kind": "Model", "controller": True}
        metadata["ownerReferences"] = [reference | {field: owner["metadata"][field] for field in ("name", "uid")}]
    return {"kind": kind, "metadata": metadata, **CHILDREN[kind]}


@pytest.fixture(scope="module")
def children(installed: Kubectl) -> Iterator[Kubectl]:
    """A namespace with a child of ours and somebody else's object, `ours` and `theirs`, of each kind."""
    kubectl = Kubectl(installed.config, f"test-operator-children-{os.getpid()}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        # The garbage collector takes what has an owner that is not there.
        kubectl.apply({"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "owner"}, "spec": {}})
        owner = kubectl.get("model", "owner")
        assert owner is not None
        upstream_kinds.install(kubectl, "HTTPRoute")
        for kind in CHILDREN:
            kubectl.apply(child(kind, "ours", owner), child(kind, "theirs", None))
        # Of these kinds it may delete Deployments by its role.
        eventually(lambda: NOT_OURS in operator_asks(kubectl, "delete", "deployment", "theirs"), "the policy holds", 20)
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def operator_asks(kubectl: Kubectl, verb: str, kind: str, name: str, patch: dict[str, Any] | None = None) -> str:
    more = () if patch is None else ("--type=merge", "-p", json.dumps(patch))
    return asked(kubectl, OPERATOR, verb, kind.lower(), name, "--dry-run=server", *more)


@pytest.fixture(scope="module")
def all_powerful(children: Kubectl) -> Kubectl:
    """The operator has every right to these kinds there, so that only the policy can refuse."""
    account = {"kind": "ServiceAccount", "name": "modelmill-operator", "namespace": LEASE_NAMESPACE}
    groups = ["", "apps", "batch", "networking.k8s.io", "autoscaling", "gateway.networking.k8s.io"]
    resources = [
        *("deployments", "services", "networkpolicies", "jobs", "configmaps"),
        *("horizontalpodautoscalers", "httproutes"),
    ]
    children.apply(*role("all-powerful", account, {"apiGroups": groups, "resources": resources, "verbs": ["*"]}))
    eventually(
        lambda: operator_asks(children, "delete", "service", "ours") == "", "the operator's rights are known", 20
    )
    return children


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_operator_may_change_and_delete_what_was_made_for_an_object_of_ours(
    all_powerful: Kubectl, kind: str
) -> None:
    labels = {"metadata": {"labels": {"seen": "yes"}}}
    assert operator_asks(all_powerful, "patch", kind, "ours", labels) == ""
    assert operator_asks(all_powerful, "delete", kind, "ours") == ""


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_operator_may_not_touch_what_is_somebody_elses_whatever_its_labels(
    all_powerful: Kubectl, kind: str
) -> None:
    labels = {"metadata": {"labels": {"seen": "yes"}}}
    assert NOT_OURS in operator_asks(all_powerful, "patch", kind, "theirs", labels)
    assert NOT_OURS in operator_asks(all_powerful, "delete", kind, "theirs")
    owner = all_powerful.get("model", "owner")
    taken = {"metadata": {"ownerReferences": child(kind, "x", owner)["metadata"]["ownerReferences"]}}
    assert NOT_OURS in operator_asks(all_powerful, "patch", kind, "theirs", taken)
    words = ("patch", kind.lower(), "theirs", "--dry-run=server", "--type=merge", "-p", json.dumps(labels))
    assert asked(all_powerful, "modelmill-admin", *words, "--as-group=system:masters") == ""


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_operator_may_not_make_its_own_somebody_elses_and_may_give_a_label_back(
    all_powerful: Kubectl, kind: str
) -> None:
    for change in ({"labels": {"app.kubernetes.io/managed-by": None}}, {"ownerReferences": None}):
        assert NOT_ITS_OWN_ANY_MORE in operator_asks(all_powerful, "patch", kind, "ours", {"metadata": change})
    all_powerful.run("label", kind.lower(), "ours", "app.kubernetes.io/managed-by-")
    try:
        assert operator_asks(all_powerful, "patch", kind, "ours", {"metadata": {"labels": MADE}}) == ""
    finally:
        all_powerful.run("label", kind.lower(), "ours", "app.kubernetes.io/managed-by=modelmill")


# Versions by what they have of what the operator gives those that it makes.
MADE_BY = {"lineage": {"trainingJob": {"name": "run", "uid": "8a5f"}}}
VERSIONS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "made": (MADE, MADE_BY),
    "theirs": ({}, {}),
    "taken": ({}, MADE_BY),
    "named": (MADE, {}),
}


@pytest.fixture(scope="module")
def versions(children: Kubectl) -> Kubectl:
    account = {"kind": "ServiceAccount", "name": "modelmill-operator", "namespace": LEASE_NAMESPACE}
    rule = {"apiGroups": ["modelmill.dev"], "resources": ["modelversions"], "verbs": ["*"]}
    children.apply(*role("every-version", account, rule))
    for model, (labels, more) in VERSIONS.items():
        artifact = {"uri": "s3://models/artifacts/x", "digest": "sha256:" + "1" * 64}
        spec = {"modelRef": {"name": model}, "version": 1, "artifact": artifact, **more}
        metadata = {"name": f"{model}-1", "labels": labels}
        children.apply({"apiVersion": API_VERSION, "kind": "ModelVersion", "metadata": metadata, "spec": spec})
    eventually(
        lambda: "was not made" in operator_asks(children, "delete", "modelversion", "theirs-1"), "the policy holds", 20
    )
    return children


def test_the_operator_may_delete_a_version_that_it_made_and_no_other(versions: Kubectl) -> None:
    refused = {m: operator_asks(versions, "delete", "modelversion", f"{m}-1") for m in VERSIONS}
    assert refused.pop("made") == ""
    for said in refused.values():
        assert "was not made for a TrainingJob by the operator" in said
    words = ("delete", "modelversion", "theirs-1", "--dry-run=server")
    assert asked(versions, "modelmill-admin", *words, "--as-group=system:masters") == ""


# What runs make, and runs themselves.
STEPS = {"steps": [{"name": "lr", "class": "sklearn.linear_model.LogisticRegression"}]}
TRAINING = {"data": {"datasetRef": {"name": "tumours"}, "target": "benign"}, "estimator": STEPS}


@pytest.fixture(scope="module")
def runs(children: Kubectl) -> Kubectl:
    account = {"kind": "ServiceAccount", "name": "modelmill-operator", "namespace": LEASE_NAMESPACE}
    rule = {"apiGroups": ["modelmill.dev"], "resources": ["trainingjobs", "pipelineruns"], "verbs": ["*"]}
    children.apply(*role("every-run", account, rule))
    for name, labels in (("made", MADE), ("theirs", {})):
        spec = {"pipelineRef": {"name": "none"}}
        metadata: dict[str, Any] = {"name": name, "labels": labels}
        children.apply({"apiVersion": API_VERSION, "kind": "PipelineRun", "metadata": metadata, "spec": spec})
    owner = children.get("mplr", "theirs") or {}
    reference = {"apiVersion": API_VERSION, "kind": "PipelineRun", "name": "theirs", "uid": owner["metadata"]["uid"]}
    for name, owners in (("of-a-run", [reference | {"controller": True}]), ("by-hand", [])):
        metadata = {"name": name, "labels": MADE, "ownerReferences": owners}
        children.apply({"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": metadata, "spec": TRAINING})
    eventually(lambda: "was not made" in operator_asks(children, "delete", "tjob", "by-hand"), "the policy holds", 20)
    return children


def test_the_operator_may_delete_what_was_made_for_a_run_or_a_cause_and_nothing_else(runs: Kubectl) -> None:
    assert operator_asks(runs, "delete", "tjob", "of-a-run") == ""
    assert operator_asks(runs, "delete", "mplr", "made") == ""
    assert "by-hand was not made for an object of Modelmill" in operator_asks(runs, "delete", "tjob", "by-hand")
    assert "PipelineRun theirs was not made for a cause" in operator_asks(runs, "delete", "mplr", "theirs")
    for kind, name in (("tjob", "by-hand"), ("mplr", "theirs")):
        words = ("delete", kind, name, "--dry-run=server")
        assert asked(runs, "modelmill-admin", *words, "--as-group=system:masters") == ""
