"""Domain records as a DNS zone: for the name server, and as a zone file."""

from __future__ import annotations

from collections.abc import Callable

from dnslib import AAAA, CAA, CNAME, MX, NS, QTYPE, RD, RR, SOA, SRV, TXT, A  # type: ignore[import-untyped]

from tests.sandbox.digitalocean.models import Domain, DomainRecord

REFRESH, RETRY, EXPIRE = 10800, 3600, 604800
#: Bytes in one string of a TXT record.
TXT_CHUNK = 255


def owner_name(record: DomainRecord) -> str:
    """The whole name that a record stands at, without the last dot."""
    return record.domain if record.name == "@" else f"{record.name}.{record.domain}"


def resource_records(domain: Domain, records: list[DomainRecord]) -> list[RR]:
    """All records of a domain, its SOA first."""
    servers = [record.data for record in records if record.type == "NS" and record.name == "@"]
    master = servers[0] if servers else f"ns1.{domain.name}"
    times = (domain.serial, REFRESH, RETRY, EXPIRE, domain.ttl)
    result = [RR(domain.name, QTYPE.SOA, rdata=SOA(master, f"hostmaster.{domain.name}", times), ttl=domain.ttl)]
    result += [
        RR(owner_name(record), getattr(QTYPE, record.type), rdata=_rdata(record), ttl=record.ttl)
        for record in records
        if record.type != "SOA"
    ]
    return result


def _rdata(record: DomainRecord) -> RD:
    return _RDATA[record.type](record, record.domain if record.data == "@" else record.data)


def _txt(record: DomainRecord, _: str) -> RD:
    data = record.data.encode()
    return TXT([data[at : at + TXT_CHUNK] for at in range(0, len(data), TXT_CHUNK)])


#: How each type is made from a record and the host name that its data stands for.
_RDATA: dict[str, Callable[[DomainRecord, str], RD]] = {
    "A": lambda record, _: A(record.data),
    "AAAA": lambda record, _: AAAA(record.data),
    "CNAME": lambda _, target: CNAME(target),
    "NS": lambda _, target: NS(target),
    "MX": lambda record, target: MX(target, record.priority or 0),
    "SRV": lambda record, target: SRV(record.priority or 0, record.weight or 0, record.port or 0, target),
    "CAA": lambda record, _: CAA(record.flags or 0, record.tag or "", record.data),
    "TXT": _txt,
}


def zone_file(domain: Domain, records: list[DomainRecord]) -> str:
    """The zone in master file format."""
    lines = [f"$ORIGIN {domain.name}.", f"$TTL {domain.ttl}"]
    lines += [str(rr.toZone()) for rr in resource_records(domain, records)]
    return "\n".join(lines) + "\n"
