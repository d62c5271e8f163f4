"""The operator's own metrics."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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

    def collect(self) -> Iterable[GaugeMetricFamily]:
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
