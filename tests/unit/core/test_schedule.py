"""Schedules: no time comes early, twice or never, whatever clocks do."""

from datetime import UTC, datetime, timedelta

import pytest

from modelmill.core.schedule import ScheduleError, parse


def moments(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next moments after `start`, as the zone's clocks show them."""
    schedule, now, found = parse(expression, zone), datetime.fromisoformat(start).replace(tzinfo=UTC), []
    for _ in range(count):
        following = schedule.next(now)
        assert following is not None
        assert following > now
        assert schedule.last(following) == following  # the way back meets the same moments
        assert schedule.last(following - timedelta(seconds=1)) != following
        found.append(following.astimezone(schedule.zone).isoformat(timespec="minutes"))
        now = following
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 * * * *", ["2026-01-01T13:00", "2026-01-01T14:00"]),
        ("*/20 12 * * *", ["2026-01-01T12:20", "2026-01-01T12:40", "2026-01-02T12:00"]),
        ("5/20 12 * * *", ["2026-01-01T12:05", "2026-01-01T12:25", "2026-01-01T12:45"]),
        ("30 6 * * MON-FRI", ["2026-01-02T06:30", "2026-01-05T06:30"]),  # a Thursday, and the weekend is left out
        ("0 0 * * 0", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("0 0 * * 7", ["2026-01-04T00:00"]),
        ("0 0 * * 5-7", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00", "2026-01-09T00:00"]),
        ("0 0 13 * 5", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]),  # either is enough
        ("0 0 1-7 * *", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("0 0 1 JAN,JUL *", ["2026-07-01T00:00", "2027-01-01T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00"]),
        ("59 23 31 12 *", ["2026-12-31T23:59"]),
    ],
)
def test_the_fields_mean_what_they_mean_to_cron(expression: str, expected: list[str]) -> None:
    assert moments(expression, "Etc/UTC", "2026-01-01T12:00", len(expected)) == [f"{e}+00:00" for e in expected]


def test_a_time_that_is_left_out_counts_as_much_later_and_once() -> None:
    begun = "2026-03-28T12:00"  # Berlin's clocks go from 2:00 to 3:00 on the 29th
    assert moments("30 2 * * *", "Europe/Berlin", begun, 2) == ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]
    assert moments("30 2,3 * * *", "Europe/Berlin", begun, 2) == ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]
    hours = moments("0 * * * *", "Europe/Berlin", "2026-03-29T00:30", 2)
    assert hours == ["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"]


def test_a_time_that_comes_twice_counts_once_and_each_hour_is_an_hour() -> None:
    begun = "2026-10-24T12:00"  # Berlin's clocks go from 3:00 to 2:00 on the 25th
    assert moments("30 2 * * *", "Europe/Berlin", begun, 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    hours = moments("0 * * * *", "Europe/Berlin", "2026-10-24T23:30", 3)
    assert hours == ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]


def test_a_midnight_that_is_left_out_counts_too() -> None:
    # Beirut's clocks go from 0:00 to 1:00.
    assert moments("15 0 * * *", "Asia/Beirut", "2026-03-28T12:00", 1) == ["2026-03-29T01:15+03:00"]
    assert moments("45 23 * * *", "Asia/Beirut", "2026-03-28T12:00", 1) == ["2026-03-28T23:45+02:00"]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("60 * * * *", "Etc/UTC", "60 is no minute"),
        ("* 24 * * *", "Etc/UTC", "24 is no hour"),
        ("* * 0 * *", "Etc/UTC", "0 is no day of the month"),
        ("* * * 13 *", "Etc/UTC", "13 is no month"),
        ("* * * * 8", "Etc/UTC", "8 is no day of the week"),
        ("5-1 * * * *", "Etc/UTC", "5-1 is no minute"),
        ("*/0 * * * *", "Etc/UTC", "a step of 0"),
        ("* * * FOO *", "Etc/UTC", "FOO is no month: use numbers or JAN"),
        ("* * * * JAN", "Etc/UTC", "JAN is no day of the week"),
        ("0 0 30 2 *", "Etc/UTC", "never comes"),
        ("* * * * *", "Europe/Atlantis", "no time zone Europe/Atlantis"),
        ("* * * * *", "Europe", "no time zone Europe"),
    ],
)
def test_what_means_nothing_says_why(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words.replace("*", r"\*")):
        parse(expression, zone)


def test_a_time_that_was_long_ago_is_found() -> None:
    assert parse("0 0 29 2 *", "Etc/UTC").last(datetime(2027, 12, 1, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)
