"""Cron expressions of five fields, in a time zone: when the next moment is.

As usual, a day fits when its date or its weekday does, if both are given. A time that a clock change leaves out does
not come on that day; one that comes twice is met once. `L` is the last day of a month; `#` is not supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
#: Names that Rails has for zones beside those of the database of time zones; not all of them.
RAILS = {
    "Amsterdam": "Europe/Amsterdam", "Berlin": "Europe/Berlin", "Bern": "Europe/Zurich", "London": "Europe/London",
    "Madrid": "Europe/Madrid", "Paris": "Europe/Paris", "Rome": "Europe/Rome", "Vienna": "Europe/Vienna",
    "Eastern Time (US & Canada)": "America/New_York", "Central Time (US & Canada)": "America/Chicago",
    "Mountain Time (US & Canada)": "America/Denver", "Pacific Time (US & Canada)": "America/Los_Angeles",
    "Tokyo": "Asia/Tokyo", "Singapore": "Asia/Singapore", "New Delhi": "Asia/Kolkata", "Sydney": "Australia/Sydney",
}  # fmt: skip
#: Of looking for a day: a leap year comes within eight.
FURTHEST = timedelta(days=366 * 9)
LAST = -1


class CronError(ValueError):
    """The expression or the zone is none."""


def zone(name: str) -> tzinfo:
    """A time zone. Raises `CronError` when there is none of that name."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(RAILS.get(name, name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CronError(name) from None


@dataclass(frozen=True)
class Cron:
    """An expression, read. `dates` and `weekdays` are nothing when every day fits."""

    minutes: frozenset[int]
    hours: frozenset[int]
    dates: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read an expression. Raises `CronError`."""
        fields = NICKNAMES.get(text.strip().lower(), text).lower().split()
        if len(fields) != 5:
            raise CronError(text)
        minute, hour, day, month, weekday = fields
        return cls(
            _field(minute, 0, 59),
            _field(hour, 0, 23),
            None if day == "*" else _field(day, 1, 31),
            _field(month, 1, 12, MONTHS, 1),
            None if weekday == "*" else frozenset(number % 7 for number in _field(weekday, 0, 7, DAYS)),
        )

    def next_after(self, moment: datetime, where: tzinfo = UTC) -> datetime | None:
        """The first moment after one, in UTC; nothing when there is none, as on the 30th of February."""
        for found in self._times(moment.astimezone(where).date(), where):
            if found > moment:
                return found
        return None

    def _times(self, first: date, where: tzinfo) -> Iterator[datetime]:
        for number in range(FURTHEST.days):
            day = first + timedelta(days=number)
            if not self._fits(day):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    local = datetime.combine(day, time(hour, minute), where)
                    there = local.astimezone(UTC)
                    if there.astimezone(where).replace(tzinfo=None) == local.replace(tzinfo=None):
                        yield there

    def _fits(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        last = (day + timedelta(days=1)).month != day.month
        by_date = self.dates is not None and (day.day in self.dates or (last and LAST in self.dates))
        by_weekday = self.weekdays is not None and day.isoweekday() % 7 in self.weekdays
        return (self.dates is None and self.weekdays is None) or by_date or by_weekday


def _field(text: str, low: int, high: int, names: tuple[str, ...] = (), offset: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        if part == "l" and high == 31:
            found.add(LAST)
            continue
        match = re.fullmatch(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d+))?", part)
        if match is None:
            raise CronError(text)
        start, end, step = match[1], match[2], int(match[3] or 1)
        first = low if start == "*" else _number(start, names, offset)
        last = _number(end, names, offset) if end else high if start == "*" or match[3] else first
        if not (low <= first <= high and low <= last <= high and step):
            raise CronError(text)
        whole = range(first, last + 1) if first <= last else [*range(first, high + 1), *range(low, last + 1)]
        found.update(list(whole)[::step])
    return frozenset(found)


def _number(text: str, names: tuple[str, ...], offset: int) -> int:
    if text in names:
        return names.index(text) + offset
    if not text.isdigit():
        raise CronError(text)
    return int(text)
