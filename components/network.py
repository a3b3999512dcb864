"""The private network and the firewall around the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component

_ANYWHERE = ["0.0.0.0/0", "::/0"]


@dataclass(frozen=True)
class NetworkArgs:
    """Inputs of `Network`: where it is, its range, who may use SSH, and the ports that anybody may reach."""

    prefix: str
    region: str
    vpc_cidr: IPv4Network | None
    admin_cidrs: Sequence[str]
    public_ports: Sequence[int]


class Network(Component):
    """A VPC, and the cloud firewall of the server.

    Owns the VPC, the tag that a server carries and the firewall on that tag: SSH from the administrators' networks,
    the public ports from anywhere, everything outbound. The firewall is on the tag, so that a droplet has it from its
    first second. Refuses to own the firewall inside the machine; that is the server's.
    """

    vpc_id: pulumi.Output[str]
    server_tag: pulumi.Output[str]
    firewall: digitalocean.Firewall

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the network."""
        super().__init__("Network", name, opts)
        vpc = digitalocean.Vpc(
            self.child_name("vpc"),
            name=args.prefix,
            region=args.region,
            # Ranges must not overlap within an account; left out, the service takes one that is free.
            ip_range=str(args.vpc_cidr) if args.vpc_cidr else None,
            description="GitLab, its registry and its runners",
            # Name and range are unique in an account: the old one has to go first.
            opts=self.child_options(delete_before_replace=True),
        )
        tag = digitalocean.Tag(self.child_name("server-tag"), name=f"{args.prefix}-server", opts=self.child_options())
        self.firewall = digitalocean.Firewall(
            self.child_name("server-firewall"),
            name=f"{args.prefix}-server",
            tags=[tag.name],
            inbound_rules=[_inbound(22, args.admin_cidrs), *(_inbound(port, _ANYWHERE) for port in args.public_ports)],
            # What no rule allows is dropped, outbound too.
            outbound_rules=[_outbound("tcp", "1-65535"), _outbound("udp", "1-65535"), _outbound("icmp", None)],
            opts=self.child_options(),
        )
        self.vpc_id = vpc.id
        self.server_tag = tag.name
        self.register_outputs({"vpcId": self.vpc_id, "serverTag": self.server_tag})


def _inbound(port: int, sources: Sequence[str]) -> digitalocean.FirewallInboundRuleArgs:
    return digitalocean.FirewallInboundRuleArgs(protocol="tcp", port_range=str(port), source_addresses=list(sources))


def _outbound(protocol: str, ports: str | None) -> digitalocean.FirewallOutboundRuleArgs:
    return digitalocean.FirewallOutboundRuleArgs(
        protocol=protocol, port_range=ports, destination_addresses=list(_ANYWHERE)
    )
