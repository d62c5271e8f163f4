"""The operator's metrics tell which promises are broken and how fast error budgets go, of who made or asks for some."""

from typing import Any

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import Settings
from modelmill.shell.cache import Cache
from modelmill.shell.metrics import Metrics
from modelmill.shell.queue import WorkQueue


def shown(*objects: tuple[str, dict[str, Any]]) -> list[str]:
    cache = Cache(CONTROLLERS, Settings("trainer:1", "server:1"))
    for number, (kind, status) in enumerate(objects, 1):
        metadata = {"name": "triage", "namespace": "team-a", "uid": str(number), "resourceVersion": str(number)}
        cache.store(kind, {"metadata": metadata, "spec": {"owner": "ana"}, "status": status})
    metrics = Metrics()
    metrics.watch(cache, WorkQueue(), ("UseCase",))
    lines = metrics.text().decode().splitlines()
    return [line for line in lines if line.startswith(("modelmill_usecase", "modelmill_service"))]


def test_a_use_case_shows_its_rank_and_what_is_known_of_its_requirements() -> None:
    met = [{"name": name, "met": met} for name, met in (("a", "True"), ("b", "False"), ("c", "Unknown"))]
    whose = 'namespace="team-a",requirement="{}",usecase="triage"'
    found = shown(("UseCase", {"rank": 2, "requirements": met}))
    assert sorted(found) == [
        'modelmill_usecase_rank{namespace="team-a",usecase="triage"} 2.0',
        f"modelmill_usecase_requirement_met{{{whose.format('a')}}} 1.0",
        f"modelmill_usecase_requirement_met{{{whose.format('b')}}} 0.0",
    ]


def test_what_serves_shows_what_was_measured() -> None:
    availability = {"min": "0.999", "observed": "0.9995", "met": "True", "burn": "0.50", "recentBurn": "6.00"}
    latency = [{"quantile": "0.99", "max": "20ms", "observed": "10.624ms", "met": "True"}]
    found = shown(("ModelDeployment", {"serviceLevels": {"availability": availability, "latency": latency}}))
    whose = 'modeldeployment="triage",namespace="team-a"'
    assert sorted(found) == [
        f"modelmill_service_level_availability{{{whose}}} 0.9995",
        f'modelmill_service_level_burn{{{whose},over="step"}} 6.0',
        f'modelmill_service_level_burn{{{whose},over="window"}} 0.5',
        f'modelmill_service_level_latency_seconds{{{whose},quantile="0.99"}} 0.010624',
    ]


def test_of_others_nothing_is_shown() -> None:
    unknown = {"availability": {"min": "0.999", "met": "Unknown"}, "latency": [{"quantile": "0.5", "met": "Unknown"}]}
    assert shown(("ModelDeployment", {"stable": {"revision": "a"}}), ("UseCase", {})) == []
    assert shown(("ModelDeployment", {"serviceLevels": unknown})) == []
