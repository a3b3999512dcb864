"""The private network and the firewalls around the machines in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.lost_answers import FIREWALL, VPC, once

_ANYWHERE = ["0.0.0.0/0", "::/0"]
_HTTP = 80
#: A cluster, of nodes or of a database, leaves a VPC minutes after it was deleted.
_PATIENCE = "15m"


@dataclass(frozen=True)
class VpcPlan:
    """The stack's VPC. The first one of a region is its default, which DigitalOcean neither deletes nor charges for.

    `is_default` says that it is the default one, or will be because the region has none. `existing_id` is that of a
    default one which a destroyed stack of the same name has left behind, or of one that a lost state had, and which
    this stack continues to use. `id` is that of the VPC with this name, if there is one.
    """

    name: str
    is_default: bool = False
    existing_id: str | None = None
    id: str | None = None


def plan_vpc(
    prefix: str,
    region: str,
    cidr: IPv4Network | None,
    *,
    default: digitalocean.GetVpcResult | None,
    own: digitalocean.GetVpcResult | None,
    takes_over: bool = False,
) -> VpcPlan:
    """Plan the VPC, given the `default` one of the region and the one that has its name already, if there are any.

    `takes_over` says that a new state takes over what a lost one had.

    Region and range are part of the name, because names are unique in an account: with another range the new VPC is
    created, and droplets move to it, before the old one is deleted. A range that is refused changes nothing.
    """
    # A slash is not allowed in names.
    name = "-".join([prefix, region, *([str(cidr).replace("/", "-")] if cidr else [])])
    # Earlier versions named it without the region.
    is_default = default is None or default.name in {name, prefix}
    is_left = own is not None and (own.default or takes_over) and own.region == region
    return VpcPlan(name, is_default, own.id if own and is_left else None, own.id if own else None)


@dataclass(frozen=True)
class NetworkArgs:
    """Inputs of `Network`. `region` is a slug; `vpc_cidr` None lets DigitalOcean choose; `admin_cidrs` may use SSH.

    `has_clusters` says that something in it takes minutes to leave after it was deleted.
    """

    prefix: str
    region: str
    vpc: VpcPlan
    vpc_cidr: IPv4Network | None
    admin_cidrs: Sequence[str]
    has_clusters: bool = False


@dataclass(frozen=True)
class MachineGroup:
    """Machines of one kind: the tag that they carry, and the firewall on that tag."""

    tag: pulumi.Output[str]
    firewall: digitalocean.Firewall


class Network(Component):
    """A VPC, and the cloud firewalls of the machines in it.

    Owns the VPC, a tag for each kind of machine and a firewall on each tag. The server accepts SSH from the
    administrators' networks, and port 80 from anywhere for the challenge of Let's Encrypt. Runners accept SSH from the
    administrators' networks. All outbound traffic is allowed. The firewall is on the tag, so it protects a droplet
    from its first second. The default VPC of a region outlives the stack, because DigitalOcean does not delete it.
    Refuses to own the public ports, which open later, and the firewalls inside the machines,
    which belong to the machines.
    """

    vpc_id: pulumi.Output[str]
    server: MachineGroup
    runners: MachineGroup
    admin_cidrs: Sequence[str]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the network."""
        super().__init__("Network", name, opts)
        vpc = digitalocean.Vpc(
            self.child_name("vpc"),
            name=args.vpc.name,
            region=args.region,
            # Ranges must not overlap within an account; without one DigitalOcean picks a free range.
            ip_range=str(args.vpc_cidr) if args.vpc_cidr else None,
            description="GitLab, its registry and its runners",
            opts=self.child_options(
                retain=args.vpc.is_default,
                # The engine ignores it once the VPC is in the state.
                import_=args.vpc.existing_id,
                # The provider does not wait for the end of a cluster, and tries to delete the VPC for two minutes.
                custom_timeouts=pulumi.CustomTimeouts(delete=_PATIENCE) if args.has_clusters else None,
                hooks=once(VPC, self.child_name("vpc")),
            ),
        )
        ssh = _inbound(22, args.admin_cidrs)
        self.vpc_id = vpc.id
        self.admin_cidrs = args.admin_cidrs
        self.server = self._group("server", args.prefix, "server-base", [ssh, open_to_everybody(_HTTP)])
        self.runners = self._group("runner", args.prefix, "runner", [ssh])
        self.register_outputs({"vpcId": self.vpc_id})

    def _group(
        self, kind: str, prefix: str, firewall_name: str, inbound: list[digitalocean.FirewallInboundRuleArgs]
    ) -> MachineGroup:
        return machine_group(
            self,
            tag=(f"{kind}-tag", f"{prefix}-{kind}"),
            firewall=(f"{firewall_name}-firewall", f"{prefix}-{firewall_name}"),
            inbound=inbound,
        )


def machine_group(
    parent: Component,
    *,
    tag: tuple[str, str],
    firewall: tuple[str, str],
    inbound: Sequence[digitalocean.FirewallInboundRuleArgs],
) -> MachineGroup:
    """Declare a tag and a firewall on it, each given by its suffix in the graph and its name in the account."""
    declared = digitalocean.Tag(parent.child_name(tag[0]), name=tag[1], opts=parent.child_options())
    guard = digitalocean.Firewall(
        parent.child_name(firewall[0]),
        name=firewall[1],
        tags=[declared.name],
        inbound_rules=list(inbound),
        # Anything that no rule allows is dropped, outbound traffic included.
        outbound_rules=[_outbound("tcp", "1-65535"), _outbound("udp", "1-65535"), _outbound("icmp", None)],
        opts=parent.child_options(hooks=once(FIREWALL, parent.child_name(firewall[0]))),
    )
    return MachineGroup(declared.name, guard)


def ssh_from(networks: Sequence[str], groups: Sequence[MachineGroup]) -> digitalocean.FirewallInboundRuleArgs:
    """A firewall rule that opens SSH to some networks, and to the machines of some groups."""
    return digitalocean.FirewallInboundRuleArgs(
        protocol="tcp",
        port_range="22",
        source_addresses=list(networks),
        source_tags=[group.tag for group in groups],
    )


def open_to_everybody(port: int, protocol: str = "tcp") -> digitalocean.FirewallInboundRuleArgs:
    """A firewall rule that opens a port to everybody."""
    return _inbound(port, _ANYWHERE, protocol)


def _inbound(port: int, sources: Sequence[str], protocol: str = "tcp") -> digitalocean.FirewallInboundRuleArgs:
    return digitalocean.FirewallInboundRuleArgs(protocol=protocol, port_range=str(port), source_addresses=list(sources))


def _outbound(protocol: str, ports: str | None) -> digitalocean.FirewallOutboundRuleArgs:
    return digitalocean.FirewallOutboundRuleArgs(
        protocol=protocol, port_range=ports, destination_addresses=list(_ANYWHERE)
    )
