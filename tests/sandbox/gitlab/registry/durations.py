"""Durations as Go writes them: `24h`, `1h30m`, `500ms`."""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}


def duration(text: str | int) -> timedelta:
    """A length of time; a whole number without a unit is in nanoseconds, as in Go, and `-1` means none.

    Raises:
        ValueError: it is not a duration.
    """
    given = str(text)
    if re.fullmatch(r"-?\d+", given):
        return timedelta(microseconds=max(int(given), 0) / 1000)
    parts = _PART.findall(given)
    if not parts or "".join(number + unit for number, unit in parts) != given:
        raise ValueError(f"{given!r} is not a duration, such as 24h")
    return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
