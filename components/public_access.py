"""The public firewall, opened once sign-up is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.network import open_to_everybody


@dataclass(frozen=True)
class PublicAccessArgs:
    """Inputs of `PublicAccess`. `ports` (TCP) stay closed until every resource in `closed_until` exists."""

    prefix: str
    droplet: pulumi.CustomResource
    ports: Sequence[int]
    closed_until: Sequence[pulumi.Resource]


class PublicAccess(Component):
    """The public ports of the server.

    Owns the cloud firewall that opens them, and decides when: from its first start GitLab lets everybody sign up, and
    `gitlab.rb` has no key to prevent that. The firewall is on the droplet, not on its tag, so the ports of a
    replacement, which may have a new GitLab on it, stay closed just as long. Refuses to own SSH, and port 80, which
    serves Let's Encrypt and redirects to HTTPS.
    """

    firewall: digitalocean.Firewall

    def __init__(self, name: str, args: PublicAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the firewall."""
        super().__init__("PublicAccess", name, opts)
        self.firewall = digitalocean.Firewall(
            self.child_name("firewall"),
            name=f"{args.prefix}-public",
            droplet_ids=[args.droplet.id.apply(int)],
            inbound_rules=[open_to_everybody(port) for port in args.ports],
            opts=self.child_options(depends_on=args.closed_until),
        )
        self.register_outputs({"firewallId": self.firewall.id})
