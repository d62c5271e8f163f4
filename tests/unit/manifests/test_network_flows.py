"""The NetworkPolicies in manifests/: what must get through does, and each refuses what it is there to refuse."""

from typing import Any

import pytest
import yaml

from live import ROOT
from modelmill.core import network
from networkpolicy import Flow, Pod, allowed

SYSTEM, TEAM = "modelmill-system", "team-a"
NAMESPACES = {
    SYSTEM: {},
    TEAM: {},
    "team-b": {},
    "kube-system": {},
    "watch": {"modelmill.dev/monitoring": "true"},
}


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def policies(path: str, namespace: str) -> list[dict[str, Any]]:
    found = documents(path)
    for policy in found:
        policy["metadata"]["namespace"] = namespace
    return found


def pod_of(path: str, namespace: str, ip: str) -> Pod:
    """The pod of a Deployment in manifests/, at this address."""
    (deployment,) = documents(path)
    template = deployment["spec"]["template"]
    name = deployment["metadata"]["name"]
    status = {"podIPs": [{"ip": ip}], "hostIPs": [{"ip": "10.0.9.1"}]}
    metadata = {**template["metadata"], "namespace": namespace, "name": name}
    return Pod.of({"metadata": metadata, "spec": template["spec"], "status": status})


MANAGED = {"app.kubernetes.io/managed-by": "modelmill"}
OPERATOR = pod_of("manifests/operator/deployment.yaml", SYSTEM, "10.0.0.1")
NEIGHBOUR = Pod(SYSTEM, "neighbour", ("10.0.0.2",))
STORE = pod_of("manifests/store/deployment.yaml", TEAM, "10.0.1.1")
JOB = Pod(TEAM, "job", ("10.0.1.2",), MANAGED)
TRAINING = Pod(TEAM, "training", ("10.0.1.4",), {**MANAGED, "job-name": "forest-train"})
SERVING = Pod(TEAM, "serving", ("10.0.1.5",), {**MANAGED, "modelmill.dev/modeldeployment": "triage"})
STRANGER = Pod(TEAM, "stranger", ("10.0.1.3",))
JOB_ELSEWHERE = Pod("team-b", "job", ("10.0.2.1",), MANAGED)
DNS = Pod("kube-system", "coredns", ("10.0.3.1",), {"k8s-app": "kube-dns"})
PROMETHEUS = Pod("watch", "prometheus", ("10.0.4.1",))
PODS = (OPERATOR, NEIGHBOUR, STORE, JOB, TRAINING, SERVING, STRANGER, JOB_ELSEWHERE, DNS, PROMETHEUS)
API_SERVER, NODE, SOMEWHERE = "192.0.2.1", "10.0.9.1", "198.51.100.1"


def flow(source: Pod | str, destination: Pod | str, port: int, protocol: str = "TCP") -> Flow:
    ends = [end if isinstance(end, str) else end.ips[0] for end in (source, destination)]
    return Flow(ends[0], ends[1], port, protocol)


NEEDED = {
    "the operator asks the API server": flow(OPERATOR, API_SERVER, 6443),
    "the operator asks an API server behind 443": flow(OPERATOR, API_SERVER, 443),
    "the operator asks for a name": flow(OPERATOR, DNS, 53, "UDP"),
    "the operator asks for a long name": flow(OPERATOR, DNS, 53),
    "the operator asks how far a training is": flow(OPERATOR, TRAINING, 9090),
    "the operator asks what became of a rollout's requests": flow(OPERATOR, SERVING, 9090),
    "the operator asks Prometheus": flow(OPERATOR, PROMETHEUS, 9090),
    "the kubelet probes the operator": flow(NODE, OPERATOR, 8080),
    "monitoring reads the operator's metrics": flow(PROMETHEUS, OPERATOR, 8080),
    "a Job reaches the store": flow(JOB, STORE, 7070),
    "the kubelet probes the store": flow(NODE, STORE, 7070),
}
REFUSED = {
    "somebody reads the operator's metrics": flow(STRANGER, OPERATOR, 8080),
    "a neighbour reads the operator's metrics": flow(NEIGHBOUR, OPERATOR, 8080),
    "monitoring tries another port": flow(PROMETHEUS, OPERATOR, 8081),
    "the operator reaches into a team's store": flow(OPERATOR, STORE, 7070),
    "the operator reaches a pod that serves": flow(OPERATOR, JOB, 8080),
    "the operator asks another port of a training": flow(OPERATOR, TRAINING, 8080),
    "the operator calls a model": flow(OPERATOR, SERVING, 8080),
    "the operator asks a pod that is none of ours": flow(OPERATOR, STRANGER, 9090),
    "a neighbour of the operator asks a training": flow(NEIGHBOUR, TRAINING, 9090),
    "the operator asks another port of monitoring": flow(OPERATOR, PROMETHEUS, 8080),
    "a neighbour of the operator asks Prometheus": flow(NEIGHBOUR, PROMETHEUS, 9090),
    "the operator calls home": flow(OPERATOR, SOMEWHERE, 80),
    "the operator asks another DNS": flow(OPERATOR, SOMEWHERE, 53, "UDP"),
    "a neighbour of the operator talks at all": flow(NEIGHBOUR, API_SERVER, 443),
    "a neighbour of the operator is talked to": flow(STRANGER, NEIGHBOUR, 80),
    "a stranger in the namespace reaches the store": flow(STRANGER, STORE, 7070),
    "a Job of another namespace reaches the store": flow(JOB_ELSEWHERE, STORE, 7070),
    "a Job tries another port of the store": flow(JOB, STORE, 7071),
    "the store calls out": flow(STORE, SOMEWHERE, 443),
    "the store asks for a name": flow(STORE, DNS, 53, "UDP"),
}


def shipped() -> list[dict[str, Any]]:
    return [
        *policies("manifests/operator/networkpolicy.yaml", SYSTEM),
        *policies("manifests/store/networkpolicy.yaml", TEAM),
    ]


@pytest.mark.parametrize("seen", NEEDED.values(), ids=NEEDED)
def test_what_is_needed_gets_through(seen: Flow) -> None:
    assert allowed(seen, PODS, NAMESPACES, shipped())


@pytest.mark.parametrize("tried", REFUSED.values(), ids=REFUSED)
def test_what_nobody_needs_does_not(tried: Flow) -> None:
    assert not allowed(tried, PODS, NAMESPACES, shipped())


def test_the_operator_is_who_the_policies_of_jobs_let_in() -> None:
    assert network.OPERATOR.items() <= OPERATOR.labels.items()
    (deployment,) = documents("manifests/operator/deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    own = {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    assert own in container["env"]


def test_each_policy_by_itself_refuses_something() -> None:
    for policy in shipped():
        refused = [what for what, tried in REFUSED.items() if not allowed(tried, PODS, NAMESPACES, [policy])]
        assert refused, policy["metadata"]["name"]
