"""A shifted feature is drift, and no longer once the shift ends; Prometheus sees it, and nothing waits for it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import monitoring
from live import ROOT, Kubectl, eventually

NAME = "triage-watched"
FAST = '{"spec": {"monitoring": {"drift": {"window": "10s"}}}}'


@pytest.fixture(scope="module")
def watched(team: Kubectl) -> Iterator[Kubectl]:
    """The example, with windows of ten seconds, and rows that are as in training."""
    team.apply_folder("examples/monitoring")
    team.run("patch", "mdep", NAME, "--type=merge", "-p", FAST)
    team.run("wait", "--for=condition=Ready", "pod/rows", "--timeout=180s")
    yield team
    team.run("exec", "rows", "--", "touch", "/tmp/stop", check=False)
    team.run("delete", "-k", str(ROOT / "examples/monitoring"), "--wait=false")


def scrapes(team: Kubectl, system: Kubectl) -> list[dict[str, Any]]:
    """What prometheus-operator would make of the monitors: targets by the pods' labels and the names of their ports."""
    serving, operator = monitoring.monitor("pods.yaml"), monitoring.monitor("operator.yaml")
    (endpoint,), (metrics,) = serving["podMetricsEndpoints"], operator["endpoints"]
    relabelled = [
        {"source_labels": relabelling["sourceLabels"], "target_label": relabelling["targetLabel"]}
        for relabelling in endpoint["relabelings"]
    ]
    selected = [
        *(f"{key}={value}" for key, value in serving["selector"]["matchLabels"].items()),
        *(expression["key"] for expression in serving["selector"]["matchExpressions"]),
    ]
    operators = ",".join(f"{key}={value}" for key, value in operator["selector"]["matchLabels"].items())
    return [
        _scrape("serving", team, ",".join(selected), endpoint, relabelled),
        _scrape("operator", system, operators, metrics, []),
    ]


def _scrape(
    job: str, kubectl: Kubectl, selector: str, endpoint: dict[str, Any], more: list[dict[str, Any]]
) -> dict[str, Any]:
    """Debian's Prometheus has no discovery of Kubernetes': what it would find is given to it."""
    port = {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"], "action": "keep"}
    names = [
        {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
        for source, target in (("namespace", "namespace"), ("pod_name", "pod"))
    ]
    return {
        "job_name": job,
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "static_configs": [target for pod in kubectl.list("pods", selector) for target in _targets(pod)],
        "relabel_configs": [port, *names, *more],
    }


def _targets(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    metadata = pod["metadata"]
    about = {"namespace": metadata["namespace"], "pod_name": metadata["name"]}
    about |= {f"pod_label_{re.sub('[^a-zA-Z0-9_]', '_', key)}": value for key, value in metadata["labels"].items()}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", ()):
            known = about | {"pod_container_port_name": port["name"]}
            labels = {f"__meta_kubernetes_{name}": value for name, value in known.items()}
            yield {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": labels}


def test_a_shift_is_found_and_its_end_too_and_prometheus_tells(
    watched: Kubectl, system: Kubectl, tmp_path: Path
) -> None:
    usual = watched.wait_for("mdep", NAME, "DriftDetected", "False", reason="NoDrift", seconds=120)
    assert "rows until" in usual["message"]
    with monitoring.running(tmp_path, scrapes(watched, system)) as prometheus:
        watched.run("exec", "rows", "--", "touch", "/tmp/shift")
        watched.wait_for("mdep", NAME, "DriftDetected", "True", reason="Drifted", seconds=90)
        drift = (watched.get("mdep", NAME) or {})["status"]["drift"]
        worst = drift["worst"][0]
        assert worst["feature"] == "mean_radius"
        assert float(worst["effect"]) > 0.1
        assert drift["window"]["rows"] >= 1000
        eventually(lambda: "ModelmillDriftDetected" in prometheus.firing(), "the alert fires", 30)
        who = f'namespace="{watched.namespace}", modeldeployment="{NAME}"'
        assert prometheus.value(f'modelmill_drift_effect{{{who}, feature="mean_radius", aspect="Values"}}') > 0.1  # type: ignore[operator]
        assert prometheus.value(f"modelmill_ready{{{who}}}") == 1
        assert prometheus.value("min(up)") == 1
        # Nothing is rolled out, nothing fails, nothing needs a person, and no labels are asked for.
        without = {
            "Rollouts: requests by arm", "Rollouts: share of failures by arm", "Share of requests that fail",
            "Objects that need a person", "Quality dropped",
            "Quality by labels, with its bounds, and as estimated from scores",
        }  # fmt: skip
        empty = {title for title, queries in monitoring.panels().items() if not all(map(prometheus.query, queries))}
        assert empty <= without
    # Prometheus is down.
    watched.run("exec", "rows", "--", "rm", "/tmp/shift")
    watched.wait_for("mdep", NAME, "DriftDetected", "False", reason="NoDrift", seconds=120)

    def events() -> set[str]:
        return {e["reason"] for e in watched.list("events") if e["involvedObject"]["name"] == NAME}

    # They are written when nothing else waits to be.
    eventually(lambda: events() >= {"DriftDetected", "DriftEnded"}, "both Events", 30, lambda: str(events()))


def test_what_was_compared_is_still_known_after_the_operator_was_killed(watched: Kubectl, system: Kubectl) -> None:
    before = (watched.get("mdep", NAME) or {})["status"]["drift"]
    system.run("delete", "pod", "-l", "app.kubernetes.io/name=modelmill-operator", "--grace-period=0", "--force")
    eventually(
        lambda: (watched.get("mdep", NAME) or {})["status"]["drift"]["windows"] > before["windows"] + 1,
        "windows go on",
        120,
        lambda: watched.describe("mdep", NAME),
    )
    after = (watched.get("mdep", NAME) or {})["status"]["drift"]
    assert after["profile"] == before["profile"]
    assert watched.condition("mdep", NAME, "DriftDetected")["reason"] == "NoDrift"
