"""What Prometheus reads is what happened."""

import pytest
from artifacts import Made
from prometheus_client.parser import text_string_to_metric_families
from serving import ask, matrix, serving

from modelmill_contracts import counters as names
from modelmill_server.cells import Histogram


def test_counters_histograms_and_gauges(cancer: Made) -> None:
    with serving(cancer) as server:
        for count in (1, 1, 5):
            server.infer(matrix(cancer.rows[:count]))
        server.ask("POST", "/v2/models/model/infer", b"nonsense")
        server.ask("POST", "/v2/models/other/infer", b"{}")
        server.ask("GET", "/v2/health/live")
        answer = ask(server.metrics_port, "GET", "/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    model = {"model": "model", "version": "7"}

    def values(name: str, label: str) -> dict[str, float]:
        samples = [sample for sample in families[name].samples if sample.name == f"{name}_total"]
        assert all(sample.labels.items() >= model.items() for sample in samples)
        return {sample.labels.get(label, ""): sample.value for sample in samples}

    assert values(names.REQUESTS, "code") == {"200": 3, "400": 1}
    assert values(names.PREDICTIONS, "") == {"": 7}
    assert values(names.REFUSALS, "reason") == {"JsonInvalid": 1, "ModelUnknown": 1}
    for name, count in ((names.REQUEST_SECONDS, 4), (names.COMPUTE_SECONDS, 3)):
        buckets = [sample for sample in families[name].samples if sample.name.endswith("_bucket")]
        assert [float(bucket.labels["le"]) for bucket in buckets] == [*names.LATENCY_EDGES, float("inf")]
        heights = [bucket.value for bucket in buckets]
        assert heights == sorted(heights)
        assert heights[-1] == count
    (info,) = families[names.MODEL_INFO].samples
    assert info.labels == {**model, "digest": cancer.digest, "runtime": "onnx"}
    assert [families[name].samples[0].value for name in (names.READY, names.IN_FLIGHT)] == [1, 0]
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize("index", [0, 1, 80, 160])
def test_an_edge_belongs_to_the_bucket_below_it(index: int) -> None:
    # Prometheus' `le` means less than or equal.
    histogram = Histogram()
    edge = names.LATENCY_EDGES[index]
    histogram.add(edge)
    histogram.add(edge * 1.0001)
    assert (histogram.counts[index], histogram.counts[index + 1]) == (1, 1)
    assert histogram.read().total == pytest.approx(edge * 2.0001)
