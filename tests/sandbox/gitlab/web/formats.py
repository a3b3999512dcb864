"""Moments, lengths of time and sizes as the pages show them."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

MINUTE, HOUR, DAY = 60, 3600, 86400


def ago(moment: str | None) -> Markup:
    """How long ago something was, or its date; the exact time is in the tooltip."""
    if not moment:
        return Markup("never")
    then = datetime.fromisoformat(moment).astimezone(UTC)
    seconds = (datetime.now(UTC) - then).total_seconds()
    words = f"{then:%-d %b %Y}" if seconds >= DAY else "just now"
    for unit, name in ((HOUR, "hour"), (MINUTE, "minute")):
        if unit <= seconds < DAY:
            count = int(seconds // unit)
            words = f"{count} {name}{'s' if count > 1 else ''} ago"
            break
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        then.isoformat(timespec="seconds"), f"{then:%-d %b %Y, %H:%M:%S} UTC", words
    )


def span(seconds: float) -> str:
    """A length of time."""
    whole = round(seconds)
    minutes, rest = divmod(whole, MINUTE)
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def size(count: int) -> str:
    """A number of bytes."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
