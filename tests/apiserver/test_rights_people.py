"""Who may do what with our kinds: each role, resource and verb is asked of the API server, from one table."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from live import ROOT, Kubectl, eventually

READ = frozenset({"get", "list", "watch"})
WRITE = frozenset({"create", "update", "patch", "delete", "deletecollection"})
VERBS = sorted(READ | WRITE)
MEANING = {
    "-": frozenset[str](),
    "r": READ,
    "rw": READ | WRITE,
    "scale": frozenset({"get", "update", "patch"}),
    "decide": READ | {"create", "delete"},
}

# The columns are roles; the last three are Kubernetes' own.  What is not here is refused: above all, each status.
TABLE = """
                        viewer  data-scientist  ml-engineer  product-owner  approver  platform  view  edit  admin
workspaces              r       r               r            r              r         rw        r     r     r
usecases                r       r               rw           rw             r         r         r     r     rw
datasets                r       rw              r            r              r         r         r     rw    rw
trainingjobs            r       rw              r            r              r         r         r     rw    rw
experiments             r       rw              r            r              r         r         r     rw    rw
pipelines               r       rw              r            r              r         r         r     rw    rw
pipelineruns            r       rw              r            r              r         r         r     rw    rw
models                  r       r               rw           r              r         r         r     r     rw
modelversions           r       r               rw           r              r         r         r     r     rw
modelapprovals          r       r               r            r              decide    r         r     r     r
modeldeployments        r       r               rw           r              r         r         r     r     rw
modeldeployments/scale  -       -               scale        -              -         -         -     -     scale
"""
BUILT_IN = ("view", "edit", "admin")


def expected() -> dict[str, dict[str, frozenset[str]]]:
    """Role -> resource -> verbs."""
    header, *lines = TABLE.strip().splitlines()
    roles = header.split()
    found: dict[str, dict[str, frozenset[str]]] = {role: {} for role in roles}
    for line in lines:
        resource, *cells = line.split()
        for role, cell in zip(roles, cells, strict=True):
            found[role][resource] = MEANING[cell]
    return found


def resources() -> list[str]:
    """Every resource of the CRDs, with its subresources."""
    found = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())
        if definition["kind"] == "CustomResourceDefinition":
            plural = definition["spec"]["names"]["plural"]
            found.append(plural)
            for version in definition["spec"]["versions"]:
                found += [f"{plural}/{name}" for name in version.get("subresources", {})]
    return sorted(set(found))


def cluster_role(role: str) -> str:
    return role if role in BUILT_IN else f"modelmill-{role}"


@pytest.fixture(scope="module")
def people(installed: Kubectl) -> Iterator[Kubectl]:
    """A namespace in which each role is bound to a user of its name."""
    kubectl = Kubectl(installed.config, f"test-people-{os.getpid()}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        for role in expected():
            kubectl.run("create", "rolebinding", role, f"--clusterrole={cluster_role(role)}", f"--user={role}")
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def review(namespace: str, user: str, resource: str, verb: str) -> dict[str, Any]:
    plural, _, subresource = resource.partition("/")
    attributes = {
        "group": "modelmill.dev",
        "version": "v1alpha1",
        "resource": plural,
        "subresource": subresource,
        "verb": verb,
        "namespace": namespace,
        "name": "x",
    }
    api = "authorization.k8s.io/v1"
    spec = {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes}
    return {"apiVersion": api, "kind": "SubjectAccessReview", "spec": spec}


def allowed(kubectl: Kubectl, user: str) -> dict[str, frozenset[str]]:
    """What the API server lets this user do: resource -> verbs, of those that have any."""
    reviews = [review(kubectl.namespace, user, resource, verb) for resource in resources() for verb in VERBS]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = list(yaml.safe_load_all(kubectl.run("create", "-f", "-", "-o", "yaml", stdin=document).stdout))
    found: dict[str, set[str]] = {}
    assert len(answers) == len(reviews)
    for item in answers:
        if item["status"]["allowed"]:
            attributes = item["spec"]["resourceAttributes"]
            parts = (attributes["resource"], attributes.get("subresource"))
            found.setdefault("/".join(part for part in parts if part), set()).add(attributes["verb"])
    return {resource: frozenset(verbs) for resource, verbs in found.items()}


def test_the_table_has_every_kind() -> None:
    without_status = {resource for resource in resources() if not resource.endswith("/status")}
    for rights in expected().values():
        assert set(rights) == without_status


@pytest.mark.parametrize("role", expected())
def test_a_role_may_do_what_the_table_says_and_nothing_else(people: Kubectl, role: str) -> None:
    wanted = {resource: verbs for resource, verbs in expected()[role].items() if verbs}
    said: list[dict[str, frozenset[str]]] = []

    def settled() -> bool:
        # Roles are put together by a controller, a moment after they were written.
        said.append(allowed(people, role))
        return said[-1] == wanted

    eventually(settled, f"{wanted}", 10, lambda: f"{said[-1]}")


def test_an_admin_of_a_namespace_cannot_take_the_platforms_rights(people: Kubectl) -> None:
    words = ("create", "rolebinding", "mine", "--user=admin", "--as=admin", "--dry-run=server")
    assert people.run(*words, "--clusterrole=modelmill-ml-engineer").returncode == 0
    taken = people.run(*words, "--clusterrole=modelmill-platform", check=False)
    assert "attempting to grant RBAC permissions not currently held" in taken.stderr


def test_an_admin_of_a_namespace_cannot_take_the_right_to_approve(people: Kubectl) -> None:
    words = ("create", "rolebinding", "mine", "--user=admin", "--as=admin", "--dry-run=server")
    taken = people.run(*words, "--clusterrole=modelmill-approver", check=False)
    assert "attempting to grant RBAC permissions not currently held" in taken.stderr


def test_a_role_of_somebody_elses_joins_by_its_label(people: Kubectl) -> None:
    name = "test-rights-of-an-add-on"
    rule = {"apiGroups": ["add-on.example.org"], "resources": ["reports"], "verbs": ["create"]}
    metadata = {"name": name, "labels": {"modelmill.dev/aggregate-to-approver": "true"}}
    people.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": [rule],
        }
    )
    try:
        eventually(lambda: rule in (people.get("clusterrole", "modelmill-approver") or {})["rules"], "it joined", 20)
        for role in set(expected()) - {"approver"}:
            assert rule not in (people.get("clusterrole", cluster_role(role)) or {})["rules"]
    finally:
        people.run("delete", "clusterrole", name)
