"""Projections: what the core reads of an object is kept, an event that changes nothing there wakes nobody."""

from typing import Any

import pytest
from world import API_VERSION

from modelmill.core.plan import Settings, Subject, is_former, is_owned
from modelmill.core.resources import TYPES, covers, dig
from modelmill_contracts import digest

METADATA = {
    "name": "x",
    "namespace": "team-a",
    "uid": "1",
    "resourceVersion": "7",
    "generation": 2,
    "labels": {"modelmill.dev/owner-uid": "o"},
    "annotations": {"modelmill.dev/task": "t"},
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "deletionTimestamp": "2026-01-02T00:00:00Z",
    "ownerReferences": [{"uid": "o", "controller": True}],
}
NOISE = {"managedFields": [{"manager": "kubectl"}], "selfLink": "/x", "finalizers": ["a"]}
CONDITION = {
    "type": "Complete", "status": "True", "reason": "R", "message": "m",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}  # fmt: skip
SAID = {"type": "Complete", "status": "True", "reason": "R", "message": "m"}


def projected(kind: str, **manifest: Any) -> dict[str, Any]:
    return TYPES[kind].project({"metadata": {**METADATA, **NOISE}, **manifest})


def test_of_metadata_only_what_is_read_is_kept() -> None:
    assert projected("Service")["metadata"] == METADATA
    assert TYPES["Service"].project({"metadata": {"name": "x"}})["metadata"] == {"name": "x"}


def test_what_kubectl_applied_last_is_not_kept_a_second_time() -> None:
    applied = {**METADATA["annotations"], "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    projection = TYPES["Dataset"].project({"metadata": {**METADATA, "annotations": applied}})
    assert projection["metadata"]["annotations"] == METADATA["annotations"]


def test_our_own_objects_are_kept_with_spec_and_status() -> None:
    assert projected("Dataset", apiVersion=API_VERSION, spec={"a": 1}, status={"b": 2}) == {
        "metadata": METADATA,
        "spec": {"a": 1},
        "status": {"b": 2},
    }
    assert projected("Model") == {"metadata": METADATA, "spec": {}, "status": {}}


def test_of_a_job_of_several_workers_those_that_are_given_up_are_kept() -> None:
    assert projected("Job", status={"failedIndexes": "1,3-5"})["status"]["failedIndexes"] == "1,3-5"


def test_of_a_job_its_conditions_and_how_many_pods_failed_are_kept() -> None:
    noise = {"lastProbeTime": "2026-01-01T00:00:09Z"}
    started = {"active": 1, "startTime": "2026-01-01T00:00:00Z"}
    status = {**started, "failed": 2, "conditions": [{**CONDITION, **noise}]}
    assert projected("Job", spec={"backoffLimit": 1}, status=status) == {
        "metadata": METADATA,
        "status": {"conditions": [CONDITION], "failed": 2},
    }
    assert projected("Job")["status"] == {"conditions": [], "failed": None}


def test_of_a_pod_what_keeps_it_from_running_is_kept() -> None:
    container = {"name": "c", "state": {"waiting": {}}, "lastState": {}, "restartCount": 1, "ready": False}
    init = {**container, "name": "i"}
    scheduled = {**SAID, "type": "PodScheduled"}
    status = {
        "phase": "Pending",
        "reason": "Evicted",
        "message": "full",
        "podIP": "10.0.0.1",
        "conditions": [{**scheduled, "lastProbeTime": None}, {**SAID, "type": "Ready"}],
        "containerStatuses": [{**container, "imageID": "sha256:1"}],
        "initContainerStatuses": [init],
    }
    assert projected("Pod", spec={}, status=status) == {
        "metadata": {key: value for key, value in METADATA.items() if key != "annotations"},
        "status": {
            "phase": "Pending",
            "reason": "Evicted",
            "message": "full",
            "podIP": "10.0.0.1",
            "conditions": [scheduled],
            "containerStatuses": [container],
            "initContainerStatuses": [init],
        },
    }
    empty = {"phase": None, "reason": None, "message": None, "podIP": None, "conditions": []}
    assert projected("Pod")["status"] == {**empty, "containerStatuses": [], "initContainerStatuses": []}


def test_of_a_deployment_its_replicas_and_what_is_refused_are_kept() -> None:
    refused = {**SAID, "type": "ReplicaFailure"}
    counts = {"observedGeneration": 2, "replicas": 3, "availableReplicas": 1}
    status = {**counts, "updatedReplicas": 3, "conditions": [refused, {**SAID, "type": "Available"}]}
    assert projected("Deployment", spec={"replicas": 3, "paused": False}, status=status) == {
        "metadata": METADATA,
        "spec": {"replicas": 3},
        "status": {**counts, "conditions": [refused]},
    }
    assert projected("Deployment") == {
        "metadata": METADATA,
        "spec": {"replicas": None},
        "status": {"observedGeneration": None, "replicas": None, "availableReplicas": None, "conditions": []},
    }


def test_of_a_service_where_it_leads_is_kept() -> None:
    spec = {"selector": {"a": "b"}, "ports": [{"port": 80}], "clusterIP": "10.0.0.1"}
    assert projected("Service", spec={**spec, "ipFamilyPolicy": "SingleStack"}) == {"metadata": METADATA, "spec": spec}
    assert projected("Service")["spec"] == {"selector": None, "ports": None, "clusterIP": None}


def test_of_a_policy_only_whether_it_is_the_same_is_kept() -> None:
    spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert projected("NetworkPolicy", spec=spec) == {"metadata": METADATA, "digest": digest.of_json(spec)}
    closed = {**spec, "ingress": []}  # which the API server drops
    assert projected("NetworkPolicy", spec=closed) == projected("NetworkPolicy", spec=spec)
    assert projected("NetworkPolicy", spec={**spec, "ingress": [{}]}) != projected("NetworkPolicy", spec=spec)
    assert projected("NetworkPolicy") == {"metadata": METADATA, "digest": digest.of_json({})}


def test_of_an_event_what_it_is_about_is_kept() -> None:
    involved = {"kind": "Job", "name": "x", "uid": "1"}
    kept = {"reason": "FailedCreate", "message": "quota", "involvedObject": involved, "lastTimestamp": "t"}
    assert projected("Event", **kept, count=3, source={"component": "job-controller"}) == {
        "metadata": METADATA,
        **kept,
    }
    assert TYPES["Event"].fields["involvedObject"]({"involvedObject": involved}) == "Job/x"


def test_children_are_found_by_their_owner_and_versions_by_their_model() -> None:
    assert TYPES["Pod"].fields["modelmill.dev/owner-uid"]({"metadata": METADATA}) == "o"
    assert TYPES["Pod"].fields["modelmill.dev/owner-uid"]({"metadata": {}}) is None
    for kind in ("TrainingJob", "ModelVersion"):
        assert TYPES[kind].fields["spec.modelRef.name"]({"spec": {"modelRef": {"name": "m"}}}) == "m"


@pytest.mark.parametrize(
    ("kind", "where", "path"),
    [
        ("Service", ("team-a",), "/api/v1/namespaces/team-a/services"),
        ("Service", ("team-a", "x"), "/api/v1/namespaces/team-a/services/x"),
        ("Job", (None,), "/apis/batch/v1/jobs"),
        ("Dataset", ("a", "x", "status"), "/apis/modelmill.dev/v1alpha1/namespaces/a/datasets/x/status"),
    ],
)
def test_where_the_api_server_has_it(kind: str, where: tuple[str | None, ...], path: str) -> None:
    assert TYPES[kind].path(*where) == path


def test_a_path_that_leads_nowhere_has_no_value() -> None:
    assert dig({"a": {"b": 1}}, "a", "b") == 1
    assert dig({"a": {"b": 1}}, "a", "c", "d") is None
    assert dig({"a": "text"}, "a", "b") is None
    assert dig(None, "a") is None


def test_only_the_controller_owns() -> None:
    owner = {"apiVersion": API_VERSION, "kind": "Dataset", "name": "x", "uid": "1", "controller": True}

    def owned_by(**changes: Any) -> dict[str, Any]:
        return {"metadata": {"ownerReferences": [{**owner, **changes}]}}

    assert is_owned(owned_by(), "1")
    assert not is_owned(owned_by(uid="2"), "1")
    assert not is_owned(owned_by(controller=False), "1")
    assert not is_owned({"metadata": {}}, "1")
    assert is_former(owned_by(uid="2"), "x", "1")
    assert not is_former(owned_by(), "x", "1")
    assert not is_former(owned_by(uid="2", name="y"), "x", "1")
    assert not is_former(owned_by(uid="2", controller=False), "x", "1")
    assert not is_former(owned_by(uid="2", apiVersion="apps/v1"), "x", "1")
    assert not is_former({"metadata": {}}, "x", "1")


def test_a_child_names_its_owner_and_does_not_hold_up_its_deletion() -> None:
    assert Subject("x", "team-a", "1", 2, Settings("t", "s")).reference("Dataset") == {
        "apiVersion": "modelmill.dev/v1alpha1",
        "kind": "Dataset",
        "name": "x",
        "uid": "1",
        "controller": True,
        "blockOwnerDeletion": False,
    }


OURS = "app.kubernetes.io/managed-by=modelmill"


@pytest.mark.parametrize(
    ("kind", "api_version", "path", "labels", "fields", "owned"),
    [
        ("Dataset", "modelmill.dev/v1alpha1", "/apis/modelmill.dev/v1alpha1/datasets", None, None, False),
        ("Deployment", "apps/v1", "/apis/apps/v1/deployments", OURS, None, True),
        ("Service", "v1", "/api/v1/services", OURS, None, True),
        (
            "NetworkPolicy",
            "networking.k8s.io/v1",
            "/apis/networking.k8s.io/v1/networkpolicies",
            OURS,
            None,
            True,
        ),
        ("Job", "batch/v1", "/apis/batch/v1/jobs", OURS, None, True),
        ("Pod", "v1", "/api/v1/pods", OURS, None, False),
        ("Event", "v1", "/api/v1/events", None, "reason=FailedCreate,involvedObject.kind=Job", False),
        ("PersistentVolumeClaim", "v1", "/api/v1/persistentvolumeclaims", None, None, False),
    ],
)
def test_what_is_watched(
    kind: str, api_version: str, path: str, labels: str | None, fields: str | None, owned: bool
) -> None:
    found = TYPES[kind]
    assert (found.api_version, found.path(None)) == (api_version, path)
    assert found.group == api_version.rpartition("/")[0]
    assert (found.label_selector, found.field_selector, found.owned) == (labels, fields, owned)


@pytest.mark.parametrize(
    ("live", "wanted", "there"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": None}, False),
        ([{"a": 1, "b": 2}], [{"a": 1}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 1}], False),
        (None, {"a": 1}, False),
        (None, [], False),
    ],
)
def test_what_is_wanted_is_there_whatever_else_is(live: object, wanted: object, there: bool) -> None:
    assert covers(live, wanted) is there
