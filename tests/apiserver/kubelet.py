"""What nodes would do to pods, done by tests: there are no nodes here, but every controller of Kubernetes runs."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from live import Kubectl, eventually
from modelmill_contracts import report


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seen_by_the_scheduler(pod: dict[str, Any]) -> bool:
    """It writes once that it has no node; before that it would write over what is written here."""
    return any(c["type"] == "PodScheduled" for c in pod["status"].get("conditions", ()))


def end(kubectl: Kubectl, job: str, said: report.Report, until: Callable[[], Any], wanted: str) -> Any:
    """End every pod of the Job of that name with this report, until something is so."""

    def look() -> Any:
        for pod in kubectl.list("pods", f"batch.kubernetes.io/job-name={job}"):
            if pod["status"]["phase"] == "Pending" and _seen_by_the_scheduler(pod):
                kubectl.patch_status("pod", pod["metadata"]["name"], _ended(said))
        return until()

    return eventually(look, wanted, 90)


def _ended(said: report.Report) -> dict[str, Any]:
    code = report.exit_code(said)
    terminated = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "message": report.encode(said).decode(),
        "startedAt": _now(),
        "finishedAt": _now(),
    }
    container = {"name": "trainer", "state": {"terminated": terminated}, "ready": False, "restartCount": 0}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{**container, "image": "i", "imageID": "i"}],
    }


def serve(kubectl: Kubectl, deployment: str, until: Callable[[], Any], wanted: str) -> Any:
    """Make every pod of the ModelDeployment of that name ready, until something is so."""

    def look() -> Any:
        for pod in kubectl.list("pods", f"modelmill.dev/modeldeployment={deployment}"):
            if pod["status"]["phase"] == "Pending" and _seen_by_the_scheduler(pod):
                conditions = [
                    {"type": type_, "status": "True", "lastTransitionTime": _now()}
                    for type_ in ("PodScheduled", "ContainersReady", "Ready")
                ]
                status = {"phase": "Running", "conditions": conditions}
                kubectl.patch_status("pod", pod["metadata"]["name"], status)
        return until()

    return eventually(look, wanted, 90)
