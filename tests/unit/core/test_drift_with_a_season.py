"""Drift where each hour of the day is unlike the others: what is usual at that hour is no drift, and what is not is.

Thirty features whose mean goes up and down by half a standard deviation within a day, 1,000 rows an hour.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from modelmill.api.monitoring import Drift, DriftStatus
from modelmill.core import drift, season
from modelmill.core.tally import Profile, Tally
from modelmill_contracts.counters import Reference, Trained

FEATURES, ROWS, TRAINING = 30, 1_000, 10_000
EDGES = np.linspace(-1.5, 1.5, 10)
START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)  # no hour is whole
LEARNT = 8 * 24  # windows


def shares(mean: float) -> np.ndarray:
    return np.diff([0.0, *stats.norm.cdf(EDGES - mean), 1.0])


def usual(moment: datetime) -> float:
    """The mean of every feature at that time of the day."""
    return 0.5 * math.sin(2 * math.pi * (moment.hour * 60 + moment.minute) / 1440)


class Stream:
    """A deployment that is watched hour by hour."""

    def __init__(self, seed: int, **settings: str) -> None:
        self.rng = np.random.default_rng(seed)
        day = np.mean([shares(usual(START + timedelta(hours=hour))) for hour in range(24)], axis=0)
        features = tuple(Trained(f"x{i}", tuple(self.rng.multinomial(TRAINING, day).tolist())) for i in range(FEATURES))
        self.profile = Profile("", "e", Reference(features))
        self.settings = Drift(**settings)
        self.now = START
        self.status: DriftStatus | None = None
        self.said: tuple[str, str, str] | None = None

    def hour(self, shift: float = 0.0) -> tuple[str, str]:
        """The condition after an hour more, in which the first feature is shifted."""
        counts: list[int] = []
        for index in range(FEATURES):
            mean = usual(self.now + timedelta(minutes=30)) + (shift if index == 0 else 0)
            counts += [*self.rng.multinomial(ROWS, shares(mean)).tolist(), 0, 0]
        self.now += timedelta(hours=1)
        facts = drift.Facts(
            self.settings, self.status, self.said, "r", timedelta(hours=1), Tally(self.profile, tuple(counts)), "", ()
        )
        found = drift.course(facts, "r", {}, self.now)
        assert found.compared
        self.status, condition = found.status, found.condition
        self.said = (condition.status, condition.reason, condition.message)
        return condition.status, condition.reason


def learnt_days(stream: Stream) -> list[int]:
    assert stream.status is not None
    known = season.unpacked(stream.status.season, FEATURES * 13)
    return [hour.days for hour in known.hours]


@pytest.fixture(scope="module")
def learnt() -> tuple[Stream, list[tuple[str, str]]]:
    stream = Stream(1, seasonality="Daily")
    return stream, [stream.hour() for _ in range(LEARNT)]


@pytest.mark.slow
def test_while_it_is_learnt_whole_days_are_compared(learnt: tuple[Stream, list[tuple[str, str]]]) -> None:
    _, found = learnt
    assert set(found[:23]) == {("Unknown", "Learning")}
    assert set(found[25:]) == {("False", "NoDrift")}


@pytest.mark.slow
def test_without_a_season_the_day_itself_looks_like_drift() -> None:
    stream = Stream(1)
    assert ("True", "Drifted") in [stream.hour() for _ in range(24)]


@pytest.mark.slow
def test_what_moves_on_the_second_day_is_found_while_hours_are_learnt() -> None:
    stream = Stream(2, seasonality="Daily")
    for _ in range(26):
        stream.hour()
    found = [stream.hour(0.5)[0] for _ in range(50)]
    assert found[-1] == "True"


@pytest.mark.slow
def test_a_season_is_no_drift_and_a_shift_beyond_it_is_found_within_three_windows(
    learnt: tuple[Stream, list[tuple[str, str]]],
) -> None:
    stream, _ = learnt
    assert stream.hour() == ("False", "NoDrift")
    alarms = 0
    for _ in range(999):
        alarms += stream.hour()[0] == "True"
        assert stream.status is not None
        assert stream.status.window.reference == "Season"
    assert alarms <= 1
    found = [stream.hour(0.5)[0] for _ in range(3)]
    assert "True" in found
    assert stream.status.worst[0].feature == "x0"
    before = learnt_days(stream)
    for _ in range(48):
        assert stream.hour(0.5)[0] == "True"
    assert learnt_days(stream) == before  # it is not learnt as usual
    assert [stream.hour()[0] for _ in range(3)][-1] == "False"
