"""Validation of DNS records.

The rules that the API documents; where it is silent (which names can have a CNAME), those of RFC 1034.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

from pydantic import BaseModel

from tests.sandbox.digitalocean.models import Domain, DomainRecord
from tests.sandbox.digitalocean.state.errors import NeedsDot, Unprocessable

TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "SOA", "SRV", "TXT")
#: Types whose data is a host name.
POINTERS = frozenset({"CNAME", "MX", "NS", "SRV", "CAA"})
CAA_TAGS = ("issue", "issuewild", "iodef")
SHORTEST_TTL = 30
DEFAULT_TTL = 1800
LONGEST_TTL = 2**31 - 1

#: Numbers that a type needs, with their highest value.
NUMBERS: dict[str, dict[str, int]] = {
    "MX": {"priority": 65535},
    "SRV": {"priority": 65535, "weight": 65535, "port": 65535},
    "CAA": {"flags": 255},
}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_OWNER_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)


class RecordFields(BaseModel):
    """A record without its place."""

    type: str
    name: str
    data: str
    ttl: int
    priority: int | None = None
    port: int | None = None
    weight: int | None = None
    flags: int | None = None
    tag: str | None = None


def check_domain_name(name: str) -> str:
    """A domain's name in lower case. Raises Unprocessable."""
    lowered = name.lower().rstrip(".")
    labels = lowered.split(".")
    if len(labels) < 2 or len(lowered) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Unprocessable("Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
    return lowered


def relative_name(name: str, domain: str) -> str:
    """A record's name as it is kept: relative to its domain, `@` for the domain itself."""
    lowered = name.lower().rstrip(".")
    if lowered in {"", "@", domain}:
        return "@"
    return lowered.removesuffix(f".{domain}")


def check_record(
    given: dict[str, Any], domain: Domain, others: list[DomainRecord], *, data_given: bool = True
) -> RecordFields:
    """A record from what was given, beside the other records of its domain. Raises Unprocessable."""
    kind = (given.get("type") or "").upper()
    if kind not in TYPES:
        raise Unprocessable(f"Type must be one of {', '.join(TYPES)}")
    name = _check_name(given.get("name"), kind, domain.name)
    data = _check_data(kind, given.get("data"), dotted=data_given)
    fields = RecordFields(
        type=kind,
        name=name,
        data=data,
        ttl=_check_ttl(given.get("ttl"), kind),
        tag=_check_tag(kind, given.get("tag")),
        **{field: _check_number(field, given.get(field), top) for field, top in NUMBERS.get(kind, {}).items()},
    )
    _check_conflicts(fields, others)
    return fields


def _check_name(name: str | None, kind: str, domain: str) -> str:
    if not name:
        # Only records that usually stand at the top of a zone may leave out their name.
        if kind in {"MX", "NS", "CAA", "SOA"}:
            return "@"
        raise Unprocessable("Name can't be blank")
    kept = relative_name(name, domain)
    if kept in {"@", "*"}:
        return kept
    labels = kept.removeprefix("*.").split(".")
    if len(f"{kept}.{domain}") > 253 or not all(_OWNER_LABEL.fullmatch(label) for label in labels):
        raise Unprocessable("Name is not a valid host name")
    return kept


def _check_data(kind: str, data: str | None, *, dotted: bool) -> str:
    if not data:
        raise Unprocessable("Data can't be blank")
    if kind in {"A", "AAAA"}:
        return _check_address(kind, data)
    if kind not in POINTERS:
        return data
    if data == "@":
        return data
    if dotted and not data.endswith("."):
        raise NeedsDot
    # Kept and shown without the last dot.
    return data.rstrip(".")


def _check_address(kind: str, data: str) -> str:
    try:
        return str(IPv4Address(data) if kind == "A" else IPv6Address(data))
    except AddressValueError as error:
        version = "IPv4" if kind == "A" else "IPv6"
        raise Unprocessable(f"Data needs to be a valid {version} address") from error


def _check_ttl(ttl: int | None, kind: str) -> int:
    if ttl is None:
        return DEFAULT_TTL
    shortest = 0 if kind == "SOA" else SHORTEST_TTL
    if not shortest <= ttl <= LONGEST_TTL:
        raise Unprocessable(f"TTL must be at least {SHORTEST_TTL} seconds")
    return ttl


def _check_tag(kind: str, tag: str | None) -> str | None:
    if kind != "CAA":
        return None
    if tag not in CAA_TAGS:
        raise Unprocessable(f"Tag must be one of {', '.join(CAA_TAGS)}")
    return tag


def _check_number(field: str, value: int | None, highest: int) -> int:
    if value is None or not 0 <= value <= highest:
        raise Unprocessable(f"{field.capitalize()} must be between 0 and {highest}")
    return value


def _check_conflicts(fields: RecordFields, others: list[DomainRecord]) -> None:
    here = [other for other in others if other.name == fields.name]
    if fields.type == "CNAME" and (fields.name == "@" or here):
        raise Unprocessable("CNAME records cannot share a name with other records")
    if fields.type != "CNAME" and any(other.type == "CNAME" for other in here):
        raise Unprocessable("CNAME records cannot share a name with other records")
    same = fields.model_dump(exclude={"ttl"})
    if any(other.model_dump(exclude={"ttl", "id", "domain"}) == same for other in here):
        raise Unprocessable("duplicate record: a record with the same name, type and data exists")
