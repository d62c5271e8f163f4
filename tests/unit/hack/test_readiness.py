"""After a restart on former data, `up` believes only reports that are younger than the restart."""

from datetime import UTC, datetime
from typing import Any

from local_cluster.addons import DEPLOYMENTS, not_ready

BEFORE, START, AFTER = "2026-01-01T10:00:00Z", datetime(2026, 1, 1, 11, tzinfo=UTC), "2026-01-01T11:00:00Z"


def node(heartbeat: str, status: str = "True") -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat}
    return {"kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": [condition]}}


def pods(started: str, ready: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": f"{name}-5d-x"},
            "status": {"containerStatuses": [{"ready": ready, "state": {"running": {"startedAt": started}}}]},
        }
        for namespace, name in DEPLOYMENTS
    ]


def test_fresh_reports_are_believed() -> None:
    assert not_ready([node(AFTER), *pods(AFTER)], "n", START) == []


def test_reports_from_before_the_crash_are_not() -> None:
    assert not_ready([node(BEFORE), *pods(AFTER)], "n", START) == ["the node n"]
    assert not_ready([node(AFTER), *pods(BEFORE)], "n", START) == ["/".join(item) for item in DEPLOYMENTS]


def test_what_is_missing_waiting_or_not_ready_is_named() -> None:
    waiting = pods(AFTER)
    waiting[0]["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}

    assert not_ready([node(AFTER, "False"), *waiting], "n", START) == ["the node n", "/".join(DEPLOYMENTS[0])]
    assert len(not_ready([], "n", START)) == 3
    assert not_ready([node(AFTER), *pods(AFTER, ready=False)], "n", START) == ["/".join(item) for item in DEPLOYMENTS]
