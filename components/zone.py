"""What is in a DNS zone without being the stack's. DigitalOcean deletes a zone with whatever is in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

_NAME_SERVERS: Final = ".digitalocean.com"


def records_of_others(records: Iterable[tuple[str, str, str]], own: Collection[tuple[str, str]]) -> list[str]:
    """Return what would be lost with a zone: its records except those that every zone has, and the stack's own.

    `records` are names, types and values; `own` names and types. Each record of the result is in words.
    """
    return [
        f"{name} {kind} {value}"
        for name, kind, value in records
        if kind != "SOA" and (name, kind) not in own and not _is_default(name, kind, value)
    ]


def _is_default(name: str, kind: str, value: str) -> bool:
    return (name, kind) == ("@", "NS") and value.rstrip(".").endswith(_NAME_SERVERS)
