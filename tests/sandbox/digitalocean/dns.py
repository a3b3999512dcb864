"""The name server of the emulated domains, and of the sandbox's own names.

Authoritative only: it refuses names outside its zones. It answers from the records as they are at that moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import cast

from dnslib import AAAA, CLASS, EDNS0, OPCODE, QTYPE, RCODE, RR, SOA, A, DNSError, DNSRecord  # type: ignore[import-untyped]

from tests.sandbox.digitalocean.models import DatabaseCluster, Domain, DomainRecord, KubernetesCluster
from tests.sandbox.digitalocean.models.kubernetes import ENDPOINTS
from tests.sandbox.digitalocean.state.store import Store
from tests.sandbox.digitalocean.state.zones import resource_records

log = logging.getLogger(__name__)

#: Bytes of a UDP answer: without EDNS, and the most that is sent with it.
PLAIN_UDP, LARGEST_UDP = 512, 1232
#: Seconds that a TCP connection may be idle.
TCP_IDLE = 10.0
LONGEST_CHAIN = 8
STATIC_TTL = 60
#: The zone of managed databases.
DATABASES = "db.ondigitalocean.com"


@dataclass
class DnsZone:
    """Records by owner name (lower case, no last dot)."""

    name: str
    soa: RR
    nodes: dict[str, list[RR]]

    def exists(self, name: str) -> bool:
        """Whether a name has records or names with records below it."""
        return name in self.nodes or any(node.endswith(f".{name}") for node in self.nodes)

    def lookup(self, name: str) -> tuple[list[RR], bool]:
        """Records at a name, wildcards taken into account, and whether the name exists."""
        if self.exists(name):
            return self.nodes.get(name, []), True
        encloser = name
        while encloser != self.name and not self.exists(encloser):
            encloser = encloser.partition(".")[2]
        wild = self.nodes.get(f"*.{encloser}")
        return (wild, True) if wild is not None else ([], False)

    def delegation(self, name: str) -> list[RR]:
        """NS records that hand a name over to other servers."""
        labels = name.removesuffix(self.name).rstrip(".").split(".") if name != self.name else []
        for count in range(1, len(labels) + 1):
            cut = ".".join([*labels[-count:], self.name])
            if found := [rr for rr in self.nodes.get(cut, []) if rr.rtype == QTYPE.NS]:
                return found
        return []


def _zone(name: str, records: Sequence[RR]) -> DnsZone:
    nodes: dict[str, list[RR]] = {}
    for rr in records:
        nodes.setdefault(_text(rr.rname), []).append(rr)
    return DnsZone(name, records[0], nodes)


def _text(label: object) -> str:
    return str(label).rstrip(".").lower()


def static_zone(name: str, hosts: Mapping[str, Sequence[str]]) -> DnsZone:
    """A zone of addresses that do not change. Names of hosts are whole; a wildcard is `*.` and a name."""
    soa = RR(name, QTYPE.SOA, rdata=SOA(f"ns.{name}", f"hostmaster.{name}", (1, 3600, 600, 86400, STATIC_TTL)))
    soa.ttl = STATIC_TTL
    records = [soa]
    for host, addresses in hosts.items():
        for address in addresses:
            v4 = ip_address(address).version == 4
            rdata = A(address) if v4 else AAAA(address)
            records.append(RR(host, QTYPE.A if v4 else QTYPE.AAAA, rdata=rdata, ttl=STATIC_TTL))
    return _zone(name, records)


@dataclass
class DnsServer:
    """Answers from the store's domains and from static zones, which come first."""

    store: Store
    static: Sequence[DnsZone] = ()
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    def _find_zone(self, name: str) -> DnsZone | None:
        """The zone with the longest name that a name is in or below."""
        if _below(name, ENDPOINTS):
            clusters = self.store.all(KubernetesCluster)
            return static_zone(ENDPOINTS, {cluster.host: [cluster.public_ipv4] for cluster in clusters})
        fitting = [zone for zone in self.static if _below(name, zone.name)]
        if _below(name, DATABASES):
            fitting.append(self._databases())
        domains = [domain for domain in self.store.all(Domain) if _below(name, domain.name)]
        best = max((zone.name for zone in fitting), key=len, default="")
        longest = max(domains, key=lambda domain: len(domain.name), default=None)
        if longest is not None and len(longest.name) > len(best):
            records = self.store.where(DomainRecord, domain=longest.name)
            return _zone(longest.name, resource_records(longest, records))
        return next((zone for zone in fitting if zone.name == best), None)

    def _databases(self) -> DnsZone:
        """The names of managed databases, public and private."""
        clusters = self.store.all(DatabaseCluster)
        public = {cluster.host(): [cluster.public_ipv4] for cluster in clusters}
        private = {cluster.host(private=True): [cluster.private_ipv4] for cluster in clusters}
        return static_zone(DATABASES, public | private)

    def answer(self, query: bytes, *, udp: bool) -> bytes | None:
        """The answer to one message; None if it is no question at all."""
        try:
            request = DNSRecord.parse(query)
        except DNSError:
            return None
        if request.header.qr:
            return None
        reply = request.reply(ra=0, aa=0)
        if request.header.opcode != OPCODE.QUERY:
            reply.header.rcode = RCODE.NOTIMP
        elif len(request.questions) != 1:
            reply.header.rcode = RCODE.FORMERR
        else:
            self._fill(request, reply)
        options = [rr for rr in request.ar if rr.rtype == QTYPE.OPT]
        if options:
            reply.add_ar(EDNS0(udp_len=LARGEST_UDP))
        packed = bytes(reply.pack())
        room = min(LARGEST_UDP, max(PLAIN_UDP, options[0].edns_len)) if options else PLAIN_UDP
        if udp and len(packed) > room:
            # The client asks again over TCP, so a part of the answer is of no use to it.
            reply.header.tc = 1
            reply.rr, reply.auth, reply.ar = [], [], [rr for rr in reply.ar if rr.rtype == QTYPE.OPT]
            packed = bytes(reply.pack())
        return packed

    def _fill(self, request: DNSRecord, reply: DNSRecord) -> None:
        question = request.q
        name = _text(question.qname)
        zone = self._find_zone(name) if question.qclass == CLASS.IN else None
        if zone is None or question.qtype in {QTYPE.AXFR, QTYPE.IXFR}:
            reply.header.rcode = RCODE.REFUSED
            return
        if handed_over := zone.delegation(name):
            for rr in handed_over:
                reply.add_auth(rr)
                for glue in zone.nodes.get(_text(rr.rdata), []):
                    if glue.rtype in {QTYPE.A, QTYPE.AAAA}:
                        reply.add_ar(glue)
            return
        reply.header.aa = 1
        self._answer_in(zone, name, question.qname, question.qtype, reply)

    def _answer_in(self, zone: DnsZone, name: str, asked: object, qtype: int, reply: DNSRecord) -> None:
        """Add the answers, and those of names that it is an alias of, as far as they are known here."""
        current: DnsZone | None = zone
        for _ in range(LONGEST_CHAIN):
            if current is None or current.delegation(name):
                return
            records, exists = current.lookup(name)
            alias = next((rr for rr in records if rr.rtype == QTYPE.CNAME), None)
            wanted = [rr for rr in records if qtype in {rr.rtype, QTYPE.ANY}]
            for rr in wanted or ([alias] if alias else []):
                reply.add_answer(RR(asked, rr.rtype, rdata=rr.rdata, ttl=rr.ttl))
            if wanted:
                return
            if alias is None:
                reply.header.rcode = RCODE.NOERROR if exists else RCODE.NXDOMAIN
                reply.add_auth(current.soa)
                return
            asked, name = alias.rdata.label, _text(alias.rdata.label)
            current = self._find_zone(name)

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve UDP and TCP while the body runs; port 0 takes one that is free for both. Yields the port."""
        loop = asyncio.get_running_loop()
        tcp = await asyncio.start_server(self._converse, host, port)
        port = tcp.sockets[0].getsockname()[1]
        try:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, port))
            try:
                yield port
            finally:
                udp.close()
        finally:
            tcp.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(size)
                reply = self.answer(query, udp=False)
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            return
        finally:
            writer.close()


def _below(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The loop's own class is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data, udp=True)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)

    def error_received(self, exc: Exception) -> None:
        log.debug("a datagram was not delivered: %s", exc)
