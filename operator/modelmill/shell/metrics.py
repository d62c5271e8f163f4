"""The operator's own metrics."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelmill.core import conditions, drift, quality_status
from modelmill.core.resources import Manifest
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.queue import WorkQueue

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one operator process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Histogram(
            "modelmill_operator_reconcile_duration_seconds",
            "Time of one reconcile, its writes included.",
            ("kind", "outcome"),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._requests = CounterMetric(
            "modelmill_operator_api_requests",
            "Requests to the API server; code 0: no answer.",
            ("verb", "kind", "code"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "modelmill_operator_api_request_duration_seconds",
            "Time to the API server's answer.",
            ("verb",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._answers = CounterMetric(
            "modelmill_operator_measurements",
            "Questions to pods of ours; outcome: answered, silent (no answer in time) or nonsense.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.leader = Gauge("modelmill_operator_leader", "1 while this replica is active.", registry=self.registry)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        self._reconciles.labels(kind, outcome).observe(seconds)

    def requested(self, verb: str, kind: str, code: int, seconds: float) -> None:
        self._requests.labels(verb, kind, str(code)).inc()
        if verb != "watch":
            self._request_seconds.labels(verb).observe(seconds)

    def asked(self, kind: str, outcome: str) -> None:
        """A pod of an object of that kind was asked how it is doing."""
        self._answers.labels(kind, outcome).inc()

    def watch(self, cache: Cache, queue: WorkQueue[ObjectKey], kinds: Iterable[str]) -> None:
        """Show the cache and the queue, read when somebody asks."""
        self.registry.register(_State(cache, queue, tuple(kinds)))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    def __init__(self, cache: Cache, queue: WorkQueue[ObjectKey], kinds: tuple[str, ...]) -> None:
        self._cache = cache
        self._queue = queue
        self._kinds = kinds

    def collect(self) -> Iterable[Metric]:
        deployments = tuple(self._cache.objects("ModelDeployment")) if "ModelDeployment" in self._kinds else ()
        yield from _drift(deployments)
        yield from _quality(deployments)
        yield GaugeMetricFamily("modelmill_operator_queue_depth", "Objects that wait.", value=len(self._queue))
        yield GaugeMetricFamily(
            "modelmill_operator_queue_oldest_seconds", "Age of what waits longest.", value=self._queue.oldest
        )
        objects = GaugeMetricFamily(
            "modelmill_objects", "Objects by kind, condition and its status.", labels=("kind", "condition", "status")
        )
        for kind in self._kinds:
            counts: Counter[tuple[str, str]] = Counter()
            for manifest in self._cache.objects(kind):
                for condition in manifest["status"].get("conditions", ()):
                    counts[condition["type"], condition["status"]] += 1
            for (condition_type, status), number in sorted(counts.items()):
                objects.add_metric((kind, condition_type, status), number)
        yield objects
        yield from _promises(self._cache)


_OF_DEPLOYMENT = ("namespace", "modeldeployment")


def _drift(deployments: Iterable[Manifest]) -> Iterable[Metric]:
    """What statuses say of drift: of each ModelDeployment that declares it, and of its worst distributions."""
    detected = GaugeMetricFamily(
        "modelmill_drift_detected", "1 where drift is detected; without a sample nobody knows.", labels=_OF_DEPLOYMENT
    )
    windows = CounterMetricFamily(
        "modelmill_drift_windows",
        "Windows that were compared; with another profile from one on.",
        labels=_OF_DEPLOYMENT,
    )
    rows = GaugeMetricFamily("modelmill_drift_window_rows", "Rows in the last window.", labels=_OF_DEPLOYMENT)
    ended = GaugeMetricFamily(
        "modelmill_drift_window_end_timestamp_seconds", "When the last window ended, since 1970.", labels=_OF_DEPLOYMENT
    )
    drifted = GaugeMetricFamily(
        "modelmill_drift_distributions", "Features, predictions and scores that have drifted.", labels=_OF_DEPLOYMENT
    )
    effect = GaugeMetricFamily(
        "modelmill_drift_effect",
        "Population stability index less what sampling explains, of the few distributions that moved farthest.",
        labels=(*_OF_DEPLOYMENT, "of", "feature", "aspect"),
    )
    for manifest in deployments:
        said, condition = manifest["status"].get("drift"), conditions.find(manifest, drift.CONDITION)
        who = _whose(manifest)
        if condition is not None and condition["status"] != "Unknown":
            detected.add_metric(who, condition["status"] == "True")
        if said is None:
            continue
        windows.add_metric(who, said["windows"])
        rows.add_metric(who, said["window"]["rows"])
        ended.add_metric(who, conditions.moment(said["window"]["endedAt"]).timestamp())
        drifted.add_metric(who, said["drifted"])
        for moved in said["worst"]:
            effect.add_metric((*who, moved["of"], moved["feature"], moved["aspect"]), float(moved["effect"]))
    yield from (detected, windows, rows, ended, drifted, effect)


def _quality(deployments: Iterable[Manifest]) -> Iterable[Metric]:
    """What statuses say of quality: of each ModelDeployment that declares it."""
    of_metric = (*_OF_DEPLOYMENT, "metric")
    dropped = GaugeMetricFamily(
        "modelmill_quality_dropped", "1 where quality dropped; without a sample nobody knows.", labels=_OF_DEPLOYMENT
    )
    evidence = GaugeMetricFamily(
        "modelmill_quality_evidence",
        "Logarithm of the evidence that quality dropped or, where it has, that it is back.",
        labels=_OF_DEPLOYMENT,
    )
    bound = GaugeMetricFamily("modelmill_quality_bound", "The least or most that is declared.", labels=of_metric)
    values = {
        part: GaugeMetricFamily(f"modelmill_deployment_quality{suffix}", what, labels=of_metric)
        for part, suffix, what in (
            ("value", "", "The metric by the labels of the last window."),
            ("lower", "_lower", "The true value is not below, with 95 % confidence for that window."),
            ("upper", "_upper", "The true value is not above, with 95 % confidence for that window."),
        )
    }
    estimated = GaugeMetricFamily(
        "modelmill_deployment_quality_estimated", "What scores alone say, without labels.", labels=of_metric
    )
    rows = CounterMetricFamily(
        "modelmill_quality_rows",
        "Rows with labels that count; of another artifact from zero on.",
        labels=_OF_DEPLOYMENT,
    )
    labels = GaugeMetricFamily(
        "modelmill_quality_labels_left_out",
        "Labels of the last window that do not count, and why.",
        labels=(*_OF_DEPLOYMENT, "why"),
    )
    for manifest in deployments:
        said, condition = manifest["status"].get("quality"), conditions.find(manifest, quality_status.CONDITION)
        who = _whose(manifest)
        if condition is not None and condition["status"] != "Unknown":
            dropped.add_metric(who, condition["status"] == "True")
        if condition is not None and said is None:
            rows.add_metric(who, 0)  # it is declared, and nothing can be measured
        if said is None:
            continue
        whose, window = (*who, said["metric"]), said.get("window") or {}
        evidence.add_metric(who, float(said["evidence"]))
        rows.add_metric(who, said["rows"])
        if (declared := said.get("min") or said.get("max")) is not None:
            bound.add_metric(whose, float(declared))
        for part, family in values.items():
            if part in window:
                family.add_metric(whose, float(window[part]))
        if "estimated" in said:
            estimated.add_metric(whose, float(said["estimated"]["accuracy"]))
        for why in ("unknown", "late", "repeated", "ofOthers", "mistyped") if window else ():
            labels.add_metric((*who, why), window[why])
    yield from (dropped, evidence, bound, *values.values(), estimated, rows, labels)


def _promises(cache: Cache) -> Iterable[GaugeMetricFamily]:
    """What alerts can be written by: promises that are broken, and error budgets that go too fast.

    Only of who made or asks for some: of others nothing is said.
    """
    of_use_case = ("namespace", "usecase")
    met = GaugeMetricFamily(
        "modelmill_usecase_requirement_met",
        "1 where the requirement is met, 0 where it is not; absent where nothing says so.",
        labels=(*of_use_case, "requirement"),
    )
    rank = GaugeMetricFamily("modelmill_usecase_rank", "The use case's rank in its namespace.", labels=of_use_case)
    available = GaugeMetricFamily(
        "modelmill_service_level_availability",
        "Share of requests that did not fail in the window.",
        labels=_OF_DEPLOYMENT,
    )
    burn = GaugeMetricFamily(
        "modelmill_service_level_burn",
        "How fast the error budget goes, over the window or its newest step; 1 uses it up in the window.",
        labels=(*_OF_DEPLOYMENT, "over"),
    )
    latency = GaugeMetricFamily(
        "modelmill_service_level_latency_seconds", "Latency in the window.", labels=(*_OF_DEPLOYMENT, "quantile")
    )
    for manifest in cache.objects("UseCase"):
        whose, status = _whose(manifest), manifest["status"]
        if "rank" in status:
            rank.add_metric(whose, status["rank"])
        for one in status.get("requirements", ()):
            if one["met"] != "Unknown":
                met.add_metric((*whose, one["name"]), one["met"] == "True")
    for manifest in cache.objects("ModelDeployment"):
        levels = manifest["status"].get("serviceLevels")
        if levels is None:
            continue
        whose, said = _whose(manifest), levels.get("availability") or {}
        if "observed" in said:
            available.add_metric(whose, float(said["observed"]))
            burn.add_metric((*whose, "window"), float(said["burn"]))
            burn.add_metric((*whose, "step"), float(said["recentBurn"]))
        for one in levels.get("latency", ()):
            if "observed" in one:
                milliseconds = float(one["observed"].removeprefix("above ").removesuffix("ms"))
                latency.add_metric((*whose, one["quantile"]), milliseconds / 1000)
    yield from (met, rank, available, burn, latency)


def _whose(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
