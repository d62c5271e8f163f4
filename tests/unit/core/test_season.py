"""A season: hours of earlier days, kept packed, and days until hours are known."""

import base64
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from modelmill.core import season
from modelmill.core.season import DAYS, Day, Hour, Season

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
COUNTS = (100, 200, 3)


def after_days(days: int) -> Season:
    found = Season()
    for hour in range(24 * days):
        found = found.learnt(COUNTS, MONDAY + hour * HOUR)
    return found


def test_an_hour_is_known_after_seven_days() -> None:
    assert after_days(DAYS - 1).known(MONDAY) is None
    assert after_days(DAYS).known(MONDAY + timedelta(minutes=59)) == (700, 1400, 21)


def test_other_hours_are_learnt_by_themselves() -> None:
    found = Season()
    for day in range(DAYS):
        found = found.learnt(COUNTS, MONDAY + day * 24 * HOUR)
    assert found.known(MONDAY) is not None
    assert found.known(MONDAY + HOUR) is None


def test_no_day_counts_twice_whatever_the_clock_does() -> None:
    found = Season()
    for _ in range(20):
        for hours in (0, 24, -24):
            found = found.learnt(COUNTS, MONDAY + hours * HOUR)
    assert found.hours[0].days == 2
    assert found.known(MONDAY) is None


def day(start: datetime, hours: int, step: int = 1) -> tuple[Season, list[tuple[int, ...]]]:
    found, whole = Season(), []
    for hour in range(0, hours, step):
        found, over = found.passed(COUNTS, start + hour * HOUR, start + (hour + step) * HOUR)
        whole += [over] if over is not None else []
    return found, whole


def test_a_day_is_compared_once_it_is_over() -> None:
    assert day(MONDAY, 23)[1] == []
    assert day(MONDAY, 24)[1] == [(2400, 4800, 72)]
    assert len(day(MONDAY, 240)[1]) == 10
    assert day(MONDAY, 24, step=6)[1] == [(400, 800, 12)]  # few rows came


def test_a_day_with_hours_that_nobody_saw_is_not_compared() -> None:
    found, over = Season(), None
    for hour in (*range(5), *range(9, 24)):
        found, over = found.passed(COUNTS, MONDAY + hour * HOUR, MONDAY + (hour + 1) * HOUR)
    assert over is None
    assert found.day == Day()


@pytest.mark.parametrize("jump", [-400, -30, 49, 24 * 365])
def test_a_clock_that_jumps_begins_another_day(jump: int) -> None:
    found, _ = day(MONDAY, 12)
    found, over = found.passed(COUNTS, MONDAY + jump * HOUR, MONDAY + (jump + 1) * HOUR)
    assert over is None
    assert found.day.counts == COUNTS


def test_what_is_packed_is_what_is_unpacked() -> None:
    for found in (
        Season(),
        after_days(3),
        day(MONDAY, 30)[0],
        Season((Hour(9, 20454, (1 << 60, 0, 1)), *Season().hours[1:])),
    ):
        text = season.packed(found)
        assert text is not None
        assert season.unpacked(text, 3) == found


def test_thirty_features_fit_a_status() -> None:
    found = Season()
    for hour in range(24 * 60):
        counts = tuple(70 + (hour * 7 + bin_ * 13) % 41 for bin_ in range(33 * 13))
        found = found.learnt(counts, MONDAY + hour * HOUR)
    text = season.packed(found)
    assert text is not None
    assert len(text) < 32_768


def test_what_is_too_long_for_a_status_is_not_packed() -> None:
    hours = tuple(
        Hour(1, 1, tuple((hour * 7919 + bin_ * 104729) % 65521 for bin_ in range(3000))) for hour in range(24)
    )
    assert season.packed(Season(hours)) is None


def packed(*numbers: int) -> str:
    return base64.b64encode(zlib.compress(bytes(numbers))).decode()


@pytest.mark.parametrize(
    "text",
    ["?", "AAAA", packed(), packed(2), packed(1, 0), packed(1, *(0,) * 75), packed(1, 0, 0, 2, 1, 1),
     packed(*(255,) * 100), base64.b64encode(zlib.compress(bytes(1 << 24))).decode(),
     (season.packed(after_days(1)) or "")[:-8]],
)  # fmt: skip
def test_what_cannot_be_read_begins_anew(text: str) -> None:
    assert season.unpacked(text, 3) == Season()


def test_a_season_of_other_bins_begins_anew() -> None:
    assert season.unpacked(season.packed(after_days(1)), 4) == Season()
    assert season.unpacked(None, 4) == Season()
