"""What only administrators use must not be open to the internet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any, Final

from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from policies.reading import items, known

#: Services that let whoever logs in take over the machine or its data, and are attacked as soon as they are reachable.
PORTS: Final = {
    22: "SSH",
    2375: "Docker",
    2376: "Docker",
    3306: "MySQL",
    3389: "RDP",
    5432: "PostgreSQL",
    6379: "Redis",
}
#: A network with more addresses is not a known one: a /8 of IPv4 or a /19 of IPv6, the largest that anyone has. Nor are
#: several with twice as many together.
WIDEST: Final = {4: 2**24, 6: 2**109}


def check(args: ResourceValidationArgs, report: ReportViolation) -> None:
    """Look at each inbound rule of a firewall."""
    if args.resource_type != "digitalocean:index/firewall:Firewall":
        return
    for rule in items(args.props, "inboundRules"):
        services = list(_services(rule))
        wide = _wide(items(rule, "sourceAddresses"))
        if services and wide:
            report(
                f"{args.name} opens {', '.join(services)} to {wide}: anyone there can try to log in. "
                "List the networks of your administrators, in adminCidrs for SSH",
                args.urn,
            )


def _services(rule: Any) -> Iterator[str]:
    if known(rule, "protocol") != "tcp":
        return
    ports = str(known(rule, "portRange", ""))
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", ports)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    for port, service in PORTS.items():
        # DigitalOcean: all ports are "all", "0" or nothing.
        if ports in {"", "all", "0"} or first <= port <= last:
            yield f"port {port} ({service})"


def _wide(sources: list[str]) -> str:
    """The sources in as few networks as possible, if they have too many addresses together; else an empty string."""
    networks = [one for source in sources if (one := _network(source))]
    v4 = list(collapse_addresses(one for one in networks if isinstance(one, IPv4Network)))
    v6 = list(collapse_addresses(one for one in networks if isinstance(one, IPv6Network)))
    return ", ".join(map(str, [*_too_wide(v4, WIDEST[4]), *_too_wide(v6, WIDEST[6])]))


def _network(source: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(source, strict=False)
    except ValueError:
        # The API refuses it.
        return None


def _too_wide(networks: Sequence[IPv4Network | IPv6Network], widest: int) -> Sequence[IPv4Network | IPv6Network]:
    """Each of them that is, or all if they are together."""
    single = [one for one in networks if one.num_addresses > widest]
    return single or (networks if sum(one.num_addresses for one in networks) > 2 * widest else [])


POLICY = ResourceValidationPolicy(
    name="admin-ports-for-known-networks",
    description="SSH and other services for administrators are open to known networks only.",
    validate=check,
)
