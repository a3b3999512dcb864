"""Leases of addresses.

A released address is handed out again only after all others of its pool, because clients remember addresses.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice

from tests.sandbox import layout
from tests.sandbox.digitalocean.models import Lease, Vpc
from tests.sandbox.digitalocean.state.errors import Unprocessable
from tests.sandbox.digitalocean.state.store import Store

#: Ranges that new VPCs are given when none is asked for, each a /20.
AUTOMATIC_VPCS = IPv4Network("10.100.0.0/14")
#: Hosts at the start of a range that are never given out: the network itself and its gateway.
FIRST_HOST = 2
#: IPv6 addresses are leased from the first so many of the pool.
IPV6_HOSTS = 0x10000

_POOLS: dict[str, IPv4Network | IPv6Network] = {
    "public": layout.PUBLIC_NETWORK,
    "anchor": layout.ANCHOR_NETWORK,
    "reserved": layout.RESERVED_NETWORK,
    "public6": layout.PUBLIC_NETWORK6,
}


def lease(store: Store, pool: str, owner: str) -> str:
    """Take the next free address of a pool. Raises Unprocessable when there is none."""
    network = _POOLS[pool]
    avoid = [IPv4Network(vpc.ip_range) for vpc in store.all(Vpc)] if pool == "anchor" else []
    return _take(store, pool, network, owner, avoid)


def lease_private(store: Store, vpc: Vpc, owner: str) -> str:
    """Take the next free address of a VPC."""
    return _take(store, vpc.id, IPv4Network(vpc.ip_range), owner, [])


def _take(store: Store, pool: str, network: IPv4Network | IPv6Network, owner: str, avoid: list[IPv4Network]) -> str:
    taken = {item.address for item in store.where(Lease, pool=pool)}
    hosts = min(network.num_addresses, IPV6_HOSTS) - FIRST_HOST - 1
    start = store.setting(f"cursor {pool}", 0)
    for step in range(hosts):
        position = (start + step) % hosts
        address = network[FIRST_HOST + position]
        if str(address) in taken or any(address in other for other in avoid):
            continue
        store.set_setting(f"cursor {pool}", position + 1)
        store.put(Lease(pool=pool, address=str(address), owner=owner))
        return str(address)
    raise Unprocessable(f"no address is left in {network}")


def leases(store: Store, pool: str, address: str) -> list[Lease]:
    """The leases of one address: one, or none."""
    return store.where(Lease, pool=pool, address=address)


def release(store: Store, owner: str) -> None:
    """Give back all addresses of an owner."""
    for item in store.where(Lease, owner=owner):
        store.delete(item)


def free_vpc_range(store: Store) -> str:
    """The first /20 that no VPC overlaps."""
    taken = [ip_network(vpc.ip_range) for vpc in store.all(Vpc)]
    for candidate in islice(AUTOMATIC_VPCS.subnets(new_prefix=20), 64):
        if not any(candidate.overlaps(other) for other in taken):
            return str(candidate)
    raise Unprocessable("no range is left for a VPC network")
