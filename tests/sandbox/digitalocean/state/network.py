"""Firewalls as machines see them: tags and droplet IDs resolved to addresses."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from tests.sandbox import layout
from tests.sandbox.digitalocean.models import (
    DatabaseCluster,
    Droplet,
    Firewall,
    FirewallRule,
    KubernetesCluster,
    Node,
    ReservedIp,
    RuleTarget,
    Vpc,
)
from tests.sandbox.digitalocean.state.backend import MachineFirewall, NetworkPicture, Rule
from tests.sandbox.digitalocean.state.store import Store


def resolve_picture(store: Store) -> NetworkPicture:
    """Everything that filtering and reserved addresses depend on, from the records as they are now."""
    droplets = store.all(Droplet)
    firewalls = store.all(Firewall)
    reserved = {ip.ip: ip.droplet_id for ip in store.all(ReservedIp) if ip.droplet_id is not None}
    machines = []
    for droplet in droplets:
        mine = [firewall for firewall in firewalls if covers(firewall, droplet)]
        if mine:
            machines.append(
                MachineFirewall(
                    machine_id=droplet.id,
                    inbound=_resolve((rule for firewall in mine for rule in firewall.inbound), droplets),
                    outbound=_resolve((rule for firewall in mine for rule in firewall.outbound), droplets),
                )
            )
    machines += [_node(cluster, droplets) for cluster in store.all(DatabaseCluster)]
    machines += [_of_control_plane(store, cluster) for cluster in store.all(KubernetesCluster)]
    return NetworkPicture(firewalls=tuple(machines), reserved=reserved)


def _of_control_plane(store: Store, cluster: KubernetesCluster) -> MachineFirewall:
    """Outsiders reach the API server of a cluster alone, and only those that its own firewall lets through."""
    vpc = store.get(Vpc, cluster.vpc_uuid)
    allowed = tuple(cluster.firewall.allowed_addresses) if cluster.firewall.enabled else ("0.0.0.0/0",)
    inside = (vpc.ip_range, cluster.cluster_subnet) if vpc else (cluster.cluster_subnet,)
    # Its own nodes reach it whatever the firewall says, as does the service itself.
    nodes = tuple(
        f"{droplet.public_ipv4}/32"
        for node in store.where(Node, cluster_id=cluster.id)
        if (droplet := store.get(Droplet, node.droplet_id))
    )
    service = f"{layout.ACME_ADDRESS}/32"
    inbound = (Rule("tcp", "443", (*allowed, *nodes, service)), Rule("tcp", "all", inside), Rule("icmp", "", inside))
    outbound = tuple(Rule(protocol, "all", ("0.0.0.0/0",)) for protocol in ("tcp", "udp"))
    return MachineFirewall(cluster.machine_id, inbound, outbound)


def covers(firewall: Firewall, droplet: Droplet) -> bool:
    """Whether a firewall is on a droplet, by id or by tag."""
    return droplet.id in firewall.droplet_ids or bool(_lower(firewall.tags) & _lower(droplet.tags))


def _node(cluster: DatabaseCluster, droplets: list[Droplet]) -> MachineFirewall:
    """The node of a managed database: its port alone, for its trusted sources, or for anybody if it has none."""
    sources = RuleTarget(
        addresses=[rule.value for rule in cluster.rules if rule.type == "ip_addr"],
        droplet_ids=[int(rule.value) for rule in cluster.rules if rule.type == "droplet"],
        tags=[rule.value for rule in cluster.rules if rule.type == "tag"],
    )
    anybody = RuleTarget(addresses=["0.0.0.0/0", "::/0"])
    inbound = FirewallRule(protocol="tcp", ports=str(cluster.port), target=sources if cluster.rules else anybody)
    outbound = [FirewallRule(protocol=protocol, ports="0", target=anybody) for protocol in ("tcp", "udp", "icmp")]
    return MachineFirewall(
        machine_id=cluster.node, inbound=_resolve([inbound], droplets), outbound=_resolve(outbound, droplets)
    )


def _resolve(rules: Iterable[FirewallRule], droplets: list[Droplet]) -> tuple[Rule, ...]:
    resolved = (Rule(protocol=rule.protocol, ports=_ports(rule), peers=tuple(_peers(rule, droplets))) for rule in rules)
    # A rule whose tags nobody carries lets nobody through: it is left out, not widened.
    return tuple(dict.fromkeys(rule for rule in resolved if rule.peers))


def _ports(rule: FirewallRule) -> str:
    if rule.protocol == "icmp":
        return ""
    return "all" if rule.ports == "0" else rule.ports


def _peers(rule: FirewallRule, droplets: list[Droplet]) -> Iterable[str]:
    # As written by the user: single addresses, or networks with host bits set.
    yield from (str(ip_network(text, strict=False)) for text in rule.target.addresses)
    tags = _lower(rule.target.tags)
    for droplet in droplets:
        if droplet.id in rule.target.droplet_ids or tags & _lower(droplet.tags):
            yield f"{droplet.public_ipv4}/32"
            yield f"{droplet.private_ipv4}/32"
            yield f"{droplet.anchor_ipv4}/32"
            if droplet.public_ipv6:
                yield f"{droplet.public_ipv6}/128"


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}
