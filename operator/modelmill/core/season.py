"""A season: what the hours of earlier days counted, which a status keeps packed.

An hour of the day is compared with the same hour of earlier days once there are seven of them.  Until then whole days
are compared with the profile: in a season no hour is like the average that the profile is.  Hours are UTC's, and a
window belongs to the one in which its middle lies.
"""

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import add

DAYS = 7  # after which an hour is known
LONGEST = 131_072  # letters that a status takes
_HOURS = 24
_LEAST_HOURS = 22  # of a day, for it to be compared as a whole
_FORMAT = 1
_LARGEST = 1 << 22  # bytes of an unpacked season: some thousand features

Bins = tuple[int, ...]


@dataclass(frozen=True)
class Hour:
    """The same hour of several days."""

    days: int = 0
    last: int = 0  # which day was the last, since the epoch
    counts: Bins = ()


@dataclass(frozen=True)
class Day:
    """The day that is being learnt."""

    begun: int = 0  # hours since the epoch
    seen: int = 0  # of its hours, a bit each
    counts: Bins = ()


@dataclass(frozen=True)
class Season:
    hours: tuple[Hour, ...] = (Hour(),) * _HOURS
    day: Day = Day()

    def known(self, middle: datetime) -> Bins | None:
        """What this hour of earlier days counted, where there are enough of them."""
        hour = self.hours[middle.astimezone(UTC).hour]
        return hour.counts if hour.days >= DAYS else None

    def learnt(self, counts: Bins, middle: datetime) -> "Season":
        """The season with a window more."""
        moment = middle.astimezone(UTC)
        hour, today = self.hours[moment.hour], _hour(moment) // _HOURS
        # With a clock that goes back and forth, no day counts twice.
        later = Hour(hour.days + (today > hour.last), max(today, hour.last), _added(hour.counts, counts))
        hours = (*self.hours[: moment.hour], later, *self.hours[moment.hour + 1 :])
        return replace(self, hours=hours)

    def passed(self, counts: Bins, started: datetime, ended: datetime) -> tuple["Season", Bins | None]:
        """The season with a window more in its open day, and what that day counted, where it is whole now."""
        first, last = _hour(started.astimezone(UTC)), _hour(ended.astimezone(UTC))
        day = self.day
        if not day.counts or not 0 <= first - day.begun <= 2 * _HOURS:
            day = Day(first)
        for hour in range(first, min(last, first + _HOURS) + 1):
            day = replace(day, seen=day.seen | 1 << hour % _HOURS)
        day = replace(day, counts=_added(day.counts, counts))
        if last - day.begun < _HOURS:
            return replace(self, day=day), None
        whole = day.counts if day.seen.bit_count() >= _LEAST_HOURS else None
        return replace(self, day=Day()), whole


def middle(started: datetime, ended: datetime) -> datetime:
    return started + max(ended - started, timedelta()) / 2


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() // 3600)


def _added(one: Bins, other: Bins) -> Bins:
    return tuple(map(add, one, other)) if one else other


def packed(season: Season) -> str | None:
    """As a status keeps it; None where it is too long for that."""
    numbers = [_FORMAT, season.day.begun, season.day.seen, *_counted(season.day.counts)]
    for hour in season.hours:
        numbers += [hour.days, hour.last, *_counted(hour.counts)]
    text = base64.b64encode(zlib.compress(b"".join(map(_varint, numbers)), 6)).decode()
    return text if len(text) <= LONGEST else None


def unpacked(text: str | None, bins: int) -> Season:
    """The season of so many bins; one that cannot be read begins anew."""
    try:
        return _read(text, bins) if text else Season()
    except (ValueError, StopIteration, RuntimeError, zlib.error, binascii.Error):
        return Season()


def _read(text: str, bins: int) -> Season:
    unpacking = zlib.decompressobj()
    numbers = _varints(unpacking.decompress(base64.b64decode(text, validate=True), _LARGEST))
    if next(numbers) != _FORMAT:
        raise ValueError("another format")
    day = Day(next(numbers), next(numbers), _next_bins(numbers, bins))
    hours = tuple(Hour(next(numbers), next(numbers), _next_bins(numbers, bins)) for _ in range(_HOURS))
    if len(hours) != _HOURS or next(numbers, None) is not None:
        raise ValueError("more or fewer hours than a day has")
    return Season(hours, day)


def _next_bins(numbers: Iterator[int], bins: int) -> Bins:
    count = next(numbers)
    if count not in (0, bins):
        raise ValueError("counts in other bins")
    return tuple(next(numbers) for _ in range(count))


def _counted(counts: Bins) -> Sequence[int]:
    return (len(counts), *counts)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _varints(packed_: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed_:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
        elif shift > 63:
            raise ValueError("a number is larger than any count")
