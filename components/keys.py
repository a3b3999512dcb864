"""SSH keys: the administrator's, and the host keys that connections are pinned to."""

from __future__ import annotations

import pulumi
import pulumi_tls as tls

from components.component import Component


class AdminKey(Component):
    """The key pair that Pulumi logs in to machines with.

    Owns one key pair. With `keep` it outlives a destroy. Refuses to own keys of people, which are a setting of the
    server.
    """

    private_key: pulumi.Output[str]
    public_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, *, keep: bool) -> None:
        """Declare the key pair."""
        super().__init__("AdminKey", name, opts)
        key = tls.PrivateKey(self.child_name("pair"), algorithm="ED25519", opts=self.child_options(keep=keep))
        self.private_key = pulumi.Output.secret(key.private_key_openssh)
        self.public_key = key.public_key_openssh.apply(str.strip)
        self.register_outputs({"publicKey": self.public_key})


class HostKeys(Component):
    """The host keys of one machine.

    Owns two key pairs:

    * the permanent one (Ed25519). It is generated here, not on the machine, so that a replaced droplet keeps its
      identity, and it reaches the machine over SSH, never in `user_data`;
    * the one for first contact (ECDSA). It is in `user_data`, readable by everybody who can read that. It is used for
      the one connection that delivers the permanent key, and removed from the machine right after.

    The two are of different types on purpose: a connection pinned to one never negotiates the other, so the next run
    can continue one that was killed between the two steps.

    With `keep` the permanent one outlives a destroy: a machine that is made again is the one that everybody knows.
    """

    permanent_private_key: pulumi.Output[str]
    permanent_public_key: pulumi.Output[str]
    first_contact_private_key: pulumi.Output[str]
    first_contact_public_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, *, keep: bool = False) -> None:
        """Declare both key pairs."""
        super().__init__("HostKeys", name, opts)
        # The suffix is part of the URN: under another one every machine would get a new key.
        permanent = tls.PrivateKey(self.child_name("lasting"), algorithm="ED25519", opts=self.child_options(keep=keep))
        first_contact = tls.PrivateKey(
            self.child_name("first-contact"), algorithm="ECDSA", ecdsa_curve="P256", opts=self.child_options()
        )
        self.permanent_private_key = pulumi.Output.secret(permanent.private_key_openssh)
        self.permanent_public_key = permanent.public_key_openssh.apply(str.strip)
        self.first_contact_private_key = pulumi.Output.secret(first_contact.private_key_openssh)
        self.first_contact_public_key = first_contact.public_key_openssh.apply(str.strip)
        self.register_outputs({"lastingPublicKey": self.permanent_public_key})
