"""Links, addresses and routes of the cloud, its machines and the workstation.

There is no bridge: each machine has its own link into the cloud's network namespace, so every packet is routed and
passes the packet filter (`firewall`). Everything here acts on the namespace of the calling process, which must be the
cloud's, never the host's; `WrongNamespaceError` is raised if it looks like the host's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from tests.sandbox.digitalocean.state.backend import MachineSpec
from tests.sandbox.layout import (
    ACME_ADDRESS,
    ANCHOR_NETWORK,
    API_ADDRESS,
    DNS_ADDRESS,
    HUB_ADDRESS,
    MAIL_ADDRESS,
    METADATA_ADDRESS,
    PACKAGES_ADDRESS,
    PUBLIC_GATEWAY,
    PUBLIC_NETWORK,
    RESERVED_NETWORK,
    SLACK_ADDRESS,
    SPACES_ADDRESSES,
    WORKSTATION,
    WORKSTATION_GATEWAY,
)

#: Name of the workstation's network namespace in the sandbox's own /run/netns.
WORKSTATION_NAMESPACE = "workstation"
#: The cloud's end of the workstation's link, and the link that carries the addresses of services.
WORKSTATION_LINK = "workstation"
SERVICES_LINK = "services"
#: Where a machine sends what goes to its reserved address or to the rest of the anchor network.
ANCHOR_GATEWAY = next(ANCHOR_NETWORK.hosts())
_GATEWAY_IPV6 = "fe80::1"

#: Addresses on which the cloud's own processes listen.
SERVICE_ADDRESSES: tuple[IPv4Address, ...] = (
    DNS_ADDRESS,
    API_ADDRESS,
    PACKAGES_ADDRESS,
    ACME_ADDRESS,
    HUB_ADDRESS,
    SLACK_ADDRESS,
    MAIL_ADDRESS,
    *SPACES_ADDRESSES.values(),
)


class WrongNamespaceError(Exception):
    """The calling process stands in a network namespace that the sandbox must not touch."""


def public_link(machine_id: int) -> str:
    """The cloud's end of a machine's public link."""
    return f"p{machine_id}"


def private_link(machine_id: int) -> str:
    """The cloud's end of a machine's link into its VPC."""
    return f"v{machine_id}"


def prepare_cloud_network() -> None:
    """Give the cloud's namespace its service addresses and let it route. Idempotent."""
    _refuse_the_host()
    for setting, value in (("ip_forward", 1), ("conf/all/rp_filter", 0), ("conf/default/rp_filter", 0)):
        _sysctl(f"ipv4/{setting}", value)
    _sysctl("ipv6/conf/all/forwarding", 1)
    addresses = (*SERVICE_ADDRESSES, METADATA_ADDRESS, PUBLIC_GATEWAY, ANCHOR_GATEWAY)
    with IPRoute() as ip:
        _up(ip, "lo")
        if not ip.link_lookup(ifname=SERVICES_LINK):
            # A bridge that nothing is ever plugged into: not every kernel has dummy links.
            ip.link("add", ifname=SERVICES_LINK, kind="bridge")
        index = _up(ip, SERVICES_LINK)
        for address in addresses:
            ip.addr("replace", index=index, address=str(address), prefixlen=32)
        # What is not assigned goes nowhere, silently: into a link without another end.
        for network in (PUBLIC_NETWORK, ANCHOR_NETWORK, RESERVED_NETWORK):
            ip.route("replace", dst=str(network), oif=index, prefsrc=str(ACME_ADDRESS), scope="link")


def prepare_workstation() -> None:
    """Make the workstation's namespace and its link into the cloud. Idempotent; needs a /run of the sandbox's own."""
    _refuse_the_host()
    if WORKSTATION_NAMESPACE not in netns.listnetns():
        netns.create(WORKSTATION_NAMESPACE)
    with IPRoute() as ip:
        if not ip.link_lookup(ifname=WORKSTATION_LINK):
            ip.link(
                "add",
                ifname=WORKSTATION_LINK,
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": WORKSTATION_NAMESPACE},
            )
        gateway = WORKSTATION_GATEWAY
        index = _up(ip, WORKSTATION_LINK)
        ip.addr("replace", index=index, address=str(gateway.ip), prefixlen=gateway.network.prefixlen)
    with IPRoute(netns=WORKSTATION_NAMESPACE) as ip:
        _up(ip, "lo")
        index = _up(ip, "eth0")
        ip.addr("replace", index=index, address=str(WORKSTATION.ip), prefixlen=WORKSTATION.network.prefixlen)
        ip.route("replace", dst="default", gateway=str(gateway.ip))


async def plug(machine: MachineSpec, pid: int) -> None:
    """Link the namespace of process `pid` to the cloud, all but the default route (`release`)."""
    await asyncio.to_thread(_plug, machine, pid)


async def release(pid: int) -> None:
    """Give the machine its default route: its init waits for that, so everything else must be in place."""
    await asyncio.to_thread(_release, pid)


async def unplug(machine_id: int) -> None:
    """Remove a machine's links, if it has any."""
    await asyncio.to_thread(_unplug, machine_id)


def _plug(machine: MachineSpec, pid: int) -> None:
    _unplug(machine.id)
    with IPRoute() as ip, IPRoute(netns=f"/proc/{pid}/ns/net") as inside:
        _up(inside, "lo")
        link = public_link(machine.id)
        index = _link(ip, link, "eth0", pid)
        own = _up(inside, "eth0")
        inside.addr("replace", index=own, address=machine.public_ipv4, prefixlen=32)
        inside.addr("replace", index=own, address=machine.anchor_ipv4, prefixlen=ANCHOR_NETWORK.prefixlen)
        for address in (machine.public_ipv4, machine.anchor_ipv4):
            ip.route("replace", dst=f"{address}/32", oif=index, prefsrc=str(ACME_ADDRESS), scope="link")
        if machine.public_ipv6:
            ip.addr("replace", index=index, address=_GATEWAY_IPV6, prefixlen=64)
            inside.addr("replace", index=own, address=machine.public_ipv6, prefixlen=128)
            ip.route("replace", dst=f"{machine.public_ipv6}/128", oif=index)
            inside.route("replace", dst="::/0", gateway=_GATEWAY_IPV6, oif=own)
        if machine.private_ipv4 and machine.vpc_cidr:
            _plug_private(ip, inside, machine, pid)


def _plug_private(ip: Any, inside: Any, machine: MachineSpec, pid: int) -> None:
    link = private_link(machine.id)
    index = _link(ip, link, "eth1", pid)
    # The cloud answers for the other machines of the VPC, at once, and passes on what may pass.
    _sysctl(f"ipv4/conf/{link}/proxy_arp", 1)
    _sysctl(f"ipv4/neigh/{link}/proxy_delay", 0)
    own = _up(inside, "eth1")
    network = IPv4Network(str(machine.vpc_cidr))
    inside.addr("replace", index=own, address=machine.private_ipv4, prefixlen=network.prefixlen)
    # The cloud asks for the machine from its own address in the VPC: a machine with strict reverse-path filtering
    # answers nobody whom it would reach by another link.
    ip.addr("replace", index=index, address=str(network[1]), prefixlen=32)
    ip.route("replace", dst=f"{machine.private_ipv4}/32", oif=index, scope="link")
    if machine.pod_cidr:
        ip.route("replace", dst=machine.pod_cidr, gateway=machine.private_ipv4, oif=index)


def _release(pid: int) -> None:
    with IPRoute(netns=f"/proc/{pid}/ns/net") as inside:
        own = inside.link_lookup(ifname="eth0")[0]
        inside.route("replace", dst=f"{PUBLIC_GATEWAY}/32", oif=own, scope="link")
        inside.route("replace", dst="default", gateway=str(PUBLIC_GATEWAY), oif=own)


def _unplug(machine_id: int) -> None:
    with IPRoute() as ip:
        for name in (public_link(machine_id), private_link(machine_id)):
            for index in ip.link_lookup(ifname=name):
                # The link may go by itself, together with the namespace at its other end.
                with suppress(NetlinkError):
                    ip.link("del", index=index)


def _link(ip: Any, name: str, peer: str, pid: int) -> int:
    ip.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_pid": pid})
    return _up(ip, name)


def _up(ip: Any, name: str) -> int:
    index = int(ip.link_lookup(ifname=name)[0])
    ip.link("set", index=index, state="up")
    return index


def _sysctl(name: str, value: int) -> None:
    Path("/proc/sys/net", name).write_text(str(value))


def _refuse_the_host() -> None:
    """A namespace with a link on real hardware is the host's, or one of somebody else."""
    with IPRoute() as ip:
        hardware = [link.get("ifname") for link in ip.get_links() if link.get("parent_dev_name")]
    if hardware:
        raise WrongNamespaceError(f"not the cloud's network namespace ({hardware[0]}): run this inside a sandbox")
