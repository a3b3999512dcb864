"""The key that released images are signed with."""

from __future__ import annotations

import pulumi
import pulumi_tls as tls

from components.component import Component

#: The CI/CD variable that jobs read the key from; the pipeline's template has it, too.
SIGNING_KEY = "SLIPWAY_SIGNING_KEY"


class SigningKey(Component):
    """The key pair of a stack's signatures.

    Owns one key pair (ECDSA, P-256, which is what cosign makes itself). With `keep` it outlives a destroy, so that what
    it has signed can still be verified. Refuses to own the variables that hand it to jobs: those are the projects'.
    """

    #: The private key as one line, because GitLab masks nothing else: the text between the lines of its PEM form.
    private_key: pulumi.Output[str]
    #: In PEM form, as cosign reads it.
    public_key: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, *, keep: bool) -> None:
        """Declare the key pair."""
        super().__init__("SigningKey", name, opts)
        key = tls.PrivateKey(
            self.child_name("pair"), algorithm="ECDSA", ecdsa_curve="P256", opts=self.child_options(keep=keep)
        )
        self.private_key = pulumi.Output.secret(key.private_key_pem.apply(_on_one_line))
        self.public_key = key.public_key_pem
        self.register_outputs({"publicKey": self.public_key})


def _on_one_line(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))
