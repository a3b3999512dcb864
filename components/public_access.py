"""The public firewall, opened once sign-up is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.lost_answers import FIREWALL, once
from components.network import open_to_everybody


@dataclass(frozen=True)
class PublicAccessArgs:
    """Inputs of `PublicAccess`. HTTPS and `registry_port` stay closed until every resource in `closed_until` exists."""

    prefix: str
    droplet: pulumi.CustomResource
    registry_port: int
    closed_until: Sequence[pulumi.Resource]


class PublicAccess(Component):
    """The public ports of the server.

    Owns the cloud firewalls that open them, and decides when: from its first start GitLab lets everybody sign up, and
    `gitlab.rb` has no key to prevent that. The firewalls are on the droplet, not on its tag, so the ports of a
    replacement, which may have a new GitLab on it, stay closed just as long. Refuses to own SSH, and port 80, which
    serves Let's Encrypt and redirects to HTTPS.

    The registry's port has a firewall of its own, named after it. With another port, that is another resource: it is
    created first, and the former one is deleted at the end of the update, when the registry has answered on the new
    port. Pulumi deletes nothing in an update that fails.
    """

    firewall: digitalocean.Firewall

    def __init__(self, name: str, args: PublicAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the firewalls."""
        super().__init__("PublicAccess", name, opts)
        port = args.registry_port
        registry = self._firewall(f"registry-{port}", f"{args.prefix}-registry-{port}", port, args, args.closed_until)
        # An older stack has both ports in this one: they stay open while it changes.
        self.firewall = self._firewall("firewall", f"{args.prefix}-public", 443, args, [*args.closed_until, registry])
        self.register_outputs({"firewallId": self.firewall.id})

    def _firewall(
        self, suffix: str, name: str, port: int, args: PublicAccessArgs, after: Sequence[pulumi.Resource]
    ) -> digitalocean.Firewall:
        return digitalocean.Firewall(
            self.child_name(suffix),
            name=name,
            droplet_ids=[args.droplet.id.apply(int)],
            inbound_rules=[open_to_everybody(port)],
            opts=self.child_options(depends_on=after, hooks=once(FIREWALL, self.child_name(suffix))),
        )
