"""How long a candidate is waited for: by what the own model takes, of late."""

import pytest

from modelmill_contracts.counters import LATENCY_EDGES
from modelmill_server.candidate import Patience
from modelmill_server.cells import Histogram


def seen(histogram: Histogram, seconds: float, count: int) -> None:
    for _ in range(count):
        histogram.add(seconds)


def test_a_fast_model_gives_20_ms() -> None:
    patience, histogram = Patience(), Histogram()
    patience.look(histogram.read(), fast=True)
    assert patience.seconds == 0.02
    seen(histogram, 0.0002, 100)
    patience.look(histogram.read(), fast=True)
    assert patience.seconds == 0.02


def test_of_a_slow_model_nothing_is_known_at_first() -> None:
    patience, histogram = Patience(), Histogram()
    assert patience.seconds == 1.0
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == 1.0
    seen(histogram, 0.05, 1)
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(0.5, rel=0.1)
    assert patience.of_many_rows == 1.0
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(0.5, rel=0.1)


def test_it_is_the_99th_percentile_that_counts() -> None:
    patience, histogram = Patience(), Histogram()
    seen(histogram, 0.01, 990)
    seen(histogram, 10.0, 10)
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(0.1, rel=0.1)
    seen(histogram, 10.0, 30)
    other = Patience()
    other.look(histogram.read(), fast=False)
    assert other.seconds == pytest.approx(100, rel=0.1)


def test_what_was_long_ago_does_not_count() -> None:
    patience, histogram = Patience(), Histogram()
    seen(histogram, 0.1, 5000)
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(1.0, rel=0.1)
    seen(histogram, 0.01, 1000)
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(0.1, rel=0.1)


def test_a_model_beyond_all_edges() -> None:
    patience, histogram = Patience(), Histogram()
    seen(histogram, 1000.0, 10)
    patience.look(histogram.read(), fast=False)
    assert patience.seconds == pytest.approx(10 * LATENCY_EDGES[-1])
