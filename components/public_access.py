"""The doors that anybody may come in by, open when nobody can sign up behind them any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.network import Network, open_to_anybody


@dataclass(frozen=True)
class PublicAccessArgs:
    """Inputs of `PublicAccess`. `ports` stay closed until every one of `closed_until` has come to its end."""

    prefix: str
    network: Network
    droplet: pulumi.CustomResource
    ports: Sequence[int]
    closed_until: Sequence[pulumi.Resource]


class PublicAccess(Component):
    """The public ports of the server.

    Owns the cloud firewall that opens them, and when: GitLab lets everybody sign up from its first start on, and its
    configuration has no key for that. The firewall is on the droplet and not on its tag, so that one that takes its
    place, perhaps with another GitLab on it, is closed again for as long. Refuses to own SSH and port 80, which is for
    Let's Encrypt and leads to HTTPS.
    """

    firewall: digitalocean.Firewall

    def __init__(self, name: str, args: PublicAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the firewall."""
        super().__init__("PublicAccess", name, opts)
        self.firewall = digitalocean.Firewall(
            self.child_name("firewall"),
            name=f"{args.prefix}-public",
            droplet_ids=[args.droplet.id.apply(int)],
            inbound_rules=[open_to_anybody(port) for port in args.ports],
            opts=self.child_options(
                depends_on=args.closed_until,
                # Until now there was one firewall for all ports. It becomes this one, so that none closes meanwhile.
                aliases=[pulumi.Alias(name="network-server-firewall", parent=args.network)],
            ),
        )
        self.register_outputs({"firewallId": self.firewall.id})
