"""SSH keys: the administrator's, and the host keys that connections are pinned to."""

from __future__ import annotations

import pulumi
import pulumi_tls as tls

from components.component import Component


class Keys(Component):
    """The key pairs of one installation.

    Owns three key pairs:

    * the administrator's, with which every step logs in;
    * the lasting host key of the server (Ed25519). It is made here, not on the machine, so that a droplet that is
      replaced keeps its identity, and it reaches the machine over SSH, never in `user_data`;
    * the first-contact host key (ECDSA). It is in `user_data`, readable by whoever can read that. It serves for the
      one connection that delivers the lasting key and is removed from the machine right after.

    The two host keys are of different types on purpose: a connection that is pinned to one never negotiates the other,
    so a run that is killed between the two steps is continued by the next.

    Refuses to own keys of people; those are a setting of the server.
    """

    admin_private_key: pulumi.Output[str]
    admin_public_key: pulumi.Output[str]
    host_private_key: pulumi.Output[str]
    host_public_key: pulumi.Output[str]
    first_contact_private_key: pulumi.Output[str]
    first_contact_public_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the keys."""
        super().__init__("Keys", name, opts)
        admin = self._key("admin", "ED25519")
        host = self._key("host", "ED25519")
        first_contact = self._key("first-contact", "ECDSA", ecdsa_curve="P256")

        self.admin_private_key = pulumi.Output.secret(admin.private_key_openssh)
        self.admin_public_key = admin.public_key_openssh.apply(str.strip)
        self.host_private_key = pulumi.Output.secret(host.private_key_openssh)
        self.host_public_key = host.public_key_openssh.apply(str.strip)
        self.first_contact_private_key = pulumi.Output.secret(first_contact.private_key_openssh)
        self.first_contact_public_key = first_contact.public_key_openssh.apply(str.strip)
        self.register_outputs({"adminPublicKey": self.admin_public_key, "hostPublicKey": self.host_public_key})

    def _key(self, suffix: str, algorithm: str, ecdsa_curve: str | None = None) -> tls.PrivateKey:
        return tls.PrivateKey(
            self.child_name(suffix), algorithm=algorithm, ecdsa_curve=ecdsa_curve, opts=self.child_options()
        )
