"""The packet filter of the cloud: cloud firewalls, reserved addresses, isolation of VPCs, protection of the services.

Owns one nftables table in the cloud's network namespace and replaces it as a whole. As on DigitalOcean, a closed port
does not respond, and established connections survive when a firewall closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path

import jinja2

from tests.sandbox.digitalocean.state.backend import MachineSpec, NetworkPicture, Rule
from tests.sandbox.layout import (
    ANCHOR_NETWORK,
    MAIL_ADDRESS,
    METADATA_ADDRESS,
    PUBLIC_GATEWAY,
    PUBLIC_NETWORK,
    RESERVED_NETWORK,
)
from tests.sandbox.machines.network import SERVICE_ADDRESSES
from tests.sandbox.machines.process import run

_TEMPLATE = jinja2.Environment(  # noqa: S701 - not HTML
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "files"), undefined=jinja2.StrictUndefined
).get_template("ruleset.nft.j2")

_ALL_PORTS = frozenset({"", "0", "all"})


async def apply(machines: Mapping[int, MachineSpec], picture: NetworkPicture) -> None:
    """Replace the whole ruleset at once. Raises `CommandError` and changes nothing if it is not valid."""
    await run("nft", "-f", "-", stdin=ruleset(machines, picture))


def ruleset(machines: Mapping[int, MachineSpec], picture: NetworkPicture) -> str:
    """The ruleset as nft reads it. Firewalls and addresses of machines that do not exist are left out."""
    firewalls = [
        {
            "machine_id": firewall.machine_id,
            "inbound": list(matches(firewall.inbound, "saddr")),
            "outbound": list(matches(firewall.outbound, "daddr")),
        }
        for firewall in picture.firewalls
        if firewall.machine_id in machines
    ]
    return _TEMPLATE.render(
        machines=list(machines.values()),
        firewalls=firewalls,
        reserved=[(a, machines[m]) for a, m in sorted(picture.reserved.items()) if m in machines],
        services=[str(address) for address in SERVICE_ADDRESSES],
        mail=MAIL_ADDRESS,
        metadata=METADATA_ADDRESS,
        public_gateway=PUBLIC_GATEWAY,
        inside=[PUBLIC_NETWORK, RESERVED_NETWORK, ANCHOR_NETWORK],
    )


def matches(rules: Iterable[Rule], side: str) -> Iterable[str]:
    """The nft expressions of API rules, one a peer: `side` is `saddr` or `daddr`."""
    for rule in rules:
        if rule.protocol == "icmp":
            what = "meta l4proto { icmp, ipv6-icmp }"
        elif rule.ports in _ALL_PORTS:
            what = f"meta l4proto {rule.protocol}"
        else:
            what = f"{rule.protocol} dport {rule.ports}"
        for peer in rule.peers:
            network = ip_network(peer, strict=False)
            family, protocol = ("ip", "ipv4") if network.version == 4 else ("ip6", "ipv6")
            where = f"{family} {side} {network}" if network.prefixlen else f"meta nfproto {protocol}"
            yield f"{where} {what}"
