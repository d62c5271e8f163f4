"""Schedules: the times of a cron expression in a time zone, as moments.

A local time that comes twice, because clocks are set back, counts the first time; where the hour is *, both count, as
then an hour is meant and no time of day.  One that is left out, because clocks are set forward, counts as much later as
they are: 2:30 becomes 3:30.  So no time is lost, none comes early, and none comes twice.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month
_HORIZON = timedelta(days=8 * 366)  # 29 February is at most eight years away
_DAY = timedelta(days=1)


class ScheduleError(ValueError):
    """It is no schedule: why."""


@dataclass(frozen=True)
class Schedule:
    """The fields of a cron expression as sets of numbers; Sunday is 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # day of the month and of the week are both restricted: one of them is enough, as in cron
    every_hour: bool
    zone: ZoneInfo

    def last(self, now: datetime) -> datetime | None:
        """The newest of its moments that is not after `now`; None: none in the last eight years."""
        day = now.astimezone(self.zone).date() + _DAY  # a time that was left out may belong to the day before
        while day > now.date() - _HORIZON:
            past = [moment for moment in self._of(day) if moment <= now]
            if past:
                # The day before cannot have a later one but by a time that was left out at midnight.
                return max(past + [moment for moment in self._of(day - _DAY) if moment <= now])
            day -= _DAY
        return None

    def next(self, now: datetime) -> datetime | None:
        """The first of its moments after `now`; None: none in the next eight years."""
        day = now.astimezone(self.zone).date() - _DAY
        while day < now.date() + _HORIZON:
            coming = [moment for moment in self._of(day) if moment > now]
            if coming:
                return min(coming + [moment for moment in self._of(day + _DAY) if moment > now])
            day += _DAY
        return None

    def _of(self, day: date) -> list[datetime]:
        """The moments of the local times of that day, in UTC and in no order."""
        if not self._counts(day):
            return []
        times = [(hour, minute) for hour in self.hours for minute in self.minutes]
        begin, end = (datetime.combine(d, time(), self.zone) for d in (day, day + _DAY))
        if begin.utcoffset() == end.utcoffset() == begin.replace(fold=1).utcoffset() == end.replace(fold=1).utcoffset():
            midnight = begin.astimezone(UTC)  # no clock is set on this day: sums will do
            return [midnight + timedelta(hours=hour, minutes=minute) for hour, minute in times]
        moments = []
        for hour, minute in times:
            # With fold 0, a time that was left out is read by the clock of before: that is as much later.
            local = datetime.combine(day, time(hour, minute), self.zone)
            first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
            moments.append(first)
            if self.every_hour and second > first:
                moments.append(second)
        return moments

    def _counts(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either_day else (of_month and of_week)


def parse(expression: str, time_zone: str) -> Schedule:
    """The schedule of five fields that have passed the schema's pattern; ScheduleError where they mean nothing."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"there is no time zone {time_zone}: give an IANA name such as Europe/Berlin") from None
    minute, hour, day, month, weekday = expression.split(" ")
    weekdays = _field("day of the week", weekday, 0, 7, _DAYS, 0)
    found = Schedule(
        minutes=_field("minute", minute, 0, 59),
        hours=_field("hour", hour, 0, 23),
        days=_field("day of the month", day, 1, 31),
        months=_field("month", month, 1, 12, _MONTHS, 1),
        weekdays=frozenset(number % 7 for number in weekdays),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
        every_hour=hour == "*",
        zone=zone,
    )
    if not found.either_day and min(found.days) > max(_LONGEST[month] for month in found.months):
        raise ScheduleError(f"{expression} never comes: these months have no such day")
    return found


def _field(name: str, text: str, least: int, most: int, words: tuple[str, ...] = (), first: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        begin, _, end = span.partition("-")
        if span == "*":
            low, high = least, min(most, 6) if name == "day of the week" else most
        else:
            low = _number(name, begin, words, first)
            high = _number(name, end, words, first) if end else (most if step else low)
        if not least <= low <= high <= most:
            raise ScheduleError(f"{item} is no {name}: it goes from {least} to {most}, the smaller number first")
        if step and int(step) == 0:
            raise ScheduleError(f"{item} is no {name}: a step of 0 leads nowhere")
        found.update(range(low, high + 1, int(step) if step else 1))
    return frozenset(found)


def _number(name: str, text: str, words: tuple[str, ...], first: int) -> int:
    if text.isdigit():
        return int(text)
    if text not in words:
        raise ScheduleError(f"{text} is no {name}: use numbers" + (f" or {', '.join(words)}" if words else ""))
    return words.index(text) + first
