"""manifests/monitoring: rules that Prometheus' own tool accepts and that fire when they should, a dashboard whose
queries a real Prometheus answers, and no name of a metric that nobody writes."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import monitoring
from live import ROOT, eventually
from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue
from modelmill_contracts import counters
from modelmill_contracts.counters import Arm, Bins, Latency, Rollout, Snapshot
from modelmill_server import exposition
from modelmill_server.app import App
from modelmill_server.counters import Board
from modelmill_server.limits import Limits
from programs import installed

DRIFT = {
    "revision": "3fa94c1b", "profile": "sha256:" + "1" * 64, "windows": 3, "drifted": 1,
    "window": {"startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T01:00:00Z", "rows": 1100},
    "worst": [{"of": "Feature", "feature": "radius", "aspect": "Values", "effect": "0.312", "windows": 2}],
}  # fmt: skip
QUALITY = {
    "artifact": "sha256:" + "1" * 64, "metric": "accuracy", "min": "0.95", "evidence": "-1.25", "rows": 2100,
    "window": {
        "value": "0.93", "lower": "0.91", "upper": "0.945", "unknown": 1, "late": 2, "repeated": 3, "ofOthers": 4,
        "mistyped": 5,
    },
    "estimated": {"accuracy": "0.9412"},
}  # fmt: skip
SERVICE_LEVELS = {"availability": {"observed": "0.997", "burn": "3.00", "recentBurn": "6.00"}}
ASKED = {key: QUALITY[key] for key in ("artifact", "evidence")} | {"metric": "log_loss", "max": "0.3", "rows": 0}


def condition(type_: str, status: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def operator_text() -> str:
    """What an operator shows that has three ModelDeployments and has done a bit of everything."""
    cache, metrics, queue = Cache(CONTROLLERS, Settings("t", "s")), Metrics(), WorkQueue[ObjectKey]()
    calm = {**DRIFT, "drifted": 0, "worst": []}
    for number, (name, drift, quality, detected) in enumerate(
        [("triage", DRIFT, QUALITY, "True"), ("calm", calm, None, "False"), ("new", None, ASKED, "Unknown")]
    ):
        metadata = {"name": name, "namespace": "team-a", "uid": name, "resourceVersion": str(number + 1)}
        status = {"conditions": [condition("DriftDetected", detected), condition("Stalled", "True")]}
        status["conditions"].append(condition("QualityDropped", detected))
        status |= {"drift": drift} if drift else {}
        status |= {"quality": quality} if quality else {}
        status |= {"serviceLevels": SERVICE_LEVELS} if name == "triage" else {}
        cache.store("ModelDeployment", {"metadata": metadata, "spec": {"model": {"name": name}}, "status": status})
    promised = {"name": "tumour-triage", "namespace": "team-a", "uid": "promised", "resourceVersion": "4"}
    kept = {"requirements": [{"name": "quality", "met": "False"}]}
    cache.store("UseCase", {"metadata": promised, "spec": {"owner": "ana"}, "status": kept})
    metrics.watch(cache, queue, CONTROLLERS)
    metrics.reconciled("ModelDeployment", "success", 0.01)
    metrics.requested("patch", "ModelDeployment", 200, 0.01)
    metrics.asked("ModelDeployment", "answered")
    metrics.leader.set(1)
    return metrics.text().decode()


def server_text() -> str:
    """What a server shows that has counted a bit of everything, in the midst of a rollout."""
    times = Latency((1,) * (len(counters.LATENCY_EDGES) + 1), 1.0)
    arm, bins = Arm(10, 1, times), Bins("predict", (3, 4))
    seen = Snapshot(
        model="triage", model_version="1", arm="", digest="", edges="e", started=1.0, ready=True, workers_ready=1,
        worker_restarts=0, in_flight=0, requests={"200": 9, "500": 1}, refusals={"Busy": 1}, rows=10, request=times,
        compute=times, features=(Bins("radius", (3, 4)),), predictions=bins, scores=bins,
        rollout=Rollout(epoch="e", stable=arm, candidate=arm, fallbacks={"Late": 1}),
    )  # fmt: skip
    board = Board()
    return exposition.written(App("triage", "1", Limits(), board.workers[0]), board, seen).decode()


def samples(*texts: str) -> set[str]:
    return {
        sample.name for text in texts for family in text_string_to_metric_families(text) for sample in family.samples
    }


def test_every_metric_that_is_asked_for_is_written_by_somebody() -> None:
    written = samples(operator_text(), server_text())
    recorded = {rule["record"] for rule in monitoring.rules() if "record" in rule}
    queries = [rule["expr"] for rule in monitoring.rules()] + [
        query for found in monitoring.panels().values() for query in found
    ]
    asked = {name for query in queries for name in monitoring.names_in(query)}
    assert asked - written - recorded == set()
    assert all(monitoring.names_in(query) for query in queries)


def test_what_the_operator_tells_of_drift() -> None:
    found = {
        (sample.name.removeprefix("modelmill_drift_"), sample.labels["modeldeployment"]): sample.value
        for family in text_string_to_metric_families(operator_text())
        for sample in family.samples
        if sample.name.startswith("modelmill_drift_")
    }
    assert found == {
        ("detected", "triage"): 1,
        ("detected", "calm"): 0,
        ("windows_total", "triage"): 3,
        ("windows_total", "calm"): 3,
        ("window_rows", "triage"): 1100,
        ("window_rows", "calm"): 1100,
        ("window_end_timestamp_seconds", "triage"): 1767229200,
        ("window_end_timestamp_seconds", "calm"): 1767229200,
        ("distributions", "triage"): 1,
        ("distributions", "calm"): 0,
        ("effect", "triage"): 0.312,
    }


def test_what_the_operator_tells_of_quality() -> None:
    found = {
        (sample.name, *(sample.labels[key] for key in ("modeldeployment", "metric", "why") if key in sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(operator_text())
        for sample in family.samples
        if "quality" in sample.name
    }
    assert found == {
        ("modelmill_quality_dropped", "triage"): 1,
        ("modelmill_quality_dropped", "calm"): 0,
        ("modelmill_quality_evidence", "triage"): -1.25,
        ("modelmill_quality_evidence", "new"): -1.25,
        ("modelmill_quality_rows_total", "triage"): 2100,
        ("modelmill_quality_rows_total", "new"): 0,
        ("modelmill_quality_rows_total", "calm"): 0,
        ("modelmill_quality_bound", "triage", "accuracy"): 0.95,
        ("modelmill_quality_bound", "new", "log_loss"): 0.3,
        ("modelmill_deployment_quality", "triage", "accuracy"): 0.93,
        ("modelmill_deployment_quality_lower", "triage", "accuracy"): 0.91,
        ("modelmill_deployment_quality_upper", "triage", "accuracy"): 0.945,
        ("modelmill_deployment_quality_estimated", "triage", "accuracy"): 0.9412,
        ("modelmill_quality_labels_left_out", "triage", "unknown"): 1,
        ("modelmill_quality_labels_left_out", "triage", "late"): 2,
        ("modelmill_quality_labels_left_out", "triage", "repeated"): 3,
        ("modelmill_quality_labels_left_out", "triage", "ofOthers"): 4,
        ("modelmill_quality_labels_left_out", "triage", "mistyped"): 5,
    }


def promtool(*arguments: str) -> None:
    done = subprocess.run([installed("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_and_the_dashboards_queries(tmp_path: Path) -> None:
    promtool("check", "rules", str(monitoring.rule_file(tmp_path)))
    records = [
        {"record": f"panel_{number}_{index}", "expr": query}
        for number, queries in enumerate(monitoring.panels().values())
        for index, query in enumerate(queries)
    ]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", str(path))


WHO = 'namespace="team-a", modeldeployment="triage"'
POD = f'{WHO}, pod="triage-1"'
PROMISE = 'namespace="team-a", usecase="tumour-triage", requirement="quality"'


def burning(window: str, step: str) -> dict[str, str]:
    """How fast the error budget goes."""
    return {
        f'modelmill_service_level_burn{{{WHO}, over="{over}"}}': values
        for over, values in (("window", window), ("step", step))
    }


# Each alert: samples that make it fire, and by when.
FIRES = {
    "ModelmillRequestsFail": (
        {
            f'modelmill_requests_total{{{POD}, code="200", version="1"}}': "0+90x60",
            f'modelmill_requests_total{{{POD}, code="500", version="1"}}': "0+10x60",
        },
        "20m",
    ),
    "ModelmillPodNotReady": ({f"modelmill_ready{{{POD}}}": "0x60"}, "11m"),
    "ModelmillWorkersRestart": ({f"modelmill_worker_restarts_total{{{POD}}}": "0+1x60"}, "20m"),
    "ModelmillDriftDetected": ({f"modelmill_drift_detected{{{WHO}}}": "0x4 1x55"}, "6m"),
    "ModelmillDriftUnwatched": ({f"modelmill_drift_window_end_timestamp_seconds{{{WHO}}}": "0x480"}, "380m"),
    "ModelmillQualityDropped": ({f"modelmill_quality_dropped{{{WHO}}}": "0x4 1x55"}, "6m"),
    "ModelmillQualityUnwatched": ({f"modelmill_quality_rows_total{{{WHO}}}": "1000x1500"}, "1455m"),
    "ModelmillRetentionNotKept": (
        {'modelmill_objects{kind="ModelDeployment", condition="RetentionKept", status="False"}': "2x180"},
        "125m",
    ),
    "ModelmillRequirementNotMet": ({f"modelmill_usecase_requirement_met{{{PROMISE}}}": "1x4 0x55"}, "16m"),
    "ModelmillErrorBudgetBurns": (burning("1x4 3x55", "1x4 6x55"), "11m"),
    "ModelmillNoOperator": ({"modelmill_operator_leader": "0x60"}, "6m"),
    "ModelmillObjectStalled": (
        {'modelmill_objects{kind="Dataset", condition="Stalled", status="True"}': "2x60"},
        "16m",
    ),
    "ModelmillQueueWaits": ({"modelmill_operator_queue_oldest_seconds": "301+60x60"}, "6m"),
    "ModelmillReconcilesFail": (
        {
            'modelmill_operator_reconcile_duration_seconds_count{kind="Model", outcome="error"}': "0+9x60",
            'modelmill_operator_reconcile_duration_seconds_count{kind="Model", outcome="success"}': "0+1x60",
        },
        "30m",
    ),
    "ModelmillPodsSilent": (
        {
            'modelmill_operator_measurements_total{kind="ModelDeployment", outcome="silent"}': "0+9x60",
            'modelmill_operator_measurements_total{kind="ModelDeployment", outcome="answered"}': "0+1x60",
        },
        "30m",
    ),
}
HEALTHY = {
    f'modelmill_requests_total{{{POD}, code="200", version="1"}}': "0+100x480",
    f'modelmill_requests_total{{{POD}, code="500", version="1"}}': "0+0x480",
    f"modelmill_ready{{{POD}}}": "1x480",
    f"modelmill_worker_restarts_total{{{POD}}}": "2x480",
    f"modelmill_drift_detected{{{WHO}}}": "0x480",
    f"modelmill_drift_window_end_timestamp_seconds{{{WHO}}}": "0+60x480",
    f"modelmill_quality_dropped{{{WHO}}}": "0x480",
    f"modelmill_quality_rows_total{{{WHO}}}": "0+10x480",
    f"modelmill_usecase_requirement_met{{{PROMISE}}}": "1x480",
    **burning("1x480", "1x480"),
    "modelmill_operator_leader": "1x480",
    'modelmill_objects{kind="Dataset", condition="Stalled", status="False"}': "2x480",
    'modelmill_objects{kind="ModelDeployment", condition="RetentionKept", status="True"}': "2x480",
    "modelmill_operator_queue_oldest_seconds": "2x480",
    'modelmill_operator_reconcile_duration_seconds_count{kind="Model", outcome="error"}': "0+1x480",
    'modelmill_operator_reconcile_duration_seconds_count{kind="Model", outcome="success"}': "0+9x480",
    'modelmill_operator_measurements_total{kind="ModelDeployment", outcome="silent"}': "0+1x480",
    'modelmill_operator_measurements_total{kind="ModelDeployment", outcome="answered"}': "0+9x480",
}


def alerts_at(series: dict[str, str], at: str, expected: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A case of `promtool test rules`: at that time these alerts fire, with these labels."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": at, "alertname": name, "exp_alerts": alerts} for name, alerts in expected.items()
        ],
    }


def fired(name: str) -> list[dict[str, Any]]:
    """The alert of that name as `FIRES` makes it, all its texts filled in."""
    (rule,) = [rule for rule in monitoring.rules() if rule.get("alert") == name]
    values = {
        "ModelmillRequestsFail": "10%", "ModelmillObjectStalled": "2", "ModelmillQueueWaits": "11m 1s",
        "ModelmillDriftUnwatched": "6h 20m 0s", "ModelmillRetentionNotKept": "2",
        "ModelmillErrorBudgetBurns": "3",
    }  # fmt: skip
    about = {
        "ModelmillNoOperator": {}, "ModelmillObjectStalled": {"kind": "Dataset"}, "ModelmillQueueWaits": {},
        "ModelmillRetentionNotKept": {},
        "ModelmillRequirementNotMet": {"namespace": "team-a", "usecase": "tumour-triage", "requirement": "quality"},
        "ModelmillReconcilesFail": {"kind": "Model"}, "ModelmillPodsSilent": {"kind": "ModelDeployment"},
        "ModelmillPodNotReady": {"pod": "triage-1"}, "ModelmillWorkersRestart": {"pod": "triage-1"},
    }.get(name)  # fmt: skip
    labels = {"namespace": "team-a", "modeldeployment": "triage", **(about or {})}
    if about is not None and "pod" not in about:
        labels = about
    annotations = dict(rule["annotations"])
    for key, text in annotations.items():
        filled = re.sub(r"{{ \$labels\.([a-z]+) }}", lambda found: labels[found[1]], text)
        annotations[key] = re.sub(r"{{ \$value( \| [a-zA-Z]+)? }}", values.get(name, ""), filled)
    return [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}]


def test_every_alert_fires_when_it_should_and_no_other(tmp_path: Path) -> None:
    names = [rule["alert"] for rule in monitoring.rules() if "alert" in rule]
    assert sorted(FIRES) == sorted(names)
    quiet: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    leads = {"modelmill_operator_leader": "1x1500"}
    used_up, bad_step = (burning(*burns) for burns in (("3x60", "0x60"), ("0.9x60", "6x60")))
    mended = {f"modelmill_usecase_requirement_met{{{PROMISE}}}": "1x4 0x7 1x50"}
    labels_come = {**leads, f"modelmill_quality_rows_total{{{WHO}}}": "0+10x1500"}
    cases = [
        alerts_at(HEALTHY, "60m", quiet),
        alerts_at(HEALTHY, "400m", quiet),
        alerts_at(labels_come, "1460m", quiet),
        *(alerts_at({**leads, **series}, "14m", quiet) for series in (used_up, bad_step, mended)),
    ]
    for name, (series, at) in FIRES.items():
        cases.append(alerts_at({**leads, **series}, at, {**quiet, name: fired(name)}))
    path = tmp_path / "test.yaml"
    monitoring.rule_file(tmp_path)
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}))
    promtool("test", "rules", str(path))


@pytest.fixture
def targets() -> Iterator[list[dict[str, Any]]]:
    """The texts of an operator and of a server, to be scraped."""
    texts = {"/operator": operator_text(), "/server": server_text()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = texts[self.path].encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: who is scraped each second has nothing to tell."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    where = [f"127.0.0.1:{server.server_port}"]
    labels = {"namespace": "team-a", "modeldeployment": "triage", "pod": "triage-1"}
    try:
        yield [
            {"job_name": "operator", "honor_labels": True, "metrics_path": "/operator",
             "static_configs": [{"targets": where}]},
            {"job_name": "server", "metrics_path": "/server", "static_configs": [{"targets": where, "labels": labels}]},
        ]  # fmt: skip
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_real_prometheus_scrapes_both_and_answers_every_query(tmp_path: Path, targets: list[dict[str, Any]]) -> None:
    with monitoring.running(tmp_path, targets) as prometheus:
        eventually(lambda: "ModelmillDriftDetected" in prometheus.firing(), "the alert fires", 30)
        assert prometheus.value("min(up)") == 1
        time.sleep(3)  # rates take two samples
        empty = [title for title, queries in monitoring.panels().items() if not all(map(prometheus.query, queries))]
        assert empty == []
        health = {
            rule["name"]: rule["health"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]
        }
        assert set(health.values()) == {"ok"}


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads((ROOT / "manifests/monitoring/dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    assert {p["datasource"]["uid"] for p in panels} == {"${datasource}"}
    assert {v["name"] for v in dashboard["templating"]["list"]} == {"datasource", "namespace", "modeldeployment"}


def test_monitors_select_what_is_there() -> None:
    service = yaml.safe_load((ROOT / "manifests/operator/service.yaml").read_text())
    operator = monitoring.monitor("operator.yaml")
    assert operator["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert operator["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
